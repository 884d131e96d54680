//! How many request streams others hold open here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The count over all peers.
#[derive(Debug)]
pub(crate) struct Permits {
    held: AtomicUsize,
    total_max: usize,
    per_peer_max: usize,
    refused: AtomicU64,
}

/// The count of one peer, over all its connections.
#[derive(Clone, Debug)]
pub(crate) struct PeerPermits {
    all: Arc<Permits>,
    held: Arc<AtomicUsize>,
}

/// The right to hold one stream open; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit(PeerPermits);

impl Permits {
    pub(crate) fn new(per_peer_max: usize, total_max: usize) -> Arc<Self> {
        Arc::new(Self {
            held: AtomicUsize::new(0),
            total_max,
            per_peer_max,
            refused: AtomicU64::new(0),
        })
    }

    pub(crate) fn peer(self: &Arc<Self>) -> PeerPermits {
        PeerPermits { all: Arc::clone(self), held: Arc::default() }
    }

    /// Streams reset so far because a limit was reached.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Streams held now.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl PeerPermits {
    /// One more stream, unless this peer or all together hold too many.
    pub(crate) fn take(&self) -> Option<Permit> {
        if !count_up(&self.held, self.all.per_peer_max) {
            self.all.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if !count_up(&self.all.held, self.all.total_max) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.all.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(self.clone()))
    }

    /// Whether no stream of this peer is open.
    pub(crate) fn is_unused(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.all.held.fetch_sub(1, Ordering::Relaxed);
    }
}

fn count_up(count: &AtomicUsize, max: usize) -> bool {
    let up = |held| (held < max).then_some(held + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, up).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_cannot_take_what_others_need() {
        let all = Permits::new(2, 3);
        let (greedy, other) = (all.peer(), all.peer());
        let held = [greedy.take(), greedy.take()];
        assert!(held.iter().all(Option::is_some) && greedy.take().is_none());
        let third = other.take();
        assert!(third.is_some() && other.take().is_none(), "the total is kept too");
        assert_eq!((all.held(), all.refused()), (3, 2));
        drop(held);
        assert!(greedy.is_unused() && greedy.take().is_some());
    }
}
