use std::collections::{BTreeMap, BTreeSet};

use arknet_protocol::OfferTable;
use arknet_types::{Domain, Offer, PublicKey, Timestamp, encode, limits::OFFERS_MAX};

use super::Checkers;
use crate::{network::NodeId, trace::fingerprint};

/// What was really offered, and whom each client has reason to leave alone.
#[derive(Debug, Default)]
pub(super) struct Offers {
    signed: BTreeMap<u64, PublicKey>,
    /// Peers a client lost, or heard the goodbye of, and has not heard since.
    silent: BTreeSet<(NodeId, PublicKey)>,
    newest: BTreeMap<(NodeId, PublicKey), u64>,
}

impl Offers {
    pub(super) fn crashed(&mut self, client: NodeId) {
        self.silent.retain(|(node, _)| *node != client);
        self.newest.retain(|(node, _), _| *node != client);
    }
}

impl Checkers {
    /// The owner of the key has really signed this.
    pub(crate) fn offer_signed(&mut self, offer: &Offer) {
        self.offers.signed.insert(fingerprint(&encode(offer)), offer.body.peer);
    }

    /// A client has taken an offer into its table.
    pub(crate) fn offer_taken(&mut self, client: NodeId, offer: &Offer) {
        let peer = offer.body.peer;
        let signer = self.offers.signed.get(&fingerprint(&encode(offer)));
        let is_genuine = signer == Some(&peer);
        self.hold(is_genuine, || {
            format!("client {client} believes an offer that {peer:?} never made")
        });
        let newest = self.offers.newest.insert((client, peer), offer.body.sequence);
        self.hold(newest.is_none_or(|n| n < offer.body.sequence), || {
            format!("client {client} went back to an older offer")
        });
        if offer.body.models.is_empty() {
            self.offers.silent.insert((client, peer));
        } else {
            self.offers.silent.remove(&(client, peer));
        }
    }

    /// A client has dropped what expired: older offers are news again.
    pub(crate) fn offers_dropped(&mut self, client: NodeId, table: &OfferTable) {
        self.offers.newest.retain(|(node, peer), _| *node != client || table.get(peer).is_some());
    }

    /// A client could not reach a peer, or it fell silent.
    pub(crate) fn lost(&mut self, client: NodeId, peer: PublicKey) {
        self.offers.silent.insert((client, peer));
    }

    /// A client heard a peer on a stream.
    pub(crate) fn heard(&mut self, client: NodeId, peer: PublicKey) {
        self.offers.silent.remove(&(client, peer));
    }

    /// A client sends a request to a peer.
    pub(crate) fn chosen(
        &mut self,
        client: NodeId,
        peer: PublicKey,
        tried: &[PublicKey],
        table: &OfferTable,
        now: Timestamp,
    ) {
        let is_silent = self.offers.silent.contains(&(client, peer));
        self.hold(!is_silent, || {
            format!("client {client} chose {peer:?}, which was lost and has not spoken since")
        });
        self.hold(!tried.contains(&peer), || {
            format!("client {client} tries {peer:?} twice for one request")
        });
        let counts = table
            .get(&peer)
            .is_some_and(|offer| offer.body.expires_at > now && !offer.body.models.is_empty());
        self.hold(counts, || {
            format!("client {client} chose {peer:?} without an offer that counts")
        });
    }

    /// The size of a table.
    pub(crate) fn table_size(&mut self, client: NodeId, table: &OfferTable) {
        self.hold(table.len() <= OFFERS_MAX, || {
            format!("client {client} remembers {} peers", table.len())
        });
    }

    /// Every offer that counts in a table is signed by the peer it speaks for.
    pub(crate) fn table_is_genuine(&mut self, client: NodeId, table: &OfferTable, now: Timestamp) {
        for offer in table.living(now) {
            let peer = offer.body.peer;
            let holds = peer.verifies(Domain::OFFER, &offer.body, &offer.signature);
            self.hold(holds, || format!("client {client} holds a forged offer of {peer:?}"));
        }
    }
}
