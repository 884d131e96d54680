use std::{io, path::PathBuf};

use arknet_chain::{GenesisError, Hash};

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it.
    #[error("the ledger's store is in use by another process")]
    Busy,
    /// It is not what was written.
    #[error("the ledger's store is damaged ({0}); restore a backup, or begin anew from a snapshot")]
    Damaged(String),
    /// There is no room.
    #[error("the disk that holds the ledger is full; make room and start again")]
    DiskFull,
    /// What it begins with cannot be used.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The system refuses.
    #[error("the ledger's store: {0}")]
    Io(#[from] io::Error),
    /// It was written by a newer version.
    #[error("the ledger's store has format {found}, this version knows {known}; use a newer one")]
    NewerFormat {
        /// Its format.
        found: u64,
        /// What is known here.
        known: u64,
    },
    /// It was written by an older version, whose blocks say less.
    #[error(
        "{} has format {found}, which this version reads no more; it knows {known}: use another \
         directory, and fetch the chain anew", path.display()
    )]
    OlderFormat {
        /// Where it lies.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// What is known here.
        known: u64,
    },
    /// Not the block after the last one.
    #[error("the store is at height {height}: the block given is not the next one")]
    NotNext {
        /// The last height.
        height: u64,
    },
    /// It holds another chain.
    #[error(
        "{} holds the chain with genesis {found}, not {expected}; use another directory", path.display()
    )]
    OtherChain {
        /// Where it lies.
        path: PathBuf,
        /// The genesis given.
        expected: Hash,
        /// The genesis in it.
        found: Hash,
    },
    /// The database says something else.
    #[error("the ledger's store: {0}")]
    Database(#[source] Box<redb::Error>),
}

/// What an error of the database means.
pub(super) fn fault(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => StoreError::Busy,
        redb::Error::Corrupted(what) => StoreError::Damaged(what),
        redb::Error::Io(error) => fault_io(error),
        redb::Error::Backend(error) => match error.downcast::<io::Error>() {
            Ok(error) => fault_io(*error),
            Err(error) => StoreError::Io(io::Error::other(error)),
        },
        other => StoreError::Database(Box::new(other)),
    }
}

/// What an error of the system means.
pub(super) fn fault_io(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull,
        io::ErrorKind::InvalidData => StoreError::Damaged(error.to_string()),
        _ => StoreError::Io(error),
    }
}

/// Ends the process: who asked for something that is there and cannot be read must not take it for
/// something that is not there.
pub(super) fn give_up(error: &StoreError) -> ! {
    tracing::error!(%error, "the ledger's store cannot be read, and nothing can be decided without it");
    std::process::abort();
}
