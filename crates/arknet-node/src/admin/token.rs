//! The token that opens the node API to browsers, proxies and other machines.

use std::{fs, io, path::Path};

use sha2::{Digest, Sha256};

use crate::data::write_atomically;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// The token of a node; only its hash is kept in memory.
#[derive(Clone)]
pub(crate) struct Token([u8; 32]);

impl Token {
    /// Reads the token, or makes one. One that others could have read is not used any more.
    pub(crate) fn load_or_create(path: &Path) -> io::Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) if text.trim().len() == 2 * TOKEN_BYTES && is_private(path)? => {
                return Ok(Self::of(text.trim()));
            }
            Ok(_) => tracing::warn!(
                file = %path.display(),
                "the token of the node API was damaged, or readable by others: there is a new one"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        write_atomically(path, format!("{text}\n").as_bytes())?;
        Ok(Self::of(&text))
    }

    pub(crate) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether this is it. What is compared are hashes, so that the time it takes tells nothing.
    pub(crate) fn is(&self, text: &str) -> bool {
        Self::of(text).0 == self.0
    }
}

#[cfg(unix)]
fn is_private(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &Path) -> io::Result<bool> {
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stays_until_others_could_have_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.token");
        let token = Token::load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(token.is(text.trim()) && !token.is(&text) && !token.is(""));
        assert!(Token::load_or_create(&path).unwrap().is(text.trim()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            assert!(!Token::load_or_create(&path).unwrap().is(text.trim()));
        }
        fs::write(&path, "short").unwrap();
        assert!(!Token::load_or_create(&path).unwrap().is("short"));
    }
}
