//! Beginning with a state that a stranger sent.
//!
//! Parts are kept as files beside the store until all are there, so that a process that ends goes on
//! where it was. Then the state is built in a file of its own, with the tree over it, and takes its
//! place only when its root is the one that a quorum of validators has signed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use arknet_chain::{
    Channel, Genesis, Key, Leaf, LightClient, Manifest, SnapshotError, StateView, grow, leaf,
};
use redb::{Database, ReadOnlyTable, ReadableDatabase};

use super::{
    Store, StoreError, StoreOptions,
    commit::note_channel,
    error::{fault, fault_io, give_up},
    open::{
        DRAFT_NAME, FILE_NAME, begin_quick, begin_write, discard, draft, make_tables, publish,
        write_meta,
    },
    read::Entry,
    schema::{CERTIFICATES, CHANNELS, HEADERS, HEIGHTS, PAGES, SETS, VALUES},
};
use crate::limits::{IMPORT_BATCH_MAX, IMPORT_LEAVES_MAX};

/// Why a snapshot does not become a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// There is a ledger already.
    #[error("{} holds a ledger already", .0.display())]
    Exists(PathBuf),
    /// Parts are missing.
    #[error("{missing} parts of the snapshot are missing")]
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// Its header is not the one that the light client knows.
    #[error("the snapshot is of a block that is not known to be the chain's")]
    NotTrusted,
    /// The values do not come to the root of the header: somebody made them up.
    #[error("the values of the snapshot are not those under the root that was signed")]
    Root,
    /// A part is not what it must be.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<io::Error> for ImportError {
    fn from(error: io::Error) -> Self {
        Self::Store(fault_io(error))
    }
}

/// A snapshot that is on its way.
#[derive(Debug)]
pub struct Import {
    directory: PathBuf,
    parts: PathBuf,
    manifest: Manifest,
    there: Vec<bool>,
}

impl Import {
    /// Begins, or goes on, in `directory`, which must be there and hold no ledger. The header must
    /// be the one that `client` has come to.
    pub fn begin(
        directory: &Path,
        manifest: Manifest,
        client: &LightClient,
    ) -> Result<Self, ImportError> {
        let file = directory.join(FILE_NAME);
        if file.exists() {
            return Err(ImportError::Exists(file));
        }
        Self::begin_over(directory, manifest, client)
    }

    /// The same where there is a ledger, in whose place the snapshot will be.
    pub(crate) fn begin_over(
        directory: &Path,
        manifest: Manifest,
        client: &LightClient,
    ) -> Result<Self, ImportError> {
        let header = &manifest.block.header;
        let sets = [&manifest.block.validators, &manifest.block.next_validators];
        if client.id() != header.id()
            || manifest.block.certificate.block != header.id()
            || sets.map(|set| set.hash()) != [header.validators, header.next_validators]
        {
            return Err(ImportError::NotTrusted);
        }
        // What belongs to another snapshot has another name.
        let parts = directory.join("snapshot-parts");
        fs::create_dir_all(&parts)?;
        clear(&parts, &manifest)?;
        let there = vec![false; manifest.parts.len()];
        let mut import = Self { directory: directory.to_owned(), parts, manifest, there };
        for index in 0..import.there.len() {
            import.there[index] = match fs::read(import.path(index)) {
                Ok(bytes) => import.manifest.part(index, &bytes).is_ok(),
                Err(_) => false,
            };
        }
        Ok(import)
    }

