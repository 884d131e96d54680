//! Key files: 64 bytes (seed, then public key) that only their owner may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use arknet_types::{KeyError, KeyPair};

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The system gave no random bytes for a new key.
    #[error("the system gave no random bytes: {0}")]
    Entropy(getrandom::Error),
    /// There is a key already, and it is not overwritten.
    #[error("{} exists already; a key is never overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The content is not a key.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// No place to look in.
    #[error("no home directory; set ARKNET_HOME")]
    NoHome,
    /// Others may read the secret.
    #[error("{} can be read by others (mode {mode:03o}); run: chmod 600 {}", path.display(), path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// A new key from the system's entropy.
pub fn generate() -> Result<KeyPair, KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Entropy)?;
    Ok(KeyPair::from_seed(&seed))
}

/// Reads a key file.
pub fn load(path: &Path) -> Result<KeyPair, KeyFileError> {
    check_mode(path)?;
    let bytes = fs::read(path).map_err(io_error(path))?;
    KeyPair::from_file_bytes(&bytes)
        .map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
}

/// Reads a key file, or makes one with a new key where there is none.
pub fn load_or_create(path: &Path) -> Result<KeyPair, KeyFileError> {
    if path.exists() {
        return load(path);
    }
    let key = generate()?;
    match create(path, &key) {
        // Another process was quicker; its key counts.
        Err(KeyFileError::Exists { .. }) => load(path),
        result => result.map(|()| key),
    }
}

/// Writes a key file that does not exist yet, complete or not at all.
pub fn create(path: &Path, key: &KeyPair) -> Result<(), KeyFileError> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    create_directory(directory).map_err(io_error(directory))?;
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let result = write_draft(&draft, key).and_then(|()| {
        // A hard link fails where the name is taken; a rename would overwrite a key.
        fs::hard_link(&draft, path)?;
        File::open(directory)?.sync_all()
    });
    let _ = fs::remove_file(&draft);
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists { path: path.to_owned() })
        }
        result => result.map_err(io_error(path)),
    }
}

/// Makes a directory (and its parents) that only its owner may enter.
pub fn create_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_draft(path: &Path, key: &KeyPair) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(&*key.to_file_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), KeyFileError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path).map_err(io_error(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), KeyFileError> {
    Ok(())
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { path: path.to_owned(), source }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("deep/wallet.key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load(&path).unwrap().public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let other = generate().unwrap();
        assert!(matches!(create(&path, &other), Err(KeyFileError::Exists { .. })));
        assert_eq!(load_or_create(&path).unwrap().public(), key.public());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays");
    }

    #[test]
    fn a_file_others_may_read_or_a_damaged_one_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("wallet.key");
        create(&path, &generate().unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[63] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Key { .. })));
        fs::write(&path, &bytes[..10]).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Key { .. })));
    }
}
