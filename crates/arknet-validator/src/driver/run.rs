//! The loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use arknet_chain::{Account, Hash, Key, Rejected, SignedTransaction, read};
use arknet_consensus::{
    Commit, Input, Message, Options, Output, Peer, Refused, Replica, Source, Tip, Verdict,
};
use arknet_types::{Address, Timestamp, encode};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    DriverError, StartError,
    again::commit_again,
    gathering::Gathering,
    join::{Built, Join, Said, of_import},
    journal::Journal,
    keeper::Keeper,
    serve::{Request, Served},
};
use crate::{
    Ask, Asked, Event, NotAccepted, Progress, Reader, Store, StoreCommit, Transport, Waiting,
    limits::STEP_MAX,
};

type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;
type Answer = oneshot::Sender<Result<Hash, NotAccepted>>;

/// Somebody who waits to hear what becomes of a transaction.
struct Waits {
    answer: Answer,
    id: Hash,
}

pub(super) struct Run {
    replica: Replica,
    store: Store,
    /// The ledger after the last block.
    view: Reader,
    journal: Journal,
    keeper: Keeper,
    join: Join,
    options: Options,
    transport: Arc<dyn Transport>,
    served: Served,
    clock: Clock,
    operator: Option<Address>,
    peers: BTreeSet<Peer>,
    questions: mpsc::Receiver<Ask>,
    progress: watch::Sender<Progress>,
    waits: BTreeMap<u64, Waits>,
    tickets: u64,
    gathering: Gathering,
}

/// What came together.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    asks: Vec<Ask>,
    built: Option<Built>,
}

impl Run {
    /// Goes on after the last block that is kept, with what the log says of the next.
    pub(super) fn begin(
        directory: &Path,
        store: Store,
        options: Options,
        (transport, clock): (Arc<dyn Transport>, Clock),
        asked: Asked,
    ) -> Result<Self, StartError> {
        let kept = store.read().map_err(DriverError::from)?.height();
        let (journal, found) = Journal::open(directory, kept).map_err(DriverError::from)?;
        commit_again(&store, &options, found.decided)?;
        let view = store.read().map_err(DriverError::from)?;
        let (height, id) = (view.height(), view.tip().map_err(DriverError::from)?);
        let certificate = view.certificate(height).map_err(DriverError::from)?;
        let served = Served::start(directory, store.clone(), Arc::clone(&transport))
            .map_err(StartError::Thread)?;
        let operator = options.key.as_ref().map(|(operator, _)| *operator);
        let mut out = Vec::new();
        let tip = Tip { height, id, certificate };
        let now = clock();
        let replica = Replica::start(options.clone(), tip, (now, &view), &found.records, &mut out);
        let replica = replica.map_err(DriverError::from)?;
        let mut run = Self {
            replica,
            keeper: Keeper::new(store.clone(), now),
            join: Join::new(directory.to_owned(), store.clone()),
            options,
            store,
            view,
            journal,
            transport,
            served,
            clock,
            operator,
            peers: BTreeSet::new(),
            questions: asked.questions,
            progress: asked.progress,
            waits: BTreeMap::new(),
            tickets: 0,
            gathering: Gathering::default(),
        };
        run.perform(out)?;
        run.submit_again(found.transactions)?;
        run.tell_progress();
        Ok(run)
    }

    /// Lets what was promised before a crash wait again; what is in a block by now is refused.
    fn submit_again(&mut self, transactions: Vec<SignedTransaction>) -> Result<(), DriverError> {
        for transaction in transactions {
            self.submit(transaction, None);
        }
        self.let_wait()
    }

    /// Runs until it is stopped or cannot go on.
    pub(super) fn go(
        mut self,
        runtime: &Handle,
        mut events: mpsc::Receiver<Event>,
        stop: &CancellationToken,
    ) -> Result<(), DriverError> {
        loop {
            let Some(batch) = runtime.block_on(self.next(&mut events, stop))? else {
                return self.keeper.keep_all((self.clock)());
            };
            self.step(batch)?;
            self.tell_progress();
        }
    }

