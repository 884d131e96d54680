use arknet_chain::{
    Action, Choice, Decision, Effect, Failure, Hash, Key, Param, Proposal, Role, StakeOp, Version,
};
use arknet_types::{Atoms, Timestamp};

use crate::{
    chain::{ARK, Chain, DAY, SECOND, address},
    random::propose,
};

fn vote(proposal: u64, choice: Choice) -> Action {
    Action::Vote { proposal, choice }
}

fn stake(node: u8, ark: u64) -> Action {
    let amount = Atoms(ark * ARK);
    Action::Stake(StakeOp::Deposit {
        role: Role::Validator,
        node: address(node),
        amount,
        key: None,
    })
}

fn proposal(chain: &Chain, id: u64) -> Proposal {
    chain.read(&Key::Proposal(id)).unwrap()
}

/// Proposes by account 7, and waits until the vote has begun.
fn proposed(effect: Effect) -> Chain {
    let mut chain = Chain::grown_up();
    assert_eq!(chain.act(7, propose(effect)), Ok(Some(1)));
    chain.wait(3 * DAY, DAY);
    chain
}

/// Lets these accounts vote, and waits until it is over.
fn decided(chain: &mut Chain, votes: &[(u8, Choice)]) -> Decision {
    for (n, choice) in votes {
        assert_eq!(chain.act(*n, vote(1, *choice)), Ok(None), "{n}");
    }
    chain.wait(7 * DAY, DAY);
    proposal(chain, 1).decision.unwrap()
}

use Choice::{Abstain, No, Veto, Yes};

