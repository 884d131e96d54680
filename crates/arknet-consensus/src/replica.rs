//! One node of the chain.

mod blocks;
mod catching_up;
mod messages;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use arknet_chain::{
    CommitCertificate, Evidence, Executed, Hash, Header, Key, Mempool, Meta, Node, Presence, Role,
    SignedTransaction, StateView, ValidatorSet, VerifiedBlock, read,
};
use arknet_types::{Address, NetworkId, Timestamp};

use self::{
    blocks::{Body, Missing},
    catching_up::Fetch,
};
use crate::{
    Commit, Decided, Halt, Input, Message, Misdeed, Options, Output, Peer, Proposal, Record,
    Source, Status, Timing, Tip, Verdict,
    context::{Chain, Voters},
    engine::{Act, Engine},
    limits::{REPEAT_PEERS_MAX, TELL_AGAIN_MS},
    peers::Peers,
};

/// One node of the chain: see the [crate's documentation](crate).
///
/// After a call that returned [`Output::Commit`], the state that is shown must be the one after
/// that block.
pub struct Replica {
    options: Options,
    network: NetworkId,
    operator: Address,
    engine: Engine,
    tip: Tip,
    /// What stands in the state after the tip.
    meta: Meta,
    /// Who votes on the next block, and who voted on the last.
    voters: Voters,
    last_voters: Option<ValidatorSet>,
    /// Whether this node votes at this height.
    signs: bool,
    stage: Stage,
    /// The transactions of the tip, until the waiting ones are held against them.
    done: Option<VerifiedBlock>,
    /// When this height began here.
    began: Timestamp,
    bodies: BTreeMap<Hash, Body>,
    /// Blocks of this height that are recorded.
    recorded: BTreeSet<Hash>,
    /// The round in which a block of ours is wanted.
    wanted: Option<u32>,
    /// The block that this node built, and the last round in which it proposed it.
    own: Option<(u32, Hash)>,
    /// Nothing of what waits can be in a block now.
    is_idle: bool,
    missing: Option<Missing>,
    peers: Peers,
    fetch: Option<Fetch>,
    fetched: VecDeque<Decided>,
    fetched_from: Option<Peer>,
    /// Since when somebody has a block that this node lacks.
    behind_since: Option<Timestamp>,
    mempool: Mempool,
    tell_at: Timestamp,
    /// Where among the waiting transactions telling them again goes on.
    told: usize,
    evidence: BTreeMap<Address, Evidence>,
}

/// Where a node is between two blocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// A block is being committed: the state shown is not its yet.
    Committing,
    /// The state is the tip's, but the next height has not begun.
    Arrived,
    /// The next block is being decided.
    Deciding,
}

/// What every step needs to know.
struct Now<'a, V> {
    time: Timestamp,
    view: &'a V,
}

impl Replica {
    /// Begins after `tip`, whose state is shown, with what was recorded since.
    pub fn start<V: StateView>(
        options: Options,
        tip: Tip,
        (now, view): (Timestamp, &V),
        records: &[Record],
        out: &mut Vec<Output>,
    ) -> Result<Self, Halt> {
        let network: NetworkId = read(view, &Key::Network).expect("a state has its genesis");
        let (operator, key) = match options.key.clone() {
            Some((operator, key)) => (operator, Some(key)),
            None => (Address([0; 20]), None),
        };
        let voters = voters_of(view);
        let chain = Chain { network: network.clone() };
        let next = tip.height.saturating_add(1);
        let engine = Engine::new(chain, (operator, key), options.timing, (next, voters.clone()));
        let mut replica = Self {
            options,
            network,
            operator,
            engine,
            tip,
            meta: Meta::default(),
            voters,
            last_voters: None,
            signs: false,
            stage: Stage::Committing,
            done: None,
            began: now,
            bodies: BTreeMap::new(),
            recorded: BTreeSet::new(),
            wanted: None,
            own: None,
            is_idle: false,
            missing: None,
            peers: Peers::default(),
            fetch: None,
            fetched: VecDeque::new(),
            fetched_from: None,
            behind_since: None,
            mempool: Mempool::new(),
            tell_at: now.plus_ms(TELL_AGAIN_MS),
            told: 0,
            evidence: BTreeMap::new(),
        };
        let at = Now { time: now, view };
        replica.arrive(&at)?;
        replica.begin(&at, out)?;
        replica.replay(&at, records, out)?;
        replica.try_propose(&at, out)?;
        Ok(replica)
    }

