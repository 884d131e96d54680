//! The registry: a directory that nodes may enter, by themselves, for a day at most.
//!
//! It speaks HTTPS only, stores what `spec/registry.md` names and nothing else, and vouches for
//! nothing: entries are signed by their nodes, and every reader checks that.

mod certificate;
mod client;
pub mod limits;
mod rates;
mod server;
mod store;

pub use certificate::{CertificateError, CertificateFiles};
pub use client::{ClientError, Listing, RegistryClient, registry_name};
pub use rates::Rate;
pub use server::{RegistryServer, ServerOptions, StartError};
pub use store::{Postgres, PostgresOptions, Query, Sqlite, Store, StoreError, Told};
