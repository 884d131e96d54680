use std::collections::{BTreeMap, BTreeSet};

use arknet_protocol::{Asker, SlotQueue, Ticket};

use super::Checkers;
use crate::network::NodeId;

/// A model at a node.
type Place = (NodeId, usize);

#[derive(Debug, Default)]
struct Plain {
    running: BTreeSet<Ticket>,
    waiting: Vec<(Asker, Ticket)>,
    /// Since when each asker waits for its next turn, by the count of steps.
    since: BTreeMap<Asker, u64>,
    /// When each asker last had a turn.
    turn: BTreeMap<Asker, u64>,
    steps: u64,
}

/// Who runs and who waits, in plain lists.
#[derive(Debug, Default)]
pub(super) struct Slots {
    places: BTreeMap<Place, Plain>,
}

impl Slots {
    pub(super) fn crashed(&mut self, server: NodeId) {
        self.places.retain(|(node, _), _| *node != server);
    }

    fn at(&mut self, place: Place) -> &mut Plain {
        let plain = self.places.entry(place).or_default();
        plain.steps += 1;
        plain
    }
}

impl Plain {
    fn forget(&mut self, ticket: Ticket) -> Option<Asker> {
        let at = self.waiting.iter().position(|(_, t)| *t == ticket)?;
        let (asker, _) = self.waiting.remove(at);
        if !self.waiting.iter().any(|(a, _)| *a == asker) {
            self.since.remove(&asker);
        }
        Some(asker)
    }
}

impl Checkers {
    /// A request waits for a slot.
    pub(crate) fn waits(&mut self, place: Place, asker: Asker, ticket: Ticket) {
        let plain = self.slots.at(place);
        plain.waiting.push((asker, ticket));
        plain.since.entry(asker).or_insert(plain.steps);
    }

    /// A request runs, at once or after it waited.
    pub(crate) fn runs(&mut self, place: Place, ticket: Ticket, total: u32) {
        let plain = self.slots.at(place);
        let local_waits = plain.waiting.iter().any(|(a, _)| *a == Asker::Local);
        let first = |asker| plain.waiting.iter().find(|(a, _)| *a == asker).map(|(_, t)| *t);
        let asker = plain.waiting.iter().find(|(_, t)| *t == ticket).map(|(a, _)| *a);
        let local_first = asker == Some(Asker::Local) || !local_waits;
        let in_order = asker.is_none_or(|asker| first(asker) == Some(ticket));
        let waited_past = |asker: Asker| {
            let turn = plain.turn.get(&asker).copied().unwrap_or(0);
            let others = plain.since.iter().filter(|(a, _)| **a != asker);
            others.into_iter().any(|(_, since)| *since < turn)
        };
        let fair = asker.is_none_or(|a| a == Asker::Local || !waited_past(a));
        plain.forget(ticket);
        if let Some(asker) = asker {
            plain.turn.insert(asker, plain.steps);
            // Who has more requests waits anew.
            plain.since.entry(asker).and_modify(|since| *since = plain.steps);
        }
        let is_new = plain.running.insert(ticket);
        let running = plain.running.len();
        self.hold(is_new && running <= total as usize, || {
            format!("{running} requests in {total} slots at {place:?}")
        });
        self.hold(local_first, || format!("a peer was served before the owner at {place:?}"));
        self.hold(in_order && fair, || format!("a turn was skipped at {place:?}"));
    }

    /// A request left its slot, or the queue.
    pub(crate) fn left(&mut self, place: Place, ticket: Ticket) {
        let plain = self.slots.at(place);
        let was_there = plain.running.remove(&ticket) || plain.forget(ticket).is_some();
        self.hold(was_there, || format!("ticket {ticket} left {place:?} twice"));
    }

    /// What a queue says of itself, against the plain lists.
    pub(crate) fn queue_counts(&mut self, place: Place, queue: &SlotQueue, waiting_max: u32) {
        let plain = self.slots.at(place);
        let (running, waiting) = (plain.running.len(), plain.waiting.len());
        let agrees = (queue.total() - queue.free()) as usize == running
            && queue.waiting() as usize == waiting;
        // Of peers so many, of the owner so many, and one for each slot that is cut free for him.
        let most = 2 * waiting_max + queue.total();
        self.hold(agrees && queue.waiting() <= most, || {
            format!("{queue:?} at {place:?} where {running} run and {waiting} wait")
        });
        self.hold(queue.free() == 0 || queue.waiting() == 0, || {
            format!("a slot is free at {place:?} while requests wait")
        });
    }
}
