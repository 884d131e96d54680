//! Meshes over real sockets on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

mod chain;
mod finding;
mod limits;
mod offers;
mod private;
mod relay;
mod requests;
mod restart;
mod support;
