//! The shell of the ledger: what keeps it, tells of it and lets it go on.
//!
//! A [`Validator`] is one node of the chain: it drives the state machine of `arknet-consensus` over a
//! [`Transport`]. [`Store`] holds blocks and state on disk, one transaction for each height.
//! [`RpcServer`] tells of them over HTTP, and asks the node by a [`Link`] for what only that knows.
//! What the rules are is decided in `arknet-chain`.

mod driver;
pub mod limits;
mod link;
mod rpc;
mod signatures;
mod store;
mod transport;
mod wal;

pub use driver::{DriverError, StartError, Validator, ValidatorOptions};
pub use link::{Ask, Asked, Link, NotAccepted, Progress, Waiting};
pub use rpc::{RpcOptions, RpcServer};
pub use signatures::which_hold;
pub use store::{Found, Import, ImportError, Reader, Store, StoreCommit, StoreError, StoreOptions};
pub use transport::{Event, Transport};
pub use wal::WalError;
