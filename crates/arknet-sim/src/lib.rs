//! A deterministic simulator of what nodes decide.
//!
//! Serving nodes and clients are the state machines of `arknet-protocol`, each under a driver as
//! thin as it can be; messages cross a simulated network as the bytes of `arknet-types`. There is no
//! clock, no socket and no thread: a [`Sim`] takes the earliest event, delivers it, and plans what
//! follows. Everything that chance decides comes from one seed, so a run can be repeated.
//!
//! A run has three parts. First things go wrong: packets are lost, late, doubled and reordered,
//! nodes are cut off, crash, restart and depart, clocks are off and jump, and an attacker who hears
//! everything replays, forges, floods and lies. Then all is healed and time passes. Then everybody
//! asks for everything that is served, and must get an answer.
//!
//! After every step checkers hold what happened against plain models of what may happen. That they
//! can fail is shown by [`Mutant`]s, drivers with one thing done wrong each.

mod agenda;
mod chain;
mod checkers;
mod clock;
mod faults;
mod mutant;
mod network;
mod node;
mod rng;
mod runner;
mod scenario;
mod trace;
mod world;

pub use chain::{ChainReport, run_chain_seed, run_chain_seeds};
pub use mutant::Mutant;
pub use runner::{run_seed, run_seeds};
pub use scenario::{Report, Sim, Violation};
