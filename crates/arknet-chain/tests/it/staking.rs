use arknet_chain::{Action, Failure, Param, Role, Stake, StakeOp, Unbonding};
use arknet_types::{Atoms, PublicKey};

use crate::chain::{ARK, Chain, DAY, HOUR, SECOND, address, consensus_key, genesis, wallet};

const ROLE: Role = Role::Compute;

fn deposit(role: Role, node: u8, ark: u64, key: Option<PublicKey>) -> Action {
    Action::Stake(StakeOp::Deposit { role, node: address(node), amount: Atoms(ark * ARK), key })
}

fn withdraw(role: Role, node: u8, ark: u64) -> Action {
    Action::Stake(StakeOp::Withdraw { role, node: address(node), amount: Atoms(ark * ARK) })
}

fn complete(role: Role, id: u64) -> Action {
    Action::Stake(StakeOp::CompleteUnbond { role, id })
}

fn redelegate(from: u8, to: u8, ark: u64) -> Action {
    let (from, to) = (address(from), address(to));
    Action::Stake(StakeOp::Redelegate { role: ROLE, from, to, amount: Atoms(ark * ARK) })
}

fn key(n: u8) -> Option<PublicKey> {
    Some(consensus_key(n).public())
}

/// A chain where 5 and 6 run compute nodes.
fn with_nodes() -> Chain {
    let mut chain = Chain::grown_up();
    chain.act(5, deposit(ROLE, 5, 50_000, key(5))).unwrap();
    chain.act(6, deposit(ROLE, 6, 60_000, key(6))).unwrap();
    chain
}

#[test]
fn a_node_begins_with_its_operator_s_stake() {
    let mut chain = Chain::grown_up();
    assert_eq!(chain.act(7, deposit(ROLE, 5, 10, None)), Err(Failure::UnknownNode));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 50_000, None)), Err(Failure::NodeKey));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 49_999, key(5))), Err(Failure::StakeMin));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 2_000_000, key(5))), Err(Failure::Balance));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 50_000, key(5))), Ok(None));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 1, key(6))), Err(Failure::NodeKey));
    assert_eq!(chain.act(5, deposit(ROLE, 5, 1, key(5))), Ok(None));
    assert_eq!(chain.act(7, deposit(ROLE, 5, 0, None)), Err(Failure::StakeMin));
    assert_eq!(chain.act(7, deposit(ROLE, 5, 1, key(5))), Err(Failure::NodeKey));
    assert_eq!(chain.act(7, deposit(ROLE, 5, 1, None)), Ok(None));
    assert_eq!(chain.node(ROLE, 5).unwrap().bonded.tokens.0, 50_002 * ARK);
    assert_eq!(chain.account(7).stakes, 1);
}

#[test]
fn what_is_withdrawn_is_free_after_its_time_and_once() {
    for (role, days, least) in [(ROLE, 14, 50_000), (Role::Worker, 7, 1_000)] {
        let mut chain = Chain::grown_up();
        chain.act(5, deposit(role, 5, least + 10, key(5))).unwrap();
        let before = chain.balance(5);
        assert_eq!(chain.act(5, withdraw(role, 5, 11)), Err(Failure::StakeMin));
        assert_eq!(chain.act(5, withdraw(role, 5, 10)), Ok(Some(1)));
        assert_eq!(chain.act(5, withdraw(role, 5, least)), Ok(Some(2)));
        assert_eq!(chain.act(5, complete(role, 1)), Err(Failure::TooEarly));
        chain.wait(days * DAY - 2 * SECOND, days * DAY - 2 * SECOND);
        assert_eq!(chain.act(5, complete(role, 1)), Ok(None));
        assert_eq!(chain.act(5, complete(role, 1)), Err(Failure::UnknownUnbonding));
        assert_eq!(chain.act(5, complete(Role::Verifier, 2)), Err(Failure::UnknownUnbonding));
        assert_eq!(chain.act(6, complete(role, 2)), Err(Failure::UnknownUnbonding));
        assert_eq!(chain.act(5, complete(role, 2)), Ok(None));
        let fees = before + (least + 10) * ARK - chain.balance(5);
        assert!(fees < ARK, "all is back but the fees: {fees}");
        assert_eq!(chain.account(5).stakes, 0);
        assert_eq!(chain.meta().bonded.0, 800_000 * ARK);
    }
}

