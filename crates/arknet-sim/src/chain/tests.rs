use arknet_chain::{Action, Key, Role, StakeOp, ValidatorSet, read};

use super::{
    plan::Plan,
    run::{ChainReport, run_chain_seed, run_chain_seeds},
    world::World,
};
use crate::rng::Rng;

/// Blocks of node 0 within a time.
fn blocks_within(world: &mut World, ms: u64) -> u64 {
    let before = world.highest();
    world.run_until(world.now_ms + ms).unwrap();
    world.highest() - before
}

#[test]
fn a_network_keeps_its_promises_under_faults_and_lies() {
    let reports = run_chain_seeds(0, 16, 2).unwrap();
    // A simulation that never gets anywhere holds every rule too.
    let sum = |what: fn(&ChainReport) -> u64| reports.iter().map(what).sum::<u64>();
    assert!(reports.iter().all(|report| report.blocks > 0 && report.promised > 0), "{reports:?}");
    assert!(sum(|r| r.lies) > 50 && sum(|r| r.misdeeds) > 10 && sum(|r| r.banned) > 2);
    assert!(sum(|r| r.rounds) > 8 && sum(|r| r.fetches) > 16 && sum(|r| r.missing) > 0);
}

#[test]
fn one_seed_gives_one_run() {
    assert_eq!(run_chain_seed(3).unwrap(), run_chain_seed(3).unwrap());
}

#[test]
fn one_validator_alone_makes_blocks() {
    let mut world = World::new(Plan { submit_ms: 100, ..Plan::calm(1, 1) });
    assert!(blocks_within(&mut world, 5_000) >= 15);
    assert!(world.checks.included.len() > 20);
}

#[test]
fn a_crash_between_any_two_outputs_makes_nobody_say_two_things() {
    for after in 0..80 {
        let mut world = World::new(Plan { submit_ms: 300, ..Plan::calm(after, 4) });
        world.run_until(300).unwrap();
        world.nodes[0].crash_after = Some(after);
        world.run_until(2_000).unwrap();
        assert!(world.nodes[0].replica.is_none(), "it crashed after {after} outputs");
        world.start(0).unwrap();
        let goal = world.highest() + 2;
        world.run_until(5_000).unwrap();
        assert!(world.lowest() >= goal, "after {after} outputs: {:?}", world.heights());
    }
}

#[test]
fn the_only_validator_may_crash_anywhere() {
    for after in 0..40 {
        let mut world = World::new(Plan { submit_ms: 200, ..Plan::calm(after, 1) });
        world.run_until(500).unwrap();
        world.nodes[0].crash_after = Some(after);
        world.run_until(20_000).unwrap();
        world.start(0).unwrap();
        assert!(blocks_within(&mut world, 3_000) >= 5);
    }
}

#[test]
fn a_disk_that_forgets_is_found_out() {
    let run = |seed: u64| {
        let mut world = World::new(Plan { submit_ms: 100, ..Plan::calm(seed, 4) });
        let mut rng = Rng::new(seed);
        for _ in 0..40 {
            let node = rng.index(4);
            world.crash(node);
            world.nodes[node].disk.records.clear();
            world.start(node)?;
            world.run_until(world.now_ms + rng.between(1, 60))?;
        }
        Ok::<(), String>(())
    };
    let found = (0..20).filter_map(|seed| run(seed).err()).next();
    assert!(found.is_some_and(|what| what.contains("says two things")));
}

#[test]
fn four_with_one_down_keep_two_thirds_of_their_pace() {
    let mut world = World::new(Plan { submit_ms: 20, ..Plan::calm(7, 4) });
    world.run_until(2_000).unwrap();
    let with_all = blocks_within(&mut world, 30_000);
    world.crash(3);
    let with_three = blocks_within(&mut world, 30_000);
    assert!(with_three * 3 >= with_all * 2, "{with_three} of {with_all} blocks");
}