    /// What comes next, and all that came with it; none at a stop.
    async fn next(
        &mut self,
        events: &mut mpsc::Receiver<Event>,
        stop: &CancellationToken,
    ) -> Result<Option<Batch>, DriverError> {
        let mut batch = Batch::default();
        let gathered = self.gathering.next_wakeup();
        let wakeups = [self.replica.next_wakeup(), self.join.next_wakeup(), gathered];
        let wakeup = wakeups.into_iter().flatten().min();
        let wait = wakeup.map_or(u64::MAX, |at| at.since_ms((self.clock)()));
        let asleep = tokio::time::sleep(Duration::from_millis(wait));
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            event = events.recv() => match event {
                Some(event) => batch.events.push(event),
                None => return Err(DriverError::Transport),
            },
            Some(ask) = self.questions.recv() => batch.asks.push(ask),
            built = self.join.built() => {
                batch.built = Some(built.ok_or(DriverError::Panicked)?);
            }
            () = asleep => {}
        }
        while batch.events.len() < STEP_MAX
            && let Ok(event) = events.try_recv()
        {
            batch.events.push(event);
        }
        while batch.asks.len() < STEP_MAX
            && let Ok(ask) = self.questions.try_recv()
        {
            batch.asks.push(ask);
        }
        Ok(Some(batch))
    }

    fn step(&mut self, batch: Batch) -> Result<(), DriverError> {
        for event in batch.events {
            self.event(event)?;
            // Many things may have come, and time does not wait for the last of them.
            self.wake()?;
        }
        if let Some(built) = batch.built {
            self.take_snapshot(built)?;
        }
        for ask in batch.asks {
            match ask {
                Ask::Submit { transaction, answer } => self.submit(*transaction, Some(answer)),
                Ask::Find { id, answer } => drop(answer.send(self.find(&id))),
                Ask::NextNonce { owner, answer } => drop(answer.send(self.next_nonce(&owner))),
            }
        }
        if self.gathering.is_ripe((self.clock)()) {
            self.let_wait()?;
        }
        self.wake()
    }

    /// Tells the state machine that time has passed, where it wants to know.
    fn wake(&mut self) -> Result<(), DriverError> {
        let now = (self.clock)();
        if self.replica.next_wakeup().is_some_and(|at| at <= now) {
            let mut out = Vec::new();
            self.replica.on_wakeup(now, &self.view, &mut out)?;
            self.perform(out)?;
        }
        let known = (&self.view, self.replica.highest_known());
        let said = self.join.on_time(now, known, &self.peers)?;
        self.say(said);
        Ok(())
    }

    fn say(&self, said: Vec<Said>) {
        for said in said {
            match said {
                Said::To(peer, message) => self.transport.send(&peer, message),
                Said::Misbehaved(peer, misdeed) => self.transport.misbehaved(&peer, &misdeed),
            }
        }
    }

    /// What was built from a snapshot takes the place of the ledger, and the node goes on from there.
    fn take_snapshot(&mut self, built: Built) -> Result<(), DriverError> {
        let mut said = Vec::new();
        let import = self.join.take(built, self.view.height(), &mut said)?;
        self.say(said);
        let Some(import) = import else { return Ok(()) };
        import.take_place(&self.store).map_err(of_import)?;
        self.view = self.store.read()?;
        self.journal.begin_anew(self.replica.mempool())?;
        let now = (self.clock)();
        let waiting = self.replica.mempool().waiting_for(now, 0);
        let waiting: Vec<_> = waiting.map(|one| one.signed().clone()).collect();
        let (height, id) = (self.view.height(), self.view.tip()?);
        tracing::info!(height, "goes on from a snapshot");
        let tip = Tip { height, id, certificate: self.view.certificate(height)? };
        let mut out = Vec::new();
        let at = (now, &self.view);
        self.replica = Replica::start(self.options.clone(), tip, at, &[], &mut out)?;
        self.perform(out)?;
        for peer in self.peers.clone() {
            self.handle(Input::Joined(peer))?;
        }
        self.submit_again(waiting)
    }

    /// What is asked for or said about snapshots, which the state machine knows nothing of.
    fn on_snapshots(&mut self, from: Peer, message: Message) -> Result<(), DriverError> {
        let request = match message {
            Message::WantSnapshot => Request::Snapshot,
            Message::WantPart { block, index } => Request::Part(block, index),
            Message::WantLight { height } => Request::Light(height),
            other => {
                let said = self.join.on_message((self.clock)(), &self.view, (from, other))?;
                self.say(said);
                return Ok(());
            }
        };
        self.served.ask(from, request);
        Ok(())
    }

    fn handle(&mut self, input: Input) -> Result<(), DriverError> {
        let mut out = Vec::new();
        self.replica.handle((self.clock)(), &self.view, input, &mut out)?;
        self.perform(out)
    }

    fn event(&mut self, event: Event) -> Result<(), DriverError> {
        match event {
            Event::Joined(peer) => {
                self.peers.insert(peer);
                self.handle(Input::Joined(peer))
            }
            Event::Gone(peer) => {
                // What it sent is taken first: afterwards it would be a peer that is never said to go.
                self.let_wait()?;
                self.peers.remove(&peer);
                self.join.gone(&peer);
                self.handle(Input::Gone(peer))
            }
            Event::Message { from, message, tag } => self.message(from, *message, tag),
        }
    }

    fn message(
        &mut self,
        from: Peer,
        message: Message,
        tag: Option<u64>,
    ) -> Result<(), DriverError> {
        match (message, tag) {
            (Message::Transactions(transactions), tag) => {
                let source = tag.map_or(Source::Peer(from), |tag| Source::Spread(from, tag));
                if let (Some(tag), true) = (tag, transactions.is_empty()) {
                    self.transport.judge(tag, Verdict::Ignore);
                }
                self.gathering.add(transactions.into_iter().map(|one| (source, one)));
                if self.gathering.is_full() { self.let_wait() } else { Ok(()) }
            }
            // Nothing else is spread that way.
            (_, Some(tag)) => {
                self.transport.judge(tag, Verdict::Reject);
                Ok(())
            }
            (message, None) if message.is_about_snapshots() => self.on_snapshots(from, message),
            (message, None) => {
                if matches!(&message, Message::Decided(blocks) if blocks.is_empty()) {
                    self.join.note_pruned();
                }
                self.handle(Input::Message { from, message })
            }
        }
    }

    fn find(&self, id: &Hash) -> Option<Waiting> {
        let transaction = self.replica.mempool().find(id)?;
        let account = self.account(&transaction.signer());
        let ahead = transaction.body().nonce.saturating_sub(account.nonce);
        Some(Waiting { transaction: transaction.signed().clone(), ahead })
    }

    fn next_nonce(&self, owner: &Address) -> u64 {
        self.replica.mempool().next_nonce(owner, &self.account(owner))
    }

    fn account(&self, owner: &Address) -> Account {
        read(&self.view, &Key::Account(*owner)).unwrap_or_default()
    }

    /// Takes a transaction that is to wait, and who wants to know what becomes of it.
    fn submit(&mut self, transaction: SignedTransaction, answer: Option<Answer>) {
        let ticket = self.tickets;
        self.tickets = ticket.wrapping_add(1);
        if let Some(answer) = answer {
            let id = transaction.id();
            self.waits.insert(ticket, Waits { answer, id });
        }
        self.gathering.add([(Source::Local(ticket), transaction)]);
    }

    /// Lets the gathered transactions wait for a block, checked and written together.
    fn let_wait(&mut self) -> Result<(), DriverError> {
        while let Some(gathered) = self.gathering.take((self.clock)()) {
            self.handle(Input::Transactions(gathered))?;
        }
        Ok(())
    }

    /// Does what the state machine wants, in order, up to a block and then on from there.
    fn perform(&mut self, out: Vec<Output>) -> Result<(), DriverError> {
        let mut part = Vec::new();
        for output in out {
            let ends_part = matches!(output, Output::Commit(_));
            part.push(output);
            if ends_part {
                self.perform_part(std::mem::take(&mut part))?;
            }
        }
        self.perform_part(part)
    }

    /// Writes all that must be safe with one sync, and then says the rest.
    fn perform_part(&mut self, part: Vec<Output>) -> Result<(), DriverError> {
        let mut must_be_safe = false;
        for output in &part {
            match output {
                Output::Record(record) => self.journal.record(record)?,
                Output::Broadcast(_) => must_be_safe = true,
                Output::Commit(commit) => {
                    self.journal.decide(&commit.block, &commit.certificate)?;
                    must_be_safe = true;
                }
                Output::Answer { ticket, result } => {
                    let id = self.waiting_id(*ticket, result);
                    if let Some(found) = id.and_then(|id| self.replica.mempool().find(&id)) {
                        self.journal.promise(found)?;
                        must_be_safe = true;
                    }
                }
                _ => {}
            }
        }
        if must_be_safe {
            self.journal.sync()?;
        }
        let mut named = BTreeSet::new();
        for output in part {
            match output {
                Output::Record(_) => {}
                Output::Broadcast(message) | Output::Gossip(message) => {
                    self.transport.broadcast(message);
                }
                Output::Send(peer, message) => self.transport.send(&peer, message),
                Output::Forward { from, message } => self.transport.forward(&from, message),
                Output::Serve { peer, from } => self.served.ask(peer, Request::Blocks(from)),
                Output::Commit(commit) => self.commit(&commit)?,
                Output::Answer { ticket, result } => self.answer(ticket, result),
                Output::Judge { tag, verdict } => self.transport.judge(tag, verdict),
                Output::Misbehaved { peer, misdeed } => {
                    // Once for all that one message holds; what follows says no more.
                    if named.insert(peer) {
                        tracing::info!(%peer, %misdeed, "a peer of the ledger misbehaved");
                    }
                    self.transport.misbehaved(&peer, &misdeed);
                }
            }
        }
        Ok(())
    }

    /// The transaction that an answer says waits here.
    fn waiting_id(&self, ticket: u64, result: &Result<Hash, Refused>) -> Option<Hash> {
        match result {
            Ok(id) => Some(*id),
            // Another node brought it, but who asks wants it to be safe here.
            Err(Refused::Rejected(Rejected::Known)) => self.waits.get(&ticket).map(|one| one.id),
            Err(_) => None,
        }
    }

    fn answer(&mut self, ticket: u64, result: Result<Hash, Refused>) {
        let Some(Waits { answer, id }) = self.waits.remove(&ticket) else { return };
        let result = match result {
            Ok(id) => Ok(id),
            Err(Refused::Rejected(Rejected::Known)) => Ok(id),
            Err(Refused::Rejected(rejected)) => Err(NotAccepted::Rejected(rejected)),
            Err(_) => Err(NotAccepted::Signature),
        };
        // Who asked may have gone.
        let _ = answer.send(result);
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), DriverError> {
        let Commit { block, certificate, executed } = commit;
        let bytes = encode(block.as_ref());
        let header = &block.header;
        self.store.commit_soon(&StoreCommit { header, block: &bytes, certificate, executed })?;
        self.view = self.store.read()?;
        let interval = self.store.options().snapshot_interval;
        if interval.is_some_and(|interval| header.height.is_multiple_of(interval.get())) {
            self.served.keep(self.store.read()?);
        }
        let now = (self.clock)();
        if self.journal.is_long() {
            self.keeper.keep_all(now)?;
            self.journal.begin_anew(self.replica.mempool())?;
        } else {
            self.keeper.wrote(now)?;
        }
        tracing::debug!(
            height = header.height,
            transactions = block.transactions.len(),
            round = certificate.round,
            "committed"
        );
        Ok(())
    }

    fn tell_progress(&self) {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let height = self.view.height();
        let peers_height = self.replica.highest_known();
        let now = Progress {
            height,
            peers_height,
            peers: count(self.peers.len()),
            // One block may well be on its way.
            catching_up: peers_height > height.saturating_add(1),
            operator: self.operator,
            votes: self.replica.is_voting(),
            waiting: count(self.replica.mempool().len()),
        };
        self.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
    }
}
