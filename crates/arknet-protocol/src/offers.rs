//! Who serves what, as far as this node knows.

use std::collections::BTreeMap;

use arknet_types::{
    Capabilities, ModelName, ModelOffer, Offer, PublicKey, Timestamp, limits::OFFERS_MAX,
};

/// Offers one peer may send in a burst before it is slowed to one each [`REFILL_MS`].
const BURST: u32 = 20;
/// Milliseconds after which one more offer of the same peer is taken.
const REFILL_MS: u64 = 500;

/// What became of an offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Inserted {
    /// The first from this peer.
    New,
    /// Newer than the one known.
    Updated,
    /// The goodbye of the peer.
    Departed,
    /// Not newer than the one known. Normal: offers travel on many paths.
    Stale,
    /// The peer sends more offers than any honest one.
    RateLimited,
    /// The table is full of living peers.
    Full,
}

impl Inserted {
    /// Whether the table changed.
    #[must_use]
    pub const fn is_news(self) -> bool {
        matches!(self, Self::New | Self::Updated | Self::Departed)
    }
}

#[derive(Debug)]
struct Entry {
    offer: Offer,
    received_at: Timestamp,
    /// Could not be reached since this offer was heard.
    unreachable: bool,
    allowance: u32,
    refilled_at: Timestamp,
}

/// The offers known, one for each peer. Holds at most [`OFFERS_MAX`].
#[derive(Debug, Default)]
pub struct OfferTable {
    entries: BTreeMap<PublicKey, Entry>,
}

impl OfferTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an offer that [`Offer::parse`] has accepted.
    pub fn insert(&mut self, offer: Offer, now: Timestamp) -> Inserted {
        let peer = offer.body.peer;
        if let Some(entry) = self.entries.get_mut(&peer) {
            return entry.update(offer, now);
        }
        if self.entries.len() >= OFFERS_MAX && !self.make_room(now) {
            return Inserted::Full;
        }
        let departed = offer.body.models.is_empty();
        let (allowance, unreachable) = (BURST - 1, false);
        let entry = Entry { offer, received_at: now, unreachable, allowance, refilled_at: now };
        self.entries.insert(peer, entry);
        assert!(self.entries.len() <= OFFERS_MAX, "the table keeps its limit");
        if departed { Inserted::Departed } else { Inserted::New }
    }

    /// Drops what has expired. Returns whether anything went.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.offer.body.expires_at > now);
        self.entries.len() != before
    }

    /// Takes a peer out of routing until it sends a newer offer or a connection to it stands.
    pub fn mark_unreachable(&mut self, peer: &PublicKey) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.unreachable = true;
        }
    }

    /// Puts a peer back into routing: a connection to it stands.
    pub fn mark_reachable(&mut self, peer: &PublicKey) {
        if let Some(entry) = self.entries.get_mut(peer) {
            entry.unreachable = false;
        }
    }

    /// The peers that serve `model` (a name or a digest), can do what is needed, and can be reached
    /// as far as is known.
    pub fn serving<'a>(
        &'a self,
        model: &'a ModelName,
        needs: Capabilities,
        now: Timestamp,
    ) -> impl Iterator<Item = (&'a Offer, &'a ModelOffer)> {
        self.living(now)
            .filter_map(move |offer| Some((offer, offered(offer, model)?)))
            .filter(move |(_, offered)| offered.capabilities.contains(needs))
    }

    /// The offers that count now, of peers that can be reached as far as is known.
    pub fn living(&self, now: Timestamp) -> impl Iterator<Item = &Offer> {
        self.entries
            .values()
            .filter(move |e| !e.unreachable && e.offer.body.expires_at > now)
            .map(|e| &e.offer)
            .filter(|offer| !offer.body.models.is_empty())
    }

    /// The offer of one peer, whether or not it can be reached.
    #[must_use]
    pub fn get(&self, peer: &PublicKey) -> Option<&Offer> {
        self.entries.get(peer).map(|entry| &entry.offer)
    }

    /// When the offer of one peer came.
    #[must_use]
    pub fn received_at(&self, peer: &PublicKey) -> Option<Timestamp> {
        self.entries.get(peer).map(|entry| entry.received_at)
    }

    /// How many peers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no peer is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes room for one more by forgetting somebody who cannot be used anyway.
    fn make_room(&mut self, now: Timestamp) -> bool {
        self.expire(now);
        if self.entries.len() < OFFERS_MAX {
            return true;
        }
        let useless =
            self.entries.iter().find(|(_, e)| e.unreachable || e.offer.body.models.is_empty());
        let Some(peer) = useless.map(|(peer, _)| *peer) else {
            return false;
        };
        self.entries.remove(&peer);
        true
    }
}

impl Entry {
    fn update(&mut self, offer: Offer, now: Timestamp) -> Inserted {
        if offer.body.sequence <= self.offer.body.sequence {
            return Inserted::Stale;
        }
        let refill = now.since_ms(self.refilled_at) / REFILL_MS;
        if refill > 0 {
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            self.allowance = self.allowance.saturating_add(refill).min(BURST);
            self.refilled_at = now;
        }
        if self.allowance == 0 {
            return Inserted::RateLimited;
        }
        self.allowance -= 1;
        self.unreachable = false;
        self.offer = offer;
        self.received_at = now;
        if self.offer.body.models.is_empty() { Inserted::Departed } else { Inserted::Updated }
    }
}

