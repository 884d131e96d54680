//! What the ledger reads: transactions, blocks and what is inside them, proofs, genesis documents,
//! and what its nodes tell one another and themselves.

use std::{
    cell::RefCell,
    sync::{Arc, OnceLock},
};

use arknet_chain::{
    Block, CommitCertificate, CommitSignature, Evidence, Genesis, GenesisValidator, Hash, Header,
    LightBlock, Manifest, MemoryState, NoQuotes, OutcomeProof, Params, Parent, Part, Proof,
    SignedProposed, SignedTransaction, SignedVote, ValidatorSet, Vote, VoteKind, execute_block,
};
use arknet_consensus::{Input, Message, Options, Record, Replica, Timing, Tip};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Signature, Timestamp, encode};

use crate::{
    Decoder, corpus,
    decoders::{canonical, costly, with},
    orders,
};

pub(crate) fn decoders() -> anyhow::Result<Vec<Decoder>> {
    let blocks = corpus::bytes_in("chain.json", "blocks", "bytes")?;
    let transactions = corpus::bytes_in("chain.json", "transactions", "bytes")?;
    let proofs = corpus::bytes_in("chain.json", "proofs", "bytes")?;
    // The second of the vectors stands on the first, and what is executed here stands on nothing.
    let first = blocks[..1].to_vec();
    let outcomes = corpus::bytes_in("chain.json", "outcomes", "bytes")?;
    let messages = corpus::bytes_in("consensus.json", "messages", "bytes")?;
    let records = corpus::bytes_in("consensus.json", "records", "bytes")?;
    let genesis = vec![GENESIS.as_bytes().to_vec()];
    let kinds = transactions.iter().map(|bytes| SignedTransaction::parse(bytes));
    let kinds = kinds.map(|one| Ok(one?.body.action)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(vec![
        with("Block", blocks, canonical::<Block>),
        costly("Block (executed)", first, 20, executed),
        costly("Block (of orders)", orders::corpus(&kinds), 500, orders::done),
        with("Evidence", vec![evidence()], canonical::<Evidence>),
        with("Genesis", genesis, is_genesis),
        with("LightBlock", vec![encode(&light_block())], canonical::<LightBlock>),
        with("Manifest", vec![encode(&manifest())], canonical::<Manifest>),
        with("Part", vec![encode(&part())], canonical::<Part>),
        with("Message", messages.clone(), canonical::<Message>),
        costly("Message (heard)", messages, 20, heard),
        with("OutcomeProof", outcomes, canonical::<OutcomeProof>),
        with("Proof", proofs, canonical::<Proof>),
        with("Record", records, canonical::<Record>),
        with("SignedProposed", vec![proposed()], canonical::<SignedProposed>),
        with("SignedTransaction", transactions.clone(), canonical::<SignedTransaction>),
        costly("Transaction (taken)", transactions, 5, taken),
        with("ValidatorSet", vec![set()], canonical::<ValidatorSet>),
    ])
}

const GENESIS: &str = r#"{"network":"arknet-test-1","time_ms":1,"params":{"jail_ms":5000},"validators":[{"operator":"0xfef6dfa48b073924c436539010d7812fbe50096a","key":"2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12","weight":1}],"danger_allocations":{"0xfef6dfa48b073924c436539010d7812fbe50096a":"7"}}"#;

fn is_genesis(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| Genesis::parse(text).is_ok())
}

/// Signatures aside, which no change of bytes gets past.
fn taken(bytes: &[u8]) -> bool {
    SignedTransaction::parse(bytes).is_ok_and(|one| one.verify().is_some())
}

/// The block of a stranger, executed: it may be invalid, and nothing else may happen.
fn executed(bytes: &[u8]) -> bool {
    let (view, id) = beginning();
    let Ok(mut block) = Block::parse(bytes) else { return false };
    // The body is named as it is and the signatures are good: what is behind is to be reached.
    block.name_body();
    let Ok(block) = block.verify(|claims| vec![true; claims.len()]) else { return false };
    execute_block(&Parent { view, id: *id }, &block, &NoQuotes).is_ok()
}

/// What a peer says to a node that follows the chain: it may be held against the peer, and no more.
fn heard(bytes: &[u8]) -> bool {
    thread_local! {
        static NODE: RefCell<(MemoryState, Replica)> = RefCell::new(node());
    }
    let Ok(message) = Message::parse(bytes) else { return false };
    NODE.with_borrow_mut(|(view, replica)| {
        let from = KeyPair::from_seed(&[9; 32]).public();
        let mut out = Vec::new();
        let input = Input::Message { from, message };
        let result = replica.handle(Timestamp(1_700_000_010_000), view, input, &mut out);
        result.expect("nothing that a peer says ends a node");
    });
    true
}

