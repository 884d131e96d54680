//! What a light client knows, in a file: so that the next program goes on from there.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use arknet_chain::{Hash, Header, ValidatorSet};
use arknet_types::encode;

use super::{ChainError, limits::TRUSTED_FILE_BYTES_MAX};
use crate::keyfile;

/// A header that was followed to, and the set that votes on the next.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    pub(super) header: Header,
    pub(super) next: ValidatorSet,
}

/// Reads what was kept for the chain of this genesis. Another chain's, or one that is damaged, is
/// nothing: what is known begins with the genesis again.
pub(super) fn load(path: &Path, genesis: &Hash) -> Result<Option<Trusted>, ChainError> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(TRUSTED_FILE_BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ChainError::Store { path: path.to_owned(), source }),
        Ok(_) => {}
    }
    let kept = arknet_types::decode::<(Hash, Header, ValidatorSet)>(&bytes).ok();
    Ok(kept
        .filter(|(of, header, next)| of == genesis && next.hash() == header.next_validators)
        .map(|(_, header, next)| Trusted { header, next }))
}

/// Writes it, whole or not at all.
pub(super) fn save(path: &Path, genesis: &Hash, trusted: &Trusted) -> Result<(), ChainError> {
    let bytes = encode(&(genesis, &trusted.header, &trusted.next));
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let written = write(&draft, path, &bytes);
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written.map_err(|source| ChainError::Store { path: PathBuf::from(path), source })
}

fn write(draft: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    keyfile::create_directory(directory)?;
    let mut file = File::create(draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    File::open(directory)?.sync_all()
}
