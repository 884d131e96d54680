//! Keys, peer ids and addresses.

use std::net::IpAddr;

use arknet_types::{
    PublicKey,
    limits::{ADDRESS_BYTES_MAX, ADDRESSES_PER_OFFER_MAX},
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use crate::limits::ADDRESSES_DIALLED_MAX;

/// The key inside a peer id, if it is an Ed25519 key.
pub(crate) fn public_key(peer: &PeerId) -> Option<PublicKey> {
    PublicKey::from_peer_id_bytes(&peer.to_bytes()).ok()
}

/// The peer id of a key.
pub(crate) fn peer_id(key: &PublicKey) -> PeerId {
    PeerId::from_bytes(&key.peer_id_bytes()).expect("these are the bytes of a peer id")
}

/// Whether a connection at this address goes through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The peer at the end of an address, and the address without it.
pub(crate) fn split_peer(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match address.pop() {
        Some(Protocol::P2p(peer)) => (address, Some(peer)),
        Some(other) => (address.with(other), None),
        None => (address, None),
    }
}

/// How an address is reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Route {
    Tcp,
    Quic,
    Circuit,
}

/// How an address is reached, if it is of a form we dial: a host, then TCP or QUIC, then maybe a
/// relay and its circuit, then maybe the peer. Everything else in an offer is left alone.
pub(crate) fn route(address: &Multiaddr) -> Option<Route> {
    let mut parts = address.iter().peekable();
    match parts.next()? {
        Protocol::Ip4(ip) if !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() => {}
        Protocol::Ip6(ip) if !ip.is_unspecified() && !ip.is_multicast() => {}
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => {}
        _ => return None,
    }
    let mut route = match parts.next()? {
        Protocol::Tcp(port) if port != 0 => Route::Tcp,
        Protocol::Udp(port) if port != 0 && parts.next() == Some(Protocol::QuicV1) => Route::Quic,
        _ => return None,
    };
    let named = matches!(parts.peek(), Some(Protocol::P2p(_)));
    if named {
        parts.next();
    }
    if named && parts.peek() == Some(&Protocol::P2pCircuit) {
        route = Route::Circuit;
        parts.next();
        if matches!(parts.peek(), Some(Protocol::P2p(_))) {
            parts.next();
        }
    }
    parts.next().is_none().then_some(route)
}

/// The addresses of an offer that may be dialled: of a known form, for this peer, and not ours.
pub(crate) fn dialable(texts: &[String], peer: &PeerId, ours: &[Multiaddr]) -> Vec<Multiaddr> {
    let parsed = texts.iter().filter_map(|text| text.parse::<Multiaddr>().ok());
    dialable_of(parsed, peer, ours)
}

/// The same for addresses that are parsed already.
pub(crate) fn dialable_of(
    addresses: impl IntoIterator<Item = Multiaddr>,
    peer: &PeerId,
    ours: &[Multiaddr],
) -> Vec<Multiaddr> {
    let mut found = Vec::new();
    for address in addresses {
        let (bare, named) = split_peer(address);
        let fits = named.is_none_or(|named| named == *peer);
        if fits && route(&bare).is_some() && !ours.contains(&bare) && !found.contains(&bare) {
            found.push(bare);
        }
        if found.len() == ADDRESSES_DIALLED_MAX {
            break;
        }
    }
    found
}

/// The addresses to announce: what the operator or others say first, then our interfaces, then
/// circuits; loopback only where there is nothing else, as on a machine of its own.
pub(crate) fn announced(external: &[Multiaddr], listening: &[Multiaddr]) -> Vec<Multiaddr> {
    let mut found: Vec<Multiaddr> = Vec::new();
    let (circuits, direct): (Vec<_>, Vec<_>) = listening.iter().cloned().partition(is_relayed);
    let (loopback, interfaces): (Vec<_>, Vec<_>) = direct.into_iter().partition(is_loopback);
    let elsewhere = !interfaces.is_empty() || !external.iter().all(is_relayed);
    let loopback = if elsewhere { vec![] } else { loopback };
    let all = external.iter().cloned().chain(interfaces).chain(loopback).chain(circuits);
    for address in all.map(|address| split_peer(address).0) {
        let usable = route(&address).is_some() && address.to_string().len() <= ADDRESS_BYTES_MAX;
        if usable && !is_link_local(&address) && !found.contains(&address) {
            found.push(address);
        }
    }
    found.truncate(ADDRESSES_PER_OFFER_MAX);
    found
}

