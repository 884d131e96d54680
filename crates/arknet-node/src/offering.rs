//! What this node offers, and to whom: everything it shares to everybody, or to each approved peer
//! what is shared with that peer.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use arknet_mesh::Multiaddr;
use arknet_protocol::{Permissions, Who};
use arknet_types::{
    Capabilities, KeyPair, ModelOffer, NetworkId, Offer, OfferBody, PublicKey, Timestamp,
    limits::{ADDRESSES_PER_OFFER_MAX, MODELS_PER_OFFER_MAX, OFFER_LIFETIME_MS_MAX},
};
use tokio::sync::watch;

use crate::{
    approvals::Approvals,
    serving::{Served, Serving},
};

/// Makes offers. All that are made between two turns have one number and one date.
pub(crate) struct Offering {
    pub(crate) key: KeyPair,
    pub(crate) network: NetworkId,
    pub(crate) serving: Serving,
    pub(crate) approvals: Approvals,
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) turn: Mutex<Turn>,
    /// Who holds an offer made for it, however it came by it, and until when that counts.
    pub(crate) told: Mutex<BTreeMap<PublicKey, Timestamp>>,
}

/// Which offers are made now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Turn {
    sequence: u64,
    issued_at: Timestamp,
    /// Not before the node is ready, and not after it said goodbye.
    is_serving: bool,
}

impl Offering {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Timestamp>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers made from now on are newer than all before.
    pub(crate) fn next(&self, now: Timestamp, is_serving: bool) {
        let mut turn = self.turn();
        // Milliseconds since the epoch, so that it rises across restarts.
        let sequence = now.0.max(turn.sequence + 1);
        *turn = Turn { sequence, issued_at: now, is_serving };
        drop(turn);
        self.told().retain(|_, until| *until > now);
    }

    pub(crate) fn who(&self) -> Who {
        self.approvals.gate().policy().who
    }

    /// What everybody is offered.
    pub(crate) fn for_everybody(&self) -> Offer {
        let files = self.who() == Who::Anyone { files: true };
        self.make(|served| served.info.digest.is_some() && files, |_| true, true)
    }

    /// What this peer is told: what is offered to it, or that nothing is any more. None where it was
    /// never to hear of anything.
    pub(crate) fn for_peer(&self, peer: &PublicKey) -> Option<Offer> {
        let Some(offer) = self.granted(peer) else {
            return self.told().contains_key(peer).then(|| self.goodbye());
        };
        self.told().insert(*peer, offer.body.expires_at);
        Some(offer)
    }

    /// A peer has heard what it was told: one to which nothing is offered need hear it no more.
    pub(crate) fn heard(&self, peer: &PublicKey) {
        if self.approvals.grants().get(peer).is_none() {
            self.told().remove(peer);
        }
    }

    fn granted(&self, peer: &PublicKey) -> Option<Offer> {
        let grants = self.approvals.grants();
        let Permissions { can_pull_models, can_request_inference, models_shared, .. } =
            &grants.get(peer)?.permissions;
        if self.turn().sequence == 0 {
            return None;
        }
        Some(self.make(
            |served| served.info.digest.is_some() && *can_pull_models,
            |served| models_shared.contains(&served.info.name),
            *can_request_inference,
        ))
    }

    fn goodbye(&self) -> Offer {
        let turn = Turn { is_serving: false, ..*self.turn() };
        self.sign(turn, vec![], vec![])
    }

    fn make(
        &self,
        has_file: impl Fn(&Served) -> bool,
        is_shared: impl Fn(&Served) -> bool,
        may_ask: bool,
    ) -> Offer {
        let turn = *self.turn();
        let addresses = self.addresses.borrow().iter().map(ToString::to_string).collect();
        let served = self.serving.models();
        let shared = served.values().filter(|served| served.is_shared && is_shared(served));
        let models = shared.filter_map(|served| {
            let asked = if may_ask { served.info.capabilities } else { Capabilities::NONE };
            let file = if has_file(served) { Capabilities::FILE } else { Capabilities::NONE };
            let capabilities = asked.with(file);
            let slots_free = u16::try_from(*served.slots_free().borrow()).unwrap_or(u16::MAX);
            (capabilities != Capabilities::NONE).then(|| ModelOffer {
                name: served.info.name.clone(),
                digest: served.info.digest,
                projector: served.info.projector,
                capabilities,
                context_tokens: served.info.context_tokens,
                slots_total: served.info.slots,
                slots_free: slots_free.min(served.info.slots),
                input_price: served.price.input,
                output_price: served.price.output,
            })
        });
        self.sign(turn, addresses, models.collect())
    }

    fn sign(&self, turn: Turn, addresses: Vec<String>, mut models: Vec<ModelOffer>) -> Offer {
        models.truncate(if turn.is_serving { MODELS_PER_OFFER_MAX } else { 0 });
        let body = OfferBody {
            network: self.network.clone(),
            peer: self.key.public(),
            sequence: turn.sequence,
            issued_at: turn.issued_at,
            expires_at: turn.issued_at.plus_ms(OFFER_LIFETIME_MS_MAX),
            addresses: addresses.into_iter().take(ADDRESSES_PER_OFFER_MAX).collect(),
            models,
        };
        Offer::sign(body, &self.key)
    }
}
