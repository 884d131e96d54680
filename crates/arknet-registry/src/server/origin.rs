//! Whose request it is, for counting.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

use crate::limits::HOPS_MAX;

/// Who holds the other end of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote(pub(super) IpAddr);

/// The address to count a request under. Behind a balancer that is trusted, the last hop that is
/// not itself such a balancer: what stands before it, anybody may have written.
pub(super) fn counted(remote: Remote, headers: &HeaderMap, trusted: &[IpAddr]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.contains(&ip.to_canonical());
    if !is_trusted(&remote.0) {
        return network(remote.0);
    }
    let values = headers.get_all("x-forwarded-for").iter().rev();
    let hops = values.flat_map(|value| value.to_str().unwrap_or_default().rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        match hop.trim().parse() {
            Ok(ip) if is_trusted(&ip) => {}
            Ok(ip) => return network(ip),
            Err(_) => break,
        }
    }
    network(remote.0)
}

/// A household of IPv6 has a /64 at least, and may use all of it.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let prefix = ip.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn counted_as(remote: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_str(value).unwrap());
        }
        let trusted: Vec<IpAddr> = trusted.iter().map(|ip| ip.parse().unwrap()).collect();
        counted(Remote(remote.parse().unwrap()), &headers, &trusted).to_string()
    }

    #[test]
    fn forwarded_addresses_count_from_trusted_balancers_only() {
        let balancers = ["10.0.0.1", "10.0.0.2"];
        assert_eq!(counted_as("192.0.2.1", &["192.0.2.9"], &balancers), "192.0.2.1");
        assert_eq!(counted_as("10.0.0.1", &["192.0.2.9"], &[]), "10.0.0.1");
        assert_eq!(counted_as("10.0.0.1", &["192.0.2.9"], &balancers), "192.0.2.9");
        assert_eq!(counted_as("::ffff:10.0.0.1", &["192.0.2.9"], &balancers), "192.0.2.9");
    }

    #[test]
    fn what_a_client_writes_itself_does_not_count() {
        let balancers = ["10.0.0.1", "10.0.0.2"];
        let forged = ["1.1.1.1, 192.0.2.9, 10.0.0.2"];
        assert_eq!(counted_as("10.0.0.1", &forged, &balancers), "192.0.2.9");
        assert_eq!(counted_as("10.0.0.1", &["1.1.1.1", "192.0.2.9"], &balancers), "192.0.2.9");
        for broken in ["", "x", "1.1.1.1, x", "10.0.0.2"] {
            assert_eq!(counted_as("10.0.0.1", &[broken], &balancers), "10.0.0.1", "{broken:?}");
        }
        let long = vec!["10.0.0.2"; HOPS_MAX + 1].join(",");
        let long = format!("192.0.2.9,{long}");
        assert_eq!(counted_as("10.0.0.1", &[&long], &balancers), "10.0.0.1");
    }

    #[test]
    fn a_household_is_counted_as_one() {
        assert_eq!(counted_as("2001:db8::1:2:3:4", &[], &[]), "2001:db8::");
        assert_eq!(counted_as("::ffff:192.0.2.1", &[], &[]), "192.0.2.1");
    }
}
