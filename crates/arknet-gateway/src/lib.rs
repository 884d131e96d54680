//! The local HTTP door: the APIs that apps already speak on one side, arknet requests on the other.
//!
//! A request passes these files in this order: `server` accepts the connection, `http` guards and
//! routes, `desk` admits, `body` reads, `openai`, `anthropic` or `ollama` maps JSON to an
//! [`arknet_types::InferRequest`] without any I/O, [`Dispatch`] (implemented by the node) finds
//! somebody who answers, `flow` or `gather` takes the replies, and the door's own functions put them
//! into its shapes. Every failure is one [`ApiError`]; every bound is in [`Limits`].
//!
//! Nothing a user wrote is logged, and nothing about the user is part of what is dispatched.

pub mod anthropic;
mod arguments;
mod body;
mod desk;
mod dialect;
mod dispatch;
mod encode;
mod error;
mod flow;
mod gather;
mod guard;
mod http;
mod id;
mod json;
mod keys;
mod limits;
mod observe;
pub mod ollama;
pub mod openai;
mod picture;
mod rfc3339;
mod server;
mod stall;
mod trail;
mod wakes;

pub use dispatch::{About, Answer, Ask, Dispatch, KeepAlive, ListedModel, LoadedModel, Pull};
pub use error::{ApiError, Kind};
pub use gather::Gathered;
pub use keys::{KeyError, Keys, Pass, Right};
pub use limits::{CHOICES_MAX, Limits, Options};
pub use observe::{METRICS_CONTENT_TYPE, Observer, RequestRecord};
pub use server::serve;
