use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes do not follow the format, or a value in them is out of its bounds.
    #[error("malformed: {0}")]
    Malformed(String),
    /// More bytes than the limit for this kind.
    #[error("{found} bytes where at most {max} are allowed")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
        /// What was announced or found, in bytes.
        found: usize,
    },
}

/// The canonical bytes of a value (Borsh).
///
/// # Panics
/// Never for the types of this crate: writing to memory cannot fail, and the one float check Borsh
/// makes (no NaN) is made when our float fields are built.
#[must_use]
pub fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    const CHECKED: &str = "the value was checked when it was built";
    // As long as it is: thousands of small ones are made for a block and kept.
    let mut out = Vec::with_capacity(borsh::object_length(value).expect(CHECKED));
    borsh::to_writer(&mut out, value).expect(CHECKED);
    out
}

/// The value in `bytes`; bytes left over are an error.
pub fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    T::try_from_slice(bytes).map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// A value as a frame: length (u32, little endian), then the canonical bytes.
///
/// # Panics
/// When the value is larger than 4 GiB, which no checked value is.
#[must_use]
pub fn frame<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = vec![0; FrameHeader::BYTES];
    borsh::to_writer(&mut out, value).expect("the value was checked when it was built");
    let body = u32::try_from(out.len() - FrameHeader::BYTES).expect("a frame is far below 4 GiB");
    out[..FrameHeader::BYTES].copy_from_slice(&body.to_le_bytes());
    out
}

/// The length in front of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameHeader {
    /// Bytes that follow.
    pub body_bytes: usize,
}

impl FrameHeader {
    /// Bytes of the header itself.
    pub const BYTES: usize = 4;

    /// Reads the header and holds it against the limit, before any body byte is read.
    pub fn parse(bytes: [u8; Self::BYTES], body_bytes_max: usize) -> Result<Self, DecodeError> {
        let body_bytes = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        if body_bytes > body_bytes_max {
            return Err(DecodeError::TooLarge { max: body_bytes_max, found: body_bytes });
        }
        Ok(Self { body_bytes })
    }
}

/// Decodes a list of at most `MAX` items; a longer one is refused before its items are read.
pub fn list<R: io::Read, T: BorshDeserialize, const MAX: usize>(
    reader: &mut R,
) -> io::Result<Vec<T>> {
    let length = u32::deserialize_reader(reader)? as usize;
    if length > MAX {
        return Err(invalid(format!("a list of {length} where at most {MAX} are allowed")));
    }
    (0..length).map(|_| T::deserialize_reader(reader)).collect()
}

/// Decodes at most `MAX` bytes, all at once; a longer run is refused before it is read.
pub(crate) fn bytes<R: io::Read, const MAX: usize>(reader: &mut R) -> io::Result<Vec<u8>> {
    let length = u32::deserialize_reader(reader)? as usize;
    if length > MAX {
        return Err(invalid(format!("{length} bytes where at most {MAX} are allowed")));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Decodes a text of at most `MAX` bytes; a longer one is refused before it is read.
pub fn text<R: io::Read, const MAX: usize>(reader: &mut R) -> io::Result<String> {
    String::from_utf8(bytes::<_, MAX>(reader)?).map_err(|_| invalid("a text is not UTF-8"))
}

pub(crate) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_held_against_its_limit() {
        assert_eq!(FrameHeader::parse([4, 0, 0, 0], 4).unwrap(), FrameHeader { body_bytes: 4 });
        assert!(matches!(
            FrameHeader::parse([5, 0, 0, 0], 4),
            Err(DecodeError::TooLarge { max: 4, found: 5 })
        ));
        assert!(FrameHeader::parse([255; 4], 1 << 20).is_err());
    }

    #[test]
    fn left_over_bytes_are_refused() {
        assert!(decode::<u8>(&[1]).is_ok());
        assert!(decode::<u8>(&[1, 2]).is_err());
    }

    #[test]
    fn a_frame_is_its_length_and_its_bytes() {
        assert_eq!(frame(&0x0102_u16), [2, 0, 0, 0, 2, 1]);
    }
}
