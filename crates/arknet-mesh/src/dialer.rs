//! Whom to dial, when, and at which of its addresses first. Decides only: time comes in as an
//! argument, what is to be done goes out as a value.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use arknet_protocol::Backoff;
use libp2p::{Multiaddr, PeerId};

use crate::{
    addresses::{Route, route},
    limits::DIAL_STAGE,
};

/// Dials to one peer that go on at the same time.
const IN_FLIGHT_MAX: usize = 6;
/// Milliseconds before a lost seed or peer is dialled again, first and longest.
const BACKOFF_MS: (u64, u64) = (500, 30_000);

/// Why a connection is wanted. What stands later in this list holds longer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Why {
    /// Somebody asked for it now.
    Once,
    /// The peer has an offer.
    Offer,
    /// Somebody chose the peer.
    Kept,
    /// The peer is a seed.
    Seed,
}

/// Dial this peer at these addresses.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Dial {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// What a failed dial means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failed {
    /// Other addresses are still being tried.
    NotYet,
    /// All addresses failed.
    Unreachable,
}

struct Target {
    why: Why,
    addresses: Vec<Multiaddr>,
    /// Where a peer that somebody chose is, as they say.
    chosen: Vec<Multiaddr>,
    sequence: u64,
    news: u64,
    backoff: Backoff,
    state: State,
}

enum State {
    Connected,
    Waiting { until: Instant },
    Dialing { stages: Vec<Vec<Multiaddr>>, in_flight: usize, next_at: Instant },
}

/// The peers to which connections are wanted.
pub(crate) struct Dialer {
    targets: BTreeMap<PeerId, Target>,
    salt: u64,
}

impl Dialer {
    /// `salt` tells nodes apart that lose the same seed at the same time.
    pub(crate) fn new(salt: u64) -> Self {
        Self { targets: BTreeMap::new(), salt }
    }

    /// Keeps a connection to this seed.
    pub(crate) fn seed(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        let target = self.target(peer, Why::Seed, now);
        if !target.addresses.contains(&address) {
            target.addresses.push(address);
        }
    }

    /// Keeps a connection to a peer with an offer. A newer offer than before says that the peer
    /// lives, so it is dialled at once whatever went wrong earlier.
    pub(crate) fn offer(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        sequence: u64,
        now: Instant,
    ) {
        let target = self.target(peer, Why::Offer, now);
        if sequence <= target.sequence {
            return;
        }
        target.sequence = sequence;
        target.learn(addresses);
        target.backoff.succeed();
        target.dial_now(now);
    }

    /// Keeps connections to these peers and to no others of this kind. Each comes with its
    /// addresses, and a number that rises when a dial is worth it whatever went wrong earlier.
    /// Whether any peer is kept no more; one that has an offer is to be told again as such.
    pub(crate) fn keep(
        &mut self,
        chosen: Vec<(PeerId, Vec<Multiaddr>, u64)>,
        now: Instant,
    ) -> bool {
        let before = self.targets.len();
        self.targets.retain(|peer, target| {
            target.why != Why::Kept || chosen.iter().any(|(kept, ..)| kept == peer)
        });
        let has_left = self.targets.len() < before;
        for (peer, addresses, news) in chosen {
            let target = self.target(peer, Why::Kept, now);
            if target.chosen == addresses && target.news == news {
                continue;
            }
            let is_fresh = news > target.news || target.chosen.is_empty();
            target.chosen = addresses;
            target.news = news;
            if is_fresh {
                target.backoff.succeed();
                target.dial_now(now);
            }
        }
        has_left
    }

    /// Dials a peer that somebody needs now.
    pub(crate) fn once(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, now: Instant) {
        let target = self.target(peer, Why::Once, now);
        let is_news = addresses.iter().any(|address| !target.addresses.contains(address));
        target.learn(addresses);
        if is_news || matches!(target.state, State::Waiting { .. }) {
            target.dial_now(now);
        }
    }

    /// Keeps only those peers with offers for which `keep` holds.
    pub(crate) fn retain_offers(&mut self, keep: impl Fn(&PeerId) -> bool) {
        self.targets.retain(|peer, target| target.why != Why::Offer || keep(peer));
    }

    /// Whether this peer is a seed.
    pub(crate) fn is_seed(&self, peer: &PeerId) -> bool {
        self.targets.get(peer).is_some_and(|target| target.why == Why::Seed)
    }

    /// Whether a connection to this peer is kept: for its offer, by somebody's choice, or as a seed.
    pub(crate) fn is_kept(&self, peer: &PeerId) -> bool {
        self.targets.get(peer).is_some_and(|target| target.why > Why::Once)
    }

