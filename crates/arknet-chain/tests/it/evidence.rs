use arknet_chain::{
    BlockError, Evidence, Hash, Ingredients, Proposed, Role, SignedProposed, SignedVote, StakeOp,
    Vote, VoteKind, build_block, execute_block,
};
use arknet_types::{Atoms, KeyPair, NetworkId};

use crate::chain::{ARK, Chain, DAY, HOUR, QUOTES, SECOND, address, consensus_key, network};

fn vote(n: u8, block: Option<Hash>, key: &KeyPair) -> SignedVote {
    let vote = Vote {
        network: network(),
        kind: VoteKind::Prevote,
        height: 1,
        round: 0,
        block,
        validator: address(n),
    };
    SignedVote::sign(vote, key)
}

fn proposed(n: u8, block: u8, valid_round: Option<u32>) -> SignedProposed {
    let proposed = Proposed {
        network: network(),
        height: 1,
        round: 2,
        block: Hash([block; 32]),
        valid_round,
        validator: address(n),
    };
    SignedProposed::sign(proposed, &consensus_key(n))
}

/// Two votes of one step, in the order in which they are evidence.
fn two_votes(n: u8) -> Evidence {
    let key = consensus_key(n);
    Evidence::Votes(Box::new((vote(n, None, &key), vote(n, Some(Hash([1; 32])), &key))))
}

/// Whether a block with this evidence is valid, although its proposer left the evidence out.
fn is_valid(chain: &Chain, evidence: Evidence) -> bool {
    let ingredients =
        Ingredients { evidence: vec![evidence.clone()], ..chain.ingredients(SECOND, vec![]) };
    let (mut block, _) = build_block(&chain.parent(), ingredients, QUOTES).unwrap();
    let taken = !block.body.evidence.is_empty();
    block.body.evidence = vec![evidence];
    let verdict = execute_block(&chain.parent(), &block, QUOTES);
    assert_eq!(verdict.is_ok(), taken, "who builds and who votes agree");
    assert!(taken || verdict == Err(BlockError::Evidence { index: 0 }));
    taken
}

#[test]
fn a_two_faced_validator_loses_stake_and_never_comes_back() {
    for evidence in [
        two_votes(2),
        Evidence::Proposals(Box::new((proposed(2, 1, None), proposed(2, 2, Some(0))))),
    ] {
        let mut chain = Chain::grown_up();
        chain.block(vec![]);
        let (burned, total) = (chain.meta().burned, chain.meta().bonded.0);
        assert!(is_valid(&chain, evidence.clone()));
        chain.accuse(vec![evidence.clone()]);
        let node = chain.node(Role::Validator, 2).unwrap();
        assert!(node.banned && !chain.is_validator(2) && chain.is_validator(1));
        assert_eq!(node.bonded.tokens.0, 190_000 * ARK);
        assert_eq!(chain.meta().burned.0 - burned.0, 10_000 * ARK);
        assert_eq!(chain.meta().bonded.0, total - 10_000 * ARK);
        // Not twice for one deed, and not back in.
        assert!(!is_valid(&chain, evidence));
        let unjail = arknet_chain::Action::Stake(StakeOp::Unjail { role: Role::Validator });
        assert!(chain.act(2, unjail).is_err());
    }
}

