//! A node in this process, a scripted provider behind it, and peers that mean it harm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approving;
mod fixture;
mod free_quota;
mod hostile;
mod privacy;
mod private;
mod serving;
