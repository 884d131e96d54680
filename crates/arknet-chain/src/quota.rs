use arknet_types::Timestamp;
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::limits::{FREE_JOBS_PER_DAY_MAX, FREE_JOBS_PER_HOUR_MAX};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The free jobs of one wallet in the hour and the day that run, both counted from the epoch. A pure
/// counter: the ledger counts with it what it rewards, and whoever serves counts with it what it
/// serves and hears that others serve.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    PartialEq,
    Serialize,
)]
#[serde(deny_unknown_fields)]
pub struct FreeQuota {
    hour: u64,
    in_hour: u32,
    day: u64,
    in_day: u32,
}

impl FreeQuota {
    /// Takes one job, or says when there is one again.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.check(now)?;
        self.in_hour = self.in_hour.saturating_add(1);
        self.in_day = self.in_day.saturating_add(1);
        Ok(())
    }

    /// Says when there is a job again, where there is none now.
    pub fn check(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.turn(now);
        if self.in_day >= FREE_JOBS_PER_DAY_MAX {
            return Err(Timestamp(self.day.saturating_add(1).saturating_mul(DAY_MS)));
        }
        if self.in_hour >= FREE_JOBS_PER_HOUR_MAX {
            return Err(Timestamp(self.hour.saturating_add(1).saturating_mul(HOUR_MS)));
        }
        Ok(())
    }

    /// Counts a job that another served at `at`, not later than now. False where it makes no
    /// difference: its day is over, or nothing is left anyway.
    pub fn hear(&mut self, at: Timestamp) -> bool {
        self.turn(at);
        let is_of_hour = at.0 / HOUR_MS == self.hour;
        let is_hour_full = is_of_hour && self.in_hour >= FREE_JOBS_PER_HOUR_MAX;
        if at.0 / DAY_MS != self.day || self.in_day >= FREE_JOBS_PER_DAY_MAX || is_hour_full {
            return false;
        }
        self.in_hour = self.in_hour.saturating_add(u32::from(is_of_hour));
        self.in_day = self.in_day.saturating_add(1);
        true
    }

    /// Gives back a job that was taken at `at` and not done.
    pub fn give_back(&mut self, at: Timestamp) {
        if at.0 / HOUR_MS == self.hour {
            self.in_hour = self.in_hour.saturating_sub(1);
        }
        if at.0 / DAY_MS == self.day {
            self.in_day = self.in_day.saturating_sub(1);
        }
    }

    /// Whether its day is over, or nothing of it was taken, so that it says as much as none.
    #[must_use]
    pub const fn is_void(&self, now: Timestamp) -> bool {
        self.day < now.0 / DAY_MS || self.in_day == 0
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
        assert!(!quota.is_void(Timestamp(2 * DAY_MS - 1)));
        assert_eq!(quota.left(Timestamp(2 * DAY_MS)), 10);
        assert!(quota.is_void(Timestamp(2 * DAY_MS)));
    }

    #[test]
    fn what_others_served_counts_and_a_clock_that_goes_back_gives_nothing() {
        let mut quota = FreeQuota::default();
        let now = Timestamp(DAY_MS);
        assert_eq!((0..9).filter(|_| quota.hear(now)).count(), 9);
        assert_eq!(quota.take(now), Ok(()));
        assert_eq!(quota.take(now), Err(Timestamp(DAY_MS + HOUR_MS)));
        assert!(!quota.hear(now), "there is nothing left to take");
        assert!(quota.take(Timestamp(DAY_MS - 1)).is_err());
    }

    #[test]
    fn what_is_heard_late_counts_in_its_own_hour() {
        let (before, after) = (Timestamp(DAY_MS + HOUR_MS - 1), Timestamp(DAY_MS + HOUR_MS));
        let mut quota = FreeQuota::default();
        quota.take(after).unwrap();
        assert!(quota.hear(before));
        assert_eq!((quota.in_hour, quota.in_day), (1, 2));
        assert!(!quota.hear(Timestamp(DAY_MS - 1)), "its day is over");
        while quota.hear(before) {}
        assert_eq!((quota.in_hour, quota.in_day), (1, FREE_JOBS_PER_DAY_MAX));
    }

    #[test]
    fn what_is_given_back_is_there_again_in_its_hour_and_day() {
        let mut quota = FreeQuota::default();
        let at = Timestamp(DAY_MS);
        while quota.take(at).is_ok() {}
        quota.give_back(at);
        assert_eq!((quota.take(at), quota.take(at).is_err()), (Ok(()), true));
        let later = Timestamp(DAY_MS + HOUR_MS);
        quota.take(later).unwrap();
        quota.give_back(at);
        assert_eq!((quota.in_hour, quota.in_day), (1, 10));
    }
}
