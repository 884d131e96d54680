//! The golden vectors of messages and records. `UPDATE=1 cargo test -p arknet-consensus vectors`
//! writes them anew, which only a change of the protocol may ask for.

use std::{fs, path::PathBuf, sync::Arc};

use arknet_chain::{
    CommitSignature, Evidence, Hash, Ingredients, LightBlock, Manifest, NoQuotes, Parent, Part,
    SignedVote, Validator, ValidatorSet, Vote, VoteKind, build_block,
};
use arknet_consensus::{
    BlockVerdict, Decided, Message, Polka, Record, RoundCertificate, RoundCertificateKind,
    RoundVote, SnapshotPart, Status, Step,
};
use arknet_types::encode;
use serde_json::{Value, json};

use crate::village::{
    BEGIN, House, consensus_key, genesis, network, operator, proposal, transfer, vote,
};

fn signed(n: u8, kind: VoteKind, block: Option<Hash>) -> SignedVote {
    let vote =
        Vote { network: network(), kind, height: 1, round: 2, block, validator: operator(n) };
    SignedVote::sign(vote, &consensus_key(n))
}

fn block() -> arknet_chain::Block {
    let (house, _) = House::new(None, 1);
    let parent = Parent { view: &house.state, id: genesis(1).id() };
    let ingredients = Ingredients {
        time: BEGIN.plus_ms(1),
        proposer: operator(1),
        commit: None,
        evidence: vec![],
        transactions: vec![transfer(7, 0).verify().unwrap()],
    };
    build_block(&parent, ingredients, &NoQuotes).unwrap().0.into_block()
}

fn polka() -> Polka {
    let block = Hash([1; 32]);
    let signatures = [1, 2].map(|n| CommitSignature {
        validator: operator(n),
        signature: signed(n, VoteKind::Prevote, Some(block)).signature,
    });
    Polka { height: 1, round: 2, block, signatures: signatures.to_vec() }
}

fn messages() -> Vec<(&'static str, Message)> {
    let block = block();
    let id = block.header.id();
    let precommit = signed(1, VoteKind::Precommit, Some(id));
    let certificate = arknet_chain::CommitCertificate {
        height: 1,
        round: 2,
        block: id,
        signatures: vec![CommitSignature {
            validator: operator(1),
            signature: precommit.signature,
        }],
    };
    let two_faced =
        (signed(2, VoteKind::Prevote, None), signed(2, VoteKind::Prevote, Some(Hash([1; 32]))));
    let skip = signed(3, VoteKind::Prevote, None);
    let round = RoundCertificate {
        height: 1,
        round: 2,
        kind: RoundCertificateKind::Skip,
        votes: vec![RoundVote {
            kind: VoteKind::Prevote,
            block: None,
            validator: operator(3),
            signature: skip.signature,
        }],
    };
    let voter = Validator { operator: operator(1), key: consensus_key(1).public(), power: 10 };
    let set = ValidatorSet::new(vec![voter]).unwrap();
    let light = LightBlock {
        header: block.header.clone(),
        certificate: certificate.clone(),
        validators: set.clone(),
        next_validators: set,
    };
    let parts = vec![Part::hash(&[1, 2, 3])];
    let manifest = Manifest { block: light.clone(), parts, entries: 9 };
    let part = SnapshotPart { block: id, index: 0, bytes: vec![1, 2, 3] };
    let decided = Decided { block: Arc::new(block.clone()), certificate };
    vec![
        ("proposal", proposal(1, (1, 0), block)),
        ("vote", vote(1, VoteKind::Precommit, (1, 2), id)),
        ("polka", Message::Polka(polka())),
        ("round", Message::Round(round)),
        ("transactions", Message::Transactions(vec![transfer(7, 0)])),
        ("evidence", Message::Evidence(Evidence::Votes(Box::new(two_faced)))),
        ("status", Message::Status(Status { network: network(), height: 7 })),
        ("want", Message::Want { from: 3 }),
        ("decided", Message::Decided(vec![decided])),
        ("want_proposal", Message::WantProposal { height: 1, round: 2, block: id }),
        ("want_snapshot", Message::WantSnapshot),
        ("snapshot", Message::Snapshot(Some(Box::new(manifest)))),
        ("no_snapshot", Message::Snapshot(None)),
        ("want_part", Message::WantPart { block: id, index: 7 }),
        ("part", Message::Part(part)),
        ("want_light", Message::WantLight { height: 5 }),
        ("light", Message::Light(Some(Box::new(light)))),
    ]
}

fn records() -> Vec<(&'static str, Record)> {
    let block = block();
    let id = block.header.id();
    let Message::Proposal(proposal) = proposal(1, (1, 0), block.clone()) else { unreachable!() };
    let verdict = BlockVerdict {
        height: 1,
        round: 2,
        block: id,
        valid_round: Some(1),
        proposer: operator(1),
        is_valid: true,
    };
    vec![
        ("block", Record::Block(Arc::new(block))),
        ("verdict", Record::Verdict(verdict)),
        ("vote", Record::Vote(signed(1, VoteKind::Prevote, None))),
        ("proposal", Record::Proposal(proposal.proposed)),
        ("polka", Record::Polka(polka())),
        ("timeout", Record::Timeout { height: 1, round: 2, step: Step::Precommit }),
    ]
}

fn document() -> Value {
    let one = |name: &str, bytes: Vec<u8>| json!({ "name": name, "bytes": hex::encode(bytes) });
    let messages: Vec<Value> =
        messages().iter().map(|(name, message)| one(name, encode(message))).collect();
    let records: Vec<Value> =
        records().iter().map(|(name, record)| one(name, encode(record))).collect();
    json!({ "what": "spec/chain.md", "messages": messages, "records": records })
}

#[test]
fn the_file_holds_what_the_code_makes() {
    let path =
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/consensus.json"));
    let document = document();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&document).unwrap() + "\n").unwrap();
    }
    let text = fs::read_to_string(&path).unwrap_or_default();
    let file: Value = serde_json::from_str(&text).unwrap_or_default();
    assert!(file == document, "if the protocol was meant to change, UPDATE=1 writes the file");
}

#[test]
fn every_message_and_record_returns_from_its_bytes() {
    for (name, message) in messages() {
        assert_eq!(Message::parse(&encode(&message)).unwrap(), message, "{name}");
    }
    for (name, record) in records() {
        assert_eq!(Record::parse(&encode(&record)).unwrap(), record, "{name}");
    }
    let too_large = vec![0; arknet_consensus::limits::MESSAGE_BYTES_MAX + 1];
    assert!(Message::parse(&too_large).is_err() && Record::parse(&too_large).is_err());
}
