//! Hostile bytes for every decoder that meets bytes of strangers.
//!
//! Cases come from the golden vectors, changed a little, and from nothing but chance. They depend on
//! the seed alone, so a case that fails once fails always. A run counts what was accepted and what
//! was refused: were either number zero, it would prove nothing.

mod chain;
mod chat;
mod child;
mod corpus;
mod decoders;
mod doors;
mod mutate;
mod orders;
mod pieces;
mod quotes;
mod registry;
mod run;
mod tunnels;
mod upstream;

pub use decoders::{Decoder, decoders};
pub use run::{Failure, Outcome, run};
