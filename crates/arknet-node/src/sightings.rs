//! Which peers were seen, and how: what a person chooses from when approving.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_mesh::Mesh;
use arknet_types::{NodeId, PublicKey, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// Peers remembered that were seen.
const SEEN_MAX: usize = 1024;
/// How often it is noted who is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How a peer was found.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// Announced on the local network.
    Mdns,
    /// Named by a person.
    Static,
    /// At the other end of a tunnel.
    Tunnel,
    /// Listed by a registry.
    Registry,
    /// Connected to this node, or known by its offer.
    Connected,
}

/// A peer that was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// The peer.
    pub peer: PublicKey,
    /// What it calls itself, where it has said so.
    pub node_id: Option<NodeId>,
    /// Where it is said to be.
    pub addresses: Vec<String>,
    /// How it was found.
    pub sources: BTreeSet<Source>,
    /// When for the first time.
    pub first_seen: Timestamp,
    /// When for the last time.
    pub last_seen: Timestamp,
}

/// Who knows which peers were seen.
pub trait Sightings: Send + Sync {
    /// All of them, each once.
    fn all(&self) -> Vec<Sighting>;
}

/// The peers that the mesh knows.
pub(crate) struct MeshSightings {
    mesh: Mesh,
    seen: Mutex<BTreeMap<PublicKey, Sighting>>,
}

impl MeshSightings {
    pub(crate) fn new(mesh: Mesh) -> Arc<Self> {
        Arc::new(Self { mesh, seen: Mutex::default() })
    }

    /// Notes who is there until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            drop(self.look());
        }
    }

    fn look(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Sighting>> {
        let now = arknet_sdk::now();
        let mut there = BTreeMap::<PublicKey, Vec<String>>::new();
        for status in self.mesh.connected() {
            there.entry(status.peer).or_default().push(status.address.to_string());
        }
        self.mesh.offers().with(|offers| {
            for offer in offers.living(now) {
                let known = there.entry(offer.body.peer).or_default();
                known.extend(offer.body.addresses.iter().cloned());
            }
        });
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (peer, addresses) in there {
            note(&mut seen, peer, addresses, now);
        }
        seen
    }
}

fn note(
    seen: &mut BTreeMap<PublicKey, Sighting>,
    peer: PublicKey,
    addresses: Vec<String>,
    now: Timestamp,
) {
    if seen.len() >= SEEN_MAX && !seen.contains_key(&peer) {
        let oldest = seen.values().min_by_key(|one| one.last_seen).map(|one| one.peer);
        oldest.map(|oldest| seen.remove(&oldest));
    }
    let sighting = seen.entry(peer).or_insert_with(|| Sighting {
        peer,
        node_id: None,
        addresses: vec![],
        sources: [Source::Connected].into(),
        first_seen: now,
        last_seen: now,
    });
    sighting.last_seen = now;
    if !addresses.is_empty() {
        sighting.addresses = addresses;
    }
}

impl Sightings for MeshSightings {
    fn all(&self) -> Vec<Sighting> {
        self.look().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_remembered_push_out_those_not_seen_for_longest() {
        let mut seen = BTreeMap::new();
        let key = |n: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            PublicKey(key)
        };
        for n in 0..3_000 {
            note(&mut seen, key(n), vec![n.to_string()], Timestamp(n));
            note(&mut seen, key(7), vec![], Timestamp(n));
        }
        assert_eq!(seen.len(), SEEN_MAX);
        let stays = &seen[&key(7)];
        assert_eq!((stays.first_seen, stays.last_seen), (Timestamp(0), Timestamp(2_999)));
        assert_eq!(seen[&key(2_999)].addresses, ["2999"]);
    }
}
