//! Snapshots that are kept for others, as files beside the store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use arknet_chain::{Hash, Manifest};
use arknet_consensus::SnapshotPart;
use arknet_types::encode;

use crate::{Reader, StoreError, limits::SNAPSHOTS_MAX};

const DIRECTORY: &str = "snapshots";
const DRAFT: &str = "new";
const MANIFEST: &str = "manifest";

#[derive(Debug)]
pub(super) struct Shelf {
    directory: PathBuf,
    /// The height of each, its manifest, the newest last.
    kept: Vec<(u64, Manifest)>,
}

impl Shelf {
    /// Looks what is there. What cannot be read is not given to anybody.
    pub(super) fn open(ledger: &Path) -> io::Result<Self> {
        let directory = ledger.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        let mut kept = Vec::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            let height = path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok());
            let manifest = fs::read(path.join(MANIFEST)).ok();
            let manifest = manifest.and_then(|bytes| Manifest::parse(&bytes).ok());
            match height.zip(manifest) {
                Some(found) => kept.push(found),
                None => fs::remove_dir_all(&path)?,
            }
        }
        kept.sort_by_key(|(height, _)| *height);
        Ok(Self { directory, kept })
    }

    /// Puts the state that is shown there, and takes the oldest away.
    pub(super) fn put(&mut self, reader: &Reader) -> Result<(), StoreError> {
        let height = reader.height();
        if self.kept.iter().any(|(kept, _)| *kept == height) {
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
        self.kept.push((height, manifest));
        while self.kept.len() > SNAPSHOTS_MAX {
            let (oldest, _) = self.kept.remove(0);
            fs::remove_dir_all(self.directory.join(oldest.to_string()))?;
        }
        Ok(())
    }

    /// The newest.
    pub(super) fn newest(&self) -> Option<&Manifest> {
        self.kept.last().map(|(_, manifest)| manifest)
    }

    /// A part; empty where it is not there.
    pub(super) fn part(&self, block: Hash, index: u32) -> SnapshotPart {
        let found = self.kept.iter().find(|(_, manifest)| manifest.block.header.id() == block);
        let path = found.map(|(height, _)| self.directory.join(height.to_string()));
        let bytes = path.and_then(|path| fs::read(path.join(index.to_string())).ok());
        SnapshotPart { block, index, bytes: bytes.unwrap_or_default() }
    }
}
