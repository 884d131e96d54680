use std::{fmt, str::FromStr};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Why bytes or text are not a key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not an address in the form `0x` and 40 hex digits.
    #[error("an address is written as 0x and 40 hex digits")]
    Address,
    /// Key files have 64 bytes: the seed, then the public key.
    #[error("a key file has 64 bytes (seed, then public key), this one has {found}")]
    Length {
        /// Bytes found.
        found: usize,
    },
    /// The public half does not belong to the seed: the file is damaged.
    #[error("the public half of the key does not belong to its seed; the file is damaged")]
    Mismatch,
    /// Not a peer's key in any of the forms in which one may be written.
    #[error(
        "not a peer's key: write its peer id (12D3Koo..), or its 32 bytes in base64 or hex digits"
    )]
    PeerKey,
    /// Not a libp2p peer id of an Ed25519 key.
    #[error("not the peer id of an Ed25519 key (it starts with 12D3Koo)")]
    PeerId,
}

/// What a signature is for. Each kind of signed structure has its own tag, so that a signature over
/// one can never be taken for a signature over another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Domain(&'static str);

impl Domain {
    /// How a channel closes, signed by either side of it.
    pub const CHANNEL_CLOSE: Self = Self("arknet/channel-close/1");
    /// A consensus proposal, signed by a validator.
    pub const CONSENSUS_PROPOSAL: Self = Self("arknet/consensus-proposal/1");
    /// A consensus vote, signed by a validator.
    pub const CONSENSUS_VOTE: Self = Self("arknet/consensus-vote/1");
    /// A session delegation, signed by a wallet.
    pub const DELEGATION: Self = Self("arknet/delegation/1");
    /// An offer, signed by a peer.
    pub const OFFER: Self = Self("arknet/offer/1");
    /// What a node tells a registry, signed by the peer.
    pub const REGISTRY_ENTRY: Self = Self("arknet/registry/entry/1");
    /// A node's leaving of a registry, signed by the peer.
    pub const REGISTRY_WITHDRAWAL: Self = Self("arknet/registry/withdrawal/1");
    /// A request, signed by a session.
    pub const REQUEST: Self = Self("arknet/request/1");
    /// The digest of a transaction, signed by the account that pays for it.
    pub const TRANSACTION: Self = Self("arknet/transaction/1");
    /// What was paid in a channel, signed by its payer or a session.
    pub const VOUCHER: Self = Self("arknet/voucher/1");
    /// What was done for whom, signed by both.
    pub const WORK_RECEIPT: Self = Self("arknet/work-receipt/1");

    /// The bytes that are signed: the tag, a zero byte, the canonical bytes of the value.
    #[must_use]
    pub fn message<T: BorshSerialize>(self, value: &T) -> Vec<u8> {
        let mut message = Vec::with_capacity(256);
        message.extend_from_slice(self.0.as_bytes());
        message.push(0);
        borsh::to_writer(&mut message, value).expect("the value was checked when it was built");
        message
    }
}

/// An Ed25519 public key: of a peer, a wallet or a session.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey(pub [u8; 32]);

/// How libp2p wraps an Ed25519 key into a peer id: identity multihash (0x00) of 36 bytes of
/// protobuf (type Ed25519, 32 bytes of key).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PublicKey {
    /// The wallet address of this key: the first 20 bytes of its BLAKE3 hash.
    #[must_use]
    pub fn address(&self) -> Address {
        let mut address = [0; 20];
        address.copy_from_slice(&blake3::hash(&self.0).as_bytes()[..20]);
        Address(address)
    }

    /// The libp2p peer id of this key, in text.
    #[must_use]
    pub fn peer_id(&self) -> String {
        bs58::encode(self.peer_id_bytes()).into_string()
    }

    /// The libp2p peer id of this key, in bytes.
    #[must_use]
    pub fn peer_id_bytes(&self) -> [u8; 38] {
        let mut bytes = [0; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        bytes
    }

    /// The key inside the bytes of a libp2p peer id.
    pub fn from_peer_id_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let key = bytes.strip_prefix(&PEER_ID_PREFIX).ok_or(KeyError::PeerId)?;
        key.try_into().map(Self).map_err(|_| KeyError::PeerId)
    }

    /// The key inside a libp2p peer id in text.
    pub fn from_peer_id(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 38];
        let length = bs58::decode(text).onto(&mut bytes[..]).map_err(|_| KeyError::PeerId)?;
        Self::from_peer_id_bytes(&bytes[..length])
    }

    /// A peer's key as a person may write it: its peer id, or its 32 bytes in base64 or hex.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let mut bytes = [0; 32];
        let key = if let Ok(key) = Self::from_peer_id(text) {
            key
        } else if text.len() == 64 && hex::decode_to_slice(text, &mut bytes).is_ok() {
            Self(bytes)
        } else {
            let digits = text.trim_end_matches('=');
            let decoded =
                STANDARD_NO_PAD.decode(digits).or_else(|_| URL_SAFE_NO_PAD.decode(digits));
            let decoded = decoded.map_err(|_| KeyError::PeerKey)?;
            Self(decoded.try_into().map_err(|_| KeyError::PeerKey)?)
        };
        // What is no point of the curve, or a weak one, is a slip of the pen and nobody's key.
        match VerifyingKey::from_bytes(&key.0) {
            Ok(point) if !point.is_weak() => Ok(key),
            _ => Err(KeyError::PeerKey),
        }
    }

    /// What two people compare by voice: the first half of the key's SHA-256, in groups.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let digest = Sha256::digest(self.0);
        digest[..16].chunks(2).map(hex::encode).collect::<Vec<_>>().join(" ")
    }

    /// Whether `signature` is this key's over `value` in `domain`.
    #[must_use]
    pub fn verifies<T: BorshSerialize>(
        &self,
        domain: Domain,
        value: &T,
        signature: &Signature,
    ) -> bool {
        // Strict verification: a key of small order would accept one signature for many messages.
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
            key.verify_strict(&domain.message(value), &signature).is_ok()
        })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer_id())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.peer_id();
        write!(f, "12D3..{}", &id[id.len() - 6..])
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_peer_id(text)
    }
}

