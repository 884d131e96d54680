//! Counts that outlive the node: read when it starts, stored now and then and at its end.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::data::{DataError, write_atomically};

/// What is counted between two of these may be forgotten when the machine loses its power.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

/// What was stored last; nothing where nothing was.
pub(crate) fn load<T: DeserializeOwned + Default>(path: &Path) -> Result<T, DataError> {
    let at = |source| DataError::Io { path: path.to_owned(), source };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(at(source)),
    };
    serde_json::from_slice(&text).map_err(|error| at(io::Error::other(error)))
}

/// Stores what `count` says, as far as it has changed.
pub(crate) async fn keep<T: Default + PartialEq + Serialize>(
    path: PathBuf,
    count: impl Fn() -> T,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(STORE_INTERVAL);
    let mut stored = T::default();
    loop {
        let is_over = stop.run_until_cancelled(interval.tick()).await.is_none();
        let counted = count();
        if counted != stored {
            let text = serde_json::to_vec(&counted).expect("numbers have a form in JSON");
            let to = path.clone();
            match tokio::task::spawn_blocking(move || write_atomically(&to, &text)).await {
                Ok(Ok(())) => stored = counted,
                Ok(Err(error)) => {
                    tracing::warn!(path = %path.display(), %error, "counts cannot be stored");
                }
                Err(_) => return,
            }
        }
        if is_over {
            return;
        }
    }
}
