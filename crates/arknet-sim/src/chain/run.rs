use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use super::{plan::Plan, world::World};
use crate::Violation;

/// How a run went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ChainReport {
    /// Everything that happened, in one number.
    pub hash: u64,
    /// Things that happened.
    pub events: u64,
    /// Blocks that all honest nodes have.
    pub blocks: u64,
    /// Transactions that somebody was told wait, all of which are in blocks.
    pub promised: u64,
    /// Lies that were told.
    pub lies: u64,
    /// Things that nodes held against a liar.
    pub misdeeds: u64,
    /// Liars that were punished by what they signed.
    pub banned: u64,
    /// The highest round that was needed.
    pub rounds: u64,
    /// Requests for blocks that others had committed.
    pub fetches: u64,
    /// Requests for proposals that a quorum had.
    pub missing: u64,
}

/// Blocks that must follow when nothing is wrong any more but the liars.
const BLOCKS_AFTER: u64 = 5;
/// Time they may take: liars may propose in several rounds.
const CALM_MS_MAX: u64 = 120_000;

/// Runs a network by one seed: safety after every step, and progress when all is well again.
pub fn run_chain_seed(seed: u64) -> Result<ChainReport, Violation> {
    let violation = |what: String| Violation { flag: "chain-seed", seed, what };
    let run = AssertUnwindSafe(|| run(seed).map_err(violation));
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(violation(format!("a panic: {}", text.unwrap_or_default())))
    })
}

fn run(seed: u64) -> Result<ChainReport, String> {
    let plan = Plan::of(seed);
    let calm = plan.calm_from_ms;
    let mut world = World::new(plan);
    world.run_until(calm)?;
    let goal = world.highest() + BLOCKS_AFTER;
    // Nothing more is asked for, so that all that was promised can be kept.
    world.plan.submit_ms = 1_000_000;
    let is_done = |world: &World| world.lowest() >= goal && world.checks.open_promises() == 0;
    while !is_done(&world) {
        if world.now_ms > calm + CALM_MS_MAX {
            return Err(format!("no progress to {goal}: {}", world.standing()));
        }
        let next = world.now_ms + 500;
        world.run_until(next)?;
    }
    Ok(ChainReport {
        hash: world.trace.hash(),
        events: world.trace.events(),
        blocks: world.lowest(),
        promised: world.checks.promised.len() as u64,
        lies: world.attacker.lies,
        misdeeds: world.checks.misdeeds,
        banned: world.checks.banned.len() as u64,
        rounds: world.checks.highest_round.into(),
        fetches: world.checks.fetches,
        missing: world.checks.asked_for_proposals,
    })
}

/// Runs the seeds from `first` on, `count` of them, on `threads` threads.
pub fn run_chain_seeds(
    first: u64,
    count: u64,
    threads: u64,
) -> Result<Vec<ChainReport>, Violation> {
    assert!(threads > 0, "somebody has to run them");
    let lane = |lane: u64| {
        let mine = (first..first + count).filter(move |seed| seed % threads == lane);
        mine.map(|seed| (seed, run_chain_seed(seed))).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads).map(|n| scope.spawn(move || lane(n))).collect();
        let done = lanes.into_iter().map(|lane| lane.join());
        done.flat_map(|lane| lane.expect("a run catches its panics")).collect()
    });
    all.sort_by_key(|(seed, _)| *seed);
    all.into_iter().map(|(_, result)| result).collect()
}
