//! Gives each connection its lane and its permits.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use arknet_types::PublicKey;
use libp2p::{
    Multiaddr, PeerId, Stream,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, ToSwarm,
    },
};
use tokio::sync::mpsc;

use super::{
    Lanes, RequestStream,
    handler::Handler,
    permits::{PeerPermits, Permit, Permits},
};
use crate::{addresses, limits, options::MeshOptions};

/// A stream that a peer has opened for something else than a request.
pub(crate) struct Accepted {
    /// Who opened it.
    pub(crate) peer: PublicKey,
    pub(crate) stream: Stream,
    /// Counts the stream for as long as it is held.
    pub(crate) permit: Permit,
}

struct PeerCounts {
    connections: usize,
    requests: PeerPermits,
    exchanges: PeerPermits,
    chain: Option<PeerPermits>,
}

/// The behaviour behind our streams.
pub(crate) struct StreamsBehaviour {
    serve: bool,
    lanes: Lanes,
    requests: Arc<Permits>,
    exchanges: Arc<Permits>,
    peers: HashMap<PeerId, PeerCounts>,
    to_requests: mpsc::Sender<(PublicKey, RequestStream)>,
    to_exchanges: mpsc::Sender<Accepted>,
    chain: Option<(Arc<Permits>, mpsc::Sender<Accepted>)>,
}

/// The ends of a behaviour that others hold.
pub(crate) struct StreamEnds {
    pub(crate) lanes: Lanes,
    pub(crate) permits: Arc<Permits>,
    pub(crate) requests: mpsc::Receiver<(PublicKey, RequestStream)>,
    pub(crate) exchanges: mpsc::Receiver<Accepted>,
    /// Of the chain, where it is followed.
    pub(crate) chain: Option<mpsc::Receiver<Accepted>>,
}

impl StreamsBehaviour {
    pub(crate) fn new(options: &MeshOptions) -> (Self, StreamEnds) {
        let limits = &options.limits;
        let lanes = Lanes::new(limits.warm_streams_min, limits.warm_streams_max);
        let requests = Permits::new(limits.streams_per_peer_max, limits.streams_total_max);
        let exchanges =
            Permits::new(limits::EXCHANGES_ANSWERED_PER_PEER_MAX, limits::EXCHANGES_ANSWERED_MAX);
        let (to_requests, from_requests) = mpsc::channel(limits.streams_total_max.max(1));
        let (to_exchanges, from_exchanges) = mpsc::channel(limits::EXCHANGES_ANSWERED_MAX);
        let (chain, from_chain) = options
            .chain
            .is_some()
            .then(|| {
                let permits =
                    Permits::new(limits::CHAIN_STREAMS_PER_PEER_MAX, limits::CHAIN_STREAMS_MAX);
                let (to_chain, from_chain) = mpsc::channel(limits::CHAIN_STREAMS_MAX);
                ((permits, to_chain), from_chain)
            })
            .unzip();
        let ends = StreamEnds {
            lanes: lanes.clone(),
            permits: Arc::clone(&requests),
            requests: from_requests,
            exchanges: from_exchanges,
            chain: from_chain,
        };
        let behaviour = Self {
            serve: options.serve,
            lanes,
            requests,
            exchanges,
            peers: HashMap::new(),
            to_requests,
            to_exchanges,
            chain,
        };
        (behaviour, ends)
    }

    fn handler(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        relayed: bool,
    ) -> Result<Handler, ConnectionDenied> {
        // Peers are named by their Ed25519 key everywhere else; other kinds of keys have no place.
        let key = addresses::public_key(&peer).ok_or_else(|| ConnectionDenied::new(OtherKey))?;
        let counts = self.peers.entry(peer).or_insert_with(|| PeerCounts {
            connections: 0,
            requests: self.requests.peer(),
            exchanges: self.exchanges.peer(),
            chain: self.chain.as_ref().map(|(permits, _)| permits.peer()),
        });
        let to_chain = self.chain.as_ref().map(|(_, to_chain)| to_chain.clone());
        Ok(Handler {
            peer: key,
            lane: self.lanes.connected(peer, id, relayed),
            serve: self.serve,
            requests: counts.requests.clone(),
            exchanges: counts.exchanges.clone(),
            to_requests: self.to_requests.clone(),
            to_exchanges: self.to_exchanges.clone(),
            chain: counts.chain.clone().zip(to_chain),
        })
    }

    fn closed(&mut self, peer: &PeerId, id: ConnectionId) {
        self.lanes.closed(peer, id);
        if let Some(counts) = self.peers.get_mut(peer) {
            counts.connections = counts.connections.saturating_sub(1);
        }
        // A peer that comes back while its old streams are still held continues its old count.
        self.peers.retain(|_, counts| counts.connections > 0 || !counts.requests.is_unused());
    }
}

/// The peer's key is not an Ed25519 key.
#[derive(Debug, thiserror::Error)]
#[error("the peer's key is not an Ed25519 key")]
struct OtherKey;

impl NetworkBehaviour for StreamsBehaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        // What a circuit shows of the other side is its peer id alone.
        self.handler(id, peer, addresses::is_relayed(local))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(id, peer, addresses::is_relayed(remote))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                if let Some(counts) = self.peers.get_mut(&event.peer_id) {
                    counts.connections += 1;
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(&peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        Poll::Pending
    }
}
