use std::collections::BTreeMap;

use arknet_types::{PublicKey, Timestamp};

use crate::{
    Backoff,
    limits::{PROBE_BACKOFF_MS, PROBE_REFRESH_MS, PROBES_AT_ONCE_MAX, PROBES_MAX},
};

#[derive(Clone, Debug)]
struct Probe {
    /// Its place in the list: what stands first is tried first.
    place: usize,
    state: State,
    backoff: Backoff,
    found: Option<PublicKey>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Due {
        at: Timestamp,
    },
    Asked,
    /// What answers there is this node itself.
    Own,
}

/// Where to look for nodes that no multicast reaches: at each address of a bounded list, now and
/// then, a few at a time.
#[derive(Debug, Default)]
pub struct Probes {
    probes: BTreeMap<String, Probe>,
}

impl Probes {
    /// Nowhere to look.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at these addresses and no others, the first of them if they are too many. Those that
    /// are new are tried at once. The peers found at addresses that left the list come back.
    pub fn set(
        &mut self,
        addresses: impl IntoIterator<Item = String>,
        now: Timestamp,
    ) -> Vec<PublicKey> {
        let mut before = std::mem::take(&mut self.probes);
        for address in addresses {
            if self.probes.len() >= PROBES_MAX {
                break;
            }
            if self.probes.contains_key(&address) {
                continue;
            }
            let place = self.probes.len();
            let new = || Probe {
                place,
                state: State::Due { at: now },
                backoff: Backoff::new(PROBE_BACKOFF_MS.0, PROBE_BACKOFF_MS.1),
                found: None,
            };
            let known = before.remove(&address);
            let probe = known.map_or_else(new, |known| Probe { place, ..known });
            self.probes.insert(address, probe);
        }
        let gone = before.into_values().filter_map(|probe| probe.found);
        gone.filter(|peer| !self.probes.values().any(|p| p.found == Some(*peer))).collect()
    }

    /// The network changed: what did not answer may answer now, what answered may not.
    pub fn again(&mut self, now: Timestamp) {
        for probe in self.probes.values_mut() {
            if probe.state != State::Asked {
                probe.state = State::Due { at: now };
                probe.backoff.succeed();
            }
        }
    }

    /// The next address to try. Answer with [`Probes::found`], [`Probes::own`] or
    /// [`Probes::missed`].
    pub fn poll(&mut self, now: Timestamp) -> Option<String> {
        if self.asked() >= PROBES_AT_ONCE_MAX {
            return None;
        }
        let due = |probe: &Probe| match probe.state {
            State::Due { at } => at <= now,
            State::Asked | State::Own => false,
        };
        let due = self.probes.iter_mut().filter(|(_, probe)| due(probe));
        let (address, probe) = due.min_by_key(|(_, probe)| probe.place)?;
        probe.state = State::Asked;
        Some(address.clone())
    }

    fn asked(&self) -> usize {
        self.probes.values().filter(|probe| probe.state == State::Asked).count()
    }

    /// A peer answered at an address; the one that did before, if it was another and is found
    /// nowhere else.
    pub fn found(&mut self, address: &str, peer: PublicKey, now: Timestamp) -> Option<PublicKey> {
        let probe = self.probes.get_mut(address)?;
        probe.state = State::Due { at: now.plus_ms(PROBE_REFRESH_MS) };
        probe.backoff.succeed();
        let before = probe.found.replace(peer).filter(|before| *before != peer);
        self.unless_elsewhere(before)
    }

    /// What answers is this node itself: its addresses change only with the network.
    pub fn own(&mut self, address: &str) {
        if let Some(probe) = self.probes.get_mut(address) {
            probe.state = State::Own;
        }
    }

    /// No node answered at an address; the peer that did before, if it is found nowhere else.
    pub fn missed(&mut self, address: &str, now: Timestamp) -> Option<PublicKey> {
        let probe = self.probes.get_mut(address)?;
        let salt = address.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        probe.state = State::Due { at: now.plus_ms(probe.backoff.fail(salt)) };
        let before = probe.found.take();
        self.unless_elsewhere(before)
    }

    fn unless_elsewhere(&self, peer: Option<PublicKey>) -> Option<PublicKey> {
        peer.filter(|peer| !self.probes.values().any(|probe| probe.found == Some(*peer)))
    }

    /// When `poll` will next have something, as far as time decides it.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.asked() >= PROBES_AT_ONCE_MAX {
            return None;
        }
        let due = self.probes.values().filter_map(|probe| match probe.state {
            State::Due { at } => Some(at),
            State::Asked | State::Own => None,
        });
        due.min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn key(n: u8) -> PublicKey {
        PublicKey([n; 32])
    }

    fn all(probes: &mut Probes, now: Timestamp) -> Vec<String> {
        std::iter::from_fn(|| probes.poll(now)).collect()
    }

    #[test]
    fn each_address_is_tried_and_tried_again_later() {
        let mut probes = Probes::new();
        assert_eq!(probes.set(["a".to_owned(), "b".to_owned()], NOW), []);
        assert_eq!(all(&mut probes, NOW), ["a", "b"]);
        assert_eq!(probes.found("a", key(1), NOW), None);
        assert_eq!(probes.missed("b", NOW), None);
        assert_eq!(all(&mut probes, NOW), [""; 0]);
        let next = probes.next_wakeup().unwrap();
        assert!(next <= NOW.plus_ms(PROBE_BACKOFF_MS.0));
        assert_eq!(all(&mut probes, next), ["b"], "one that was found can wait");
        probes.missed("b", next);
        probes.again(next);
        assert_eq!(all(&mut probes, next), ["a", "b"], "a tunnel came up");
    }

    #[test]
    fn a_peer_that_answers_no_more_is_gone_when_it_answers_nowhere() {
        let mut probes = Probes::new();
        probes.set(["b".to_owned(), "a".to_owned()], NOW);
        assert_eq!(all(&mut probes, NOW), ["b", "a"], "in the order of the list");
        probes.found("a", key(1), NOW);
        probes.found("b", key(1), NOW);
        assert_eq!(probes.missed("a", NOW), None, "it answers at b");
        assert_eq!(probes.found("b", key(2), NOW), Some(key(1)));
        assert_eq!(probes.set(["a".to_owned()], NOW), [key(2)]);
    }

    #[test]
    fn this_node_itself_is_left_alone_until_the_network_changes() {
        let mut probes = Probes::new();
        probes.set(["a".to_owned()], NOW);
        all(&mut probes, NOW);
        probes.own("a");
        assert_eq!(probes.next_wakeup(), None);
        probes.again(NOW);
        assert_eq!(all(&mut probes, NOW), ["a"]);
    }

    proptest! {
        #[test]
        fn never_more_at_once_than_allowed(
            addresses in 0_usize..600,
            answers in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3), 0..200),
        ) {
            let mut probes = Probes::new();
            probes.set((0..addresses).map(|n| n.to_string()), NOW);
            prop_assert!(probes.probes.len() <= PROBES_MAX);
            let (mut now, mut asked) = (NOW, Vec::new());
            for (which, answer) in answers {
                asked.extend(all(&mut probes, now));
                prop_assert!(asked.len() <= PROBES_AT_ONCE_MAX);
                if asked.is_empty() {
                    let Some(next) = probes.next_wakeup() else { break };
                    now = next;
                    continue;
                }
                let address = asked.swap_remove(which.index(asked.len()));
                match answer {
                    0 => drop(probes.found(&address, key(answer), now)),
                    1 => drop(probes.missed(&address, now)),
                    _ => probes.own(&address),
                }
            }
        }
    }
}
