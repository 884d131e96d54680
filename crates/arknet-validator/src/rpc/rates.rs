//! How many requests an address may make: buckets that fill with time. Decides alone; the time is an
//! argument.

use std::{collections::BTreeMap, net::IpAddr};

use arknet_types::Timestamp;

use crate::limits::COUNTED_MAX;

const SECOND_US: u64 = 1_000_000;
/// Time between two searches for addresses with nothing to remember: each looks at all of them.
const PRUNE_MS: u64 = 1_000;

/// A second's worth may come at once.
#[derive(Debug)]
struct Bucket {
    one_us: u64,
}

impl Bucket {
    const fn new(per_s: u32) -> Self {
        Self { one_us: SECOND_US.div_ceil(if per_s == 0 { 1 } else { per_s as u64 }) }
    }

    /// Takes one from what is full again at `full_at`, both in microseconds; or says how long until
    /// there is one.
    fn take(&self, now: u64, full_at: u64) -> Result<u64, u64> {
        let next = full_at.max(now) + self.one_us;
        let wait = next - now;
        if wait > SECOND_US.max(self.one_us) { Err(wait - SECOND_US) } else { Ok(next) }
    }
}

/// Counts requests of each address and of all.
#[derive(Debug)]
pub(super) struct Rates {
    each: Bucket,
    all: Bucket,
    full_at: BTreeMap<IpAddr, u64>,
    all_full_at: u64,
    pruned_at: Timestamp,
}

impl Rates {
    pub(super) const fn new(per_s: u32, per_s_in_all: u32) -> Self {
        Self {
            each: Bucket::new(per_s),
            all: Bucket::new(per_s_in_all),
            full_at: BTreeMap::new(),
            all_full_at: 0,
            pruned_at: Timestamp(0),
        }
    }

    /// Counts a request, or says in how many milliseconds one may come again. Who cannot be counted
    /// is refused: forgetting somebody would be in favour of those who come with many addresses.
    pub(super) fn take(&mut self, now: Timestamp, from: IpAddr) -> Result<(), u64> {
        let us = now.0.saturating_mul(1_000);
        let in_ms = |us: u64| us.div_ceil(1_000).max(1);
        let known = self.full_at.get(&from).copied();
        if known.is_none() && self.full_at.len() >= COUNTED_MAX {
            if now.since_ms(self.pruned_at) >= PRUNE_MS || now < self.pruned_at {
                self.pruned_at = now;
                self.full_at.retain(|_, full_at| *full_at > us);
            }
            if self.full_at.len() >= COUNTED_MAX {
                return Err(PRUNE_MS);
            }
        }
        let full_at = self.each.take(us, known.unwrap_or_default()).map_err(in_ms)?;
        self.all_full_at = self.all.take(us, self.all_full_at).map_err(in_ms)?;
        self.full_at.insert(from, full_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_seconds_worth_may_come_at_once_and_then_one_by_one() {
        let mut rates = Rates::new(10, 1_000);
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        assert!((0..10).all(|_| rates.take(at(0), address(1)).is_ok()));
        assert_eq!(rates.take(at(0), address(1)), Err(100));
        assert_eq!(rates.take(at(0), address(2)), Ok(()), "others are not held up");
        assert_eq!(rates.take(at(99), address(1)), Err(1));
        assert_eq!(rates.take(at(100), address(1)), Ok(()));
        assert!((0..10).all(|_| rates.take(at(60_000), address(1)).is_ok()));
    }

    #[test]
    fn all_together_have_a_bound_too() {
        let mut rates = Rates::new(10, 15);
        let taken = (0..40).filter(|n| rates.take(Timestamp(9), address(n % 4)).is_ok()).count();
        assert!((14..=15).contains(&taken), "{taken}");
    }

    #[test]
    fn who_cannot_be_counted_is_refused_until_somebody_has_nothing_to_remember() {
        let mut rates = Rates::new(1, 100_000_000);
        let many = u32::try_from(COUNTED_MAX).unwrap();
        assert!((0..many).all(|n| rates.take(Timestamp(5_000), address(n)).is_ok()));
        assert!(rates.take(Timestamp(5_000), address(many)).is_err());
        assert_eq!(rates.take(Timestamp(7_000), address(many)), Ok(()));
        assert_eq!(rates.full_at.len(), 1);
    }
}
