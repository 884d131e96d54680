mod plan;

use std::{collections::BTreeMap, fmt};

use arknet_protocol::{Price, Who};
use arknet_types::{Atoms, KeyPair, ModelDigest, ModelName, NetworkId, PublicKey, RefusalCode};

use crate::{
    agenda::Agenda,
    checkers::Checkers,
    clock::Clock,
    faults::Faults,
    mutant::Mutant,
    network::{Body, NodeId, Packet, PacketSim, StreamId},
    node::{
        Attacker, AttackerTimer, Client, ClientTimer, Served, Server, ServerTimer, Target,
        everything,
    },
    rng::Rng,
    trace::Trace,
    world::{Event, Fault, Model, World},
};

/// When a run begins, in milliseconds since the epoch.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// How long things go wrong.
const CHAOS_MS: u64 = 150_000;
/// How long it takes until all offers from before have expired, by the worst of clocks.
const CALM_MS: u64 = 330_000;
/// How long requests made after healing may take altogether.
const PROOF_MS: u64 = 150_000;

/// What a run did, for those who ask whether it did anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The hash over all that happened.
    pub trace: u64,
    /// Things that happened.
    pub events: u64,
    /// Requests that serving nodes executed.
    pub executed: u64,
    /// Requests that people got an answer to.
    pub answered: u64,
    /// Requests that broke off after the first token.
    pub broke_off: u64,
    /// Requests that ended in a refusal.
    pub not_served: u64,
    /// How often serving nodes gave each refusal.
    pub refusals: BTreeMap<RefusalCode, u64>,
}

/// A rule was broken, or a state machine panicked.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The argument that runs it again.
    pub flag: &'static str,
    /// The seed that shows it.
    pub seed: u64,
    /// What was broken, and when.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flag, seed, what } = self;
        write!(
            f,
            "seed {seed:#x}: {what}\nrun it again: cargo run -p arknet-sim -- --{flag} {seed:#x}"
        )
    }
}

/// One simulated network.
#[derive(Debug)]
pub struct Sim {
    seed: u64,
    world: World,
    servers: Vec<Server>,
    clients: Vec<Client>,
    attacker: Attacker,
}

impl Sim {
    /// The network that grows from `seed`, with drivers that do everything right or, as a `mutant`,
    /// one thing wrong.
    #[must_use]
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::new(seed);
        let faults = Faults::draw(&mut rng, seed);
        let mut world = World {
            now: BEGIN_MS,
            faults,
            network: NetworkId::new("sim").expect("a good name"),
            models: models(),
            agenda: Agenda::default(),
            net: PacketSim::default(),
            checks: Checkers::default(),
            trace: Trace::default(),
            mutant,
            directory: BTreeMap::new(),
            listeners: vec![],
            rng,
        };
        let server_count = world.rng.index(3) + 2;
        let client_count = world.rng.index(3) + 1;
        let mut servers: Vec<Server> = (0..server_count).map(|id| server(&mut world, id)).collect();
        let mut clients: Vec<Client> =
            (server_count..server_count + client_count).map(|id| client(&mut world, id)).collect();
        if world.rng.chance(400) {
            for server in &mut servers {
                server.who = Who::Approved;
                world.checks.careful(server.id);
                for client in &clients {
                    server.decide(&mut world, client.key.public(), Some(everything()));
                }
            }
        }
        let attacker = attacker(&mut world, server_count + client_count, &servers);
        let clocks = servers.iter_mut().map(|s| &mut s.clock);
        for clock in clocks.chain(clients.iter_mut().map(|c| &mut c.clock)) {
            let error = world.rng.around_zero(world.faults.skew_ms);
            // A driver should not let its time go back; the gate must hold even if one does.
            *clock = Clock::new(error, world.rng.chance(250));
        }
        Self { seed, world, servers, clients, attacker }
    }

    /// Tells the latest events along with a violation.
    #[must_use]
    pub fn telling(mut self) -> Self {
        self.world.trace.tell();
        self
    }

    /// Lives through faults, then through calm, then proves that what should work works.
    pub fn run(mut self) -> Result<Report, Violation> {
        for server in &mut self.servers {
            server.start(&mut self.world);
        }
        for client in &mut self.clients {
            client.start(&mut self.world);
        }
        self.plan_people();
        self.plan_faults();
        self.advance(BEGIN_MS + CHAOS_MS)?;
        let gone = self.heal();
        self.advance(BEGIN_MS + CHAOS_MS + CALM_MS)?;
        self.plan_proof();
        self.advance(BEGIN_MS + CHAOS_MS + CALM_MS + PROOF_MS)?;
        for server in &self.servers {
            server.check_idle(&mut self.world);
        }
        for client in &mut self.clients {
            client.check_idle(&mut self.world, &gone);
        }
        self.world.checks.all_ended();
        self.judge()?;
        Ok(self.report())
    }

    fn advance(&mut self, until_ms: u64) -> Result<(), Violation> {
        while let Some((at_ms, event)) = self.world.agenda.next(until_ms) {
            assert!(at_ms >= self.world.now, "time goes forward");
            self.world.now = at_ms;
            self.step(event);
            self.judge()?;
        }
        self.world.now = until_ms;
        Ok(())
    }

    fn step(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Arrives(packet) => self.deliver(packet),
            Event::Attacker(timer) => self.attacker.on_timer(world, timer),
            Event::Client(id, life, timer) => {
                let at = id - self.servers.len();
                self.clients[at].on_timer(world, life, timer);
            }
            Event::Fault(fault) => self.go_wrong(&fault),
            Event::Server(id, life, timer) => {
                self.servers[id].on_timer(world, life, timer);
                self.servers[id].check(world);
            }
        }
    }

    fn deliver(&mut self, packet: Packet) {
        let world = &mut self.world;
        let (what, stream, bytes) = packet.body.describe();
        let numbers = [world.now, packet.from as u64, packet.to as u64, stream];
        world.trace.record(what, &numbers, bytes);
        let to = packet.to;
        if let Some(server) = self.servers.get_mut(to) {
            server.on_packet(world, packet);
            server.check(world);
        } else if let Some(client) = self.clients.get_mut(to - self.servers.len()) {
            client.on_packet(world, packet);
        } else {
            self.attacker.on_packet(world, packet);
        }
    }

    fn go_wrong(&mut self, fault: &Fault) {
        let world = &mut self.world;
        world.trace.record("fault", &[world.now], format!("{fault:?}").as_bytes());
        match *fault {
            Fault::Block(from, to) => world.net.block(from, to),
            Fault::Unblock(from, to) => world.net.unblock(from, to),
            Fault::SetClock(id, error) => match self.servers.get_mut(id) {
                Some(server) => server.clock.set_error(error),
                None => self.clients[id - self.servers.len()].clock.set_error(error),
            },
            Fault::Depart(id) => self.servers[id].depart(world),
            Fault::Rethink(id, peer) => {
                self.servers[id].rethink(world, peer);
                self.servers[id].check(world);
            }
            Fault::Start(id) => match self.servers.get_mut(id) {
                Some(server) => {
                    server.start(world);
                    self.attacker.on_restart_of(world, id);
                }
                None => self.clients[id - self.servers.len()].start(world),
            },
            Fault::Crash(id) => {
                let (peer, open) = match self.servers.get_mut(id) {
                    Some(server) => (server.key.public(), server.crash(world)),
                    None => {
                        let client = &mut self.clients[id - self.servers.len()];
                        (client.key.public(), client.crash(world))
                    }
                };
                hang_up(world, id, peer, &open);
            }
        }
    }

    fn judge(&mut self) -> Result<(), Violation> {
        let Some(what) = self.world.checks.take_violation() else {
            return Ok(());
        };
        let after_ms = self.world.now - BEGIN_MS;
        let told = self.world.trace.told();
        Err(Violation {
            flag: "seed",
            seed: self.seed,
            what: format!("{told}after {after_ms} ms: {what}"),
        })
    }

    fn report(self) -> Report {
        let [answered, broke_off, not_served] = self.world.checks.outcomes();
        Report {
            trace: self.world.trace.hash(),
            events: self.world.trace.events(),
            executed: self.world.checks.executed(),
            answered,
            broke_off,
            not_served,
            refusals: self.world.checks.refusals,
        }
    }
}

