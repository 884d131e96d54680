//! Who is connected, for people and for routing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_types::{NodeId, PublicKey};
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use tokio::sync::watch;

use crate::addresses;

/// One connected peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub peer: PublicKey,
    /// The last round trip measured, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Whether the best connection goes through a relay.
    pub relayed: bool,
    /// The other end of the best connection.
    pub address: Multiaddr,
    /// Where we reached it ourselves, without a relay and without its peer id.
    pub dialed: Option<Multiaddr>,
    /// What it calls itself.
    pub node_id: Option<NodeId>,
}

#[derive(Clone, Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    relayed: bool,
    dialed: bool,
    rtt: Option<Duration>,
}

#[derive(Default)]
struct Connected {
    connections: Vec<Connection>,
    node_id: Option<NodeId>,
}

/// The connections that stand, shared with whoever asks, and a bell that rings when peers come, go
/// or say their names.
#[derive(Clone)]
pub(crate) struct Connections {
    peers: Arc<Mutex<HashMap<PeerId, Connected>>>,
    changed: watch::Sender<u64>,
}

impl Default for Connections {
    fn default() -> Self {
        Self { peers: Arc::default(), changed: watch::Sender::new(0) }
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Connected>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn add(
        &self,
        peer: PeerId,
        id: ConnectionId,
        address: Multiaddr,
        relayed: bool,
        dialed: bool,
    ) {
        let connection = Connection { id, address, relayed, dialed, rtt: None };
        self.lock().entry(peer).or_default().connections.push(connection);
        self.ring();
    }

    pub(crate) fn named(&self, peer: &PeerId, node_id: Option<NodeId>) {
        let mut peers = self.lock();
        if let Some(connected) = peers.get_mut(peer).filter(|peer| peer.node_id != node_id) {
            connected.node_id = node_id;
            drop(peers);
            self.ring();
        }
    }

    pub(crate) fn remove(&self, peer: &PeerId, id: ConnectionId) {
        let mut peers = self.lock();
        if let Some(connected) = peers.get_mut(peer) {
            connected.connections.retain(|connection| connection.id != id);
            if connected.connections.is_empty() {
                peers.remove(peer);
            }
        }
        drop(peers);
        self.ring();
    }

    pub(crate) fn measured(&self, peer: &PeerId, id: ConnectionId, rtt: Duration) {
        let mut peers = self.lock();
        let mut connections = peers.get_mut(peer).into_iter().flat_map(|p| &mut p.connections);
        if let Some(connection) = connections.find(|connection| connection.id == id) {
            connection.rtt = Some(rtt);
        }
    }

    /// Where we reached a peer ourselves, without a relay.
    pub(crate) fn dialed_address(&self, peer: &PeerId) -> Option<Multiaddr> {
        self.lock().get(peer)?.dialed_address()
    }

    pub(crate) fn list(&self) -> Vec<PeerStatus> {
        let peers = self.lock();
        let best = peers.iter().filter_map(|(peer, connected)| {
            let all = connected.connections.iter();
            let best = all.min_by_key(|one| (one.relayed, one.rtt.is_none()))?;
            Some(PeerStatus {
                peer: addresses::public_key(peer)?,
                rtt_ms: best.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
                relayed: best.relayed,
                address: best.address.clone(),
                dialed: connected.dialed_address(),
                node_id: connected.node_id.clone(),
            })
        });
        best.collect()
    }
}

impl Connected {
    fn dialed_address(&self) -> Option<Multiaddr> {
        let direct = self.connections.iter().find(|one| one.dialed && !one.relayed)?;
        Some(addresses::split_peer(direct.address.clone()).0)
    }
}
