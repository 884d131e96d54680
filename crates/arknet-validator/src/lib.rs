//! The shell of the ledger: what keeps it, tells of it and lets it go on.
//!
//! [`Store`] holds blocks and state on disk, one transaction for each height. What the rules are is
//! decided in `arknet-chain`.

pub mod limits;
mod store;

pub use store::{Found, Import, ImportError, Reader, Store, StoreCommit, StoreError, StoreOptions};
