//! The ledger from outside: blocks go in, and what comes out is held against the rules, against a
//! second ledger that is written another way, and against itself.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod blocks;
mod chain;
mod channels;
mod escrows;
mod evidence;
mod governance;
mod light;
mod mempool;
mod models;
mod openapi;
mod outcomes;
mod random;
mod reference;
mod refused;
mod rewards;
mod rpc;
mod staking;
mod transfers;
mod vectors;
