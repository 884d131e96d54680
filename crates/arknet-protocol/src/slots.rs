//! Who runs now, who waits, who is told to come again.

use std::collections::{BTreeMap, VecDeque};

use arknet_types::{PublicKey, Timestamp};

/// Who asks for a slot. Local requests go before remote ones.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Asker {
    /// The owner of this node.
    Local,
    /// Somebody else's node.
    Peer(PublicKey),
}

/// Names one request in the queue.
pub type Ticket = u64;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Placement {
    /// A slot is taken for it.
    Start,
    /// It waits; [`SlotQueue::finished`] will name its ticket.
    Wait,
    /// Come again after so many milliseconds.
    Busy {
        /// An estimate from how long requests took lately.
        retry_after_ms: u64,
    },
}

/// The slots of one model and the queue before them: local first, then one request of each peer in
/// turn, so that a peer with many requests delays itself and nobody else.
#[derive(Debug)]
pub struct SlotQueue {
    slots: u32,
    waiting_max: u32,
    running: BTreeMap<Ticket, Timestamp>,
    waiting: BTreeMap<Asker, VecDeque<Ticket>>,
    /// Peers that wait, in the order they are served next.
    turns: VecDeque<Asker>,
    waiting_count: u32,
    /// Moving average of how long a request takes.
    duration_ms: u64,
}

impl SlotQueue {
    /// A queue before `slots` slots where `waiting_max` requests may wait.
    ///
    /// # Panics
    /// When there is no slot at all.
    #[must_use]
    pub fn new(slots: u32, waiting_max: u32) -> Self {
        assert!(slots > 0, "a model without a slot cannot be served");
        Self {
            slots,
            waiting_max,
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting_count: 0,
            duration_ms: 1_000,
        }
    }

    /// Asks for a slot.
    pub fn ask(&mut self, asker: Asker, ticket: Ticket, now: Timestamp) -> Placement {
        if self.free() > 0 && self.waiting_count == 0 {
            self.running.insert(ticket, now);
            return Placement::Start;
        }
        let share = self.waiting.get(&asker).map_or(0, VecDeque::len);
        let full = self.waiting_count >= self.waiting_max;
        // One peer may fill half the queue, so that there is always room for a second one.
        let greedy = asker != Asker::Local && share >= self.waiting_max.div_ceil(2) as usize;
        if full || greedy {
            let rounds = u64::from(self.waiting_count / self.slots) + 1;
            return Placement::Busy {
                retry_after_ms: rounds.saturating_mul(self.duration_ms).max(100),
            };
        }
        let queue = self.waiting.entry(asker).or_default();
        if queue.is_empty() && asker != Asker::Local {
            self.turns.push_back(asker);
        }
        queue.push_back(ticket);
        self.waiting_count += 1;
        Placement::Wait
    }

    /// A running request is over. Returns the ticket that takes its slot, if one waits.
    pub fn finished(&mut self, ticket: Ticket, now: Timestamp) -> Option<Ticket> {
        let began = self.running.remove(&ticket)?;
        self.duration_ms = (now.since_ms(began) + 3 * self.duration_ms) / 4;
        let next = self.next()?;
        self.running.insert(next, now);
        assert!(self.running.len() <= self.slots as usize, "slots are not overbooked");
        Some(next)
    }

    /// A waiting request is given up. Returns whether it was waiting.
    pub fn abandon(&mut self, asker: Asker, ticket: Ticket) -> bool {
        let Some(queue) = self.waiting.get_mut(&asker) else {
            return false;
        };
        let Some(at) = queue.iter().position(|t| *t == ticket) else {
            return false;
        };
        queue.remove(at);
        self.waiting_count -= 1;
        if queue.is_empty() {
            self.waiting.remove(&asker);
            self.turns.retain(|a| *a != asker);
        }
        true
    }

    /// Slots not taken.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.slots - u32::try_from(self.running.len()).unwrap_or(self.slots)
    }

    /// All slots.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.slots
    }

    /// Requests that wait.
    #[must_use]
    pub const fn waiting(&self) -> u32 {
        self.waiting_count
    }

    fn next(&mut self) -> Option<Ticket> {
        let asker = if self.waiting.contains_key(&Asker::Local) {
            Asker::Local
        } else {
            self.turns.pop_front()?
        };
        let queue = self.waiting.get_mut(&asker).expect("who has a turn has a queue");
        let ticket = queue.pop_front().expect("a queue is dropped when it is empty");
        self.waiting_count -= 1;
        if queue.is_empty() {
            self.waiting.remove(&asker);
        } else if asker != Asker::Local {
            self.turns.push_back(asker);
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Asker = Asker::Peer(PublicKey([1; 32]));
    const B: Asker = Asker::Peer(PublicKey([2; 32]));
    const T: Timestamp = Timestamp(0);

    #[test]
    fn local_first_then_peers_in_turn() {
        let mut queue = SlotQueue::new(1, 8);
        assert_eq!(queue.ask(A, 0, T), Placement::Start);
        for (asker, ticket) in [(A, 1), (A, 2), (A, 3), (B, 4), (Asker::Local, 5)] {
            assert_eq!(queue.ask(asker, ticket, T), Placement::Wait);
        }
        let mut order = vec![];
        let mut running = 0;
        while let Some(next) = queue.finished(running, T) {
            order.push(next);
            running = next;
        }
        assert_eq!(order, [5, 1, 4, 2, 3]);
        assert_eq!((queue.free(), queue.waiting()), (1, 0));
    }

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let mut queue = SlotQueue::new(1, 4);
        queue.ask(A, 0, T);
        assert_eq!(queue.ask(A, 1, T), Placement::Wait);
        assert_eq!(queue.ask(A, 2, T), Placement::Wait);
        assert!(
            matches!(queue.ask(A, 3, T), Placement::Busy { .. }),
            "half the queue for one peer"
        );
        assert_eq!(queue.ask(B, 4, T), Placement::Wait);
        assert_eq!(queue.ask(B, 5, T), Placement::Wait);
        let Placement::Busy { retry_after_ms } = queue.ask(Asker::Local, 6, T) else {
            panic!("full")
        };
        assert!(retry_after_ms >= 1_000);
    }

    #[test]
    fn who_gives_up_leaves_no_trace() {
        let mut queue = SlotQueue::new(1, 4);
        queue.ask(A, 0, T);
        queue.ask(A, 1, T);
        queue.ask(B, 2, T);
        assert!(queue.abandon(A, 1));
        assert!(!queue.abandon(A, 1));
        assert_eq!(queue.finished(0, T), Some(2));
        assert_eq!(queue.finished(2, T), None);
        assert_eq!(queue.finished(2, T), None, "ending twice frees nothing");
        assert_eq!(queue.free(), 1);
    }
}
