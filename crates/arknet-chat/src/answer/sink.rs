//! What leaves: replies, with the tokens they came from.

use arknet_types::{Reply, ToolCallPiece};

use crate::limits::PIECE_BYTES_MAX;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Text,
    Reasoning,
    Call,
}

/// Makes replies of pieces.
#[derive(Debug)]
pub(super) struct Sink {
    seed: u64,
    /// Tokens that came and were not told yet.
    owed: u32,
    calls: u16,
    last: Kind,
}

impl Sink {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, owed: 0, calls: 0, last: Kind::Text }
    }

    pub(super) fn owe(&mut self, tokens: u32) {
        self.owed = self.owed.saturating_add(tokens);
    }

    /// Calls that have begun.
    pub(super) fn calls(&self) -> u16 {
        self.calls
    }

    pub(super) fn text(&mut self, text: &str, out: &mut Vec<Reply>) {
        for text in pieces(text) {
            self.send(Kind::Text, text, out);
        }
    }

    pub(super) fn reasoning(&mut self, text: &str, out: &mut Vec<Reply>) {
        for text in pieces(text) {
            self.send(Kind::Reasoning, text, out);
        }
    }

    pub(super) fn arguments(&mut self, text: &str, out: &mut Vec<Reply>) {
        for text in pieces(text) {
            self.send(Kind::Call, text, out);
        }
    }

    /// Begins the next call.
    pub(super) fn begin_call(&mut self, name: &str, out: &mut Vec<Reply>) {
        let piece = ToolCallPiece {
            index: self.calls,
            id: Some(call_id(self.seed, self.calls)),
            name: Some(name.to_owned()),
            arguments: String::new(),
            tokens: std::mem::take(&mut self.owed),
        };
        self.calls = self.calls.saturating_add(1);
        self.last = Kind::Call;
        out.push(Reply::ToolCall(piece));
    }

    /// Tells of tokens that nothing was said for.
    pub(super) fn settle(&mut self, out: &mut Vec<Reply>) {
        if self.owed > 0 {
            self.send(self.last, "", out);
        }
    }

    fn send(&mut self, kind: Kind, text: &str, out: &mut Vec<Reply>) {
        let tokens = std::mem::take(&mut self.owed);
        let text = text.to_owned();
        self.last = kind;
        out.push(match kind {
            Kind::Text => Reply::Text { text, tokens },
            Kind::Reasoning => Reply::Reasoning { text, tokens },
            Kind::Call => Reply::ToolCall(ToolCallPiece {
                index: self.calls.saturating_sub(1),
                id: None,
                name: None,
                arguments: text,
                tokens,
            }),
        });
    }
}

/// A text in pieces that fit a reply.
fn pieces(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        let (piece, rest) = text.split_at(text.floor_char_boundary(PIECE_BYTES_MAX));
        text = rest;
        Some(piece)
    })
}

/// An id like those of OpenAI: the same for the same seed and place.
fn call_id(seed: u64, index: u16) -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    // SplitMix64, whose outputs differ in every bit for neighbouring states.
    let mut state = seed ^ (u64::from(index) << 48);
    let letters = (0..24).map(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        char::from(LETTERS[usize::try_from(z % 62).unwrap_or(0)])
    });
    format!("call_{}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_seed_and_place() {
        assert_eq!(call_id(1, 0), call_id(1, 0));
        assert_ne!(call_id(1, 0), call_id(1, 1));
        assert_ne!(call_id(1, 0), call_id(2, 0));
        let id = call_id(7, 3);
        assert!(id.starts_with("call_") && id.len() == 29);
        assert!(id[5..].bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn long_texts_leave_in_pieces() {
        let mut out = vec![];
        let mut sink = Sink::new(0);
        sink.owe(3);
        let text = "\u{e9}".repeat(PIECE_BYTES_MAX);
        sink.text(&text, &mut out);
        assert_eq!(out.len(), 2);
        let (texts, tokens): (Vec<_>, Vec<_>) = out
            .iter()
            .map(|reply| match reply {
                Reply::Text { text, tokens } => (text.as_str(), *tokens),
                _ => unreachable!(),
            })
            .unzip();
        assert_eq!((texts.concat(), tokens), (text, vec![3, 0]));
    }
}
