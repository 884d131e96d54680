//! The tunnels of a data directory: made, opened to others by invitations, joined by them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::{
    Configuration, ConfigurationError, KeyError, Network, NetworkError, PeerSection, PrivateKey,
    SharedKey,
    configuration::{is_endpoint, is_host, is_name},
    limits::{CONFIGURATION_BYTES_MAX, INTERFACE_BYTES_MAX},
};

/// Seconds between two packets of whoever joins: what most routers keep a way open for.
const KEEPALIVE_S: u16 = 25;
/// Bytes of the largest packet inside: what remains of 1500 over IPv6.
const MTU: u16 = 1420;

/// Why a tunnel cannot be made, opened or joined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The text is not a configuration.
    #[error("{}: {source}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigurationError,
    },
    /// Not where a tunnel can be reached.
    #[error("{text} is neither HOST nor HOST:PORT")]
    Endpoint {
        /// The text.
        text: String,
    },
    /// What is there is not overwritten.
    #[error("{} is there already; choose another --interface, or remove it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// An invitation that wants more than to be let in.
    #[error("{}: this is no invitation: {reason}", path.display())]
    Invitation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not the name of an interface.
    #[error(
        "{name}: an interface has 1 to {INTERFACE_BYTES_MAX} of a-z, A-Z, 0-9, -, _ and ., and begins with a letter"
    )]
    Interface {
        /// The name.
        name: String,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Not the name of a peer.
    #[error("{name}: a peer's name has 1 to 63 of a-z, A-Z, 0-9, -, _ and .")]
    Name {
        /// The name.
        name: String,
    },
    /// A peer of this name was invited before.
    #[error("{name} was invited before; take its [Peer] section out of {} first", path.display())]
    NameTaken {
        /// The name.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// No address for another machine.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Nobody can come in without a port that is known.
    #[error("{} has no ListenPort, so nobody can be invited to it", path.display())]
    NoPort {
        /// The file.
        path: PathBuf,
    },
    /// There is no such tunnel.
    #[error(
        "there is no tunnel {interface} here; make one with: arknet vpn init, or join one with: arknet vpn join FILE"
    )]
    NoTunnel {
        /// Its name.
        interface: String,
    },
    /// Others can read the key.
    #[error("{} can be read by others; run: chmod 600 {}", path.display(), path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
}

/// One tunnel of a data directory.
#[derive(Clone, Debug)]
pub struct Tunnel {
    interface: String,
    path: PathBuf,
}

/// A configuration for another machine, ready to be handed over. Who has it can enter.
#[derive(Debug)]
pub struct Invitation {
    /// Whom it is for.
    pub name: String,
    /// The address that machine has in the tunnel.
    pub address: Network,
    /// Where it will find this machine.
    pub endpoint: String,
    /// The configuration, with its secrets.
    pub configuration: Configuration,
}

impl Tunnel {
    /// The tunnel whose interface has this name, in `folder`.
    pub fn new(folder: &Path, interface: &str) -> Result<Self, TunnelError> {
        let is_good = is_name(interface)
            && interface.len() <= INTERFACE_BYTES_MAX
            && interface.starts_with(|c: char| c.is_ascii_alphabetic());
        if !is_good {
            return Err(TunnelError::Interface { name: interface.to_owned() });
        }
        let path = folder.join(format!("{interface}.conf"));
        Ok(Self { interface: interface.to_owned(), path })
    }

    /// The name of its interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Its configuration.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads its configuration, which nobody else may be able to read.
    pub fn read(&self) -> Result<Configuration, TunnelError> {
        self.parse(&self.text()?)
    }

