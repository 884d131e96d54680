//! Sets of tokens.

use llguidance::toktrie::SimpleVob;

use crate::Vocabulary;

/// The tokens that may come next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mask(Option<SimpleVob>);

const BITS: usize = 32;

impl Mask {
    pub(super) fn all() -> Self {
        Self(None)
    }

    pub(super) fn some(tokens: SimpleVob) -> Self {
        Self(Some(tokens))
    }

    /// Adds the tokens that write this.
    pub(super) fn add(&mut self, vocabulary: &Vocabulary, writes: impl Fn(&[u8]) -> bool) {
        self.set(vocabulary, true, writes);
    }

    /// Takes the tokens away that write this.
    pub(super) fn remove(&mut self, vocabulary: &Vocabulary, writes: impl Fn(&[u8]) -> bool) {
        self.set(vocabulary, false, writes);
    }

    fn set(&mut self, vocabulary: &Vocabulary, to: bool, writes: impl Fn(&[u8]) -> bool) {
        let Some(set) = &mut self.0 else { return };
        for token in 0..u32::try_from(vocabulary.len()).unwrap_or(u32::MAX) {
            let text = vocabulary.text(token);
            if !text.is_empty() && writes(text) && !vocabulary.is_end(token) {
                set.set(token as usize, to);
            }
        }
    }

    pub(super) fn add_ends(&mut self, vocabulary: &Vocabulary) {
        if let Some(set) = &mut self.0 {
            set.or(&vocabulary.trie().eos_token_set());
        }
    }

    /// Whether every token may come.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this token may come.
    #[must_use]
    pub fn allows(&self, token: u32) -> bool {
        self.0.as_ref().is_none_or(|set| (token as usize) < set.len() && set.is_allowed(token))
    }

    /// The only token that may come, where there is just one: nothing need be drawn.
    #[must_use]
    pub fn only(&self) -> Option<u32> {
        let mut tokens = self.0.as_ref()?.iter();
        let first = tokens.next()?;
        tokens.next().is_none().then_some(first)
    }

    /// Sets the logits of all tokens that may not come to minus infinity. What lies beyond the
    /// vocabulary may not come.
    pub fn apply(&self, logits: &mut [f32]) {
        let Some(set) = &self.0 else { return };
        let words = set.as_slice().iter().copied().chain(std::iter::repeat(0));
        for (chunk, word) in logits.chunks_mut(BITS).zip(words) {
            match word {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        if word & (1 << bit) == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
    }
}

/// How many bytes of the marker the text ends with, without holding all of it.
pub(super) fn begun(text: &[u8], marker: &[u8]) -> usize {
    let most = text.len().min(marker.len().saturating_sub(1));
    (1..=most).rev().find(|n| text.ends_with(&marker[..*n])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_of_what_may_not_come_are_gone() {
        let mut set = SimpleVob::alloc(70);
        for token in [0, 33, 69] {
            set.allow_token(token);
        }
        for token in 32..64 {
            set.allow_token(token);
        }
        let mask = Mask::some(set);
        let mut logits = vec![1.0; 100];
        mask.apply(&mut logits);
        for (token, logit) in (0..).zip(&logits) {
            assert_eq!(*logit == 1.0, mask.allows(token), "{token}");
        }
        assert_eq!(logits.iter().filter(|l| **l == 1.0).count(), 34);
        assert_eq!(mask.only(), None);
        let mut all = vec![1.0; 3];
        Mask::all().apply(&mut all);
        assert_eq!(all, [1.0; 3]);
    }
}
