//! The wallet: an account on the ledger, kept in a 64-byte file.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use arknet_types::{Address, KeyPair, PublicKey};

use crate::{
    home,
    keyfile::{self, KeyFileError},
};

/// The file name of the wallet in its directory.
pub const FILE_NAME: &str = "wallet.key";

/// A wallet. Its secret is wiped from memory when it is dropped, and never printed.
#[derive(Clone)]
pub struct Wallet {
    key: KeyPair,
}

impl Wallet {
    /// A wallet with a new key, not saved yet.
    ///
    /// # Panics
    /// When the system has no random bytes to give; no key could be safe then.
    #[must_use]
    pub fn create() -> Self {
        Self { key: keyfile::generate().expect("the system gives random bytes") }
    }

    /// The wallet of this key.
    #[must_use]
    pub const fn from_key(key: KeyPair) -> Self {
        Self { key }
    }

    /// The wallet saved at `~/.arknet/wallet.key`.
    pub fn load() -> Result<Self, KeyFileError> {
        Self::load_from(&default_path()?)
    }

    /// The wallet saved at `path`.
    pub fn load_from(path: &Path) -> Result<Self, KeyFileError> {
        keyfile::load(path).map(Self::from_key)
    }

    /// The saved wallet, or a new one that is saved at once.
    pub fn load_or_create() -> Result<Self, KeyFileError> {
        keyfile::load_or_create(&default_path()?).map(Self::from_key)
    }

    /// Saves to `~/.arknet/wallet.key`. Another wallet found there is kept beside it, as
    /// `wallet-0x..key`: a key is never lost to a save.
    pub fn save(&self) -> Result<(), KeyFileError> {
        self.save_to(&default_path()?)
    }

    /// Saves to `path`, keeping another wallet found there as [`Wallet::save`] does.
    pub fn save_to(&self, path: &Path) -> Result<(), KeyFileError> {
        if path.exists() {
            let present = keyfile::load(path)?;
            if present.public() == self.key.public() {
                return Ok(());
            }
            let aside = path.with_file_name(format!("wallet-{}.key", present.public().address()));
            fs::rename(path, aside)
                .map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
        }
        keyfile::create(path, &self.key)
    }

    /// The address: `0x` and 40 hex digits.
    #[must_use]
    pub fn address(&self) -> Address {
        self.key.public().address()
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The key, to sign with.
    #[must_use]
    pub const fn key(&self) -> &KeyPair {
        &self.key
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wallet({})", self.address())
    }
}

fn default_path() -> Result<PathBuf, KeyFileError> {
    home::directory().map(|home| home.join(FILE_NAME)).ok_or(KeyFileError::NoHome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saving_a_second_wallet_keeps_the_first() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        let (first, second) = (Wallet::create(), Wallet::create());
        first.save_to(&path).unwrap();
        first.save_to(&path).unwrap();
        second.save_to(&path).unwrap();
        assert_eq!(Wallet::load_from(&path).unwrap().address(), second.address());
        let aside = home.path().join(format!("wallet-{}.key", first.address()));
        assert_eq!(Wallet::load_from(&aside).unwrap().address(), first.address());
    }
}