    fn text(&self) -> Result<Zeroizing<String>, TunnelError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TunnelError::NoTunnel { interface: self.interface.clone() });
            }
            Err(source) => return Err(TunnelError::Io { path: self.path.clone(), source }),
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = file.metadata().map_err(at(&self.path))?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(TunnelError::Open { path: self.path.clone() });
            }
        }
        read(file).map_err(at(&self.path))
    }

    fn parse(&self, text: &str) -> Result<Configuration, TunnelError> {
        Configuration::parse(text)
            .map_err(|source| TunnelError::Configuration { path: self.path.clone(), source })
    }

    /// Makes the first end of a tunnel: a key, and the first address of `network`.
    pub fn init(&self, network: Network, listen_port: u16) -> Result<Configuration, TunnelError> {
        let address = network.free_address(&[])?;
        let configuration = Configuration {
            key: PrivateKey::generate()?,
            addresses: vec![Network { address: address.into(), bits: network.bits }],
            listen_port: Some(listen_port),
            mtu: Some(MTU),
            peers: vec![],
        };
        self.create(&configuration)?;
        Ok(configuration)
    }

    /// Lets a machine in: a key for it, a secret shared with it, and an address. `endpoint` is where
    /// that machine will find this one: a host, and the port where it is not the one listened on.
    pub fn invite(&self, name: &str, endpoint: &str) -> Result<Invitation, TunnelError> {
        if !is_name(name) {
            return Err(TunnelError::Name { name: name.to_owned() });
        }
        let text = self.text()?;
        let own = self.parse(&text)?;
        let port =
            own.listen_port.ok_or_else(|| TunnelError::NoPort { path: self.path.clone() })?;
        let endpoint = match endpoint {
            host if is_host(host) => format!("{host}:{port}"),
            place if is_endpoint(place) => place.to_owned(),
            text => return Err(TunnelError::Endpoint { text: text.to_owned() }),
        };
        if own.peers.iter().any(|peer| peer.name.as_deref() == Some(name)) {
            return Err(TunnelError::NameTaken { name: name.to_owned(), path: self.path.clone() });
        }
        let network = *own.addresses.first().ok_or(NetworkError::Unsuitable)?;
        let allowed = own.peers.iter().flat_map(|peer| &peer.allowed);
        let taken: Vec<_> =
            own.addresses.iter().chain(allowed).map(|network| network.address).collect();
        let address = network.free_address(&taken)?.into();
        let (key, shared) = (PrivateKey::generate()?, SharedKey::generate()?);
        let section = PeerSection {
            name: Some(name.to_owned()),
            key: key.public(),
            shared: Some(shared.clone()),
            allowed: vec![Network::single(address)],
            endpoint: None,
            keepalive_s: None,
        };
        let hub = PeerSection {
            name: None,
            key: own.key.public(),
            shared: Some(shared),
            allowed: vec![network.truncated()],
            endpoint: Some(endpoint.clone()),
            keepalive_s: Some(KEEPALIVE_S),
        };
        let address = Network { address, bits: network.bits };
        let configuration = Configuration {
            key,
            addresses: vec![address],
            listen_port: None,
            mtu: own.mtu,
            peers: vec![hub],
        };
        // Behind what stands there, so that the owner's remarks stay.
        let separated = Zeroizing::new(format!("{}\n\n{}", text.trim_end(), *section.reveal()));
        self.parse(&separated)?;
        self.replace(&separated)?;
        Ok(Invitation { name: name.to_owned(), address, endpoint, configuration })
    }

    /// Takes an invitation, which must ask for nothing but the tunnel: one end that is reached
    /// somewhere, and no addresses but those of the tunnel's network.
    pub fn join(&self, invitation: &Path) -> Result<Configuration, TunnelError> {
        let file = File::open(invitation).map_err(at(invitation))?;
        let text = read(file).map_err(at(invitation))?;
        let configuration = Configuration::parse(&text)
            .map_err(|source| TunnelError::Configuration { path: invitation.to_owned(), source })?;
        check_invitation(&configuration)
            .map_err(|reason| TunnelError::Invitation { path: invitation.to_owned(), reason })?;
        self.create(&configuration)?;
        Ok(configuration)
    }

    fn create(&self, configuration: &Configuration) -> Result<(), TunnelError> {
        if let Some(folder) = self.path.parent() {
            create_folder(folder).map_err(at(folder))?;
        }
        match write_new(&self.path, &configuration.reveal()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TunnelError::Exists { path: self.path.clone() })
            }
            result => result.map_err(at(&self.path)),
        }
    }

    fn replace(&self, text: &str) -> Result<(), TunnelError> {
        let draft = self.path.with_extension("draft");
        let _ = fs::remove_file(&draft);
        let written = write_new(&draft, text).and_then(|()| fs::rename(&draft, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written.map_err(at(&self.path))
    }
}

impl Invitation {
    /// Writes the invitation into a new file that only its owner may read.
    pub fn write(&self, path: &Path) -> Result<(), TunnelError> {
        match write_new(path, &self.configuration.reveal()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(TunnelError::Exists { path: path.to_owned() })
            }
            result => result.map_err(at(path)),
        }
    }
}

fn check_invitation(configuration: &Configuration) -> Result<(), String> {
    let [peer] = &configuration.peers[..] else {
        return Err("it names one other machine, not more and not less".into());
    };
    if peer.endpoint.is_none() {
        return Err("it does not say where the other machine is".into());
    }
    let is_inside = |network: &Network| {
        configuration.addresses.iter().any(|address| address.truncated().contains(network))
    };
    if let Some(beyond) = peer.allowed.iter().find(|network| !is_inside(network)) {
        return Err(format!("it would lead {beyond} through the tunnel, which is not its network"));
    }
    for address in &configuration.addresses {
        address.check_for_machines().map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn read(file: File) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    file.take(CONFIGURATION_BYTES_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Writes a file that is not there yet and that only its owner may read.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> TunnelError {
    move |source| TunnelError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
