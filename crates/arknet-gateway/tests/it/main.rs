//! The door over real connections, with a scripted dispatch behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anthropic;
mod client;
mod door;
mod endpoints;
mod errors;
mod hostile;
mod keys;
mod observe;
mod ollama;
mod openai;
mod script;
mod streams;
