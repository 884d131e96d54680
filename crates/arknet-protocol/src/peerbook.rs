//! The peer book: who was seen, where and by which way, and whom to dial for it.
//!
//! Every way of finding peers brings the same thing, a [`Sighting`]. What it says is a claim until
//! the peer has proved its key in a handshake: anybody may announce any key under any label at any
//! address. So sightings are kept apart by source, and none replaces what another source said.

use std::collections::{BTreeMap, BTreeSet};

use arknet_types::{NodeId, PublicKey, Timestamp, limits::ADDRESS_BYTES_MAX};

use crate::{
    Backoff,
    limits::{
        ADDRESSES_PER_SIGHTING_MAX, ADDRESSES_PROVED_MAX, ADDRESSES_WANTED_MAX,
        PEERS_PER_SOURCE_MAX, PROOF_BACKOFF_MS, PROOF_TRIES_MAX, PROOFS_AT_ONCE_MAX,
    },
};

/// How a peer was found. Addresses are dialled in this order: the nearest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Source {
    /// DNS-SD on the local network.
    Mdns,
    /// The configuration names it.
    Static,
    /// It answered at an address that a tunnel leads to.
    Tunnel,
    /// It is, or was a moment ago, connected.
    Connected,
    /// The public directory lists it.
    Registry,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Mdns, Self::Static, Self::Tunnel, Self::Connected, Self::Registry];

    /// What it is called in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mdns => "mdns",
            Self::Static => "static",
            Self::Tunnel => "tunnel",
            Self::Connected => "connected",
            Self::Registry => "registry",
        }
    }

    /// How long a sighting counts that nobody repeats, in milliseconds; for good when none.
    const fn lifetime_ms(self) -> Option<u64> {
        match self {
            // Its driver repeats what is in the cache of DNS-SD every half minute.
            Self::Mdns => Some(150_000),
            Self::Static => None,
            Self::Tunnel => Some(900_000),
            // Counted from the end of the connection.
            Self::Connected => Some(600_000),
            Self::Registry => Some(3_600_000),
        }
    }

    /// Whether peers of this source are dialled before anybody approved them. A directory lists
    /// thousands that have nothing to do with this node.
    const fn is_near(self) -> bool {
        matches!(self, Self::Mdns | Self::Static | Self::Tunnel)
    }
}

/// What tells one offer of a peer from another of it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct OfferDigest(pub [u8; 8]);

/// A peer was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// By which way.
    pub source: Source,
    /// The key it claims, or has proved.
    pub peer: PublicKey,
    /// What it calls itself.
    pub node_id: Option<NodeId>,
    /// Where it can be dialled: multiaddrs without the peer, the best first.
    pub addresses: Vec<String>,
    /// The digest of its offer.
    pub offer: Option<OfferDigest>,
    /// The version of the protocol it speaks.
    pub version: Option<u16>,
    /// When.
    pub at: Timestamp,
}

/// What a sighting changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Noticed {
    /// The peer was not known.
    New,
    /// The source had not told of the peer, or told something else.
    Changed,
    /// Nothing but the time.
    Same,
    /// Nothing, as the source has too many peers.
    Full,
    /// Nothing, as the peer is this node.
    Own,
}

/// A peer to be dialled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wanted {
    /// The peer.
    pub peer: PublicKey,
    /// Where, the best first.
    pub addresses: Vec<String>,
    /// Rises when somebody saw the peer who had not seen it, or saw it elsewhere: a dial that
    /// failed before is worth another one at once.
    pub news: u64,
}

/// A peer as the book knows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    /// Its key.
    pub peer: PublicKey,
    /// What it calls itself: over its connection, if it ever did, else as its sources say.
    pub node_id: Option<NodeId>,
    /// Where it can be dialled, the best first.
    pub addresses: Vec<String>,
    /// Who saw it.
    pub sources: Vec<Source>,
    /// The digest of its offer.
    pub offer: Option<OfferDigest>,
    /// The version of the protocol it speaks.
    pub version: Option<u16>,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// Whether it has proved its key, so that it is who its sources say.
    pub proved: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether the owner of this node approved it.
    pub approved: bool,
}

/// What one source said last of one peer.
#[derive(Debug)]
struct Seen {
    node_id: Option<NodeId>,
    addresses: Vec<String>,
    offer: Option<OfferDigest>,
    version: Option<u16>,
    at: Timestamp,
}

