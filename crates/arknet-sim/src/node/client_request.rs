use arknet_types::{
    Capabilities, InferRequest, Input, PublicKey, RefusalCode, Reply, Request, Salt, Usage,
};

use super::{
    client::{Active, Client, ClientTimer},
    wire::{prompt_tokens, read_reply, write_request},
};
use crate::{
    checkers::{Outcome, RequestId},
    mutant::Mutant,
    network::{Body, Packet, StreamId},
    world::World,
};

/// A stream on which nothing came for so long is lost.
const SILENCE_MS: u64 = 3_000;
/// A peer that only ever says that it is alive is given up.
const FIRST_TOKEN_MS_MAX: u64 = 25_000;
/// An answer takes no longer than this.
const ANSWER_MS_MAX: u64 = 90_000;

/// A person's request that has not found its peer yet.
#[derive(Debug)]
struct Wish {
    id: RequestId,
    model: usize,
    tried: Vec<PublicKey>,
    /// Why the last peer did not serve it.
    code: RefusalCode,
}

impl Client {
    pub(super) fn ask(&mut self, world: &mut World, model: usize, is_healed: bool) {
        let id = world.checks.asked(self.id, is_healed);
        let life = self.life.as_ref().expect("timers are those of a life");
        let ends_at = life.session.delegation.body.expires_at;
        let is_over = self.clock.read(world.now).plus_ms(30_000) >= ends_at;
        // A node that restarted takes no old session for money: the proof begins with a new one.
        if is_over || is_healed || world.rng.chance(200) {
            let session = self.open_session(world);
            self.life.as_mut().expect("checked above").session = session;
        }
        let wish = Wish { id, model, tried: vec![], code: RefusalCode::UnknownModel };
        self.go_on(world, wish);
    }

    /// Sends a request to the best peer that is left, or ends it.
    fn go_on(&mut self, world: &mut World, wish: Wish) {
        let now = self.clock.read(world.now);
        let salt = world.rng.next();
        let life = self.life.as_mut().expect("requests are those of a life");
        let name = world.models[wish.model].name.clone();
        let choice = life.router.choose(
            &life.table,
            (&name, Capabilities::GENERATE),
            &wish.tried,
            now,
            salt,
        );
        let Some(choice) = choice else {
            return self.end(world, wish.id, Outcome::Refused(wish.code));
        };
        let peer = choice.peer;
        world.checks.chosen(self.id, peer, &wish.tried, &life.table, now);
        let tokens_max = u32::try_from(world.rng.between(1, 40)).expect("below a u32");
        let input = Input::Text("p".repeat(world.rng.index(60) + 1));
        let infer = InferRequest { max_tokens: Some(tokens_max), ..InferRequest::new(name, input) };
        let usage_max = Usage {
            prompt_tokens: prompt_tokens(&infer),
            completion_tokens: tokens_max,
            ..Usage::default()
        };
        let session = &mut life.session;
        session.nonce = (now.0 * 1000).max(session.nonce + 1);
        session.uses += 1;
        let request = Request::sign(
            &session.key,
            &session.delegation,
            peer,
            session.nonce,
            now,
            choice.price.of(usage_max),
            Salt(world.rng.bytes()),
            infer,
        );
        world.checks.request_signed(&request.body);
        life.router.on_sent(peer, now);
        let mut tried = wish.tried;
        tried.push(peer);
        let active = Active {
            id: wish.id,
            model: wish.model,
            tried,
            peer,
            sent_at: world.now,
            heard_at: world.now,
            tokens: 0,
            tokens_max,
            has_begun: false,
        };
        let stream = world.net.open();
        life.active.insert(stream, active);
        world.trace.record("sent", &[self.id as u64, stream], &peer.0);
        self.transmit(world, peer, Body::Request(stream, write_request(&request)));
        self.remind(world, SILENCE_MS, ClientTimer::Silence(stream));
    }

