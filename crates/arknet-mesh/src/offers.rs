//! The offers this node knows, shared between the mesh's tasks and its users.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use arknet_protocol::{Inserted, OfferTable};
use arknet_types::{NetworkId, Offer, OfferError, PublicKey, Timestamp};
use tokio::sync::watch;

/// The offers known, and a bell that rings when they change. Cheap to clone.
#[derive(Clone)]
pub struct Offers(Arc<Inner>);

struct Inner {
    own_peer: PublicKey,
    network: NetworkId,
    table: Mutex<OfferTable>,
    own: Mutex<Option<Offer>>,
    changed: watch::Sender<u64>,
}

impl Offers {
    pub(crate) fn new(own_peer: PublicKey, network: NetworkId) -> Self {
        Self(Arc::new(Inner {
            own_peer,
            network,
            table: Mutex::new(OfferTable::new()),
            own: Mutex::new(None),
            changed: watch::Sender::new(0),
        }))
    }

    /// Looks at the table, or marks peers in it. The lock is held for the call only.
    pub fn with<T>(&self, look: impl FnOnce(&mut OfferTable) -> T) -> T {
        look(&mut lock(&self.0.table))
    }

    /// Counts changes of the table; wait on it for an offer that is not there yet.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The wall clock, in the terms of offers.
    #[must_use]
    pub fn now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Checks the bytes of an offer.
    pub(crate) fn parse(&self, bytes: &[u8], now: Timestamp) -> Result<Offer, OfferError> {
        Offer::parse(bytes, &self.0.network, now)
    }

    /// Takes an offer that was checked; our own are of no use to us.
    pub(crate) fn insert(&self, offer: Offer, now: Timestamp) -> Inserted {
        if offer.body.peer == self.0.own_peer {
            return Inserted::Stale;
        }
        let inserted = self.with(|table| table.insert(offer, now));
        if inserted.is_news() {
            self.ring();
        }
        inserted
    }

    pub(crate) fn mark(&self, peer: &PublicKey, reachable: bool) {
        self.with(|table| {
            if reachable {
                table.mark_reachable(peer);
            } else {
                table.mark_unreachable(peer);
            }
        });
        self.ring();
    }

    pub(crate) fn expire(&self, now: Timestamp) {
        if self.with(|table| table.expire(now)) {
            self.ring();
        }
    }

    pub(crate) fn set_own(&self, offer: Offer) {
        *lock(&self.0.own) = Some(offer);
    }

    /// Our own offer, while it is valid.
    pub(crate) fn own(&self, now: Timestamp) -> Option<Offer> {
        lock(&self.0.own).clone().filter(|offer| offer.body.expires_at > now)
    }

    fn ring(&self) {
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
