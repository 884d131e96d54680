//! Snapshots that are kept for others, as files beside the store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use arknet_chain::{Hash, Manifest};
use arknet_consensus::SnapshotPart;
use arknet_types::encode;

use super::lease::{Lease, stays};
use crate::{Reader, StoreError};

const DIRECTORY: &str = "snapshots";
const DRAFT: &str = "new";
const MANIFEST: &str = "manifest";

#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    /// The newest last.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    height: u64,
    manifest: Manifest,
    lease: Lease,
}

impl Shelf {
    /// Looks what is there. What cannot be read is not given to anybody; all else may be what somebody
    /// was fetching before this node was started again.
    pub(super) fn open(ledger: &Path, now_ms: u64) -> io::Result<Self> {
        let directory = ledger.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let height = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            let manifest = fs::read(path.join(MANIFEST)).ok();
            let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
            match height.zip(manifest) {
                Some((height, manifest)) => {
                    let mut lease = Lease::default();
                    lease.ask(now_ms);
                    kept.push(Kept { height, manifest, lease });
                }
                None => fs::remove_dir_all(&path)?,
            }
        }
        kept.sort_by_key(|kept: &Kept| kept.height);
        Ok(Self { directory, kept })
    }

    /// Puts the state that is shown there.
    pub(super) fn put(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let height = reader.height();
        if self.kept.iter().any(|kept| kept.height == height) {
            return Ok(());
        }
        let draft = self.directory.join(DRAFT);
        if draft.exists() {
            fs::remove_dir_all(&draft)?;
        }
        fs::create_dir_all(&draft)?;
        let keep = |index: usize, bytes: &[u8]| -> Result<(), StoreError> {
            Ok(fs::write(draft.join(index.to_string()), bytes)?)
        };
        let Some(manifest) = reader.export(keep)? else { return Ok(()) };
        fs::write(draft.join(MANIFEST), encode(&manifest))?;
        fs::rename(&draft, self.directory.join(height.to_string()))?;
        tracing::info!(height, parts = manifest.parts.len(), "made a snapshot for others");
        self.kept.push(Kept { height, manifest, lease: Lease::default() });
        Ok(())
    }

    /// Takes away what is old and not being fetched.
    pub(super) fn tidy(&mut self, now_ms: u64) -> io::Result<()> {
        let mut leases: Vec<Lease> = self.kept.iter().map(|kept| kept.lease).collect();
        let stays = stays(&mut leases, now_ms);
        for (kept, lease) in self.kept.iter_mut().zip(leases) {
            kept.lease = lease;
        }
        let gone = self.kept.iter().zip(&stays).filter(|(_, stays)| !**stays);
        let gone: Vec<u64> = gone.map(|(kept, _)| kept.height).collect();
        for height in gone {
            self.kept.retain(|kept| kept.height != height);
            fs::remove_dir_all(self.directory.join(height.to_string()))?;
        }
        Ok(())
    }

    /// The newest.
    pub(super) fn newest(&mut self, now_ms: u64) -> Option<&Manifest> {
        let newest = self.kept.last_mut()?;
        newest.lease.ask(now_ms);
        Some(&newest.manifest)
    }

    /// A part; empty where it is not there.
    pub(super) fn part(&mut self, block: Hash, index: u32, now_ms: u64) -> SnapshotPart {
        let mut kept = self.kept.iter_mut();
        let found = kept.find(|kept| kept.manifest.block.header.id() == block);
        let bytes = found.and_then(|kept| {
            kept.lease.ask(now_ms);
            let path = self.directory.join(kept.height.to_string());
            fs::read(path.join(index.to_string())).ok()
        });
        SnapshotPart { block, index, bytes: bytes.unwrap_or_default() }
    }
}
