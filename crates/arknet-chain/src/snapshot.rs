//! A state in parts, for who begins with it rather than with the genesis.

use arknet_types::{DecodeError, decode_list};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Hash, LightBlock,
    hash::Purpose,
    limits::{LIGHT_BLOCK_BYTES_MAX, SNAPSHOT_PART_BYTES_MAX, SNAPSHOT_PARTS_MAX},
};

/// What a snapshot consists of. Whoever gets one from a stranger believes none of it but what a
/// light client takes: the header, under whose root all values must come to stand.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The block after which this was the state.
    pub block: LightBlock,
    /// The hash of each part.
    #[borsh(deserialize_with = "decode_list::<_, _, SNAPSHOT_PARTS_MAX>")]
    pub parts: Vec<Hash>,
    /// Values in all parts.
    pub entries: u64,
}

/// Why a snapshot is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// More bytes than a part or a manifest may have.
    #[error("the snapshot has more bytes than it may have")]
    TooLarge,
    /// Not the bytes whose hash the manifest names.
    #[error("the part is not the one that the manifest names")]
    Hash,
    /// Not the encoding that is expected.
    #[error("the part cannot be read")]
    Malformed,
    /// Keys that do not rise.
    #[error("the keys of a snapshot must rise")]
    Order,
}

impl Manifest {
    /// Bytes of the largest one.
    pub const BYTES_MAX: usize = LIGHT_BLOCK_BYTES_MAX + 32 * SNAPSHOT_PARTS_MAX + 16;

    /// Reads one that a stranger sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(DecodeError::TooLarge { max: Self::BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }

    /// Checks the bytes of a part and reads them.
    pub fn part(&self, index: usize, bytes: &[u8]) -> Result<Part, SnapshotError> {
        if bytes.len() > SNAPSHOT_PART_BYTES_MAX {
            return Err(SnapshotError::TooLarge);
        }
        if self.parts.get(index) != Some(&Part::hash(bytes)) {
            return Err(SnapshotError::Hash);
        }
        let part: Part = arknet_types::decode(bytes).map_err(|_| SnapshotError::Malformed)?;
        if part.0.is_empty() || !part.0.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(SnapshotError::Order);
        }
        Ok(part)
    }
}

/// Keys and values of a state, in order.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct Part(
    #[borsh(deserialize_with = "decode_list::<_, _, SNAPSHOT_PART_BYTES_MAX>")]
    pub  Vec<(Vec<u8>, Vec<u8>)>,
);

impl Part {
    /// The name of a part's bytes.
    #[must_use]
    pub fn hash(bytes: &[u8]) -> Hash {
        Hash::of_bytes(Purpose::SNAPSHOT, bytes)
    }
}

/// Fills parts with a state that is read in order.
#[derive(Debug)]
pub struct PartBuilder {
    part: Part,
    bytes: usize,
}

/// Bytes of the number of entries.
const COUNT_BYTES: usize = 4;
/// Bytes of the lengths of a key and a value.
const LENGTHS_BYTES: usize = 8;

impl Default for PartBuilder {
    fn default() -> Self {
        Self { part: Part::default(), bytes: COUNT_BYTES }
    }
}

impl PartBuilder {
    /// Adds a value. Where it does not fit, the part that is full is returned.
    #[must_use]
    pub fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> Option<Vec<u8>> {
        let lengths = key.len().saturating_add(value.len());
        let bytes = lengths.saturating_add(LENGTHS_BYTES);
        let is_full = self.bytes.saturating_add(bytes) > SNAPSHOT_PART_BYTES_MAX;
        let full = if is_full { self.finish() } else { None };
        self.bytes = self.bytes.saturating_add(bytes);
        self.part.0.push((key, value));
        full
    }

    /// The part that is left, if anything is.
    #[must_use]
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let Self { part, .. } = std::mem::take(self);
        (!part.0.is_empty()).then(|| arknet_types::encode(&part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_full_as_they_may_be_and_never_fuller() {
        let mut builder = PartBuilder::default();
        let mut parts = Vec::new();
        for n in 0..3_000_u32 {
            parts.extend(builder.push(n.to_be_bytes().to_vec(), vec![7; 1_000]));
        }
        parts.extend(builder.finish());
        assert_eq!(builder.finish(), None);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| part.len() <= SNAPSHOT_PART_BYTES_MAX));
        assert!(parts[0].len() > SNAPSHOT_PART_BYTES_MAX - 1_012);
        let read: Vec<Part> =
            parts.iter().map(|part| arknet_types::decode(part).unwrap()).collect();
        let keys: Vec<u32> = read
            .iter()
            .flat_map(|part| &part.0)
            .map(|(key, _)| u32::from_be_bytes(key.as_slice().try_into().unwrap()))
            .collect();
        assert_eq!(keys, (0..3_000).collect::<Vec<_>>());
    }
}
