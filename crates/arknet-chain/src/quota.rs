use arknet_types::Timestamp;
use borsh::{BorshDeserialize, BorshSerialize};

use crate::limits::{FREE_JOBS_PER_DAY_MAX, FREE_JOBS_PER_HOUR_MAX};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The free jobs of one wallet in the hour and the day that run, both counted from the epoch. A pure
/// counter: the ledger counts with it what it rewards, and whoever serves counts with it what it
/// serves and hears that others serve.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FreeQuota {
    hour: u64,
    in_hour: u32,
    day: u64,
    in_day: u32,
}

impl FreeQuota {
    /// Takes one job, or says when there is one again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.turn(now);
        if self.in_day >= FREE_JOBS_PER_DAY_MAX {
            return Err(Timestamp(self.day.saturating_add(1).saturating_mul(DAY_MS)));
        }
        if self.in_hour >= FREE_JOBS_PER_HOUR_MAX {
            return Err(Timestamp(self.hour.saturating_add(1).saturating_mul(HOUR_MS)));
        }
        self.count(now, 1);
        Ok(())
    }

    /// Counts jobs that others say they have served.
    pub fn count(&mut self, now: Timestamp, jobs: u32) {
        self.turn(now);
        self.in_hour = self.in_hour.saturating_add(jobs);
        self.in_day = self.in_day.saturating_add(jobs);
    }

    /// Jobs left now.
    #[must_use]
    pub fn left(mut self, now: Timestamp) -> u32 {
        self.turn(now);
        let in_hour = FREE_JOBS_PER_HOUR_MAX.saturating_sub(self.in_hour);
        in_hour.min(FREE_JOBS_PER_DAY_MAX.saturating_sub(self.in_day))
    }

    fn turn(&mut self, now: Timestamp) {
        let (hour, day) = (now.0 / HOUR_MS, now.0 / DAY_MS);
        // A clock that goes back opens no new hour.
        if hour > self.hour {
            (self.hour, self.in_hour) = (hour, 0);
        }
        if day > self.day {
            (self.day, self.in_day) = (day, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_an_hour_and_a_hundred_a_day() {
        let mut quota = FreeQuota::default();
        let mut taken = 0;
        for minute in 0..24 * 60 {
            let now = Timestamp(DAY_MS + minute * 60_000);
            match quota.take(now) {
                Ok(()) => taken += 1,
                Err(again) => assert!(again > now && again.0 <= 2 * DAY_MS),
            }
            assert!(taken <= 10 * (minute / 60 + 1));
        }
        assert_eq!(taken, 100);
        assert_eq!(quota.left(Timestamp(2 * DAY_MS - 1)), 0);
        assert_eq!(quota.left(Timestamp(2 * DAY_MS)), 10);
    }

    #[test]
    fn what_others_served_counts_and_a_clock_that_goes_back_gives_nothing() {
        let mut quota = FreeQuota::default();
        let now = Timestamp(DAY_MS);
        quota.count(now, 9);
        assert_eq!(quota.take(now), Ok(()));
        assert_eq!(quota.take(now), Err(Timestamp(DAY_MS + HOUR_MS)));
        assert!(quota.take(Timestamp(DAY_MS - 1)).is_err());
    }
}
