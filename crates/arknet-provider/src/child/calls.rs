use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use arknet_types::{Refusal, RefusalCode, Reply};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::limits::{CREDIT_STEP, REPLIES_UNREAD_MAX};

/// A channel for the replies of one call, with room for all that a child may send unread and for
/// the last word of this side.
pub(crate) fn replies() -> (mpsc::Sender<Reply>, mpsc::Receiver<Reply>) {
    mpsc::channel(REPLIES_UNREAD_MAX as usize + 1)
}

/// The requests a child works on, as the node sees them.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: HashMap<u64, Call>,
}

#[derive(Debug)]
struct Call {
    replies: mpsc::Sender<Reply>,
    /// Kept until the first reply: so long the request can be sent again without anybody noticing.
    frame: Option<Bytes>,
    /// Replies that the child may still send.
    credit: u32,
}

/// The child sent what it must not.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Overrun;

impl Calls {
    pub(crate) fn open(&mut self, id: u64, frame: Bytes, replies: mpsc::Sender<Reply>) {
        let call = Call { replies, frame: Some(frame), credit: REPLIES_UNREAD_MAX };
        let before = self.open.insert(id, call);
        debug_assert!(before.is_none(), "ids are never used twice");
    }

    /// Passes a reply on. One for a call that is over is ignored: it crossed our cancelling.
    pub(crate) fn reply(&mut self, id: u64, reply: Reply) -> Result<(), Overrun> {
        let Some(call) = self.open.get_mut(&id) else {
            return Ok(());
        };
        call.credit = call.credit.checked_sub(1).ok_or(Overrun)?;
        call.frame = None;
        let is_end = matches!(reply, Reply::Done { .. } | Reply::Refused(_));
        // Full it cannot be while there is credit; closed it is when the reader has just left.
        let _ = call.replies.try_send(reply);
        if is_end {
            self.open.remove(&id);
        }
        Ok(())
    }

    /// The reader took replies. Whether the child wants to know.
    pub(crate) fn credit(&mut self, id: u64, replies: u32) -> bool {
        let call = self.open.get_mut(&id);
        call.map(|call| call.credit += replies).is_some()
    }

    /// The reader has left. Whether the child wants to know.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        self.open.remove(&id).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The oldest call for which the child has something to say, and nobody but itself to wait for.
    pub(crate) fn oldest_due(&self) -> Option<u64> {
        self.open.iter().filter(|(_, call)| call.credit > 0).map(|(id, _)| *id).min()
    }

    /// All calls, because the child is gone.
    pub(crate) fn take_all(&mut self) -> Vec<Orphan> {
        let calls = self.open.drain();
        let mut orphans: Vec<_> = calls
            .map(|(id, call)| Orphan { id, frame: call.frame, replies: Some(call.replies) })
            .collect();
        orphans.sort_unstable_by_key(|orphan| orphan.id);
        orphans
    }
}

/// A call whose child is gone. Where nobody takes it on, its reader is told when it is dropped.
#[derive(Debug)]
pub struct Orphan {
    pub(crate) id: u64,
    frame: Option<Bytes>,
    replies: Option<mpsc::Sender<Reply>>,
}

impl Orphan {
    /// A call that never reached its child.
    pub(crate) fn new(id: u64, frame: Bytes, replies: mpsc::Sender<Reply>) -> Self {
        Self { id, frame: Some(frame), replies: Some(replies) }
    }

    /// What it takes to begin anew; none where the reader has seen a part of the answer.
    pub(crate) fn into_restart(mut self) -> Option<(Bytes, mpsc::Sender<Reply>)> {
        let frame = self.frame.take()?;
        Some((frame, self.replies.take()?))
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(replies) = self.replies.take() {
            let _ = replies.try_send(Reply::Refused(process_ended()));
        }
    }
}

/// What the clients of a batch are told when its process ends.
pub(crate) fn process_ended() -> Refusal {
    Refusal::new(RefusalCode::ProviderFailed, "the model's process ended; ask again")
}

/// Counts the replies a reader takes, and says when the child is to be given room.
#[derive(Debug, Default)]
pub(crate) struct Taken(AtomicU32);

