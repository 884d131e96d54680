use std::sync::Arc;

use arknet_types::ModelName;

/// Who may use the doors. Implemented by the node, which keeps the keys.
pub trait Keys: Send + Sync + 'static {
    /// Judges the key that came with a request; none where none came. Counts the request.
    fn admit(&self, key: Option<&str>) -> Result<Pass, KeyError>;
}

/// The right to one request.
pub trait Right: Send + Sync {
    /// Whether it covers this model.
    fn allows(&self, model: &ModelName) -> bool;

    /// Counts tokens of an answer against the key's daily number.
    fn spend(&self, tokens: u64);
}

/// An admitted request's right.
pub type Pass = Arc<dyn Right>;

/// Why a key does not open the door.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// A key is needed, and none came: 401.
    #[error("an API key is needed: send it as Authorization: Bearer sk-ark-...")]
    Missing,
    /// No such key, or one that was revoked: 401.
    #[error("this API key is not known here")]
    Unknown,
    /// Its time is over: 401.
    #[error("this API key has expired")]
    Expired,
    /// It is not for this model: 403.
    #[error("this API key is not for this model")]
    Model,
    /// Too many requests in this minute: 429.
    #[error("this API key has used up its requests for this minute")]
    Requests {
        /// When to come again.
        retry_after_ms: u64,
    },
    /// Too many tokens today: 429.
    #[error("this API key has used up its tokens for today")]
    Tokens {
        /// When to come again.
        retry_after_ms: u64,
    },
}
