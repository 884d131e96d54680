//! Keeps what was seen of the conduct of peers over restarts, and looks who is connected.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use arknet_protocol::reputation::{Reputation, StoredReputation};
use arknet_sdk::Client;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::data::write_atomically;

/// Time between two looks, and between two writes.
const INTERVAL: Duration = Duration::from_secs(60);
/// Bytes of the file; what is larger is not ours.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// The form of the file.
const VERSION: u32 = 1;

/// The file `reputation.json`.
pub(crate) struct ReputationFile {
    path: PathBuf,
}

impl ReputationFile {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Gives `client` what was stored, and stores what becomes of it: now and then, and at the end.
    pub(crate) fn keep(
        self,
        client: Client,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let stored = self.load();
        client.with_reputation(|reputation| *reputation = stored);
        self.follow(client, stop)
    }

    async fn follow(self, client: Client, stop: CancellationToken) {
        let mut written = 0;
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_over = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            let connected: Vec<_> =
                client.mesh().connected().into_iter().map(|status| status.peer).collect();
            let (changes, stored) = client.with_reputation(|reputation| {
                if !is_over {
                    reputation.look(|peer| connected.contains(peer), arknet_sdk::now());
                }
                let changes = reputation.changes();
                (changes, (changes != written).then(|| reputation.to_stored()))
            });
            if let Some(stored) = stored {
                match self.store(stored).await {
                    Ok(()) => written = changes,
                    Err(error) => tracing::warn!(%error, "what was seen of peers is not stored"),
                }
            }
            if is_over {
                return;
            }
        }
    }

    fn load(&self) -> Reputation {
        match self.read() {
            Ok(Some(stored)) => Reputation::from_stored(&stored, arknet_sdk::now()),
            Ok(None) => Reputation::new(),
            Err(error) => {
                let name = format!("reputation.json.broken-{}", arknet_sdk::now().0);
                let aside = self.path.with_file_name(name);
                let is_moved = fs::rename(&self.path, &aside).is_ok();
                let (path, aside) = (self.path.display(), aside.display());
                tracing::warn!(%path, %error, is_moved, %aside, "what was seen of peers cannot be read; it begins anew");
                Reputation::new()
            }
        }
    }

    fn read(&self) -> io::Result<Option<StoredReputation>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
        let stored: StoredReputation = serde_json::from_slice(&text)?;
        if stored.version != VERSION {
            let words = format!("its form is {}, not {VERSION}", stored.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, words));
        }
        Ok(Some(stored))
    }

    async fn store(&self, stored: StoredReputation) -> io::Result<()> {
        let path = self.path.clone();
        let write = move || write_atomically(&path, &serde_json::to_vec(&stored)?);
        tokio::task::spawn_blocking(write).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
mod tests {
    use arknet_protocol::reputation::Deed;
    use arknet_types::PublicKey;

    use super::*;

    #[tokio::test]
    async fn what_is_stored_is_read_and_what_is_broken_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let file = ReputationFile::new(directory.path().join("reputation.json"));
        assert_eq!(file.load().known().count(), 0);
        let mut reputation = Reputation::new();
        let (peer, now) = (PublicKey([1; 32]), arknet_sdk::now());
        reputation.record(peer, Deed::Lied, now);
        file.store(reputation.to_stored()).await.unwrap();
        assert_eq!(file.load().score(&peer, now), reputation.score(&peer, now));
        for broken in ["{", "{\"version\":2,\"peers\":[]}", "[]"] {
            fs::write(&file.path, broken).unwrap();
            assert_eq!(file.load().known().count(), 0);
            assert!(!file.path.exists());
        }
        let aside = fs::read_dir(directory.path()).unwrap().flatten();
        assert!(aside.filter(|e| e.file_name().to_string_lossy().contains("broken")).count() > 0);
    }
}
