use std::collections::BTreeMap;

use arknet_types::{PublicKey, Timestamp};

/// Peers whose refusals are counted apart.
const PEERS_MAX: usize = 1024;
/// Lines about one peer: so many at once, then one in so many milliseconds.
const PEER_BURST: u64 = 10;
const PEER_INTERVAL_MS: u64 = 30_000;
/// Lines about all peers together.
const ALL_BURST: u64 = 60;
const ALL_INTERVAL_MS: u64 = 5_000;
/// Peers that a summary names; the others are counted together.
const SUMMARY_PEERS_MAX: usize = 8;

/// Decides which refusals get a line of their own. The others are counted, and the count is written:
/// so a flood of refused requests shows in the log and does not fill the disk.
#[derive(Debug, Default)]
pub struct RefusalMeter {
    all: Pace,
    peers: BTreeMap<PublicKey, Counted>,
    /// Of peers for which there was no room.
    others: u64,
}

/// What becomes of one refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noted {
    /// It gets a line, which also says how many before it got none.
    Write {
        /// How many.
        uncounted: u64,
    },
    /// It is counted.
    Count,
}

#[derive(Debug, Default)]
struct Counted {
    pace: Pace,
    uncounted: u64,
}

/// A bucket that is as full as the time until `ahead` is long.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    ahead: Timestamp,
}

impl Pace {
    /// Whether one more is within the pace.
    fn allows(&mut self, now: Timestamp, burst: u64, interval_ms: u64) -> bool {
        let full = now.plus_ms(burst * interval_ms);
        // A clock that was set back must not silence the log for long.
        self.ahead = self.ahead.max(now).min(full);
        self.ahead.plus_ms(interval_ms) <= full
    }

    fn take(&mut self, interval_ms: u64) {
        self.ahead = self.ahead.plus_ms(interval_ms);
    }

    fn is_empty(self, now: Timestamp) -> bool {
        self.ahead <= now
    }
}

impl RefusalMeter {
    /// Nothing was refused yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of `peer` was refused.
    pub fn note(&mut self, peer: PublicKey, now: Timestamp) -> Noted {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            self.peers.retain(|_, of| of.uncounted > 0 || !of.pace.is_empty(now));
            if self.peers.len() >= PEERS_MAX {
                self.others += 1;
                return Noted::Count;
            }
        }
        let of_peer = self.peers.entry(peer).or_default();
        let within_own = of_peer.pace.allows(now, PEER_BURST, PEER_INTERVAL_MS);
        let within_all = self.all.allows(now, ALL_BURST, ALL_INTERVAL_MS);
        if !(within_own && within_all) {
            of_peer.uncounted += 1;
            return Noted::Count;
        }
        of_peer.pace.take(PEER_INTERVAL_MS);
        self.all.take(ALL_INTERVAL_MS);
        Noted::Write { uncounted: std::mem::take(&mut of_peer.uncounted) }
    }

    /// A request of `peer` was refused, and no line can be written.
    pub fn count(&mut self, peer: PublicKey) {
        match self.peers.get_mut(&peer) {
            Some(of_peer) => of_peer.uncounted += 1,
            None => self.others += 1,
        }
    }

    /// So many requests were refused, and of whom is not known any more.
    pub const fn count_others(&mut self, refusals: u64) {
        self.others += refusals;
    }

    /// What was counted since the last line about it: the peers with the most, then all others
    /// together as `None`. To be called now and then, and before the end.
    pub fn summary(&mut self) -> Vec<(Option<PublicKey>, u64)> {
        let mut counted: Vec<_> = self
            .peers
            .iter_mut()
            .filter(|(_, of)| of.uncounted > 0)
            .map(|(peer, of)| (*peer, std::mem::take(&mut of.uncounted)))
            .collect();
        counted.sort_by_key(|(_, uncounted)| std::cmp::Reverse(*uncounted));
        let rest = counted.split_off(counted.len().min(SUMMARY_PEERS_MAX));
        let others = rest.iter().map(|(_, n)| n).sum::<u64>() + std::mem::take(&mut self.others);
        let mut summary: Vec<_> = counted.into_iter().map(|(peer, n)| (Some(peer), n)).collect();
        if others > 0 {
            summary.push((None, others));
        }
        summary
    }
}
