use arknet_protocol::{Admission, Asker, CheckedRequest, Offered, Placement, Price, Ticket};
use arknet_types::{
    FinishReason, ModelName, NetworkId, Refusal, RefusalCode, Reply, Timestamp, Usage,
};

use super::{
    server::{Checked, Remote, Server, ServerTimer, Task},
    wire::{TOKENS_MAX, prompt_tokens, read_request, write_reply},
};
use crate::{
    checkers::Seen,
    mutant::Mutant,
    network::{Body, NodeId, Packet, StreamId},
    world::World,
};

/// Between two signs of life of a request that waits.
const ALIVE_MS: u64 = 1_000;

impl Server {
    pub(crate) fn on_packet(&mut self, world: &mut World, packet: Packet) {
        match packet.body {
            Body::Request(stream, ref bytes) if self.life.is_some() => {
                self.on_request(world, &packet, stream, bytes);
            }
            // Nobody listens: the connection is refused, or nothing comes back at all.
            Body::Request(stream, _) if world.rng.chance(700) => {
                let closed = self.reply_packet(packet.from, Body::Closed(stream));
                world.send(closed);
            }
            Body::Closed(stream) => self.on_closed(world, packet.from, stream),
            Body::Request(..) | Body::Offer(_) | Body::Reply(..) => {}
        }
    }

    fn on_request(&mut self, world: &mut World, packet: &Packet, stream: StreamId, bytes: &[u8]) {
        if self.is_gone {
            let refusal = Refusal::new(RefusalCode::ShuttingDown, "this node is leaving");
            return self.refuse(world, packet.from, stream, refusal);
        }
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("asked for by the caller");
        if let Err(refusal) = life.gate.knock(packet.peer, now) {
            return self.refuse(world, packet.from, stream, refusal);
        }
        let request = match read_request(bytes) {
            Ok(request) => request,
            Err(refusal) => return self.refuse(world, packet.from, stream, refusal),
        };
        let mut policy = life.gate.policy().clone();
        let mut date = now;
        if world.is(Mutant::SkipsAudience) {
            policy.me = request.body.audience;
        }
        if world.is(Mutant::SkipsFreshness) {
            policy.started_at = Timestamp::default();
            date = request.body.sent_at;
        }
        let infer = &request.infer;
        let usage_max = Usage {
            prompt_tokens: prompt_tokens(infer),
            completion_tokens: infer.max_tokens.unwrap_or(TOKENS_MAX),
            ..Usage::default()
        };
        let checked =
            CheckedRequest::check(request.clone(), packet.peer, &policy, date, |digest| {
                life.gate.knows_delegation(digest)
            });
        let remote = Remote { node: packet.from, peer: packet.peer, stream, request, usage_max };
        match checked {
            Ok(checked) => {
                life.count += 1;
                let id = life.count;
                life.checked.insert(id, Checked { checked, remote });
                let slow = world.rng.chance(world.faults.slow_checks);
                let ms = world.rng.between(0, if slow { 1_500 } else { 2 });
                self.remind(world, ms, ServerTimer::Admit(id));
            }
            Err(refusal) => self.refuse(world, packet.from, stream, refusal),
        }
    }

