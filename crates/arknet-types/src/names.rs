use std::{fmt, io, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::limits::{
    MODEL_NAME_BYTES_MAX, NETWORK_ID_BYTES_MAX, NODE_ID_BYTES_MAX, REGISTRY_NAME_BYTES_MAX,
};

/// Why a text is not a name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// A character outside the allowed set.
    #[error("{what} may not contain {found:?}")]
    Character {
        /// What was being named.
        what: &'static str,
        /// The character.
        found: char,
    },
    /// Not a digest in the form `sha256:` and 64 hex digits.
    #[error("a digest is written as sha256: and 64 hex digits")]
    Digest,
    /// Empty, or longer than the limit.
    #[error("{what} must have 1 to {max} bytes")]
    Length {
        /// What was being named.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(BorshSerialize, Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and wraps it.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if text.is_empty() || text.len() > $max {
                    return Err(NameError::Length { what: $what, max: $max });
                }
                let allowed: fn(char) -> bool = $allowed;
                match text.chars().find(|c| !allowed(*c)) {
                    Some(found) => Err(NameError::Character { what: $what, found }),
                    None => Ok(Self(text)),
                }
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl BorshDeserialize for $name {
            fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
                Self::new(String::deserialize_reader(reader)?)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name!(
    /// The name of a model as people write it: `Qwen/Qwen3-0.6B-Q8_0`, `llama3.1:8b`.
    ModelName,
    "a model name",
    MODEL_NAME_BYTES_MAX,
    |c| c.is_ascii_graphic() && c != '\\' && c != '"'
);

name!(
    /// Which network a signature is for; the `chain_id` of `seeds.json`.
    NetworkId,
    "a network id",
    NETWORK_ID_BYTES_MAX,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
);

name!(
    /// What a node calls itself: `ark-kitchen-x7f3qa`. A label for people; who a node is, its peer
    /// key alone says. It fits into one label of DNS.
    NodeId,
    "a node id",
    NODE_ID_BYTES_MAX,
    |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
);

impl NodeId {
    /// The label of a node that was given none: its host's name and the end of its peer id.
    #[must_use]
    pub fn of(host: &str, peer: &crate::PublicKey) -> Self {
        let id = peer.peer_id().to_ascii_lowercase();
        let end = &id[id.len() - 6..];
        let host = host.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let host: String =
            host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let host = host.trim_matches('-');
        let host = &host[..host.len().min(NODE_ID_BYTES_MAX - 12)];
        let between = if host.is_empty() { "" } else { "-" };
        Self(format!("ark-{host}{between}{end}"))
    }
}

name!(
    /// The host of a registry as it stands in its URL, without the port: whom a signature is for.
    RegistryName,
    "the name of a registry",
    REGISTRY_NAME_BYTES_MAX,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':' | '[' | ']')
);

/// SHA-256 of a model file: the model's identity, whatever it is called.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ModelDigest(pub [u8; 32]);

impl ModelName {
    /// The digest, where this names a model by its digest.
    #[must_use]
    pub fn digest(&self) -> Option<ModelDigest> {
        self.0.starts_with("sha256:").then(|| self.0.parse().ok())?
    }
}

impl fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for ModelDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ModelDigest {
    type Err = NameError;

    /// Reads `sha256:` and 64 hex digits; the prefix may be left out.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| NameError::Digest)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ModelDigest {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ModelDigest> for String {
    fn from(digest: ModelDigest) -> Self {
        digest.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_when_decoded() {
        let good = ModelName::new("Qwen/Qwen3-0.6B-Q8_0").unwrap();
        assert_eq!(crate::decode::<ModelName>(&crate::encode(&good)).unwrap(), good);
        for bad in ["", "a b", "a\nb", "a\"b"] {
            assert!(ModelName::new(bad).is_err(), "{bad:?}");
            assert!(crate::decode::<ModelName>(&crate::encode(&bad)).is_err(), "{bad:?}");
        }
        assert!(ModelName::new("a".repeat(MODEL_NAME_BYTES_MAX)).is_ok());
        assert!(ModelName::new("a".repeat(MODEL_NAME_BYTES_MAX + 1)).is_err());
        assert!(NetworkId::new("a".repeat(NETWORK_ID_BYTES_MAX)).is_ok());
        assert!(NetworkId::new("a".repeat(NETWORK_ID_BYTES_MAX + 1)).is_err());
        assert!(NetworkId::new("Upper").is_err());
    }

    #[test]
    fn a_node_without_a_label_is_called_after_its_host_and_key() {
        let peer = crate::KeyPair::from_seed(&[9; 32]).public();
        let end = peer.peer_id().to_ascii_lowercase().split_off(46);
        let cases = [
            ("Kitchen.local", format!("ark-kitchen-{end}")),
            ("", format!("ark-{end}")),
            ("-a b\u{fc}_c-", format!("ark-abc-{end}")),
            (&"x".repeat(300), format!("ark-{}-{end}", "x".repeat(51))),
        ];
        for (host, expected) in cases {
            let id = NodeId::of(host, &peer);
            assert_eq!(id.as_str(), expected);
            assert_eq!(NodeId::new(expected), Ok(id));
        }
        for bad in ["", "a b", "a/b", "<a>", "a(b)", "\u{e9}", &"a".repeat(64)] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = ModelDigest([7; 32]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(ModelName::new(digest.to_string()).unwrap().digest(), Some(digest));
        assert_eq!(ModelName::new("sha256:12").unwrap().digest(), None);
        assert_eq!(ModelName::new("0".repeat(64)).unwrap().digest(), None, "the prefix tells");
        assert_eq!("sha256:12".parse::<ModelDigest>(), Err(NameError::Digest));
    }
}
