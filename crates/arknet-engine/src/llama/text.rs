//! From token bytes to text: whole characters only, and nothing of a stop sequence.

/// Puts the bytes of tokens together. Owns what may not be said yet: an incomplete character, and
/// text that may still turn out to be the beginning of a stop sequence.
#[derive(Debug)]
pub(crate) struct TextAssembly {
    stops: Vec<String>,
    /// Bytes at the end of the last token that are the beginning of a character. At most 3.
    bytes: Vec<u8>,
    /// Whole characters that may be the beginning of a stop sequence.
    held: String,
}

/// What one token added.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Piece {
    /// Text that may be said now.
    pub text: String,
    /// The stop sequence that was completed, by its number; then this is the last piece.
    pub stop: Option<usize>,
}

impl TextAssembly {
    pub(crate) fn new(stops: Vec<String>) -> Self {
        debug_assert!(stops.iter().all(|stop| !stop.is_empty()));
        Self { stops, bytes: Vec::new(), held: String::new() }
    }

    /// The same with more stop sequences after those it has. Nothing was pushed yet.
    pub(crate) fn with_more(mut self, stops: Vec<String>) -> Self {
        self.stops.extend(stops.into_iter().filter(|stop| !stop.is_empty()));
        self
    }

    /// Adds a token's bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Piece {
        self.bytes.extend_from_slice(bytes);
        let rest = take_whole_characters(&self.bytes, &mut self.held);
        self.bytes.drain(..self.bytes.len() - rest);
        self.release()
    }

    /// Ends the text: what was held back and is now known to be harmless.
    pub(crate) fn finish(&mut self) -> Piece {
        if !self.bytes.is_empty() {
            // The rest of the character will not come any more.
            self.bytes.clear();
            self.held.push(char::REPLACEMENT_CHARACTER);
        }
        let mut piece = self.release();
        if piece.stop.is_none() {
            piece.text.push_str(&self.held);
            self.held.clear();
        }
        piece
    }

    fn release(&mut self) -> Piece {
        // The stop that begins first wins; it is where the text ends.
        let found = (0..).zip(&self.stops).filter_map(|(n, stop)| Some((self.held.find(stop)?, n)));
        if let Some((at, stop)) = found.min() {
            self.held.truncate(at);
            return Piece { text: std::mem::take(&mut self.held), stop: Some(stop) };
        }
        let keep = self.longest_beginning_of_a_stop();
        let rest = self.held.split_off(self.held.len() - keep);
        Piece { text: std::mem::replace(&mut self.held, rest), stop: None }
    }

    /// Bytes at the end of the held text with which some stop sequence begins.
    fn longest_beginning_of_a_stop(&self) -> usize {
        self.stops
            .iter()
            .filter_map(|stop| {
                let most = self.held.len().min(stop.len() - 1);
                (1..=most)
                    .rev()
                    .filter(|n| stop.is_char_boundary(*n))
                    .find(|n| self.held.ends_with(&stop[..*n]))
            })
            .max()
            .unwrap_or(0)
    }
}

