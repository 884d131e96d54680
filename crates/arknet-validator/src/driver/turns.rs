//! Whose request is answered next, and how much one peer, and all together, get over time. A request
//! is a few bytes, its answer megabytes: whoever has had much waits until it is paid for by time.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use arknet_consensus::Peer;

use crate::limits::{
    SERVED_AHEAD_BYTES, SERVED_AHEAD_BYTES_IN_ALL, SERVED_ANSWER_BYTES_MIN, SERVED_BYTES_PER_S,
    SERVED_BYTES_PER_S_IN_ALL, SERVED_PEERS_MAX, SERVED_PER_PEER_MAX,
};

/// Requests that wait, given what time it is, in milliseconds since any moment.
#[derive(Debug)]
pub(super) struct Turns<T> {
    peers: BTreeMap<Peer, Asking<T>>,
    /// What all were given.
    all: Paid,
    /// Who was answered last.
    last: Option<Peer>,
}

#[derive(Debug)]
struct Asking<T> {
    waiting: VecDeque<T>,
    paid: Paid,
}

/// When what was given is paid for, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Paid {
    at_us: u64,
}

/// Bytes in a second, and bytes before their time.
type Rate = (u64, u64);

const ONE: Rate = (SERVED_BYTES_PER_S, SERVED_AHEAD_BYTES);
const ALL: Rate = (SERVED_BYTES_PER_S_IN_ALL, SERVED_AHEAD_BYTES_IN_ALL);

impl Paid {
    fn add(&mut self, now_ms: u64, bytes: u64, (per_s, _): Rate) {
        let cost = bytes.saturating_mul(1_000_000).div_ceil(per_s);
        self.at_us = self.at_us.max(now_ms.saturating_mul(1_000)).saturating_add(cost);
    }

    /// When more may be given.
    const fn free_at(self, (per_s, ahead): Rate) -> u64 {
        self.at_us.saturating_sub(ahead * 1_000_000 / per_s).div_ceil(1_000)
    }

    const fn is_paid(self, now_ms: u64) -> bool {
        self.at_us <= now_ms.saturating_mul(1_000)
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { peers: BTreeMap::new(), all: Paid::default(), last: None }
    }
}

impl<T> Turns<T> {
    /// A peer wants something. Whether it waits; who is not answered asks again.
    pub(super) fn ask(&mut self, now_ms: u64, peer: Peer, request: T) -> bool {
        if !self.peers.contains_key(&peer) && self.peers.len() >= SERVED_PEERS_MAX {
            // Who owes nothing and wants nothing need not be remembered.
            self.peers.retain(|_, one| !one.waiting.is_empty() || !one.paid.is_paid(now_ms));
            if self.peers.len() >= SERVED_PEERS_MAX {
                return false;
            }
        }
        let new = || Asking { waiting: VecDeque::new(), paid: Paid::default() };
        let asking = self.peers.entry(peer).or_insert_with(new);
        let has_room = asking.waiting.len() < SERVED_PER_PEER_MAX;
        if has_room {
            asking.waiting.push_back(request);
        }
        has_room
    }

    /// What is to be answered now: one request of each whose turn it is, one peer after the other.
    pub(super) fn next(&mut self, now_ms: u64) -> Option<(Peer, T)> {
        if self.all.free_at(ALL) > now_ms {
            return None;
        }
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.peers.range((after, Bound::Unbounded));
        let is_due = |one: &Asking<T>| !one.waiting.is_empty() && one.paid.free_at(ONE) <= now_ms;
        let mut due = behind.chain(&self.peers).filter(|(_, one)| is_due(one));
        let peer = due.next().map(|(peer, _)| *peer)?;
        self.last = Some(peer);
        let request = self.peers.get_mut(&peer)?.waiting.pop_front()?;
        Some((peer, request))
    }