#[test]
fn four_with_two_down_stop_and_go_on_when_one_returns() {
    let mut world = World::new(Plan { submit_ms: 200, ..Plan::calm(8, 4) });
    world.run_until(3_000).unwrap();
    world.crash(2);
    world.crash(3);
    // What was decided already may still be committed.
    blocks_within(&mut world, 1_000);
    assert_eq!(blocks_within(&mut world, 20_000), 0);
    world.start(2).unwrap();
    assert!(blocks_within(&mut world, 20_000) >= 10);
}

#[test]
fn a_node_that_was_away_for_two_hundred_blocks_catches_up() {
    let mut world = World::new(Plan { submit_ms: 100, followers: 1, ..Plan::calm(9, 4) });
    world.run_until(500).unwrap();
    world.crash(3);
    world.crash(4);
    while world.highest() < 210 {
        blocks_within(&mut world, 1_000);
    }
    world.start(3).unwrap();
    world.start(4).unwrap();
    world.run_until(world.now_ms + 3_000).unwrap();
    let (low, high) = (world.lowest(), world.highest());
    assert!(low + 1 >= high, "at {low} of {high}");
    assert!(world.nodes[3].replica.as_ref().unwrap().is_voting());
    assert!(!world.nodes[4].replica.as_ref().unwrap().is_voting());
}

/// Has the operator of a node do something with its stake.
fn stake(world: &mut World, node: usize, nonce: u64, op: StakeOp) {
    let wallet = world.nodes[node].wallet.clone();
    let transaction = world.sign(&wallet, nonce, Action::Stake(op));
    world.submit(1, transaction, None).unwrap();
}

#[test]
fn validators_join_by_stake_and_leave_with_it() {
    let plan = Plan { followers: 1, submit_ms: 200, ..Plan::calm(10, 4) };
    let mut world = World::new(plan);
    world.nodes[4].key = Some(super::world::key(1, 4));
    world.run_until(2_000).unwrap();
    let is_in = |world: &World| {
        let set: ValidatorSet = read(&world.nodes[0].disk.state, &Key::Validators).unwrap();
        set.find(&world.nodes[4].wallet.public().address()).is_some()
    };
    assert!(!is_in(&world));
    world.join(4).unwrap();
    world.run_until(4_000).unwrap();
    assert!(is_in(&world));
    assert!(world.nodes[4].replica.as_ref().unwrap().is_voting());
    // With five, one may be away; the newcomer counts.
    world.crash(0);
    assert!(blocks_within(&mut world, 10_000) >= 5);
    world.start(0).unwrap();
    stake(&mut world, 4, 1, StakeOp::Retire { role: Role::Validator });
    world.run_until(world.now_ms + 3_000).unwrap();
    assert!(!is_in(&world));
    assert!(!world.nodes[4].replica.as_ref().unwrap().is_voting());
    assert!(blocks_within(&mut world, 5_000) >= 5);
    assert!(world.lowest() + 1 >= world.highest());
}

#[test]
fn who_is_slow_but_there_is_not_counted_absent() {
    let mut world = World::new(Plan { submit_ms: 50, ..Plan::calm(11, 4) });
    world.run_until(20_000).unwrap();
    let blocks = &world.nodes[0].disk.blocks;
    let full = blocks.iter().filter_map(|decided| decided.block.commit.as_ref());
    let full = full.filter(|commit| commit.signatures.len() == 4).count();
    assert!(full * 10 >= (blocks.len() - 1) * 9, "{full} of {}", blocks.len());
}

#[test]
fn a_validator_that_says_two_things_is_banned() {
    let banned = (0..40).any(|seed| {
        let mut world = World::new(Plan { liars: 1, ..Plan::calm(seed, 4) });
        world.run_until(20_000).unwrap();
        let set: ValidatorSet = read(&world.nodes[0].disk.state, &Key::Validators).unwrap();
        set.members().len() == 3 && world.lowest() > 5
    });
    assert!(banned);
}
