use super::{
    AttackerTimer, BEGIN_MS, CALM_MS, CHAOS_MS, Client, ClientTimer, Event, Fault, PublicKey,
    ServerTimer, Sim, Who, everything,
};

/// Clocks that are right may still differ by this much.
const HEALED_SKEW_MS: i64 = 10_000;
/// Between two requests of the proof: so long that no slot is ever contended.
const PROOF_STEP_MS: u64 = 8_000;

impl Sim {
    /// People ask for models, all through the faults. Timers of a life are planned for the first;
    /// a client that restarts is asked no more until healing, so faults begin late enough.
    pub(super) fn plan_people(&mut self) {
        let world = &mut self.world;
        for client in &self.clients {
            for _ in 0..world.rng.between(4, 14) {
                let model = match world.rng.index(20) {
                    0 => 2,
                    n => n % 2,
                };
                let ms = world.rng.between(2_000, CHAOS_MS - 5_000);
                client.remind_at(world, BEGIN_MS + ms, ClientTimer::Ask(model));
            }
        }
        for server in &self.servers {
            if world.rng.chance(400) {
                for _ in 0..world.rng.between(1, 4) {
                    let begin = BEGIN_MS + world.rng.between(1_000, CHAOS_MS - 5_000);
                    for _ in 0..world.rng.between(1, 6) {
                        let at_ms = begin + world.rng.between(0, 2_000);
                        let local = Event::Server(server.id, 1, ServerTimer::AskLocally);
                        world.agenda.plan(at_ms, local);
                    }
                }
            }
        }
    }

    pub(super) fn plan_faults(&mut self) {
        let (servers, nodes) = (self.servers.len(), self.servers.len() + self.clients.len());
        let world = &mut self.world;
        let faults = world.faults.clone();
        let moment = |world: &mut super::World| BEGIN_MS + world.rng.between(3_000, CHAOS_MS);
        for _ in 0..faults.attacks {
            let at_ms = moment(world);
            let act = Event::Attacker(AttackerTimer::Act);
            world.agenda.plan(at_ms, act);
        }
        for _ in 0..faults.partitions {
            let (a, b) = (world.rng.index(nodes), world.rng.index(nodes));
            let at_ms = moment(world);
            let ends = at_ms + world.rng.between(1_000, 60_000);
            let both = world.rng.chance(500);
            for (from, to) in [(a, b), (b, a)].into_iter().take(1 + usize::from(both)) {
                world.agenda.plan(at_ms, Event::Fault(Fault::Block(from, to)));
                world.agenda.plan(ends, Event::Fault(Fault::Unblock(from, to)));
            }
        }
        for _ in 0..faults.crashes {
            // Serving nodes have more to forget.
            let pool = if world.rng.chance(800) { servers } else { nodes };
            let id = world.rng.index(pool);
            let at_ms = moment(world);
            let back = at_ms + world.rng.between(50, 15_000);
            world.agenda.plan(at_ms, Event::Fault(Fault::Crash(id)));
            world.agenda.plan(back, Event::Fault(Fault::Start(id)));
        }
        for _ in 0..faults.clock_jumps {
            let id = world.rng.index(nodes);
            let at_ms = moment(world);
            let error = world.rng.around_zero(80_000);
            let jump = Event::Fault(Fault::SetClock(id, error));
            world.agenda.plan(at_ms, jump);
            if world.rng.chance(500) {
                let back = at_ms + world.rng.between(500, 40_000);
                world.agenda.plan(back, Event::Fault(Fault::SetClock(id, 0)));
            }
        }
        self.plan_second_thoughts();
        let world = &mut self.world;
        if servers > 1 && world.rng.chance(300) {
            // The last server leaves for good: with a goodbye, or without.
            let (id, at_ms) = (servers - 1, moment(world));
            if world.rng.chance(500) {
                world.agenda.plan(at_ms, Event::Fault(Fault::Depart(id)));
                let end = at_ms + world.rng.between(100, 10_000);
                world.agenda.plan(end, Event::Fault(Fault::Crash(id)));
            } else {
                world.agenda.plan(at_ms, Event::Fault(Fault::Crash(id)));
                self.servers[id].is_gone = true;
            }
        }
    }

    /// Owners change their mind about peers, also about such as mean no good.
    fn plan_second_thoughts(&mut self) {
        let world = &mut self.world;
        let mut peers: Vec<PublicKey> = self.clients.iter().map(|c| c.key.public()).collect();
        peers.push(self.attacker.keys[0].public());
        for server in self.servers.iter().filter(|server| server.who == Who::Approved) {
            for _ in 0..world.rng.between(0, 6) {
                let peer = peers[world.rng.index(peers.len())];
                let at_ms = BEGIN_MS + world.rng.between(3_000, CHAOS_MS);
                world.agenda.plan(at_ms, Event::Fault(Fault::Rethink(server.id, peer)));
            }
        }
    }

    /// Everything works from here on, and nobody means harm. Returns who will not come back.
    pub(super) fn heal(&mut self) -> Vec<PublicKey> {
        let world = &mut self.world;
        world.trace.record("heal", &[], &[]);
        world.faults.heal();
        world.net.heal();
        world.agenda.retain(|event| !matches!(event, Event::Fault(_)));
        if world.faults.flood {
            self.attacker.flood(world);
        }
        self.attacker.is_active = false;
        let mut gone: Vec<_> = self.attacker.keys.iter().map(|k| k.public()).collect();
        for server in &mut self.servers {
            let error = world.rng.around_zero(HEALED_SKEW_MS);
            server.clock.set_error(error);
            if server.who == Who::Approved {
                for client in &self.clients {
                    server.decide(world, client.key.public(), Some(everything()));
                }
                server.decide(world, self.attacker.keys[0].public(), None);
            }
            if server.is_gone {
                server.crash(world);
                gone.push(server.key.public());
            } else {
                server.start(world);
            }
        }
        for client in &mut self.clients {
            let error = world.rng.around_zero(HEALED_SKEW_MS);
            client.clock.set_error(error);
            client.start(world);
        }
        gone
    }

    /// Everybody asks for everything that is served.
    pub(super) fn plan_proof(&mut self) {
        let world = &mut self.world;
        let mut at_ms = BEGIN_MS + CHAOS_MS + CALM_MS;
        for client in &self.clients {
            for model in 0..world.models.len() {
                let mut up = self.servers.iter().filter(|s| s.is_up());
                if up.any(|s| s.served.iter().any(|served| served.model == model)) {
                    at_ms += PROOF_STEP_MS;
                    client.remind_at(world, at_ms, ClientTimer::AskHealed(model));
                }
            }
        }
    }
}

impl Client {
    fn remind_at(&self, world: &mut super::World, at_ms: u64, timer: ClientTimer) {
        let life = self.current_life().expect("clients that are up are asked");
        world.agenda.plan(at_ms, Event::Client(self.id, life, timer));
    }
}
