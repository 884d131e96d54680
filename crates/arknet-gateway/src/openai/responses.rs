//! `/v1/responses`: requests made of items, answers made of items, and conversations that go on by
//! the id of an answer.

mod events;
mod items;
mod object;
mod request;
mod shelf;
#[cfg(test)]
mod tests;

pub(crate) use events::{Events, Keep};
pub(crate) use items::Item;
pub(crate) use object::{Frame, Status, deleted_json, input_tokens_json};
pub(crate) use request::response_after;
pub use request::{ResponseAsked, response};
pub(crate) use shelf::{Kept, Shelf};
