//! What a registry remembers, in a database.

mod postgres;
mod sqlite;

use std::{fmt, path::PathBuf};

use arknet_types::{
    Endpoint, EntryBody, ModelName, NetworkId, NodeId, PublicKey, RegistryEntry, RegistryName,
    RegistryWithdrawal, Signature, Timestamp,
    limits::{CLOCK_SKEW_MS_MAX, REGISTRY_LIFETIME_MS_MAX},
};
use async_trait::async_trait;

pub use postgres::{Postgres, PostgresOptions};
pub use sqlite::Sqlite;

/// Why the database does not do its part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The connection string is none, or asks for what is not safe.
    #[error("the connection string of the database: {0}")]
    Address(String),
    /// Everybody who may work on it is busy.
    #[error("the database did not answer in time")]
    Busy,
    /// A certificate for the connection cannot be used.
    #[error("{}: {words}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// A row that this program has not written.
    #[error("the database holds an entry that is none")]
    Content,
    /// The database of PostgreSQL says no.
    #[error("the database: {}", words(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The database of SQLite says no.
    #[error("the database: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// An error with its causes: PostgreSQL's own words stand in the cause.
fn words(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}

/// What came of what a node told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// It holds; the key was not known before.
    Added,
    /// It holds, in place of what was told before.
    Replaced,
    /// Something with this sequence or a higher one was told before.
    Superseded,
}

/// Which entries are asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Query {
    /// Those with this model; all when none.
    pub model: Option<ModelName>,
    /// Those whose keys come after this one.
    pub after: Option<PublicKey>,
    /// How many at most.
    pub limit: usize,
}

/// A database that holds entries. Every implementation passes the same suite.
///
/// For each key the newest entry is kept, with its sequence. An entry that expires, or is withdrawn,
/// leaves nothing behind but key and sequence, for as long as an older entry of that key could still
/// be brought again.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Keeps an entry whose signature was checked, unless a newer one was told.
    async fn put(&self, entry: &RegistryEntry) -> Result<Told, StoreError>;

    /// Forgets an entry, unless a newer one was told. The key need not be known: what it has signed
    /// before is refused from now on.
    async fn withdraw(&self, withdrawal: &RegistryWithdrawal) -> Result<Told, StoreError>;

    /// Whether something of this key is remembered.
    async fn knows(&self, key: &PublicKey) -> Result<bool, StoreError>;

    /// Entries that have not expired, in the order of their keys.
    async fn list(&self, query: &Query, now: Timestamp) -> Result<Vec<RegistryEntry>, StoreError>;

    /// Forgets what has expired. Returns how many keys are remembered.
    async fn sweep(&self, now: Timestamp) -> Result<u64, StoreError>;

    /// What kind of database it is, for people.
    fn kind(&self) -> &'static str;
}

/// Until when the sequence of something signed at `issued_at` must be remembered: nothing that the
/// key has signed before it lives longer.
fn forget_at(issued_at: Timestamp) -> Timestamp {
    issued_at.plus_ms(REGISTRY_LIFETIME_MS_MAX + CLOCK_SKEW_MS_MAX)
}

/// Numbers as both databases hold them. All of ours are below 2^53.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_i64(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Content)
}

/// Names of models hold no white space, so lines keep them apart.
fn join(models: &[ModelName]) -> String {
    models.iter().map(ModelName::as_str).collect::<Vec<_>>().join("\n")
}

/// An entry as the columns of its row.
struct Row {
    network: String,
    registry: String,
    key: Vec<u8>,
    node_id: String,
    endpoint: String,
    models: String,
    sequence: i64,
    issued_at: i64,
    expires_at: i64,
    signature: Vec<u8>,
}

/// The columns of a row, in the order in which both databases are asked for them.
const COLUMNS: &str = "e.network, e.registry, e.key, e.node_id, e.endpoint, e.models, \
                       e.sequence, e.issued_at, e.expires_at, e.signature";

impl Row {
    fn entry(self) -> Result<RegistryEntry, StoreError> {
        fn read<T>(value: Option<T>) -> Result<T, StoreError> {
            value.ok_or(StoreError::Content)
        }
        let models = self.models.lines().map(ModelName::new).collect::<Result<_, _>>();
        let body = EntryBody {
            network: read(NetworkId::new(self.network).ok())?,
            registry: read(RegistryName::new(self.registry).ok())?,
            public_key: PublicKey(read(self.key.try_into().ok())?),
            node_id: read(NodeId::new(self.node_id).ok())?,
            endpoint: read(Endpoint::new(self.endpoint).ok())?,
            models: read(models.ok())?,
            sequence: from_i64(self.sequence)?,
            issued_at: Timestamp(from_i64(self.issued_at)?),
            expires_at: Timestamp(from_i64(self.expires_at)?),
        };
        let signature = Signature(read(self.signature.try_into().ok())?);
        Ok(RegistryEntry { body, signature })
    }
}
