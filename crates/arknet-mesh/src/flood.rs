//! How many gossip messages a peer may send. Decides only: time is an argument.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;

/// An allowance that refills with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Instant,
}

/// A burst, and a rate per second after it.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: f64,
    per_second: f64,
}

/// Messages a peer passes on for others. A network of 4,096 peers with a heartbeat each minute makes
/// 68 a second; a neighbour may pass on all of them, and a burst when it joins.
const PASSED_ON: Rate = Rate { burst: 1024.0, per_second: 256.0 };
/// Messages a peer writes itself. The table takes 2 a second; four times that is no accident.
const WRITTEN: Rate = Rate { burst: 64.0, per_second: 8.0 };

/// The allowances of connected peers.
#[derive(Debug, Default)]
pub(crate) struct FloodGuard {
    peers: HashMap<PeerId, [Bucket; 2]>,
}

impl FloodGuard {
    /// Counts a message of a connected peer; whether it is within what an honest peer sends.
    pub(crate) fn allows(&mut self, peer: PeerId, is_author: bool, now: Instant) -> bool {
        let buckets = self.peers.entry(peer).or_insert_with(|| {
            [PASSED_ON, WRITTEN].map(|rate| Bucket { tokens: rate.burst, filled_at: now })
        });
        if is_author { buckets[1].take(WRITTEN, now) } else { buckets[0].take(PASSED_ON, now) }
    }

    /// Forgets a peer whose allowances are full again; others are kept, so that coming back does
    /// not make them full. Called for all now and then.
    pub(crate) fn tend(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) {
        const REFILLED: Duration = Duration::from_secs(10);
        self.peers.retain(|peer, buckets| {
            let last = buckets[0].filled_at.max(buckets[1].filled_at);
            is_connected(peer) || now.saturating_duration_since(last) < REFILLED
        });
    }
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate.per_second).min(rate.burst);
        self.filled_at = now;
        let allowed = self.tokens >= 1.0;
        if allowed {
            self.tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::KeyPair;

    use super::*;
    use crate::addresses::peer_id;

    #[test]
    fn a_flood_is_cut_and_others_are_heard() {
        let now = Instant::now();
        let mut guard = FloodGuard::default();
        let [flooder, other] =
            [1, 2].map(|seed| peer_id(&KeyPair::from_seed(&[seed; 32]).public()));
        let heard = (0..10_000).filter(|_| guard.allows(flooder, true, now)).count();
        assert_eq!(heard, 64);
        assert!(guard.allows(other, true, now));
        assert!(guard.allows(flooder, false, now), "what others wrote is counted apart");
        guard.tend(now, |_| false);
        assert!(!guard.allows(flooder, true, now), "coming back does not help");
        assert!(guard.allows(flooder, true, now + Duration::from_secs(1)));
        guard.tend(now + Duration::from_secs(60), |_| false);
        assert!(guard.peers.is_empty());
    }
}
