/// When to try a failed connection again: twice as long after each failure, within bounds, spread
/// by a salt so that many nodes that lost one seed do not come back in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first_ms: u64,
    longest_ms: u64,
    failures: u32,
}

impl Backoff {
    /// A backoff that begins at `first_ms` and grows to `longest_ms`.
    #[must_use]
    pub const fn new(first_ms: u64, longest_ms: u64) -> Self {
        Self { first_ms, longest_ms, failures: 0 }
    }

    /// Counts a failure; milliseconds until the next try, between half and the whole of the step.
    pub fn fail(&mut self, salt: u64) -> u64 {
        let step = self.first_ms.saturating_shl(self.failures).min(self.longest_ms);
        self.failures = self.failures.saturating_add(1);
        step / 2 + salt % (step / 2 + 1)
    }

    /// Counts a success: the next failure starts from the beginning.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

trait SaturatingShl {
    fn saturating_shl(self, by: u32) -> Self;
}

impl SaturatingShl for u64 {
    fn saturating_shl(self, by: u32) -> Self {
        if by > self.leading_zeros() { Self::MAX } else { self << by }
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn waits_grow_within_their_bounds() {
        let mut backoff = Backoff::new(500, 30_000);
        let mut longest = 0;
        for salt in 0..200 {
            let wait = backoff.fail(salt * 7919);
            assert!((250..=30_000).contains(&wait));
            longest = longest.max(wait);
        }
        assert!(longest > 15_000);
        backoff.succeed();
        assert!(backoff.fail(u64::MAX) <= 500);
    }
}