fn node() -> (MemoryState, Replica) {
    let (view, id) = beginning().clone();
    let options = Options {
        key: None,
        timing: Timing::default(),
        which_hold: arknet_chain::which_hold_after,
        quotes: Arc::new(NoQuotes),
    };
    let tip = Tip { height: 0, id, certificate: None };
    let at = (Timestamp(1_700_000_000_000), &view);
    let replica = Replica::start(options, tip, at, &[], &mut Vec::new());
    let replica = replica.expect("a node begins with its genesis");
    (view, replica)
}

/// The state that the genesis leaves, and its name.
pub(crate) fn beginning() -> &'static (MemoryState, Hash) {
    static BEGINNING: OnceLock<(MemoryState, Hash)> = OnceLock::new();
    BEGINNING.get_or_init(|| {
        let genesis = genesis();
        let mut state = MemoryState::default();
        state.apply(genesis.state().expect("a good genesis").0);
        (state, genesis.id())
    })
}

pub(crate) fn wallet(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

/// The consensus key of the validator that `n` operates.
pub(crate) fn consensus_key(n: u8) -> KeyPair {
    let mut seed = [n; 32];
    seed[0] = 0xcc;
    KeyPair::from_seed(&seed)
}

/// The genesis of the vectors: two validators of weight ten, twenty accounts.
pub(crate) fn genesis() -> Genesis {
    let address = |n: u8| wallet(n).public().address();
    let validator = |n: u8| GenesisValidator {
        operator: address(n),
        key: consensus_key(n).public(),
        weight: 10,
        stake: Atoms::ZERO,
    };
    Genesis {
        network: network(),
        time: Timestamp(1_700_000_000_000),
        params: Params::default(),
        validators: vec![validator(1), validator(2)],
        allocations: (1..=20).map(|n| (address(n), Atoms(1_000_000 * Atoms::PER_ARK))).collect(),
    }
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("arknet-test-1").expect("a good name")
}

fn evidence() -> Vec<u8> {
    let vote = |block| Vote {
        network: network(),
        kind: VoteKind::Precommit,
        height: 1,
        round: 2,
        block,
        validator: Address([1; 20]),
    };
    let key = KeyPair::from_seed(&[1; 32]);
    let votes = (vote(None), vote(Some(Hash([2; 32]))));
    let pair = (SignedVote::sign(votes.0, &key), SignedVote::sign(votes.1, &key));
    encode(&Evidence::Votes(Box::new(pair)))
}

fn proposed() -> Vec<u8> {
    let proposed = arknet_chain::Proposed {
        network: network(),
        height: 1,
        round: 2,
        block: Hash([3; 32]),
        valid_round: Some(1),
        validator: Address([1; 20]),
    };
    encode(&SignedProposed { proposed, signature: Signature([4; 64]) })
}

fn light_block() -> LightBlock {
    let header = Header {
        network: network(),
        height: 7,
        parent: Hash([1; 32]),
        time: Timestamp(1_700_000_000_000),
        proposer: Address([1; 20]),
        base_fee: Atoms(1),
        gas_used: 21_000,
        validators: two().hash(),
        next_validators: two().hash(),
        state_root: Hash([2; 32]),
        outcomes: Hash([7; 32]),
        commit: Hash([3; 32]),
        evidence: Hash([4; 32]),
        transactions: Hash([5; 32]),
    };
    let signature = CommitSignature { validator: Address([1; 20]), signature: Signature([6; 64]) };
    let certificate =
        CommitCertificate { height: 7, round: 1, block: header.id(), signatures: vec![signature] };
    LightBlock { header, certificate, validators: two(), next_validators: two() }
}

fn part() -> Part {
    Part(vec![(vec![0], vec![1, 2]), (vec![5; 21], vec![7; 28])])
}

fn manifest() -> Manifest {
    let parts = vec![Part::hash(&encode(&part()))];
    Manifest { block: light_block(), parts, entries: 2 }
}

fn set() -> Vec<u8> {
    encode(&two())
}

fn two() -> ValidatorSet {
    let member = |n: u8| arknet_chain::Validator {
        operator: Address([n; 20]),
        key: KeyPair::from_seed(&[n; 32]).public(),
        power: 9 - u64::from(n),
    };
    ValidatorSet::new(vec![member(1), member(2)]).expect("two validators")
}
