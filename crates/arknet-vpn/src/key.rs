use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use boringtun::x25519;
use zeroize::Zeroizing;

/// Why there is no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Entropy(getrandom::Error),
    /// Not 32 bytes in base64.
    #[error("a key of WireGuard has 44 characters of base64 and ends in =")]
    Text,
}

/// The public half of a key of WireGuard: whom a packet is from, and for.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey(pub [u8; 32]);

/// The secret half. Wiped when dropped, and never printed but into a configuration.
#[derive(Clone, Eq, PartialEq)]
pub struct PrivateKey(Zeroizing<[u8; 32]>);

/// A second secret that two peers share, for the day on which the curve is broken.
#[derive(Clone, Eq, PartialEq)]
pub struct SharedKey(Zeroizing<[u8; 32]>);

impl PrivateKey {
    /// A new key from the system's entropy.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = random()?;
        // As `wg genkey` does, so that both programs print the same key the same way.
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Ok(Self(bytes))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let secret = x25519::StaticSecret::from(*self.0);
        PublicKey(x25519::PublicKey::from(&secret).to_bytes())
    }

    /// The text that stands in configurations.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.0[..]))
    }

    pub(crate) fn reveal_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(&self.0[..]))
    }
}

impl SharedKey {
    /// A new secret from the system's entropy.
    pub fn generate() -> Result<Self, KeyError> {
        random().map(Self)
    }

    /// The text that stands in configurations.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.0[..]))
    }

    pub(crate) fn reveal_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(&self.0[..]))
    }
}

fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..]).map_err(KeyError::Entropy)?;
    Ok(bytes)
}

fn read(text: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError::Text)?);
    let bytes: [u8; 32] = bytes[..].try_into().map_err(|_| KeyError::Text)?;
    Ok(Zeroizing::new(bytes))
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read(text).map(|bytes| Self(*bytes))
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read(text).map(Self)
    }
}

impl FromStr for SharedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        read(text).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alice's key of RFC 7748, 6.1, as `wg pubkey` prints its public half.
    #[test]
    fn the_public_half_is_the_one_that_every_program_computes() {
        let secret: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        assert_eq!(secret.public().to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
    }

    #[test]
    fn a_key_is_44_characters_and_a_secret_one_is_not_printed() {
        let secret = PrivateKey::generate().unwrap();
        assert_eq!(secret.reveal().len(), 44);
        assert_eq!(secret.reveal().parse::<PrivateKey>().unwrap().public(), secret.public());
        assert_ne!(secret.public(), PrivateKey::generate().unwrap().public());
        let shared = SharedKey::generate().unwrap();
        assert_eq!(format!("{secret:?} {shared:?}"), "PrivateKey(..) SharedKey(..)");
        for bad in ["", "x", &"A".repeat(44), &format!("{}A=", "A".repeat(43)), " "] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::Text), "{bad:?}");
        }
    }
}