/// How far the proof of an unapproved peer's key is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Proof {
    Due { at: Timestamp },
    Asked,
    Done,
    GivenUp,
}

#[derive(Debug)]
struct Entry {
    seen: BTreeMap<Source, Seen>,
    first_seen: Timestamp,
    proved_at: Vec<String>,
    connected: bool,
    proof: Proof,
    backoff: Backoff,
    failures: u32,
    tried_at: Option<Timestamp>,
    news: u64,
}

/// Who was seen, with the source of every sighting.
#[derive(Debug)]
pub struct PeerBook {
    me: PublicKey,
    approved: BTreeSet<PublicKey>,
    entries: BTreeMap<PublicKey, Entry>,
    counts: BTreeMap<Source, usize>,
    news: u64,
}

impl PeerBook {
    /// An empty book of the node with this key.
    #[must_use]
    pub const fn new(me: PublicKey) -> Self {
        Self {
            me,
            approved: BTreeSet::new(),
            entries: BTreeMap::new(),
            counts: BTreeMap::new(),
            news: 0,
        }
    }

    /// Takes note of a sighting. What is beyond its bounds in it is left out.
    pub fn saw(&mut self, sighting: Sighting) -> Noticed {
        let Sighting { source, peer, at, .. } = sighting;
        if peer == self.me {
            return Noticed::Own;
        }
        let has = self.entries.get(&peer).is_some_and(|entry| entry.seen.contains_key(&source));
        if !has && !self.make_room(source, &peer) {
            return Noticed::Full;
        }
        let is_new = !self.entries.contains_key(&peer);
        self.news += 1;
        let news = self.news;
        let entry = self.entries.entry(peer).or_insert_with(|| Entry::new(at, news));
        let mut addresses: Vec<String> = Vec::new();
        for address in sighting.addresses {
            if address.len() <= ADDRESS_BYTES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.truncate(ADDRESSES_PER_SIGHTING_MAX);
        let Sighting { node_id, offer, version, .. } = sighting;
        let seen = Seen { node_id, addresses, offer, version, at };
        let before = entry.seen.get(&source);
        let is_elsewhere = before.is_none_or(|before| before.addresses != seen.addresses);
        let is_same = before.is_some_and(|before| before.says(&seen));
        entry.seen.insert(source, seen);
        if !has {
            *self.counts.entry(source).or_default() += 1;
        }
        if is_elsewhere && source != Source::Connected {
            entry.news = news;
            entry.try_again(at);
        }
        match (is_new, is_same) {
            (true, _) => Noticed::New,
            (false, true) => Noticed::Same,
            (false, false) => Noticed::Changed,
        }
    }

    /// Whether `source` may tell of one more peer. Where it has too many, one that was dialled in
    /// vain leaves: so names that nobody answers to do not keep out those who are there.
    fn make_room(&mut self, source: Source, peer: &PublicKey) -> bool {
        let count = self.counts.get(&source).copied().unwrap_or_default();
        if count < PEERS_PER_SOURCE_MAX || self.approved.contains(peer) {
            return true;
        }
        let vain = self.entries.iter().filter(|(known, entry)| {
            entry.seen.contains_key(&source)
                && entry.failures > 0
                && entry.proof != Proof::Done
                && !entry.connected
                && !self.approved.contains(known)
        });
        let vainest = vain.max_by_key(|(_, entry)| entry.failures).map(|(known, _)| *known);
        vainest.is_some_and(|known| self.goodbye(source, &known))
    }

    /// A source says that a peer is gone; whether that changed anything.
    pub fn goodbye(&mut self, source: Source, peer: &PublicKey) -> bool {
        let Some(entry) = self.entries.get_mut(peer) else { return false };
        let had = entry.seen.remove(&source).is_some();
        if had && let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
        }
        self.forget_unseen(peer);
        had
    }

