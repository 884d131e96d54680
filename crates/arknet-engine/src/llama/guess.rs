//! Guessing what comes next from what was there before: text that repeats itself (code that is
//! changed, quotations, forms) is computed several tokens at a time. A step gives the logits after
//! each guessed token too; tokens are drawn from them one after the other as if each had its own step,
//! until one is not the guessed one. So answers are what they are without guessing.
//!
//! A wrong guess costs the computing of a token. Whether that is worth it follows from how often this
//! answer's guesses were right, which is known without trying, and from what a step costs by itself.

use std::collections::HashMap;

use super::native::Token;

/// Tokens that must have been there before in the same order.
const GRAM: usize = 3;
/// Tokens guessed at once, when nobody asks for another number, at most.
pub(crate) const DRAFT_TOKENS_DEFAULT: u16 = 8;
/// How often the first guesses are taken to be right.
const RATE_FIRST: f64 = 0.3;
/// A guess must be worth this much more than it costs, at least: neither is known for sure, and what
/// is lost with many sequences is more than what is gained.
const WORTH_MIN: f64 = 1.3;
/// How much one guess counts among those before.
const RATE_STEP: f64 = 0.15;

/// Remembers what followed what in one answer and its input.
pub(crate) struct Guesser {
    /// Where what follows three tokens is, the last time they were there.
    seen: HashMap<[Token; GRAM], usize>,
    /// Tokens that were looked through.
    known: usize,
    /// How often guesses are right.
    rate: f64,
    next: Option<Token>,
}

impl Guesser {
    pub(crate) fn new() -> Self {
        Self { seen: HashMap::new(), known: GRAM, rate: RATE_FIRST, next: None }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    /// What may follow `held` and `last`, at most `count` tokens. What is held only grows.
    pub(crate) fn guess(&mut self, held: &[Token], last: Token, count: usize) -> Vec<Token> {
        let length = held.len() + 1;
        let text = |at: usize| held.get(at).copied().unwrap_or(last);
        let before = |end: usize| [text(end - 3), text(end - 2), text(end - 1)];
        while self.known < length {
            self.seen.insert(before(self.known), self.known);
            self.known += 1;
        }
        self.next = None;
        if length < GRAM {
            return Vec::new();
        }
        let Some(from) = self.seen.get(&before(length)).copied() else {
            return Vec::new();
        };
        let mut guessed: Vec<Token> = Vec::with_capacity(count);
        // What was guessed goes on repeating itself. Pictures have numbers that are no tokens.
        for at in from..from + count.max(1) {
            let token = if at < length { text(at) } else { guessed[at - length] };
            if token < 0 {
                break;
            }
            guessed.push(token);
        }
        self.next = guessed.first().copied();
        guessed.truncate(count);
        guessed
    }

    /// Hears what came: the tokens that were drawn in a step, of which `tried` were guessed. A guess
    /// that was not tried is judged too.
    pub(crate) fn hear(&mut self, drawn: &[Token], tried: usize) {
        let Some(next) = self.next.take() else {
            return;
        };
        if tried == 0 {
            self.judge(drawn.first() == Some(&next));
            return;
        }
        // The last one drawn followed the last right guess.
        let right = drawn.len().saturating_sub(1).min(tried);
        (0..right).for_each(|_| self.judge(true));
        if right < tried {
            self.judge(false);
        }
    }

    fn judge(&mut self, is_right: bool) {
        self.rate += RATE_STEP * (f64::from(u8::from(is_right)) - self.rate);
    }
}

/// How many tokens to guess: each must save more than it costs. With guesses that are right this
/// often, `sequences` that get a token in the same step, and a step that costs as much as computing
/// `step_tokens` tokens before it has computed any.
pub(crate) fn worthwhile(rate: f64, sequences: usize, step_tokens: f64, most: usize) -> usize {
    let share = u32::try_from(sequences.max(1)).map_or(0.0, |n| step_tokens / f64::from(n));
    let mut chance = rate;
    let mut count = 0;
    while count < most && chance * (1.0 + share) > WORTH_MIN {
        count += 1;
        chance *= rate;
    }
    count
}

/// What steps cost, learnt from those before.
pub(crate) struct Costs {
    /// Of the steps before, the newer ones weighing more: how many, the sums of their tokens, of their
    /// microseconds, of tokens squared and of tokens by microseconds.
    sums: [f64; 5],
    step_tokens: f64,
}

impl Costs {
    /// How much of the sums stays after each step.
    const STAYS: f64 = 0.99;
    /// Steps that must have been, about, and how different their tokens.
    const STEPS_MIN: f64 = 8.0;
    const VARIANCE_MIN: f64 = 0.2;
    /// Until then, and the least and the most that is believed.
    const STEP_TOKENS: f64 = 4.0;
    const STEP_TOKENS_MIN: f64 = 0.25;
    const STEP_TOKENS_MAX: f64 = 32.0;

    pub(crate) fn new() -> Self {
        Self { sums: [0.0; 5], step_tokens: Self::STEP_TOKENS }
    }

    /// A step is as dear as this many tokens before it has computed any.
    pub(crate) fn step_tokens(&self) -> f64 {
        self.step_tokens
    }

