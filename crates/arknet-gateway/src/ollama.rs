//! Ollama's API as pure functions: JSON to requests, replies to lines and JSON. Only `routes` and
//! `pull` do more.

mod answer;
mod catalog;
mod error;
mod lifetime;
mod moment;
mod pull;
mod request;
mod routes;
mod truncate;
mod wire;

pub use request::{Asked, Embed, Named, Task, chat, embed, embeddings, generate, named};
pub(crate) use routes::routes;

#[cfg(test)]
mod tests;
