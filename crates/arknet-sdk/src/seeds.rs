//! The seeds: the peers to connect to first.

use std::{
    io,
    path::{Path, PathBuf},
};

use arknet_types::SeedFile;

use crate::home;

/// The file name of the seeds in the directory of settings.
pub const FILE_NAME: &str = "seeds.json";

/// What is used where no file says otherwise.
const COMPILED_IN: &str = include_str!("../seeds.json");

/// Why seeds cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedsError {
    /// The content is not a seed file.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: arknet_types::SeedsError,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// The seeds in `directory` (`~/.arknet` when not given), or those compiled in where it has none.
pub fn load(directory: Option<&Path>) -> Result<SeedFile, SeedsError> {
    let directory = directory.map(Path::to_owned).or_else(home::directory);
    match directory.map(|directory| directory.join(FILE_NAME)) {
        Some(path) if path.exists() => load_file(&path),
        _ => Ok(compiled_in()),
    }
}

/// The seeds in the file at `path`.
pub fn load_file(path: &Path) -> Result<SeedFile, SeedsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SeedsError::Io { path: path.to_owned(), source })?;
    SeedFile::parse(&text).map_err(|source| SeedsError::Content { path: path.to_owned(), source })
}

/// The seeds compiled in.
///
/// # Panics
/// Never: a test reads them.
#[must_use]
pub fn compiled_in() -> SeedFile {
    SeedFile::parse(COMPILED_IN).expect("the compiled-in seeds are checked by a test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_before_what_is_compiled_in() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(Some(directory.path())).unwrap(), compiled_in());
        let path = directory.path().join(FILE_NAME);
        let mine = r#"{"version":1,"chain_id":"mine","seeds":[]}"#;
        std::fs::write(&path, mine).unwrap();
        assert_eq!(load(Some(directory.path())).unwrap().chain_id.as_str(), "mine");
        std::fs::write(&path, "{").unwrap();
        let error = load(Some(directory.path())).unwrap_err().to_string();
        assert!(error.contains("seeds.json") && error.contains("line 1"), "{error}");
    }
}
