use arknet_types::Timestamp;

/// What one node takes for the time: the true time plus an error that faults change. Most do not let
/// it go back within one life; some do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock {
    error_ms: i64,
    latest: u64,
    goes_back: bool,
}

impl Clock {
    pub(crate) fn new(error_ms: i64, goes_back: bool) -> Self {
        Self { error_ms, latest: 0, goes_back }
    }

    /// The time as this node sees it.
    pub(crate) fn read(&mut self, true_ms: u64) -> Timestamp {
        let wall = true_ms.saturating_add_signed(self.error_ms);
        self.latest = if self.goes_back { wall } else { self.latest.max(wall) };
        Timestamp(self.latest)
    }

    pub(crate) fn set_error(&mut self, error_ms: i64) {
        self.error_ms = error_ms;
    }

    /// A new process knows nothing of what the clock said before.
    pub(crate) fn restart(&mut self) {
        self.latest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_stands_still_until_a_restart() {
        let mut clock = Clock::new(50, false);
        assert_eq!(clock.read(100), Timestamp(150));
        clock.set_error(0);
        assert_eq!(clock.read(110), Timestamp(150));
        assert_eq!(clock.read(160), Timestamp(160));
        clock.set_error(-100);
        clock.restart();
        assert_eq!(clock.read(170), Timestamp(70));
    }
}