    /// The addresses known of a peer.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        self.targets.get(peer).map(Target::all).unwrap_or_default()
    }

    /// A connection stands, whoever opened it.
    pub(crate) fn connected(&mut self, peer: &PeerId) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        target.state = State::Connected;
        target.backoff.succeed();
        if target.why == Why::Once {
            self.targets.remove(peer);
        }
    }

    /// The last connection to a peer is gone. It is dialled again at once: a peer that restarts
    /// comes back, and one that died is known as dead after one refused connection.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.state = State::Waiting { until: now };
        }
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) -> Failed {
        let salt = self.salt;
        let Some(target) = self.targets.get_mut(peer) else { return Failed::Unreachable };
        let State::Dialing { stages, in_flight, next_at } = &mut target.state else {
            return Failed::NotYet;
        };
        *in_flight = in_flight.saturating_sub(1);
        if !stages.is_empty() {
            *next_at = now;
            return Failed::NotYet;
        }
        if *in_flight > 0 {
            return Failed::NotYet;
        }
        if target.why == Why::Once {
            self.targets.remove(peer);
        } else {
            let wait = target.backoff.fail(salt);
            target.state = State::Waiting { until: now + Duration::from_millis(wait) };
            self.salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        Failed::Unreachable
    }

    /// What is to be dialled now, if anything; call again until nothing is.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Dial> {
        self.targets.iter_mut().find_map(|(peer, target)| {
            let addresses = target.poll(now)?;
            Some(Dial { peer: *peer, addresses })
        })
    }

    /// When `poll` will next have something.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.targets.values().filter_map(Target::next_wakeup).min()
    }

    fn target(&mut self, peer: PeerId, why: Why, now: Instant) -> &mut Target {
        let target = self.targets.entry(peer).or_insert_with(|| Target {
            why,
            addresses: vec![],
            chosen: vec![],
            sequence: 0,
            news: 0,
            backoff: Backoff::new(BACKOFF_MS.0, BACKOFF_MS.1),
            state: State::Waiting { until: now },
        });
        target.why = target.why.max(why);
        target
    }
}

impl Target {
    /// All addresses, those that somebody chose first.
    fn all(&self) -> Vec<Multiaddr> {
        let mut all = self.chosen.clone();
        all.extend(self.addresses.iter().filter(|one| !self.chosen.contains(one)).cloned());
        all
    }

    /// Seeds keep what was configured; of others the newest word counts.
    fn learn(&mut self, addresses: Vec<Multiaddr>) {
        if addresses.is_empty() {
            return;
        }
        if self.why != Why::Seed {
            self.addresses = addresses;
            return;
        }
        for address in addresses {
            if !self.addresses.contains(&address) && self.addresses.len() < 32 {
                self.addresses.push(address);
            }
        }
    }

    /// Tries all addresses from now on, whatever is still being tried: a dial to where a peer was
    /// before its restart may take seconds to fail.
    fn dial_now(&mut self, now: Instant) {
        let all = self.all();
        match &mut self.state {
            State::Connected => {}
            State::Waiting { until } => *until = now,
            State::Dialing { stages: rest, in_flight, next_at } => {
                if *in_flight < IN_FLIGHT_MAX {
                    *rest = stages(&all);
                    *next_at = now;
                }
            }
        }
    }

    fn poll(&mut self, now: Instant) -> Option<Vec<Multiaddr>> {
        if let State::Waiting { until } = self.state
            && until <= now
        {
            let stages = stages(&self.all());
            if stages.is_empty() {
                // Nowhere to dial: wait until it comes to us or says where it is.
                self.state = State::Waiting { until: now + Duration::from_millis(BACKOFF_MS.1) };
                return None;
            }
            self.state = State::Dialing { stages, in_flight: 0, next_at: now };
        }
        let State::Dialing { stages, in_flight, next_at } = &mut self.state else { return None };
        if *next_at > now || stages.is_empty() {
            return None;
        }
        *in_flight += 1;
        *next_at = now + DIAL_STAGE;
        Some(stages.remove(0))
    }

    fn next_wakeup(&self) -> Option<Instant> {
        match &self.state {
            State::Connected => None,
            State::Waiting { until } => Some(*until),
            State::Dialing { stages, next_at, .. } => (!stages.is_empty()).then_some(*next_at),
        }
    }
}

/// Addresses in the order in which they are tried.
///
/// TCP goes first. Over loopback a warm request costs about the same over both, but TCP learns at
/// once that a process died, where QUIC waits out its idle time. QUIC follows a moment later, for
/// networks that let only one of them through; a relay is the last resort.
fn stages(addresses: &[Multiaddr]) -> Vec<Vec<Multiaddr>> {
    let of = |wanted| {
        let found = addresses.iter().filter(|address| route(address) == Some(wanted));
        found.cloned().collect::<Vec<_>>()
    };
    let all = [of(Route::Tcp), of(Route::Quic), of(Route::Circuit)];
    all.into_iter().filter(|stage| !stage.is_empty()).collect()
}

#[cfg(test)]
mod tests;
