//! Replies on their way to a reader who may be slower than we are.

use std::collections::VecDeque;

use arknet_types::{Refusal, Reply};
use tokio::sync::mpsc;

/// Replies in the order they are read. What the channel has no room for waits here; whoever fills
/// this stops when it does not empty.
#[derive(Debug)]
pub(crate) struct Outbox {
    replies: mpsc::Sender<Reply>,
    waiting: VecDeque<Reply>,
}

impl Outbox {
    pub(crate) fn new(replies: mpsc::Sender<Reply>) -> Self {
        Self { replies, waiting: VecDeque::new() }
    }

    /// Whether the reader is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.replies.is_closed()
    }

    /// Whether the reader has kept up.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.replies.capacity() > 0
    }

    pub(crate) fn push(&mut self, reply: Reply) {
        self.waiting.push_back(reply);
    }

    pub(crate) fn extend(&mut self, replies: impl IntoIterator<Item = Reply>) {
        self.waiting.extend(replies);
    }

    /// Sends what there is room for. True when nothing is left, or nobody to read it.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(reply) = self.waiting.pop_front() {
            match self.replies.try_send(reply) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(reply)) => {
                    self.waiting.push_front(reply);
                    return false;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return true,
            }
        }
        true
    }

    /// Ends without being complete.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.push(Reply::Refused(refusal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_nothing_is_lost() {
        let (sender, mut receiver) = mpsc::channel(2);
        let mut outbox = Outbox::new(sender);
        let reply = |n: u32| Reply::Text { text: n.to_string(), tokens: n };
        outbox.extend((0..5).map(reply));
        assert!(!outbox.flush() && !outbox.has_room());
        let mut seen = Vec::new();
        while let Ok(reply) = receiver.try_recv() {
            seen.push(reply);
            outbox.flush();
        }
        assert_eq!(seen, (0..5).map(reply).collect::<Vec<_>>());
        assert!(outbox.flush() && outbox.has_room());
        drop(receiver);
        outbox.push(reply(9));
        assert!(outbox.flush() && outbox.is_closed());
    }
}
