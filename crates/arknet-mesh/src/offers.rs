//! The offers this node knows, shared between the mesh's tasks and its users.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use arknet_protocol::{Inserted, OfferTable};
use arknet_types::{NetworkId, Offer, OfferError, PublicKey, Timestamp, limits::OFFERS_MAX};
use tokio::sync::watch;

/// Makes this node's offer for one peer; none where that peer is to hear of none.
pub type OfferFor = Arc<dyn Fn(&PublicKey) -> Option<Offer> + Send + Sync>;

/// The offers known, and a bell that rings when they change. Cheap to clone.
#[derive(Clone)]
pub struct Offers(Arc<Inner>);

struct Inner {
    own_peer: PublicKey,
    network: NetworkId,
    table: Mutex<OfferTable>,
    /// The newest offer of each peer that was meant for everybody. What a peer told us of itself may
    /// be meant for us alone.
    public: Mutex<BTreeMap<PublicKey, u64>>,
    own: Mutex<Option<Offer>>,
    own_for: Mutex<Option<OfferFor>>,
    changed: watch::Sender<u64>,
}

impl Offers {
    pub(crate) fn new(own_peer: PublicKey, network: NetworkId) -> Self {
        Self(Arc::new(Inner {
            own_peer,
            network,
            table: Mutex::new(OfferTable::new()),
            public: Mutex::default(),
            own: Mutex::new(None),
            own_for: Mutex::default(),
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

    /// Takes an offer that was checked; our own are of no use to us. Only what is public is passed
    /// on.
    pub(crate) fn insert(&self, offer: Offer, now: Timestamp, is_public: bool) -> Inserted {
        if offer.body.peer == self.0.own_peer {
            return Inserted::Stale;
        }
        if is_public {
            let newest = (offer.body.peer, offer.body.sequence);
            let known = self.with(|table| table.get(&newest.0).is_some());
            let mut public = lock(&self.0.public);
            if known || public.len() < OFFERS_MAX {
                let sequence = public.entry(newest.0).or_default();
                *sequence = newest.1.max(*sequence);
            }
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
            self.with(|table| {
                lock(&self.0.public).retain(|peer, _| table.get(peer).is_some());
            });
            self.ring();
        }
    }

    /// Living offers that were meant for everybody.
    pub(crate) fn to_pass_on(&self, now: Timestamp, room: usize) -> Vec<Offer> {
        self.with(|table| {
            let public = lock(&self.0.public);
            let is_public = |offer: &&Offer| {
                public.get(&offer.body.peer).is_some_and(|newest| *newest == offer.body.sequence)
            };
            table.living(now).filter(is_public).take(room).cloned().collect()
        })
    }

    pub(crate) fn set_own_for(&self, own_for: OfferFor) {
        *lock(&self.0.own_for) = Some(own_for);
    }

    /// Our offer as this peer may hear it.
    pub(crate) fn own_for(&self, peer: &PublicKey, now: Timestamp) -> Option<Offer> {
        self.own(now).or_else(|| {
            let own_for = lock(&self.0.own_for).clone()?;
            own_for(peer)
        })
    }

    pub(crate) fn set_own(&self, offer: Offer) {
        *lock(&self.0.own) = Some(offer);
    }

    /// Our own offer for everybody, while it is valid.
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
