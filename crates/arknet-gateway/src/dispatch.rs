use std::time::Duration;

use arknet_types::{Capabilities, InferRequest, ModelDigest, ModelName, PublicKey, Refusal, Reply};
use futures::{future::BoxFuture, stream::BoxStream};

/// What stands behind the doors. Implemented by the node, which knows the local engine and the mesh.
pub trait Dispatch: Send + Sync + 'static {
    /// Finds somebody who answers. Resolves when a peer has begun to answer (first piece or end), so
    /// that a refusal can still become an HTTP status. Dropping the future withdraws the request.
    fn infer(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, Refusal>>;

    /// The models that can be asked now.
    fn models(&self) -> Vec<ListedModel>;

    /// The models of this node that are in memory now.
    fn loaded(&self) -> Vec<LoadedModel>;

    /// Loads a model of this node, or lets go of it ([`KeepAlive::None`]), and says when that is done.
    fn keep(&self, model: ModelName, keep: KeepAlive) -> BoxFuture<'_, Result<(), Refusal>>;

    /// Fetches a model, from a URL or from peers that have it, and tells how far it is. Dropping the
    /// stream stops the transfer; what has arrived is kept for the next try.
    fn pull(&self, model: String) -> BoxStream<'static, Pull>;
}

/// A request as a door passes it on.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What is asked.
    pub infer: InferRequest,
    /// How long the model stays in memory afterwards, where it runs here and the app has a wish.
    pub keep_alive: Option<KeepAlive>,
}

impl Ask {
    /// A request without wishes about memory.
    #[must_use]
    pub const fn new(infer: InferRequest) -> Self {
        Self { infer, keep_alive: None }
    }
}

/// How long a model stays in memory after its last request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeepAlive {
    /// Not at all.
    None,
    /// For this long.
    For(Duration),
    /// Until memory is needed for another.
    Forever,
}

/// An answer under way.
pub struct Answer {
    /// Who answers.
    pub peer: PublicKey,
    /// The pieces, ended by `Done` or `Refused`. Dropping the stream cancels the generation.
    pub replies: BoxStream<'static, Reply>,
}

/// A model that can be asked, and where it is.
#[derive(Clone, Debug)]
pub struct ListedModel {
    /// What it is called.
    pub name: ModelName,
    /// Which file it is; none where nobody knows, as behind a hosted service.
    pub digest: Option<ModelDigest>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tokens of input and answer together.
    pub context_tokens: u32,
    /// Whether this node serves it itself.
    pub local: bool,
    /// Which other peers serve it.
    pub peers: Vec<PublicKey>,
    /// Free slots over all of them, as last heard.
    pub slots_free: u32,
    /// What else is known of it; only of models of this node.
    pub about: About,
}

/// What people like to know of a model. None is unknown.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The kind of network: `qwen3`, `llama`.
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
    /// What runs it, in a form that changes when its results may: engine, version, instruction set.
    pub build_class: Option<String>,
    /// When it was added to this node, in seconds since the epoch.
    pub added_unix_s: Option<u64>,
}

/// A model in memory.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// What it is called.
    pub name: ModelName,
    /// What it takes, weights and caches together.
    pub memory_bytes: u64,
    /// Of these, on graphics processors.
    pub gpu_memory_bytes: u64,
    /// When it leaves, if nobody asks for it until then, in seconds since the epoch; none is never.
    pub expires_unix_s: Option<u64>,
}

/// How far a transfer is.
#[derive(Clone, Debug)]
pub enum Pull {
    /// Looking for the model.
    Looking,
    /// Bytes of the file that are here.
    Progress {
        /// The file, where it is known.
        digest: Option<ModelDigest>,
        /// Here.
        done_bytes: u64,
        /// Of so many, where that is known.
        total_bytes: Option<u64>,
    },
    /// A peer sent something wrong and is not asked any more.
    Dropped {
        /// Which.
        peer: PublicKey,
        /// What it did.
        words: String,
    },
    /// Holding the file against its digest.
    Verifying,
    /// The model can be asked.
    Ready,
    /// It did not work; nothing follows.
    Failed(Refusal),
}
