//! The lanes of all connections, by peer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use libp2p::{PeerId, Stream, swarm::ConnectionId};
use tokio::sync::oneshot;

use super::lane::{Lane, LaneError, WarmBounds};

/// What a peer's connections gave.
pub(crate) enum Taken {
    /// A stream that was ready.
    Ready(Stream),
    /// A stream that is being negotiated.
    Soon(oneshot::Receiver<Result<Stream, LaneError>>),
}

/// The lanes of all connections that stand.
#[derive(Clone)]
pub(crate) struct Lanes {
    bounds: WarmBounds,
    peers: Arc<Mutex<Peers>>,
}

type Peers = HashMap<PeerId, Vec<(ConnectionId, Arc<Lane>)>>;

impl Lanes {
    pub(crate) fn new(warm_min: usize, warm_max: usize) -> Self {
        let bounds = WarmBounds { min: warm_min, max: warm_max.max(warm_min) };
        Self { bounds, peers: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The best connection to a peer: direct before relayed, then the newest.
    pub(crate) fn best(&self, peer: &PeerId) -> Option<Arc<Lane>> {
        let peers = self.lock();
        let lanes = peers.get(peer)?;
        let open = lanes.iter().rev().map(|(_, lane)| lane).filter(|lane| lane.is_open());
        open.min_by_key(|lane| lane.relayed).cloned()
    }

    /// A stream to the peer, or the promise of one; `None` without a connection.
    pub(crate) fn take(&self, peer: &PeerId, now: Instant) -> Option<Result<Taken, LaneError>> {
        let lane = self.best(peer)?;
        if let Some(stream) = lane.take(now) {
            return Some(Ok(Taken::Ready(stream)));
        }
        Some(lane.ask().map(Taken::Soon))
    }

    pub(super) fn connected(
        &self,
        peer: PeerId,
        connection: ConnectionId,
        relayed: bool,
    ) -> Arc<Lane> {
        let lane = Arc::new(Lane::new(relayed, self.bounds));
        let mut peers = self.lock();
        let lanes = peers.entry(peer).or_default();
        // A connection that another behaviour refuses never closes: its lane does, with the handler.
        lanes.retain(|(_, lane)| lane.is_open());
        lanes.push((connection, Arc::clone(&lane)));
        lane
    }

    pub(super) fn closed(&self, peer: &PeerId, connection: ConnectionId) {
        let mut peers = self.lock();
        let Some(lanes) = peers.get_mut(peer) else { return };
        lanes.retain(|(id, lane)| {
            if *id == connection {
                lane.close();
            }
            *id != connection
        });
        if lanes.is_empty() {
            peers.remove(peer);
        }
    }

    /// Keeps the connections that are to stay and streams on the best connection of the peers that
    /// serve, and lets go of streams that no demand needs.
    pub(crate) fn tend(
        &self,
        now: Instant,
        stays: impl Fn(&PeerId) -> bool,
        serves: impl Fn(&PeerId) -> bool,
    ) {
        let mut peers = self.lock();
        peers.retain(|_, lanes| lanes.iter().any(|(_, lane)| lane.is_open()));
        let all: Vec<_> = peers.keys().copied().collect();
        drop(peers);
        for peer in all {
            let best = self.best(&peer);
            let lanes: Vec<_> = self.lock().get(&peer).into_iter().flatten().cloned().collect();
            for (_, lane) in lanes {
                let is_best = best.as_ref().is_some_and(|best| Arc::ptr_eq(best, &lane));
                lane.keep(is_best && stays(&peer), is_best && serves(&peer));
                lane.trim(now);
            }
        }
    }

    /// Streams ready for a peer.
    pub(crate) fn warm_count(&self, peer: &PeerId) -> usize {
        self.lock().get(peer).into_iter().flatten().map(|(_, lane)| lane.warm_count()).sum()
    }
}
