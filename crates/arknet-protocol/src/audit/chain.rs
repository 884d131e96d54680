use std::{fmt, str::FromStr};

use arknet_types::Timestamp;
use sha2::{Digest, Sha256};

use super::event::{Body, Event, rfc3339};

/// Bytes of a line's hash.
pub const HASH_BYTES: usize = 32;
/// What stands between the hashed part of a line and its hash.
pub(super) const BEFORE_HASH: &str = ",\"hash\":\"";
/// What follows the hash.
pub(super) const AFTER_HASH: &str = "\"}";

/// The end of a log: whoever knows it can tell that nothing up to here was taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// The number of the last line.
    pub sequence: u64,
    /// Its hash.
    pub hash: [u8; HASH_BYTES],
}

/// Why a text is no head.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a head is the number of a line, a colon, and its hash in 64 hex digits")]
pub struct HeadError;

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, hex::encode(self.hash))
    }
}

impl FromStr for Head {
    type Err = HeadError;

    fn from_str(text: &str) -> Result<Self, HeadError> {
        let (sequence, hash) = text.trim().split_once(':').ok_or(HeadError)?;
        let mut head = Self { sequence: sequence.parse().map_err(|_| HeadError)?, hash: [0; 32] };
        hex::decode_to_slice(hash, &mut head.hash).map_err(|_| HeadError)?;
        Ok(head)
    }
}

/// Makes the lines of one log.
#[derive(Clone, Debug)]
pub struct Chain {
    next: u64,
    previous: [u8; HASH_BYTES],
}

impl Chain {
    /// A log without a line.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, previous: [0; HASH_BYTES] }
    }

    /// Goes on after this line.
    #[must_use]
    pub const fn after(head: Head) -> Self {
        Self { next: head.sequence + 1, previous: head.hash }
    }

    /// The last line; none before the first.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let sequence = self.next.checked_sub(1)?;
        Some(Head { sequence, hash: self.previous })
    }

    /// The number of the line that comes next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The next line, with its end.
    pub fn append(&mut self, now: Timestamp, event: &Event) -> String {
        let body = Body {
            sequence: self.next,
            timestamp: rfc3339(now),
            event,
            previous: hex::encode(self.previous),
        };
        let mut line = serde_json::to_string(&body).expect("an event has a form in JSON");
        let end = line.pop();
        assert_eq!(end, Some('}'), "a line is an object");
        self.previous = Sha256::digest(&line).into();
        self.next += 1;
        line.push_str(BEFORE_HASH);
        line.push_str(&hex::encode(self.previous));
        line.push_str(AFTER_HASH);
        line.push('\n');
        line
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}