/// Appends the whole characters of `bytes` to `text`, with U+FFFD for what can never become one,
/// and says how many bytes at the end are an unfinished character.
fn take_whole_characters(mut bytes: &[u8], text: &mut String) -> usize {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(whole) => {
                text.push_str(whole);
                return 0;
            }
            Err(error) => {
                let (whole, rest) = bytes.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(whole).expect("checked up to here"));
                let Some(bad) = error.error_len() else {
                    return rest.len();
                };
                text.push(char::REPLACEMENT_CHARACTER);
                bytes = &rest[bad..];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs tokens through an assembly: the pieces, and whether it stopped.
    fn run<'a>(stops: &[&str], tokens: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, bool) {
        let mut assembly = TextAssembly::new(stops.iter().map(|s| (*s).into()).collect());
        let mut pieces = Vec::new();
        for token in tokens {
            let piece = assembly.push(token);
            pieces.push(piece.text);
            if piece.stop.is_some() {
                return (pieces, true);
            }
        }
        let last = assembly.finish();
        pieces.push(last.text);
        (pieces, last.stop.is_some())
    }

    #[test]
    fn a_character_is_held_back_until_it_is_whole() {
        let euro = "\u{20ac}".as_bytes();
        let (pieces, _) = run(&[], [b"a".as_slice(), &euro[..1], &euro[1..2], &euro[2..], b"b"]);
        assert_eq!(pieces, ["a", "", "", "\u{20ac}", "b", ""]);
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced_once_that_is_sure() {
        let (pieces, _) = run(&[], [b"a\xff".as_slice(), b"\xe2\x82", b"b", b"\xe2"]);
        assert_eq!(pieces, ["a\u{fffd}", "", "\u{fffd}b", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_is_found_across_tokens_and_not_said() {
        let (pieces, stopped) = run(&["STOP"], [b"xS".as_slice(), b"T", b"OPy"]);
        assert_eq!((pieces.concat().as_str(), stopped), ("x", true));
        let (pieces, stopped) = run(&["STOP"], [b"xS".as_slice(), b"T", b"Ax"]);
        assert_eq!(pieces, ["x", "", "STAx", ""]);
        assert!(!stopped);
        let (pieces, stopped) = run(&["STOP"], [b"xSTO".as_slice()]);
        assert_eq!((pieces.concat().as_str(), stopped), ("xSTO", false));
    }

    #[test]
    fn the_stop_that_begins_first_wins() {
        let (pieces, stopped) = run(&["bc", "abcd"], [b"xabc".as_slice()]);
        assert_eq!((pieces.concat().as_str(), stopped), ("xa", true));
        let (pieces, stopped) = run(&["bc", "abc"], [b"xabc".as_slice()]);
        assert_eq!((pieces.concat().as_str(), stopped), ("x", true));
        let mut assembly = TextAssembly::new(["bc", "abc", "ab"].map(String::from).to_vec());
        assert_eq!(assembly.push(b"xabc").stop, Some(1));
    }

    /// The text with everything from the first stop sequence on cut off.
    fn cut(text: &str, stops: &[String]) -> String {
        let end = stops.iter().filter_map(|s| text.find(s.as_str())).min();
        text[..end.unwrap_or(text.len())].to_owned()
    }

    fn split(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
        let mut at: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect()
    }

    proptest! {
        #[test]
        fn any_split_of_any_bytes_gives_what_the_whole_gives(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let tokens = split(&bytes, &cuts);
            let (pieces, stopped) = run(&[], tokens.iter().map(Vec::as_slice));
            prop_assert_eq!(pieces.concat(), String::from_utf8_lossy(&bytes));
            prop_assert!(!stopped);
        }

        /// A small alphabet, so that stops and their beginnings are frequent. One stop: which of
        /// several overlapping ones is seen first may depend on where tokens end.
        #[test]
        fn a_stop_is_never_said_and_nothing_else_is_lost(
            text in "[ab\u{e9}]{0,24}",
            stop in "[ab\u{e9}]{1,4}",
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let tokens = split(text.as_bytes(), &cuts);
            let (pieces, stopped) = run(&[&stop], tokens.iter().map(Vec::as_slice));
            prop_assert_eq!(pieces.concat(), cut(&text, std::slice::from_ref(&stop)));
            prop_assert_eq!(stopped, text.contains(&stop));
        }

        #[test]
        fn no_stop_of_several_is_ever_said(
            text in "[ab]{0,24}",
            stops in prop::collection::vec("[ab]{1,4}", 1..4),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let tokens = split(text.as_bytes(), &cuts);
            let names: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (pieces, stopped) = run(&names, tokens.iter().map(Vec::as_slice));
            let said = pieces.concat();
            prop_assert!(text.starts_with(&said));
            prop_assert!(stops.iter().all(|s| !said.contains(s.as_str())));
            prop_assert_eq!(stopped, stops.iter().any(|s| text.contains(s.as_str())));
        }
    }
}
