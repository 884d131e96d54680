use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Atoms, Capabilities, DecodeError, Domain, KeyPair, ModelDigest, ModelName, NetworkId,
    PublicKey, Signature, Timestamp, codec,
    limits::{
        ADDRESS_BYTES_MAX, ADDRESSES_PER_OFFER_MAX, CLOCK_SKEW_MS_MAX, MODELS_PER_OFFER_MAX,
        OFFER_BYTES_MAX, OFFER_LIFETIME_MS_MAX,
    },
};

/// What a peer serves, under its own signature. See `spec/wire.md`, Offer.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct OfferBody {
    /// The network this is for.
    pub network: NetworkId,
    /// The peer that serves, and signs.
    pub peer: PublicKey,
    /// Rises with every offer of the peer, across restarts too.
    pub sequence: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Timestamp,
    /// Where the peer can be reached: multiaddrs in text form.
    #[borsh(deserialize_with = "addresses")]
    pub addresses: Vec<String>,
    /// What it serves. None at all is the goodbye of a departing peer.
    #[borsh(deserialize_with = "codec::list::<_, _, MODELS_PER_OFFER_MAX>")]
    pub models: Vec<ModelOffer>,
}

/// One model in an offer.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ModelOffer {
    /// What the peer calls it.
    pub name: ModelName,
    /// SHA-256 of the file; none where the file is not known, as behind a hosted service.
    pub digest: Option<ModelDigest>,
    /// SHA-256 of the file beside it that turns pictures into what it reads; none without one.
    pub projector: Option<ModelDigest>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tokens of input and answer together.
    pub context_tokens: u32,
    /// Requests served at once.
    pub slots_total: u16,
    /// Of these, free when the offer was signed.
    pub slots_free: u16,
    /// Price of a million input tokens; zero is free.
    pub input_price: Atoms,
    /// Price of a million generated tokens; zero is free.
    pub output_price: Atoms,
}

/// An offer with the peer's signature.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// What is offered.
    pub body: OfferBody,
    /// The peer's signature in [`Domain::OFFER`].
    pub signature: Signature,
}

/// Why an offer does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// The bytes are not an offer.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its time is over.
    #[error("the offer has expired")]
    Expired,
    /// Its time has not come, beyond what clocks may differ.
    #[error("the offer is dated in the future")]
    FutureDated,
    /// It would live longer than an offer may, or end before it begins.
    #[error("the offer's lifetime is out of bounds")]
    Lifetime,
    /// It is for another network.
    #[error("the offer is for another network")]
    Network,
    /// The peer did not sign this.
    #[error("the offer's signature does not match")]
    Signature,
}

impl Offer {
    /// Signs `body` with the peer key it names.
    ///
    /// # Panics
    /// When `peer` is not the peer that `body` names.
    #[must_use]
    pub fn sign(body: OfferBody, peer: &KeyPair) -> Self {
        assert_eq!(body.peer, peer.public(), "the peer named is the one that signs");
        let signature = peer.sign(Domain::OFFER, &body);
        Self { body, signature }
    }

    /// Decodes an offer and checks all that can be checked without knowing others: form, network,
    /// times, signature. The cheap checks come first.
    pub fn parse(bytes: &[u8], network: &NetworkId, now: Timestamp) -> Result<Self, OfferError> {
        if bytes.len() > OFFER_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: OFFER_BYTES_MAX, found: bytes.len() }.into());
        }
        let offer: Self = codec::decode(bytes)?;
        let OfferBody { issued_at, expires_at, .. } = offer.body;
        if &offer.body.network != network {
            return Err(OfferError::Network);
        }
        if expires_at <= issued_at || expires_at.since_ms(issued_at) > OFFER_LIFETIME_MS_MAX {
            return Err(OfferError::Lifetime);
        }
        if now >= expires_at {
            return Err(OfferError::Expired);
        }
        if issued_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
            return Err(OfferError::FutureDated);
        }
        if !offer.body.peer.verifies(Domain::OFFER, &offer.body, &offer.signature) {
            return Err(OfferError::Signature);
        }
        Ok(offer)
    }

    /// The offered model of this name.
    #[must_use]
    pub fn model(&self, name: &ModelName) -> Option<&ModelOffer> {
        self.body.models.iter().find(|m| &m.name == name)
    }
}

