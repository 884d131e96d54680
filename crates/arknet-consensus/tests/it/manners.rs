//! What a node makes of what single peers say.

use std::sync::Arc;

use arknet_chain::{
    Block, CommitCertificate, CommitSignature, Evidence, Hash, Ingredients, Key, MemoryState,
    NoQuotes, Parent, SignedVote, ValidatorSet, Vote, VoteKind, build_block, read,
};
use arknet_consensus::{
    Decided, Input, Message, Misdeed, Output, Proposal, Record, Refused, Replica, Status, Tip,
    limits::RECORDED_BLOCKS_MAX,
};
use arknet_types::NetworkId;

use crate::village::{
    House, consensus_key, genesis, network, operator, options, peer, proposal, transfer, vote,
};

/// Who of validators 1 to 4 proposes the first block in a round.
fn proposer(round: u32) -> u8 {
    let mut state = MemoryState::default();
    state.apply(genesis(4).state().unwrap().0);
    let set: ValidatorSet = read(&state, &Key::Validators).unwrap();
    let address = set.proposer(1, round, &arknet_chain::Presence::default()).operator;
    (1..=4).find(|n| operator(*n) == address).unwrap()
}

/// One who does not propose the first block.
fn listener() -> u8 {
    proposer(0) % 4 + 1
}

fn first_block(house: &House, n: u8) -> Block {
    let parent = Parent { view: &house.state, id: genesis(4).id() };
    let ingredients = Ingredients {
        time: house.now,
        proposer: operator(n),
        commit: None,
        evidence: vec![],
        transactions: vec![transfer(7, 0).verify().unwrap()],
    };
    build_block(&parent, ingredients, &NoQuotes).unwrap().0.into_block()
}

fn misdeeds(out: &[Output]) -> Vec<Misdeed> {
    let misdeed = |output: &Output| match output {
        Output::Misbehaved { misdeed, .. } => Some(misdeed.clone()),
        _ => None,
    };
    out.iter().filter_map(misdeed).collect()
}

/// What it voted for, if it voted.
fn voted(out: &[Output]) -> Option<Option<Hash>> {
    out.iter().find_map(|output| match output {
        Output::Broadcast(Message::Vote(signed)) => Some(signed.vote.block),
        _ => None,
    })
}

#[test]
fn one_validator_alone_makes_blocks_at_once_when_there_is_something_to_put_in() {
    let (mut house, _) = House::new(Some(1), 1);
    house.wait(500);
    assert_eq!(house.commits.len(), 0, "nothing to put in, and the interval is not over");
    house.submit(transfer(7, 0));
    assert_eq!(house.commits.len(), 1);
    house.wait(3_500);
    assert_eq!(house.commits.len(), 4, "one empty block in a second");
    assert_eq!(house.commits[0].block.transactions.len(), 1);
    assert!(house.commits[1..].iter().all(|commit| commit.block.transactions.is_empty()));
    let tip = house.replica.tip();
    assert_eq!((tip.height, tip.id), (4, house.commits[3].block.header.id()));
}

#[test]
fn a_valid_block_is_recorded_before_the_vote_for_it() {
    let (mut house, _) = House::new(Some(listener()), 4);
    let block = first_block(&house, proposer(0));
    let id = block.header.id();
    let out = house.hear(proposer(0), proposal(proposer(0), (1, 0), block));
    assert_eq!(voted(&out), Some(Some(id)));
    let place = |is: &dyn Fn(&Output) -> bool| out.iter().position(is).unwrap();
    let body = place(&|output| matches!(output, Output::Record(Record::Block(_))));
    let vote = place(&|output| matches!(output, Output::Record(Record::Vote(_))));
    let said = place(&|output| matches!(output, Output::Broadcast(_)));
    assert!(body < vote && vote < said);
    assert!(out.iter().any(|output| matches!(output, Output::Forward { .. })));
}

