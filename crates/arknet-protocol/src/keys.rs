//! How much an API key may still do.

use arknet_types::Timestamp;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// The bounds of one key; none is no bound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyLimits {
    /// From then on it counts no more.
    pub expires_at: Option<Timestamp>,
    /// Requests in one minute of the clock.
    pub requests_per_minute: Option<u32>,
    /// Tokens, of questions and answers, in one day of UTC.
    pub tokens_per_day: Option<u64>,
}

/// Why a key does not count now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyRefusal {
    /// Its time is over.
    Expired,
    /// This minute's requests are used up.
    Requests {
        /// Until the next minute.
        retry_after_ms: u64,
    },
    /// This day's tokens are used up.
    Tokens {
        /// Until the next day.
        retry_after_ms: u64,
    },
}

/// What a key has used of its bounds. Minutes and days are those of the clock, so that a restart
/// and a clock that jumps cost at most one of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyMeter {
    minute: u64,
    requests: u32,
    day: u64,
    tokens: u64,
}

impl KeyMeter {
    /// A meter that goes on where another ended: `tokens` were used on `day`.
    #[must_use]
    pub const fn resume(day: u64, tokens: u64) -> Self {
        Self { minute: 0, requests: 0, day, tokens }
    }

    /// Counts one request, or says why not.
    pub fn admit(&mut self, limits: &KeyLimits, now: Timestamp) -> Result<(), KeyRefusal> {
        if limits.expires_at.is_some_and(|end| now >= end) {
            return Err(KeyRefusal::Expired);
        }
        self.turn(now);
        if limits.tokens_per_day.is_some_and(|max| self.tokens >= max) {
            return Err(KeyRefusal::Tokens { retry_after_ms: DAY_MS - now.0 % DAY_MS });
        }
        if limits.requests_per_minute.is_some_and(|max| self.requests >= max) {
            return Err(KeyRefusal::Requests { retry_after_ms: MINUTE_MS - now.0 % MINUTE_MS });
        }
        self.requests = self.requests.saturating_add(1);
        Ok(())
    }

    /// Counts tokens that were used. What an answer took is known at its end only, so one answer may
    /// go beyond the bound; the next request is refused.
    pub fn spend(&mut self, tokens: u64, now: Timestamp) {
        self.turn(now);
        self.tokens = self.tokens.saturating_add(tokens);
    }

    /// The day counted (days since the epoch) and its tokens.
    #[must_use]
    pub const fn today(&self) -> (u64, u64) {
        (self.day, self.tokens)
    }

    fn turn(&mut self, now: Timestamp) {
        let (minute, day) = (now.0 / MINUTE_MS, now.0 / DAY_MS);
        if minute != self.minute {
            (self.minute, self.requests) = (minute, 0);
        }
        if day != self.day {
            (self.day, self.tokens) = (day, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: KeyLimits = KeyLimits {
        expires_at: Some(Timestamp(10 * DAY_MS)),
        requests_per_minute: Some(2),
        tokens_per_day: Some(100),
    };

    #[test]
    fn requests_are_counted_by_the_minute() {
        let mut meter = KeyMeter::default();
        let at = |ms| Timestamp(DAY_MS + ms);
        assert_eq!(meter.admit(&LIMITS, at(10)), Ok(()));
        assert_eq!(meter.admit(&LIMITS, at(20)), Ok(()));
        let refusal = KeyRefusal::Requests { retry_after_ms: MINUTE_MS - 30 };
        assert_eq!(meter.admit(&LIMITS, at(30)), Err(refusal));
        assert_eq!(meter.admit(&LIMITS, at(MINUTE_MS)), Ok(()));
        assert_eq!(meter.admit(&KeyLimits::default(), at(MINUTE_MS)), Ok(()));
        assert_eq!(meter.admit(&KeyLimits::default(), at(MINUTE_MS)), Ok(()), "no bound");
    }

    #[test]
    fn tokens_are_counted_by_the_day_across_restarts() {
        let mut meter = KeyMeter::default();
        let at = |day: u64, ms| Timestamp(day * DAY_MS + ms);
        meter.spend(99, at(3, 0));
        assert_eq!(meter.admit(&LIMITS, at(3, 1)), Ok(()));
        meter.spend(500, at(3, 2));
        let (day, tokens) = meter.today();
        assert_eq!((day, tokens), (3, 599));
        let mut meter = KeyMeter::resume(day, tokens);
        let refusal = KeyRefusal::Tokens { retry_after_ms: DAY_MS - 7 };
        assert_eq!(meter.admit(&LIMITS, at(3, 7)), Err(refusal));
        assert_eq!(meter.admit(&LIMITS, at(4, 0)), Ok(()));
        assert_eq!(meter.today(), (4, 0));
    }

    #[test]
    fn a_key_ends_when_it_says() {
        let mut meter = KeyMeter::default();
        assert_eq!(meter.admit(&LIMITS, Timestamp(10 * DAY_MS - 1)), Ok(()));
        let refusal = meter.admit(&LIMITS, Timestamp(10 * DAY_MS));
        assert_eq!(refusal, Err(KeyRefusal::Expired));
    }
}
