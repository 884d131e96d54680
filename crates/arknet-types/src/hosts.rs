use core::net::IpAddr;

/// The names under which an HTTP service of a node may be addressed. A page of another site can make
/// a browser reach a loopback address by a name of its own (DNS rebinding): what then stands in
/// `Host` is not among these.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<String>,
    /// A service on all addresses of the machine does not know them; a number is no name that could
    /// be made to mean another machine.
    any_number: bool,
}

impl Hosts {
    /// Those of a service that listens on this address: the machine itself, and names that its owner
    /// allows, with or without a port.
    #[must_use]
    pub fn new(listening: IpAddr, allowed: &[String]) -> Self {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(Into::into).into();
        if !listening.is_unspecified() {
            names.push(match listening {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            });
        }
        names.extend(allowed.iter().map(|host| without_port(host).to_owned()));
        Self { names, any_number: listening.is_unspecified() }
    }

    /// Whether `authority`, a host with or without a port, is one of them.
    #[must_use]
    pub fn contain(&self, authority: &str) -> bool {
        let name = without_port(authority);
        let number = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        self.names.iter().any(|host| host.eq_ignore_ascii_case(name))
            || (self.any_number && number.parse::<IpAddr>().is_ok())
    }
}

/// `[::1]:4000` and `[::1]` give `[::1]`; `localhost:4000` gives `localhost`.
fn without_port(authority: &str) -> &str {
    if authority.starts_with('[') {
        let end = authority.find(']').map_or(authority.len(), |at| at + 1);
        let (name, rest) = authority.split_at(end);
        let clean = rest.is_empty() || rest.starts_with(':');
        return if clean { name } else { authority };
    }
    authority.split_once(':').map_or(authority, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_names_and_on_all_addresses_by_any_number() {
        let one = Hosts::new("192.168.7.7".parse().unwrap(), &["Box.local:4000".into()]);
        for host in ["localhost", "127.0.0.1:1", "[::1]:1", "192.168.7.7", "box.LOCAL:9"] {
            assert!(one.contain(host), "{host}");
        }
        for host in ["", "evil.example", "192.168.7.8", "[::1", "[::1]x", "localhost.evil.example"]
        {
            assert!(!one.contain(host), "{host}");
        }
        let all = Hosts::new("::".parse().unwrap(), &[]);
        assert!(all.contain("192.168.7.8:1") && all.contain("[fe80::1]:1"));
        assert!(!all.contain("box.local"));
    }
}
