//! Who has asked without being approved, for the owner to see.

use std::collections::BTreeMap;

use arknet_types::{PublicKey, Timestamp};

/// Peers remembered that were turned away.
pub const KNOCKS_MAX: usize = 256;

/// How often one peer was turned away, and when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Knock {
    /// How often.
    pub count: u64,
    /// When for the first time.
    pub first_at: Timestamp,
    /// When for the last time.
    pub last_at: Timestamp,
}

/// The peers turned away lately. A new one takes the place of the one that has been quiet longest,
/// so nobody's flood grows it, and who goes on asking stays.
#[derive(Clone, Debug, Default)]
pub struct Knocks {
    peers: BTreeMap<PublicKey, Knock>,
}

impl Knocks {
    /// Nobody was turned away.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A peer was turned away.
    pub(crate) fn refused(&mut self, peer: PublicKey, now: Timestamp) {
        if self.peers.len() >= KNOCKS_MAX && !self.peers.contains_key(&peer) {
            let quietest = self.peers.iter().min_by_key(|(_, knock)| knock.last_at);
            if let Some(quietest) = quietest.map(|(peer, _)| *peer) {
                self.peers.remove(&quietest);
            }
        }
        let new = Knock { count: 0, first_at: now, last_at: now };
        let knock = self.peers.entry(peer).or_insert(new);
        knock.count = knock.count.saturating_add(1);
        knock.last_at = now;
    }

    /// Forgets those of which this is true.
    pub(crate) fn forget(&mut self, is_settled: impl Fn(&PublicKey) -> bool) {
        self.peers.retain(|peer, _| !is_settled(peer));
    }

    /// The peers and how they knocked.
    pub fn iter(&self) -> impl Iterator<Item = (&PublicKey, &Knock)> {
        self.peers.iter()
    }

    /// How this peer knocked.
    #[must_use]
    pub fn get(&self, peer: &PublicKey) -> Option<&Knock> {
        self.peers.get(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_takes_the_places_of_the_quiet_and_no_more() {
        let mut knocks = Knocks::new();
        let stays = PublicKey([255; 32]);
        for n in 0..10_000_u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            knocks.refused(PublicKey(key), Timestamp(n));
            if n % 100 == 0 {
                knocks.refused(stays, Timestamp(n));
            }
        }
        assert_eq!(knocks.iter().count(), KNOCKS_MAX);
        let knock = knocks.get(&stays).unwrap();
        assert_eq!(
            (knock.count, knock.first_at, knock.last_at),
            (100, Timestamp(0), Timestamp(9_900))
        );
        knocks.forget(|peer| *peer == stays);
        assert_eq!(knocks.get(&stays), None);
    }
}