fn offered<'a>(offer: &'a Offer, model: &ModelName) -> Option<&'a ModelOffer> {
    offer.model(model).or_else(|| {
        let digest = model.digest()?;
        offer.body.models.iter().find(|m| m.digest == Some(digest))
    })
}

#[cfg(test)]
mod tests {
    use arknet_types::{Atoms, ModelDigest, NetworkId, OfferBody, Signature};

    use super::*;

    fn offer(peer: u32, sequence: u64, models: &[&str]) -> Offer {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&peer.to_be_bytes());
        let models = models.iter().map(|name| ModelOffer {
            name: ModelName::new(*name).unwrap(),
            digest: Some(ModelDigest([7; 32])),
            projector: None,
            capabilities: Capabilities::NONE,
            context_tokens: 1,
            slots_total: 1,
            slots_free: 1,
            input_price: Atoms::ZERO,
            output_price: Atoms::ZERO,
        });
        Offer {
            body: OfferBody {
                network: NetworkId::new("test").unwrap(),
                peer: PublicKey(key),
                sequence,
                issued_at: Timestamp(0),
                expires_at: Timestamp(1000),
                addresses: vec![],
                models: models.collect(),
            },
            signature: Signature([0; 64]),
        }
    }

    fn serving(table: &OfferTable, model: &str, now: u64) -> usize {
        let model = ModelName::new(model).unwrap();
        table.serving(&model, Capabilities::NONE, Timestamp(now)).count()
    }

    #[test]
    fn the_newest_offer_of_a_peer_counts_until_it_expires() {
        let mut table = OfferTable::new();
        assert_eq!(table.insert(offer(1, 5, &["m"]), Timestamp(0)), Inserted::New);
        assert_eq!(table.insert(offer(1, 5, &["n"]), Timestamp(0)), Inserted::Stale);
        assert_eq!(table.insert(offer(1, 6, &["n"]), Timestamp(0)), Inserted::Updated);
        assert_eq!((serving(&table, "m", 0), serving(&table, "n", 999)), (0, 1));
        assert_eq!(serving(&table, "n", 1000), 0);
        assert!(table.expire(Timestamp(1000)) && table.is_empty());
    }

    #[test]
    fn a_model_is_found_by_its_digest_too() {
        let mut table = OfferTable::new();
        table.insert(offer(1, 1, &["m"]), Timestamp(0));
        assert_eq!(serving(&table, &ModelDigest([7; 32]).to_string(), 0), 1);
        assert_eq!(serving(&table, &ModelDigest([8; 32]).to_string(), 0), 0);
    }

    #[test]
    fn a_goodbye_outlives_older_offers_still_travelling() {
        let mut table = OfferTable::new();
        table.insert(offer(1, 1, &["m"]), Timestamp(0));
        assert_eq!(table.insert(offer(1, 3, &[]), Timestamp(0)), Inserted::Departed);
        assert_eq!(table.insert(offer(1, 2, &["m"]), Timestamp(0)), Inserted::Stale);
        assert_eq!(serving(&table, "m", 0), 0);
    }

    #[test]
    fn a_dead_peer_stays_out_until_it_speaks_again() {
        let mut table = OfferTable::new();
        table.insert(offer(1, 1, &["m"]), Timestamp(0));
        table.mark_unreachable(&offer(1, 1, &[]).body.peer);
        assert_eq!(serving(&table, "m", 0), 0);
        table.insert(offer(1, 1, &["m"]), Timestamp(0));
        assert_eq!(serving(&table, "m", 0), 0, "an old offer proves nothing");
        table.insert(offer(1, 2, &["m"]), Timestamp(0));
        assert_eq!(serving(&table, "m", 0), 1);
    }

    #[test]
    fn a_flood_from_one_peer_is_slowed() {
        let mut table = OfferTable::new();
        let taken =
            (0..1000).filter(|i| table.insert(offer(1, i + 1, &["m"]), Timestamp(0)).is_news());
        assert_eq!(taken.count(), BURST as usize);
        let later = Timestamp(REFILL_MS);
        assert_eq!(table.insert(offer(1, 2000, &["m"]), later), Inserted::Updated);
        assert_eq!(table.insert(offer(1, 2001, &["m"]), later), Inserted::RateLimited);
    }

    #[test]
    fn a_full_table_keeps_the_living() {
        let mut table = OfferTable::new();
        for peer in 0..u32::try_from(OFFERS_MAX).unwrap() {
            assert_eq!(table.insert(offer(peer, 1, &["m"]), Timestamp(0)), Inserted::New);
        }
        assert_eq!(table.insert(offer(900_000, 1, &["m"]), Timestamp(0)), Inserted::Full);
        table.mark_unreachable(&offer(7, 1, &[]).body.peer);
        assert_eq!(table.insert(offer(900_000, 1, &["m"]), Timestamp(0)), Inserted::New);
        assert_eq!(table.len(), OFFERS_MAX);
    }
}
