//! Nodes of one process, joined by channels.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use arknet_chain::{Genesis, NoQuotes};
use arknet_consensus::{Message, Misdeed, Options, Peer, Timing, Verdict};
use arknet_types::{KeyPair, Timestamp, encode};
use arknet_validator::{
    Event, Progress, StoreOptions, Transport, Validator, ValidatorOptions, which_hold,
};
use tokio::sync::mpsc;

use crate::chain::{address, consensus_key, genesis_at};

const EVENTS_MAX: usize = 4_096;

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

pub(crate) fn peer(n: u8) -> Peer {
    KeyPair::from_seed(&[n ^ 0x40; 32]).public()
}

/// What a liar makes of what it says.
type Lie = fn(&mut Message);

/// The wires.
#[derive(Default)]
pub(crate) struct Hub {
    nodes: Mutex<BTreeMap<Peer, mpsc::Sender<Event>>>,
    misdeeds: Mutex<Vec<(Peer, String)>>,
    liars: Mutex<BTreeMap<Peer, Lie>>,
    judged: Mutex<Vec<(u64, Verdict)>>,
}

impl Hub {
    fn tell(&self, to: &Peer, event: Event) {
        if let Some(node) = self.nodes.lock().unwrap().get(to) {
            // A queue that is full loses it, as a network would.
            let _ = node.try_send(event);
        }
    }

    fn others(&self, but: &[&Peer]) -> Vec<Peer> {
        let nodes = self.nodes.lock().unwrap();
        nodes.keys().filter(|peer| !but.contains(peer)).copied().collect()
    }

    fn say(&self, from: &Peer, to: &Peer, message: &Message) {
        let mut message = Box::new(Message::parse(&encode(message)).unwrap());
        if let Some(lie) = self.liars.lock().unwrap().get(from) {
            lie(&mut message);
        }
        self.tell(to, Event::Message { from: *from, message, tag: None });
    }

    fn join(&self, me: Peer) -> mpsc::Receiver<Event> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        for other in self.others(&[&me]) {
            sender.try_send(Event::Joined(other)).unwrap();
            self.tell(&other, Event::Joined(me));
        }
        self.nodes.lock().unwrap().insert(me, sender);
        events
    }

    fn leave(&self, me: &Peer) {
        self.nodes.lock().unwrap().remove(me);
        for other in self.others(&[]) {
            self.tell(&other, Event::Gone(*me));
        }
    }

    /// What a stranger spreads to a node, by a tag.
    pub(crate) fn spread(&self, to: u8, message: Message, tag: u64) {
        let (from, message) = (peer(77), Box::new(message));
        self.tell(&peer(to), Event::Message { from, message, tag: Some(tag) });
    }

    /// Node `n` lies from now on.
    pub(crate) fn distort(&self, n: u8, lie: Lie) {
        self.liars.lock().unwrap().insert(peer(n), lie);
    }

    /// Who was found to lie, and how.
    pub(crate) fn take_misdeeds(&self) -> Vec<(Peer, String)> {
        std::mem::take(&mut *self.misdeeds.lock().unwrap())
    }

    pub(crate) fn judged(&self) -> Vec<(u64, Verdict)> {
        self.judged.lock().unwrap().clone()
    }
}

struct Wire {
    me: Peer,
    hub: Arc<Hub>,
}

impl Transport for Wire {
    fn broadcast(&self, message: Message) {
        self.hub.others(&[&self.me]).iter().for_each(|to| self.hub.say(&self.me, to, &message));
    }

    fn send(&self, peer: &Peer, message: Message) {
        self.hub.say(&self.me, peer, &message);
    }

    fn forward(&self, from: &Peer, message: Message) {
        let others = self.hub.others(&[&self.me, from]);
        others.iter().for_each(|to| self.hub.say(&self.me, to, &message));
    }

    fn judge(&self, tag: u64, verdict: Verdict) {
        self.hub.judged.lock().unwrap().push((tag, verdict));
    }

    fn misbehaved(&self, peer: &Peer, misdeed: &Misdeed) {
        self.hub.misdeeds.lock().unwrap().push((*peer, misdeed.to_string()));
    }
}

