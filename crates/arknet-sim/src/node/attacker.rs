use arknet_protocol::Price;
use arknet_types::{KeyPair, PublicKey, Refusal, RefusalCode, Reply, Timestamp};

use super::{deeds::SpendingPlan, wire::write_reply};
use crate::{
    network::{Body, NodeId, Packet},
    world::{Event, World},
};

/// A node an attacker knows of, and what it serves.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) id: NodeId,
    pub(crate) peer: PublicKey,
    /// Places in [`World::models`].
    pub(crate) models: Vec<usize>,
}

/// What an attacker has planned.
#[derive(Clone, Debug)]
pub(crate) enum AttackerTimer {
    Act,
    /// Go on with an answer that leads nowhere.
    Answer(PublicKey, NodeId, u64, u32),
    /// Send these bytes to a node.
    Resend(NodeId, Vec<u8>),
    /// Spend more under a plan.
    Spend(usize),
}

/// The kinds of deed. Which of them a run has is drawn from its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    BurstOfRequests,
    FloodOfOffers,
    ForgedOffer,
    Lie,
    MisdatedRequest,
    OldOffer,
    Replay,
    ReplayAtTheEdge,
    Spending,
    WrongRequest,
}

impl Deed {
    const ALL: [Self; 10] = [
        Self::BurstOfRequests,
        Self::FloodOfOffers,
        Self::ForgedOffer,
        Self::Lie,
        Self::MisdatedRequest,
        Self::OldOffer,
        Self::Replay,
        Self::ReplayAtTheEdge,
        Self::Spending,
        Self::WrongRequest,
    ];
}

/// Somebody who hears all that is sent, has identities of its own, and means no good. It cannot sign
/// for others.
#[derive(Debug)]
pub(crate) struct Attacker {
    pub(crate) id: NodeId,
    pub(crate) keys: Vec<KeyPair>,
    pub(crate) wallet: KeyPair,
    pub(crate) targets: Vec<Target>,
    pub(crate) is_active: bool,
    pub(super) sequence: u64,
    pub(super) nonce: u64,
    pub(super) plans: Vec<SpendingPlan>,
}

impl Attacker {
    pub(crate) fn new(
        id: NodeId,
        keys: Vec<KeyPair>,
        wallet: KeyPair,
        targets: Vec<Target>,
    ) -> Self {
        Self { id, keys, wallet, targets, is_active: true, sequence: 0, nonce: 0, plans: vec![] }
    }

    pub(crate) fn on_timer(&mut self, world: &mut World, timer: AttackerTimer) {
        if !self.is_active {
            return;
        }
        match timer {
            AttackerTimer::Act => self.act(world),
            AttackerTimer::Answer(peer, to, stream, left) => {
                self.answer(world, peer, to, stream, left);
            }
            AttackerTimer::Resend(to, bytes) => self.transmit(world, 0, to, bytes),
            AttackerTimer::Spend(plan) => self.spend(world, plan),
        }
    }

    /// A node came back: what it has seen before may be news to it.
    pub(crate) fn on_restart_of(&mut self, world: &mut World, node: NodeId) {
        if world.faults.deeds & (1 << Deed::Replay as u64) == 0 {
            return;
        }
        let seen = world.net.requests_seen.iter().rev();
        let old: Vec<_> = seen
            .filter(|(_, to, _)| *to == node)
            .take(8)
            .map(|(_, to, bytes)| (*to, bytes.clone()))
            .collect();
        for (to, bytes) in old {
            let ms = world.rng.between(1, 40_000);
            world.after(ms, Event::Attacker(AttackerTimer::Resend(to, bytes)));
        }
    }

    fn act(&mut self, world: &mut World) {
        let allowed: Vec<Deed> = Deed::ALL
            .into_iter()
            .filter(|deed| world.faults.deeds & (1 << *deed as u64) != 0)
            .collect();
        if allowed.is_empty() {
            return;
        }
        let deed = allowed[world.rng.index(allowed.len())];
        world.trace.record("deed", &[deed as u64], &[]);
        match deed {
            Deed::BurstOfRequests => self.burst(world),
            Deed::FloodOfOffers => self.flood_offers(world),
            Deed::ForgedOffer => self.forge_offer(world),
            Deed::Lie => self.lie(world),
            Deed::MisdatedRequest => self.misdate(world),
            Deed::OldOffer => self.repeat_offer(world),
            Deed::Replay => self.replay(world),
            Deed::ReplayAtTheEdge => self.replay_at_the_edge(world),
            Deed::Spending => self.plan_spending(world),
            Deed::WrongRequest => self.wrong_request(world),
        }
    }

    /// A request has come for one of the identities here, which promised what it does not have.
    pub(crate) fn on_packet(&mut self, world: &mut World, packet: Packet) {
        let Body::Request(stream, bytes) = packet.body else {
            return;
        };
        if !self.is_active {
            return;
        }
        let Ok(request) = super::wire::read_request(&bytes) else {
            return;
        };
        let peer = request.body.audience;
        let how = u32::try_from(world.rng.between(0, 30)).expect("below a u32");
        self.answer(world, peer, packet.from, stream, how);
    }

    /// Answers in a way that does not help: a refusal, bytes without sense, silence, tokens without
    /// an end, or signs of life for ever.
    fn answer(&mut self, world: &mut World, peer: PublicKey, to: NodeId, stream: u64, left: u32) {
        let refuse = |code| Some(write_reply(&Reply::Refused(Refusal::new(code, "no"))));
        let bytes = match left {
            0 => refuse(RefusalCode::ProviderFailed),
            1 => refuse(RefusalCode::Busy),
            2 => refuse(RefusalCode::WrongAudience),
            3 => refuse(RefusalCode::InvalidRequest),
            4 => refuse(RefusalCode::PeerLost),
            5 => Some(vec![7; 9]),
            6..=9 => None,
            n if n % 2 == 0 => Some(write_reply(&Reply::Alive)),
            _ => {
                let text = "t".into();
                Some(write_reply(&Reply::Text { text, tokens: 3 }))
            }
        };
        let Some(bytes) = bytes else {
            return;
        };
        world.send(Packet { from: self.id, peer, to, body: Body::Reply(stream, bytes) });
        if left > 9 {
            let again = AttackerTimer::Answer(peer, to, stream, left - 2);
            world.after(1_500, Event::Attacker(again));
        }
    }

    /// Sends bytes as a request of one of the identities here, and may hang up soon.
    pub(super) fn transmit(&self, world: &mut World, key: usize, to: NodeId, bytes: Vec<u8>) {
        let stream = world.net.open();
        let packet = Packet {
            from: self.id,
            peer: self.keys[key].public(),
            to,
            body: Body::Request(stream, bytes),
        };
        world.send(packet.clone());
        if world.rng.chance(300) {
            let ms = world.rng.between(1, 5_000);
            let body = Body::Closed(stream);
            world.after(ms, Event::Arrives(Packet { body, ..packet }));
        }
    }

    pub(super) fn next_nonce(&mut self, now: Timestamp) -> u64 {
        self.nonce = (now.0 * 1000).max(self.nonce + 1);
        self.nonce
    }

    /// A target, and one of the models it serves; a paid one if asked for and there is one.
    pub(super) fn pick(&self, world: &mut World, is_paid: bool) -> (Target, usize) {
        let target = self.targets[world.rng.index(self.targets.len())].clone();
        let is_free = |m: &usize| world.models[*m].price == Price::default();
        let fitting = target.models.iter().find(|m| is_free(m) != is_paid);
        let model = fitting.or_else(|| target.models.first()).copied();
        let model = model.expect("a target serves something");
        (target, model)
    }
}
