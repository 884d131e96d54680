//! What goes by gossip; of offers, what is passed on, what is dropped, who is punished.

use std::time::{Duration, Instant};

use arknet_protocol::Inserted;
use arknet_types::{OfferError, Timestamp, encode};
use libp2p::{
    PeerId,
    gossipsub::{
        self, Behaviour, ConfigBuilder, IdentTopic, MessageAcceptance, MessageAuthenticity,
        PeerScoreParams, PeerScoreThresholds, PublishError, TopicScoreParams, ValidationMode,
    },
    identity::Keypair,
};

use crate::{
    addresses,
    flood::FloodGuard,
    limits::{ENVELOPE_BYTES, GOSSIP_BYTES_MAX, REPUBLISH_INTERVAL},
    offers::Offers,
    options::ChainOptions,
};

/// The topic of offers.
pub(crate) const OFFER_TOPIC: &str = "arknet/pool/offer/1";

/// What is spread among those that follow the chain, and judged by whoever listens to it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Topic {
    /// Free jobs that were served.
    FreeUses,
    /// Transactions that wait for a block.
    Transactions,
}

impl Topic {
    const ALL: [Self; 2] = [Self::FreeUses, Self::Transactions];

    const fn name(self) -> &'static str {
        match self {
            Self::FreeUses => "arknet/free/use/1",
            Self::Transactions => "arknet/tx/mempool/1",
        }
    }

    pub(crate) fn ident(self) -> IdentTopic {
        IdentTopic::new(self.name())
    }

    /// The topic of this name; none where it is that of offers.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }

    const fn bytes_max(self, chain: ChainOptions) -> usize {
        match self {
            Self::FreeUses => chain.free_use_bytes_max,
            Self::Transactions => chain.transactions_bytes_max,
        }
    }
}

/// Builds the behaviour, subscribed to the topic of offers and, where the chain is followed, to its
/// topics.
pub(crate) fn behaviour(
    keypair: &Keypair,
    chain: Option<ChainOptions>,
) -> Result<Behaviour, String> {
    let mut config = ConfigBuilder::default();
    if let Some(chain) = chain {
        for topic in Topic::ALL {
            let bytes_max = topic.bytes_max(chain) + ENVELOPE_BYTES;
            config.max_transmit_size_for_topic(bytes_max, topic.ident().hash());
        }
    }
    let config = config
        // Who published must be known, and signed: an offer counts only from its own peer.
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(GOSSIP_BYTES_MAX)
        .max_messages_per_rpc(Some(64))
        // In a network of two or three there are never enough peers for a mesh; with these bounds
        // that is no failure, and what we publish goes to everybody who listens.
        .mesh_n(6)
        .mesh_n_low(4)
        .mesh_n_high(12)
        .mesh_outbound_min(1)
        .flood_publish(true)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .history_length(3)
        .history_gossip(2)
        .duplicate_cache_time(Duration::from_secs(60))
        .build()
        .map_err(|error| error.to_string())?;
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    let mut behaviour = Behaviour::new(authenticity, config).map_err(str::to_owned)?;
    behaviour.with_peer_score(score(), thresholds())?;
    behaviour.subscribe(&IdentTopic::new(OFFER_TOPIC)).map_err(|error| error.to_string())?;
    if chain.is_some() {
        for topic in Topic::ALL {
            behaviour.subscribe(&topic.ident()).map_err(|error| error.to_string())?;
        }
    }
    Ok(behaviour)
}

/// Only what nobody does by accident costs score: invalid messages, and breaking the protocol over
/// and over. Being new, quiet, restarted, or behind one address with many others costs nothing, so
/// a household and a small network hold together.
fn score() -> PeerScoreParams {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_cap: 3600.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.99,
        first_message_deliveries_cap: 100.0,
        // Traffic is far too thin to expect messages from each neighbour.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Grows with the square: one invalid message costs 20, three 180, and a minute heals half.
        invalid_message_deliveries_weight: -20.0,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: Topic::ALL
            .map(Topic::ident)
            .into_iter()
            .chain([IdentTopic::new(OFFER_TOPIC)])
            .map(|name| (name.hash(), topic.clone()))
            .collect(),
        topic_score_cap: 50.0,
        app_specific_weight: 0.0,
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 6.0,
        retain_score: Duration::from_secs(600),
        ..PeerScoreParams::default()
    }
}

fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -20.0,
        publish_threshold: -60.0,
        graylist_threshold: -100.0,
        ..PeerScoreThresholds::default()
    }
}

/// Judges what arrives and publishes what is ours.
pub(crate) struct Gossip {
    offers: Offers,
    flood: FloodGuard,
    published_at: Option<Instant>,
    publish_due: Option<Instant>,
}

impl Gossip {
    pub(crate) fn new(offers: Offers) -> Self {
        Self { offers, flood: FloodGuard::default(), published_at: None, publish_due: None }
    }

    /// Judges a message, and takes the offer in it if it is good.
    pub(crate) fn judge(
        &mut self,
        message: &gossipsub::Message,
        forwarder: PeerId,
        now: (Timestamp, Instant),
    ) -> MessageAcceptance {
        let is_author = message.source == Some(forwarder);
        if !self.flood.allows(forwarder, is_author, now.1) {
            return MessageAcceptance::Reject;
        }
        let offer = match self.offers.parse(&message.data, now.0) {
            Ok(offer) => offer,
            // Two honest clocks may disagree about these, so nobody is blamed.
            Err(OfferError::Expired | OfferError::FutureDated) => return MessageAcceptance::Ignore,
            Err(error) => {
                tracing::debug!(%forwarder, %error, "offer rejected");
                return MessageAcceptance::Reject;
            }
        };
        if message.source.as_ref().and_then(addresses::public_key) != Some(offer.body.peer) {
            tracing::debug!(%forwarder, "offer rejected: published by another than its peer");
            return MessageAcceptance::Reject;
        }
        match self.offers.insert(offer, now.0, true) {
            Inserted::New | Inserted::Updated | Inserted::Departed => MessageAcceptance::Accept,
            Inserted::Stale | Inserted::RateLimited | Inserted::Full => MessageAcceptance::Ignore,
        }
    }

    /// Publishes our offer now. With nobody there to hear it, it goes out when somebody comes.
    pub(crate) fn publish(&mut self, behaviour: &mut Behaviour, now: (Timestamp, Instant)) {
        self.publish_due = None;
        let Some(offer) = self.offers.own(now.0) else { return };
        match behaviour.publish(IdentTopic::new(OFFER_TOPIC), encode(&offer)) {
            Ok(_) => self.published_at = Some(now.1),
            Err(PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => {
                tracing::debug!(%error, "offer not published, trying again");
                self.publish_due = Some(now.1 + REPUBLISH_INTERVAL);
            }
        }
    }

    /// Somebody new listens: our offer goes out again, not more than once in the interval.
    pub(crate) fn subscribed(&mut self, now: Instant) {
        let earliest = self.published_at.map_or(now, |at| at + REPUBLISH_INTERVAL);
        self.publish_due.get_or_insert_with(|| earliest.max(now));
    }

    /// When our offer is to be published again.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.publish_due
    }

    /// Whether something was published so lately that it may still be on its way out.
    pub(crate) fn published_within(&self, time: Duration, now: Instant) -> bool {
        self.published_at.is_some_and(|at| now.saturating_duration_since(at) < time)
    }

    /// Forgets what is no longer needed.
    pub(crate) fn tend(&mut self, now: Instant, is_connected: impl Fn(&PeerId) -> bool) {
        self.flood.tend(now, is_connected);
    }
}

#[cfg(test)]
mod tests;
