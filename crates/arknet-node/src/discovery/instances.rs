//! What others announce on the local network. Anybody there can announce anything: every part has a
//! bound and is a claim until a handshake proves it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use arknet_protocol::{OfferDigest, Sighting, Source, limits::ADDRESSES_PER_SIGHTING_MAX};
use arknet_types::{NodeId, PublicKey, Timestamp};

use super::limits::{ADDRESSES_PER_INSTANCE_MAX, INSTANCES_MAX};

/// One announcement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Instance {
    pub(super) peer: PublicKey,
    pub(super) node_id: Option<NodeId>,
    pub(super) addresses: Vec<String>,
    pub(super) offer: Option<OfferDigest>,
    pub(super) version: Option<u16>,
}

/// The keys of the text record.
pub(super) const TXT_VERSION: &str = "v";
pub(super) const TXT_PEER: &str = "peer";
pub(super) const TXT_NODE_ID: &str = "id";
pub(super) const TXT_OFFER: &str = "offer";

impl Instance {
    /// Reads an announcement; none where it names no peer or no place to find it. `own` are the
    /// addresses of this machine.
    pub(super) fn read<'a>(
        text: impl Fn(&str) -> Option<&'a str>,
        port: u16,
        addresses: impl IntoIterator<Item = IpAddr>,
        own: &[IpAddr],
    ) -> Option<Self> {
        let peer = text(TXT_PEER)?.parse().ok()?;
        let mut near: Vec<_> = addresses.into_iter().filter(|ip| is_near(*ip, own)).collect();
        // The resolver gives them in no order; one of our own networks is the best to begin with.
        near.sort_by_key(|ip| (!own.iter().any(|own| shares_network(*ip, *own)), *ip));
        near.dedup();
        near.truncate(ADDRESSES_PER_INSTANCE_MAX);
        if near.is_empty() || port == 0 {
            return None;
        }
        Some(Self {
            peer,
            node_id: text(TXT_NODE_ID).and_then(|id| NodeId::new(id).ok()),
            addresses: near.into_iter().map(|ip| address(ip, port)).collect(),
            offer: text(TXT_OFFER).and_then(read_digest),
            version: text(TXT_VERSION).and_then(|version| version.parse().ok()),
        })
    }
}

/// A place as a multiaddr.
pub(super) fn address(ip: IpAddr, port: u16) -> String {
    match ip {
        IpAddr::V4(ip) => format!("/ip4/{ip}/tcp/{port}"),
        IpAddr::V6(ip) => format!("/ip6/{ip}/tcp/{port}"),
    }
}

/// A digest as it stands in the text record: 16 hex digits.
pub(super) fn write_digest(digest: OfferDigest) -> String {
    format!("{:016x}", u64::from_be_bytes(digest.0))
}

fn read_digest(text: &str) -> Option<OfferDigest> {
    let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u64::from_str_radix(text, 16).ok())?;
    number.map(|number| OfferDigest(number.to_be_bytes()))
}

/// Whether an address can be one of this neighbourhood. An announcement may not send us to dial
/// hosts elsewhere, nor our own loopback. Link-local addresses of IPv6 mean nothing without their
/// interface, which a multiaddr of the mesh's transports does not carry.
fn is_near(ip: IpAddr, own: &[IpAddr]) -> bool {
    let is_private = match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || is_shared(ip),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    is_private || (is_global(ip) && own.iter().any(|own| shares_network(ip, *own)))
}

