//! The shell of the ledger from outside: on disks that fail, over real HTTP, in several nodes.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod chain;
mod disk;
mod driver;
mod http;
mod joins;
mod killed;
mod network;
mod power;
mod rpc;
mod snapshot;
mod store;
mod torn;
mod wire;
