//! Keeps the horizon of admitted requests on disk, so that a restart forgets nothing that matters.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use arknet_protocol::Horizon;
use arknet_types::{Request, Timestamp};
use tokio::sync::Mutex;

use crate::data::{DataError, write_atomically};

/// The horizon and where it is stored.
pub(crate) struct HorizonStore {
    path: PathBuf,
    /// Copy of what is stored, for the usual case that it covers a request already.
    stored: AtomicU64,
    horizon: Mutex<Horizon>,
}

impl HorizonStore {
    /// Reads what was stored last at `path`.
    pub(crate) fn open(path: PathBuf) -> Result<Self, DataError> {
        let stored = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let words =
                    "not a time in milliseconds; remove the file if its damage is understood";
                DataError::Io { path: path.clone(), source: io::Error::other(words) }
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(source) => return Err(DataError::Io { path, source }),
        };
        Ok(Self {
            path,
            stored: AtomicU64::new(stored),
            horizon: Mutex::new(Horizon::new(Timestamp(stored))),
        })
    }

    /// What a node that starts `now` takes as its beginning.
    pub(crate) fn started_at(&self, now: Timestamp) -> Timestamp {
        Horizon::new(Timestamp(self.stored.load(Ordering::Acquire))).started_at(now)
    }

    /// Returns when the disk covers `request`. Cancel safe: what was written counts or is written
    /// again.
    pub(crate) async fn cover(&self, request: &Request) -> io::Result<()> {
        let signed_at = request.body.sent_at.max(request.delegation.body.issued_at);
        if signed_at.0 < self.stored.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut horizon = self.horizon.lock().await;
        let mut moved = *horizon;
        let Some(stored) = moved.cover(request) else { return Ok(()) };
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || write(&path, stored))
            .await
            .map_err(io::Error::other)??;
        *horizon = moved;
        self.stored.store(stored.0, Ordering::Release);
        Ok(())
    }
}

fn write(path: &Path, stored: Timestamp) -> io::Result<()> {
    write_atomically(path, stored.0.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_where_the_next_life_begins() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("horizon");
        let open = || HorizonStore::open(path.clone());
        assert_eq!(open().unwrap().started_at(Timestamp(7)), Timestamp(7));
        write(&path, Timestamp(90)).unwrap();
        assert_eq!(open().unwrap().started_at(Timestamp(7)), Timestamp(90));
        assert_eq!(open().unwrap().started_at(Timestamp(91)), Timestamp(91));
        fs::write(&path, "soon").unwrap();
        assert!(open().is_err());
    }
}
