//! What an attacker does. All of it is signed with keys of its own, or copied from others.

use arknet_types::{
    Atoms, Capabilities, Delegation, DelegationBody, InferRequest, Input, KeyPair, ModelOffer,
    NetworkId, Offer, OfferBody, Request, Salt, Signature, Timestamp, decode, encode,
    limits::{CLOCK_SKEW_MS_MAX, OFFER_LIFETIME_MS_MAX, OFFERS_MAX, SESSIONS_PER_PEER_MAX},
};

use super::{
    attacker::{Attacker, AttackerTimer, Target},
    wire::write_request,
};
use crate::world::{Event, World};

/// One session key with two delegations, used in turn at one node to spend more than either allows.
#[derive(Debug)]
pub(super) struct SpendingPlan {
    session: KeyPair,
    delegations: [Delegation; 2],
    target: Target,
    model: usize,
}

impl Attacker {
    pub(super) fn burst(&mut self, world: &mut World) {
        let (target, model) = self.pick(world, false);
        let now = Timestamp(world.now);
        let session = KeyPair::from_seed(&world.rng.bytes());
        let delegation = self.delegate(world, &session, now, 600_000, 1_000);
        for _ in 0..world.rng.between(3, 9) {
            let bytes = self.request(world, &session, &delegation, &target, model, now, 1_000_000);
            self.transmit(world, 0, target.id, bytes);
        }
    }

    pub(super) fn flood_offers(&mut self, world: &mut World) {
        for _ in 0..world.rng.between(22, 30) {
            let bytes = self.own_offer(world, 1);
            world.gossip(self.id, self.keys[1].public(), &bytes);
        }
    }

    pub(super) fn lie(&mut self, world: &mut World) {
        let key = world.rng.index(self.keys.len());
        let bytes = self.own_offer(world, key);
        world.gossip(self.id, self.keys[key].public(), &bytes);
    }

    /// An offer in the name of somebody else, made up or made from one that was seen.
    pub(super) fn forge_offer(&mut self, world: &mut World) {
        let victim = self.targets[world.rng.index(self.targets.len())].peer;
        let mut bytes = self.own_offer(world, 0);
        if let Some(seen) = world.net.offers_seen.back()
            && world.rng.chance(500)
        {
            bytes.clone_from(seen);
        }
        let Ok(mut offer) = decode::<Offer>(&bytes) else {
            return;
        };
        match world.rng.index(4) {
            0 => offer.body.models.clear(),
            1 => offer.signature = Signature([1; 64]),
            2 => offer.body.expires_at = offer.body.expires_at.plus_ms(1),
            _ => offer.body.addresses = vec!["/ip4/10.6.6.6/tcp/1".into()],
        }
        offer.body.peer = victim;
        offer.body.sequence += 1_000_000;
        world.gossip(self.id, self.keys[0].public(), &encode(&offer));
    }

    pub(super) fn repeat_offer(&mut self, world: &mut World) {
        let seen = world.net.offers_seen.len();
        if seen > 0 {
            let bytes = world.net.offers_seen[world.rng.index(seen)].clone();
            world.gossip(self.id, self.keys[0].public(), &bytes);
        }
    }

    /// Sends again what was sent before: as it was, to another node, or changed.
    pub(super) fn replay(&mut self, world: &mut World) {
        for _ in 0..world.rng.between(1, 4) {
            let seen = world.net.requests_seen.len();
            if seen == 0 {
                return;
            }
            let (_, mut to, mut bytes) = world.net.requests_seen[world.rng.index(seen)].clone();
            match world.rng.index(10) {
                0..=5 => {}
                6..=7 => to = self.targets[world.rng.index(self.targets.len())].id,
                _ => {
                    let at = world.rng.index(bytes.len());
                    bytes[at] ^= 1 << world.rng.index(8);
                }
            }
            let ms = world.rng.between(1, 35_000);
            world.after(ms, Event::Attacker(AttackerTimer::Resend(to, bytes)));
        }
    }