#[test]
fn no_invalid_block_gets_a_vote() {
    let check = |change: &dyn Fn(&mut Block)| {
        let (mut house, _) = House::new(Some(listener()), 4);
        let mut block = first_block(&house, proposer(0));
        change(&mut block);
        let out = house.hear(proposer(0), proposal(proposer(0), (1, 0), block));
        (voted(&out), misdeeds(&out))
    };
    let (vote, misdeeds) = check(&|block| block.header.state_root = Hash([7; 32]));
    assert!(vote == Some(None) && matches!(misdeeds[..], [Misdeed::Invalid(_)]));
    let (vote, misdeeds) = check(&|block| block.header.outcomes = Hash([7; 32]));
    assert!(vote == Some(None) && matches!(misdeeds[..], [Misdeed::Invalid(_)]));
    let (vote, misdeeds) = check(&|block| {
        block.transactions[0].signature.0[0] ^= 1;
        block.name_body();
    });
    assert!(vote == Some(None) && matches!(misdeeds[..], [Misdeed::Invalid(_)]));
    // Ahead of this clock: perhaps not ahead of others'.
    let (vote, misdeeds) = check(&|block| block.header.time = block.header.time.plus_ms(6_000));
    assert!(vote == Some(None) && matches!(misdeeds[..], [Misdeed::Invalid(_)]));
    // Not the proposer's doing, so that it may still come as it is.
    let (vote, misdeeds) = check(&|block| block.transactions[0].body.tip.0 += 1);
    assert!(vote.is_none() && misdeeds == [Misdeed::Block]);
    let (vote, misdeeds) = check(&|block| block.header.proposer = operator(listener()));
    assert!(vote.is_none() && misdeeds == [Misdeed::Block]);
}

#[test]
fn a_block_that_came_too_early_is_taken_when_a_quorum_has() {
    let (mut house, _) = House::new(Some(listener()), 4);
    let clock = house.now;
    house.now = clock.plus_ms(6_000);
    let block = first_block(&house, proposer(0));
    let id = block.header.id();
    house.now = clock;
    let out = house.hear(proposer(0), proposal(proposer(0), (1, 0), block));
    assert_eq!((voted(&out), misdeeds(&out)), (Some(None), vec![]));
    let others: Vec<u8> = (1..=4).filter(|n| *n != listener()).collect();
    for n in &others {
        house.hear(*n, vote(*n, VoteKind::Prevote, (1, 0), id));
    }
    for n in &others {
        house.hear(*n, vote(*n, VoteKind::Precommit, (1, 0), id));
    }
    assert_eq!(house.commits.len(), 1);
}

fn blocks_recorded(out: &[Output]) -> usize {
    let is_block = |output: &&Output| matches!(output, Output::Record(Record::Block(_)));
    out.iter().filter(is_block).count()
}

#[test]
fn a_proposer_whose_round_failed_proposes_the_same_block_again() {
    let n = proposer(0);
    let again = (1..).find(|round| proposer(*round) == n).unwrap();
    let (mut house, mut out) = House::new(Some(n), 4);
    out.extend(house.submit(transfer(7, 0)));
    let proposed = |out: &[Output]| -> Vec<(u32, Hash)> {
        let proposal = |output: &Output| match output {
            Output::Broadcast(Message::Proposal(Proposal { proposed, .. })) => {
                Some((proposed.proposed.round, proposed.proposed.block))
            }
            _ => None,
        };
        out.iter().filter_map(proposal).collect()
    };
    let [(0, id)] = proposed(&out)[..] else { panic!("{out:?}") };
    // What comes meanwhile waits for the next block.
    out.extend(house.submit(transfer(7, 1)));
    house.now = house.now.plus_ms(700);
    for other in (1..=4).filter(|other| *other != n) {
        out.extend(house.hear(other, vote(other, VoteKind::Prevote, (1, again), id)));
    }
    assert_eq!(proposed(&out), [(0, id), (again, id)]);
    assert_eq!(blocks_recorded(&out), 1);
}

