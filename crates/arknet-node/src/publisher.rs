//! Tells the mesh what this node serves: at once on change, and every minute.

use std::time::Duration;

use arknet_mesh::Mesh;
use arknet_types::{
    KeyPair, ModelOffer, NetworkId, Offer, OfferBody, Timestamp,
    limits::{
        ADDRESSES_PER_OFFER_MAX, MODELS_PER_OFFER_MAX, OFFER_HEARTBEAT_MS, OFFER_LIFETIME_MS_MAX,
    },
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::serving::Serving;

/// Slots come and go with every request; the mesh hears of it this often at most.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long the first offer waits for an address to put into it. A node that others reach through
/// a relay only may take longer, and offers again then.
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_millis(OFFER_HEARTBEAT_MS);

pub(crate) struct Publisher {
    pub(crate) key: KeyPair,
    pub(crate) network: NetworkId,
    pub(crate) mesh: Mesh,
    pub(crate) serving: Serving,
    /// Whether others may ask at all: a gateway keeps what it has to itself.
    pub(crate) is_compute: bool,
}

impl Publisher {
    /// Publishes until told to stop, then says goodbye.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut addresses = self.mesh.addresses_changed();
        let mut models = self.serving.changed();
        let mut slots = self.slots();
        let mut sequence = 0;
        // A node that restarted takes no request signed before its horizon: it offers nothing yet.
        let early = self.serving.started_at().since_ms(arknet_sdk::now());
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
            if models.has_changed().unwrap_or(false) {
                models.borrow_and_update();
                slots = self.slots();
            }
            for slot in &mut slots {
                slot.borrow_and_update();
            }
            self.publish(&mut sequence, self.is_compute).await;
            let published = Instant::now();
            {
                let mut slot_changes: FuturesUnordered<_> =
                    slots.iter_mut().map(|slot| slot.changed()).collect();
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = addresses.changed() => {}
                    _ = models.changed() => models.mark_changed(),
                    Some(_) = slot_changes.next() => {}
                    () = sleep_until(published + HEARTBEAT) => {}
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep_until(published + INTERVAL_MIN) => {}
            }
        }
        self.publish(&mut sequence, false).await;
    }

    /// The free slots of all models served now.
    fn slots(&self) -> Vec<watch::Receiver<u32>> {
        self.serving.models().values().map(|served| served.slots_free()).collect()
    }

    async fn publish(&self, sequence: &mut u64, is_serving: bool) {
        let now = arknet_sdk::now();
        // Milliseconds since the epoch, so that it rises across restarts.
        *sequence = now.0.max(*sequence + 1);
        let offer = self.offer(*sequence, now, is_serving);
        tracing::debug!(sequence, models = offer.body.models.len(), "offer published");
        self.mesh.publish_offer(offer).await;
    }

    fn offer(&self, sequence: u64, now: Timestamp, is_serving: bool) -> Offer {
        let addresses = self.mesh.listen_addresses().into_iter().map(|a| a.to_string());
        let served = self.serving.models();
        let models = served.values().filter(|served| served.is_shared).map(|served| {
            let slots_free = u16::try_from(*served.slots_free().borrow()).unwrap_or(u16::MAX);
            ModelOffer {
                name: served.info.name.clone(),
                digest: served.info.digest,
                capabilities: served.info.capabilities,
                context_tokens: served.info.context_tokens,
                slots_total: served.info.slots,
                slots_free: slots_free.min(served.info.slots),
                input_price: served.price.input,
                output_price: served.price.output,
            }
        });
        let body = OfferBody {
            network: self.network.clone(),
            peer: self.key.public(),
            sequence,
            issued_at: now,
            expires_at: now.plus_ms(OFFER_LIFETIME_MS_MAX),
            addresses: addresses.take(ADDRESSES_PER_OFFER_MAX).collect(),
            models: models.take(if is_serving { MODELS_PER_OFFER_MAX } else { 0 }).collect(),
        };
        Offer::sign(body, &self.key)
    }
}
