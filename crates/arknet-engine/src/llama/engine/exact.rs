//! Whether a model computes the same bits in every division of the work. The profile that promises
//! it is known to keep the promise with many models; each is asked before it is believed.

use super::{super::native::Token, Engine, place::number};

/// Tokens of the text it is tried with.
const TOKENS: usize = 24;
/// Tokens at its end that are compared.
const COMPARED: usize = 4;

impl Engine {
    /// Reads a text at once, token by token, and beside another, and compares the logits.
    pub(crate) fn is_exact(&mut self) -> bool {
        let room = self.running.plan.context_tokens as usize;
        let text = self.any_tokens(TOKENS.min(room), 7919);
        let from = text.len().saturating_sub(COMPARED);
        let Some(whole) = self.read(&text, 0, from, &[]) else {
            return false;
        };
        let mut single = Vec::new();
        let first = self.read(&text[..from], 0, from, &[]);
        for (n, token) in text.iter().enumerate().skip(from) {
            single.extend(self.read(&[*token], n, 0, &[]).into_iter().flatten());
        }
        let mut is_exact = first.is_some() && single == whole;
        if self.slots.len() > 1 {
            let other = self.any_tokens(TOKENS.min(room), 104_729);
            self.context.cut(number(0), 0);
            is_exact &= self.read(&text, 0, from, &other) == Some(whole);
        }
        for slot in 0..self.slots.len().min(2) {
            self.context.cut(number(slot), 0);
        }
        is_exact
    }

    /// Any tokens, always the same.
    fn any_tokens(&self, count: usize, step: u32) -> Vec<Token> {
        let vocabulary = self.context.model().n_vocab().max(1);
        let token = |n: u32| Token::try_from(n.wrapping_mul(step) % vocabulary).unwrap_or(0);
        (1..).take(count).map(token).collect()
    }

    /// Reads tokens into the first slot, from a position on, beside others in the second. Gives the
    /// bits of the logits after each token from `asked` on.
    fn read(
        &mut self,
        tokens: &[Token],
        position: usize,
        asked: usize,
        beside: &[Token],
    ) -> Option<Vec<Vec<u32>>> {
        if position == 0 {
            self.context.cut(number(0), 0);
        }
        self.context.clear_batch();
        let mut rows = Vec::new();
        for (n, token) in tokens.iter().enumerate() {
            if n >= asked {
                rows.push(n);
            }
            self.context.push(*token, i32::try_from(position + n).ok()?, 0, n >= asked);
        }
        for (n, token) in beside.iter().enumerate() {
            self.context.push(*token, i32::try_from(n).ok()?, 1, false);
        }
        self.context.decode(&|| false).ok()?;
        let logits = self.context.logits(&rows)?;
        let bits = |row: &mut [f32]| row.iter().map(|logit| logit.to_bits()).collect();
        Some(logits.into_iter().map(bits).collect())
    }

    /// Notes what follows from what a slot holds.
    #[cfg(test)]
    pub(super) fn note(&mut self, rows: &[(usize, std::ops::Range<usize>)]) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let numbers: Vec<usize> = rows.iter().map(|(_, rows)| rows.start).collect();
        let logits = self.context.logits(&numbers).unwrap();
        let mut seen = self.shared.seen.lock().unwrap();
        for ((slot, _), logits) in rows.iter().zip(logits) {
            let mut hasher = DefaultHasher::new();
            for logit in logits {
                logit.to_bits().hash(&mut hasher);
            }
            seen.entry(self.slots[*slot].held.clone()).or_default().insert(hasher.finish());
        }
    }
}