/// However long no block is committed: what a node records of blocks is bounded, it goes on from
/// round to round, and takes a block that a quorum voted for.
#[test]
fn blocks_that_are_too_many_are_neither_recorded_nor_voted_for_unless_a_quorum_did() {
    let (mut house, mut out) = House::new(Some(listener()), 4);
    let others: Vec<u8> = (1..=4).filter(|n| *n != listener()).collect();
    let mut votes = Vec::new();
    // Two take it to a round, and vote there for something else.
    let enter = |house: &mut House, round: u32| -> Vec<Output> {
        house.now = house.now.plus_ms(1);
        let prevote = |n: &u8| vote(*n, VoteKind::Prevote, (1, round), Hash([9; 32]));
        let out = others[..2].iter().flat_map(|n| house.hear(*n, prevote(n))).collect();
        assert_eq!(house.replica.round(), round);
        out
    };
    let most = u32::try_from(RECORDED_BLOCKS_MAX).unwrap();
    let last = (3 * most..).find(|round| proposer(*round) != listener()).unwrap();
    for round in 0..last {
        out.extend(enter(&mut house, round));
        let n = proposer(round);
        if n == listener() {
            continue;
        }
        let block = first_block(&house, n);
        let id = block.header.id();
        let said = house.hear(n, proposal(n, (1, round), block));
        votes.push(voted(&said).expect("it votes in each round") == Some(id));
        assert!(misdeeds(&said).is_empty());
        out.extend(said);
    }
    assert_eq!(blocks_recorded(&out), RECORDED_BLOCKS_MAX);
    // Its own block is one of them.
    assert_eq!(votes.iter().filter(|is_for| **is_for).count(), RECORDED_BLOCKS_MAX - 1);
    assert!(votes[..RECORDED_BLOCKS_MAX - 1].iter().all(|is_for| *is_for));
    let block = first_block(&house, proposer(last));
    let id = block.header.id();
    let mut out = Vec::new();
    for kind in [VoteKind::Prevote, VoteKind::Precommit] {
        for n in &others {
            out.extend(house.hear(*n, vote(*n, kind, (1, last), id)));
        }
        if kind == VoteKind::Prevote {
            out.extend(house.hear(2, proposal(proposer(last), (1, last), block.clone())));
        }
    }
    assert_eq!(blocks_recorded(&out), 1);
    assert_eq!(house.commits.len(), 1);
    assert_eq!(house.commits[0].certificate.block, id);
}

#[test]
fn what_nobody_signed_takes_no_place_of_proposals_that_came_early() {
    let (mut ahead, _) = House::new(Some(1), 1);
    ahead.wait(2_500);
    let block = |height: usize| Block::clone(&ahead.commits[height - 1].block);
    let (mut house, _) = House::new(None, 1);
    house.now = ahead.now;
    for n in 2..=9 {
        let Message::Proposal(mut forged) = proposal(1, (2, 0), block(2)) else { unreachable!() };
        forged.proposed.signature.0[3] ^= 1;
        house.hear(n, Message::Proposal(forged));
        // Nor what somebody signed who is no validator.
        house.hear(n, proposal(n, (2, 0), block(2)));
    }
    house.hear(1, proposal(1, (2, 0), block(2)));
    for height in 1..=2 {
        let id = block(height).header.id();
        let at = (height as u64, 0);
        if height == 1 {
            house.hear(1, proposal(1, at, block(1)));
        }
        house.hear(1, vote(1, VoteKind::Precommit, at, id));
        house.wait(0);
        assert_eq!(house.commits.len(), height);
    }
}

#[test]
fn strangers_foreigners_and_forgers_are_told_apart() {
    let (mut house, _) = House::new(Some(listener()), 4);
    let block = first_block(&house, proposer(0));
    let id = block.header.id();
    let n = proposer(0);
    let wrong_turn = n % 4 + 1;
    let out = house.hear(n, proposal(wrong_turn, (1, 0), block.clone()));
    assert_eq!(misdeeds(&out), [Misdeed::Proposer]);
    let Message::Proposal(mut forged) = proposal(n, (1, 0), block) else { unreachable!() };
    forged.proposed.signature.0[3] ^= 1;
    let out = house.hear(n, Message::Proposal(forged));
    assert_eq!(misdeeds(&out), [Misdeed::Signature]);
    let Message::Vote(mut forged) = vote(n, VoteKind::Prevote, (1, 0), id) else { unreachable!() };
    forged.signature.0[3] ^= 1;
    assert_eq!(misdeeds(&house.hear(n, Message::Vote(forged))), [Misdeed::Signature]);
    let foreign = Vote {
        network: NetworkId::new("arknet-other-1").unwrap(),
        kind: VoteKind::Prevote,
        height: 1,
        round: 0,
        block: None,
        validator: operator(n),
    };
    let foreign = Message::Vote(SignedVote::sign(foreign, &consensus_key(n)));
    assert_eq!(misdeeds(&house.hear(n, foreign)), [Misdeed::Network]);
    // Nobody of the set: perhaps of a later one.
    let out = house.hear(n, vote(8, VoteKind::Prevote, (1, 0), id));
    assert!(misdeeds(&out).is_empty());
    assert!(!out.iter().any(|output| matches!(output, Output::Forward { .. })));
}

