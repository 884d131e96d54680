use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The time as Ollama writes it.
pub(super) fn rfc3339(since_epoch: Duration) -> String {
    let nanos = i128::try_from(since_epoch.as_nanos()).unwrap_or(i128::MAX);
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".into())
}

/// Tells how long an answer has been under way.
pub(super) struct Watch {
    /// When that began, since the epoch.
    started: Duration,
    elapsed: Box<dyn Fn() -> Duration + Send>,
}

impl Watch {
    pub(super) fn start() -> Self {
        let began = Instant::now();
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started, elapsed: Box::new(move || began.elapsed()) }
    }

    /// One that shows what it is told.
    #[cfg(test)]
    pub(super) fn fake(started: Duration, elapsed: impl Fn() -> Duration + Send + 'static) -> Self {
        Self { started, elapsed: Box::new(elapsed) }
    }

    pub(super) fn elapsed(&self) -> Duration {
        (self.elapsed)()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_people_expect() {
        for (since_epoch, text) in [
            (Duration::ZERO, "1970-01-01T00:00:00Z"),
            (Duration::new(1_700_000_000, 120_000_000), "2023-11-14T22:13:20.12Z"),
            (Duration::new(253_402_300_800, 0), "9999-12-31T23:59:59Z"),
            (Duration::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(since_epoch), text);
        }
    }
}