impl Taken {
    /// One more was taken. Replies to give credit for, now and then.
    pub(crate) fn one_more(&self) -> Option<u32> {
        let taken = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        taken.is_multiple_of(CREDIT_STEP).then_some(CREDIT_STEP)
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::{FinishReason, Usage};
    use proptest::prelude::*;

    use super::*;

    fn text() -> Reply {
        Reply::Text { text: "a".into(), tokens: 1 }
    }

    fn done() -> Reply {
        Reply::Done { finish: FinishReason::Stop, usage: Usage::default() }
    }

    #[test]
    fn a_child_that_sends_beyond_its_credit_is_found_out() {
        let mut calls = Calls::default();
        let (tx, _rx) = replies();
        calls.open(1, Bytes::new(), tx);
        for _ in 0..REPLIES_UNREAD_MAX {
            assert_eq!(calls.oldest_due(), Some(1));
            assert_eq!(calls.reply(1, text()), Ok(()));
        }
        assert_eq!(calls.oldest_due(), None, "it waits for the reader");
        assert_eq!(calls.reply(1, text()), Err(Overrun));
        assert!(calls.credit(1, 1));
        assert_eq!(calls.reply(1, text()), Ok(()));
    }

    #[test]
    fn replies_to_calls_that_are_over_or_never_were_are_ignored() {
        let mut calls = Calls::default();
        let (tx, mut rx) = replies();
        calls.open(1, Bytes::new(), tx);
        assert_eq!(calls.reply(2, text()), Ok(()));
        assert_eq!(calls.reply(1, done()), Ok(()));
        assert_eq!(calls.reply(1, text()), Ok(()));
        assert!(!calls.credit(1, 1) && !calls.cancel(1) && calls.take_all().is_empty());
        assert_eq!(rx.try_recv().ok(), Some(done()));
        assert!(rx.try_recv().is_err());
    }

    #[test]
    fn only_a_call_nobody_has_seen_a_reply_of_begins_anew() {
        let mut calls = Calls::default();
        let (fresh, mut fresh_rx) = replies();
        let (begun, mut begun_rx) = replies();
        let (full, mut full_rx) = replies();
        calls.open(1, Bytes::from_static(b"r"), fresh);
        calls.open(2, Bytes::from_static(b"r"), begun);
        calls.open(3, Bytes::from_static(b"r"), full);
        calls.reply(2, text()).unwrap();
        for _ in 0..REPLIES_UNREAD_MAX {
            calls.reply(3, text()).unwrap();
        }
        let restarts: Vec<_> =
            calls.take_all().into_iter().map(|o| (o.id, o.into_restart().is_some())).collect();
        assert_eq!(restarts, [(1, true), (2, false), (3, false)]);
        assert!(fresh_rx.try_recv().is_err(), "nothing was said");
        assert_eq!(begun_rx.try_recv().ok(), Some(text()));
        assert_eq!(begun_rx.try_recv().ok(), Some(Reply::Refused(process_ended())));
        // Even a reader that has taken nothing finds the end after all that came before it.
        let mut last = None;
        while let Ok(reply) = full_rx.try_recv() {
            last = Some(reply);
        }
        assert_eq!(last, Some(Reply::Refused(process_ended())));
    }

    proptest! {
        /// Child and reader in any order: never an overrun, never a full channel, and a child that
        /// has more to say always gets its turn again.
        #[test]
        fn credit_neither_overruns_nor_runs_dry(turns in prop::collection::vec(any::<bool>(), 0..2000)) {
            let (mut calls, taken) = (Calls::default(), Taken::default());
            let (tx, mut rx) = replies();
            calls.open(1, Bytes::new(), tx.clone());
            let (mut credit, mut sent, mut read) = (REPLIES_UNREAD_MAX, 0, 0);
            let mut read_one = |credit: &mut u32, calls: &mut Calls, read: &mut u32| {
                if rx.try_recv().is_ok() {
                    *read += 1;
                    if let Some(more) = taken.one_more() {
                        assert!(calls.credit(1, more));
                        *credit += more;
                    }
                }
            };
            for is_child in turns {
                if is_child && credit > 0 {
                    credit -= 1;
                    sent += 1;
                    prop_assert_eq!(calls.reply(1, text()), Ok(()));
                    prop_assert!(tx.capacity() >= 1, "room for the last word");
                } else {
                    read_one(&mut credit, &mut calls, &mut read);
                }
            }
            while read < sent {
                read_one(&mut credit, &mut calls, &mut read);
            }
            prop_assert!(credit >= CREDIT_STEP);
        }
    }
}
