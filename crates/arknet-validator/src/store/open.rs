use std::{
    fs::{self, File},
    io,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use arknet_chain::{Genesis, Hash, Key, ValidatorSet};
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};

use super::{
    Reader, StoreError,
    commit::write_changes,
    error::{fault, fault_io},
    schema::{self, FORMAT, META, META_FORMAT, META_GENESIS, META_HEIGHT, PAGES, SETS, VALUES},
};
use crate::limits::{CACHE_BYTES, CHECKPOINT_MS, SNAPSHOT_INTERVAL};

/// The file of a store in its directory.
pub(super) const FILE_NAME: &str = "chain.redb";
/// What it is called until it is whole.
pub(super) const DRAFT_NAME: &str = "chain.redb.new";

/// How the ledger is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoreOptions {
    /// Memory for pages of the store.
    pub cache_bytes: usize,
    /// Blocks that are kept, the last ones; none keeps all. The state is always kept whole.
    pub keep_blocks: Option<NonZeroU64>,
    /// Time after which heights that are safe in the log alone are written to the store's file, with
    /// the next block. More time, less to write, and more to do again after a crash.
    pub checkpoint_ms: u64,
    /// Heights between two snapshots that are made for others; none makes none. All nodes should
    /// have the same, for then a new one fetches from all of them at once.
    pub snapshot_interval: Option<NonZeroU64>,
    /// A block that the operator knows to be the chain's, for a node that was away so long that what
    /// it knows proves nothing any more.
    pub trusted: Option<(u64, Hash)>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            keep_blocks: None,
            checkpoint_ms: CHECKPOINT_MS,
            snapshot_interval: NonZeroU64::new(SNAPSHOT_INTERVAL),
            trusted: None,
        }
    }
}

/// The ledger on disk. Many may read while one writes; readers see the height they began with.
#[derive(Clone, Debug)]
pub struct Store {
    /// Another one once a snapshot has taken the place of the ledger.
    database: Arc<RwLock<Arc<Database>>>,
    pub(super) options: StoreOptions,
    genesis: Arc<Genesis>,
    genesis_id: Hash,
}

impl Store {
    /// Opens the store in `directory`, which must be there, or makes one that begins with `genesis`.
    pub fn open(
        directory: &Path,
        genesis: Genesis,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        if !path.exists() {
            // A database that is cut off while it is made is none: it gets its name when it is whole.
            let database = draft(directory, &options)?;
            begin(&database, &genesis)?;
            drop(database);
            publish(directory)?;
        }
        let database = builder(&options).open(&path).map_err(fault)?;
        Self::with(database, path, genesis, options)
    }

    /// The same over storage of another kind, as tests have it.
    pub fn open_on(
        backend: impl redb::StorageBackend,
        genesis: Genesis,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let database = builder(&options).create_with_backend(backend).map_err(fault)?;
        Self::with(database, PathBuf::from("the store"), genesis, options)
    }

    fn with(
        database: Database,
        path: PathBuf,
        genesis: Genesis,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let expected = genesis.id();
        match found(&database, &path)? {
            None => begin(&database, &genesis)?,
            Some(found) if found == expected => {}
            Some(found) => return Err(StoreError::OtherChain { path, expected, found }),
        }
        let database = Arc::new(RwLock::new(Arc::new(database)));
        Ok(Self { database, options, genesis: Arc::new(genesis), genesis_id: expected })
    }

    /// How it is kept.
    #[must_use]
    pub const fn options(&self) -> &StoreOptions {
        &self.options
    }

    /// What the chain began with.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The name of what the chain began with.
    #[must_use]
    pub const fn genesis_id(&self) -> Hash {
        self.genesis_id
    }

    /// The ledger as it is now, and stays for who holds this. What is held keeps old pages from
    /// being used again: not to be held for long.
    pub fn read(&self) -> Result<Reader, StoreError> {
        let database = self.database();
        let transaction = database.begin_read().map_err(fault)?;
        Reader::new(transaction, database, self.genesis_id)
    }

