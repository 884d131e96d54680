//! Who runs now, who waits, who is told to come again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
    /// It waits, and this running request of another peer is to be ended for it. Say
    /// [`SlotQueue::finished`] when it is.
    Cut(Ticket),
    /// Come again after so many milliseconds.
    Busy {
        /// An estimate from how long requests took lately.
        retry_after_ms: u64,
    },
}

/// What a request of the owner does when peers hold all slots.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preempt {
    /// It takes the next slot that comes free.
    #[default]
    Queue,
    /// The youngest request of a peer is ended for it.
    Cut,
}

/// The slots of one model and the queue before them: local first, then one request of each peer in
/// turn, so that a peer with many requests delays itself and nobody else. However many requests of
/// peers wait, the owner's are not refused for it.
#[derive(Debug)]
pub struct SlotQueue {
    slots: u32,
    waiting_max: u32,
    preempt: Preempt,
    running: BTreeMap<Ticket, Running>,
    /// Of the running ones, those that were told to end.
    cut: BTreeSet<Ticket>,
    waiting: BTreeMap<Asker, VecDeque<Ticket>>,
    /// Peers that wait, in the order they are served next.
    turns: VecDeque<Asker>,
    waiting_count: u32,
    /// Moving average of how long a request takes.
    duration_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    asker: Asker,
    since: Timestamp,
}

impl SlotQueue {
    /// A queue before `slots` slots where `waiting_max` requests of peers may wait, and as many of
    /// the owner.
    ///
    /// # Panics
    /// When there is no slot at all.
    #[must_use]
    pub fn new(slots: u32, waiting_max: u32) -> Self {
        assert!(slots > 0, "a model without a slot cannot be served");
        Self {
            slots,
            waiting_max,
            preempt: Preempt::Queue,
            running: BTreeMap::new(),
            cut: BTreeSet::new(),
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            waiting_count: 0,
            duration_ms: 1_000,
        }
    }

    /// The same, where a request of the owner does this when peers hold all slots.
    #[must_use]
    pub fn preempting(self, preempt: Preempt) -> Self {
        Self { preempt, ..self }
    }

    /// Asks for a slot.
    pub fn ask(&mut self, asker: Asker, ticket: Ticket, now: Timestamp) -> Placement {
        if self.free() > 0 && self.waiting_count == 0 {
            self.running.insert(ticket, Running { asker, since: now });
            return Placement::Start;
        }
        let is_owner = asker == Asker::Local;
        let owner_waits = self.waiting.get(&Asker::Local).map_or(0, VecDeque::len);
        // One that ends already, and for whom nobody of the owner waits any more, is enough.
        let is_freed = is_owner && self.cut.len() > owner_waits;
        let victim = (is_owner && !is_freed).then(|| self.victim()).flatten();
        if victim.is_none() && !is_freed && self.is_full_for(asker) {
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
        match victim {
            Some(victim) => {
                self.cut.insert(victim);
                Placement::Cut(victim)
            }
            None => Placement::Wait,
        }
    }

    /// Whether no more requests of this asker may wait.
    fn is_full_for(&self, asker: Asker) -> bool {
        let share = self.waiting.get(&asker).map_or(0, VecDeque::len);
        if asker == Asker::Local {
            return share >= self.waiting_max as usize;
        }
        let of_owner = self.waiting.get(&Asker::Local).map_or(0, VecDeque::len);
        let of_peers = self.waiting_count as usize - of_owner;
        // One peer may fill half the queue, so that there is always room for a second one.
        of_peers >= self.waiting_max as usize || share >= self.waiting_max.div_ceil(2) as usize
    }

    /// The request that goes when the owner asks: the youngest of a peer, one for each request of
    /// the owner that waits.
    fn victim(&self) -> Option<Ticket> {
        if self.preempt != Preempt::Cut {
            return None;
        }
        let of_peers = self.running.iter().filter(|(ticket, running)| {
            running.asker != Asker::Local && !self.cut.contains(*ticket)
        });
        of_peers
            .max_by_key(|(ticket, running)| (running.since, **ticket))
            .map(|(ticket, _)| *ticket)
    }

    /// A running request is over. Returns the ticket that takes its slot, if one waits.
    pub fn finished(&mut self, ticket: Ticket, now: Timestamp) -> Option<Ticket> {
        let Running { since, .. } = self.running.remove(&ticket)?;
        if !self.cut.remove(&ticket) {
            // What was cut short does not tell how long requests take.
            self.duration_ms = (now.since_ms(since) + 3 * self.duration_ms) / 4;
        }
        let (asker, next) = self.next()?;
        self.running.insert(next, Running { asker, since: now });
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

    fn next(&mut self) -> Option<(Asker, Ticket)> {
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
        Some((asker, ticket))
    }
}

#[cfg(test)]
mod tests;
