use std::time::Duration;

/// How a model whose process fails is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Restarts {
    /// Pause before the second try in a row; the first is made at once. It doubles from there.
    pub pause_first: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// After so many failures in a row requests no longer wait for the next try but are refused.
    pub failures_max: u32,
    /// A process that has worked so long starts the count anew.
    pub healthy_after: Duration,
}

impl Default for Restarts {
    fn default() -> Self {
        Self {
            pause_first: Duration::from_millis(500),
            pause_max: Duration::from_secs(60),
            failures_max: 4,
            healthy_after: Duration::from_secs(60),
        }
    }
}

/// The failures of one model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Failures {
    in_a_row: u32,
    total: u64,
    retry_at: Duration,
    is_looping: bool,
}

impl Failures {
    /// One more, after the process has worked for `healthy`. Whether this is a loop.
    pub(super) fn one_more(
        &mut self,
        restarts: &Restarts,
        now: Duration,
        healthy: Duration,
    ) -> bool {
        self.well(restarts, healthy);
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.total += 1;
        let pause = match self.in_a_row {
            1 => Duration::ZERO,
            // Capped where no pause fits any more, far above the longest.
            n => restarts.pause_first.saturating_mul(1 << (n - 2).min(20)).min(restarts.pause_max),
        };
        self.retry_at = now.saturating_add(pause);
        self.is_looping = self.in_a_row >= restarts.failures_max;
        self.is_looping
    }

    /// The process has worked for so long without failing.
    pub(super) fn well(&mut self, restarts: &Restarts, healthy: Duration) {
        if healthy >= restarts.healthy_after {
            *self = Self { total: self.total, ..Self::default() };
        }
    }

    /// When it may be tried again.
    pub(super) fn retry_at(&self) -> Duration {
        self.retry_at
    }

    /// How long it will not even be tried.
    pub(super) fn blocked_for(&self, now: Duration) -> Option<Duration> {
        let left = self.retry_at.saturating_sub(now);
        (self.is_looping && !left.is_zero()).then_some(left)
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_the_longest_and_a_healthy_time_ends_them() {
        let restarts = Restarts::default();
        let (mut failures, now) = (Failures::default(), Duration::from_secs(1000));
        let mut pauses = vec![];
        for _ in 0..12 {
            let is_looping = failures.one_more(&restarts, now, Duration::ZERO);
            let pause = failures.retry_at() - now;
            assert_eq!(failures.blocked_for(now), is_looping.then_some(pause));
            assert_eq!(failures.blocked_for(now + pause), None);
            pauses.push(pause.as_millis());
        }
        let expected =
            [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000];
        assert_eq!(pauses, expected);
        assert!(!failures.one_more(&restarts, now, restarts.healthy_after));
        assert_eq!((failures.retry_at(), failures.total()), (now, 13));
    }
}
