use std::collections::BTreeMap;

use arknet_protocol::{
    Admission, Admitted, Asker, CheckedRequest, Grants, Horizon, Policy, Preempt, SlotQueue,
    Ticket, Who,
};
use arknet_types::{KeyPair, PublicKey, Request, Timestamp, Usage};

use super::{server_grants, server_offers::OfferState};
use crate::{
    clock::Clock,
    mutant::Mutant,
    network::{NodeId, StreamId},
    world::{Event, World},
};

/// What a serving node has to be reminded of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerTimer {
    /// A request has been checked: decide about it.
    Admit(u64),
    /// Say that the work of a request goes on.
    Alive(Ticket),
    /// The owner asks for something.
    AskLocally,
    Heartbeat,
    OfferChanged,
    /// The next token of a request is there.
    Token(Ticket),
}

/// One model a node serves.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    /// Its place in [`World::models`].
    pub(crate) model: usize,
    pub(crate) slots: u32,
    pub(crate) waiting_max: u32,
}

/// A node that serves models.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) key: KeyPair,
    pub(crate) served: Vec<Served>,
    pub(crate) who: Who,
    /// Whom the owner has approved: on disk, too.
    pub(crate) grants: Grants,
    pub(crate) per_peer_max: u32,
    pub(crate) clock: Clock,
    /// Has left for good.
    pub(crate) is_gone: bool,
    pub(super) lives: u32,
    pub(super) life: Option<Life>,
    /// On disk.
    stored_horizon: Timestamp,
}

/// All that a crash destroys.
#[derive(Debug)]
pub(super) struct Life {
    /// What the clock said when the process began.
    pub(super) booted_at: Timestamp,
    pub(super) gate: Admission,
    pub(super) horizon: Horizon,
    pub(super) queues: Vec<SlotQueue>,
    pub(super) checked: BTreeMap<u64, Checked>,
    pub(super) tasks: BTreeMap<Ticket, Task>,
    pub(super) count: u64,
    pub(super) offers: OfferState,
}

/// A request whose signatures were good, on its way to the gate.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) checked: CheckedRequest,
    pub(super) remote: Remote,
}

/// A request of another node, and where its answer goes.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    pub(super) node: NodeId,
    pub(super) peer: PublicKey,
    pub(super) stream: StreamId,
    pub(super) request: Request,
    pub(super) usage_max: Usage,
}

/// A request that waits or runs.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) asker: Asker,
    /// Its place in [`Server::served`].
    pub(super) served: usize,
    pub(super) remote: Option<(Remote, Admitted)>,
    pub(super) emitted: u32,
    pub(super) wanted: u32,
    /// The gate of this request alone: only a faulty driver has that.
    pub(super) own_gate: Option<Admission>,
}

impl Server {
    pub(crate) fn new(id: NodeId, key: KeyPair, served: Vec<Served>, who: Who) -> Self {
        Self {
            id,
            key,
            served,
            who,
            grants: Grants::new(),
            per_peer_max: 4,
            clock: Clock::default(),
            is_gone: false,
            lives: 0,
            life: None,
            stored_horizon: Timestamp::default(),
        }
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.life.is_some()
    }

    pub(crate) fn start(&mut self, world: &mut World) {
        if self.is_gone || self.life.is_some() {
            return;
        }
        self.clock.restart();
        self.lives += 1;
        let now = self.clock.read(world.now);
        let horizon = Horizon::new(if world.is(Mutant::ForgetsHorizon) {
            Timestamp::default()
        } else {
            self.stored_horizon
        });
        let mut started_at = horizon.started_at(now);
        if world.is(Mutant::ForgetsRestarts) {
            started_at = Timestamp::default();
        }
        let policy = Policy {
            network: world.network.clone(),
            me: self.key.public(),
            started_at,
            who: if world.is(Mutant::ServesAnyone) {
                Who::Anyone { files: false }
            } else {
                self.who
            },
            requests_per_peer_max: self.per_peer_max,
        };
        let mut gate = Admission::new(policy);
        gate.set_grants(server_grants::told(world, &self.grants), now);
        let queues = self.served.iter();
        // Some owners let running requests of peers be ended for their own.
        let preempt = if self.id.is_multiple_of(2) { Preempt::Cut } else { Preempt::Queue };
        let queues = queues.map(|s| SlotQueue::new(s.slots, s.waiting_max).preempting(preempt));
        self.life = Some(Life {
            booted_at: now,
            gate,
            horizon,
            queues: queues.collect(),
            checked: BTreeMap::new(),
            tasks: BTreeMap::new(),
            count: 0,
            offers: OfferState::default(),
        });
        world.trace.record("start", &[self.id as u64, now.0], &[]);
        self.on_heartbeat(world);
    }

    /// Everything in memory is lost. Returns the streams that were open, and with whom.
    pub(crate) fn crash(&mut self, world: &mut World) -> Vec<(NodeId, StreamId)> {
        let Some(life) = self.life.take() else {
            return vec![];
        };
        world.checks.server_crashed(self.id);
        let remotes = life.tasks.values().filter_map(|t| t.remote.as_ref());
        remotes.map(|(r, _)| (r.node, r.stream)).collect()
    }

    pub(crate) fn on_timer(&mut self, world: &mut World, life: u32, timer: ServerTimer) {
        if self.life.is_none() || life != self.lives {
            return;
        }
        match timer {
            ServerTimer::Admit(id) => self.on_checked(world, id),
            ServerTimer::Alive(ticket) => self.on_alive(world, ticket),
            ServerTimer::AskLocally => self.on_local(world),
            ServerTimer::Heartbeat => self.on_heartbeat(world),
            ServerTimer::OfferChanged => self.on_offer_changed(world),
            ServerTimer::Token(ticket) => self.on_token(world, ticket),
        }
    }

    /// What must hold between any two events.
    pub(crate) fn check(&self, world: &mut World) {
        let Some(life) = &self.life else {
            return;
        };
        for (at, (queue, served)) in life.queues.iter().zip(&self.served).enumerate() {
            world.checks.queue_counts((self.id, at), queue, served.waiting_max);
        }
        if !world.is(Mutant::ForgetsNonces) {
            world.checks.gate_counts(self.id, life.gate.running());
        }
        let (sessions, id) = (life.gate.sessions(), self.id);
        world.checks.rule(sessions <= arknet_types::limits::SESSIONS_MAX, || {
            format!("node {id} remembers {sessions} sessions")
        });
    }

    /// When all is over, nothing may be left.
    pub(crate) fn check_idle(&self, world: &mut World) {
        let Some(life) = &self.life else {
            return;
        };
        let (tasks, running, id) = (life.tasks.len(), life.gate.running(), self.id);
        let free = life.queues.iter().all(|q| q.free() == q.total());
        world.checks.rule(tasks == 0 && running == 0 && free, || {
            format!("node {id} still has {tasks} tasks, {running} at the gate")
        });
    }

    pub(super) fn store(&mut self, horizon: Timestamp) {
        self.stored_horizon = horizon;
    }

    pub(super) fn remind(&self, world: &mut World, ms: u64, timer: ServerTimer) {
        world.after(ms, Event::Server(self.id, self.lives, timer));
    }
}
