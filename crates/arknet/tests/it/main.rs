//! Real processes of the real program, on loopback, and the clients people use.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ask;
mod clients;
mod commands;
mod engine;
mod failure;
mod grid;
mod keys;
mod metrics;
mod namespaces;
mod network;
mod pull;
mod priority;
mod registry;
mod sdk;
