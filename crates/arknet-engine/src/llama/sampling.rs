//! The next token, from the model's opinion and the request's wishes.
//!
//! Our own and not the native chain of samplers: that one writes down a candidate of twelve bytes for
//! every token of the vocabulary at each step, on one thread, which is felt with many sequences; and
//! what a seed leads to must stay what it is, on every machine and when the library changes. So
//! weights are computed without the platform's mathematics, whose last bits differ.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

use arknet_chat::{Constraint, ConstraintError};
use arknet_types::{Refusal, RefusalCode, Sampling};

use super::native::Token;

/// A bias of -100 means never. Finite, so that forbidding every token is a poor wish and not a
/// division of zero by zero.
const NEVER: f32 = -1.0e9;
/// How far below the likeliest candidates are looked for, in steps, when only the likely ones are
/// needed. The last step is as far as weights go.
const DEPTHS: [f32; 4] = [6.0, 12.0, 24.0, EXPONENT_MIN];
/// Weights are zero from here on: e to the minus this is not drawn in the lifetime of the machine.
const EXPONENT_MIN: f32 = 80.0;
/// Weights that are added up together.
const BLOCK: usize = 256;
/// Told in place of a likelihood of zero, as others do.
const LOGPROB_MIN: f32 = -9999.0;

/// Draws tokens for one sequence.
pub(crate) struct Draw {
    sampling: Sampling,
    biases: Vec<(usize, f32)>,
    has_penalties: bool,
    /// How often each token was generated. Inputs do not count.
    used: BTreeMap<usize, u32>,
    random: Random,
    constraint: Option<Constraint>,
    logprobs: Option<u8>,
    weights: Vec<f32>,
}

/// A token that was drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Drawn {
    pub token: Token,
    /// Whether the answer must end after it.
    pub must_stop: bool,
    pub likelihood: Option<Likelihood>,
}

/// How likely a token was, and what else was likely.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Likelihood {
    pub logprob: f32,
    pub top: Vec<(Token, f32)>,
}

#[derive(Clone, Copy)]
struct Candidate {
    index: u32,
    logit: f32,
}

impl Draw {
    /// Sets up what a request asks for. `vocabulary` is the number of tokens.
    pub(crate) fn new(
        sampling: &Sampling,
        vocabulary: u32,
        constraint: Option<Constraint>,
        logprobs: Option<u8>,
    ) -> Result<Self, Refusal> {
        Ok(Self {
            biases: biases(sampling, vocabulary)?,
            has_penalties: sampling.repeat_penalty != 1.0
                || sampling.frequency_penalty != 0.0
                || sampling.presence_penalty != 0.0,
            used: BTreeMap::new(),
            random: Random(sampling.seed.unwrap_or_else(any_seed)),
            constraint,
            logprobs,
            weights: Vec::new(),
            sampling: sampling.clone(),
        })
    }

    /// Whether drawing takes long enough to be worth another thread.
    pub(crate) fn is_costly(&self) -> bool {
        self.sampling.temperature > 0.0 || self.constraint.is_some() || self.logprobs.is_some()
    }

    /// The token that follows, by these logits, which are changed.
    pub(crate) fn next(&mut self, logits: &mut [f32]) -> Result<Drawn, ConstraintError> {
        let raw = self.logprobs.map(|count| likelihoods(logits, usize::from(count)));
        self.adjust(logits);
        let mut only = None;
        if let Some(constraint) = &mut self.constraint {
            let mask = constraint.mask()?;
            only = mask.only().and_then(|token| usize::try_from(token).ok());
            if only.is_none() {
                mask.apply(logits);
            }
        }
        let before = raw.map(|raw| (raw, logits.len()));
        let index = match only {
            Some(index) => index,
            None if self.sampling.temperature <= 0.0 => likeliest(logits),
            None => self.draw(logits),
        };
        let likelihood = before.map(|(raw, _)| raw.of(index));
        let token = Token::try_from(index).map_err(|_| ConstraintError::Stuck)?;
        Ok(Drawn { token, must_stop: false, likelihood })
    }

