use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arknet_chain::{
    Account, Action, Genesis, GenesisValidator, Hash, Key, NoQuotes, Params, Role,
    SignedTransaction, StakeOp, TransactionBody, read, which_hold_after,
};
use arknet_consensus::{Halt, Input, Message, Options, Output, Peer, Replica, Source};
use arknet_types::{Address, Atoms, KeyPair, NetworkId, Timestamp};

use super::{attack::Attacker, checks::Checks, disk::Disk, plan::Plan};
use crate::{agenda::Agenda, rng::Rng, trace::Trace};

/// When a run begins, by a right clock.
const BEGIN_MS: u64 = 1_800_000_000_000;
const WALLETS: u8 = 12;

/// One node with its disk.
pub(crate) struct SimNode {
    pub(crate) peer: Peer,
    pub(crate) wallet: KeyPair,
    /// The consensus key, of those who vote.
    pub(crate) key: Option<KeyPair>,
    pub(crate) is_honest: bool,
    skew_ms: i64,
    pub(crate) disk: Disk,
    pub(crate) replica: Option<Replica>,
    /// The last wakeup that was planned.
    wake_at: Option<u64>,
    /// Things that it still does before it crashes.
    pub(crate) crash_after: Option<u64>,
    life: u64,
}

/// What is planned.
pub(crate) enum Event {
    Deliver { from: usize, to: usize, bytes: Arc<Vec<u8>> },
    Wake { node: usize, life: u64 },
    Crash { node: usize },
    Start { node: usize },
    Split { side: Vec<bool> },
    Heal,
    Submit,
    Join { node: usize },
}

/// A network.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    pub(crate) nodes: Vec<SimNode>,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) network: NetworkId,
    genesis: Hash,
    links: BTreeSet<(usize, usize)>,
    split: Option<Vec<bool>>,
    agenda: Agenda<Event>,
    wallets: Vec<(KeyPair, u64)>,
    /// Transactions whose answer is awaited: by ticket, the wallet if it is one of these.
    asked: BTreeMap<u64, (SignedTransaction, Option<usize>)>,
    tickets: u64,
    pub(crate) attacker: Attacker,
}

