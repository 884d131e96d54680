//! What a peer's conduct says of it: a number between 0 and 1 that can be explained.
//!
//! Everything a peer does adds a weight to one of a few tallies, good or bad. Each tally halves in
//! its half-life, so that what was long ago counts little. The score is the share of the good among
//! all, with a small weight that stands for a peer of which nothing is known: so one failure does not
//! condemn, and one answer does not acquit. Nothing is ever sent to others: a reputation is what this
//! node has seen itself.

mod deed;
mod record;
mod stored;

use std::collections::BTreeMap;

use arknet_types::{ModelName, PublicKey, Timestamp};

pub use deed::Deed;
use record::Record;
pub use record::{Counted, Explanation, Recent};
pub use stored::{StoredPeer, StoredRecent, StoredReputation, StoredTally};

/// Peers whose conduct is remembered.
pub const PEERS_MAX: usize = 4096;
/// Models whose usual wait for the first token is remembered.
const MODELS_MAX: usize = 256;
/// An answer is slow from so many times the usual on, and so much more.
const SLOW_FACTOR: u64 = 2;
const SLOW_MORE_MS: u64 = 250;
/// Weight of the newest wait in the usual one, in percent.
const NEWEST_PERCENT: u64 = 10;
/// Time that counts between two looks at who is connected: a node that slept has seen nothing.
const LOOK_MS_MAX: u64 = 300_000;
const MINUTE_MS: u64 = 60_000;

/// The conduct of all peers this node has dealt with.
#[derive(Clone, Debug, Default)]
pub struct Reputation {
    peers: BTreeMap<PublicKey, Record>,
    /// The usual wait for the first token of a model, over all peers.
    usual_ms: BTreeMap<ModelName, u64>,
    looked_at: Option<Timestamp>,
    /// Rises with every change, for whoever stores it.
    changes: u64,
}

impl Reputation {
    /// Nobody is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `peer` did this.
    pub fn record(&mut self, peer: PublicKey, deed: Deed, now: Timestamp) {
        self.of(peer, now).add(deed, 1.0, now);
        self.changes += 1;
    }

    /// The first token of an answer of `peer` came after `ms`. Slow is what takes much longer than
    /// others take for the same model.
    pub fn first_token(&mut self, peer: PublicKey, model: &ModelName, ms: u64, now: Timestamp) {
        if let Some(usual) = self.usual_ms.get(model)
            && ms > usual * SLOW_FACTOR + SLOW_MORE_MS
        {
            self.record(peer, Deed::Slow, now);
        }
        if !self.usual_ms.contains_key(model) {
            if self.usual_ms.len() >= MODELS_MAX {
                self.usual_ms.pop_first();
            }
            self.usual_ms.insert(model.clone(), ms);
            return;
        }
        let usual = self.usual_ms.get_mut(model).expect("it is there");
        // What is out of all proportion must not make everything usual.
        let ms = ms.min(*usual * 4 + SLOW_MORE_MS);
        *usual = (ms * NEWEST_PERCENT + *usual * (100 - NEWEST_PERCENT)) / 100;
    }

    /// Looks at who is connected; to be called about once a minute. Where nobody is, it may be this
    /// node that is cut off, and nothing counts.
    pub fn look(&mut self, is_connected: impl Fn(&PublicKey) -> bool, now: Timestamp) {
        let before = self.looked_at.replace(now);
        let Some(ms) = before.map(|before| now.since_ms(before)).filter(|ms| *ms > 0) else {
            return;
        };
        if !self.peers.keys().any(&is_connected) {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "a few minutes")]
        let minutes = ms.min(LOOK_MS_MAX) as f64 / MINUTE_MS as f64;
        for (peer, record) in &mut self.peers {
            let deed = if is_connected(peer) { Deed::Present } else { Deed::Absent };
            record.add(deed, minutes, now);
        }
        self.changes += 1;
    }

    /// How good `peer` is: 0 to 1.
    #[must_use]
    pub fn score(&self, peer: &PublicKey, now: Timestamp) -> f64 {
        self.peers.get(peer).map_or(record::NEUTRAL, |record| record.score(now))
    }

    /// The score in three steps, for decisions in which a small difference must not count: 0 is
    /// good or unknown, 2 is bad.
    #[must_use]
    pub fn step(&self, peer: &PublicKey, now: Timestamp) -> u8 {
        match self.score(peer, now) {
            score if score >= 0.5 => 0,
            score if score >= 0.25 => 1,
            _ => 2,
        }
    }

    /// What the score of `peer` is made of; none where nothing is known of it.
    #[must_use]
    pub fn explain(&self, peer: &PublicKey, now: Timestamp) -> Option<Explanation> {
        self.peers.get(peer).map(|record| record.explain(now))
    }

    /// Peers of which something is known.
    pub fn known(&self) -> impl Iterator<Item = &PublicKey> {
        self.peers.keys()
    }

    /// How often it has changed.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// What is to be stored.
    #[must_use]
    pub fn to_stored(&self) -> StoredReputation {
        let peers = self.peers.iter().map(|(peer, record)| record.to_stored(peer)).collect();
        StoredReputation { version: stored::VERSION, peers }
    }

    /// What was stored. Whatever in it makes no sense is left out: the file is the owner's, and may
    /// have been edited.
    #[must_use]
    pub fn from_stored(stored: &StoredReputation, now: Timestamp) -> Self {
        let peers = stored.peers.iter().take(PEERS_MAX).filter_map(|peer| {
            let key = peer.peer.parse().ok()?;
            Some((key, Record::from_stored(peer, now)))
        });
        Self { peers: peers.collect(), ..Self::default() }
    }

    fn of(&mut self, peer: PublicKey, now: Timestamp) -> &mut Record {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&peer) {
            let least =
                self.peers.iter().min_by(|(_, a), (_, b)| a.weight(now).total_cmp(&b.weight(now)));
            let least = *least.expect("there are many").0;
            self.peers.remove(&least);
        }
        self.peers.entry(peer).or_default()
    }
}

#[cfg(test)]
mod tests;
