//! OpenAI's API as pure functions: JSON to requests, replies to JSON. No I/O, no clock.

mod chunks;
mod content;
mod params;
mod parse;
mod request;
mod response;
mod routes;
mod shape;

pub use request::{Asked, chat, completion};
pub use response::{Answered, Endpoint, Head, model_json, models_json};
pub(crate) use routes::routes;

#[cfg(test)]
mod tests;
