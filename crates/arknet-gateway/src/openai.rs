//! OpenAI's API as pure functions: JSON to requests, replies to JSON. No I/O, no clock.

mod content;
mod params;
mod parse;
mod request;
mod response;
mod shape;

pub use request::{Asked, chat, completion};
pub use response::{Answered, Endpoint, Head, model_json, models_json};
pub(crate) use response::{Piece, write_error};

pub(crate) use params::at_fault;

#[cfg(test)]
mod tests;
