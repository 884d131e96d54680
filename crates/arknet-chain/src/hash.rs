use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// A BLAKE3 hash of 32 bytes, in text 64 hex digits.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Default,
    Deserialize,
    Eq,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// 32 zero bytes: the root of an empty tree, the parent of the first block's parent.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of the canonical bytes of `value` under `purpose`, which keeps hashes of different
    /// things apart.
    #[must_use]
    pub fn of<T: BorshSerialize + ?Sized>(purpose: Purpose, value: &T) -> Self {
        Self::of_bytes(purpose, &arknet_types::encode(value))
    }

    /// The hash of `bytes` under `purpose`.
    #[must_use]
    pub fn of_bytes(purpose: Purpose, bytes: &[u8]) -> Self {
        Self(*blake3::keyed_hash(&purpose.key(), bytes).as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", hex::encode(&self.0[..4]))
    }
}

/// Why a text is no hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a hash is written as 64 hex digits")]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotAHash)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Hash {
    type Error = NotAHash;

    fn try_from(text: String) -> Result<Self, NotAHash> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// What is hashed. Each purpose keys BLAKE3 with its name, so that a hash of one kind never passes
/// for one of another, and two hashes still fit one block of the hash function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Purpose(&'static str);

impl Purpose {
    /// A channel's payer and the nonce that opened it: its name.
    pub const CHANNEL: Self = Self("arknet/channel/1");
    /// An escrow's payer and job: its name.
    pub const ESCROW: Self = Self("arknet/escrow/1");
    /// A block's header.
    pub const HEADER: Self = Self("arknet/header/1");
    /// A list of things inside a block.
    pub const BODY: Self = Self("arknet/body/1");
    /// The genesis document.
    pub const GENESIS: Self = Self("arknet/genesis/1");
    /// The count of a block's outcomes and the hash over all of them.
    pub const OUTCOMES: Self = Self("arknet/outcomes/1");
    /// What became of a transaction.
    pub const OUTCOME_LEAF: Self = Self("arknet/outcome-leaf/1");
    /// A fork of the tree over outcomes.
    pub const OUTCOME_FORK: Self = Self("arknet/outcome-fork/1");
    /// What runs in an enclave, where its vendor says it in more than 32 bytes.
    pub const MEASUREMENT: Self = Self("arknet/measurement/1");
    /// An enclave's quote, or what it is checked with.
    pub const QUOTE: Self = Self("arknet/quote/1");
    /// A part of a snapshot of the state.
    pub const SNAPSHOT: Self = Self("arknet/snapshot/1");
    /// A state key, which gives its place in the tree.
    pub const STATE_KEY: Self = Self("arknet/state-key/1");
    /// A leaf of the state tree.
    pub const STATE_LEAF: Self = Self("arknet/state-leaf/1");
    /// A fork of the state tree.
    pub const STATE_FORK: Self = Self("arknet/state-fork/1");
    /// A state value.
    pub const STATE_VALUE: Self = Self("arknet/state-value/1");
    /// What a transaction's signature covers.
    pub const TRANSACTION: Self = Self("arknet/transaction/1");
    /// The name of a transaction: its signature included.
    pub const TRANSACTION_ID: Self = Self("arknet/transaction-id/1");
    /// A set of validators.
    pub const VALIDATORS: Self = Self("arknet/validators/1");

    /// The name, filled up with zeros.
    const fn key(self) -> [u8; 32] {
        let (name, mut key, mut at) = (self.0.as_bytes(), [0; 32], 0);
        while at < name.len() {
            key[at] = name[at];
            at = at.wrapping_add(1);
        }
        key
    }
}