    /// The parts that are missing.
    pub fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        self.there.iter().enumerate().filter(|(_, there)| !**there).map(|(index, _)| index)
    }

    /// Takes a part.
    pub fn add(&mut self, index: usize, bytes: &[u8]) -> Result<(), ImportError> {
        self.manifest.part(index, bytes)?;
        let path = self.path(index);
        let draft = path.with_extension("new");
        fs::write(&draft, bytes)?;
        fs::rename(&draft, &path)?;
        self.there[index] = true;
        Ok(())
    }

    /// Builds the store. When this returns it is in its place, and the parts are gone.
    pub fn finish(self, genesis: &Genesis, options: StoreOptions) -> Result<(), ImportError> {
        self.finish_beside(genesis, options)?;
        publish(&self.directory)?;
        fs::remove_dir_all(&self.parts)?;
        Ok(())
    }

    /// Builds the store, which then waits beside its place.
    pub(crate) fn finish_beside(
        &self,
        genesis: &Genesis,
        options: StoreOptions,
    ) -> Result<(), ImportError> {
        let missing = self.missing().count();
        if missing > 0 {
            return Err(ImportError::Incomplete { missing });
        }
        let database = draft(&self.directory, &options)?;
        let result = self.build(&database, genesis);
        drop(database);
        if let Err(error) = result {
            discard(&self.directory)?;
            return Err(error);
        }
        Ok(())
    }

    /// Takes what was built in the place of `store`, for all who share it.
    pub(crate) fn take_place(self, store: &Store) -> Result<(), ImportError> {
        store.take(&self.directory)?;
        fs::remove_dir_all(&self.parts)?;
        Ok(())
    }

    /// Takes away all that was fetched and built: it was no use.
    pub(crate) fn forget(self) -> Result<(), ImportError> {
        if self.directory.join(DRAFT_NAME).exists() {
            discard(&self.directory)?;
        }
        fs::remove_dir_all(&self.parts)?;
        Ok(())
    }

    pub(crate) const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn path(&self, index: usize) -> PathBuf {
        let hash = self.manifest.parts.get(index).copied().unwrap_or_default();
        self.parts.join(hash.to_string())
    }

    fn build(&self, database: &Database, genesis: &Genesis) -> Result<(), ImportError> {
        let transaction = begin_write(database)?;
        make_tables(&transaction)?;
        transaction.commit().map_err(fault)?;
        self.write_values(database)?;
        if self.write_tree(database)? != self.manifest.block.header.state_root {
            return Err(ImportError::Root);
        }
        let header = &self.manifest.block.header;
        let transaction = begin_write(database)?;
        write_meta(&transaction, genesis.id(), header.height)?;
        let block = &self.manifest.block;
        let (height, next) = (header.height, header.height.saturating_add(1));
        for (table, height, bytes) in [
            (HEADERS, height, arknet_types::encode(header)),
            (CERTIFICATES, height, arknet_types::encode(&block.certificate)),
            (SETS, height, arknet_types::encode(&block.validators)),
            (SETS, next, arknet_types::encode(&block.next_validators)),
        ] {
            let mut table = transaction.open_table(table).map_err(fault)?;
            table.insert(height, bytes.as_slice()).map_err(fault)?;
        }
        {
            let mut heights = transaction.open_table(HEIGHTS).map_err(fault)?;
            heights.insert(&header.id().0, height).map_err(fault)?;
        }
        Ok(transaction.commit().map_err(fault)?)
    }

    /// Each part of the snapshot, checked once more: what lies on a disk may have changed.
    fn part(&self, index: usize) -> Result<Vec<Entry>, ImportError> {
        let bytes = fs::read(self.path(index))?;
        Ok(self.manifest.part(index, &bytes)?.0)
    }

    fn write_values(&self, database: &Database) -> Result<(), ImportError> {
        let mut last: Option<Vec<u8>> = None;
        for index in 0..self.there.len() {
            let part = self.part(index)?;
            // Within a part they rise already.
            if part.first().map(|(key, _)| key) <= last.as_ref() {
                return Err(SnapshotError::Order.into());
            }
            last = part.last().map(|(key, _)| key.clone());
            // Until the last one nothing counts.
            let transaction = begin_quick(database)?;
            {
                let mut values = transaction.open_table(VALUES).map_err(fault)?;
                let mut index = transaction.open_table(CHANNELS).map_err(fault)?;
                for (key, value) in &part {
                    values.insert(key.as_slice(), value.as_slice()).map_err(fault)?;
                    if let Some(id) = Key::channel_of(key)
                        && let Ok(channel) = arknet_types::decode::<Channel>(value)
                    {
                        note_channel(&mut index, &id, &channel, true)?;
                    }
                }
            }
            transaction.commit().map_err(fault)?;
        }
        Ok(())
    }

    /// Builds the tree from left to right. A state of any size is built in bounded memory: what does
    /// not fit is read several times, each time for another stretch of the tree.
    fn write_tree(&self, database: &Database) -> Result<arknet_chain::Hash, ImportError> {
        let passes = self.manifest.entries.div_ceil(IMPORT_LEAVES_MAX).clamp(1, 256);
        let mut root = arknet_chain::Hash::ZERO;
        for pass in 0..passes {
            let is_now =
                |leaf: &Leaf| u64::from(leaf.place.0[0]).saturating_mul(passes) / 256 == pass;
            let mut leaves = Vec::new();
            for index in 0..self.there.len() {
                let part = self.part(index)?;
                leaves.extend(part.iter().map(|(key, value)| leaf(key, value)).filter(is_now));
            }
            leaves.sort_unstable_by_key(|leaf| leaf.place);
            for batch in leaves.chunks(IMPORT_BATCH_MAX) {
                let read = database.begin_read().map_err(fault)?;
                let pages = Pages(read.open_table(PAGES).map_err(fault)?);
                let (now, changes) = grow(&pages, batch.iter().copied());
                root = now;
                let transaction = begin_quick(database)?;
                {
                    let mut table = transaction.open_table(PAGES).map_err(fault)?;
                    for (path, page) in changes {
                        match page {
                            Some(page) => {
                                table.insert(path.as_slice(), page.as_slice()).map_err(fault)?;
                            }
                            None => drop(table.remove(path.as_slice()).map_err(fault)?),
                        }
                    }
                }
                transaction.commit().map_err(fault)?;
            }
        }
        Ok(root)
    }
}

/// Takes away parts of other snapshots, which nobody gives any more.
fn clear(parts: &Path, manifest: &Manifest) -> io::Result<()> {
    let wanted: BTreeSet<String> = manifest.parts.iter().map(ToString::to_string).collect();
    for entry in fs::read_dir(parts)? {
        let entry = entry?;
        if entry.file_name().to_str().is_none_or(|name| !wanted.contains(name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The tree as far as it is built.
struct Pages(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl StateView for Pages {
    fn value(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn first(&self, _: &[u8], _: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        None
    }

    fn page(&self, path: &[u8]) -> Option<Vec<u8>> {
        match self.0.get(path) {
            Ok(page) => page.map(|page| page.value().to_vec()),
            Err(error) => give_up(&fault(error)),
        }
    }
}