#[test]
fn what_proves_nothing_makes_a_block_invalid() {
    let mut chain = Chain::grown_up();
    chain.block(vec![]);
    let (a, b) = (Hash([1; 32]), Hash([2; 32]));
    let key = consensus_key(2);
    let pair = |one: SignedVote, two: SignedVote| Evidence::Votes(Box::new((one, two)));
    let changed = |change: fn(&mut Vote)| {
        let mut two = vote(2, Some(b), &key).vote;
        change(&mut two);
        pair(vote(2, Some(a), &key), SignedVote::sign(two, &key))
    };
    let bad = [
        ("the same vote twice", pair(vote(2, Some(a), &key), vote(2, Some(a), &key))),
        ("the other order", pair(vote(2, Some(b), &key), vote(2, Some(a), &key))),
        ("another's key", pair(vote(2, Some(a), &key), vote(2, Some(b), &consensus_key(3)))),
        ("nobody's key", pair(vote(9, Some(a), &key), vote(9, Some(b), &key))),
        ("another height", changed(|v| v.height = 2)),
        ("another round", changed(|v| v.round = 1)),
        ("another step", changed(|v| v.kind = VoteKind::Precommit)),
        ("another chain", changed(|v| v.network = NetworkId::new("x").unwrap())),
        ("another validator", changed(|v| v.validator = address(3))),
    ];
    for (what, evidence) in bad {
        assert!(!is_valid(&chain, evidence), "{what}");
    }
    let good = pair(vote(2, Some(a), &key), vote(2, Some(b), &key));
    assert!(is_valid(&chain, good.clone()));
    // A height that has not been is nothing to be two-faced about.
    let Evidence::Votes(mut pair) = good else { return };
    for one in [&mut pair.0, &mut pair.1] {
        one.vote.height = 3;
        *one = SignedVote::sign(one.vote.clone(), &key);
    }
    assert!(!is_valid(&chain, Evidence::Votes(pair.clone())));
    chain.block(vec![]);
    chain.block(vec![]);
    assert!(is_valid(&chain, Evidence::Votes(pair)));
}

#[test]
fn stake_on_its_way_out_answers_too() {
    let mut chain = Chain::grown_up();
    let (role, node) = (Role::Validator, address(2));
    let deposit = StakeOp::Deposit { role, node, amount: Atoms(1_000 * ARK), key: None };
    chain.act(7, arknet_chain::Action::Stake(deposit)).unwrap();
    let withdraw = StakeOp::Withdraw { role, node, amount: Atoms(1_000 * ARK) };
    assert_eq!(chain.act(7, arknet_chain::Action::Stake(withdraw)), Ok(Some(1)));
    chain.accuse(vec![two_votes(2)]);
    chain.wait(14 * DAY, DAY);
    let before = chain.balance(7);
    let complete = arknet_chain::Action::Stake(StakeOp::CompleteUnbond { role, id: 1 });
    let outcome = chain.block(vec![chain.sign(7, complete)])[0];
    assert_eq!(outcome.result, Ok(None));
    assert_eq!(chain.balance(7), before + 950 * ARK - outcome.fee.0);
}

#[test]
fn who_is_away_too_long_is_jailed_and_may_come_back() {
    let mut chain = Chain::grown_up();
    chain.silent.push(address(3));
    // Thirty minutes, ten seconds for each block, but for the first: nobody was asked to sign its
    // parent.
    chain.wait(HOUR / 2 + 10 * SECOND, 10 * SECOND);
    assert!(chain.is_validator(3), "just not yet");
    chain.wait(20 * SECOND, 10 * SECOND);
    assert!(!chain.is_validator(3));
    assert_eq!(chain.node(Role::Validator, 3).unwrap().bonded.tokens.0, 199_980 * ARK);
    let unjail = arknet_chain::Action::Stake(StakeOp::Unjail { role: Role::Validator });
    assert_eq!(chain.act(3, unjail.clone()), Err(arknet_chain::Failure::TooEarly));
    chain.silent.clear();
    chain.wait(HOUR, HOUR / 2);
    assert_eq!(chain.act(3, unjail.clone()), Ok(None));
    assert!(chain.is_validator(3));
    assert_eq!(chain.act(3, unjail), Err(arknet_chain::Failure::NotJailed));
}

#[test]
fn a_halt_of_the_chain_jails_nobody() {
    let mut chain = Chain::grown_up();
    chain.silent.push(address(3));
    chain.block(vec![]);
    chain.block_after(DAY, vec![]);
    chain.block(vec![]);
    assert!(chain.is_validator(3));
}

#[test]
fn who_missed_the_last_blocks_does_not_propose() {
    let mut chain = Chain::grown_up();
    chain.silent.push(address(3));
    for _ in 0..5 {
        chain.block(vec![]);
    }
    for _ in 0..60 {
        chain.block(vec![]);
        assert_ne!(chain.headers.last().unwrap().proposer, address(3));
    }
    chain.silent.clear();
    for _ in 0..60 {
        chain.block(vec![]);
    }
    assert!(chain.headers[65..].iter().any(|header| header.proposer == address(3)));
}
