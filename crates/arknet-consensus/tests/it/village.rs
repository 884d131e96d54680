use std::sync::Arc;

use arknet_chain::{
    Action, Block, Genesis, GenesisValidator, Hash, MemoryState, NoQuotes, Params, Proposed,
    SignedProposed, SignedTransaction, SignedVote, TransactionBody, Vote, VoteKind,
    which_hold_after,
};
use arknet_consensus::{
    Commit, Input, Message, Options, Output, Peer, Proposal, Replica, Source, Timing, Tip,
};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Timestamp};

pub(crate) const BEGIN: Timestamp = Timestamp(1_700_000_000_000);

pub(crate) fn network() -> NetworkId {
    NetworkId::new("arknet-test-1").unwrap()
}

pub(crate) fn wallet(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

pub(crate) fn consensus_key(n: u8) -> KeyPair {
    let mut seed = [n; 32];
    seed[0] = 0xcc;
    KeyPair::from_seed(&seed)
}

pub(crate) fn operator(n: u8) -> Address {
    wallet(n).public().address()
}

pub(crate) fn peer(n: u8) -> Peer {
    KeyPair::from_seed(&[n ^ 0xff; 32]).public()
}

pub(crate) fn genesis(validators: u8) -> Genesis {
    let validator = |n| GenesisValidator {
        operator: operator(n),
        key: consensus_key(n).public(),
        weight: 10,
        stake: Atoms::ZERO,
    };
    Genesis {
        network: network(),
        time: BEGIN,
        params: Params::default(),
        validators: (1..=validators).map(validator).collect(),
        allocations: (1..=9).map(|n| (operator(n), Atoms(1_000 * Atoms::PER_ARK))).collect(),
    }
}

pub(crate) fn options(n: Option<u8>) -> Options {
    Options {
        key: n.map(|n| (operator(n), consensus_key(n))),
        timing: Timing::default(),
        which_hold: which_hold_after,
        quotes: Arc::new(NoQuotes),
    }
}

/// One node with its state, whose peers are played by the test.
pub(crate) struct House {
    pub(crate) state: MemoryState,
    pub(crate) replica: Replica,
    pub(crate) now: Timestamp,
    pub(crate) commits: Vec<Commit>,
}

impl House {
    /// The node of validator `n`, or of one who follows, in a network of so many validators.
    pub(crate) fn new(n: Option<u8>, validators: u8) -> (Self, Vec<Output>) {
        let genesis = genesis(validators);
        let mut state = MemoryState::default();
        state.apply(genesis.state().unwrap().0);
        let tip = Tip { height: 0, id: genesis.id(), certificate: None };
        let now = BEGIN.plus_ms(10_000);
        let mut out = Vec::new();
        let replica = Replica::start(options(n), tip, (now, &state), &[], &mut out).unwrap();
        let mut house = Self { state, replica, now, commits: Vec::new() };
        let out = house.done(out);
        (house, out)
    }

    /// Applies what was committed, and returns the rest.
    fn done(&mut self, out: Vec<Output>) -> Vec<Output> {
        let mut rest = Vec::new();
        for output in out {
            match output {
                Output::Commit(commit) => {
                    self.state.apply(commit.executed.changes.clone());
                    self.commits.push(*commit);
                }
                other => rest.push(other),
            }
        }
        rest
    }

    pub(crate) fn tell(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.replica.handle(self.now, &self.state, input, &mut out).unwrap();
        self.done(out)
    }

    pub(crate) fn hear(&mut self, n: u8, message: Message) -> Vec<Output> {
        let bytes = arknet_types::encode(&message);
        let message = Message::parse(&bytes).unwrap();
        self.tell(Input::Message { from: peer(n), message })
    }

    pub(crate) fn submit(&mut self, transaction: SignedTransaction) -> Vec<Output> {
        self.tell(Input::Transactions(vec![(Source::Local(1), transaction)]))
    }

    /// Time passes, with all that it wakes.
    pub(crate) fn wait(&mut self, ms: u64) -> Vec<Output> {
        let until = self.now.plus_ms(ms);
        let mut all = Vec::new();
        while let Some(at) = self.replica.next_wakeup().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let mut out = Vec::new();
            self.replica.on_wakeup(self.now, &self.state, &mut out).unwrap();
            all.extend(self.done(out));
        }
        self.now = until;
        all
    }
}

/// A transfer of one atom.
pub(crate) fn transfer(n: u8, nonce: u64) -> SignedTransaction {
    let body = TransactionBody {
        network: network(),
        signer: wallet(n).public(),
        nonce,
        gas_limit: 21_000,
        fee_max: Atoms(10),
        tip: Atoms(1),
        action: Action::Transfer { to: Address([9; 20]), amount: Atoms(1) },
    };
    SignedTransaction::sign(body, &wallet(n))
}

pub(crate) fn vote(n: u8, kind: VoteKind, (height, round): (u64, u32), block: Hash) -> Message {
    let validator = operator(n);
    let vote = Vote { network: network(), kind, height, round, block: Some(block), validator };
    Message::Vote(SignedVote::sign(vote, &consensus_key(n)))
}

pub(crate) fn proposal(n: u8, (height, round): (u64, u32), block: Block) -> Message {
    let proposed = Proposed {
        network: network(),
        height,
        round,
        block: block.header.id(),
        valid_round: None,
        validator: operator(n),
    };
    let proposed = SignedProposed::sign(proposed, &consensus_key(n));
    Message::Proposal(Proposal { proposed, block: Arc::new(block) })
}
