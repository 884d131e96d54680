//! How often an address or a key may do something: buckets that fill with time. Decides alone; the
//! time is an argument.

use std::{collections::BTreeMap, time::Duration};

use arknet_types::Timestamp;

/// A bound: so many in a minute, all of which may come at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many in a minute.
    pub per_minute: u32,
}

const MINUTE_MS: u64 = 60_000;

/// Counts for each of a bounded number of keys.
pub(crate) struct Rates<K> {
    rate: Rate,
    keys_max: usize,
    /// When each key's bucket is full again: whose is not above now has nothing to remember.
    full_at: BTreeMap<K, Timestamp>,
    pruned_at: Timestamp,
}

/// Time between two searches for keys with nothing to remember: each looks at all of them.
const PRUNE_MS: u64 = 1_000;

impl<K: Copy + Ord> Rates<K> {
    pub(crate) const fn new(rate: Rate, keys_max: usize) -> Self {
        Self { rate, keys_max, full_at: BTreeMap::new(), pruned_at: Timestamp(0) }
    }

    /// Takes one from the bucket of `key`, or says how long until there is one.
    ///
    /// Who cannot be counted is refused: forgetting somebody would be in favour of those who come
    /// with many keys.
    pub(crate) fn take(&mut self, now: Timestamp, key: K) -> Result<(), Duration> {
        let one_ms = MINUTE_MS.div_ceil(u64::from(self.rate.per_minute.max(1)));
        let full_at = self.full_at.get(&key).copied().unwrap_or(now).max(now);
        let wait = full_at.since_ms(now) + one_ms;
        if self.rate.per_minute == 0 || wait > MINUTE_MS.max(one_ms) {
            return Err(Duration::from_millis(wait.saturating_sub(MINUTE_MS).max(1)));
        }
        if !self.full_at.contains_key(&key) && self.full_at.len() >= self.keys_max {
            if now.since_ms(self.pruned_at) >= PRUNE_MS || now < self.pruned_at {
                self.pruned_at = now;
                self.full_at.retain(|_, full_at| *full_at > now);
            }
            if self.full_at.len() >= self.keys_max {
                return Err(Duration::from_millis(one_ms));
            }
        }
        self.full_at.insert(key, now.plus_ms(wait));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_minute: u32, keys_max: usize) -> Rates<u8> {
        Rates::new(Rate { per_minute }, keys_max)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once_and_then_one_by_one() {
        let mut rates = rates(6, 10);
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        for _ in 0..6 {
            assert_eq!(rates.take(at(0), 1), Ok(()));
        }
        assert_eq!(rates.take(at(0), 1), Err(Duration::from_secs(10)));
        assert_eq!(rates.take(at(0), 2), Ok(()), "others are not held up");
        assert_eq!(rates.take(at(9_999), 1), Err(Duration::from_millis(1)));
        assert_eq!(rates.take(at(10_000), 1), Ok(()));
        assert!(rates.take(at(10_000), 1).is_err());
        for _ in 0..6 {
            assert_eq!(rates.take(at(200_000), 1), Ok(()));
        }
        assert!(rates.take(at(200_000), 1).is_err());
    }

    #[test]
    fn who_cannot_be_counted_is_refused_until_somebody_has_nothing_to_remember() {
        let mut rates = rates(60, 3);
        let now = Timestamp(5_000);
        for key in 0..3 {
            assert_eq!(rates.take(now, key), Ok(()));
        }
        assert!(rates.take(now, 3).is_err());
        assert_eq!(rates.take(now, 0), Ok(()), "who is counted goes on");
        assert_eq!(rates.take(now.plus_ms(1_000), 3), Ok(()));
        assert_eq!(rates.full_at.len(), 2, "of three, one was not done waiting");
    }

    #[test]
    fn the_odd_rates_hold() {
        assert!(rates(0, 3).take(Timestamp(9), 1).is_err(), "none is none");
        let mut one = rates(1, 3);
        assert_eq!(one.take(Timestamp(0), 1), Ok(()));
        assert_eq!(one.take(Timestamp(0), 1), Err(Duration::from_secs(60)));
        let mut many = rates(7, 3);
        let taken = (0..20).filter(|_| many.take(Timestamp(0), 1).is_ok()).count();
        assert!((6..=7).contains(&taken), "a rate that does not divide a minute: {taken}");
        let mut back = rates(1, 3);
        assert_eq!(back.take(Timestamp(1_000_000), 1), Ok(()));
        assert!(back.take(Timestamp(0), 1).is_err(), "a clock that jumps back frees nobody");
    }
}
