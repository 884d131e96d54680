//! What was measured, in bounded memory.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::{Answer, Failure};

/// The longest time told apart from longer ones: a day.
const NANOSECONDS_MAX: u64 = 24 * 60 * 60 * 1_000_000_000;
/// Digits of a time that are right.
const DIGITS: u8 = 3;
/// Kinds of errors told apart; servers make up codes.
const KINDS_MAX: usize = 64;
/// Reasons for the end of an answer told apart.
const FINISHES_MAX: usize = 16;
/// The kind of all errors beyond.
const OTHER: &str = "other";

/// Times, of which only their distribution is kept.
pub(super) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NANOSECONDS_MAX, DIGITS);
        Self(histogram.expect("the bounds are in order"))
    }
}

impl Times {
    pub(super) fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(NANOSECONDS_MAX).max(1));
    }

    /// None where nothing was measured.
    pub(super) fn summary(&self) -> Option<Summary> {
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at = |quantile: f64| ms(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Summary {
            count: self.0.len(),
            mean: self.0.mean() / 1e6,
            min: ms(self.0.min()),
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: ms(self.0.max()),
        })
    }
}

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) min: f64,
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// How often something failed in one way.
#[derive(Debug, Serialize)]
pub(super) struct Errors {
    pub(super) count: u64,
    /// What the first one said.
    pub(super) example: String,
}

/// All that is known of the requests so far.
#[derive(Default)]
pub(super) struct Stats {
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) errors: BTreeMap<String, Errors>,
    pub(super) finishes: BTreeMap<String, u64>,
    /// To the first token.
    pub(super) first: Times,
    /// The same by turn of the conversation.
    pub(super) first_by_turn: Vec<Times>,
    /// From one piece of an answer to the next.
    pub(super) between: Times,
    /// Of one answer, its tokens after the first evenly spread.
    pub(super) per_token: Times,
    pub(super) whole: Times,
    pub(super) prompt_tokens: u64,
    pub(super) cached_tokens: u64,
    pub(super) output_tokens: u64,
    /// Pieces of answers that were streamed.
    pub(super) pieces: u64,
    /// Answers that came without the server's own count of tokens.
    pub(super) uncounted: u64,
    /// Connections that the server had closed between two requests.
    pub(super) reconnects: u64,
}

impl Stats {
    pub(super) fn record(&mut self, turn: usize, answer: &Answer) {
        self.answered += 1;
        self.reconnects += u64::from(answer.reconnected);
        self.pieces += answer.pieces();
        let tokens = if let Some(usage) = answer.usage {
            self.prompt_tokens += usage.prompt_tokens;
            self.cached_tokens += usage.cached_tokens();
            usage.completion_tokens
        } else {
            self.uncounted += 1;
            answer.pieces()
        };
        self.output_tokens += tokens;
        self.whole.record(answer.whole);
        if let Some(first) = answer.first {
            self.first.record(first);
            if self.first_by_turn.len() <= turn {
                self.first_by_turn.resize_with(turn + 1, Times::default);
            }
            self.first_by_turn[turn].record(first);
            let spread = answer.last.saturating_sub(first);
            if let Some(per_token) = after_the_first(spread, tokens) {
                self.per_token.record(per_token);
            }
        }
        for gap in &answer.gaps {
            self.between.record(*gap);
        }
        let finish = answer.finish.as_deref().unwrap_or("none");
        let known = self.finishes.contains_key(finish) || self.finishes.len() < FINISHES_MAX;
        *self.finishes.entry(if known { finish } else { OTHER }.to_owned()).or_default() += 1;
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        self.failed += 1;
        let kind = failure.kind();
        let known = self.errors.contains_key(&kind) || self.errors.len() < KINDS_MAX;
        let kind = if known { kind } else { OTHER.into() };
        let errors = self
            .errors
            .entry(kind)
            .or_insert_with(|| Errors { count: 0, example: failure.to_string() });
        errors.count += 1;
    }
}

fn after_the_first(spread: Duration, tokens: u64) -> Option<Duration> {
    let more = u32::try_from(tokens.checked_sub(1)?).ok()?;
    spread.checked_div(more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut times = Times::default();
        assert!(times.summary().is_none());
        for time in (1..=1000).rev() {
            times.record(ms(time));
        }
        let summary = times.summary().unwrap();
        assert_eq!(summary.count, 1000);
        for (is, exact) in [
            (summary.min, 1.0),
            (summary.p50, 500.0),
            (summary.p95, 950.0),
            (summary.p99, 990.0),
            (summary.max, 1000.0),
            (summary.mean, 500.5),
        ] {
            assert!((is - exact).abs() <= exact / 1000.0, "{is} for {exact}");
        }
    }

    #[test]
    fn times_beyond_all_bounds_are_kept_as_the_bounds() {
        let mut times = Times::default();
        times.record(Duration::ZERO);
        times.record(Duration::MAX);
        let summary = times.summary().unwrap();
        assert_eq!(summary.count, 2);
        assert!(summary.min < 0.001 && summary.max > 1e7);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut stats = Stats::default();
        for kind in 0..2 * KINDS_MAX {
            let code = Some(format!("code_{kind}"));
            stats.fail(&Failure::Status { status: 500, code, message: "no".into() });
        }
        assert_eq!(stats.errors.len(), KINDS_MAX + 1);
        assert_eq!(stats.errors[OTHER].count, KINDS_MAX as u64);
        assert_eq!(stats.errors["http 500 code_0"].example, "500: no");
    }

    #[test]
    fn tokens_are_spread_over_the_time_after_the_first() {
        assert_eq!(after_the_first(ms(90), 10), Some(ms(10)));
        assert_eq!(after_the_first(ms(0), 1), None);
        assert_eq!(after_the_first(ms(0), 0), None);
    }
}