    /// Sends a request again just before it is too old.
    pub(super) fn replay_at_the_edge(&mut self, world: &mut World) {
        let young: Vec<_> = world.net.requests_seen.iter().cloned().collect();
        for (sent, to, bytes) in young {
            let early = world.rng.between(0, 900);
            let at_ms = sent + CLOCK_SKEW_MS_MAX - early;
            if at_ms > world.now {
                let again = Event::Attacker(AttackerTimer::Resend(to, bytes));
                world.agenda.plan(at_ms, again);
            }
        }
    }

    pub(super) fn misdate(&mut self, world: &mut World) {
        let (target, model) = self.pick(world, false);
        let offset = world.rng.around_zero(45_000);
        let sent_at = Timestamp(world.now.saturating_add_signed(offset));
        let session = KeyPair::from_seed(&world.rng.bytes());
        let issued = world.now.saturating_add_signed(world.rng.around_zero(45_000));
        let lifetime = world.rng.between(1_000, 100_000);
        let delegation = self.delegate(world, &session, Timestamp(issued), lifetime, 1_000);
        let bytes = self.request(world, &session, &delegation, &target, model, sent_at, 1_000_000);
        self.transmit(world, 0, target.id, bytes.clone());
        for _ in 0..2 {
            let ms = world.rng.between(1, 60_000);
            let again = AttackerTimer::Resend(target.id, bytes.clone());
            world.after(ms, Event::Attacker(again));
        }
    }

    /// A request with one thing wrong with it.
    pub(super) fn wrong_request(&mut self, world: &mut World) {
        let (target, model) = self.pick(world, true);
        let (other, _) = self.pick(world, true);
        let now = Timestamp(world.now);
        let session = KeyPair::from_seed(&world.rng.bytes());
        let mut delegation = self.delegate(world, &session, now, 60_000, 100_000);
        let (mut audience, mut cost_max) = (target.clone(), 1_000_000);
        let mut served = model;
        match world.rng.index(9) {
            0 => audience.peer = self.keys[1].public(),
            1 => delegation.body.network = NetworkId::new("elsewhere").expect("a good name"),
            2 => delegation.body.peer_scope = Some(self.keys[1].public()),
            3 => delegation.body.model_scope = world.models.last().map(|m| m.name.clone()),
            4 => delegation.signature.0[9] ^= 1,
            5 => cost_max = 0,
            6 => delegation.body.spending_cap = Atoms(1),
            7 => served = world.models.len() - 1,
            _ => audience = other,
        }
        if !matches!(delegation.check_signature(), Ok(())) && delegation.signature.0[9] & 1 == 0 {
            // Half of the changed delegations are signed anew, so that the change itself is judged.
            delegation = Delegation::sign(delegation.body, &self.wallet);
            world.checks.delegation_signed(&delegation);
        }
        let mut bytes =
            self.request(world, &session, &delegation, &audience, served, now, cost_max);
        match world.rng.index(12) {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes[..4].copy_from_slice(&[255; 4]),
            _ => {}
        }
        self.transmit(world, 0, target.id, bytes);
    }

    /// Plans to spend at one node under one session key with two delegations: one ends soon, one
    /// late, and the node must not forget with the first what was spent under the second.
    pub(super) fn plan_spending(&mut self, world: &mut World) {
        let (target, model) = self.pick(world, true);
        let session = KeyPair::from_seed(&world.rng.bytes());
        let now = Timestamp(world.now);
        let cap = world.rng.between(60, 200);
        let delegations = [
            self.delegate(world, &session, now, 10_000, cap),
            self.delegate(world, &session, now, 3_600_000, cap),
        ];
        self.plans.push(SpendingPlan { session, delegations, target, model });
        let plan = self.plans.len() - 1;
        for at in [1, 3_000, 6_000, 48_000, 52_000, 95_000] {
            let ms = at + world.rng.between(0, 2_000);
            world.after(ms, Event::Attacker(AttackerTimer::Spend(plan)));
        }
    }