    pub(super) fn on_checked(&mut self, world: &mut World, id: u64) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("timers are those of a life");
        let Some(Checked { checked, remote }) = life.checked.remove(&id) else {
            return;
        };
        let served = self.served.iter().position(|served| {
            let model = &world.models[served.model];
            names(&remote.request.infer.model, &model.name, &model.digest.to_string())
        });
        let offered = served.map(|at| &world.models[self.served[at].model]);
        let offered = offered.map(|model| Offered { name: &model.name, price: model.price });
        let date = if world.is(Mutant::SkipsFreshness) { remote.request.body.sent_at } else { now };
        let mut own_gate =
            world.is(Mutant::ForgetsNonces).then(|| Admission::new(life.gate.policy().clone()));
        if let Some(gate) = &mut own_gate {
            gate.set_grants(self.grants.clone(), now);
        }
        world.checks.gate_asked(self.id, now);
        let gate = own_gate.as_mut().unwrap_or(&mut life.gate);
        let admitted = match gate.admit(checked, offered, remote.usage_max, date) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse(world, remote.node, remote.stream, refusal),
        };
        if let Some(horizon) = life.horizon.cover(&remote.request) {
            self.store(horizon);
        }
        let served = served.expect("what is not served is not admitted");
        let (names, price) = (names_of(world, self.served[served].model), admitted.price);
        world.checks.admitted(&self.seen(&remote, price, now, &names));
        world.trace.record("admitted", &[self.id as u64, id], &[]);
        let wanted = remote.usage_max.completion_tokens;
        let wanted = u32::try_from(world.rng.between(1, u64::from(wanted))).expect("below a u32");
        let task = Task {
            asker: Asker::Peer(remote.peer),
            served,
            remote: Some((remote, admitted)),
            emitted: 0,
            wanted,
            own_gate,
        };
        self.place(world, id, task, now);
    }

    /// The owner wants something too.
    pub(super) fn on_local(&mut self, world: &mut World) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("timers are those of a life");
        life.count += 1;
        let ticket = life.count;
        let task = Task {
            asker: Asker::Local,
            served: world.rng.index(self.served.len()),
            remote: None,
            emitted: 0,
            wanted: u32::try_from(world.rng.between(1, 20)).expect("below a u32"),
            own_gate: None,
        };
        self.place(world, ticket, task, now);
    }

    fn place(&mut self, world: &mut World, ticket: Ticket, task: Task, now: Timestamp) {
        let life = self.life.as_mut().expect("tasks are those of a life");
        let place = (self.id, task.served);
        let mut asker = task.asker;
        if world.is(Mutant::PutsPeersFirst) && asker == Asker::Local {
            asker = Asker::Peer(self.key.public());
        }
        let placement = life.queues[task.served].ask(asker, ticket, now);
        let is_remote = task.remote.is_some();
        match placement {
            Placement::Start => {
                life.tasks.insert(ticket, task);
                self.begin(world, ticket);
                self.slots_changed(world);
            }
            Placement::Wait => {
                world.checks.waits(place, task.asker, ticket);
                life.tasks.insert(ticket, task);
                if world.is(Mutant::Overbooks) {
                    self.begin(world, ticket);
                }
            }
            Placement::Cut(victim) => {
                world.checks.waits(place, task.asker, ticket);
                life.tasks.insert(ticket, task);
                let refusal = Refusal::new(RefusalCode::Busy, "the owner needs the slot");
                self.finish(world, victim, Reply::Refused(refusal));
            }
            Placement::Busy { retry_after_ms } => {
                let refusal = Refusal::new(RefusalCode::Busy, "every slot is taken")
                    .retry_after_ms(retry_after_ms);
                self.end(world, task, Reply::Refused(refusal));
                return;
            }
        }
        if is_remote {
            self.remind(world, ALIVE_MS, ServerTimer::Alive(ticket));
        }
    }

    fn begin(&mut self, world: &mut World, ticket: Ticket) {
        let life = self.life.as_mut().expect("tasks are those of a life");
        let task = &life.tasks[&ticket];
        let total = self.served[task.served].slots;
        world.checks.runs((self.id, task.served), ticket, total);
        if let Some((remote, _)) = &task.remote {
            world.checks.started(self.id, &remote.request);
        }
        world.trace.record("begin", &[self.id as u64, ticket], &[]);
        let ms = world.rng.between(5, 800);
        self.remind(world, ms, ServerTimer::Token(ticket));
    }

    pub(super) fn on_alive(&mut self, world: &mut World, ticket: Ticket) {
        let life = self.life.as_ref().expect("timers are those of a life");
        let Some(task) = life.tasks.get(&ticket) else {
            return;
        };
        if let Some((remote, _)) = &task.remote {
            let body = Body::Reply(remote.stream, write_reply(&Reply::Alive));
            world.send(self.reply_packet(remote.node, body));
            self.remind(world, ALIVE_MS, ServerTimer::Alive(ticket));
        }
    }

    pub(super) fn on_token(&mut self, world: &mut World, ticket: Ticket) {
        let life = self.life.as_mut().expect("timers are those of a life");
        let Some(task) = life.tasks.get_mut(&ticket) else {
            return;
        };
        if world.rng.chance(world.faults.provider_fails) {
            let refusal = Refusal::new(RefusalCode::ProviderFailed, "the provider failed");
            return self.finish(world, ticket, Reply::Refused(refusal));
        }
        // A frame carries what has come since the last one; few frames keep a run short.
        let left = task.wanted - task.emitted;
        let tokens = left.min(u32::try_from(world.rng.between(1, 16)).expect("below a u32"));
        task.emitted += tokens;
        let is_whole = task.emitted == task.wanted;
        if let Some((remote, _)) = &task.remote {
            let text = "t".repeat(tokens as usize);
            let reply = write_reply(&Reply::Text { text, tokens });
            let (node, stream) = (remote.node, remote.stream);
            world.send(self.reply_packet(node, Body::Reply(stream, reply)));
        }
        if is_whole {
            let done = Reply::Done { finish: FinishReason::Stop, usage: self.usage(ticket) };
            self.finish(world, ticket, done);
        } else {
            let ms = world.rng.between(20, 900);
            self.remind(world, ms, ServerTimer::Token(ticket));
        }
    }

    fn on_closed(&mut self, world: &mut World, node: NodeId, stream: StreamId) {
        let Some(life) = &self.life else {
            return;
        };
        let mut tasks = life.tasks.iter();
        let ticket = tasks.find(|(_, task)| {
            let remote = task.remote.as_ref();
            remote.is_some_and(|(r, _)| r.stream == stream && r.node == node)
        });
        if let Some((ticket, _)) = ticket {
            let refusal = Refusal::new(RefusalCode::PeerLost, "the requester went away");
            self.finish(world, *ticket, Reply::Refused(refusal));
        }
    }

    /// A task ends, wherever it stands, and makes room for the next.
    pub(super) fn finish(&mut self, world: &mut World, ticket: Ticket, last: Reply) {
        let now = self.clock.read(world.now);
        let life = self.life.as_mut().expect("tasks are those of a life");
        let Some(task) = life.tasks.remove(&ticket) else {
            return;
        };
        let queue = &mut life.queues[task.served];
        world.checks.left((self.id, task.served), ticket);
        let next =
            if queue.abandon(task.asker, ticket) { None } else { queue.finished(ticket, now) };
        self.end(world, task, last);
        if let Some(next) = next {
            self.begin(world, next);
        }
        self.slots_changed(world);
    }

    /// Settles a request and sends its last frame.
    fn end(&mut self, world: &mut World, mut task: Task, last: Reply) {
        let life = self.life.as_mut().expect("tasks are those of a life");
        let Some((remote, admitted)) = task.remote.take() else {
            return;
        };
        let usage = usage(&remote, task.emitted);
        let (now, names) =
            (self.clock.read(world.now), names_of(world, self.served[task.served].model));
        if !world.is(Mutant::NeverSettles) {
            let told = if world.is(Mutant::SettlesForFree) { Usage::default() } else { usage };
            let gate = task.own_gate.as_mut().unwrap_or(&mut life.gate);
            let cost = gate.settle(&admitted, told, now);
            let seen = self.seen(&remote, admitted.price, now, &names);
            world.checks.settled(&seen, usage, cost);
        } else {
            let cost = admitted.price.of(usage);
            let seen = self.seen(&remote, admitted.price, now, &names);
            world.checks.settled(&seen, usage, cost);
        }
        if let Reply::Refused(refusal) = &last {
            world.checks.refused(refusal.code);
        }
        let body = Body::Reply(remote.stream, write_reply(&last));
        world.send(self.reply_packet(remote.node, body));
    }

    fn refuse(&self, world: &mut World, to: NodeId, stream: StreamId, refusal: Refusal) {
        world.checks.refused(refusal.code);
        let code = refusal.code as u64;
        world.trace.record("refused", &[self.id as u64, stream, code], &[]);
        let body = Body::Reply(stream, write_reply(&Reply::Refused(refusal)));
        world.send(self.reply_packet(to, body));
    }

    fn usage(&self, ticket: Ticket) -> Usage {
        let life = self.life.as_ref().expect("tasks are those of a life");
        let task = &life.tasks[&ticket];
        let remote = task.remote.as_ref();
        remote.map_or_else(Usage::default, |(r, _)| usage(r, task.emitted))
    }

    fn seen<'a>(
        &self,
        remote: &'a Remote,
        price: Price,
        now: Timestamp,
        (network, model): &'a (NetworkId, ModelName),
    ) -> Seen<'a> {
        let life = self.life.as_ref().expect("requests are those of a life");
        Seen {
            node: self.id,
            life: self.lives,
            me: self.key.public(),
            network,
            now,
            booted_at: life.booted_at,
            from: remote.peer,
            per_peer_max: self.per_peer_max,
            model,
            price,
            usage_max: remote.usage_max,
            request: &remote.request,
        }
    }
}

/// What a request took: nothing unless something was generated.
fn usage(remote: &Remote, emitted: u32) -> Usage {
    if emitted == 0 {
        return Usage::default();
    }
    let prompt_tokens = remote.usage_max.prompt_tokens;
    Usage { prompt_tokens, completion_tokens: emitted, ..Usage::default() }
}

fn names_of(world: &World, model: usize) -> (NetworkId, ModelName) {
    (world.network.clone(), world.models[model].name.clone())
}

fn names(asked: &ModelName, name: &ModelName, digest: &str) -> bool {
    asked == name || asked.as_str() == digest
}