    /// Goes on by a token that was drawn and does not end the answer. Whether the answer must end
    /// after it.
    pub(crate) fn accept(&mut self, token: Token) -> Result<bool, ConstraintError> {
        if self.has_penalties {
            *self.used.entry(usize::try_from(token).unwrap_or(0)).or_default() += 1;
        }
        let Some(constraint) = &mut self.constraint else {
            return Ok(false);
        };
        constraint.accept(u32::try_from(token).unwrap_or(u32::MAX))?;
        Ok(constraint.must_stop())
    }

    fn adjust(&self, logits: &mut [f32]) {
        for (index, bias) in &self.biases {
            logits[*index] += bias;
        }
        if !self.has_penalties {
            return;
        }
        let Sampling { repeat_penalty, frequency_penalty, presence_penalty, .. } = self.sampling;
        for (index, times) in &self.used {
            let logit = &mut logits[*index];
            // Divided where that makes it less likely, which below zero is the other way round.
            *logit = if *logit > 0.0 { *logit / repeat_penalty } else { *logit * repeat_penalty };
            *logit -= f32::from(u16::try_from(*times).unwrap_or(u16::MAX)) * frequency_penalty;
            *logit -= presence_penalty;
        }
    }

    fn draw(&mut self, logits: &[f32]) -> usize {
        let Sampling { temperature, top_p, top_k, min_p, .. } = self.sampling;
        let most = largest(logits);
        let chance = self.random.next();
        if top_k == 0 && top_p >= 1.0 {
            let least = if min_p > 0.0 { most + min_p.ln() } else { f32::NEG_INFINITY };
            let sums = weigh(logits, most, temperature, least, &mut self.weights);
            return pick(&self.weights, &sums, chance).unwrap_or_else(|| likeliest(logits));
        }
        // Of all tokens, or of the first `top_k` where that is asked for too.
        let mut total = None;
        let mut candidates = if top_k > 0 {
            let top_k = usize::try_from(top_k).unwrap_or(usize::MAX);
            top(logits, most, |some| some.len() >= top_k, Some(top_k))
        } else {
            let sums = weigh(logits, most, 1.0, f32::NEG_INFINITY, &mut self.weights);
            let all: f64 = sums.iter().sum();
            total = Some(all);
            let enough = all * f64::from(top_p);
            let weight = |c: &Candidate| f64::from(exp(c.logit - most));
            top(logits, most, |some| some.iter().map(weight).sum::<f64>() >= enough, None)
        };
        if top_p < 1.0 {
            keep_top_p(&mut candidates, most, top_p, total);
        }
        if min_p > 0.0 {
            let least = most + min_p.ln();
            candidates.retain(|c| c.logit >= least);
        }
        let few: Vec<f32> = candidates.iter().map(|c| c.logit).collect();
        let sums = weigh(&few, most, temperature, f32::NEG_INFINITY, &mut self.weights);
        let picked = pick(&self.weights, &sums, chance).and_then(|at| candidates.get(at));
        picked.map_or_else(|| likeliest(logits), |c| c.index as usize)
    }
}

/// How much each token weighs, relative to the likeliest, and the sums of blocks of them. What lies
/// below `least` weighs nothing.
fn weigh(
    logits: &[f32],
    most: f32,
    temperature: f32,
    least: f32,
    weights: &mut Vec<f32>,
) -> Vec<f64> {
    const LANES: usize = 8;
    let scale = 1.0 / temperature;
    weights.clear();
    weights.extend(logits.iter().map(|logit| {
        let weight = exp((logit - most) * scale);
        if *logit >= least { weight } else { 0.0 }
    }));
    let sum = |block: &[f32]| {
        let mut lanes = [0.0_f32; LANES];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, weight) in lanes.iter_mut().zip(chunk) {
                *lane += weight;
            }
        }
        chunks.remainder().iter().chain(&lanes).map(|weight| f64::from(*weight)).sum()
    };
    weights.chunks(BLOCK).map(sum).collect()
}

