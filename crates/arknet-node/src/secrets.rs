//! Keys of upstream services: one file each, which only its owner may read.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use arknet_provider::upstream::Secret;

use crate::data::write_atomically;

/// Bytes of a key.
const SECRET_BYTES_MAX: u64 = 4096;
/// Bytes of an upstream's name.
const NAME_BYTES_MAX: usize = 64;

/// Why a secret is not had or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nothing, or more than a key.
    #[error("a key has 1 to {SECRET_BYTES_MAX} printable characters")]
    Content,
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The name would be a path.
    #[error("an upstream's name has 1 to 64 of a-z, A-Z, 0-9, - and _")]
    Name,
    /// Others can read it.
    #[error("{} can be read by others; run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
}

/// Where the keys of upstreams lie.
#[derive(Clone, Debug)]
pub struct SecretStore {
    root: PathBuf,
}

impl SecretStore {
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Keeps the key of an upstream, in place of the one before.
    pub fn set(&self, upstream: &str, secret: &str) -> Result<(), SecretError> {
        let path = self.path(upstream)?;
        let secret = secret.trim();
        let is_key = !secret.is_empty()
            && secret.len() as u64 <= SECRET_BYTES_MAX
            && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_key {
            return Err(SecretError::Content);
        }
        arknet_sdk::keyfile::create_directory(&self.root).map_err(at(&self.root))?;
        write_atomically(&path, secret.as_bytes()).map_err(at(&path))
    }

    /// Forgets the key of an upstream. Returns whether there was one.
    pub fn remove(&self, upstream: &str) -> Result<bool, SecretError> {
        let path = self.path(upstream)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(SecretError::Io { path, source }),
        }
    }

    /// The key of an upstream, where one is kept.
    pub fn get(&self, upstream: &str) -> Result<Option<Secret>, SecretError> {
        match read_file(&self.path(upstream)?) {
            Ok(text) => Ok(Some(Secret::new(text))),
            Err(SecretError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn path(&self, upstream: &str) -> Result<PathBuf, SecretError> {
        let is_name = (1..=NAME_BYTES_MAX).contains(&upstream.len())
            && upstream.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if is_name { Ok(self.root.join(format!("{upstream}.key"))) } else { Err(SecretError::Name) }
    }
}

/// The text of a file that only its owner may read.
pub(crate) fn read_file(path: &Path) -> Result<String, SecretError> {
    let file = File::open(path).map_err(at(path))?;
    if is_open_to_others(&file).map_err(at(path))? {
        return Err(SecretError::Open { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(at(path))?;
    if text.trim().is_empty() || text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretError::Content);
    }
    Ok(text.trim().to_owned())
}

#[cfg(unix)]
fn is_open_to_others(file: &File) -> io::Result<bool> {
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata()?);
    Ok(mode & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open_to_others(_: &File) -> io::Result<bool> {
    Ok(false)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SecretError {
    move |source| SecretError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = SecretStore::new(directory.path().join("upstreams"));
        assert!(store.get("openai").unwrap().is_none());
        store.set("openai", "sk-abc\n").unwrap();
        assert!(store.get("openai").unwrap().is_some());
        let path = store.path("openai").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "sk-abc");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let error = store.get("openai").err().unwrap().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
        assert!(store.remove("openai").unwrap() && !store.remove("openai").unwrap());
    }

    #[test]
    fn what_is_no_name_and_no_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = SecretStore::new(directory.path().to_owned());
        for name in ["", "../x", "a/b", "a.b", "a b"] {
            assert!(matches!(store.set(name, "k"), Err(SecretError::Name)), "{name}");
        }
        for key in ["", " ", "a b", "a\nb", "\u{e9}"] {
            assert!(matches!(store.set("x", key), Err(SecretError::Content)), "{key:?}");
        }
    }
}