    /// Hears of a step of so many tokens.
    pub(crate) fn hear(&mut self, tokens: usize, us: u64) {
        let (Ok(tokens), Ok(us)) = (u32::try_from(tokens), u32::try_from(us)) else {
            return;
        };
        let (tokens, us) = (f64::from(tokens), f64::from(us));
        let more = [1.0, tokens, us, tokens * tokens, tokens * us];
        for (sum, more) in self.sums.iter_mut().zip(more) {
            *sum = *sum * Self::STAYS + more;
        }
        let [steps, x, y, xx, xy] = self.sums;
        let (mean_x, mean_y) = (x / steps, y / steps);
        let variance = xx / steps - mean_x * mean_x;
        if steps < Self::STEPS_MIN || variance < Self::VARIANCE_MIN {
            return;
        }
        let each = (xy / steps - mean_x * mean_y) / variance;
        if each > 0.0 {
            let step_tokens = mean_y / each - mean_x;
            self.step_tokens = step_tokens.clamp(Self::STEP_TOKENS_MIN, Self::STEP_TOKENS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guess(text: &[Token], count: usize) -> Vec<Token> {
        let (last, held) = text.split_last().unwrap();
        Guesser::new().guess(held, *last, count)
    }

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 3), [4, 5, 9]);
        assert_eq!(guess(&[1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3], 2), [5, 1], "the last time counts");
        assert_eq!(guess(&[7, 7, 7, 7], 5), [7; 5], "and goes on");
        assert_eq!(guess(&[1, 2, 1, 2, 1, 2], 5), [1, 2, 1, 2, 1]);
        assert_eq!(guess(&[1, 2, 3, -9, 1, 2, 3], 3), [0; 0], "a picture is no token");
        for text in [[1, 2, 3].as_slice(), &[1, 2], &[1], &[1, 2, 3, 4, 2, 3, 5]] {
            assert_eq!(guess(text, 3), [0; 0]);
        }
    }

    #[test]
    fn guesses_are_judged_without_trying() {
        let mut guesser = Guesser::new();
        let mut text = vec![5; 6];
        for _ in 0..20 {
            assert_eq!(guesser.guess(&text, 5, 0), [0; 0]);
            guesser.hear(&[5], 0);
            text.push(5);
        }
        assert!(guesser.rate() > 0.95);
        guesser.guess(&text, 5, 4);
        guesser.hear(&[5, 5, 8], 4);
        let after = guesser.rate();
        assert!(after < 0.9 && after > 0.8, "two right and one wrong: {after}");
        guesser.hear(&[5], 0);
        assert!((guesser.rate() - after).abs() < f64::EPSILON, "nothing was guessed");
    }

    #[test]
    fn guessing_must_pay() {
        // Alone, a step costs four times what a token does.
        assert_eq!([0.1, 0.3, 0.6, 0.9].map(|rate| worthwhile(rate, 1, 4.0, 8)), [0, 1, 2, 8]);
        // With many, each has little of it.
        assert_eq!([0.3, 0.6, 0.7, 0.99].map(|rate| worthwhile(rate, 4, 4.0, 8)), [0, 0, 1, 8]);
        assert_eq!(worthwhile(1.0, 16, 4.0, 3), 0);
        assert_eq!(worthwhile(1.0, 16, 0.0, 8), 0);
        assert_eq!(worthwhile(1.0, 1, 4.0, 0), 0);
    }

    #[test]
    fn costs_are_learnt() {
        let mut costs = Costs::new();
        for _ in 0..100 {
            costs.hear(1, 56_000);
        }
        assert!((costs.step_tokens() - Costs::STEP_TOKENS).abs() < 1e-9, "steps were all alike");
        for step in 0..200 {
            let tokens = 1 + step % 5;
            costs.hear(tokens, 45_000 + 9_000 * tokens as u64);
        }
        assert!((costs.step_tokens() - 5.0).abs() < 0.5, "{}", costs.step_tokens());
    }

    proptest! {
        /// Whatever was there, a guess is what the text says, and there is no end to it but the bound.
        #[test]
        fn a_guess_repeats_the_text(
            text in prop::collection::vec(0..3_i32, 1..60),
            count in 0..12_usize,
        ) {
            let mut guesser = Guesser::new();
            // Piece by piece as at once.
            for end in 1..text.len() {
                guesser.guess(&text[..end - 1], text[end - 1], count);
            }
            let (last, held) = text.split_last().unwrap();
            let guessed = guesser.guess(held, *last, count);
            prop_assert_eq!(&guessed, &guess(&text, count));
            prop_assert!(guessed.len() == count || guessed.is_empty());
            if let Some(first) = guessed.first() {
                let gram = &text[text.len() - 3..];
                let followed = text.windows(4).any(|four| four[..3] == *gram && four[3] == *first);
                prop_assert!(followed);
            }
        }

        #[test]
        fn costs_stay_within_what_is_believed(
            steps in prop::collection::vec((0..600_usize, 0..10_000_000_u64), 1..50),
        ) {
            let mut costs = Costs::new();
            for (tokens, us) in steps {
                costs.hear(tokens, us);
                let believed = Costs::STEP_TOKENS_MIN..=Costs::STEP_TOKENS_MAX;
                prop_assert!(believed.contains(&costs.step_tokens()));
            }
        }
    }
}
