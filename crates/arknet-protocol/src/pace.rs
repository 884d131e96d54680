use arknet_types::Timestamp;

/// Time that may be used up in advance, so that small pieces need not wait one by one.
const AHEAD_MS: u64 = 100;

/// Keeps what is sent to so many bytes a second, over all who send.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When all that was sent would have gone at that pace, in microseconds since the epoch.
    free_at_us: u64,
}

impl Pace {
    /// So many bytes a second.
    ///
    /// # Panics
    /// When that is none.
    #[must_use]
    pub const fn new(bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "nothing could ever be sent");
        Self { bytes_per_second, free_at_us: 0 }
    }

    /// So many bytes go out; says how many milliseconds to wait before.
    pub fn take(&mut self, bytes: u64, now: Timestamp) -> u64 {
        let now_us = now.0.saturating_mul(1_000);
        let begin = self.free_at_us.max(now_us);
        let us = bytes.saturating_mul(1_000_000) / self.bytes_per_second;
        // A clock that was set back must not stop everything.
        let latest = now_us.saturating_add(3_600_000_000);
        self.free_at_us = begin.saturating_add(us).min(latest);
        ((begin - now_us) / 1_000).saturating_sub(AHEAD_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_kept_over_all_who_send() {
        let mut pace = Pace::new(1_000_000);
        let mut now = Timestamp(5_000);
        for _ in 0..1_000 {
            let wait = pace.take(50_000, now);
            now = now.plus_ms(wait);
        }
        let took = now.since_ms(Timestamp(5_000));
        assert!((49_000..=50_000).contains(&took), "50 MB took {took} ms");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(1_000);
        assert_eq!(pace.take(1_000, Timestamp(0)), 0);
        assert_eq!(pace.take(1_000, Timestamp(60_000)), 0);
        assert_eq!(pace.take(1_000, Timestamp(60_000)), 900);
    }
}