/// The one that a number between 0 and 1 falls on, when all lie side by side by their weights. None
/// when nothing weighs anything.
fn pick(weights: &[f32], sums: &[f64], chance: f64) -> Option<usize> {
    let mut left = chance * sums.iter().sum::<f64>();
    for (n, (block, sum)) in weights.chunks(BLOCK).zip(sums).enumerate() {
        if left >= *sum {
            left -= sum;
            continue;
        }
        let mut last = None;
        for (at, weight) in block.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = Some(n * BLOCK + at);
            left -= f64::from(*weight);
            if left < 0.0 {
                break;
            }
        }
        return last;
    }
    // Rounding went past the end.
    weights.iter().rposition(|weight| *weight > 0.0)
}

/// The likeliest tokens, likeliest first, equal ones in the order of their numbers: enough of them,
/// and at most so many.
fn top(
    logits: &[f32],
    most: f32,
    is_enough: impl Fn(&[Candidate]) -> bool,
    count: Option<usize>,
) -> Vec<Candidate> {
    let order = |a: &Candidate, b: &Candidate| {
        b.logit.total_cmp(&a.logit).then_with(|| a.index.cmp(&b.index))
    };
    let mut some: Vec<Candidate> = Vec::new();
    for depth in DEPTHS {
        let least = most - depth;
        some.clear();
        let likely = (0_u32..).zip(logits).filter(|(_, logit)| **logit >= least);
        some.extend(likely.map(|(index, logit)| Candidate { index, logit: *logit }));
        if is_enough(&some) {
            break;
        }
    }
    if let Some(count) = count.filter(|count| *count > 0 && *count < some.len()) {
        some.select_nth_unstable_by(count - 1, order);
        some.truncate(count);
    }
    some.sort_unstable_by(order);
    some
}

/// Keeps the likeliest that together have this share of the total, which is that of all candidates
/// where none is given. Sorted by likelihood.
fn keep_top_p(candidates: &mut Vec<Candidate>, most: f32, top_p: f32, total: Option<f64>) {
    let weight = |c: &Candidate| f64::from(exp(c.logit - most));
    let total = total.unwrap_or_else(|| candidates.iter().map(weight).sum());
    let enough = total * f64::from(top_p);
    let mut sum = 0.0;
    let mut count = 0;
    for candidate in candidates.iter() {
        sum += weight(candidate);
        count += 1;
        if sum >= enough {
            break;
        }
    }
    candidates.truncate(count.max(1));
}

/// e to the power of a number that is not above 0; 0 for what is far below, or no number. Written
/// in steps that the processor does for several numbers at once, and the same everywhere.
fn exp(x: f32) -> f32 {
    // Adding this rounds to a whole number, and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let is_weight = x > -EXPONENT_MIN;
    let x = if is_weight { x } else { 0.0 };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let r = (x - whole * LN_2_HIGH) - whole * LN_2_LOW;
    let series = 1.388_889e-3 * r + 8.333_333e-3;
    let series = ((series * r + 4.166_666_6e-2) * r + 0.166_666_67) * r + 0.5;
    let fraction = (series * r + 1.0) * r + 1.0;
    let power = f32::from_bits(fraction.to_bits().wrapping_add(rounded.to_bits() << 23));
    if is_weight { power } else { 0.0 }
}

fn biases(sampling: &Sampling, vocabulary: u32) -> Result<Vec<(usize, f32)>, Refusal> {
    let of = |bias: &arknet_types::LogitBias| {
        let index = usize::try_from(bias.token).ok().filter(|_| bias.token < vocabulary)?;
        Some((index, if bias.bias <= -100.0 { NEVER } else { bias.bias }))
    };
    let biases: Option<Vec<_>> = sampling.logit_bias.iter().map(of).collect();
    biases.ok_or_else(|| {
        Refusal::new(
            RefusalCode::InvalidRequest,
            format!("logit_bias names a token that the model's {vocabulary} tokens do not include"),
        )
    })
}

