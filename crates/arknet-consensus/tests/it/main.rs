//! One node of the chain from outside: its bytes, and what it thinks of its peers. How many of them
//! fare together is in `arknet-sim`.

#![allow(clippy::unwrap_used, reason = "a test fails where it stands")]

mod manners;
mod vectors;
mod village;
