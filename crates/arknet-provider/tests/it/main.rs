//! Providers from outside: processes that fail in every way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod fleet;
mod support;
