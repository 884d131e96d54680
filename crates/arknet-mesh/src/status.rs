//! Who is connected, for people and for routing.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_types::PublicKey;
use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};

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
}

#[derive(Clone, Debug)]
struct Connection {
    id: ConnectionId,
    address: Multiaddr,
    relayed: bool,
    dialed: bool,
    rtt: Option<Duration>,
}

/// The connections that stand, shared with whoever asks.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<HashMap<PeerId, Vec<Connection>>>>);

impl Connections {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Vec<Connection>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.lock().entry(peer).or_default().push(connection);
    }

    pub(crate) fn remove(&self, peer: &PeerId, id: ConnectionId) {
        let mut peers = self.lock();
        if let Some(connections) = peers.get_mut(peer) {
            connections.retain(|connection| connection.id != id);
            if connections.is_empty() {
                peers.remove(peer);
            }
        }
    }

    pub(crate) fn measured(&self, peer: &PeerId, id: ConnectionId, rtt: Duration) {
        let mut peers = self.lock();
        let mut connections = peers.get_mut(peer).into_iter().flatten();
        if let Some(connection) = connections.find(|connection| connection.id == id) {
            connection.rtt = Some(rtt);
        }
    }

    /// Where we reached a peer ourselves, without a relay.
    pub(crate) fn dialed_address(&self, peer: &PeerId) -> Option<Multiaddr> {
        let peers = self.lock();
        let direct = peers.get(peer)?.iter().find(|one| one.dialed && !one.relayed)?;
        Some(addresses::split_peer(direct.address.clone()).0)
    }

    pub(crate) fn list(&self) -> Vec<PeerStatus> {
        let peers = self.lock();
        let best = peers.iter().filter_map(|(peer, connections)| {
            let best = connections.iter().min_by_key(|one| (one.relayed, one.rtt.is_none()))?;
            Some(PeerStatus {
                peer: addresses::public_key(peer)?,
                rtt_ms: best.rtt.map(|rtt| rtt.as_secs_f64() * 1000.0),
                relayed: best.relayed,
                address: best.address.clone(),
            })
        });
        best.collect()
    }
}
