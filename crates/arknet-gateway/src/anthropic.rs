//! Anthropic's API as pure functions: JSON to requests, replies to events and JSON. Only `routes`
//! does more.

mod answer;
mod error;
mod models;
mod request;
mod routes;
mod tools;
mod wire;

pub use answer::{Head, count_json};
pub(crate) use models::is_asked;
pub use models::{model_json, models_json};
pub use request::{Asked, Thoughts, count_tokens, messages};
pub(crate) use routes::routes;

#[cfg(test)]
mod tests;