    /// Something happens.
    pub fn handle<V: StateView>(
        &mut self,
        now: Timestamp,
        view: &V,
        input: Input,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let at = Now { time: now, view };
        self.settle(&at, out)?;
        match input {
            Input::Joined(peer) => {
                if self.peers.joined(peer) {
                    out.push(Output::Send(peer, self.status()));
                }
            }
            Input::Gone(peer) => self.gone(&peer),
            Input::Message { from, message } => {
                if self.peers.hear(from) {
                    self.on_message(&at, from, message, out)?;
                }
            }
            Input::Transactions(transactions) => {
                let heard = self.heard(transactions, out);
                self.on_transactions(&at, heard, out);
            }
        }
        self.go_on(&at, out)
    }

    /// When to call [`on_wakeup`](Self::on_wakeup) if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.stage != Stage::Deciding || !self.fetched.is_empty() {
            return Some(Timestamp(0));
        }
        let proposing = self.wanted.map(|round| self.propose_at(round));
        let times = [
            self.engine.next_wakeup(),
            proposing,
            self.missing.as_ref().map(|missing| missing.ask_at),
            self.fetch.as_ref().map(|fetch| fetch.until),
            self.catch_up_at(),
            self.peers.next_serving(),
            Some(self.tell_at),
        ];
        times.into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn on_wakeup<V: StateView>(
        &mut self,
        now: Timestamp,
        view: &V,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let at = Now { time: now, view };
        self.settle(&at, out)?;
        if self.stage == Stage::Deciding {
            let mut acts = Vec::new();
            self.engine.on_time(now, &mut acts)?;
            self.perform(&at, acts, out)?;
        }
        self.go_on(&at, out)
    }

    /// The last committed block.
    #[must_use]
    pub const fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The waiting transactions.
    #[must_use]
    pub const fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// The round of the height that is being decided.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.engine.round()
    }

    /// Whether this node votes at this height.
    #[must_use]
    pub const fn is_voting(&self) -> bool {
        self.signs
    }

    /// The greatest height that any peer says to have.
    #[must_use]
    pub fn highest_known(&self) -> u64 {
        self.peers.highest().max(self.tip.height)
    }

    /// The height that is being decided.
    const fn height(&self) -> u64 {
        self.tip.height.saturating_add(1)
    }

    const fn timing(&self) -> &Timing {
        &self.options.timing
    }

    fn status(&self) -> Message {
        Message::Status(Status { network: self.network.clone(), height: self.tip.height })
    }

    /// Without those of peers that are not listened to.
    fn heard(
        &mut self,
        mut transactions: Vec<(Source, SignedTransaction)>,
        out: &mut Vec<Output>,
    ) -> Vec<(Source, SignedTransaction)> {
        let mut unheard = BTreeSet::new();
        transactions.retain(|(source, _)| match source {
            Source::Local(_) => true,
            Source::Peer(peer) => self.peers.hear(*peer),
            Source::Spread(peer, tag) => {
                let is_heard = self.peers.hear(*peer);
                if !is_heard {
                    unheard.insert(*tag);
                }
                is_heard
            }
        });
        let ignore = |tag| Output::Judge { tag, verdict: Verdict::Ignore };
        out.extend(unheard.into_iter().map(ignore));
        transactions
    }

    fn gone(&mut self, peer: &Peer) {
        self.peers.gone(peer);
        if self.fetch.as_ref().is_some_and(|fetch| fetch.peer == *peer) {
            self.fetch = None;
        }
    }

    /// Catches up with what was committed in the last call, and commits what was fetched.
    fn settle<V: StateView>(&mut self, at: &Now<'_, V>, out: &mut Vec<Output>) -> Result<(), Halt> {
        if self.stage == Stage::Committing {
            self.arrive(at)?;
        }
        self.commit_fetched(at, out)?;
        if self.stage == Stage::Arrived {
            out.push(Output::Gossip(self.status()));
            self.begin(at, out)?;
            // Whoever said one thing that no honest peer says has the rest not even looked at.
            let mut liars = BTreeSet::new();
            for (from, message) in self.peers.take_early() {
                if !liars.contains(&from) {
                    let before = out.len();
                    self.on_message(at, from, message, out)?;
                    liars.extend(out[before..].iter().filter_map(Output::liar));
                }
            }
        }
        Ok(())
    }

    /// What is looked after in every call.
    fn go_on<V: StateView>(&mut self, at: &Now<'_, V>, out: &mut Vec<Output>) -> Result<(), Halt> {
        self.try_propose(at, out)?;
        self.ask_for_missing(at.time, out);
        self.catch_up(at.time, out);
        let served = self.peers.whose_turn(at.time);
        out.extend(served.into_iter().map(|(peer, from)| Output::Serve { peer, from }));
        self.tell_again(at.time, out);
        Ok(())
    }

    /// Reads what the state after the tip says.
    fn arrive<V: StateView>(&mut self, at: &Now<'_, V>) -> Result<(), Halt> {
        self.meta = read(at.view, &Key::Meta).expect("a state has its genesis");
        let (expected, found) = (self.tip.height, self.meta.height);
        if expected != found {
            return Err(Halt::State { expected, found });
        }
        self.voters = voters_of(at.view);
        self.last_voters = read(at.view, &Key::LastValidators);
        let key = self.options.key.as_ref();
        let is_ours = |(operator, key): &(Address, arknet_types::KeyPair)| {
            self.voters.set().find(operator).is_some_and(|v| v.key == key.public())
        };
        self.signs = key.is_some_and(is_ours);
        if let Some(done) = self.done.take() {
            self.mempool.committed(at.view, &done.body.transactions);
        }
        self.evidence.retain(|operator, _| {
            let node: Option<Node> = read(at.view, &Key::Node(Role::Validator, *operator));
            node.is_some_and(|node| !node.banned)
        });
        self.began = at.time;
        self.is_idle = false;
        self.stage = Stage::Arrived;
        Ok(())
    }

    /// Begins to decide the next height.
    fn begin<V: StateView>(&mut self, at: &Now<'_, V>, out: &mut Vec<Output>) -> Result<(), Halt> {
        self.stage = Stage::Deciding;
        let mut acts = Vec::new();
        let height = (self.height(), self.voters.clone());
        self.engine.start(at.time, height, self.signs, &mut acts)?;
        self.perform(at, acts, out)
    }

    /// Feeds what was recorded at this height before a crash.
    fn replay<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        records: &[Record],
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let height = self.height();
        if records.iter().any(|record| record.height() > height) {
            return Err(Halt::Log("it is of a later height than the state's next".to_owned()));
        }
        let records: Vec<Record> =
            records.iter().filter(|record| record.height() == height).cloned().collect();
        let mut blocks = BTreeSet::new();
        self.engine.begin_replay(&records);
        for record in &records {
            if self.stage != Stage::Deciding {
                break;
            }
            match record {
                Record::Block(block) => {
                    self.admit_recorded(at, block)?;
                    blocks.insert(block.header.id());
                }
                Record::Verdict(verdict) if verdict.is_valid => {
                    if !blocks.contains(&verdict.block) {
                        return Err(Halt::Log("a block that was found valid is gone".to_owned()));
                    }
                    self.recall(verdict);
                }
                _ => {}
            }
            if let Some(input) = record.input() {
                let mut acts = Vec::new();
                self.engine.run(at.time, input, &mut acts)?;
                if self.perform_all(at, acts, out)?.is_unsigned {
                    return Err(Halt::Log("a signature in it does not match".to_owned()));
                }
            }
        }
        self.engine.end_replay();
        self.say_again(out);
        Ok(())
    }

    fn perform<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        acts: Vec<Act>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        self.perform_all(at, acts, out).map(|_| ())
    }

    /// Does what the engine wants done, and says what came of what it was fed.
    fn perform_all<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        acts: Vec<Act>,
        out: &mut Vec<Output>,
    ) -> Result<Fed, Halt> {
        let mut fed = Fed::default();
        for act in acts {
            match act {
                Act::Record(record) => {
                    fed.is_new = true;
                    // Who signs nothing may forget everything.
                    if self.signs {
                        out.push(Output::Record(record));
                    }
                }
                Act::Vote(vote) => out.push(Output::Broadcast(Message::Vote(vote))),
                Act::Polka(polka) => out.push(Output::Broadcast(Message::Polka(polka))),
                Act::Round(round) => out.push(Output::Broadcast(Message::Round(round))),
                Act::Propose(proposed) => {
                    let block = self.bodies.get(&proposed.proposed.block).and_then(Body::block);
                    let proposal = block.map(|block| Proposal { proposed, block });
                    let message = proposal.map(Message::Proposal);
                    out.extend(message.map(Output::Broadcast));
                }
                Act::GetBlock { round } => self.wanted = Some(round),
                Act::Decided { certificate, evidence } => {
                    self.accuse(at, evidence, out);
                    self.decide(at, certificate, out);
                }
                Act::BadSignature => fed.is_unsigned = true,
                Act::Repeat => self.repeat_votes(out),
            }
        }
        Ok(fed)
    }

    /// Tells some peers the votes of others, which may have been lost on their way.
    fn repeat_votes(&mut self, out: &mut Vec<Output>) {
        let votes = self.engine.votes_of_others();
        for peer in self.peers.next_ones(REPEAT_PEERS_MAX) {
            let votes = votes.iter().cloned().map(Message::Vote);
            out.extend(votes.map(|vote| Output::Send(peer, vote)));
        }
    }

    /// A quorum has committed a block here.
    fn decide<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        certificate: CommitCertificate,
        out: &mut Vec<Output>,
    ) {
        match self.bodies.remove(&certificate.block).and_then(Body::into_parts) {
            Some((block, verified, executed)) => {
                self.commit(Commit { block, certificate, executed }, verified, out);
            }
            // It had to make room for others. It comes with its certificate.
            None => {
                self.behind_since.get_or_insert(at.time);
            }
        }
    }

    fn commit(&mut self, commit: Commit, verified: VerifiedBlock, out: &mut Vec<Output>) {
        let Header { height, .. } = verified.header;
        assert_eq!(height, self.height(), "blocks are committed one after the other");
        self.tip = Tip {
            height,
            id: commit.certificate.block,
            certificate: Some(commit.certificate.clone()),
        };
        self.done = Some(verified);
        self.stage = Stage::Committing;
        self.engine.rest();
        self.bodies.clear();
        self.recorded.clear();
        (self.wanted, self.own, self.missing, self.behind_since) = (None, None, None, None);
        out.push(Output::Commit(Box::new(commit)));
    }

    /// Remembers what proves something against a validator, and tells it.
    fn accuse<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        evidence: Vec<Evidence>,
        out: &mut Vec<Output>,
    ) {
        for one in evidence {
            if self.remember_evidence(at, &one) == Some(true) {
                out.push(Output::Gossip(Message::Evidence(one)));
            }
        }
    }

    /// Whether evidence is new; none where it proves nothing.
    fn remember_evidence<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        evidence: &Evidence,
    ) -> Option<bool> {
        let operator = evidence.validator();
        if self.evidence.contains_key(&operator) {
            return Some(false);
        }
        let node: Option<Node> = read(at.view, &Key::Node(Role::Validator, operator));
        // It may be of a node that is gone here, or of a time that is yet to come.
        let is_early = evidence.height() > self.height();
        let Some(node) = node.filter(|node| !node.banned && !is_early) else {
            return Some(false);
        };
        if !evidence.proves(&self.network, u64::MAX, node.key) {
            return None;
        }
        self.evidence.insert(operator, evidence.clone());
        Some(true)
    }
}

/// What came of something that the engine was fed.
#[derive(Clone, Copy, Debug, Default)]
struct Fed {
    /// It was news.
    is_new: bool,
    /// It is not signed by who it says.
    is_unsigned: bool,
}

fn voters_of(view: &impl StateView) -> Voters {
    let set: ValidatorSet = read(view, &Key::Validators).expect("a state has its genesis");
    let presence: Presence = read(view, &Key::Presence).unwrap_or_default();
    Voters::new(set, presence)
}

/// A block with everything that is known of it.
type Parts = (Arc<arknet_chain::Block>, VerifiedBlock, Executed);

fn misbehaved(peer: Peer, misdeed: Misdeed, out: &mut Vec<Output>) {
    out.push(Output::Misbehaved { peer, misdeed });
}
