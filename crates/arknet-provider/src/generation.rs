use std::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use arknet_types::{Refusal, RefusalCode, Reply};
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::mpsc;

/// An answer as it arrives: any number of pieces, then exactly one [`Reply::Done`] or
/// [`Reply::Refused`]. Dropping it cancels the work within one token.
pub struct Generation {
    replies: Replies,
    seat: Option<Box<dyn Seat>>,
    is_over: bool,
}

enum Replies {
    Channel(mpsc::Receiver<Reply>),
    Stream(BoxStream<'static, Reply>),
    /// Let go of.
    None,
}

/// A request's place in its provider; given back when dropped.
pub trait Seat: Send + Sync {
    /// A reply was taken, so there is room for another.
    fn reply_taken(&self);
}

impl Generation {
    /// An answer that comes through `replies`. The sender learns of a cancelled request from its
    /// channel being closed.
    #[must_use]
    pub fn from_channel(replies: mpsc::Receiver<Reply>) -> Self {
        Self { replies: Replies::Channel(replies), seat: None, is_over: false }
    }

    /// The same, with a place to give back.
    #[must_use]
    pub fn with_seat(replies: mpsc::Receiver<Reply>, seat: Box<dyn Seat>) -> Self {
        Self { replies: Replies::Channel(replies), seat: Some(seat), is_over: false }
    }

    /// An answer that is made as it is taken, by whoever takes it: no other task has to be woken for
    /// it. The stream is dropped when the request is cancelled.
    #[must_use]
    pub fn from_stream(replies: BoxStream<'static, Reply>, seat: Box<dyn Seat>) -> Self {
        Self { replies: Replies::Stream(replies), seat: Some(seat), is_over: false }
    }

    /// The next reply; none after the last one. Cancel safe: a reply is either returned or still
    /// there for the next call.
    pub async fn next(&mut self) -> Option<Reply> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same as [`Self::next`] for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let next = match &mut self.replies {
            Replies::Channel(replies) => replies.poll_recv(cx),
            Replies::Stream(replies) => replies.poll_next_unpin(cx),
            Replies::None => Poll::Ready(None),
        };
        let reply = match next {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(reply)) => reply,
            // A provider that goes away without a last word: say it for the provider, so that
            // callers have one ending to handle.
            Poll::Ready(None) => Reply::Refused(Refusal::new(
                RefusalCode::ProviderFailed,
                "the provider stopped before the answer was complete",
            )),
        };
        if matches!(reply, Reply::Done { .. } | Reply::Refused(_)) {
            // The place is free as soon as the end is known, not when the caller lets go.
            self.is_over = true;
            self.seat = None;
        } else if let Some(seat) = &self.seat {
            seat.reply_taken();
        }
        Poll::Ready(Some(reply))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        // Closed before the seat is given back: who wakes up for the seat must see the request gone.
        self.replies = Replies::None;
        self.seat = None;
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("is_over", &self.is_over).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::{FinishReason, Usage};

    fn text(text: &str) -> Reply {
        Reply::Text { text: text.into(), tokens: 1 }
    }

    #[tokio::test]
    async fn nothing_follows_the_end() {
        let (tx, rx) = mpsc::channel(4);
        let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
        for reply in [text("a"), done.clone(), text("b")] {
            tx.send(reply).await.unwrap();
        }
        let mut generation = Generation::from_channel(rx);
        assert_eq!(generation.next().await, Some(text("a")));
        assert_eq!(generation.next().await, Some(done));
        assert_eq!(generation.next().await, None);
    }

    #[tokio::test]
    async fn a_provider_that_goes_away_ends_in_a_refusal() {
        let (tx, rx) = mpsc::channel(4);
        tx.send(text("a")).await.unwrap();
        drop(tx);
        let mut generation = Generation::from_channel(rx);
        assert_eq!(generation.next().await, Some(text("a")));
        let Some(Reply::Refused(refusal)) = generation.next().await else {
            panic!("no refusal");
        };
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        assert_eq!(generation.next().await, None);
    }

    #[tokio::test]
    async fn dropping_closes_the_channel() {
        let (tx, rx) = mpsc::channel(1);
        drop(Generation::from_channel(rx));
        assert!(tx.is_closed());
    }
}
