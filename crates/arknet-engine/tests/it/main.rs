//! The embedded engine with the model that ships.

#![allow(clippy::unwrap_used, reason = "a test fails where it happens")]

mod answers;
mod encoder;
mod exact;
mod forms;
mod gguf;
mod guesses;
mod limits;
mod loading;
mod model;
mod pictures;
mod prefix;
mod texts;
