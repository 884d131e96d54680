//! OpenAI's API as pure functions: JSON to requests, replies to JSON. No I/O, no clock.

mod chunks;
mod content;
mod format;
mod logprobs;
mod message;
mod params;
mod request;
mod response;
mod responses;
mod routes;
mod shape;
mod tokens;
mod tools;
mod vectors;

pub use request::{Asked, chat, completion};
pub use response::{Endpoint, Head, model_json, models_json};
pub(crate) use responses::Shelf;
pub use responses::{ResponseAsked, response};
pub(crate) use routes::routes;
pub use tokens::{detokenize, text_json, tokenize, tokens_json};
pub use vectors::{EmbeddingsAsked, RerankAsked, embeddings, embeddings_json, rerank, rerank_json};

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
