//! Configurations as `wg-quick` reads them, as far as they describe a tunnel and run nothing.

use std::{fmt::Write, str::FromStr};

use zeroize::Zeroizing;

use crate::{
    KeyError, Network, NetworkError, PrivateKey, PublicKey, SharedKey,
    limits::{CONFIGURATION_BYTES_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, NETWORKS_MAX, PEERS_MAX},
};

/// What stands before the name of a peer, on a line of its own below `[Peer]`.
const NAME_MARK: &str = "# Name = ";

/// A tunnel of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Configuration {
    /// The key of this machine.
    pub key: PrivateKey,
    /// The addresses of this machine in the tunnel, each with its network.
    pub addresses: Vec<Network>,
    /// The port on which packets arrive; any when none.
    pub listen_port: Option<u16>,
    /// Bytes of the largest packet inside.
    pub mtu: Option<u16>,
    /// Who is at the other ends.
    pub peers: Vec<PeerSection>,
}

/// Another machine in the tunnel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerSection {
    /// What it is called here.
    pub name: Option<String>,
    /// Its key.
    pub key: PublicKey,
    /// The secret shared with it.
    pub shared: Option<SharedKey>,
    /// The addresses behind it: what it sends from others is dropped.
    pub allowed: Vec<Network>,
    /// Where it is reached: `host:port`. Where it is not known, it must begin.
    pub endpoint: Option<String>,
    /// Seconds between two packets that keep the way open.
    pub keepalive_s: Option<u16>,
}

/// Why a text is not the configuration of a tunnel.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// A key that runs programs or changes the machine beyond the tunnel.
    #[error("line {line}: {key} does more than make a tunnel, and is not followed here")]
    Forbidden {
        /// The line.
        line: usize,
        /// The key.
        key: String,
    },
    /// A value that is none.
    #[error("line {line}: {reason}")]
    Line {
        /// The line.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// Something that a tunnel needs.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// More than it may hold.
    #[error("more than {max} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many it may hold.
        max: usize,
    },
    /// Two sections for one machine.
    #[error("two [Peer] sections have the key {0}")]
    Twice(PublicKey),
}

/// Keys of `wg-quick` that run programs, or change routes and names of the whole machine. From
/// somebody else's file they would be that person's hand on this machine.
const FORBIDDEN: [&str; 8] =
    ["dns", "fwmark", "postdown", "postup", "predown", "preup", "saveconfig", "table"];

#[derive(Clone, Copy, Eq, PartialEq)]
enum Section {
    None,
    Interface,
    Peer,
}

/// What is read so far.
#[derive(Default)]
struct Draft {
    key: Option<PrivateKey>,
    addresses: Vec<Network>,
    listen_port: Option<u16>,
    mtu: Option<u16>,
    peers: Vec<PeerDraft>,
}

#[derive(Default)]
struct PeerDraft {
    name: Option<String>,
    key: Option<PublicKey>,
    shared: Option<SharedKey>,
    allowed: Vec<Network>,
    endpoint: Option<String>,
    keepalive_s: Option<u16>,
}

impl Configuration {
    /// Reads a configuration. Keys that run programs are refused, as are those that nobody knows.
    pub fn parse(text: &str) -> Result<Self, ConfigurationError> {
        if text.len() > CONFIGURATION_BYTES_MAX {
            let max = CONFIGURATION_BYTES_MAX;
            return Err(ConfigurationError::TooMuch { what: "bytes", max });
        }
        let mut draft = Draft::default();
        let mut section = Section::None;
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = |reason: String| ConfigurationError::Line { line: number, reason };
            if line.len() > LINE_BYTES_MAX {
                return Err(wrong(format!("more than {LINE_BYTES_MAX} bytes")));
            }
            if let (Section::Peer, Some(name)) = (section, line.strip_prefix(NAME_MARK)) {
                if let Some(peer) = draft.peers.last_mut() {
                    peer.name = Some(name.trim().to_owned()).filter(|name| is_name(name));
                }
                continue;
            }
            match line.split('#').next().unwrap_or_default().trim() {
                "" => {}
                line if line.eq_ignore_ascii_case("[interface]") => section = Section::Interface,
                line if line.eq_ignore_ascii_case("[peer]") => {
                    section = Section::Peer;
                    draft.peers.push(PeerDraft::default());
                    if draft.peers.len() > PEERS_MAX {
                        return Err(ConfigurationError::TooMuch { what: "peers", max: PEERS_MAX });
                    }
                }
                line => {
                    let (key, value) = line
                        .split_once('=')
                        .ok_or_else(|| wrong("neither a section nor KEY = VALUE".into()))?;
                    let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
                    if FORBIDDEN.contains(&key.as_str()) {
                        return Err(ConfigurationError::Forbidden { line: number, key });
                    }
                    draft.set(section, &key, value).map_err(wrong)?;
                }
            }
        }
        draft.finish()
    }

    /// The text of this configuration, with its secrets.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        let out = &mut *text;
        let written = (|| {
            writeln!(out, "[Interface]\nPrivateKey = {}", *self.key.reveal())?;
            writeln!(out, "Address = {}", list(&self.addresses))?;
            if let Some(port) = self.listen_port {
                writeln!(out, "ListenPort = {port}")?;
            }
            if let Some(mtu) = self.mtu {
                writeln!(out, "MTU = {mtu}")?;
            }
            self.peers.iter().try_for_each(|peer| write!(out, "\n{}", *peer.reveal()))
        })();
        written.expect("a text takes what is written");
        text
    }
}

