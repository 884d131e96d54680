//! Addresses and networks, as the configuration and the system write them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use arknet_mesh::Multiaddr;

use super::{instances::address, limits::NETWORK_HOSTS_MAX};

/// The port on which nodes listen unless they are told otherwise.
const PORT: u16 = 26656;

/// An address and port over TCP, of a multiaddr that begins with them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
}

impl Place {
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        Self::read(&address.to_string())
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('/')?.split('/');
        let ip = match parts.next()? {
            "ip4" => parts.next()?.parse::<Ipv4Addr>().ok()?.into(),
            "ip6" => parts.next()?.parse::<Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let is_tcp = parts.next()? == "tcp";
        let port = parts.next()?.parse().ok()?;
        is_tcp.then_some(Self { ip, port })
    }
}

/// The port of the mesh over TCP: one that others can reach, if there is one.
pub(super) fn tcp_port(listening: &[Multiaddr]) -> Option<u16> {
    let places: Vec<_> = listening.iter().filter_map(Place::of).collect();
    let outside = places.iter().find(|place| !place.ip.is_loopback());
    outside.map(|place| place.port)
}

/// A network or, with all bits fixed, a host.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Network {
    ip: IpAddr,
    bits: u8,
}

/// A text is neither an address nor a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct NoNetwork;

impl std::str::FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits.parse().map_err(|_| NoNetwork)?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NoNetwork)?;
        let all = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        if bits > all {
            return Err(NoNetwork);
        }
        Ok(Self { ip, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

impl Network {
    /// The hosts of the network; none if it is too large to be searched. The first and the last
    /// address of a network of IPv4 are no hosts.
    pub(super) fn hosts(&self) -> Vec<IpAddr> {
        let (all, number) = match self.ip {
            IpAddr::V4(ip) => (32, u128::from(u32::from(ip))),
            IpAddr::V6(ip) => (128, u128::from(ip)),
        };
        let free = u32::from(all - self.bits);
        let Some(size) = 1_u128.checked_shl(free).filter(|n| *n <= NETWORK_HOSTS_MAX.into()) else {
            return vec![];
        };
        let first = number & !(size - 1);
        let edges = if self.ip.is_ipv4() && size > 2 { 1 } else { 0 };
        let numbers = first + edges..=first + (size - 1 - edges);
        let host = |number: u128| match self.ip {
            IpAddr::V4(_) => u32::try_from(number).ok().map(|n| Ipv4Addr::from(n).into()),
            IpAddr::V6(_) => Some(Ipv6Addr::from(number).into()),
        };
        numbers.filter_map(host).filter(may_be_host).collect()
    }
}

fn may_be_host(ip: &IpAddr) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback() && !is_link_local
}

/// What `[grid] probe` names: hosts and small networks, with a port or ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ProbeTarget {
    network: Network,
    port: u16,
}

impl std::str::FromStr for ProbeTarget {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            let bits = if socket.is_ipv4() { 32 } else { 128 };
            return Self::new(Network { ip: socket.ip(), bits }, socket.port());
        }
        // A network of IPv4 with a port: 10.0.0.0/28:26656.
        let (network, port) = match text.rsplit_once(':') {
            Some((network, port)) if network.contains('/') && !network.contains(':') => {
                (network, port.parse().map_err(drop)?)
            }
            _ => (text, PORT),
        };
        Self::new(network.parse().map_err(drop)?, port)
    }
}

impl ProbeTarget {
    fn new(network: Network, port: u16) -> Result<Self, ()> {
        let target = Self { network, port };
        if port == 0 || network.hosts().is_empty() { Err(()) } else { Ok(target) }
    }

    /// The places to look at.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.network.hosts().into_iter().map(|ip| address(ip, self.port)).collect()
    }
}

/// The places of networks behind tunnels.
pub(super) fn addresses_in(networks: &[Network]) -> Vec<String> {
    let hosts = networks.iter().flat_map(Network::hosts);
    hosts.map(|ip| address(ip, PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        text.parse::<Network>().unwrap().hosts().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn small_networks_have_hosts_and_large_ones_are_not_searched() {
        assert_eq!(hosts("10.0.0.5"), ["10.0.0.5"]);
        assert_eq!(hosts("10.0.0.5/32"), ["10.0.0.5"]);
        assert_eq!(hosts("10.0.0.5/30"), ["10.0.0.5", "10.0.0.6"]);
        assert_eq!(hosts("10.0.0.4/31"), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(hosts("10.0.0.0/24").len(), 254);
        assert_eq!(hosts("fd00::4/127"), ["fd00::4", "fd00::5"]);
        for none in ["10.0.0.0/23", "0.0.0.0/0", "::/0", "127.0.0.0/30", "224.0.0.1", "fe80::1"] {
            assert_eq!(hosts(none), [""; 0], "{none}");
        }
        for bad in ["", "10.0.0.0/33", "fd00::/129", "10.0.0/8", "a", "10.0.0.1/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_probed_may_name_a_port() {
        for (text, first) in [
            ("10.0.0.5", "/ip4/10.0.0.5/tcp/26656"),
            ("10.0.0.5:1", "/ip4/10.0.0.5/tcp/1"),
            ("10.0.0.4/30", "/ip4/10.0.0.5/tcp/26656"),
            ("10.0.0.4/30:7", "/ip4/10.0.0.5/tcp/7"),
            ("fd00::5", "/ip6/fd00::5/tcp/26656"),
            ("[fd00::5]:9", "/ip6/fd00::5/tcp/9"),
            ("fd00::4/127", "/ip6/fd00::4/tcp/26656"),
        ] {
            assert_eq!(text.parse::<ProbeTarget>().unwrap().addresses()[0], first, "{text}");
        }
        for bad in ["", "10.0.0.0/8", "10.0.0.5:0", "10.0.0.5:x", "example.org", "10.0.0.0/28:x"] {
            assert!(bad.parse::<ProbeTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_port_is_one_that_others_can_reach() {
        let parse = |texts: &[&str]| -> Vec<Multiaddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let quic = "/ip4/192.168.1.2/udp/5/quic-v1";
        assert_eq!(tcp_port(&parse(&["/ip4/127.0.0.1/tcp/7", quic])), None);
        assert_eq!(
            tcp_port(&parse(&[quic, "/ip4/127.0.0.1/tcp/7", "/ip6/fd00::1/tcp/8"])),
            Some(8)
        );
        assert_eq!(Place::read("/dns/a.example/tcp/1"), None);
    }
}