/// A wallet's account on the ledger, in text `0x` and 40 hex digits.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Deserialize,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub [u8; 20]);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Address {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 20];
        let digits = text.strip_prefix("0x").ok_or(KeyError::Address)?;
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| KeyError::Address)?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Address {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// An Ed25519 signature.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Eq, PartialEq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", hex::encode(&self.0[..4]))
    }
}

/// An Ed25519 secret key with its public half. The secret is wiped from memory when dropped and
/// never printed.
#[derive(Clone)]
pub struct KeyPair(SigningKey);

impl KeyPair {
    /// Bytes of a key file: the seed, then the public key.
    pub const FILE_BYTES: usize = 64;

    /// The key that grows from `seed`.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key in the 64 bytes of a key file, whose public half must belong to its seed.
    pub fn from_file_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: &[u8; Self::FILE_BYTES] =
            bytes.try_into().map_err(|_| KeyError::Length { found: bytes.len() })?;
        SigningKey::from_keypair_bytes(bytes).map(Self).map_err(|_| KeyError::Mismatch)
    }

    /// The 64 bytes of a key file.
    #[must_use]
    pub fn to_file_bytes(&self) -> Zeroizing<[u8; Self::FILE_BYTES]> {
        Zeroizing::new(self.0.to_keypair_bytes())
    }

    /// The seed alone.
    #[must_use]
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs `value` in `domain`.
    #[must_use]
    pub fn sign<T: BorshSerialize>(&self, domain: Domain, value: &T) -> Signature {
        Signature(self.0.sign(&domain.message(value)).to_bytes())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of an earlier implementation, which wallets in the world depend on.
    #[test]
    fn the_wallet_address_is_the_one_of_the_earlier_implementation() {
        let key = KeyPair::from_seed(&[0x42; 32]);
        assert_eq!(
            hex::encode(key.public().0),
            "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"
        );
        assert_eq!(
            key.public().address().to_string(),
            "0xfef6dfa48b073924c436539010d7812fbe50096a"
        );
    }

    #[test]
    fn a_key_file_must_be_whole() {
        let key = KeyPair::from_seed(&[1; 32]);
        let mut bytes = key.to_file_bytes().to_vec();
        assert_eq!(KeyPair::from_file_bytes(&bytes).unwrap().public(), key.public());
        assert_eq!(
            KeyPair::from_file_bytes(&bytes[..63]).unwrap_err(),
            KeyError::Length { found: 63 }
        );
        bytes[40] ^= 1;
        assert_eq!(KeyPair::from_file_bytes(&bytes).unwrap_err(), KeyError::Mismatch);
    }

    #[test]
    fn a_peer_id_names_its_key() {
        let key = KeyPair::from_seed(&[9; 32]).public();
        assert!(key.peer_id().starts_with("12D3Koo"));
        assert_eq!(PublicKey::from_peer_id(&key.peer_id()), Ok(key));
        assert_eq!(PublicKey::from_peer_id("QmNotThis"), Err(KeyError::PeerId));
        assert_eq!(PublicKey::from_peer_id(""), Err(KeyError::PeerId));
    }

    #[test]
    fn a_key_is_read_in_every_form_a_person_may_write() {
        let key = KeyPair::from_seed(&[9; 32]).public();
        let padded = base64::engine::general_purpose::STANDARD.encode(key.0);
        let forms = [
            key.peer_id(),
            hex::encode(key.0),
            hex::encode_upper(key.0),
            padded.trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(key.0),
            format!(" {padded} "),
        ];
        for form in forms {
            assert_eq!(PublicKey::from_text(&form), Ok(key), "{form}");
        }
        let no_point = hex::encode([2; 32]);
        for bad in ["", "WG_PUBLIC_KEY_HERE", "PEER_PUBLIC_KEY", &"0".repeat(64), &no_point] {
            assert_eq!(PublicKey::from_text(bad), Err(KeyError::PeerKey), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_eight_groups_of_four_digits() {
        let key = KeyPair::from_seed(&[0x42; 32]).public();
        let fingerprint = key.fingerprint();
        assert_eq!(fingerprint.split(' ').map(str::len).collect::<Vec<_>>(), [4; 8]);
        let digest = hex::encode(Sha256::digest(key.0));
        assert!(digest.starts_with(&fingerprint.replace(' ', "")));
    }

    #[test]
    fn a_signature_counts_in_its_domain_only() {
        let key = KeyPair::from_seed(&[3; 32]);
        let signature = key.sign(Domain::OFFER, &7_u8);
        assert!(key.public().verifies(Domain::OFFER, &7_u8, &signature));
        assert!(!key.public().verifies(Domain::REQUEST, &7_u8, &signature));
        assert!(!key.public().verifies(Domain::OFFER, &8_u8, &signature));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let key = KeyPair::from_seed(&[0xab; 32]);
        assert!(format!("{key:?}").starts_with("KeyPair(12D3.."));
    }
}