#[test]
fn nobody_takes_more_than_is_theirs() {
    let mut chain = with_nodes();
    chain.act(7, deposit(ROLE, 5, 100, None)).unwrap();
    assert_eq!(chain.act(7, withdraw(ROLE, 5, 101)), Err(Failure::Stake));
    assert_eq!(chain.act(8, withdraw(ROLE, 5, 1)), Err(Failure::Stake));
    assert_eq!(chain.act(7, withdraw(ROLE, 6, 1)), Err(Failure::Stake));
    assert_eq!(chain.act(7, withdraw(ROLE, 9, 1)), Err(Failure::UnknownNode));
    assert_eq!(chain.act(7, withdraw(Role::Verifier, 5, 1)), Err(Failure::UnknownNode));
    assert_eq!(chain.act(7, withdraw(ROLE, 5, 0)), Err(Failure::Zero));
    let most =
        Action::Stake(StakeOp::Withdraw { role: ROLE, node: address(5), amount: Atoms(u64::MAX) });
    assert_eq!(chain.act(7, most), Err(Failure::Stake));
    assert_eq!(chain.act(7, withdraw(ROLE, 5, 100)), Ok(Some(1)));
}

#[test]
fn moved_stake_arrives_by_itself_after_a_day() {
    let mut chain = with_nodes();
    chain.act(7, deposit(ROLE, 5, 100, None)).unwrap();
    assert_eq!(chain.act(7, redelegate(5, 5, 10)), Err(Failure::Same));
    assert_eq!(chain.act(7, redelegate(5, 9, 10)), Err(Failure::UnknownNode));
    assert_eq!(chain.act(7, redelegate(5, 6, 40)), Ok(Some(1)));
    // On its way it cannot go anywhere else, nor be fetched.
    assert_eq!(chain.act(7, complete(ROLE, 1)), Err(Failure::TooEarly));
    assert_eq!(chain.act(7, redelegate(6, 5, 40)), Err(Failure::Stake));
    chain.wait(DAY - 5 * SECOND, DAY / 2);
    let stake = |chain: &Chain, node: u8| {
        let key = arknet_chain::Key::Stake(address(7), ROLE, address(node));
        let stake: Stake = chain.read(&key).unwrap_or_default();
        chain.node(ROLE, node).unwrap().bonded.worth(stake.shares).0 / ARK
    };
    chain.block_after(10 * SECOND, vec![]);
    assert_eq!((stake(&chain, 5), stake(&chain, 6)), (60, 40));
    assert_eq!(chain.account(7).stakes, 2);
    assert_eq!(chain.act(7, complete(ROLE, 1)), Err(Failure::UnknownUnbonding));
}

#[test]
fn moved_stake_whose_target_is_gone_is_withdrawn() {
    let mut chain = with_nodes();
    chain.act(7, deposit(ROLE, 5, 100, None)).unwrap();
    chain.act(7, redelegate(5, 6, 100)).unwrap();
    chain.act(6, Action::Stake(StakeOp::Retire { role: ROLE })).unwrap();
    chain.wait(2 * DAY, DAY);
    let record: Unbonding = chain.read(&arknet_chain::Key::Unbonding(address(7), 1)).unwrap();
    assert_eq!((record.to, record.free_at.0 - record.began.0), (None, 14 * DAY));
    assert_eq!(chain.act(7, complete(ROLE, 1)), Err(Failure::TooEarly));
    chain.wait(13 * DAY, DAY);
    assert_eq!(chain.act(7, complete(ROLE, 1)), Ok(None));
}

#[test]
fn tips_are_shared_by_stake() {
    let mut chain = Chain::grown_up();
    let node = 2;
    chain.act(7, deposit(Role::Validator, node, 200_000, None)).unwrap();
    chain.tip_price = Atoms(10);
    let earned = |chain: &mut Chain, n| {
        let before = chain.balance(n);
        let claim = StakeOp::ClaimRewards { role: Role::Validator, node: address(node) };
        let outcome = chain.block(vec![chain.sign(n, Action::Stake(claim))])[0];
        outcome.result.unwrap();
        chain.balance(n) + outcome.fee.0 - before
    };
    let (mut mine, mut operator) = (0, 0);
    for _ in 0..30 {
        mine += earned(&mut chain, 7);
        operator += earned(&mut chain, 2);
    }
    assert!(mine > 0, "somewhere in thirty blocks it proposed");
    assert!(mine.abs_diff(operator) <= 1_000_000 + mine / 2, "{mine} {operator}");
    let claim = StakeOp::ClaimRewards { role: Role::Validator, node: address(node) };
    assert_eq!(chain.act(8, Action::Stake(claim)), Err(Failure::Stake));
}