#[test]
fn transactions_are_answered_told_and_held_against_who_sent_them() {
    let (mut house, _) = House::new(None, 4);
    let out = house.submit(transfer(7, 0));
    assert!(matches!(out[0], Output::Answer { ticket: 1, result: Ok(_) }));
    assert!(matches!(&out[1], Output::Gossip(Message::Transactions(all)) if all.len() == 1));
    let out = house.submit(transfer(7, 0));
    assert!(matches!(out[..], [Output::Answer { result: Err(Refused::Rejected(_)), .. }]));
    let mut forged = transfer(7, 1);
    forged.body.tip.0 += 1;
    let out = house.submit(forged.clone());
    assert!(matches!(out[..], [Output::Answer { result: Err(Refused::Signature), .. }]));
    let both = Message::Transactions(vec![forged, transfer(7, 2)]);
    let out = house.hear(2, both);
    assert_eq!(misdeeds(&out), [Misdeed::Signature]);
    let forwarded = out.iter().find_map(|output| match output {
        Output::Forward { message: Message::Transactions(all), .. } => Some(all.len()),
        _ => None,
    });
    assert_eq!(forwarded, Some(1));
}

#[test]
fn evidence_is_passed_on_once_and_false_evidence_held_against_its_sender() {
    let (mut house, _) = House::new(None, 4);
    let signed = |block| {
        let kind = VoteKind::Prevote;
        let validator = operator(2);
        let vote = Vote { network: network(), kind, height: 1, round: 0, block, validator };
        SignedVote::sign(vote, &consensus_key(2))
    };
    let pair = |a, b| Message::Evidence(Evidence::Votes(Box::new((a, b))));
    let good = pair(signed(None), signed(Some(Hash([1; 32]))));
    let out = house.hear(3, good.clone());
    assert!(matches!(out[..], [Output::Forward { .. }]));
    assert!(house.hear(4, good).is_empty());
    let (mut house, _) = House::new(None, 4);
    let false_one = pair(signed(Some(Hash([1; 32]))), signed(Some(Hash([1; 32]))));
    assert_eq!(misdeeds(&house.hear(3, false_one)), [Misdeed::Evidence]);
}

#[test]
fn who_is_behind_asks_and_believes_only_certificates() {
    let (mut ahead, _) = House::new(Some(1), 1);
    ahead.wait(5_500);
    let blocks: Vec<Decided> = ahead
        .commits
        .iter()
        .map(|commit| Decided {
            block: Arc::clone(&commit.block),
            certificate: commit.certificate.clone(),
        })
        .collect();
    assert_eq!(blocks.len(), 5);
    let (mut house, _) = House::new(None, 1);
    house.tell(Input::Joined(peer(1)));
    let status = Message::Status(Status { network: network(), height: 5 });
    let out = house.hear(1, status.clone());
    assert!(matches!(out[..], [Output::Send(_, Message::Want { from: 1 })]));
    // Unasked, from another.
    house.hear(2, Message::Decided(blocks.clone()));
    house.wait(0);
    assert_eq!(house.commits.len(), 0);
    // The third is forged.
    let mut forged = blocks.clone();
    let mut block = Block::clone(&forged[2].block);
    block.header.time = block.header.time.plus_ms(1);
    forged[2].block = Arc::new(block);
    house.hear(1, Message::Decided(forged));
    let out = house.wait(0);
    assert_eq!((house.commits.len(), misdeeds(&out)), (2, vec![Misdeed::Certificate]));
    let out = house.hear(1, status);
    assert!(matches!(out[..], [Output::Send(_, Message::Want { from: 3 })]), "{out:?}");
    house.hear(1, Message::Decided(blocks[2..].to_vec()));
    house.wait(0);
    assert_eq!(house.commits.len(), 5);
    // And it gives them to others, when it is their turn.
    house.hear(3, Message::Want { from: 2 });
    let out = house.hear(3, Message::Want { from: 4 });
    assert!(!out.iter().any(|output| matches!(output, Output::Serve { .. })));
    let out = house.wait(200);
    assert!(out.iter().any(|output| matches!(output, Output::Serve { from: 4, .. })));
}