    /// A connection to a peer stands, so it has proved its key. `address` is where it was dialled,
    /// `node_id` what it calls itself over the connection.
    pub fn connected(
        &mut self,
        peer: PublicKey,
        node_id: Option<NodeId>,
        address: Option<String>,
        at: Timestamp,
    ) -> Noticed {
        let before = self.entries.get(&peer).and_then(|entry| entry.seen.get(&Source::Connected));
        let sighting = Sighting {
            source: Source::Connected,
            peer,
            // What it said stands until it says something else.
            node_id: node_id.or_else(|| before.and_then(|seen| seen.node_id.clone())),
            addresses: address.clone().into_iter().collect(),
            offer: None,
            version: None,
            at,
        };
        let noticed = self.saw(sighting);
        let Some(entry) = self.entries.get_mut(&peer) else { return noticed };
        let is_first = !entry.connected;
        entry.connected = true;
        entry.proof = Proof::Done;
        entry.failures = 0;
        entry.backoff.succeed();
        if let Some(address) = address.filter(|address| address.len() <= ADDRESS_BYTES_MAX) {
            entry.proved_at.retain(|known| *known != address);
            entry.proved_at.insert(0, address);
            entry.proved_at.truncate(ADDRESSES_PROVED_MAX);
        }
        if noticed == Noticed::Same && is_first { Noticed::Changed } else { noticed }
    }

    /// The last connection to a peer is gone; whether one was known.
    pub fn disconnected(&mut self, peer: &PublicKey, at: Timestamp) -> bool {
        let Some(entry) = self.entries.get_mut(peer) else { return false };
        let was = std::mem::replace(&mut entry.connected, false);
        if was && let Some(seen) = entry.seen.get_mut(&Source::Connected) {
            seen.at = at;
        }
        self.forget_unseen(peer);
        was
    }

    /// These peers are approved, and no others; whether that changed anything.
    pub fn approve(&mut self, approved: BTreeSet<PublicKey>, at: Timestamp) -> bool {
        if self.approved == approved {
            return false;
        }
        let before = std::mem::replace(&mut self.approved, approved);
        for peer in before {
            self.forget_unseen(&peer);
        }
        for entry in self.entries.values_mut() {
            entry.try_again(at);
        }
        true
    }

    /// Forgets what was not repeated in time; whether anything was.
    pub fn expire(&mut self, now: Timestamp) -> bool {
        let mut late = Vec::new();
        for (peer, entry) in &self.entries {
            let is_late = |(source, seen): &(&Source, &Seen)| {
                let kept = **source == Source::Connected && entry.connected;
                !kept && source.lifetime_ms().is_some_and(|ms| now.since_ms(seen.at) >= ms)
            };
            late.extend(entry.seen.iter().filter(is_late).map(|(source, _)| (*source, *peer)));
        }
        for (source, peer) in &late {
            self.goodbye(*source, peer);
        }
        !late.is_empty()
    }

    fn forget_unseen(&mut self, peer: &PublicKey) {
        let Some(entry) = self.entries.get(peer) else { return };
        // An approved peer is dialled where it was last, whoever stopped telling of it.
        let is_kept = self.approved.contains(peer) && !entry.proved_at.is_empty();
        if entry.seen.is_empty() && !entry.connected && !is_kept {
            self.entries.remove(peer);
        }
    }

    /// The approved peers to which connections are wanted, always.
    pub fn keep(&self) -> impl Iterator<Item = Wanted> {
        let known = self.approved.iter().filter_map(|peer| Some((peer, self.entries.get(peer)?)));
        known.map(|(peer, entry)| entry.wanted(*peer))
    }

    /// The next unapproved peer to dial once, so that it proves its key and says its label. Answer
    /// with [`PeerBook::connected`] or [`PeerBook::unreachable`].
    pub fn next_proof(&mut self, now: Timestamp) -> Option<Wanted> {
        let asked = self.entries.values().filter(|entry| entry.proof == Proof::Asked).count();
        if asked >= PROOFS_AT_ONCE_MAX {
            return None;
        }
        let (approved, entries) = (&self.approved, &mut self.entries);
        let (peer, entry) = entries.iter_mut().find(|(peer, entry)| {
            !approved.contains(peer) && entry.proof_due().is_some_and(|at| at <= now)
        })?;
        entry.proof = Proof::Asked;
        entry.tried_at = Some(now);
        Some(entry.wanted(*peer))
    }