    pub(super) fn spend(&mut self, world: &mut World, plan: usize) {
        let now = Timestamp(world.now);
        for _ in 0..world.rng.between(1, 3) {
            let SpendingPlan { session, delegations, target, model } = &self.plans[plan];
            let is_over = now >= delegations[0].body.expires_at;
            let which = if is_over { 1 } else { world.rng.index(2) };
            let (session, delegation) = (session.clone(), delegations[which].clone());
            let (target, model) = (target.clone(), *model);
            let bytes = self.request(world, &session, &delegation, &target, model, now, 1_000_000);
            self.transmit(world, 0, target.id, bytes);
        }
    }

    /// Fills what can be filled: more sessions than one peer may have, more peers than a table holds.
    pub(crate) fn flood(&mut self, world: &mut World) {
        let (target, model) = self.pick(world, true);
        let now = Timestamp(world.now);
        for _ in 0..SESSIONS_PER_PEER_MAX + 20 {
            let session = KeyPair::from_seed(&world.rng.bytes());
            let delegation = self.delegate(world, &session, now, 600_000, 0);
            // Refused for its cost, but a session to remember; and the next is another one.
            let bytes = self.request(world, &session, &delegation, &target, model, now, 1_000_000);
            self.transmit(world, 0, target.id, bytes);
        }
        let listener = world.listeners[world.rng.index(world.listeners.len())];
        for _ in 0..OFFERS_MAX + 20 {
            self.keys[0] = KeyPair::from_seed(&world.rng.bytes());
            let bytes = self.own_offer(world, 0);
            world.send(crate::network::Packet {
                from: self.id,
                peer: self.keys[0].public(),
                to: listener,
                body: crate::network::Body::Offer(bytes),
            });
        }
    }

    /// An offer of everything, for nothing, at once.
    fn own_offer(&mut self, world: &mut World, key: usize) -> Vec<u8> {
        self.sequence = world.now.max(self.sequence + 1);
        let models = world.models.iter().map(|model| ModelOffer {
            name: model.name.clone(),
            digest: Some(model.digest),
            projector: None,
            capabilities: Capabilities::GENERATE,
            context_tokens: 4096,
            slots_total: 64,
            slots_free: 64,
            input_price: Atoms::ZERO,
            output_price: Atoms::ZERO,
        });
        let body = OfferBody {
            network: world.network.clone(),
            peer: self.keys[key].public(),
            sequence: self.sequence,
            issued_at: Timestamp(world.now),
            expires_at: Timestamp(world.now + OFFER_LIFETIME_MS_MAX),
            addresses: vec![],
            models: models.collect(),
        };
        let offer = Offer::sign(body, &self.keys[key]);
        world.checks.offer_signed(&offer);
        encode(&offer)
    }

    fn delegate(
        &self,
        world: &mut World,
        session: &KeyPair,
        issued_at: Timestamp,
        lifetime_ms: u64,
        cap: u64,
    ) -> Delegation {
        let body = DelegationBody {
            network: world.network.clone(),
            wallet: self.wallet.public(),
            session: session.public(),
            spending_cap: Atoms(cap),
            issued_at,
            expires_at: issued_at.plus_ms(lifetime_ms),
            peer_scope: None,
            model_scope: None,
        };
        let delegation = Delegation::sign(body, &self.wallet);
        world.checks.delegation_signed(&delegation);
        delegation
    }

    #[expect(clippy::too_many_arguments, reason = "all that a request is made of")]
    fn request(
        &mut self,
        world: &mut World,
        session: &KeyPair,
        delegation: &Delegation,
        target: &Target,
        model: usize,
        sent_at: Timestamp,
        cost_max: u64,
    ) -> Vec<u8> {
        let model = world.models[model].name.clone();
        let infer = InferRequest {
            max_tokens: Some(u32::try_from(world.rng.between(10, 60)).expect("below a u32")),
            ..InferRequest::new(model, Input::Text("attack".into()))
        };
        let nonce = self.next_nonce(sent_at);
        let (cost_max, salt) = (Atoms(cost_max), Salt(world.rng.bytes()));
        let request =
            Request::sign(session, delegation, target.peer, nonce, sent_at, cost_max, salt, infer);
        world.checks.request_signed(&request.body);
        write_request(&request)
    }
}