#[test]
fn a_vote_is_decided_by_quorum_threshold_and_veto() {
    // Four validators with equal stake.
    type Case = (&'static [(u8, Choice)], Decision, bool);
    let cases: [Case; 8] = [
        (&[], Decision::NoQuorum, false),
        (&[(1, Yes)], Decision::NoQuorum, false),
        (&[(1, Yes), (2, Yes)], Decision::Passed, true),
        (&[(1, Yes), (2, No)], Decision::Rejected, true),
        (&[(1, Yes), (2, Abstain)], Decision::Passed, true),
        (&[(1, Yes), (2, Yes), (3, Veto)], Decision::Passed, true),
        (&[(1, Yes), (2, Yes), (3, Veto), (4, Veto)], Decision::Vetoed, false),
        // The last vote counts.
        (&[(1, No), (2, Yes), (1, Yes)], Decision::Passed, true),
    ];
    for (votes, expected, returned) in cases {
        let mut chain = proposed(Effect::Text);
        let before = chain.balance(7);
        assert_eq!(decided(&mut chain, votes), expected, "{votes:?}");
        let back = chain.balance(7) - before;
        assert_eq!(back, if returned { 10_000 * ARK } else { 0 }, "{votes:?}");
        assert_eq!(proposal(&chain, 1).deposit, Atoms::ZERO);
    }
}

#[test]
fn voting_has_its_time() {
    let mut chain = Chain::grown_up();
    assert_eq!(chain.act(1, vote(1, Yes)), Err(Failure::UnknownProposal));
    assert_eq!(chain.act(7, propose(Effect::Text)), Ok(Some(1)));
    assert_eq!(chain.act(7, propose(Effect::Text)), Ok(Some(2)));
    assert_eq!(chain.act(1, vote(1, Yes)), Err(Failure::TooEarly));
    chain.wait(3 * DAY, DAY);
    assert_eq!(chain.act(1, vote(1, Yes)), Ok(None));
    assert_eq!(chain.act(8, vote(1, Yes)), Err(Failure::NoWeight));
    chain.wait(7 * DAY, DAY);
    assert_eq!(chain.act(1, vote(1, Yes)), Err(Failure::Over));
}

#[test]
fn only_stake_that_was_there_before_the_vote_counts_and_only_while_it_stays() {
    let mut chain = Chain::grown_up();
    chain.act(8, stake(1, 300)).unwrap();
    chain.act(7, propose(Effect::Text)).unwrap();
    chain.wait(3 * DAY, DAY);
    // More of it now brings nothing, and a newcomer has no say.
    chain.act(8, stake(2, 500)).unwrap();
    chain.act(9, stake(1, 500)).unwrap();
    assert_eq!(chain.act(9, vote(1, Yes)), Err(Failure::NoWeight));
    chain.act(8, vote(1, Yes)).unwrap();
    assert_eq!(proposal(&chain, 1).yes, Atoms(300 * ARK));
    assert_eq!(proposal(&chain, 1).bonded, Some(Atoms(800_300 * ARK)));
    let withdraw = |node, ark| {
        let amount = Atoms(ark * ARK);
        Action::Stake(StakeOp::Withdraw { role: Role::Validator, node: address(node), amount })
    };
    chain.act(8, withdraw(2, 500)).unwrap();
    chain.act(8, withdraw(1, 100)).unwrap();
    chain.act(8, vote(1, Yes)).unwrap();
    assert_eq!(proposal(&chain, 1).yes, Atoms(200 * ARK));
}

#[test]
fn a_passed_proposal_changes_parameters() {
    let change = vec![(Param::ValidatorsMax, 3), (Param::JailMs, 5_000)];
    let mut chain = proposed(Effect::Params(change));
    assert_eq!(decided(&mut chain, &[(1, Yes), (2, Yes)]), Decision::Passed);
    let params: arknet_chain::Params = chain.read(&Key::Params).unwrap();
    assert_eq!((params.of(Param::ValidatorsMax), params.of(Param::JailMs)), (3, 5_000));
    assert_eq!(chain.validators().members().len(), 3, "the set follows at once");
    // Out of range, and what would make paying oneself pay.
    for never in [(Param::ValidatorsMax, 0), (Param::PaymentBurnPpm, 18_400)] {
        let never = propose(Effect::Params(vec![never]));
        assert_eq!(chain.act(7, never), Err(Failure::Param));
    }
}

#[test]
fn a_passed_proposal_pays_from_the_treasury_what_is_there() {
    let spend = |amount| Effect::Spend { to: address(9), amount: Atoms(amount) };
    let mut chain = proposed(spend(1));
    let before = chain.balance(7);
    assert_eq!(decided(&mut chain, &[(1, Yes), (2, Yes)]), Decision::Failed);
    assert_eq!(chain.balance(7), before + 10_000 * ARK, "the proposer did nothing wrong");
    assert_eq!(chain.balance(9), 1_000_000 * ARK);
}

#[test]
fn a_passed_proposal_names_a_version_or_punishes_a_node() {
    let version = Version { name: "1.2.3".into(), from: Timestamp(7) };
    let mut chain = proposed(Effect::Version(version.clone()));
    decided(&mut chain, &[(1, Yes), (2, Yes)]);
    assert_eq!(chain.read(&Key::Version), Some(version));
    let verdict = |node, ppm| Effect::Verdict {
        role: Role::Validator,
        node: address(node),
        ppm,
        evidence: Hash([1; 32]),
    };
    let mut chain = proposed(verdict(3, 100_000));
    assert_eq!(decided(&mut chain, &[(1, Yes), (2, Yes)]), Decision::Passed);
    assert_eq!(chain.node(Role::Validator, 3).unwrap().bonded.tokens.0, 180_000 * ARK);
    let mut chain = proposed(verdict(9, 100_000));
    assert_eq!(decided(&mut chain, &[(1, Yes), (2, Yes)]), Decision::Failed);
}

#[test]
fn who_cannot_pay_the_deposit_proposes_nothing() {
    let mut chain = Chain::grown_up();
    let burn = Action::Burn { amount: Atoms(995_000 * ARK) };
    chain.act(7, burn).unwrap();
    assert_eq!(chain.act(7, propose(Effect::Text)), Err(Failure::Balance));
    chain.wait(SECOND, SECOND);
    assert_eq!(chain.meta().proposals, 0);
}