    /// An unapproved peer did not answer, or another one did in its place.
    pub fn unreachable(&mut self, peer: &PublicKey, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(peer) else { return };
        if entry.proof != Proof::Asked {
            return;
        }
        entry.failures += 1;
        // Whom the owner named is tried for as long as it is named.
        let is_named = entry.seen.contains_key(&Source::Static);
        if entry.failures >= PROOF_TRIES_MAX && !is_named {
            entry.proof = Proof::GivenUp;
            return;
        }
        let salt = peer.0.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(*byte));
        entry.proof = Proof::Due { at: now.plus_ms(entry.backoff.fail(salt)) };
    }

    /// When a proof is due, or something may expire.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        let asked = self.entries.values().filter(|entry| entry.proof == Proof::Asked).count();
        let has_room = asked < PROOFS_AT_ONCE_MAX;
        let times = self.entries.iter().flat_map(|(peer, entry)| {
            let may_prove = has_room && !self.approved.contains(peer);
            let proof = may_prove.then(|| entry.proof_due()).flatten();
            let ends = entry.seen.iter().filter_map(|(source, seen)| {
                let kept = *source == Source::Connected && entry.connected;
                (!kept).then(|| source.lifetime_ms().map(|ms| seen.at.plus_ms(ms))).flatten()
            });
            proof.into_iter().chain(ends)
        });
        times.min()
    }

    /// What is known of one peer.
    #[must_use]
    pub fn get(&self, peer: &PublicKey) -> Option<Known> {
        self.entries.get(peer).map(|entry| self.known(*peer, entry))
    }

    /// Everybody who is seen now.
    pub fn list(&self) -> impl Iterator<Item = Known> {
        let seen = self.entries.iter().filter(|(_, entry)| !entry.seen.is_empty());
        seen.map(|(peer, entry)| self.known(*peer, entry))
    }

    fn known(&self, peer: PublicKey, entry: &Entry) -> Known {
        // What a peer says over its own connection, before what others say about it.
        let by_trust = || {
            let connected = entry.seen.get(&Source::Connected);
            connected.into_iter().chain(entry.seen.values())
        };
        Known {
            peer,
            node_id: by_trust().find_map(|seen| seen.node_id.clone()),
            addresses: entry.addresses(),
            sources: entry.seen.keys().copied().collect(),
            offer: by_trust().find_map(|seen| seen.offer),
            version: by_trust().find_map(|seen| seen.version),
            first_seen: entry.first_seen,
            last_seen: entry.seen.values().map(|seen| seen.at).max().unwrap_or(entry.first_seen),
            proved: entry.proof == Proof::Done,
            connected: entry.connected,
            approved: self.approved.contains(&peer),
        }
    }
}

impl Seen {
    fn says(&self, other: &Self) -> bool {
        (&self.node_id, &self.addresses, self.offer, self.version)
            == (&other.node_id, &other.addresses, other.offer, other.version)
    }
}

impl Entry {
    const fn new(at: Timestamp, news: u64) -> Self {
        Self {
            seen: BTreeMap::new(),
            first_seen: at,
            proved_at: Vec::new(),
            connected: false,
            proof: Proof::Due { at },
            backoff: Backoff::new(PROOF_BACKOFF_MS.0, PROOF_BACKOFF_MS.1),
            failures: 0,
            tried_at: None,
            news,
        }
    }

    /// There is something new to try. Not more often than after a first failure, whatever changes.
    fn try_again(&mut self, now: Timestamp) {
        if matches!(self.proof, Proof::Due { .. } | Proof::GivenUp) {
            let earliest = self.tried_at.map_or(now, |at| at.plus_ms(PROOF_BACKOFF_MS.0));
            self.proof = Proof::Due { at: now.max(earliest) };
            self.backoff.succeed();
            self.failures = self.failures.min(PROOF_TRIES_MAX - 1);
        }
    }

    fn proof_due(&self) -> Option<Timestamp> {
        let Proof::Due { at } = self.proof else { return None };
        let near = self.seen.iter().filter(|(source, _)| source.is_near());
        near.map(|(_, seen)| seen).any(|seen| !seen.addresses.is_empty()).then_some(at)
    }

    fn addresses(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for address in self.proved_at.iter().chain(self.seen.values().flat_map(|s| &s.addresses)) {
            if found.len() < ADDRESSES_WANTED_MAX && !found.contains(address) {
                found.push(address.clone());
            }
        }
        found
    }

    fn wanted(&self, peer: PublicKey) -> Wanted {
        Wanted { peer, addresses: self.addresses(), news: self.news }
    }
}

#[cfg(test)]
mod tests;
