//! Our streams on one connection.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use arknet_types::PublicKey;
use libp2p::{
    InboundUpgrade, OutboundUpgrade, Stream, StreamProtocol,
    core::UpgradeInfo,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::mpsc;

use super::{
    CHAIN, EXCHANGE, INFER, RequestStream,
    behaviour::Accepted,
    lane::{Lane, LaneError, StreamReply, Wanted},
    permits::PeerPermits,
};

/// What a stream is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    Request,
    Exchange,
    Chain,
}

impl Purpose {
    const fn protocol(self) -> StreamProtocol {
        match self {
            Self::Request => INFER,
            Self::Exchange => EXCHANGE,
            Self::Chain => CHAIN,
        }
    }
}

/// The protocols accepted: the exchange always, requests and the chain where they are served.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accept {
    requests: bool,
    chain: bool,
}

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        let all = [(true, EXCHANGE), (self.requests, INFER), (self.chain, CHAIN)];
        let served = all.into_iter().filter(|(is_served, _)| *is_served);
        served.map(|(_, protocol)| protocol).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (Stream, Purpose);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        let all = [Purpose::Request, Purpose::Chain];
        let purpose = all.into_iter().find(|purpose| purpose.protocol() == protocol);
        ready(Ok((stream, purpose.unwrap_or(Purpose::Exchange))))
    }
}

/// The protocol of a stream we open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open(Purpose);

impl UpgradeInfo for Open {
    type Info = StreamProtocol;
    type InfoIter = std::iter::Once<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(self.0.protocol())
    }
}

impl OutboundUpgrade<Stream> for Open {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

/// Who waits for a stream we open: the lane, or one alone.
#[derive(Debug)]
pub(crate) enum Opening {
    Request,
    Once(StreamReply),
}

/// Our streams on one connection.
pub(crate) struct Handler {
    pub(super) peer: PublicKey,
    pub(super) lane: Arc<Lane>,
    pub(super) serve: bool,
    pub(super) requests: PeerPermits,
    pub(super) exchanges: PeerPermits,
    pub(super) to_requests: mpsc::Sender<(PublicKey, RequestStream)>,
    pub(super) to_exchanges: mpsc::Sender<Accepted>,
    /// Where streams of the chain go; none where this node does not follow it.
    pub(super) chain: Option<(PeerPermits, mpsc::Sender<Accepted>)>,
}

impl Handler {
    fn arrived(&self, stream: Stream, purpose: Purpose) {
        // A stream that is dropped here is reset; the peer sees it end.
        match purpose {
            Purpose::Request => {
                let Some(permit) = self.requests.take() else {
                    tracing::debug!(peer = ?self.peer, "request stream reset: too many are open");
                    return;
                };
                let stream = RequestStream::accepted(stream, permit);
                // Full cannot happen: the queue has a place for every permit. Closed means that
                // nobody serves any more.
                let _ = self.to_requests.try_send((self.peer, stream));
            }
            Purpose::Exchange => {
                if let Some(permit) = self.exchanges.take() {
                    let _ =
                        self.to_exchanges.try_send(Accepted { peer: self.peer, stream, permit });
                }
            }
            Purpose::Chain => {
                if let Some((permits, to_chain)) = &self.chain
                    && let Some(permit) = permits.take()
                {
                    let _ = to_chain.try_send(Accepted { peer: self.peer, stream, permit });
                }
            }
        }
    }

    fn opened(&self, stream: Stream, opening: Opening) {
        match opening {
            Opening::Request => self.lane.opened(stream),
            Opening::Once(reply) => {
                let _ = reply.send(Ok(stream));
            }
        }
    }

    fn failed(&self, error: &StreamUpgradeError<Infallible>, opening: Opening) {
        let error = match error {
            StreamUpgradeError::NegotiationFailed => LaneError::Unsupported,
            _ => LaneError::Failed,
        };
        match opening {
            Opening::Request => self.lane.failed(error),
            Opening::Once(reply) => {
                let _ = reply.send(Err(error));
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = Accept;
    type OutboundProtocol = Open;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        let accept = Accept { requests: self.serve, chain: self.chain.is_some() };
        SubstreamProtocol::new(accept, ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Open, Opening, Infallible>> {
        self.lane.poll_wanted(cx).map(|wanted| {
            let (purpose, opening) = match wanted {
                Wanted::Request => (Purpose::Request, Opening::Request),
                Wanted::Once(purpose, reply) => (purpose, Opening::Once(reply)),
            };
            let protocol = SubstreamProtocol::new(Open(purpose), opening);
            ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }
        })
    }

    fn connection_keep_alive(&self) -> bool {
        self.lane.is_kept_alive()
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Accept, Open, (), Opening>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, purpose),
                ..
            }) => self.arrived(stream, purpose),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.opened(protocol, info),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, info }) => {
                self.failed(&error, info);
            }
            _ => {}
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // The connection is gone, whoever noticed first: nobody must get a stream of it now.
        self.lane.close();
    }
}