#[test]
fn a_log_that_does_not_fit_ends_the_process() {
    let (mut house, _) = House::new(Some(listener()), 4);
    let block = first_block(&house, proposer(0));
    let out = house.hear(proposer(0), proposal(proposer(0), (1, 0), block));
    let records: Vec<Record> = out
        .into_iter()
        .filter_map(|output| match output {
            Output::Record(record) => Some(record),
            _ => None,
        })
        .collect();
    let start = |records: &[Record]| {
        let tip = Tip { height: 0, id: genesis(4).id(), certificate: None };
        let mut out = Vec::new();
        let at = (house.now, &house.state);
        let replica = Replica::start(options(Some(listener())), tip, at, records, &mut out);
        (replica.map(|_| ()), out)
    };
    let (result, out) = start(&records);
    assert_eq!(result, Ok(()));
    assert!(voted(&out).is_some_and(|block| block.is_some()), "it says again what it said");
    assert!(!out.iter().any(|output| matches!(output, Output::Record(_))));
    let without_block: Vec<Record> =
        records.iter().filter(|r| !matches!(r, Record::Block(_))).cloned().collect();
    assert!(start(&without_block).0.is_err());
    let mut forged = records;
    for record in &mut forged {
        if let Record::Vote(signed) = record {
            signed.signature.0[5] ^= 1;
        }
    }
    assert!(start(&forged).0.is_err());
}

#[test]
fn a_proposal_that_a_quorum_knows_is_asked_for_and_given() {
    let (mut knows, _) = House::new(Some(listener()), 4);
    let block = first_block(&knows, proposer(0));
    let id = block.header.id();
    knows.hear(proposer(0), proposal(proposer(0), (1, 0), block));
    let (mut lacks, _) = House::new(None, 4);
    lacks.now = knows.now;
    for n in (1..=4).filter(|n| *n != listener()) {
        lacks.hear(n, vote(n, VoteKind::Prevote, (1, 0), id));
    }
    let out = lacks.wait(500);
    let asked = out.iter().find_map(|output| match output {
        Output::Send(_, message @ Message::WantProposal { .. }) => Some(message.clone()),
        _ => None,
    });
    let out = knows.hear(9, asked.unwrap());
    let [Output::Send(to, Message::Proposal(Proposal { proposed, block }))] = &out[..] else {
        panic!("{out:?}");
    };
    assert_eq!((*to, proposed.proposed.block), (peer(9), id));
    let given = Message::Proposal(Proposal { proposed: proposed.clone(), block: block.clone() });
    lacks.hear(2, given);
    for n in (1..=4).filter(|n| *n != listener()) {
        lacks.hear(n, vote(n, VoteKind::Precommit, (1, 0), id));
    }
    assert_eq!(lacks.commits.len(), 1);
}

#[test]
fn what_is_committed_is_what_was_checked_and_not_another_body_of_that_name() {
    let (mut house, _) = House::new(None, 4);
    let block = first_block(&house, proposer(0));
    let id = block.header.id();
    house.hear(proposer(0), proposal(proposer(0), (1, 0), block.clone()));
    let mut certificate = CommitCertificate { height: 1, round: 0, block: id, signatures: vec![] };
    let mut signers: Vec<u8> = (1..=3).collect();
    signers.sort_by_key(|n| operator(*n));
    for n in signers {
        let vote = certificate.vote(&network(), operator(n));
        let signature = SignedVote::sign(vote, &consensus_key(n)).signature;
        let validator = operator(n);
        certificate.signatures.push(CommitSignature { validator, signature });
    }
    house.hear(2, Message::Status(Status { network: network(), height: 1 }));
    let out = house.wait(600);
    assert!(out.iter().any(|output| matches!(output, Output::Send(_, Message::Want { .. }))));
    let mut changed = block.clone();
    changed.transactions.clear();
    let decided = Decided { block: Arc::new(changed), certificate };
    house.hear(2, Message::Decided(vec![decided]));
    house.wait(0);
    assert_eq!(house.commits.len(), 1);
    assert_eq!(*house.commits[0].block, block);
}

#[test]
fn what_waits_for_long_is_told_again() {
    let (mut house, _) = House::new(None, 4);
    house.tell(Input::Joined(peer(2)));
    house.hear(2, Message::Transactions(vec![transfer(7, 0)]));
    let told = |out: &[Output]| {
        let is_it = |output: &&Output| matches!(output, Output::Send(_, Message::Transactions(_)));
        out.iter().filter(is_it).count()
    };
    assert_eq!(told(&house.wait(4_000)), 0);
    assert_eq!(told(&house.wait(12_000)), 3);
}
