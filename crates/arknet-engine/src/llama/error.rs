use std::path::PathBuf;

use crate::gguf::GgufError;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The memory for caches could not be had although the plan thought so.
    #[error(
        "{path}: no memory for {slots} contexts of {context_tokens} tokens; \
         ask for a shorter context or fewer slots"
    )]
    Context {
        /// The model file.
        path: PathBuf,
        /// Slots asked for.
        slots: u16,
        /// Context asked for.
        context_tokens: u32,
    },
    /// The file is not a model, or not a whole one.
    #[error("{path}: {cause}; download it again or choose another file")]
    Gguf {
        /// The model file.
        path: PathBuf,
        /// What is wrong with it.
        cause: GgufError,
    },
    /// Another model of this process chose other kernels before.
    #[error("{path}: this process computes with other kernels already; load the model in its own")]
    Kernels {
        /// The model file.
        path: PathBuf,
    },
    /// Not even one request fits.
    #[error(
        "{path}: needs {needed_mib} MiB of memory and {available_mib} MiB are available; \
         choose a smaller model, ask for a shorter context, or raise the memory limit"
    )]
    Memory {
        /// The model file.
        path: PathBuf,
        /// What weights and the smallest cache take.
        needed_mib: u64,
        /// What may be taken.
        available_mib: u64,
    },
    /// The exact profile was asked for, and this model computed otherwise in another division of
    /// the work, or cannot be stored as the profile needs it.
    #[error(
        "{path}: does not compute the same bits in every division of the work; \
         leave its profile at the default"
    )]
    NotExact {
        /// The model file.
        path: PathBuf,
    },
    /// A model for something else than what requests ask.
    #[error("{path}: {architecture} models translate between texts; no request asks for that")]
    NotServed {
        /// The model file.
        path: PathBuf,
        /// Its kind.
        architecture: String,
    },
    /// More context than the model has positions.
    #[error(
        "{path}: was made for {trained_tokens} tokens and cannot have a context of {asked_tokens}; \
         ask for a shorter context"
    )]
    Positions {
        /// The model file.
        path: PathBuf,
        /// Context asked for.
        asked_tokens: u32,
        /// Context there is.
        trained_tokens: u32,
    },
    /// The native loader cannot use the projector with this model; its reasons are in the log.
    #[error(
        "{path}: llama.cpp cannot use this projector (its reasons are in the log); \
         take the one that was made for the model"
    )]
    Projector {
        /// The projector's file.
        path: PathBuf,
    },
    /// The native loader says no; its reasons are in the log.
    #[error(
        "{path}: llama.cpp cannot load this {architecture} model (its reasons are in the log); \
         it may need a newer version of this program, or the file may be damaged"
    )]
    Refused {
        /// The model file.
        path: PathBuf,
        /// Its kind.
        architecture: String,
    },
    /// The system would not start a thread.
    #[error("a thread for the model could not be started")]
    Thread(#[source] std::io::Error),
}
