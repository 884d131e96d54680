use std::collections::BTreeMap;

use arknet_protocol::{OfferTable, Router};
use arknet_types::{
    Atoms, Delegation, DelegationBody, KeyPair, Offer, PublicKey, Timestamp, decode, encode,
};

use crate::{
    checkers::RequestId,
    clock::Clock,
    mutant::Mutant,
    network::{Body, NodeId, Packet, StreamId},
    world::{Event, World},
};

/// Between two sweeps of the offers that have expired.
const SWEEP_MS: u64 = 10_000;

/// What a client has to be reminded of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientTimer {
    /// A person asks for a model.
    Ask(usize),
    /// The same, after healing: it has to be answered.
    AskHealed(usize),
    /// Has this stream been silent for too long?
    Silence(StreamId),
    Sweep,
}

/// A node that asks others for answers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: NodeId,
    pub(crate) key: KeyPair,
    pub(crate) wallet: KeyPair,
    pub(crate) clock: Clock,
    pub(super) lives: u32,
    pub(super) life: Option<ClientLife>,
}

/// All that a crash destroys.
#[derive(Debug)]
pub(super) struct ClientLife {
    pub(super) table: OfferTable,
    pub(super) router: Router,
    pub(super) session: Session,
    pub(super) active: BTreeMap<StreamId, Active>,
}

/// A session key, its right to act, and how often it was used.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) key: KeyPair,
    pub(super) delegation: Delegation,
    pub(super) nonce: u64,
    pub(super) uses: u32,
}

/// A request under way at one peer.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) id: RequestId,
    /// Its place in [`World::models`].
    pub(super) model: usize,
    pub(super) tried: Vec<PublicKey>,
    pub(super) peer: PublicKey,
    pub(super) sent_at: u64,
    pub(super) heard_at: u64,
    /// Tokens received of this peer.
    pub(super) tokens: u32,
    pub(super) tokens_max: u32,
    pub(super) has_begun: bool,
}

impl Client {
    pub(crate) fn new(id: NodeId, key: KeyPair, wallet: KeyPair) -> Self {
        Self { id, key, wallet, clock: Clock::default(), lives: 0, life: None }
    }

    pub(crate) fn start(&mut self, world: &mut World) {
        if self.life.is_some() {
            return;
        }
        self.clock.restart();
        self.lives += 1;
        let session = self.open_session(world);
        self.life = Some(ClientLife {
            table: OfferTable::new(),
            router: Router::new(),
            session,
            active: BTreeMap::new(),
        });
        self.remind(world, SWEEP_MS, ClientTimer::Sweep);
    }

    /// Everything in memory is lost. Returns the streams that were open, and with whom.
    pub(crate) fn crash(&mut self, world: &mut World) -> Vec<(NodeId, StreamId)> {
        let Some(life) = self.life.take() else {
            return vec![];
        };
        world.checks.client_crashed(self.id);
        let active = life.active.iter();
        active.filter_map(|(stream, a)| Some((*world.directory.get(&a.peer)?, *stream))).collect()
    }

    pub(crate) fn on_timer(&mut self, world: &mut World, life: u32, timer: ClientTimer) {
        if self.life.is_none() || life != self.lives {
            return;
        }
        match timer {
            ClientTimer::Ask(model) => self.ask(world, model, false),
            ClientTimer::AskHealed(model) => self.ask(world, model, true),
            ClientTimer::Silence(stream) => self.on_silence(world, stream),
            ClientTimer::Sweep => self.on_sweep(world),
        }
    }

    pub(crate) fn on_packet(&mut self, world: &mut World, packet: Packet) {
        if self.life.is_none() {
            return;
        }
        match packet.body {
            Body::Offer(bytes) => self.on_offer(world, &bytes),
            Body::Reply(stream, bytes) => self.on_reply(world, stream, &bytes),
            Body::Closed(stream) => self.on_lost(world, stream),
            Body::Request(..) => {}
        }
    }

    /// In which of its lives the client is; none while it is down.
    pub(crate) fn current_life(&self) -> Option<u32> {
        self.life.as_ref().map(|_| self.lives)
    }

    fn on_offer(&mut self, world: &mut World, bytes: &[u8]) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("asked for by the caller");
        let parsed = if world.is(Mutant::BelievesOffers) {
            decode::<Offer>(bytes).ok()
        } else {
            Offer::parse(bytes, &world.network, now).ok()
        };
        let Some(offer) = parsed else {
            return world.trace.record("bad offer", &[self.id as u64], &[]);
        };
        let peer = offer.body.peer;
        let before = life.table.len();
        let inserted = life.table.insert(offer, now);
        let numbers = [self.id as u64, u64::from(inserted.is_news())];
        world.trace.record("offer", &numbers, &peer.0);
        if inserted.is_news() {
            let taken = life.table.get(&peer).expect("news is in the table");
            if life.table.len() == before {
                // The newcomer may have taken the place of another.
                world.checks.offers_dropped(self.id, &life.table);
            }
            world.checks.offer_taken(self.id, taken);
            world.checks.table_size(self.id, &life.table);
        }
    }

    fn on_sweep(&mut self, world: &mut World) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("timers are those of a life");
        if !world.is(Mutant::KeepsExpired) {
            life.table.expire(now);
        }
        world.checks.offers_dropped(self.id, &life.table);
        self.remind(world, SWEEP_MS, ClientTimer::Sweep);
    }

    /// A new session key with a delegation of the wallet, as a person would open it.
    pub(super) fn open_session(&mut self, world: &mut World) -> Session {
        let issued_at = self.clock.read(world.now);
        let key = KeyPair::from_seed(&world.rng.bytes());
        let body = DelegationBody {
            network: world.network.clone(),
            wallet: self.wallet.public(),
            session: key.public(),
            spending_cap: Atoms(world.rng.between(400, 4_000)),
            issued_at,
            expires_at: issued_at.plus_ms(world.rng.between(60_000, 3_600_000)),
            peer_scope: None,
            model_scope: None,
        };
        let delegation = Delegation::sign(body, &self.wallet);
        world.checks.delegation_signed(&delegation);
        Session { key, delegation, nonce: 0, uses: 0 }
    }

    /// What must hold when all is over: nothing is under way, and no offer of `gone` is left.
    pub(crate) fn check_idle(&mut self, world: &mut World, gone: &[PublicKey]) {
        let now: Timestamp = self.clock.read(world.now);
        let Some(life) = &self.life else {
            return;
        };
        let (under_way, active) = (life.router.in_flight(), life.active.len());
        let id = self.id;
        world.checks.rule(under_way == 0 && active == 0, || {
            format!("client {id} counts {under_way} requests under way, there are {active}")
        });
        let ghost = gone.iter().find(|peer| life.table.get(peer).is_some());
        world.checks.rule(ghost.is_none(), || {
            format!("client {id} still remembers {ghost:?}, which is gone")
        });
        world.checks.table_is_genuine(id, &life.table, now);
    }

    pub(super) fn remind(&self, world: &mut World, ms: u64, timer: ClientTimer) {
        world.after(ms, Event::Client(self.id, self.lives, timer));
    }

    /// The bytes of one request, for the trace.
    pub(super) fn trace(&self, world: &mut World, what: &'static str, id: RequestId) {
        let bytes = encode(&id);
        world.trace.record(what, &[self.id as u64], &bytes);
    }
}
