//! A network of chain nodes: the real state machines over a simulated network and simulated disks,
//! with validators that lie.

mod attack;
mod checks;
mod disk;
mod plan;
mod run;
mod world;

#[cfg(test)]
mod tests;

pub use run::{ChainReport, run_chain_seed, run_chain_seeds};
