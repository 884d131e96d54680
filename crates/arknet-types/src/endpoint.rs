use core::net::{IpAddr, SocketAddr};
use std::{fmt, str::FromStr};

use borsh::BorshSerialize;
use serde::{Deserialize, Serialize};

use crate::{PublicKey, limits::ADDRESS_BYTES_MAX};

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Longer than an address may be.
    #[error("an endpoint has at most {ADDRESS_BYTES_MAX} bytes")]
    Length,
    /// An address at which nobody can be: all, many, none.
    #[error("nobody can be reached at this address or port")]
    Nowhere,
    /// Neither IP:port nor a multiaddr that names one place.
    #[error(
        "an endpoint is written as 192.0.2.7:26656, /ip4/192.0.2.7/tcp/26656 or /ip4/192.0.2.7/udp/26656/quic-v1"
    )]
    Syntax,
}

/// How far away an endpoint can be used from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reach {
    /// From the same machine.
    Machine,
    /// From the same network: private and link-local addresses.
    Network,
    /// From anywhere; names are taken for such.
    Anywhere,
}

/// Where a node can be reached: `IP:port` (TCP), or a multiaddr of one host and one transport, over
/// a relay or not. A value of this type names a place that can be dialled.
#[derive(BorshSerialize, Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint(String);

impl Endpoint {
    /// Checks `text` and wraps it.
    pub fn new(text: impl Into<String>) -> Result<Self, EndpointError> {
        let text = text.into();
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(EndpointError::Length);
        }
        parse(&text)?;
        Ok(Self(text))
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The endpoint as a multiaddr in text.
    #[must_use]
    pub fn multiaddr(&self) -> String {
        match self.0.parse::<SocketAddr>() {
            Ok(SocketAddr::V4(at)) => format!("/ip4/{}/tcp/{}", at.ip(), at.port()),
            Ok(SocketAddr::V6(at)) => format!("/ip6/{}/tcp/{}", at.ip(), at.port()),
            Err(_) => self.0.clone(),
        }
    }

    /// How far away it can be used from.
    #[must_use]
    pub fn reach(&self) -> Reach {
        match parse(&self.0) {
            Ok(Host::Ip(ip)) => reach(ip),
            Ok(Host::Name) | Err(_) => Reach::Anywhere,
        }
    }
}

enum Host {
    Ip(IpAddr),
    Name,
}

fn parse(text: &str) -> Result<Host, EndpointError> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        // A zone is a name that only the machine itself knows.
        if text.contains('%') {
            return Err(EndpointError::Syntax);
        }
        return place(address.ip(), address.port());
    }
    let mut parts = text.strip_prefix('/').ok_or(EndpointError::Syntax)?.split('/');
    let host = match (parts.next(), parts.next()) {
        (Some("ip4"), Some(ip)) => Host::Ip(IpAddr::V4(parsed(ip)?)),
        (Some("ip6"), Some(ip)) => Host::Ip(IpAddr::V6(parsed(ip)?)),
        (Some("dns" | "dns4" | "dns6"), Some(name)) if is_host_name(name) => Host::Name,
        _ => return Err(EndpointError::Syntax),
    };
    let port = match (parts.next(), parts.next()) {
        (Some("tcp"), Some(port)) => parsed(port)?,
        (Some("udp"), Some(port)) if parts.next() == Some("quic-v1") => parsed(port)?,
        _ => return Err(EndpointError::Syntax),
    };
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (None, ..) => {}
        (Some("p2p"), Some(relay), Some("p2p-circuit"), None)
            if PublicKey::from_peer_id(relay).is_ok() => {}
        _ => return Err(EndpointError::Syntax),
    }
    match host {
        Host::Ip(ip) => place(ip, port),
        Host::Name if port == 0 => Err(EndpointError::Nowhere),
        Host::Name => Ok(host),
    }
}

fn place(ip: IpAddr, port: u16) -> Result<Host, EndpointError> {
    let is_broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    if port == 0 || ip.is_unspecified() || ip.is_multicast() || is_broadcast {
        return Err(EndpointError::Nowhere);
    }
    Ok(Host::Ip(ip))
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        ip if ip.is_loopback() => Reach::Machine,
        IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() => Reach::Network,
        IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Network,
        _ => Reach::Anywhere,
    }
}

fn parsed<T: FromStr>(text: &str) -> Result<T, EndpointError> {
    text.parse().map_err(|_| EndpointError::Syntax)
}

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(text: String) -> Result<Self, EndpointError> {
        Self::new(text)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELAY: &str = "12D3KooWQCkBm1BYtkHpocxCwMgR8yjitEeHGx8spzcDLGt2gkBm";

    #[test]
    fn an_endpoint_is_one_place() {
        let relayed = format!("/ip4/192.0.2.7/tcp/26656/p2p/{RELAY}/p2p-circuit");
        for (text, multiaddr, reach) in [
            ("192.0.2.7:26656", "/ip4/192.0.2.7/tcp/26656", Reach::Anywhere),
            ("10.1.2.3:1", "/ip4/10.1.2.3/tcp/1", Reach::Network),
            ("127.0.0.1:1", "/ip4/127.0.0.1/tcp/1", Reach::Machine),
            ("[::1]:65535", "/ip6/::1/tcp/65535", Reach::Machine),
            ("[fd00::1]:9", "/ip6/fd00::1/tcp/9", Reach::Network),
            ("/ip6/2001:db8::1/tcp/9", "/ip6/2001:db8::1/tcp/9", Reach::Anywhere),
            ("/ip4/169.254.1.1/udp/9/quic-v1", "/ip4/169.254.1.1/udp/9/quic-v1", Reach::Network),
            ("/dns/ark.example/tcp/9", "/dns/ark.example/tcp/9", Reach::Anywhere),
            (relayed.as_str(), relayed.as_str(), Reach::Anywhere),
        ] {
            let endpoint = Endpoint::new(text).unwrap();
            assert_eq!(endpoint.multiaddr(), multiaddr);
            assert_eq!(endpoint.reach(), reach, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_no_endpoint() {
        for text in [
            "",
            "/",
            "192.0.2.7",
            "192.0.2.7:65536",
            "[fe80::1%1]:9",
            "host.example:1",
            "/ip4/192.0.2.7",
            "/ip4/192.0.2.7/tcp",
            "/ip4/192.0.2.7/udp/9",
            "/ip4/192.0.2.7/tcp/9/",
            "/ip4/192.0.2.7/tcp/9/ws",
            "/ip4/192.0.2.7/tcp/9/p2p/12D3",
            "/ip4/192.0.2.7/tcp/9/p2p/12D3/p2p-circuit",
            "/dns/-a.example/tcp/9",
            "/dns/a..b/tcp/9",
            "/unix/tmp/x",
        ] {
            assert_eq!(Endpoint::new(text), Err(EndpointError::Syntax), "{text}");
        }
        for text in ["0.0.0.0:1", "192.0.2.7:0", "224.0.0.1:1", "/ip6/::/tcp/1", "/dns/a/tcp/0"] {
            assert_eq!(Endpoint::new(text), Err(EndpointError::Nowhere), "{text}");
        }
        let broadcast = Endpoint::new("255.255.255.255:1");
        assert_eq!(broadcast, Err(EndpointError::Nowhere));
        let long = format!("/dns/{}/tcp/1", "a".repeat(ADDRESS_BYTES_MAX));
        assert_eq!(Endpoint::new(long), Err(EndpointError::Length));
    }
}
