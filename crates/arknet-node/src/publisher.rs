//! Tells others what this node serves: at once on change, and every minute.

use std::{sync::Arc, time::Duration};

use arknet_mesh::Mesh;
use arknet_protocol::Who;
use arknet_types::{Offer, PublicKey, limits::OFFER_HEARTBEAT_MS};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::offering::Offering;

/// Slots come and go with every request; the mesh hears of it this often at most.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long the first offer waits for an address to put into it. A node that others reach through
/// a relay only may take longer, and offers again then.
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_millis(OFFER_HEARTBEAT_MS);

/// When those are told again that did not hear.
const RETRY: Duration = Duration::from_secs(2);
/// Peers told at the same time.
const TELLING_MAX: usize = 32;
/// How long one round of telling may hold up the next.
const TELLING_TIME_MAX: Duration = Duration::from_secs(2);

pub(crate) struct Publisher {
    pub(crate) mesh: Mesh,
    pub(crate) offering: Arc<Offering>,
    /// Whether others may ask at all: a gateway keeps what it has to itself.
    pub(crate) is_compute: bool,
}

impl Publisher {
    /// Publishes until told to stop, then says goodbye.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut addresses = self.mesh.addresses_changed();
        let mut models = self.offering.serving.changed();
        let mut grants = self.offering.approvals.changes();
        let mut slots = self.slots();
        // A node that restarted takes no request signed before its horizon: it offers nothing yet.
        let early = self.offering.serving.started_at().since_ms(arknet_sdk::now());
        // And an offer without an address is of no use to anybody.
        let ready = async {
            sleep(Duration::from_millis(early)).await;
            let _ = timeout(ADDRESS_WAIT_MAX, addresses.wait_for(|known| !known.is_empty())).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = ready => {}
        }
        while !stop.is_cancelled() {
            addresses.borrow_and_update();
            grants.borrow_and_update();
            if models.has_changed().unwrap_or(false) {
                models.borrow_and_update();
                slots = self.slots();
            }
            for slot in &mut slots {
                slot.borrow_and_update();
            }
            let is_heard = self.publish(self.is_compute).await;
            let published = Instant::now();
            let again = published + if is_heard { HEARTBEAT } else { RETRY };
            {
                let mut slot_changes: FuturesUnordered<_> =
                    slots.iter_mut().map(|slot| slot.changed()).collect();
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = addresses.changed() => {}
                    // Whoever is approved or revoked hears of it at once.
                    _ = grants.changed() => continue,
                    _ = models.changed() => models.mark_changed(),
                    Some(_) = slot_changes.next() => {}
                    () = sleep_until(again) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(published + INTERVAL_MIN) => {}
            }
        }
        self.publish(false).await;
    }

    /// The free slots of all models served now.
    fn slots(&self) -> Vec<watch::Receiver<u32>> {
        self.offering.serving.models().values().map(|served| served.slots_free()).collect()
    }

    /// Returns whether everybody has heard it whom it concerns.
    async fn publish(&self, is_serving: bool) -> bool {
        self.offering.next(arknet_sdk::now(), is_serving);
        match self.offering.who() {
            Who::Anyone { .. } => self.mesh.publish_offer(self.offering.for_everybody()).await,
            Who::Approved if self.is_compute => return self.tell_approved().await,
            // A gateway keeps what it has to itself.
            Who::Approved => {}
        }
        true
    }

    /// Tells every approved peer that is there what is offered to it, and those that are approved no
    /// more that nothing is.
    async fn tell_approved(&self) -> bool {
        let connected = self.mesh.connected().into_iter().map(|status| status.peer);
        let offers: Vec<(PublicKey, Offer)> =
            connected.filter_map(|peer| Some((peer, self.offering.for_peer(&peer)?))).collect();
        let mut silent = offers.len();
        let mut telling = futures::stream::iter(offers)
            .map(|(peer, offer)| async move { self.mesh.tell(&peer, offer).await.then_some(peer) })
            .buffer_unordered(TELLING_MAX);
        let end = Instant::now() + TELLING_TIME_MAX;
        // One that takes its time is told again in the next round, which it must not hold up.
        while let Ok(Some(heard)) = timeout_at(end, telling.next()).await {
            let Some(peer) = heard else { continue };
            silent -= 1;
            self.offering.heard(&peer);
        }
        silent == 0
    }
}
