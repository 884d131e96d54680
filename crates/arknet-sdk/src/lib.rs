//! Use models on other people's machines.
//!
//! A program joins the mesh as a light peer, hears from gossip who serves what, and sends its
//! requests straight to the peer that serves the model, over an encrypted connection. There is no
//! HTTP on the way and nobody in the middle.
//!
//! ```no_run
//! use std::time::Duration;
//! use arknet_sdk::{Client, ConnectOptions, InferRequest, session::SessionKey, wallet::Wallet};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let wallet = Wallet::load_or_create()?;
//! let session = SessionKey::create(&wallet, 100_000_000, Duration::from_secs(3600))?;
//! let client = Client::connect(ConnectOptions {
//!     session: Some(session),
//!     ..Default::default()
//! })
//! .await?;
//! let response = client.infer(InferRequest {
//!     model: "arknet/tiny".into(),
//!     prompt: "What is arknet?".into(),
//!     max_tokens: 64,
//!     ..Default::default()
//! })
//! .await?;
//! println!("{}", response.text);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] is cheap to clone; any number of requests run over one at once.

pub mod chain;
mod client;
mod clock;
mod connect;
mod dispatch;
pub mod home;
pub mod keyfile;
pub mod seeds;
pub mod session;
pub mod wallet;

pub use arknet_types::{
    Atoms, FinishReason, Message, ModelName, PublicKey, Refusal, RefusalCode, Role, Sampling, Usage,
};
pub use client::{InferError, InferRequest, InferStream, Response};
pub use clock::now;
pub use connect::{ConnectError, ConnectOptions, parse_seeds};
pub use dispatch::{Answer, Circle, Client};
