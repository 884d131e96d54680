use arknet_types::{InferRequest, ModelDigest, ModelName, PublicKey, Refusal, Reply};
use futures::{future::BoxFuture, stream::BoxStream};

/// What stands behind the door. Implemented by the node, which knows the local engine and the mesh.
pub trait Dispatch: Send + Sync + 'static {
    /// Finds somebody who answers. Resolves when a peer has begun to answer (first token or end),
    /// so that a refusal can still become an HTTP status. Dropping the future withdraws the request.
    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<Answer, Refusal>>;

    /// The models that can be asked now.
    fn models(&self) -> Vec<ListedModel>;
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
    /// Which file it is.
    pub digest: ModelDigest,
    /// Tokens of input and answer together.
    pub context_tokens: u32,
    /// Whether this node serves it itself.
    pub local: bool,
    /// Which other peers serve it.
    pub peers: Vec<PublicKey>,
    /// Free slots over all of them, as last heard.
    pub slots_free: u32,
}