#[test]
fn the_set_follows_stake() {
    let mut chain = Chain::grown_up();
    assert_eq!(chain.act(5, deposit(Role::Validator, 5, 150_000, key(2))), Err(Failure::NodeKey));
    assert_eq!(chain.act(5, deposit(Role::Validator, 5, 150_000, key(5))), Ok(None));
    assert!(chain.is_validator(5));
    assert_eq!(chain.validators().find(&address(5)).unwrap().power, 150_000);
    chain.act(7, deposit(Role::Validator, 5, 100_000, None)).unwrap();
    assert_eq!(chain.validators().members()[0].operator, address(5));
    // Its own stake below the least, whatever others have put there: it leaves.
    chain.act(5, withdraw(Role::Validator, 5, 150_000)).unwrap();
    assert!(!chain.is_validator(5));
    assert_eq!(chain.meta().validator_nodes, 5);
    chain.act(5, Action::Stake(StakeOp::Retire { role: Role::Validator })).unwrap();
    chain.act(7, withdraw(Role::Validator, 5, 100_000)).unwrap();
    chain.wait(15 * DAY, DAY);
    chain.act(5, complete(Role::Validator, 1)).unwrap();
    assert!(chain.node(Role::Validator, 5).is_some());
    chain.act(7, complete(Role::Validator, 1)).unwrap();
    assert!(chain.node(Role::Validator, 5).is_none(), "nobody has anything with it any more");
    assert_eq!(chain.meta().validator_nodes, 4);
    // Its key is free again.
    chain.act(8, deposit(Role::Validator, 8, 150_000, key(5))).unwrap();
}

#[test]
fn a_set_has_no_more_than_its_cap_and_never_nobody() {
    let mut genesis = genesis(4);
    genesis.params.set(Param::BootstrapMs, 0).unwrap();
    genesis.params.set(Param::ValidatorsMax, 2).unwrap();
    for (validator, ark) in genesis.validators.iter_mut().zip([100_000, 400_000, 300_000, 1]) {
        validator.stake = Atoms(ark * ARK);
    }
    let mut chain = Chain::new(&genesis);
    assert_eq!(chain.validators().members().len(), 4, "the first set is the genesis'");
    chain.act(7, deposit(Role::Validator, 1, 1, None)).unwrap();
    assert!(chain.is_validator(2) && chain.is_validator(3));
    assert_eq!(chain.validators().members().len(), 2);
    for n in [1, 2, 3] {
        chain.act(n, Action::Stake(StakeOp::Retire { role: Role::Validator })).unwrap();
    }
    assert_eq!(chain.validators().members().len(), 1, "who is left when all have gone stays");
}

#[test]
fn while_the_bootstrap_period_lasts_no_stake_is_needed() {
    let mut chain = Chain::new(&genesis(4));
    chain.act(5, deposit(Role::Validator, 5, 0, key(5))).unwrap();
    assert_eq!(chain.validators().find(&address(5)).unwrap().power, 1);
    assert_eq!(chain.validators().find(&address(1)).unwrap().power, 10);
    chain.act(6, deposit(Role::Validator, 6, 100_000, key(6))).unwrap();
    // It ends after its time; then only stake counts.
    chain.wait(182 * DAY - HOUR, 91 * DAY);
    assert!(!chain.meta().bootstrap);
    let set = chain.validators();
    assert_eq!(set.members().len(), 1);
    assert_eq!(set.find(&address(6)).unwrap().power, 100_000);
    assert_eq!(chain.meta().base_fee, Atoms(1), "and acting costs something");
}

#[test]
fn the_bootstrap_period_ends_with_enough_validators() {
    let mut genesis = genesis(4);
    genesis.params.set(Param::BootstrapValidators, 5).unwrap();
    let mut chain = Chain::new(&genesis);
    chain.block(vec![]);
    assert!(chain.meta().bootstrap);
    chain.act(5, deposit(Role::Validator, 5, 150_000, key(5))).unwrap();
    chain.block(vec![]);
    assert!(!chain.meta().bootstrap);
}

#[test]
fn a_retired_node_takes_no_stake_until_its_operator_returns() {
    let mut chain = with_nodes();
    chain.act(5, Action::Stake(StakeOp::Retire { role: ROLE })).unwrap();
    assert_eq!(chain.act(7, deposit(ROLE, 5, 10, None)), Err(Failure::NodeGone));
    assert_eq!(chain.act(7, redelegate(6, 5, 10)), Err(Failure::NodeGone));
    chain.act(5, deposit(ROLE, 5, 1, None)).unwrap();
    chain.act(7, deposit(ROLE, 5, 10, None)).unwrap();
    let retire = Action::Stake(StakeOp::Retire { role: Role::Verifier });
    assert_eq!(chain.act(5, retire), Err(Failure::UnknownNode));
    assert_eq!(wallet(5).public().address(), address(5));
}