/// Whether an address is of this machine alone.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| ip.is_loopback())
}

fn is_link_local(address: &Multiaddr) -> bool {
    ip(address).is_some_and(|ip| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    })
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::KeyPair;

    use super::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn peer(seed: u8) -> PeerId {
        peer_id(&KeyPair::from_seed(&[seed; 32]).public())
    }

    #[test]
    fn keys_and_peer_ids_are_the_same_thing() {
        let key = KeyPair::from_seed(&[1; 32]).public();
        assert_eq!(public_key(&peer_id(&key)), Some(key));
        assert_eq!(peer_id(&key).to_string(), key.peer_id());
    }

    #[test]
    fn only_known_forms_are_dialled() {
        let relay = peer(1);
        let good = [
            ("/ip4/1.2.3.4/tcp/1".to_owned(), Route::Tcp),
            ("/dns/a.example/tcp/1".to_owned(), Route::Tcp),
            ("/ip6/::1/udp/1/quic-v1".to_owned(), Route::Quic),
            (format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}"), Route::Tcp),
            (format!("/ip4/1.2.3.4/tcp/1/p2p/{relay}/p2p-circuit"), Route::Circuit),
            (format!("/ip4/1.2.3.4/udp/1/quic-v1/p2p/{relay}/p2p-circuit"), Route::Circuit),
        ];
        for (text, expected) in good {
            assert_eq!(route(&parse(&text)), Some(expected), "{text}");
        }
        for text in [
            "/ip4/0.0.0.0/tcp/1",
            "/ip4/1.2.3.4/tcp/0",
            "/ip4/224.0.0.1/udp/1/quic-v1",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/tcp/1/ws",
            "/ip4/1.2.3.4/tcp/1/p2p-circuit",
            "/unix/a",
            "/memory/1",
            "/dnsaddr/a.example",
        ] {
            assert_eq!(route(&parse(text)), None, "{text}");
        }
    }

    #[test]
    fn addresses_for_another_peer_and_our_own_are_left_out() {
        let (them, other) = (peer(1), peer(2));
        let ours = [parse("/ip4/1.1.1.1/tcp/1")];
        let texts = [
            format!("/ip4/2.2.2.2/tcp/1/p2p/{them}"),
            "/ip4/2.2.2.2/tcp/1".to_owned(),
            format!("/ip4/3.3.3.3/tcp/1/p2p/{other}"),
            "/ip4/1.1.1.1/tcp/1".to_owned(),
            "nonsense".to_owned(),
        ];
        assert_eq!(dialable(&texts, &them, &ours), [parse("/ip4/2.2.2.2/tcp/1")]);
        let many: Vec<_> = (1..100).map(|port| format!("/ip4/2.2.2.2/tcp/{port}")).collect();
        assert_eq!(dialable(&many, &them, &[]).len(), ADDRESSES_DIALLED_MAX);
    }

    #[test]
    fn loopback_is_announced_only_where_there_is_nothing_else() {
        let loopback = [parse("/ip4/127.0.0.1/tcp/1")];
        let interface = [parse("/ip4/192.168.1.2/tcp/1")];
        let external = [parse("/dns/node.example/tcp/1")];
        assert_eq!(announced(&[], &loopback), loopback);
        let both = [loopback, interface.clone()].concat();
        assert_eq!(announced(&[], &both), interface);
        assert_eq!(announced(&external, &both), [external.clone(), interface].concat());
    }
}