fn store_options() -> StoreOptions {
    StoreOptions { cache_bytes: 4 * 1024 * 1024, ..StoreOptions::default() }
}

/// What a node is started with, which votes if the genesis knows it.
pub(crate) fn options(n: u8, directory: &Path, genesis: &Genesis) -> ValidatorOptions {
    let timing = Timing {
        propose_ms: 400,
        prevote_ms: 150,
        precommit_ms: 150,
        delta_ms: 100,
        rebroadcast_ms: 300,
        block_interval_ms: 30,
        gather_ms: 10,
        catch_up_ms: 100,
        ..Timing::default()
    };
    let votes = genesis.validators.iter().any(|v| v.operator == address(n));
    let consensus = Options {
        key: votes.then(|| (address(n), consensus_key(n))),
        timing,
        which_hold,
        quotes: Arc::new(NoQuotes),
    };
    ValidatorOptions {
        directory: directory.to_owned(),
        genesis: genesis.clone(),
        store: store_options(),
        consensus,
        clock: Arc::new(now),
    }
}

/// A network with its disks.
pub(crate) struct Network {
    pub(crate) genesis: Genesis,
    pub(crate) hub: Arc<Hub>,
    /// How the ledger of whoever starts is kept.
    pub(crate) store: StoreOptions,
    homes: BTreeMap<u8, tempfile::TempDir>,
    running: BTreeMap<u8, Validator>,
}

impl Network {
    /// One whose genesis has so many validators; none runs yet.
    pub(crate) fn new(validators: u8) -> Self {
        Self {
            genesis: genesis_at(validators, now()),
            hub: Arc::new(Hub::default()),
            store: store_options(),
            homes: BTreeMap::new(),
            running: BTreeMap::new(),
        }
    }

    pub(crate) fn home(&mut self, n: u8) -> PathBuf {
        let home = self.homes.entry(n).or_insert_with(|| tempfile::tempdir().unwrap());
        home.path().to_owned()
    }

    /// Starts node `n`.
    pub(crate) fn start(&mut self, n: u8) {
        let directory = self.home(n);
        let options =
            ValidatorOptions { store: self.store, ..options(n, &directory, &self.genesis) };
        let me = peer(n);
        let events = self.hub.join(me);
        let wire = Arc::new(Wire { me, hub: Arc::clone(&self.hub) });
        self.running.insert(n, Validator::start(options, wire, events).unwrap());
    }

    /// Stops it between two steps, which is all that a crash can be to the others.
    pub(crate) async fn stop(&mut self, n: u8) {
        self.running.remove(&n).unwrap().stop().await.unwrap();
        self.hub.leave(&peer(n));
    }

    pub(crate) fn node(&self, n: u8) -> &Validator {
        &self.running[&n]
    }

    pub(crate) fn node_mut(&mut self, n: u8) -> &mut Validator {
        self.running.get_mut(&n).unwrap()
    }

    /// Waits until a node is where somebody wants it.
    pub(crate) async fn until(&self, n: u8, is_there: impl FnMut(&Progress) -> bool) -> Progress {
        let mut seen = self.node(n).link().watch();
        *seen.wait_for(is_there).await.unwrap()
    }

    pub(crate) async fn height(&self, n: u8, height: u64) {
        self.until(n, |progress| progress.height >= height).await;
    }

    pub(crate) fn now_at(&self, n: u8) -> u64 {
        self.node(n).link().progress().height
    }

    /// All that run have the same blocks and states, as far as the shortest goes.
    pub(crate) fn check(&self) -> u64 {
        let readers: Vec<_> = self.running.values().map(|n| n.store().read().unwrap()).collect();
        let lowest = readers.iter().map(arknet_validator::Reader::height).min().unwrap();
        for height in 1..=lowest {
            let headers: Vec<_> =
                readers.iter().map(|reader| reader.header(height).unwrap().unwrap()).collect();
            assert!(headers.windows(2).all(|pair| pair[0] == pair[1]), "at {height}");
        }
        let misdeeds = self.hub.misdeeds.lock().unwrap();
        assert!(misdeeds.is_empty(), "all are honest: {misdeeds:?}");
        lowest
    }
}
