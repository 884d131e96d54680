//! Which snapshots stay: the newest ones, and older ones for as long as somebody fetches them, within
//! bounds.

use crate::limits::{
    SNAPSHOT_LEASE_MS, SNAPSHOT_LEASES_MS_MAX, SNAPSHOTS_LEASED_MAX, SNAPSHOTS_MAX,
};

/// What is known of one, in milliseconds since any moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Lease {
    /// When a part of it, or what it is, was last asked for.
    asked_ms: Option<u64>,
    /// When there were enough newer ones.
    replaced_ms: Option<u64>,
}

impl Lease {
    /// Somebody asked for something of it.
    pub(super) const fn ask(&mut self, now_ms: u64) {
        self.asked_ms = Some(now_ms);
    }

    /// Somebody fetches it, and has not done so for too long.
    fn holds(self, now_ms: u64) -> bool {
        let since = |at: Option<u64>| at.map(|at| now_ms.saturating_sub(at));
        since(self.asked_ms).is_some_and(|ms| ms <= SNAPSHOT_LEASE_MS)
            && since(self.replaced_ms).is_none_or(|ms| ms <= SNAPSHOT_LEASES_MS_MAX)
    }
}

/// Whether each of those that are there stays, the oldest first.
pub(super) fn stays(leases: &mut [Lease], now_ms: u64) -> Vec<bool> {
    let old = leases.len().saturating_sub(SNAPSHOTS_MAX);
    let mut leased = 0;
    let stays = leases.iter_mut().enumerate().map(|(n, lease)| {
        if n >= old {
            return true;
        }
        lease.replaced_ms.get_or_insert(now_ms);
        // The oldest is fetched for the longest.
        let stays = leased < SNAPSHOTS_LEASED_MAX && lease.holds(now_ms);
        leased += usize::from(stays);
        stays
    });
    stays.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_stay_and_others_while_they_are_fetched() {
        let mut leases = [Lease::default(); SNAPSHOTS_MAX];
        assert!(stays(&mut leases, u64::MAX).iter().all(|stays| *stays));
        assert_eq!(leases, [Lease::default(); SNAPSHOTS_MAX]);
        let mut leases = [Lease::default(); SNAPSHOTS_MAX + 1];
        assert_eq!(stays(&mut leases, 5), [false, true, true]);
        leases[0] = Lease::default();
        leases[0].ask(1_000);
        assert_eq!(stays(&mut leases, 1_000 + SNAPSHOT_LEASE_MS), [true, true, true]);
        assert_eq!(stays(&mut leases, 1_001 + SNAPSHOT_LEASE_MS), [false, true, true]);
    }

    #[test]
    fn nobody_keeps_one_for_ever_and_not_many_at_a_time() {
        let mut leases = [Lease::default(); SNAPSHOTS_MAX + 1];
        let mut now = 0;
        while now + SNAPSHOT_LEASE_MS <= SNAPSHOT_LEASES_MS_MAX {
            leases[0].ask(now);
            assert!(stays(&mut leases, now)[0]);
            now += SNAPSHOT_LEASE_MS;
        }
        leases[0].ask(SNAPSHOT_LEASES_MS_MAX);
        assert!(stays(&mut leases, SNAPSHOT_LEASES_MS_MAX)[0]);
        assert!(!stays(&mut leases, SNAPSHOT_LEASES_MS_MAX + 1)[0]);
        let mut leases = [Lease::default(); SNAPSHOTS_MAX + SNAPSHOTS_LEASED_MAX + 1];
        leases.iter_mut().for_each(|lease| lease.ask(0));
        let stay = stays(&mut leases, 0);
        assert_eq!(
            stay.iter().filter(|stays| **stays).count(),
            SNAPSHOTS_MAX + SNAPSHOTS_LEASED_MAX
        );
        assert!(!stay[SNAPSHOTS_LEASED_MAX], "what was begun first is finished");
    }
}
