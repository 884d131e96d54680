//! On which relays this node is reachable.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, StreamProtocol, core::transport::ListenerId};

use crate::{
    limits::RELAYS_MAX,
    options::{MeshOptions, RelayReserve},
};

/// The protocol by which a peer shows that it relays.
pub(crate) const HOP: StreamProtocol = StreamProtocol::new("/libp2p/circuit/relay/0.2.0/hop");

/// After a lost reservation, the time until the next try.
const RETRY: Duration = Duration::from_secs(2);
/// Relays remembered.
const KNOWN_MAX: usize = 16;

/// The relays known, and the places held on them.
pub(crate) struct Relays {
    reserve: RelayReserve,
    serves: bool,
    listens: bool,
    private: bool,
    known: Vec<PeerId>,
    held: HashMap<ListenerId, PeerId>,
    not_before: Option<Instant>,
}

impl Relays {
    pub(crate) fn new(options: &MeshOptions) -> Self {
        Self {
            reserve: options.relay_reserve,
            serves: options.serve,
            listens: !options.listen.is_empty() || !options.external.is_empty(),
            private: false,
            known: Vec::new(),
            held: HashMap::new(),
            not_before: None,
        }
    }

    /// A connected peer relays.
    pub(crate) fn found(&mut self, peer: PeerId) {
        if !self.known.contains(&peer) && self.known.len() < KNOWN_MAX {
            self.known.push(peer);
        }
    }

    /// A peer is gone.
    pub(crate) fn lost(&mut self, peer: &PeerId) {
        self.known.retain(|known| known != peer);
    }

    /// Whether others found us behind a NAT.
    pub(crate) fn set_private(&mut self, private: bool) {
        self.private = private;
    }

    /// The relay to reserve on now, if one more is needed.
    pub(crate) fn wanted(
        &self,
        now: Instant,
        address: impl Fn(&PeerId) -> Option<Multiaddr>,
    ) -> Option<(PeerId, Multiaddr)> {
        let needed = match self.reserve {
            RelayReserve::Never => false,
            RelayReserve::Always => true,
            RelayReserve::Auto => self.serves && (self.private || !self.listens),
        };
        let early = self.not_before.is_some_and(|time| now < time);
        if !needed || early || self.held.len() >= RELAYS_MAX {
            return None;
        }
        let free = self.known.iter().filter(|peer| !self.held.values().any(|held| held == *peer));
        free.filter_map(|peer| Some((*peer, address(peer)?))).next()
    }

    /// A reservation was asked for.
    pub(crate) fn asked(&mut self, peer: PeerId, listener: ListenerId) {
        self.held.insert(listener, peer);
    }

    /// A reservation was refused or has ended; whether the listener was one.
    pub(crate) fn closed(&mut self, listener: ListenerId, now: Instant) -> bool {
        self.not_before = Some(now + RETRY);
        self.held.remove(&listener).is_some()
    }

    /// A reservation could not even be asked for.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + RETRY);
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::{KeyPair, NetworkId};

    use super::*;
    use crate::addresses::peer_id;

    fn relays(change: impl FnOnce(&mut MeshOptions)) -> Relays {
        let network = NetworkId::new("test").unwrap();
        let mut options = MeshOptions::new(KeyPair::from_seed(&[1; 32]), network);
        options.serve = true;
        change(&mut options);
        let mut relays = Relays::new(&options);
        relays.found(peer_id(&KeyPair::from_seed(&[2; 32]).public()));
        relays
    }

    fn wants(relays: &Relays, now: Instant) -> bool {
        relays.wanted(now, |_| Some("/ip4/1.2.3.4/tcp/1".parse().unwrap())).is_some()
    }

    #[test]
    fn a_place_is_reserved_where_nobody_could_come_otherwise() {
        let now = Instant::now();
        assert!(wants(&relays(|_| {}), now));
        assert!(!wants(&relays(|options| options.serve = false), now), "nobody needs to come");
        let listens = |options: &mut MeshOptions| {
            options.listen = vec!["/ip4/0.0.0.0/tcp/1".parse().unwrap()];
        };
        let mut listening = relays(listens);
        assert!(!wants(&listening, now));
        listening.set_private(true);
        assert!(wants(&listening, now));
        assert!(!wants(&relays(|o| o.relay_reserve = RelayReserve::Never), now));
    }

    #[test]
    fn a_refused_place_is_asked_for_again_later() {
        let now = Instant::now();
        let mut relays = relays(|_| {});
        let listener = ListenerId::next();
        let peer = relays.known[0];
        relays.asked(peer, listener);
        assert!(!wants(&relays, now), "one place on each relay");
        assert!(relays.closed(listener, now));
        assert!(!wants(&relays, now));
        assert!(wants(&relays, now + RETRY));
        relays.lost(&peer);
        assert!(!wants(&relays, now + RETRY));
    }
}
