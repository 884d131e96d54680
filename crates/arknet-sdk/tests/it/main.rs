//! The ledger from outside: against the real chain RPC over a real store, and against one that lies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ledger;
mod liar;
mod light;
mod sending;