    pub(super) fn database(&self) -> Arc<Database> {
        Arc::clone(&self.database.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the store that was built beside it in `directory` in the place of this one, for all who
    /// share it. Who reads goes on in the old one.
    pub(super) fn take(&self, directory: &Path) -> Result<(), StoreError> {
        publish(directory)?;
        let new = builder(&self.options).open(directory.join(FILE_NAME)).map_err(fault)?;
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        *database = Arc::new(new);
        Ok(())
    }
}

fn builder(options: &StoreOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder
}

/// A new database under a name that is not the store's.
pub(super) fn draft(directory: &Path, options: &StoreOptions) -> Result<Database, StoreError> {
    let path = directory.join(DRAFT_NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fault_io(error)),
        _ => builder(options).create(&path).map_err(fault),
    }
}

/// Gives the draft, which must be closed, the store's name.
pub(super) fn publish(directory: &Path) -> Result<(), StoreError> {
    fs::rename(directory.join(DRAFT_NAME), directory.join(FILE_NAME)).map_err(fault_io)?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fault_io)
}

/// Takes the draft away.
pub(super) fn discard(directory: &Path) -> Result<(), StoreError> {
    fs::remove_file(directory.join(DRAFT_NAME)).map_err(fault_io)
}

/// The genesis of the chain in a database; none where it is new.
fn found(database: &Database, path: &Path) -> Result<Option<Hash>, StoreError> {
    let transaction = database.begin_read().map_err(fault)?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    let damaged = |what: &str| StoreError::Damaged(what.to_owned());
    let format = meta.get(META_FORMAT).map_err(fault)?.ok_or_else(|| damaged("no format"))?;
    let format = arknet_types::decode(format.value()).map_err(|_| damaged("no format"))?;
    if format > FORMAT {
        return Err(StoreError::NewerFormat { found: format, known: FORMAT });
    }
    if format < FORMAT {
        let (path, found, known) = (path.to_owned(), format, FORMAT);
        return Err(StoreError::OlderFormat { path, found, known });
    }
    let genesis = meta.get(META_GENESIS).map_err(fault)?.ok_or_else(|| damaged("no genesis"))?;
    let genesis = arknet_types::decode(genesis.value()).map_err(|_| damaged("no genesis"))?;
    Ok(Some(genesis))
}

/// Writes the state before the first block.
fn begin(database: &Database, genesis: &Genesis) -> Result<(), StoreError> {
    let (changes, _) = genesis.state()?;
    let transaction = begin_write(database)?;
    write_meta(&transaction, genesis.id(), 0)?;
    write_changes(&transaction, &changes)?;
    let set = changes.values.get(&Key::Validators.bytes()).and_then(Option::as_deref);
    let set = set.expect("a genesis has validators");
    debug_assert!(arknet_types::decode::<ValidatorSet>(set).is_ok(), "a set is what stands there");
    transaction.open_table(SETS).map_err(fault)?.insert(1, set).map_err(fault)?;
    make_tables(&transaction)?;
    transaction.commit().map_err(fault)
}

/// A transaction that is on disk, whole, when its commit returns.
///
/// Two phases and a saved map of what is free make a commit dearer by one sync; without them a
/// store is read from one end to the other after each crash.
pub(super) fn begin_write(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

/// A transaction that is on disk with the next one of [`begin_write`].
pub(super) fn begin_quick(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_durability(Durability::None).expect("it keeps no savepoint");
    Ok(transaction)
}

pub(super) fn write_meta(
    transaction: &WriteTransaction,
    genesis: Hash,
    height: u64,
) -> Result<(), StoreError> {
    let mut meta = transaction.open_table(META).map_err(fault)?;
    let format = arknet_types::encode(&FORMAT);
    let (genesis, height) = (arknet_types::encode(&genesis), arknet_types::encode(&height));
    meta.insert(META_FORMAT, format.as_slice()).map_err(fault)?;
    meta.insert(META_GENESIS, genesis.as_slice()).map_err(fault)?;
    meta.insert(META_HEIGHT, height.as_slice()).map_err(fault)?;
    Ok(())
}

/// Makes those that are still missing: readers open all of them.
pub(super) fn make_tables(transaction: &WriteTransaction) -> Result<(), StoreError> {
    for table in [schema::HEADERS, schema::CERTIFICATES, schema::BLOCKS, schema::OUTCOMES, SETS] {
        transaction.open_table(table).map_err(fault)?;
    }
    for table in [VALUES, PAGES] {
        transaction.open_table(table).map_err(fault)?;
    }
    transaction.open_table(schema::HEIGHTS).map_err(fault)?;
    transaction.open_table(schema::TRANSACTIONS).map_err(fault)?;
    transaction.open_table(schema::CHANNELS).map_err(fault)?;
    Ok(())
}