impl PeerSection {
    /// The text of this section, with its secrets.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(512));
        let out = &mut *text;
        let written = (|| {
            writeln!(out, "[Peer]")?;
            if let Some(name) = &self.name {
                writeln!(out, "{NAME_MARK}{name}")?;
            }
            writeln!(out, "PublicKey = {}", self.key)?;
            if let Some(shared) = &self.shared {
                writeln!(out, "PresharedKey = {}", *shared.reveal())?;
            }
            writeln!(out, "AllowedIPs = {}", list(&self.allowed))?;
            if let Some(endpoint) = &self.endpoint {
                writeln!(out, "Endpoint = {endpoint}")?;
            }
            if let Some(seconds) = self.keepalive_s {
                writeln!(out, "PersistentKeepalive = {seconds}")?;
            }
            std::fmt::Result::Ok(())
        })();
        written.expect("a text takes what is written");
        text
    }
}

impl Draft {
    fn set(&mut self, section: Section, key: &str, value: &str) -> Result<(), String> {
        match (section, key) {
            (Section::Interface, "privatekey") => once(&mut self.key, key, parsed(value)?),
            (Section::Interface, "address") => networks(&mut self.addresses, value),
            (Section::Interface, "listenport") => once(&mut self.listen_port, key, number(value)?),
            (Section::Interface, "mtu") => match number(value)? {
                mtu if mtu >= 576 => once(&mut self.mtu, key, mtu),
                _ => Err("MTU is 576 at least".into()),
            },
            (Section::Peer, _) => match self.peers.last_mut() {
                Some(peer) => peer.set(key, value),
                None => Err("a value before any section".into()),
            },
            (Section::None, _) => Err("a value before any section".into()),
            (Section::Interface, _) => Err(format!("[Interface] has no {key}")),
        }
    }

    fn finish(self) -> Result<Configuration, ConfigurationError> {
        let key = self.key.ok_or(ConfigurationError::Missing("PrivateKey"))?;
        if self.addresses.is_empty() {
            return Err(ConfigurationError::Missing("Address"));
        }
        let mut peers: Vec<PeerSection> = Vec::with_capacity(self.peers.len());
        for draft in self.peers {
            let key = draft.key.ok_or(ConfigurationError::Missing("PublicKey of a [Peer]"))?;
            if peers.iter().any(|peer| peer.key == key) {
                return Err(ConfigurationError::Twice(key));
            }
            peers.push(PeerSection {
                name: draft.name,
                key,
                shared: draft.shared,
                allowed: draft.allowed,
                endpoint: draft.endpoint,
                keepalive_s: draft.keepalive_s,
            });
        }
        let (addresses, listen_port, mtu) = (self.addresses, self.listen_port, self.mtu);
        Ok(Configuration { key, addresses, listen_port, mtu, peers })
    }
}

impl PeerDraft {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "publickey" => once(&mut self.key, key, parsed(value)?),
            "presharedkey" => once(&mut self.shared, key, parsed(value)?),
            "allowedips" => networks(&mut self.allowed, value),
            "endpoint" if is_endpoint(value) => once(&mut self.endpoint, key, value.to_owned()),
            "endpoint" => Err("an endpoint is written as HOST:PORT".into()),
            "persistentkeepalive" if value.eq_ignore_ascii_case("off") => Ok(()),
            "persistentkeepalive" => once(&mut self.keepalive_s, key, number(value)?),
            _ => Err(format!("[Peer] has no {key}")),
        }
    }
}

fn once<T>(slot: &mut Option<T>, key: &str, value: T) -> Result<(), String> {
    match slot.replace(value) {
        Some(_) => Err(format!("{key} stands there twice")),
        None => Ok(()),
    }
}

fn parsed<T: FromStr<Err = KeyError>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: KeyError| error.to_string())
}

fn number(value: &str) -> Result<u16, String> {
    value.parse().map_err(|_| "not a number from 0 to 65535".into())
}

fn networks(into: &mut Vec<Network>, value: &str) -> Result<(), String> {
    for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        into.push(one.parse().map_err(|error: NetworkError| error.to_string())?);
        if into.len() > NETWORKS_MAX {
            return Err(format!("more than {NETWORKS_MAX} networks"));
        }
    }
    Ok(())
}

fn list(networks: &[Network]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether it is `host:port`, where the host is a name or an address.
pub(crate) fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_v6 = host.starts_with('[') && host.ends_with(']');
    port.parse().is_ok_and(|port: u16| port > 0)
        && match is_v6 {
            true => host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok(),
            false => is_host(host),
        }
}

/// Whether it is the name of a host, or an address of IPv4.
pub(crate) fn is_host(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        && !text.starts_with('-')
}

/// Whether it can be the name of a peer, and of a file.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !text.starts_with(['-', '.'])
}

#[cfg(test)]
mod tests;
