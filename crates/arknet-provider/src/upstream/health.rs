//! Whether an upstream is there, decided without input or output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::CHECKS_MAX;

/// When an upstream counts as gone, and when as back.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthPolicy {
    /// Failures in a row after which it is down. 1 to 100; 3 unless set.
    pub failures: u32,
    /// Successes in a row after which it is up again. 1 to 100; 2 unless set.
    pub successes: u32,
    /// Seconds between two checks while it is up. 1 to 3600; 15 unless set.
    pub interval_s: u64,
    /// Seconds until the first check after it went down; each further failure doubles them, up to
    /// `backoff_max_s`. 1 to 3600; 1 unless set.
    pub backoff_min_s: u64,
    /// The longest time between two checks while it is down, in seconds. 1 to 3600; 60 unless set.
    pub backoff_max_s: u64,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { failures: 3, successes: 2, interval_s: 15, backoff_min_s: 1, backoff_max_s: 60 }
    }
}

impl HealthPolicy {
    /// The name of the first value that is out of its bounds.
    #[must_use]
    pub fn wrong_field(&self) -> Option<&'static str> {
        let counts = 1..=CHECKS_MAX;
        let seconds = 1..=3600;
        [
            ("health.failures", counts.contains(&self.failures)),
            ("health.successes", counts.contains(&self.successes)),
            ("health.interval_s", seconds.contains(&self.interval_s)),
            ("health.backoff_min_s", seconds.contains(&self.backoff_min_s)),
            ("health.backoff_max_s", (self.backoff_min_s..=3600).contains(&self.backoff_max_s)),
        ]
        .into_iter()
        .find_map(|(name, is_right)| (!is_right).then_some(name))
    }
}

/// What was learned about an upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sign {
    /// It answered as it should.
    Well,
    /// It could not be reached, was silent, or failed.
    Failed,
    /// It does not accept the key: nothing will go well until that changes.
    Rejected,
}

/// A key that is not accepted counts as this many failed checks.
const REJECTED_CHECKS: u32 = 6;

/// Whether it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// Nothing is known yet: the first sign decides.
    Unknown,
    Up {
        failures: u32,
    },
    Down {
        successes: u32,
        checks: u32,
    },
}

/// The health of one upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Health {
    policy: HealthPolicy,
    state: State,
}

impl Health {
    /// Of an upstream of which nothing is known.
    #[must_use]
    pub const fn new(policy: HealthPolicy) -> Self {
        Self { policy, state: State::Unknown }
    }

    /// Whether it is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Takes note of a sign, and says whether the state changed with it.
    pub fn note(&mut self, sign: Sign) -> bool {
        let before = self.is_up();
        self.state = match (self.state, sign) {
            (State::Unknown | State::Up { .. }, Sign::Well) => State::Up { failures: 0 },
            // Lists of models are often open to all: a check would bring it back at once.
            (_, Sign::Rejected) => State::Down { successes: 0, checks: REJECTED_CHECKS },
            (State::Unknown, Sign::Failed) => State::Down { successes: 0, checks: 0 },
            (State::Up { failures }, Sign::Failed) if failures + 1 >= self.policy.failures => {
                State::Down { successes: 0, checks: 0 }
            }
            (State::Up { failures }, Sign::Failed) => State::Up { failures: failures + 1 },
            (State::Down { successes, .. }, Sign::Well)
                if successes + 1 >= self.policy.successes =>
            {
                State::Up { failures: 0 }
            }
            (State::Down { successes, .. }, Sign::Well) => {
                State::Down { successes: successes + 1, checks: 0 }
            }
            (State::Down { checks, .. }, Sign::Failed) => {
                State::Down { successes: 0, checks: checks.saturating_add(1) }
            }
        };
        before != self.is_up()
    }

    /// How long to wait before the next check.
    #[must_use]
    pub fn until_next_check(&self) -> Duration {
        let seconds = match self.state {
            State::Unknown => 0,
            State::Up { failures: 0 } => self.policy.interval_s,
            // A doubt is settled sooner than the usual interval would.
            State::Up { .. } => self.policy.backoff_min_s.min(self.policy.interval_s),
            State::Down { checks, .. } => {
                let doubled = 1_u64.checked_shl(checks).unwrap_or(u64::MAX);
                self.policy.backoff_min_s.saturating_mul(doubled).min(self.policy.backoff_max_s)
            }
        };
        Duration::from_secs(seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(signs: &[Sign]) -> Health {
        let mut health = Health::new(HealthPolicy::default());
        for sign in signs {
            health.note(*sign);
        }
        health
    }

    #[test]
    fn one_failure_does_not_take_it_down_and_one_success_does_not_bring_it_back() {
        use Sign::{Failed, Rejected, Well};
        for (signs, is_up) in [
            (&[][..], false),
            (&[Well], true),
            (&[Failed], false),
            (&[Well, Failed, Failed], true),
            (&[Well, Failed, Failed, Failed], false),
            (&[Well, Failed, Failed, Well, Failed, Failed], true),
            (&[Well, Rejected], false),
            (&[Failed, Well], false),
            (&[Failed, Well, Well], true),
            (&[Failed, Well, Failed, Well], false),
        ] {
            assert_eq!(after(signs).is_up(), is_up, "{signs:?}");
        }
    }

    #[test]
    fn checks_come_later_the_longer_it_is_down() {
        let mut health = after(&[Sign::Failed]);
        let mut waits = vec![];
        for _ in 0..9 {
            waits.push(health.until_next_check().as_secs());
            health.note(Sign::Failed);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for _ in 0..200 {
            health.note(Sign::Failed);
        }
        assert_eq!(health.until_next_check().as_secs(), 60);
        health.note(Sign::Well);
        assert_eq!(health.until_next_check().as_secs(), 1);
    }

    proptest! {
        #[test]
        fn it_changes_only_after_enough_signs(signs in proptest::collection::vec(0_u8..3, 0..200)) {
            let mut health = Health::new(HealthPolicy::default());
            let (mut well, mut failed) = (0, 0);
            for (at, sign) in signs.into_iter().enumerate() {
                let sign = [Sign::Well, Sign::Failed, Sign::Rejected][usize::from(sign)];
                (well, failed) = if sign == Sign::Well { (well + 1, 0) } else { (0, failed + 1) };
                let changed = health.note(sign);
                if changed && at > 0 && sign == Sign::Well {
                    prop_assert!(well >= 2);
                }
                if changed && sign == Sign::Failed {
                    prop_assert!(failed >= 3 || at == 0);
                }
                prop_assert!(health.until_next_check() <= Duration::from_secs(60));
            }
        }
    }
}