/// The largest number, in lanes that the processor compares at once.
fn largest(logits: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = logits.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, logit) in lanes.iter_mut().zip(chunk) {
            // Written so that what is no number changes nothing.
            *lane = if *logit > *lane { *logit } else { *lane };
        }
    }
    let rest = chunks.remainder().iter().chain(&lanes);
    rest.fold(f32::NEG_INFINITY, |most, logit| if *logit > most { *logit } else { most })
}

/// The first of the largest numbers.
fn likeliest(logits: &[f32]) -> usize {
    const LANES: usize = 16;
    let most = largest(logits);
    let has = |chunk: &[f32]| chunk.iter().fold(false, |has, logit| has | (*logit == most));
    let chunk = logits.chunks(LANES).position(has).unwrap_or(0) * LANES;
    let rest = logits.get(chunk..).unwrap_or_default();
    rest.iter().position(|logit| *logit == most).map_or(0, |at| chunk + at)
}

/// All likelihoods, before anything was changed.
struct Likelihoods {
    logits: Vec<f32>,
    /// What to subtract from a logit.
    total: f32,
    top: Vec<(Token, f32)>,
}

fn likelihoods(logits: &[f32], count: usize) -> Likelihoods {
    let most = largest(logits);
    let sum: f64 = weigh(logits, most, 1.0, f32::NEG_INFINITY, &mut Vec::new()).iter().sum();
    // A number of single precision is what a logit is.
    #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
    let total = most + sum.ln() as f32;
    let top = match count {
        0 => Vec::new(),
        count => top(logits, most, |some| some.len() >= count, Some(count)),
    };
    let mut all = Likelihoods { logits: logits.to_vec(), total, top: Vec::new() };
    all.top = top
        .iter()
        .filter_map(|c| Some((Token::try_from(c.index).ok()?, all.logprob(c.index as usize))))
        .collect();
    all
}

impl Likelihoods {
    /// Never no number, which no reply can carry.
    fn logprob(&self, index: usize) -> f32 {
        let logprob = self.logits.get(index).map_or(LOGPROB_MIN, |logit| logit - self.total);
        if logprob.is_nan() { LOGPROB_MIN } else { logprob.clamp(LOGPROB_MIN, 0.0) }
    }

    fn of(self, index: usize) -> Likelihood {
        Likelihood { logprob: self.logprob(index), top: self.top }
    }
}

/// Numbers that look random, and are the same for the same seed on every machine (SplitMix64). They
/// decide between words; secrets are made elsewhere.
struct Random(u64);

impl Random {
    /// From 0 to below 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let bits = (z ^ (z >> 31)) >> 11;
        // 53 bits are exactly what the type holds.
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// A seed nobody chose. It decides between words, so the hasher's randomness is good enough.
pub(crate) fn any_seed() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::LogitBias;
    use proptest::prelude::*;

    fn draw(sampling: &Sampling) -> Draw {
        Draw::new(sampling, 1000, None, None).unwrap()
    }

    fn sampling(temperature: f32) -> Sampling {
        Sampling { temperature, seed: Some(1), ..Sampling::default() }
    }

