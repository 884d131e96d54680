use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::rfc3339::rfc3339;

/// Tells how long an answer has been under way.
pub(super) struct Watch {
    /// When that began, since the epoch.
    started: Duration,
    began: Instant,
    elapsed: Box<dyn Fn() -> Duration + Send>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let began = Instant::now();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started, began, elapsed: Box::new(move || began.elapsed()) }
    }

    /// One that shows what it is told.
    #[cfg(test)]
    pub(super) fn fake(started: Duration, elapsed: impl Fn() -> Duration + Send + 'static) -> Self {
        Self { started, began: Instant::now(), elapsed: Box::new(elapsed) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        (self.elapsed)()
    }

    /// How long it had been under way then.
    pub(super) fn until(&self, then: Instant) -> Duration {
        then.saturating_duration_since(self.began)
    }

    /// The time after so long.
    pub(super) fn at(&self, elapsed: Duration) -> String {
        rfc3339(self.started + elapsed)
    }
}

/// Whole nanoseconds.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
