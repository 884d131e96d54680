//! Yamux with our limits.
//!
//! The library's own wrapper leaves two choices: the current Yamux with 512 streams and a receive
//! window of 1 GiB, or an old one whose arithmetic a peer can overflow. Neither fits, so this is
//! the same thin wrapper with limits that we name.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    UpgradeInfo,
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
};
use yamux::{Connection, ConnectionError, Mode, Stream};

use crate::limits::{STREAM_WINDOW_BYTES, STREAMS_NEGOTIATING_MAX, STREAMS_PER_CONNECTION_MAX};

/// The upgrade of an encrypted connection to one that carries many streams.
#[derive(Clone)]
pub(crate) struct YamuxUpgrade(yamux::Config);

impl YamuxUpgrade {
    pub(crate) fn new() -> Self {
        let mut config = yamux::Config::default();
        let streams = STREAMS_PER_CONNECTION_MAX as usize;
        config.set_read_after_close(false);
        // The sum of all windows equals what the streams have at least, so no window ever grows,
        // and what a peer can make us hold is known: 320 MiB, of data that we have not read.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(streams);
        config.set_max_connection_receive_window(Some(streams * STREAM_WINDOW_BYTES as usize));
        Self(config)
    }

    fn apply<C>(self, socket: C, mode: Mode) -> Ready<io::Result<Muxer<C>>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        ready(Ok(Muxer {
            connection: Connection::new(socket, self.0, mode),
            arrived: VecDeque::new(),
            waker: None,
        }))
    }
}

impl UpgradeInfo for YamuxUpgrade {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C> InboundConnectionUpgrade<C> for YamuxUpgrade
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        self.apply(socket, Mode::Server)
    }
}

impl<C> OutboundConnectionUpgrade<C> for YamuxUpgrade
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        self.apply(socket, Mode::Client)
    }
}

/// A Yamux connection in the terms of libp2p.
pub(crate) struct Muxer<C> {
    connection: Connection<C>,
    /// Streams that arrived while nobody asked for one: Yamux moves only when asked for streams,
    /// libp2p asks for them only when it has room. Beyond the limit they are reset.
    arrived: VecDeque<Stream>,
    waker: Option<Waker>,
}

impl<C> Muxer<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectionError>> {
        let next = ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C> StreamMuxer for Muxer<C>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    type Substream = Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        if let Some(stream) = self.arrived.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        if let Poll::Ready(stream) = self.poll_arrival(cx) {
            return Poll::Ready(stream);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream, ConnectionError>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, ConnectionError>> {
        let stream = ready!(self.poll_arrival(cx))?;
        if self.arrived.len() < STREAMS_NEGOTIATING_MAX {
            self.arrived.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        } else {
            tracing::debug!("stream reset: too many arrived at once");
        }
        // More may have arrived; let others run first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