    /// How often each of four tokens is drawn of a thousand.
    fn counts(sampling: &Sampling, logits: [f32; 4]) -> [u32; 4] {
        let mut draw = draw(sampling);
        let mut counts = [0; 4];
        for _ in 0..1000 {
            let token = draw.next(&mut logits.clone()).unwrap().token;
            counts[usize::try_from(token).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_first_of_the_largest_wins() {
        assert_eq!(likeliest(&[0.0, 2.0, f32::NAN, 2.0]), 1);
        assert_eq!(likeliest(&[f32::NAN]), 0);
        assert_eq!(likeliest(&[]), 0);
        assert_eq!(likeliest(&[f32::NEG_INFINITY; 40]), 0);
        for at in [0, 15, 16, 39, 63] {
            let mut logits = [1.0; 64];
            logits[at] = 2.0;
            assert_eq!(likeliest(&logits), at);
        }
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let logits = [0.0, 2.0_f32.ln(), f32::NEG_INFINITY, 1.0_f32.ln()];
        let [a, b, c, d] = counts(&sampling(1.0), logits);
        assert!((200..300).contains(&a) && (450..550).contains(&b) && (200..300).contains(&d));
        assert_eq!(c, 0);
        let [_, cold, ..] = counts(&sampling(0.25), logits);
        assert!(cold > 850, "{cold}");
        assert_eq!(counts(&sampling(0.0), logits), [0, 1000, 0, 0]);
    }

    #[test]
    fn steps_keep_what_they_say() {
        let logits = [4.0_f32.ln(), 3.0_f32.ln(), 2.0_f32.ln(), 1.0_f32.ln()];
        let kept = |change: fn(&mut Sampling)| {
            let mut sampling = sampling(1.0);
            change(&mut sampling);
            counts(&sampling, logits).map(|count| count > 0)
        };
        assert_eq!(kept(|_| ()), [true; 4]);
        assert_eq!(kept(|s| s.top_k = 2), [true, true, false, false]);
        assert_eq!(kept(|s| s.top_p = 0.5), [true, true, false, false]);
        assert_eq!(kept(|s| s.top_p = 0.0), [true, false, false, false]);
        assert_eq!(kept(|s| s.min_p = 0.5), [true, true, true, false]);
        assert_eq!(kept(|s| s.min_p = 1.0), [true, false, false, false]);
    }

    #[test]
    fn penalties_count_what_was_generated() {
        let next = |change: fn(&mut Sampling), logits: [f32; 2]| {
            let mut sampling = sampling(0.0);
            change(&mut sampling);
            let mut draw = draw(&sampling);
            assert_eq!(draw.accept(0), Ok(false));
            draw.next(&mut logits.clone()).unwrap().token
        };
        assert_eq!(next(|_| (), [1.0, 0.9]), 0);
        assert_eq!(next(|s| s.presence_penalty = 0.2, [1.0, 0.9]), 1);
        assert_eq!(next(|s| s.frequency_penalty = 0.2, [1.0, 0.9]), 1);
        assert_eq!(next(|s| s.repeat_penalty = 1.2, [1.0, 0.9]), 1);
        assert_eq!(next(|s| s.repeat_penalty = 1.2, [-0.9, -1.0]), 1);
        assert_eq!(next(|s| s.repeat_penalty = 0.5, [0.9, 1.0]), 0);
    }

    #[test]
    fn seeds_decide_and_none_means_random() {
        let run = |seed| {
            let mut random = Random(seed);
            [random.next(), random.next()]
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(7 | 1 << 40));
        assert_ne!(any_seed(), any_seed());
        assert!((0..1000).all(|seed| (0.0..1.0).contains(&Random(seed).next())));
    }

    #[test]
    fn unknown_tokens_are_refused() {
        let mut sampling = sampling(0.0);
        for (token, is_known) in [(999, true), (1000, false), (u32::MAX, false)] {
            sampling.logit_bias = vec![LogitBias { token, bias: 1.0 }];
            let made = Draw::new(&sampling, 1000, None, None);
            match made.err() {
                None => assert!(is_known),
                Some(refusal) => {
                    assert!(!is_known);
                    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
                }
            }
        }
    }

    #[test]
    fn likelihoods_are_those_of_the_model_whatever_the_request_wishes() {
        let mut sampling = sampling(0.0);
        sampling.logit_bias = vec![LogitBias { token: 1, bias: -100.0 }];
        let mut draw = Draw::new(&sampling, 3, None, Some(2)).unwrap();
        let mut logits = [0.0, 3.0_f32.ln(), f32::NAN];
        let drawn = draw.next(&mut logits).unwrap();
        let likelihood = drawn.likelihood.unwrap();
        assert_eq!(drawn.token, 0);
        assert!((likelihood.logprob - 0.25_f32.ln()).abs() < 1e-6);
        assert_eq!(likelihood.top.iter().map(|(t, _)| *t).collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn the_exponential_is_one() {
        for n in 0..8000_u16 {
            let x = -f32::from(n) / 100.0;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= theirs * 1e-6, "{x}: {ours} {theirs}");
        }
        assert_eq!(exp(0.0), 1.0);
        for x in [-81.0, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(exp(x), 0.0);
        }
    }

    #[test]
    fn every_place_is_hit_by_its_share() {
        let mut weights = vec![0.0; 1000];
        for (at, weight) in [(0, 1.0), (255, 2.0), (256, 3.0), (999, 4.0)] {
            weights[at] = weight;
        }
        let sums: Vec<f64> =
            weights.chunks(BLOCK).map(|b| b.iter().map(|w| f64::from(*w)).sum()).collect();
        let hit = |chance| pick(&weights, &sums, chance).unwrap();
        assert_eq!([0.0, 0.09].map(hit), [0, 0]);
        assert_eq!([0.11, 0.29].map(hit), [255, 255]);
        assert_eq!([0.31, 0.59].map(hit), [256, 256]);
        assert_eq!([0.61, 0.99, 1.0].map(hit), [999, 999, 999]);
        assert_eq!(pick(&[0.0; 300], &[0.0; 2], 0.5), None);
    }

    #[test]
    fn a_small_share_of_a_large_vocabulary_is_the_likeliest_tokens() {
        let mut sampling = sampling(1.0);
        sampling.top_p = 0.4;
        let mut logits = vec![0.0_f32; 5000];
        logits[4000] = 8.0;
        let mut draw = Draw::new(&sampling, 5000, None, None).unwrap();
        let mut is_other = false;
        for _ in 0..200 {
            let token = draw.next(&mut logits.clone()).unwrap().token;
            is_other |= token != 4000;
            // 0.4 of the whole is 0.37 of this one and then the first of the equal ones.
            assert!(token == 4000 || token < 300, "{token}");
        }
        assert!(is_other);
    }

    proptest! {
        #[test]
        fn likelihoods_are_numbers_and_sum_to_one(
            logits in prop::collection::vec(
                prop_oneof![-50.0..50.0_f32, Just(f32::NEG_INFINITY)], 1..40),
        ) {
            let all = likelihoods(&logits, 50);
            let sum: f32 = all.top.iter().map(|(_, logprob)| logprob.exp()).sum();
            prop_assert!(all.top.iter().all(|(_, logprob)| logprob.is_finite()));
            let none = logits.iter().all(|l| *l == f32::NEG_INFINITY);
            prop_assert!(none || (sum - 1.0).abs() < 1e-3, "{sum}");
        }

        #[test]
        fn anything_gives_a_token(
            logits in prop::collection::vec(any::<f32>(), 1..80),
            temperature in 0.0..2.0_f32,
            top_k in 0..9_u32,
            top_p in 0.0..=1.0_f32,
            min_p in 0.0..=1.0_f32,
        ) {
            let sampling = Sampling { top_k, top_p, min_p, ..sampling(temperature) };
            let mut draw = Draw::new(&sampling, 80, None, Some(3)).unwrap();
            let mut changed = logits.clone();
            let drawn = draw.next(&mut changed).unwrap();
            prop_assert!(usize::try_from(drawn.token).unwrap() < logits.len());
            let likelihood = drawn.likelihood.unwrap();
            prop_assert!(!likelihood.logprob.is_nan());
        }
    }
}
