//! The registry over real sockets and real databases.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod door;
mod entries;
mod instances;
mod lies;
mod suite;
