//! Providers: things that answer requests, behind one narrow trait.
//!
//! A provider gets an [`InferRequest`](arknet_types::InferRequest) and gives text, token counts and
//! a way to cancel. It knows nothing of peers, keys or money, so it can move into a process of its
//! own without a change to anything above it.
//!
//! The one provider here is llama.cpp, embedded ([`LlamaProvider`]). Nothing in this crate writes a
//! prompt or a completion to a log or a disk.

mod embedded;
pub mod gguf;
mod llama;
mod provider;

pub use embedded::{EmbeddedModel, embedded_model};
pub use llama::{LlamaOptions, LlamaProvider, LoadError};
pub use provider::{Generation, ModelInfo, Provider};