/// The range that providers use behind their own address translation, and some tunnels too.
const fn is_shared(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

fn is_global(ip: IpAddr) -> bool {
    let is_special = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.is_documentation(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.to_ipv4_mapped().is_some(),
    };
    !is_special && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

/// Whether two addresses look like ones of the same network, as far as that can be told without
/// its mask.
fn shares_network(a: IpAddr, b: IpAddr) -> bool {
    let v4 = |a: Ipv4Addr, b: Ipv4Addr| a.octets()[..3] == b.octets()[..3];
    let v6 = |a: Ipv6Addr, b: Ipv6Addr| a.segments()[..4] == b.segments()[..4];
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => v4(a, b),
        (IpAddr::V6(a), IpAddr::V6(b)) => v6(a, b),
        _ => false,
    }
}

/// All announcements that stand, by name. One peer may have several: a node whose host was renamed
/// is announced under two names for a while, and somebody else may announce its key.
#[derive(Debug, Default)]
pub(super) struct Instances {
    by_name: BTreeMap<String, (u64, Instance)>,
    told: u64,
}

impl Instances {
    /// An announcement came or changed. The peer that was announced under this name before is
    /// given back if it is announced under none now.
    pub(super) fn came(&mut self, name: &str, instance: Instance) -> Option<PublicKey> {
        if self.by_name.len() >= INSTANCES_MAX && !self.by_name.contains_key(name) {
            return None;
        }
        self.told += 1;
        let before = self.by_name.insert(name.to_owned(), (self.told, instance));
        self.unless_announced(before?.1.peer)
    }

    /// An announcement ended; the peer, if it is announced under no other name.
    pub(super) fn went(&mut self, name: &str) -> Option<PublicKey> {
        let (_, instance) = self.by_name.remove(name)?;
        self.unless_announced(instance.peer)
    }

    fn unless_announced(&self, peer: PublicKey) -> Option<PublicKey> {
        (!self.by_name.values().any(|(_, instance)| instance.peer == peer)).then_some(peer)
    }

    /// The names under which a peer is announced.
    pub(super) fn names_of(&self, peer: &PublicKey) -> Vec<String> {
        let of_peer = self.by_name.iter().filter(|(_, (_, instance))| instance.peer == *peer);
        of_peer.map(|(name, _)| name.clone()).collect()
    }

    /// What all announcements of a peer say together: the latest word, and the addresses of all.
    pub(super) fn sighting(&self, peer: &PublicKey, at: Timestamp) -> Option<Sighting> {
        let mut all: Vec<_> =
            self.by_name.values().filter(|(_, instance)| instance.peer == *peer).collect();
        all.sort_by_key(|(told, _)| std::cmp::Reverse(*told));
        let latest = &all.first()?.1;
        let mut addresses: Vec<String> = Vec::new();
        // The same number from each, so that one with many cannot push out those of another.
        for (_, instance) in &all {
            let new = instance.addresses.iter().filter(|one| !addresses.contains(one));
            let new: Vec<_> = new.cloned().collect();
            addresses.extend(new);
        }
        addresses.truncate(ADDRESSES_PER_SIGHTING_MAX);
        Some(Sighting {
            source: Source::Mdns,
            peer: *peer,
            node_id: latest.node_id.clone(),
            addresses,
            offer: latest.offer,
            version: latest.version,
            at,
        })
    }

    /// What is announced of everybody.
    pub(super) fn sightings(&self, at: Timestamp) -> Vec<Sighting> {
        let mut peers: Vec<_> = self.by_name.values().map(|(_, instance)| instance.peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers.iter().filter_map(|peer| self.sighting(peer, at)).collect()
    }

    /// Forgets all; whom that leaves without an announcement.
    pub(super) fn clear(&mut self) -> Vec<PublicKey> {
        let mut gone: Vec<_> =
            std::mem::take(&mut self.by_name).into_values().map(|(_, one)| one.peer).collect();
        gone.sort_unstable();
        gone.dedup();
        gone
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::KeyPair;
    use proptest::prelude::*;

    use super::*;

    fn peer(seed: u8) -> PublicKey {
        KeyPair::from_seed(&[seed; 32]).public()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn instance(seed: u8, address: &str) -> Instance {
        Instance {
            peer: peer(seed),
            node_id: None,
            addresses: vec![address.into()],
            offer: None,
            version: Some(1),
        }
    }

    #[test]
    fn an_announcement_says_who_and_where() {
        let id = peer(1).to_string();
        let text = |key: &str| match key {
            TXT_PEER => Some(id.as_str()),
            TXT_NODE_ID => Some("ark-kitchen"),
            TXT_OFFER => Some("00000000000000ff"),
            TXT_VERSION => Some("1"),
            _ => None,
        };
        let own = [ip("192.168.1.3"), ip("fe80::1")];
        let told = ["fe80::2", "10.0.0.2", "192.168.1.2", "8.8.8.8", "127.0.0.1", "fd00::2"];
        let read = Instance::read(text, 26656, told.map(ip), &own).unwrap();
        let expected =
            ["/ip4/192.168.1.2/tcp/26656", "/ip4/10.0.0.2/tcp/26656", "/ip6/fd00::2/tcp/26656"];
        assert_eq!((read.peer, read.addresses), (peer(1), expected.map(Into::into).into()));
        assert_eq!(read.node_id, Some(NodeId::new("ark-kitchen").unwrap()));
        assert_eq!(
            (read.offer, read.version),
            (Some(OfferDigest([0, 0, 0, 0, 0, 0, 0, 255])), Some(1))
        );
        assert_eq!(write_digest(read.offer.unwrap()), "00000000000000ff");
        assert_eq!(Instance::read(text, 0, [ip("10.0.0.2")], &own), None, "no port");
        assert_eq!(Instance::read(text, 1, [ip("8.8.8.8")], &own), None, "not of this network");
        assert_eq!(Instance::read(|_| None, 1, [ip("10.0.0.2")], &own), None, "no peer");
        let spoiled = |key: &str| match key {
            TXT_PEER => Some(id.as_str()),
            _ => Some("-\u{202e} "),
        };
        let read = Instance::read(spoiled, 1, [ip("10.0.0.2")], &own).unwrap();
        assert_eq!((read.node_id, read.offer, read.version), (None, None, None));
    }

    #[test]
    fn a_public_address_is_near_only_beside_our_own() {
        for (theirs, own, expected) in [
            ("8.8.8.8", "192.168.1.3", false),
            ("8.8.8.8", "8.8.8.9", true),
            ("2001:db8:0:1::2", "2001:db8:0:1::3", true),
            ("2001:db8:0:2::2", "2001:db8:0:1::3", false),
            ("100.64.3.1", "192.168.1.3", true),
            ("169.254.3.1", "192.168.1.3", true),
            ("127.0.0.2", "127.0.0.1", false),
            ("0.0.0.0", "0.0.0.1", false),
            ("224.0.0.251", "224.0.0.252", false),
            ("::1", "::2", false),
            ("fe80::2", "fe80::1", false),
            ("ff02::fb", "ff02::fc", false),
        ] {
            assert_eq!(is_near(ip(theirs), &[ip(own)]), expected, "{theirs} beside {own}");
        }
    }

    #[test]
    fn a_renamed_node_stays_while_its_old_name_goes() {
        let mut instances = Instances::default();
        assert_eq!(instances.came("old", instance(1, "a")), None);
        assert_eq!(instances.came("new", instance(1, "b")), None);
        assert_eq!(instances.sighting(&peer(1), Timestamp(0)).unwrap().addresses, ["b", "a"]);
        assert_eq!(instances.went("old"), None);
        assert_eq!(instances.names_of(&peer(1)), ["new"]);
        assert_eq!(instances.went("old"), None);
        assert_eq!(instances.went("new"), Some(peer(1)));
        assert_eq!(instances.sightings(Timestamp(0)), []);
    }

    #[test]
    fn a_name_can_change_hands() {
        let mut instances = Instances::default();
        instances.came("name", instance(1, "a"));
        assert_eq!(instances.came("name", instance(2, "a")), Some(peer(1)));
        assert_eq!(instances.sightings(Timestamp(0)).len(), 1);
        assert_eq!(instances.clear(), [peer(2)]);
    }

    #[test]
    fn there_is_a_limit_on_names() {
        let mut instances = Instances::default();
        for n in 0..2 * INSTANCES_MAX {
            instances.came(&n.to_string(), instance(1, "a"));
        }
        assert_eq!(instances.by_name.len(), INSTANCES_MAX);
        assert!(instances.came("0", instance(2, "a")).is_none());
        assert_eq!(instances.names_of(&peer(2)), ["0"], "one that is there can change");
    }

    proptest! {
        #[test]
        fn whatever_is_announced_stays_within_bounds(
            texts in prop::collection::vec(".{0,300}", 4),
            port: u16,
            addresses in prop::collection::vec(any::<IpAddr>(), 0..64),
            own in prop::collection::vec(any::<IpAddr>(), 0..8),
        ) {
            let id = peer(1).to_string();
            let text = |key: &str| match key {
                TXT_PEER => Some(id.as_str()),
                TXT_NODE_ID => Some(texts[0].as_str()),
                TXT_OFFER => Some(texts[1].as_str()),
                _ => Some(texts[2].as_str()),
            };
            if let Some(read) = Instance::read(text, port, addresses, &own) {
                prop_assert!(!read.addresses.is_empty());
                prop_assert!(read.addresses.len() <= ADDRESSES_PER_INSTANCE_MAX);
                for address in read.addresses {
                    prop_assert!(address.parse::<arknet_mesh::Multiaddr>().is_ok());
                }
            }
        }
    }
}
