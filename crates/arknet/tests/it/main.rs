//! Real processes of the real program, on loopback, and the clients people use.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approval;
mod ask;
mod audit;
mod clients;
mod commands;
mod console;
mod density;
mod engine;
mod failure;
mod getting_started;
#[allow(dead_code, reason = "the tests of the engine use the rest")]
#[path = "../../../arknet-engine/tests/it/gguf.rs"]
mod gguf;
mod grid;
mod keys;
mod ledger;
mod metrics;
mod namespaces;
mod network;
mod packaging;
mod partition;
mod pictures;
mod priority;
mod pull;
mod refusals;
mod registry;
mod sdk;
mod validators;
mod vpn;
// A chain behind the store and the RPC of `arknet_validator`.
#[allow(dead_code, reason = "the tests of the SDK use the rest")]
#[path = "../../../arknet-sdk/tests/it/ledger.rs"]
mod world;
