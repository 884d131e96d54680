use std::io::{self, Read};

use super::GgufError;

/// Reads little-endian values and knows how far the file goes.
pub(super) struct Reader<R> {
    source: R,
    length: u64,
    position: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(source: R, length: u64) -> Self {
        Self { source, length, position: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes the file has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        self.advance(N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(|error| self.io(error))?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// A number of things that follow, at most `max`.
    pub(super) fn count(&mut self, what: &'static str, max: u64) -> Result<u64, GgufError> {
        match self.u64()? {
            found if found > max => Err(GgufError::Absurd { what, found }),
            count => Ok(count),
        }
    }

    /// A text of at most `max` bytes.
    pub(super) fn text(&mut self, what: &'static str, max: u64) -> Result<String, GgufError> {
        let length = self.count(what, max)?;
        self.text_of(length)?.ok_or(GgufError::Text { what })
    }

    /// A text of `length` bytes; none when it is no text.
    pub(super) fn text_of(&mut self, length: u64) -> Result<Option<String>, GgufError> {
        self.advance(length)?;
        let mut bytes = Vec::new();
        let read = self.source.by_ref().take(length).read_to_end(&mut bytes);
        if read.map_err(|error| self.io(error))? as u64 != length {
            return Err(self.io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(String::from_utf8(bytes).ok())
    }

    /// Passes over bytes without keeping them.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), GgufError> {
        self.advance(bytes)?;
        // Most of what is passed over are words of a vocabulary, a few bytes each.
        let mut passed = [0; 256];
        let mut left = bytes;
        while left > 0 {
            let now = usize::try_from(left).map_or(passed.len(), |n| n.min(passed.len()));
            self.source.read_exact(&mut passed[..now]).map_err(|error| self.io(error))?;
            left -= now as u64;
        }
        Ok(())
    }

    /// Moves the position, before anything is read or allocated for it.
    fn advance(&mut self, bytes: u64) -> Result<(), GgufError> {
        let needed = self.position.saturating_add(bytes);
        if needed > self.length {
            return Err(GgufError::Truncated { length: self.length, needed });
        }
        self.position = needed;
        Ok(())
    }

    /// A source that ends before the length it was said to have shrank while we read it.
    fn io(&self, error: io::Error) -> GgufError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            GgufError::Truncated { length: self.length, needed: self.position }
        } else {
            GgufError::Io(error)
        }
    }
}