fn addresses<R: io::Read>(reader: &mut R) -> io::Result<Vec<String>> {
    let length = u32::deserialize_reader(reader)? as usize;
    if length > ADDRESSES_PER_OFFER_MAX {
        return Err(codec::invalid(format!(
            "{length} addresses, at most {ADDRESSES_PER_OFFER_MAX}"
        )));
    }
    (0..length).map(|_| codec::text::<_, ADDRESS_BYTES_MAX>(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(peer: &KeyPair) -> OfferBody {
        OfferBody {
            network: NetworkId::new("test").unwrap(),
            peer: peer.public(),
            sequence: 1,
            issued_at: Timestamp(100_000),
            expires_at: Timestamp(100_000 + OFFER_LIFETIME_MS_MAX),
            addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
            models: vec![],
        }
    }

    fn parse(offer: &Offer, now: u64) -> Result<Offer, OfferError> {
        Offer::parse(&crate::encode(offer), &NetworkId::new("test").unwrap(), Timestamp(now))
    }

    #[test]
    fn an_offer_signed_by_one_key_and_published_for_another_is_dropped() {
        let (mine, other) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
        let mut forged = Offer::sign(body(&mine), &mine);
        assert!(parse(&forged, 100_001).is_ok());
        forged.body.peer = other.public();
        assert!(matches!(parse(&forged, 100_001), Err(OfferError::Signature)));
    }

    #[test]
    fn an_offer_counts_within_its_time_and_network() {
        let key = KeyPair::from_seed(&[1; 32]);
        let offer = Offer::sign(body(&key), &key);
        assert!(parse(&offer, 100_000 - CLOCK_SKEW_MS_MAX).is_ok());
        let early = parse(&offer, 100_000 - CLOCK_SKEW_MS_MAX - 1);
        assert!(matches!(early, Err(OfferError::FutureDated)));
        let late = parse(&offer, 100_000 + OFFER_LIFETIME_MS_MAX);
        assert!(matches!(late, Err(OfferError::Expired)));
        let elsewhere = Offer::parse(
            &crate::encode(&offer),
            &NetworkId::new("other").unwrap(),
            Timestamp(100_001),
        );
        assert!(matches!(elsewhere, Err(OfferError::Network)));
        let mut long = body(&key);
        long.expires_at = long.expires_at.plus_ms(1);
        assert!(matches!(parse(&Offer::sign(long, &key), 100_001), Err(OfferError::Lifetime)));
    }

    #[test]
    fn lists_are_bounded() {
        let key = KeyPair::from_seed(&[1; 32]);
        let mut full = body(&key);
        full.addresses = vec!["a".repeat(ADDRESS_BYTES_MAX); ADDRESSES_PER_OFFER_MAX];
        let model = ModelOffer {
            name: ModelName::new("m".repeat(128)).unwrap(),
            digest: Some(ModelDigest([0; 32])),
            projector: Some(ModelDigest([0; 32])),
            capabilities: Capabilities::GENERATE,
            context_tokens: 1,
            slots_total: 1,
            slots_free: 1,
            input_price: Atoms::ZERO,
            output_price: Atoms::ZERO,
        };
        full.models = vec![model.clone(); MODELS_PER_OFFER_MAX];
        assert!(parse(&Offer::sign(full.clone(), &key), 100_001).is_ok(), "the fullest offer fits");
        let mut over = full.clone();
        over.addresses.push("a".into());
        assert!(parse(&Offer::sign(over, &key), 100_001).is_err());
        let mut over = full.clone();
        over.models.push(model);
        assert!(parse(&Offer::sign(over, &key), 100_001).is_err());
        full.addresses[0].push('a');
        assert!(parse(&Offer::sign(full, &key), 100_001).is_err());
    }
}
