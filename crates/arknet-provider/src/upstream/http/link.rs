//! One connection.

use std::{
    error::Error as _,
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::HttpError;
use crate::upstream::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection without a task of its own: it moves while somebody asks through it or reads its
/// answer. So a request wakes one task when bytes arrive, the one that waits for them.
pub(super) struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection<Io, Full<Bytes>>>>,
    is_over: bool,
}

impl Link {
    pub(super) async fn open(stream: Io) -> Result<Self, HttpError> {
        let mut builder = Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let opened = builder.handshake(stream).await;
        let (sender, connection) = opened.map_err(|_| HttpError::Broken)?;
        Ok(Self { sender, connection: Box::pin(connection), is_over: false })
    }

    /// Whether the connection is still there and could take a request now.
    pub(super) fn is_ready(&mut self) -> bool {
        // Nobody waits for it any more, so nobody is to be woken.
        let mut nobody = Context::from_waker(Waker::noop());
        self.poll(&mut nobody);
        !self.is_over && self.sender.is_ready()
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut asked = pin!(self.sender.send_request(request));
        let response = poll_fn(|cx| self.poll_with(cx, |cx| asked.as_mut().poll(cx))).await;
        response.map_err(|error| {
            let source = error.source().and_then(|e| e.downcast_ref::<hyper::Error>());
            let is_too_large =
                error.is_parse_too_large() || source.is_some_and(hyper::Error::is_parse_too_large);
            let io = error.source().and_then(|e| e.downcast_ref::<io::Error>());
            let is_reset = io.is_some_and(|error| {
                use io::ErrorKind::{
                    BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof,
                };
                let cut = [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof];
                cut.contains(&error.kind())
            });
            match () {
                () if is_too_large => HttpError::TooLarge,
                () if error.is_canceled() || error.is_closed() => HttpError::Cut,
                () if error.is_incomplete_message() || is_reset => HttpError::Cut,
                () => HttpError::Broken,
            }
        })
    }

    /// Polls what waits for this connection, and the connection for it.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut waiting: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // First what waits, as it is what tells the connection what to do.
        let result = waiting(cx);
        if result.is_ready() {
            return result;
        }
        self.poll(cx);
        waiting(cx)
    }

    /// Why a connection ends is told to whoever waits for its answer.
    fn poll(&mut self, cx: &mut Context<'_>) {
        self.is_over = self.is_over || self.connection.as_mut().poll(cx).is_ready();
    }
}
