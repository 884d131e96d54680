//! What answers requests, behind one narrow trait.
//!
//! A provider gets an [`InferRequest`](arknet_types::InferRequest) and gives replies, token counts
//! and a way to cancel. It knows nothing of peers, wallets or money. Nothing in this crate writes a
//! prompt or a completion to a log or a disk.

pub mod child;
pub mod fleet;
mod generation;
pub mod limits;
mod model;
pub mod upstream;

pub use generation::{Generation, Seat};
pub use model::{ModelDetails, ModelInfo, Models, Origin, Provider};