    pub(super) fn on_reply(&mut self, world: &mut World, stream: StreamId, bytes: &[u8]) {
        let life = self.life.as_mut().expect("asked for by the caller");
        let Some(active) = life.active.get_mut(&stream) else {
            return;
        };
        let peer = active.peer;
        active.heard_at = world.now;
        life.table.mark_reachable(&peer);
        world.checks.heard(self.id, peer);
        match read_reply(bytes) {
            Some(Reply::Alive) => {}
            Some(Reply::Text { tokens, .. }) => {
                active.tokens = active.tokens.saturating_add(tokens);
                if active.tokens > active.tokens_max {
                    return self.on_lost(world, stream);
                }
                if !active.has_begun {
                    active.has_begun = true;
                    let now = self.clock.read(world.now);
                    life.router.on_first_token(&peer, world.now - active.sent_at, now);
                }
            }
            Some(Reply::Done { .. }) => {
                let active = self.close(world, stream);
                self.end(world, active.id, Outcome::Answered);
            }
            Some(Reply::Refused(refusal)) if refusal.code != RefusalCode::PeerLost => {
                let now = self.clock.read(world.now);
                let code = refusal.code;
                life.router.on_refused(&peer, code, refusal.retry_after_ms, now);
                let active = self.close(world, stream);
                self.go_on_after(world, active, code);
            }
            // None of these was asked for, so they are lies, or nothing comes any more.
            Some(_) | None => self.on_lost(world, stream),
        }
    }

    pub(super) fn on_silence(&mut self, world: &mut World, stream: StreamId) {
        let life = self.life.as_ref().expect("timers are those of a life");
        let Some(active) = life.active.get(&stream) else {
            return;
        };
        let silent = world.now - active.heard_at;
        let taken = world.now - active.sent_at;
        let is_slow = taken >= FIRST_TOKEN_MS_MAX && !active.has_begun;
        if silent >= SILENCE_MS || is_slow || taken >= ANSWER_MS_MAX {
            self.on_lost(world, stream);
        } else {
            self.remind(world, SILENCE_MS - silent, ClientTimer::Silence(stream));
        }
    }

    /// The peer of a request is gone, or does not keep to the protocol.
    pub(super) fn on_lost(&mut self, world: &mut World, stream: StreamId) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("requests are those of a life");
        let Some(peer) = life.active.get(&stream).map(|a| a.peer) else {
            return;
        };
        life.router.on_refused(&peer, RefusalCode::PeerLost, None, now);
        if !world.is(Mutant::RoutesToTheDead) {
            life.table.mark_unreachable(&peer);
        }
        world.checks.lost(self.id, peer);
        let active = self.close(world, stream);
        self.transmit(world, peer, Body::Closed(stream));
        self.go_on_after(world, active, RefusalCode::PeerLost);
    }

    /// Before the first token another peer is tried; after it the person learns of the failure.
    fn go_on_after(&mut self, world: &mut World, active: Active, code: RefusalCode) {
        let outcome = if active.has_begun {
            Some(Outcome::BrokeOff)
        } else {
            (!code.is_worth_another_peer()).then_some(Outcome::Refused(code))
        };
        if let Some(outcome) = outcome {
            return self.end(world, active.id, outcome);
        }
        if world.is(Mutant::EndsTwice) {
            self.end(world, active.id, Outcome::Refused(code));
        }
        let wish = Wish { id: active.id, model: active.model, tried: active.tried, code };
        self.go_on(world, wish);
    }

    fn close(&mut self, world: &World, stream: StreamId) -> Active {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("requests are those of a life");
        let active = life.active.remove(&stream).expect("asked for by callers");
        if !world.is(Mutant::NeverEnds) {
            life.router.on_ended(&active.peer, now);
        }
        active
    }

    fn end(&self, world: &mut World, id: RequestId, outcome: Outcome) {
        let what = match outcome {
            Outcome::Answered => "answered",
            Outcome::BrokeOff => "broke off",
            Outcome::Refused(_) => "not served",
        };
        self.trace(world, what, id);
        world.checks.ended(id, outcome);
    }

    fn transmit(&self, world: &mut World, peer: PublicKey, body: Body) {
        let Some(to) = world.directory.get(&peer).copied() else {
            return;
        };
        world.send(Packet { from: self.id, peer: self.key.public(), to, body });
    }
}
