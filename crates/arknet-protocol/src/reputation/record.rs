use std::collections::{BTreeMap, VecDeque};

use arknet_types::{PublicKey, Timestamp};
use serde::Serialize;

use super::{
    deed::Deed,
    stored::{StoredPeer, StoredRecent, StoredTally},
};

/// The score of a peer of which nothing is known.
pub(super) const NEUTRAL: f64 = 0.75;
/// How much that counts.
const NEUTRAL_WEIGHT: f64 = 3.0;
/// The most that all good of one kind can count, so that nobody is beyond doubt.
const GOOD_MAX: f64 = 10.0;
/// The most that all bad of one kind can count, so that nobody is beyond hope.
const BAD_MAX: f64 = 20.0;
/// Deeds that are remembered one by one.
const RECENT_MAX: usize = 32;

const fn weight_max(deed: Deed) -> f64 {
    if deed.weight() > 0.0 { GOOD_MAX } else { BAD_MAX }
}

/// What is known of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    tallies: BTreeMap<Deed, Tally>,
    recent: VecDeque<(Timestamp, Deed)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// How often, or for how many minutes.
    count: f64,
    /// What it counts, at `at`; never below zero.
    weight: f64,
    at: Timestamp,
}

impl Tally {
    fn weight(self, deed: Deed, now: Timestamp) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "the millisecond does not count")]
        let lives = now.since_ms(self.at) as f64 / deed.half_life_ms() as f64;
        self.weight * (-lives).exp2()
    }
}

/// What a score is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The score.
    pub score: f64,
    /// The score of a peer of which nothing is known, to which this one tends with time.
    pub neutral: f64,
    /// What counts, strongest first.
    pub counts: Vec<Counted>,
    /// The last deeds, newest first.
    pub recent: Vec<Recent>,
}

/// All deeds of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counted {
    /// The kind.
    pub deed: Deed,
    /// It in words.
    pub words: &'static str,
    /// How often it was seen; for presence and absence, in minutes.
    pub seen: f64,
    /// The last time, in milliseconds since the epoch.
    pub last_ms: u64,
    /// What it counts now: above zero for the peer, below zero against it.
    pub weight: f64,
    /// By how much it raises or lowers the score.
    pub effect: f64,
    /// After what time it counts half, in hours.
    pub half_life_h: u64,
}

/// One deed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Recent {
    /// When, in milliseconds since the epoch.
    pub at_ms: u64,
    /// What.
    pub deed: Deed,
}

impl Record {
    pub(super) fn add(&mut self, deed: Deed, times: f64, now: Timestamp) {
        let tally = self.tallies.entry(deed).or_default();
        let weight = tally.weight(deed, now) + deed.weight().abs() * times;
        *tally = Tally {
            count: tally.count + times,
            weight: weight.min(weight_max(deed)),
            // A clock that was set back must not make old weights grow.
            at: now.max(tally.at),
        };
        if deed.is_single() {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((now, deed));
        }
    }

    pub(super) fn score(&self, now: Timestamp) -> f64 {
        self.score_without(None, now)
    }

    /// All that is remembered, good and bad.
    pub(super) fn weight(&self, now: Timestamp) -> f64 {
        self.tallies.iter().map(|(deed, tally)| tally.weight(*deed, now)).sum()
    }

    fn score_without(&self, left_out: Option<Deed>, now: Timestamp) -> f64 {
        let (mut good, mut all) = (NEUTRAL * NEUTRAL_WEIGHT, NEUTRAL_WEIGHT);
        for (deed, tally) in &self.tallies {
            if left_out == Some(*deed) {
                continue;
            }
            let weight = tally.weight(*deed, now);
            all += weight;
            if deed.weight() > 0.0 {
                good += weight;
            }
        }
        good / all
    }

    pub(super) fn explain(&self, now: Timestamp) -> Explanation {
        let score = self.score(now);
        let mut counts: Vec<Counted> = self
            .tallies
            .iter()
            .map(|(deed, tally)| Counted {
                deed: *deed,
                words: deed.words(),
                seen: tally.count,
                last_ms: tally.at.0,
                weight: tally.weight(*deed, now).copysign(deed.weight()),
                effect: score - self.score_without(Some(*deed), now),
                half_life_h: deed.half_life_ms() / 3_600_000,
            })
            .collect();
        counts.sort_by(|a, b| b.effect.abs().total_cmp(&a.effect.abs()));
        let recent = self.recent.iter().rev();
        Explanation {
            score,
            neutral: NEUTRAL,
            counts,
            recent: recent.map(|(at, deed)| Recent { at_ms: at.0, deed: *deed }).collect(),
        }
    }

    pub(super) fn to_stored(&self, peer: &PublicKey) -> StoredPeer {
        let tally = |(deed, tally): (&Deed, &Tally)| StoredTally {
            deed: *deed,
            seen: tally.count,
            weight: tally.weight,
            at_ms: tally.at.0,
        };
        StoredPeer {
            peer: peer.to_string(),
            tallies: self.tallies.iter().map(tally).collect(),
            recent: self.recent.iter().map(|(at, deed)| StoredRecent(at.0, *deed)).collect(),
        }
    }

    pub(super) fn from_stored(stored: &StoredPeer, now: Timestamp) -> Self {
        let is_sane = |number: f64| number.is_finite() && number >= 0.0;
        let tallies = stored.tallies.iter().filter_map(|tally| {
            if !is_sane(tally.weight) || !is_sane(tally.seen) {
                return None;
            }
            let weight = tally.weight.min(weight_max(tally.deed));
            let at = Timestamp(tally.at_ms).min(now);
            Some((tally.deed, Tally { count: tally.seen, weight, at }))
        });
        let skipped = stored.recent.len().saturating_sub(RECENT_MAX);
        let recent = stored.recent.iter().skip(skipped);
        Self {
            tallies: tallies.collect(),
            recent: recent.map(|StoredRecent(at, deed)| (Timestamp(*at), *deed)).collect(),
        }
    }
}
