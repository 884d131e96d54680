//! The shell of the ledger: what keeps it, tells of it and lets it go on.
//!
//! [`Store`] holds blocks and state on disk, one transaction for each height. [`RpcServer`] tells of
//! them over HTTP, and asks the driver of the node ([`Link`]) for what only that knows. What the rules
//! are is decided in `arknet-chain`.

pub mod limits;
mod link;
mod rpc;
mod store;

pub use link::{Ask, Asked, Link, NotAccepted, Progress, Waiting};
pub use rpc::{RpcOptions, RpcServer};
pub use store::{Found, Import, ImportError, Reader, Store, StoreCommit, StoreError, StoreOptions};
