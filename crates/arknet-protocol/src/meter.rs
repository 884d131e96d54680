//! What an approved peer has used of what its grant lets it do.

use arknet_types::{Refusal, RefusalCode, Timestamp};

use crate::Permissions;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// What a peer used in one day of UTC.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DayUse {
    /// Days since the epoch.
    pub day: u64,
    /// Requests admitted.
    pub requests: u64,
    /// Tokens, of questions and answers.
    pub tokens: u64,
}

/// Counts for one grant. Minutes and days are those of the clock, so that a clock that jumps costs
/// at most one of them. What a request could take is held from its beginning on, in whatever minute
/// it ends: nothing that runs at the same time can go beyond a bound together.
#[derive(Clone, Debug, Default)]
pub(crate) struct GrantMeter {
    minute: u64,
    requests: u64,
    tokens: u64,
    today: DayUse,
    reserved: u64,
}

impl GrantMeter {
    pub(crate) const fn resume(today: DayUse) -> Self {
        Self { minute: 0, requests: 0, tokens: 0, today, reserved: 0 }
    }

    /// Whether one more request that may take `tokens` fits into the bounds.
    pub(crate) fn check(
        &mut self,
        bounds: &Permissions,
        tokens: u64,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.turn(now);
        let day = (DAY_MS - now.0 % DAY_MS, "day");
        let minute = (MINUTE_MS - now.0 % MINUTE_MS, "minute");
        for (used, max, (wait_ms, span)) in [
            (self.today.requests, bounds.requests_per_day.map(u64::from), day),
            (self.requests, bounds.requests_per_minute.map(u64::from), minute),
        ] {
            if let Some(max) = max.filter(|max| used >= *max) {
                let words = format!("this peer may ask {max} times a {span} here");
                let refusal = Refusal::new(RefusalCode::RateLimited, words);
                return Err(refusal.retry_after_ms(wait_ms));
            }
        }
        for (used, max, (wait_ms, span)) in [
            (self.today.tokens, bounds.tokens_per_day, day),
            (self.tokens, bounds.tokens_per_minute, minute),
        ] {
            let wanted = used.saturating_add(self.reserved).saturating_add(tokens);
            let Some(max) = max.filter(|max| wanted > *max) else { continue };
            let words = format!(
                "this could take {tokens} tokens, and this peer may use {max} a {span} here, of which \
                 {used} are used and {} held",
                self.reserved
            );
            let refusal = Refusal::new(RefusalCode::RateLimited, words);
            // What is too much by itself is not helped by waiting.
            return Err(if tokens > max { refusal } else { refusal.retry_after_ms(wait_ms) });
        }
        Ok(())
    }

    /// A request begins that may take `tokens`.
    pub(crate) fn begin(&mut self, tokens: u64, now: Timestamp) {
        self.turn(now);
        self.requests = self.requests.saturating_add(1);
        self.today.requests = self.today.requests.saturating_add(1);
        self.reserved = self.reserved.saturating_add(tokens);
    }

    /// A request for which `held` tokens were held is over and took `used`.
    pub(crate) fn end(&mut self, held: u64, used: u64, now: Timestamp) {
        self.turn(now);
        self.reserved = self.reserved.saturating_sub(held);
        self.tokens = self.tokens.saturating_add(used);
        self.today.tokens = self.today.tokens.saturating_add(used);
    }

    pub(crate) const fn today(&self, now: Timestamp) -> DayUse {
        let day = now.0 / DAY_MS;
        if self.today.day == day { self.today } else { DayUse { day, requests: 0, tokens: 0 } }
    }

    pub(crate) const fn is_reserved(&self) -> bool {
        self.reserved > 0
    }

    /// Whether forgetting it would let somebody do more than allowed.
    pub(crate) const fn is_of_use(&self, now: Timestamp) -> bool {
        self.is_reserved() || self.today(now).requests > 0 || self.today(now).tokens > 0
    }

    const fn turn(&mut self, now: Timestamp) {
        let minute = now.0 / MINUTE_MS;
        if minute != self.minute {
            (self.minute, self.requests, self.tokens) = (minute, 0, 0);
        }
        self.today = self.today(now);
    }
}
