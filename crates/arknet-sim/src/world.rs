use std::collections::BTreeMap;

use arknet_protocol::Price;
use arknet_types::{ModelDigest, ModelName, NetworkId, PublicKey};

use crate::{
    agenda::Agenda,
    checkers::Checkers,
    faults::Faults,
    mutant::Mutant,
    network::{Body, NodeId, Packet, PacketSim},
    node::{AttackerTimer, ClientTimer, ServerTimer},
    rng::Rng,
    trace::Trace,
};

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    Arrives(Packet),
    Attacker(AttackerTimer),
    /// A timer a client has set, and in which of its lives.
    Client(NodeId, u32, ClientTimer),
    Fault(Fault),
    /// A timer a serving node has set, and in which of its lives.
    Server(NodeId, u32, ServerTimer),
}

/// Something that goes wrong, or right again.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    Block(NodeId, NodeId),
    Crash(NodeId),
    /// A node leaves with a goodbye.
    Depart(NodeId),
    /// The owner of a node thinks again about what a peer may do.
    Rethink(NodeId, PublicKey),
    SetClock(NodeId, i64),
    Start(NodeId),
    Unblock(NodeId, NodeId),
}

/// A model that nodes may serve.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: ModelName,
    pub(crate) digest: ModelDigest,
    pub(crate) price: Price,
}

/// All that is around the nodes: time, chance, the network, and who watches.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) network: NetworkId,
    pub(crate) models: Vec<Model>,
    pub(crate) agenda: Agenda<Event>,
    pub(crate) net: PacketSim,
    pub(crate) checks: Checkers,
    pub(crate) trace: Trace,
    pub(crate) mutant: Option<Mutant>,
    /// Where the identities are.
    pub(crate) directory: BTreeMap<PublicKey, NodeId>,
    /// Who takes part in gossip.
    pub(crate) listeners: Vec<NodeId>,
}

impl World {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.agenda.plan(self.now + ms, event);
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        let arrivals = self.net.send(packet, self.now, &self.faults, &mut self.rng);
        for (at_ms, packet) in arrivals {
            self.agenda.plan(at_ms, Event::Arrives(packet));
        }
    }

    /// Sends an offer the way gossip does: to everybody, each on its own path and in its own time,
    /// past some of those who could not get it directly.
    pub(crate) fn gossip(&mut self, from: NodeId, peer: PublicKey, bytes: &[u8]) {
        for to in self.listeners.clone() {
            if to == from {
                continue;
            }
            let relay = self.listeners[self.rng.index(self.listeners.len())];
            let through = if self.rng.chance(300) { relay } else { from };
            self.send(Packet { from: through, peer, to, body: Body::Offer(bytes.to_vec()) });
        }
    }
}
