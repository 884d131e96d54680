//! llama.cpp inside this process: one model for many requests at once.
//!
//! [`LlamaProvider`] is a [`Provider`](arknet_provider::Provider). It is made to run in a process
//! of its own, because native code may end its process; [`survey`] says beforehand, without loading
//! anything, what a model will be and how much memory it takes. Nothing in this crate writes a
//! prompt or a completion to a log or a disk.

mod embedded;
pub mod gguf;
mod llama;

pub use embedded::{EmbeddedModel, embedded_model};
pub use llama::{
    EngineStats, LlamaOptions, LlamaProvider, LoadError, Survey, memory_bytes_available, survey,
    survey_with,
};

/// Whether this build computes on a graphics processor.
pub const HAS_GPU: bool = cfg!(any(feature = "cuda", feature = "metal", feature = "vulkan"));
