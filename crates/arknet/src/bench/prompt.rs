//! Prompts of a given length that no cache has seen.

/// Short words that almost every vocabulary holds as one token each.
const WORDS: &str = "able acid aged also area army away baby back ball band bank base bath bear \
    beat been beer bell belt best bill bird blow blue boat body bond bone book born boss both bowl \
    bulk burn busy call calm came camp card care case cash cast cell chat chip city club coal coat \
    code cold come cook cool cope copy core cost crew crop dark data date dawn days dead deal dear \
    debt deep deny desk diet disk does done door down draw drew drop drug dual duke dust duty each \
    earn ease east easy edge else even ever exit face fact fail fair fall farm fast fate fear feed \
    feel feet fell felt file fill film find fine fire firm fish five flat flow food foot form four \
    free from fuel full fund gain game gate gave gear";

/// A sequence of numbers that looks random and is the same for the same seed (SplitMix64).
pub(super) struct Numbers(u64);

impl Numbers {
    /// The sequence of one place in a run: neighbours have nothing in common.
    pub(super) fn new(seed: u64, place: u64) -> Self {
        let mut numbers = Self(seed);
        let start = numbers.next() ^ place.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// This many words with spaces between them.
    pub(super) fn words(&mut self, count: usize) -> String {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let mut text = String::with_capacity(count * 5);
        for place in 0..count {
            if place > 0 {
                text.push(' ');
            }
            // The remainder is below the number of words, so it is an index.
            let word = self.next() % words.len() as u64;
            text.push_str(words[usize::try_from(word).expect("an index")]);
        }
        text
    }
}

/// How a model counts the words of a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counting {
    /// Tokens that are there whatever is asked: the chat template's.
    fixed: f64,
    per_word: f64,
}

impl Counting {
    /// What is assumed of a server that does not say.
    pub(super) const ONE_EACH: Self = Self { fixed: 0.0, per_word: 1.0 };

    /// The line through two prompts, each so many words and so many tokens.
    pub(super) fn between(short: (usize, u64), long: (usize, u64)) -> Self {
        let words = long.0.saturating_sub(short.0).max(1) as f64;
        let per_word = (long.1 as f64 - short.1 as f64) / words;
        // A server that counts otherwise, such as without what it had cached, tells nothing.
        if !(0.1..=20.0).contains(&per_word) {
            return Self::ONE_EACH;
        }
        let fixed = (short.1 as f64 - per_word * short.0 as f64).max(0.0);
        Self { fixed, per_word }
    }

    /// Words for a part of a prompt that has so many tokens.
    pub(super) fn words(self, tokens: u32) -> usize {
        let words = (f64::from(tokens) / self.per_word).round().max(1.0);
        // At most ten words for each of a million tokens.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "see above")]
        let words = words as usize;
        words
    }

    /// Words for a prompt of so many tokens, with all that is there anyway.
    pub(super) fn words_of_all(self, tokens: u32) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "of a template"
        )]
        let fixed = self.fixed.round() as u32;
        self.words(tokens.saturating_sub(fixed).max(1))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_different_and_of_one_length() {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        assert!(words.iter().all(|word| word.len() == 4));
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
    }

    #[test]
    fn prompts_differ_from_their_beginning_and_can_be_made_again() {
        let beginnings: HashSet<String> =
            (0..10_000).map(|place| Numbers::new(7, place).words(8)).collect();
        assert_eq!(beginnings.len(), 10_000);
        assert_eq!(Numbers::new(7, 3).words(50), Numbers::new(7, 3).words(50));
        assert_ne!(Numbers::new(7, 3).words(50), Numbers::new(8, 3).words(50));
        assert_eq!(Numbers::new(7, 3).words(50).split(' ').count(), 50);
        assert_eq!(Numbers::new(7, 3).words(0), "");
    }

    #[test]
    fn two_prompts_tell_how_a_model_counts() {
        // A template of nine tokens, and a token for each letter and space.
        let counting = Counting::between((10, 59), (100, 509));
        assert_eq!(counting.words_of_all(509), 100);
        assert_eq!(counting.words(50), 10);
        assert_eq!(counting.words_of_all(3), 1);
        // A server that counts only what was new says nothing of use.
        assert_eq!(Counting::between((10, 50), (100, 4)), Counting::ONE_EACH);
        assert_eq!(Counting::ONE_EACH.words_of_all(64), 64);
    }
}
