use std::sync::Arc;

use arknet_types::{Capabilities, InferRequest, ModelDigest, ModelName, Refusal};
use borsh::{BorshDeserialize, BorshSerialize};
use tokio::sync::watch;

use crate::Generation;

/// The models of a provider, now and whenever that changes.
pub type Models = watch::Receiver<Arc<[ModelInfo]>>;

/// Whose request it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Of whoever the machine belongs to.
    Owner,
    /// Of somebody else.
    Guest,
}

/// Something that answers requests.
pub trait Provider: Send + Sync + 'static {
    /// What it serves, now and whenever that changes. A model that cannot be served at this moment,
    /// because its upstream is down or its process failed, is not in the list.
    fn models(&self) -> Models;

    /// Starts answering and returns at once, or refuses. Never blocks, so it may be called from an
    /// async task. More than [`ModelInfo::slots`] generations at a time are refused as busy.
    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal>;

    /// The same, for whom. A provider that has little memory gives it to the owner first.
    fn generate_for(&self, origin: Origin, request: InferRequest) -> Result<Generation, Refusal> {
        let _ = origin;
        self.generate(request)
    }

    /// Rises whenever it gets on with what it was asked, also where there is nothing to say yet.
    /// One whose requests wait while this stands still hangs. Called as [`Self::stats`] is.
    fn progress(&self) -> u64 {
        0
    }

    /// Numbers about itself, in a form that whoever started it knows. Never anything a user wrote.
    /// Called from an async task now and then; must not block.
    fn stats(&self) -> Vec<u8> {
        Vec::new()
    }
}

/// A model a provider serves.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ModelInfo {
    /// What requests call it.
    pub name: ModelName,
    /// Which file it is; none where the file is not known, as behind a hosted service.
    pub digest: Option<ModelDigest>,
    /// The file beside it that turns pictures into what it reads; none without one.
    pub projector: Option<ModelDigest>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tokens that input and answer of one request may have together.
    pub context_tokens: u32,
    /// Requests answered at once.
    pub slots: u16,
    /// What else is known of it.
    pub details: ModelDetails,
}

/// What people like to know of a model. None is unknown.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct ModelDetails {
    /// The kind of network, as in the file: `qwen3`, `llama`.
    pub architecture: Option<String>,
    /// Numbers learned.
    pub parameters: Option<u64>,
    /// How they are stored: `Q8_0`.
    pub quantization: Option<String>,
    /// Size of the file in bytes.
    pub file_bytes: Option<u64>,
    /// Numbers in one of its vectors.
    pub embedding_dimensions: Option<u32>,
    /// Its chat template.
    pub template: Option<String>,
    /// What runs it, in a form that does not change as long as its results do not: engine, version
    /// and instruction set.
    pub build_class: Option<String>,
}