    /// So much was given to a peer.
    pub(super) fn gave(&mut self, now_ms: u64, peer: &Peer, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).max(SERVED_ANSWER_BYTES_MIN);
        self.all.add(now_ms, bytes, ALL);
        if let Some(asking) = self.peers.get_mut(peer) {
            asking.paid.add(now_ms, bytes, ONE);
        }
    }

    /// When [`next`](Self::next) may have something.
    pub(super) fn next_at(&self) -> Option<u64> {
        let waiting = self.peers.values().filter(|one| !one.waiting.is_empty());
        let first = waiting.map(|one| one.paid.free_at(ONE)).min()?;
        Some(first.max(self.all.free_at(ALL)))
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::PublicKey;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn peer(n: u16) -> Peer {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }

    /// What peers get who always want more, each answer of so many bytes, until a moment.
    fn serve(peers: &[Peer], answer: usize, until_ms: u64) -> BTreeMap<Peer, usize> {
        let (mut turns, mut given, mut now) = (Turns::default(), BTreeMap::new(), 0);
        loop {
            for peer in peers {
                while turns.ask(now, *peer, ()) {}
            }
            while let Some((peer, ())) = turns.next(now) {
                turns.gave(now, &peer, answer);
                *given.entry(peer).or_default() += answer;
                while turns.ask(now, peer, ()) {}
            }
            let next = turns.next_at().expect("somebody waits");
            assert!(next > now, "nothing was due");
            if next > until_ms {
                return given;
            }
            now = next;
        }
    }

    #[test]
    fn one_peer_gets_so_much_at_once_and_then_so_much_in_a_second() {
        let ahead = usize::try_from(SERVED_AHEAD_BYTES).unwrap();
        let rate = usize::try_from(SERVED_BYTES_PER_S).unwrap();
        for answer in [1, 4 * MIB, 8 * MIB] {
            let charged = answer.max(usize::try_from(SERVED_ANSWER_BYTES_MIN).unwrap());
            let most = |ms: usize| (ahead + rate * ms / 1_000) / charged + 1;
            for ms in [0, 60_000] {
                let given = serve(&[peer(1)], answer, ms as u64)[&peer(1)] / answer;
                assert!(given <= most(ms), "{answer} in {ms} ms: {given}");
                // Times are rounded up.
                assert!(given + given / 1_000 + 1 >= most(ms), "{answer} in {ms} ms: {given}");
            }
        }
    }

    #[test]
    fn all_together_have_a_bound_and_each_its_part_of_it() {
        let peers: Vec<Peer> = (0..100).map(peer).collect();
        let given = serve(&peers, 4 * MIB, 120_000);
        let all: usize = given.values().sum();
        let rate = usize::try_from(SERVED_BYTES_PER_S_IN_ALL).unwrap();
        let ahead = usize::try_from(SERVED_AHEAD_BYTES_IN_ALL).unwrap();
        assert!(all <= ahead + 120 * rate + 4 * MIB, "{all}");
        assert!(all >= 120 * rate, "{all}");
        let (least, most) = (given.values().min().unwrap(), given.values().max().unwrap());
        assert!(given.len() == 100 && most - least <= 4 * MIB, "{least} {most}");
    }

    #[test]
    fn who_waits_and_who_owes_is_remembered_and_no_more_than_so_many() {
        let mut turns = Turns::default();
        assert!((0..SERVED_PER_PEER_MAX).all(|n| turns.ask(0, peer(0), n)));
        assert!(!turns.ask(0, peer(0), 9));
        for n in 0..SERVED_PER_PEER_MAX {
            assert_eq!(turns.next(0), Some((peer(0), n)), "in the order in which it asked");
        }
        assert_eq!((turns.next(0), turns.next_at()), (None, None));
        turns.gave(0, &peer(0), 128 * MIB);
        let most = u16::try_from(SERVED_PEERS_MAX).unwrap();
        assert!((1..most).all(|n| turns.ask(0, peer(n), 0)));
        assert!(!turns.ask(0, peer(most), 0));
        while turns.next(0).is_some() {}
        assert!(turns.ask(0, peer(most), 0), "those who have nothing to wait for make place");
        assert!(turns.peers.contains_key(&peer(0)), "who goes and comes again owes what it owed");
        turns.ask(0, peer(0), 0);
        let free = turns.next_at().unwrap();
        assert_eq!(turns.next(0).map(|(peer, _)| peer), Some(peer(most)));
        assert!(free == 0 && turns.next(0).is_none());
        let free = turns.next_at().unwrap();
        assert_eq!((turns.next(free - 1), turns.next(free)), (None, Some((peer(0), 0))));
    }
}
