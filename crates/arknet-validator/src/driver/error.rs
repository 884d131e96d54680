use std::io;

use arknet_consensus::Halt;

use crate::{StoreError, WalError};

/// Why a node of the chain cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// Its state machine must not.
    #[error(transparent)]
    Halt(#[from] Halt),
    /// An invariant of ours is broken.
    #[error("the thread of the ledger panicked; the log says where")]
    Panicked,
    /// The ledger cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing comes from other nodes any more.
    #[error("the transport of the ledger has ended")]
    Transport,
    /// What must survive a crash cannot be kept.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Why a node of the chain does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It could not go on.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The system gives no thread.
    #[error("no thread for the ledger: {0}")]
    Thread(#[source] io::Error),
}
