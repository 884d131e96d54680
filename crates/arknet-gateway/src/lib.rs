//! The local HTTP door: OpenAI's API on one side, arknet requests on the other.
//!
//! A request passes these files in this order: `server` accepts the connection, `http` guards and
//! routes, `body` reads, `openai` maps JSON to an [`arknet_types::InferRequest`] without any I/O,
//! [`Dispatch`] (implemented by the node) finds somebody who answers, and `sse` or `openai` puts the
//! replies into OpenAI's shapes. Every failure is one [`ApiError`]; every bound is in [`Limits`].
//!
//! Nothing a user wrote is logged, and nothing about the user is part of what is dispatched.

mod body;
mod dispatch;
mod error;
mod guard;
mod http;
mod id;
mod limits;
pub mod openai;
mod server;
mod sse;

pub use dispatch::{Answer, Dispatch, ListedModel};
pub use error::ApiError;
pub use limits::{Limits, Options};
pub use server::serve;
