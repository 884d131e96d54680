//! Where the ledger lies on disk: one redb file, in which a height is written in one transaction or
//! not at all.

mod commit;
mod error;
mod export;
mod import;
mod open;
mod read;
mod schema;

pub use commit::StoreCommit;
pub use error::StoreError;
pub use import::{Import, ImportError};
pub use open::{Store, StoreOptions};
pub use read::{Found, Reader};