pub(crate) fn key(kind: u8, n: usize) -> KeyPair {
    let mut seed = [kind; 32];
    seed[1] = u8::try_from(n).expect("a small network");
    KeyPair::from_seed(&seed)
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let network = NetworkId::new("arknet-sim-1").expect("a name");
        let wallets: Vec<(KeyPair, u64)> =
            (0..WALLETS).map(|n| (key(3, usize::from(n)), 0)).collect();
        let rich = Atoms(1_000_000 * Atoms::PER_ARK);
        let count = plan.validators + plan.followers;
        let operators = (0..count).map(|n| (key(2, n).public().address(), rich));
        let others = wallets.iter().map(|(key, _)| (key.public().address(), rich));
        let genesis = Genesis {
            network: network.clone(),
            time: Timestamp(BEGIN_MS),
            params: Params::default(),
            validators: (0..plan.validators)
                .map(|n| GenesisValidator {
                    operator: key(2, n).public().address(),
                    key: key(1, n).public(),
                    weight: 10,
                    stake: Atoms::ZERO,
                })
                .collect(),
            allocations: operators.chain(others).collect(),
        };
        let (changes, _) = genesis.state().expect("a genesis");
        let nodes: Vec<SimNode> = (0..count)
            .map(|n| {
                let mut disk = Disk::default();
                disk.state.apply(changes.clone());
                SimNode {
                    peer: key(4, n).public(),
                    wallet: key(2, n),
                    key: (n < plan.validators || plan.join_at_ms > 0).then(|| key(1, n)),
                    // The last ones of the validators lie.
                    is_honest: n >= plan.validators || n < plan.validators - plan.liars,
                    skew_ms: rng.around_zero(plan.skew_ms),
                    disk,
                    replica: None,
                    wake_at: None,
                    crash_after: None,
                    life: 0,
                }
            })
            .collect();
        let mut world = Self {
            rng,
            now_ms: 0,
            nodes,
            checks: Checks::default(),
            trace: Trace::default(),
            network,
            genesis: genesis.id(),
            links: BTreeSet::new(),
            split: None,
            agenda: Agenda::default(),
            wallets,
            asked: BTreeMap::new(),
            tickets: 0,
            attacker: Attacker::default(),
            plan,
        };
        world.connect();
        (0..count).for_each(|node| world.agenda.plan(0, Event::Start { node }));
        world.plan_faults();
        world
    }

    fn connect(&mut self) {
        let count = self.nodes.len();
        let honest: Vec<usize> = (0..count).filter(|n| self.nodes[*n].is_honest).collect();
        let mut link = |a: usize, b: usize| {
            self.links.insert((a.min(b), a.max(b)));
        };
        for a in 0..count {
            for b in 0..a {
                if !self.plan.is_sparse || self.rng.chance(400) {
                    link(a, b);
                }
            }
        }
        // Liars cannot cut honest ones off from one another.
        for pair in honest.windows(2) {
            link(pair[0], pair[1]);
        }
    }

    fn plan_faults(&mut self) {
        let calm = self.plan.calm_from_ms;
        for _ in 0..self.plan.crashes {
            let node = self.rng.index(self.nodes.len());
            let at = self.rng.between(200, calm.max(201));
            let back = at + self.rng.between(50, 4_000);
            self.agenda.plan(at, Event::Crash { node });
            self.agenda.plan(back.min(calm), Event::Start { node });
        }
        for _ in 0..self.plan.partitions {
            let side = self.nodes.iter().map(|_| self.rng.chance(500)).collect();
            let at = self.rng.between(200, calm.max(201));
            self.agenda.plan(at, Event::Split { side });
            let healed = at + self.rng.between(300, 5_000);
            self.agenda.plan(healed.min(calm), Event::Heal);
        }
        // Whoever is down then comes back.
        if calm > 0 {
            self.agenda.plan(calm, Event::Heal);
            (0..self.nodes.len()).for_each(|node| self.agenda.plan(calm, Event::Start { node }));
        }
        if self.plan.join_at_ms > 0 {
            let newcomers = self.plan.validators..self.nodes.len();
            newcomers.for_each(|node| self.agenda.plan(self.plan.join_at_ms, Event::Join { node }));
        }
        if self.plan.submit_ms > 0 {
            self.agenda.plan(1, Event::Submit);
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.now_ms >= self.plan.calm_from_ms
    }

    /// The clock of a node.
    pub(crate) fn clock(&self, node: usize) -> Timestamp {
        let right = BEGIN_MS + 10_000 + self.now_ms;
        Timestamp(right.saturating_add_signed(self.nodes[node].skew_ms))
    }

    pub(crate) fn is_linked(&self, a: usize, b: usize) -> bool {
        self.links.contains(&(a.min(b), a.max(b)))
    }

    fn index_of(&self, peer: &Peer) -> Option<usize> {
        self.nodes.iter().position(|node| node.peer == *peer)
    }

    /// Runs until a time, or until a rule is broken.
    pub(crate) fn run_until(&mut self, until_ms: u64) -> Result<(), String> {
        while let Some((at, event)) = self.agenda.next(until_ms) {
            self.now_ms = at;
            self.happen(event)?;
        }
        self.now_ms = until_ms;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver { from, to, bytes } => {
                self.trace.record("deliver", &[self.now_ms, from as u64, to as u64], &bytes);
                let message = Message::parse(&bytes)
                    .map_err(|error| format!("node {from} sent what cannot be read: {error}"))?;
                let from = self.nodes[from].peer;
                self.tell(to, Input::Message { from, message })
            }
            Event::Wake { node, life } => {
                if self.nodes[node].life != life {
                    return Ok(());
                }
                self.nodes[node].wake_at = None;
                self.wake(node)
            }
            Event::Crash { node } => {
                let after = self.rng.between(0, 12);
                self.nodes[node].crash_after = Some(after);
                Ok(())
            }
            Event::Start { node } => self.start(node),
            Event::Split { side } => {
                self.split = Some(side);
                Ok(())
            }
            Event::Heal => {
                self.split = None;
                Ok(())
            }
            Event::Submit => self.submit_next(),
            Event::Join { node } => self.join(node),
        }
    }

    /// Takes a node down, now.
    pub(crate) fn crash(&mut self, node: usize) {
        if self.nodes[node].replica.take().is_none() {
            return;
        }
        self.trace.record("crash", &[self.now_ms, node as u64], &[]);
        let one = &mut self.nodes[node];
        one.disk.crash(&mut self.rng);
        one.life += 1;
        one.crash_after = None;
        one.wake_at = None;
    }

    pub(crate) fn start(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].replica.is_some() {
            self.nodes[node].crash_after = None;
            return Ok(());
        }
        self.trace.record("start", &[self.now_ms, node as u64], &[]);
        let now = self.clock(node);
        let one = &mut self.nodes[node];
        let options = Options {
            key: one.key.clone().map(|key| (one.wallet.public().address(), key)),
            timing: self.plan.timing,
            which_hold: which_hold_after,
            quotes: Arc::new(NoQuotes),
        };
        let mut out = Vec::new();
        let tip = one.disk.tip(self.genesis);
        let (view, records) = (&one.disk.state, &one.disk.records);
        let replica = Replica::start(options, tip, (now, view), records, &mut out);
        one.replica = Some(replica.map_err(|halt| format!("node {node} does not start: {halt}"))?);
        let waiting: Vec<SignedTransaction> = one.disk.journal.values().cloned().collect();
        self.perform(node, out)?;
        for other in 0..self.nodes.len() {
            if other != node && self.is_linked(node, other) {
                let (here, there) = (self.nodes[node].peer, self.nodes[other].peer);
                self.tell(other, Input::Gone(here))?;
                self.tell(other, Input::Joined(here))?;
                self.tell(node, Input::Joined(there))?;
            }
        }
        for transaction in waiting {
            self.submit(node, transaction, None)?;
        }
        Ok(())
    }

    fn wake(&mut self, node: usize) -> Result<(), String> {
        let now = self.clock(node);
        let one = &mut self.nodes[node];
        let Some(replica) = &mut one.replica else { return Ok(()) };
        let mut out = Vec::new();
        let result = replica.on_wakeup(now, &one.disk.state, &mut out);
        self.after(node, result, out)
    }

    /// Tells a node something, if it is there.
    pub(crate) fn tell(&mut self, node: usize, input: Input) -> Result<(), String> {
        let now = self.clock(node);
        let one = &mut self.nodes[node];
        let Some(replica) = &mut one.replica else { return Ok(()) };
        let mut out = Vec::new();
        let result = replica.handle(now, &one.disk.state, input, &mut out);
        self.after(node, result, out)
    }

    fn after(
        &mut self,
        node: usize,
        result: Result<(), Halt>,
        out: Vec<Output>,
    ) -> Result<(), String> {
        result.map_err(|halt| format!("node {node} must end: {halt}"))?;
        self.perform(node, out)
    }

    /// Does what a node wants done, unless it crashes in between.
    fn perform(&mut self, node: usize, out: Vec<Output>) -> Result<(), String> {
        for output in out {
            if let Some(left) = &mut self.nodes[node].crash_after {
                if *left == 0 {
                    self.crash(node);
                    return Ok(());
                }
                *left -= 1;
            }
            self.perform_one(node, output)?;
        }
        let Some(replica) = &self.nodes[node].replica else { return Ok(()) };
        let Some(at) = replica.next_wakeup() else { return Ok(()) };
        let now = self.clock(node);
        let at = self.now_ms + at.since_ms(now);
        let one = &mut self.nodes[node];
        if one.wake_at.is_none_or(|planned| at < planned) {
            one.wake_at = Some(at);
            self.agenda.plan(at, Event::Wake { node, life: one.life });
        }
        Ok(())
    }

    fn perform_one(&mut self, node: usize, output: Output) -> Result<(), String> {
        match output {
            Output::Record(record) => self.nodes[node].disk.record(record),
            Output::Broadcast(message) => {
                self.nodes[node].disk.sync();
                if self.nodes[node].is_honest {
                    let operator = self.nodes[node].wallet.public().address();
                    self.checks.says(operator, &message)?;
                    self.send_all(node, None, &message);
                } else {
                    self.lie(node, message);
                }
            }
            Output::Gossip(message) => self.send_all(node, None, &message),
            Output::Send(peer, message) => {
                match &message {
                    Message::Want { .. } => self.checks.fetches += 1,
                    Message::WantProposal { .. } => self.checks.asked_for_proposals += 1,
                    _ => {}
                }
                if let Some(to) = self.index_of(&peer) {
                    self.send(node, to, &Arc::new(arknet_types::encode(&message)));
                }
            }
            Output::Forward { from, message } => {
                // Where all are connected with all, the transport need not pass anything on.
                if self.plan.is_sparse || matches!(message, Message::Transactions(_)) {
                    self.send_all(node, Some(from), &message);
                }
            }
            Output::Serve { peer, from } => {
                let mut blocks = self.nodes[node].disk.serve(from);
                if !self.nodes[node].is_honest {
                    self.lie_in_blocks(&mut blocks);
                }
                let message = Message::Decided(blocks);
                if let Some(to) = self.index_of(&peer) {
                    self.send(node, to, &Arc::new(arknet_types::encode(&message)));
                }
            }
            Output::Commit(commit) => {
                let height = commit.block.header.height;
                self.trace.record("commit", &[self.now_ms, node as u64, height], &[]);
                self.nodes[node].disk.commit(&commit);
                if self.nodes[node].is_honest {
                    let honest = self.honest_operators();
                    let state = &self.nodes[node].disk.state;
                    self.checks.committed(node, (&commit, state), &honest)?;
                }
            }
            Output::Answer { ticket, result } => self.answered(node, ticket, result.ok()),
            // Messages have no numbers here: what they bring is passed on by `Forward`.
            Output::Judge { tag, .. } => return Err(format!("node {node} judges {tag}")),
            Output::Misbehaved { peer, misdeed } => {
                self.checks.misdeeds += 1;
                let who = self.index_of(&peer).expect("peers are of this network");
                if self.nodes[who].is_honest && self.nodes[node].is_honest {
                    return Err(format!("node {node} says of the honest {who}: {misdeed}"));
                }
            }
        }
        Ok(())
    }

    fn honest_operators(&self) -> Vec<Address> {
        let honest = self.nodes.iter().filter(|node| node.is_honest);
        honest.map(|node| node.wallet.public().address()).collect()
    }

    pub(crate) fn send_all(&mut self, from: usize, except: Option<Peer>, message: &Message) {
        let bytes = Arc::new(arknet_types::encode(message));
        for to in 0..self.nodes.len() {
            if to != from && Some(self.nodes[to].peer) != except && self.is_linked(from, to) {
                self.send(from, to, &bytes);
            }
        }
    }

    /// Puts bytes on the way.
    pub(crate) fn send(&mut self, from: usize, to: usize, bytes: &Arc<Vec<u8>>) {
        let is_cut = self.split.as_ref().is_some_and(|side| side[from] != side[to]);
        let (low, high) = self.plan.latency_ms;
        let is_bad = !self.is_calm();
        if is_cut || (is_bad && self.rng.chance(self.plan.loss_permille)) {
            return;
        }
        let copies = if is_bad && self.rng.chance(self.plan.twice_permille) { 2 } else { 1 };
        for _ in 0..copies {
            let at = self.now_ms + self.rng.between(low, high);
            self.agenda.plan(at, Event::Deliver { from, to, bytes: Arc::clone(bytes) });
        }
    }

    /// A transfer from one of the wallets, through the node it is always given to.
    fn submit_next(&mut self) -> Result<(), String> {
        let wallet = self.rng.index(self.wallets.len());
        let node = wallet % self.nodes.len();
        let next = self.now_ms + self.rng.between(1, 2 * self.plan.submit_ms);
        self.agenda.plan(next, Event::Submit);
        if self.nodes[node].replica.is_none() || !self.nodes[node].is_honest {
            return Ok(());
        }
        let to = Address([u8::try_from(self.rng.between(1, 40)).expect("small"); 20]);
        let action = Action::Transfer { to, amount: Atoms(self.rng.between(1, 1_000)) };
        let (key, nonce) = self.wallets[wallet].clone();
        let transaction = self.sign(&key, nonce, action);
        self.submit(node, transaction, Some(wallet))
    }

    /// Has the operator of a node put in stake as a validator, as soon as the node is there.
    pub(crate) fn join(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].replica.is_none() {
            self.agenda.plan(self.now_ms + 500, Event::Join { node });
            return Ok(());
        }
        let (wallet, key) = (self.nodes[node].wallet.clone(), self.nodes[node].key.clone());
        let deposit = StakeOp::Deposit {
            role: Role::Validator,
            node: wallet.public().address(),
            amount: Atoms(20 * Atoms::PER_ARK),
            key: key.map(|key| key.public()),
        };
        let transaction = self.sign(&wallet, 0, Action::Stake(deposit));
        self.submit(node, transaction, None)
    }

    pub(crate) fn sign(&self, key: &KeyPair, nonce: u64, action: Action) -> SignedTransaction {
        let body = TransactionBody {
            network: self.network.clone(),
            signer: key.public(),
            nonce,
            gas_limit: 1_000_000,
            fee_max: Atoms(100),
            tip: Atoms(1),
            action,
        };
        SignedTransaction::sign(body, key)
    }

    pub(crate) fn submit(
        &mut self,
        node: usize,
        transaction: SignedTransaction,
        wallet: Option<usize>,
    ) -> Result<(), String> {
        let ticket = self.tickets;
        self.tickets += 1;
        self.asked.insert(ticket, (transaction.clone(), wallet));
        self.tell(node, Input::Transactions(vec![(Source::Local(ticket), transaction)]))
    }

    fn answered(&mut self, node: usize, ticket: u64, id: Option<Hash>) {
        let (transaction, wallet) = self.asked.remove(&ticket).expect("an answer has a question");
        let Some(id) = id else { return };
        // Whoever says yes has it on disk.
        self.nodes[node].disk.journal.insert(id, transaction);
        self.checks.promised.insert(id);
        if let Some(wallet) = wallet {
            self.wallets[wallet].1 += 1;
        }
    }

    /// The heights of the honest nodes that are up.
    pub(crate) fn heights(&self) -> Vec<u64> {
        let up = self.nodes.iter().filter(|node| node.is_honest && node.replica.is_some());
        up.map(|node| node.disk.blocks.len() as u64).collect()
    }

    /// Where everybody is, in words.
    pub(crate) fn standing(&self) -> String {
        let mut text = format!("{} promises open", self.checks.open_promises());
        for (n, node) in self.nodes.iter().enumerate() {
            let kind = if node.is_honest { "honest" } else { "liar" };
            let height = node.disk.blocks.len();
            let round = node.replica.as_ref().map(Replica::round);
            let waiting = node.replica.as_ref().map(|replica| replica.mempool().len());
            text += &format!("; {n} {kind}: height {height}, round {round:?}, {waiting:?} waiting");
        }
        for id in self.checks.promised.difference(&self.checks.included) {
            let waits = |node: &&SimNode| {
                node.replica.as_ref().is_some_and(|replica| replica.mempool().find(id).is_some())
            };
            let nodes = self.nodes.iter().enumerate();
            let at: Vec<usize> = nodes.filter(|(_, node)| waits(node)).map(|(n, _)| n).collect();
            let found = self.nodes.iter().find_map(|node| node.disk.journal.get(id));
            let nonce = found.map(|transaction| {
                let key = Key::Account(transaction.body.signer.address());
                let account: Option<Account> = read(&self.nodes[0].disk.state, &key);
                (transaction.body.nonce, account.map(|account| account.nonce))
            });
            text += &format!("; {id:?} waits at {at:?}, its nonce and its account's {nonce:?}");
        }
        text
    }

    pub(crate) fn lowest(&self) -> u64 {
        self.heights().into_iter().min().unwrap_or_default()
    }

    pub(crate) fn highest(&self) -> u64 {
        self.heights().into_iter().max().unwrap_or_default()
    }
}
