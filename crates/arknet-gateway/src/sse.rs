use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use arknet_types::{Refusal, RefusalCode, Reply};
use bytes::Bytes;
use futures::stream::BoxStream;
use http_body::{Body, Frame};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::{
    ApiError, Limits,
    openai::{Endpoint, Head, Piece, at_fault, write_error},
};

/// How many bytes of ready replies are put into one frame.
const FRAME_BYTES: usize = 16 * 1024;

/// The body of a streamed answer. Whatever is ready goes out at once, in one frame; nothing is read
/// ahead of the client, so a slow reader slows its own generation. Dropping it cancels the answer.
pub(crate) struct EventStream {
    head: Head,
    include_usage: bool,
    /// What was taken from the stream to decide the status.
    first: Option<Reply>,
    /// None when the answer has ended.
    replies: Option<BoxStream<'static, Reply>>,
    /// Bytes that are already due: the role, before the first text.
    ready: Vec<u8>,
    keepalive: Interval,
    /// Whether something was sent since the last tick.
    sent: bool,
}

impl EventStream {
    pub(crate) fn new(
        head: Head,
        include_usage: bool,
        first: Reply,
        replies: BoxStream<'static, Reply>,
        limits: &Limits,
    ) -> Self {
        let mut ready = Vec::with_capacity(1024);
        if head.endpoint == Endpoint::Chat {
            head.write_chunk(&mut ready, Piece::Role, include_usage);
        }
        let period = limits.keepalive();
        let mut keepalive = interval_at(Instant::now() + period, period);
        keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            head,
            include_usage,
            first: Some(first),
            replies: Some(replies),
            ready,
            keepalive,
            sent: false,
        }
    }

    fn take(&mut self, reply: Reply) {
        match reply {
            Reply::Alive => {}
            Reply::Text { text, .. } if text.is_empty() => {}
            Reply::Text { text, .. } => {
                self.head.write_chunk(&mut self.ready, Piece::Text(&text), self.include_usage);
            }
            Reply::Done { finish, usage } => {
                self.head.write_chunk(&mut self.ready, Piece::End(finish), self.include_usage);
                if self.include_usage {
                    self.head.write_usage(&mut self.ready, usage);
                }
                self.ready.extend_from_slice(b"data: [DONE]\n\n");
                self.replies = None;
            }
            Reply::Refused(refusal) => {
                write_error(&mut self.ready, &failure(refusal));
                self.replies = None;
            }
        }
    }

    fn next_reply(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(first);
        }
        let Some(replies) = &mut self.replies else {
            return Poll::Pending;
        };
        replies
            .as_mut()
            .poll_next(cx)
            .map(|reply| reply.unwrap_or_else(|| Reply::Refused(broken_off())))
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.replies.is_some() && self.ready.len() < FRAME_BYTES {
            match self.next_reply(cx) {
                Poll::Ready(reply) => self.take(reply),
                Poll::Pending => break,
            }
        }
        if self.ready.is_empty() {
            if self.replies.is_none() {
                return Poll::Ready(None);
            }
            loop {
                if self.keepalive.poll_tick(cx).is_pending() {
                    return Poll::Pending;
                }
                if !std::mem::take(&mut self.sent) {
                    self.ready.extend_from_slice(b": keep-alive\n\n");
                    break;
                }
            }
        }
        self.sent = true;
        let frame = Bytes::from(std::mem::take(&mut self.ready));
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.replies.is_none() && self.ready.is_empty()
    }
}

/// What a stream is that ends without `Done` or `Refused`.
pub(crate) fn broken_off() -> Refusal {
    Refusal::new(RefusalCode::PeerLost, "the peer went away during the answer")
}

/// A refusal as an error that names its parameter where it speaks of one.
pub(crate) fn failure(refusal: Refusal) -> ApiError {
    let param = match refusal.code {
        RefusalCode::InvalidRequest => at_fault(&refusal.detail),
        _ => None,
    };
    let error = ApiError::from_refusal(refusal);
    match param {
        Some(param) => ApiError { param: Some(param.into()), ..error },
        None => error,
    }
}
