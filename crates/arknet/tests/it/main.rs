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
mod grid;
mod keys;
mod metrics;
mod namespaces;
mod network;
mod packaging;
mod priority;
mod pull;
mod refusals;
mod registry;
mod sdk;
mod vpn;
