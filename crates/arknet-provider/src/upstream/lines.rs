//! Lines and server-sent events, out of bytes that arrive in any pieces.

use super::limits::LINE_BYTES_MAX;

/// A line was longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a line has more than {LINE_BYTES_MAX} bytes")]
pub struct LineTooLong;

/// Splits bytes into lines. Holds at most one line that is not complete.
#[derive(Debug, Default)]
pub struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Calls `each` with every line that `bytes` completes, without its end. Stops where `each` says
    /// that it has seen enough.
    pub fn feed<E: From<LineTooLong>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            rest = &after[1..];
            if self.partial.len() + line.len() > LINE_BYTES_MAX {
                return Err(LineTooLong.into());
            }
            if self.partial.is_empty() {
                each(without_return(line))?;
            } else {
                self.partial.extend_from_slice(line);
                let whole = std::mem::take(&mut self.partial);
                each(without_return(&whole))?;
                // Its memory serves the next one.
                self.partial = whole;
                self.partial.clear();
            }
        }
        if self.partial.len() + rest.len() > LINE_BYTES_MAX {
            return Err(LineTooLong.into());
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// What is left at the end: a line without an end.
    #[must_use]
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.partial.is_empty()).then(|| {
            let line = std::mem::take(&mut self.partial);
            without_return(&line).to_vec()
        })
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The data in a line of an event stream. Comments, names of events and empty lines have none. All
/// servers we know put the whole of an event's data into one line.
#[must_use]
pub fn event_data(line: &[u8]) -> Option<&[u8]> {
    let data = line.strip_prefix(b"data:")?;
    Some(data.strip_prefix(b" ").unwrap_or(data).trim_ascii_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Lines::default();
        let mut found = vec![];
        for piece in pieces {
            lines.feed(piece, |line| {
                found.push(line.to_vec());
                Ok::<_, LineTooLong>(())
            })?;
        }
        found.extend(lines.rest());
        Ok(found)
    }

    #[test]
    fn a_line_may_have_the_limit_and_not_a_byte_more() {
        let line = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(split(&[&line, b"\n"]).unwrap(), std::slice::from_ref(&line));
        assert_eq!(split(&[&line, b"x"]), Err(LineTooLong));
        assert_eq!(split(&[&line, b"x\n"]), Err(LineTooLong));
    }

    #[test]
    fn events_have_data_and_all_else_has_none() {
        for (line, data) in [
            (&b"data: {}"[..], Some(&b"{}"[..])),
            (b"data:{}", Some(b"{}")),
            (b"data:", Some(b"")),
            (b": ping", None),
            (b"event: message_start", None),
            (b"", None),
            (b"retry: 10", None),
        ] {
            assert_eq!(event_data(line), data);
        }
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            text in "[a-c\r\n]{0,64}",
            cuts in proptest::collection::vec(0_usize..64, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut pieces = vec![];
            let mut start = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                pieces.push(&bytes[start..cut]);
                start = cut;
            }
            prop_assert_eq!(split(&pieces), split(&[bytes]));
        }
    }
}
