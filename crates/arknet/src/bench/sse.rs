//! Server-sent events, as they come.

/// Bytes of one event: a token with twenty alternatives takes a few thousand.
const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Puts the events of a stream together from pieces that end anywhere.
#[derive(Default)]
pub(super) struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
}

/// An event that is larger than any a server has reason to send.
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge;

impl Events {
    /// Takes the next piece and gives the data of each event that it completes.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        mut event: impl FnMut(&[u8]),
    ) -> Result<(), TooLarge> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = piece.split_at(end);
            piece = &rest[1..];
            if self.line.is_empty() {
                self.line_of(line, &mut event)?;
            } else {
                self.line.extend_from_slice(line);
                let line = std::mem::take(&mut self.line);
                self.line_of(&line, &mut event)?;
            }
        }
        if self.line.len() + piece.len() > EVENT_BYTES_MAX {
            return Err(TooLarge);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn line_of(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) -> Result<(), TooLarge> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            if !self.data.is_empty() {
                event(&self.data);
                self.data.clear();
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            let data = data.strip_prefix(b" ").unwrap_or(data);
            if self.data.len() + data.len() >= EVENT_BYTES_MAX {
                return Err(TooLarge);
            }
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data);
        }
        // Names of events, their ids and comments that only keep a connection alive say nothing here.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let (mut events, mut parser) = (Vec::new(), Events::default());
        for piece in pieces {
            let take = |data: &[u8]| events.push(String::from_utf8_lossy(data).into_owned());
            parser.push(piece, take).unwrap();
        }
        events
    }

    #[test]
    fn events_are_what_their_data_lines_say() {
        for (stream, expected) in [
            ("data: a\n\ndata: b\n\n", &["a", "b"][..]),
            ("data:a\r\n\r\n", &["a"]),
            ("event: x\nid: 1\ndata: a\n\n: alive\n\n", &["a"]),
            ("data: a\ndata: b\n\n", &["a\nb"]),
            ("data: a\n", &[]),
            ("\n\n\n", &[]),
        ] {
            assert_eq!(events([stream.as_bytes()]), expected, "{stream:?}");
        }
    }

    #[test]
    fn an_event_without_end_is_given_up() {
        let mut parser = Events::default();
        assert_eq!(parser.push(&vec![b'x'; EVENT_BYTES_MAX], |_| ()), Ok(()));
        assert_eq!(parser.push(b"x", |_| ()), Err(TooLarge));
        let mut parser = Events::default();
        let line = [b"data: ".as_slice(), &vec![b'x'; EVENT_BYTES_MAX / 2], b"\n"].concat();
        assert_eq!(parser.push(&line, |_| ()), Ok(()));
        assert_eq!(parser.push(&line, |_| ()), Err(TooLarge));
    }

    proptest! {
        #[test]
        fn where_pieces_end_does_not_matter(
            stream in "(data: [a-z]{0,5}\r?\n|\n|: x\n|event: y\n){0,20}",
            cuts in proptest::collection::vec(1usize..7, 1..60),
        ) {
            let whole = events([stream.as_bytes()]);
            let (mut rest, mut pieces) = (stream.as_bytes(), Vec::new());
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(events(pieces), whole);
        }
    }
}
