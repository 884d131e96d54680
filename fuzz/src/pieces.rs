//! Bytes in pieces, as a network might deliver them.

use crate::mutate::Random;

/// Bytes of a piece at most. Small: what goes wrong at a cut goes wrong at any.
const PIECE_BYTES_MAX: usize = 24;

/// All of `bytes`, cut at places that follow from them.
pub(crate) fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Random::new(hash(bytes));
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(PIECE_BYTES_MAX)));
        rest = after;
        Some(piece)
    })
}

/// The same for a text, cut between characters.
pub(crate) fn text_pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut random = Random::new(hash(text.as_bytes()));
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.ceil_char_boundary(1 + random.below(PIECE_BYTES_MAX));
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

/// FNV-1a: the same on every machine.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_pieces() {
        let text = "caf\u{e9} \u{1f44b} ".repeat(40);
        assert_eq!(pieces(text.as_bytes()).collect::<Vec<_>>().concat(), text.as_bytes());
        assert_eq!(text_pieces(&text).collect::<String>(), text);
        assert!(text_pieces(&text).count() > 10);
        assert_eq!(pieces(b"").count() + text_pieces("").count(), 0);
    }
}
