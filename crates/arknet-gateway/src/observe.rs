use std::time::Duration;

use arknet_types::{ModelName, PublicKey, Usage};
use futures::future::BoxFuture;

/// The text format of OpenMetrics, which Prometheus reads.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who wants to know how requests went. Implemented by the node, for `/metrics`.
pub trait Observer: Send + Sync + 'static {
    /// A request has begun. Called inside of a runtime.
    fn began(&self);

    /// A request has ended: its answer is complete, refused, or nobody waits for it any more.
    fn ended(&self, record: &RequestRecord);

    /// Everything known, as [`METRICS_CONTENT_TYPE`].
    fn metrics(&self) -> BoxFuture<'_, String>;
}

/// How one request went. Holds nothing a user wrote.
#[derive(Clone, Debug)]
pub struct RequestRecord {
    /// Whose API: `openai`, `anthropic` or `ollama`.
    pub door: &'static str,
    /// What was asked of it: `chat`, `embeddings`.
    pub endpoint: &'static str,
    /// The status of the response; 499 where the client left before there was one.
    pub status: u16,
    /// The stable code of what went wrong, before or after the response had begun.
    pub error: Option<&'static str>,
    /// The model, once somebody answered for it: a name that a stranger made up never gets here.
    pub model: Option<ModelName>,
    /// Who answered.
    pub peer: Option<PublicKey>,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// From the request's head until the request was passed on: reading, checking, mapping.
    pub until_dispatch: Option<Duration>,
    /// From the request's head to the first piece of the answer.
    pub first_piece: Option<Duration>,
    /// From the request's head to the last piece of the answer.
    pub last_piece: Option<Duration>,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub answer_bytes: u64,
    /// What it took, as far as it went.
    pub usage: Usage,
    /// Whether the answer was streamed.
    pub streamed: bool,
    /// Whether the client left before the end.
    pub left: bool,
}
