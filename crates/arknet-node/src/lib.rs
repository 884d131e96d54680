//! A node: configuration, storage, serving, admin API, and how they are put together.
//!
//! A remote request passes [`serving`] (admission, queue, provider) between the mesh and the
//! engine; a local one comes through `dispatch` from the gateway and takes the same queue and
//! provider, or goes out over the mesh. Whom the owner trusts is in [`approvals`], which tells the
//! [`gate`]. [`Node`] starts and stops it all.

pub mod admin;
pub mod approvals;
pub mod audit;
mod blocks;
pub mod config;
mod console;
pub mod data;
pub mod discovery;
mod dispatch;
mod download;
mod engines;
mod files;
mod free_uses;
pub mod gate;
mod grant_usage;
mod horizon;
mod kept;
pub mod keys;
mod ledger;
mod listen;
mod metrics;
pub mod models;
mod moment;
mod node;
mod offering;
mod publisher;
mod pull;
mod queue;
mod registered;
mod reputation;
mod scrape;
pub mod secrets;
pub mod serving;
mod wake_latency;

pub use admin::{
    ApproveAnswer, ApprovedPeer, DiscoveredPeer, GridStatus, PeerList, PeerReport, PendingPeer,
    RevokeAnswer, Status,
};
pub use approvals::{Approvals, PeerEntry};
pub use config::{Config, ConfigError, Overrides, RegistryDatabase, RegistrySection, Role};
pub use data::{DataDir, DataError, RunningNode};
pub use discovery::Discovery;
pub use download::{Download, DownloadError};
pub use engines::{ENGINE_ARGUMENT, EngineError, Taken, run_engine};
pub use keys::{KeyFile, KeyRecord, KeysError, NewKey};
pub use ledger::LedgerError;
pub use listen::listen;
pub use metrics::metrics_page;
pub use models::{ModelEntry, ModelStore, ModelsError, ProjectorEntry};
pub use node::{Node, NodeError, serve_locally};
pub use secrets::{SecretError, SecretStore};