/// A process that dies takes its connections with it; not every system tells the other side.
fn hang_up(world: &mut World, id: NodeId, peer: PublicKey, open: &[(NodeId, StreamId)]) {
    for (to, stream) in open {
        if world.rng.chance(600) {
            world.send(Packet { from: id, peer, to: *to, body: Body::Closed(*stream) });
        }
    }
}

/// A free model, a paid one, and one that nobody serves.
fn models() -> Vec<Model> {
    [("free/model", 0, 0), ("paid/model", 1, 2), ("rare/model", 0, 0)]
        .into_iter()
        .zip(1..)
        .map(|((name, input, output), n)| Model {
            name: ModelName::new(name).expect("a good name"),
            digest: ModelDigest([n; 32]),
            price: Price { input: Atoms(input * 1_000_000), output: Atoms(output * 1_000_000) },
        })
        .collect()
}

fn server(world: &mut World, id: NodeId) -> Server {
    let key = KeyPair::from_seed(&world.rng.bytes());
    world.directory.insert(key.public(), id);
    let which = [&[0][..], &[1], &[0, 1]][world.rng.index(3)];
    let served = which.iter().map(|model| Served {
        model: *model,
        slots: u32::try_from(world.rng.between(1, 3)).expect("few"),
        waiting_max: u32::try_from(world.rng.between(0, 6)).expect("few"),
    });
    let served = served.collect();
    Server::new(id, key, served, Who::Anyone { files: false })
}

fn client(world: &mut World, id: NodeId) -> Client {
    let [key, wallet] = [0; 2].map(|_: u8| KeyPair::from_seed(&world.rng.bytes()));
    world.directory.insert(key.public(), id);
    world.listeners.push(id);
    Client::new(id, key, wallet)
}

fn attacker(world: &mut World, id: NodeId, servers: &[Server]) -> Attacker {
    let [first, second, wallet] = [0; 3].map(|_: u8| KeyPair::from_seed(&world.rng.bytes()));
    for key in [&first, &second] {
        world.directory.insert(key.public(), id);
    }
    let targets = servers.iter().map(|server| Target {
        id: server.id,
        peer: server.key.public(),
        models: server.served.iter().map(|s| s.model).collect(),
    });
    Attacker::new(id, vec![first, second], wallet, targets.collect())
}
