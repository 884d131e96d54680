//! The file `arknet.toml`, typed. Flags override the file; unknown keys are refused.

use std::{
    collections::BTreeSet,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use arknet_types::{Atoms, ModelName, NetworkId, PublicKey};
use serde::{Deserialize, Serialize};

/// The file name of the configuration in the data directory.
pub const FILE_NAME: &str = "arknet.toml";

/// A part a node plays.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs models for others.
    Compute,
    /// The local HTTP door.
    Gateway,
    /// Seed and relay.
    Validator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Compute => "compute",
            Self::Gateway => "gateway",
            Self::Validator => "validator",
        })
    }
}

impl std::str::FromStr for Role {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        match text.trim() {
            "compute" => Ok(Self::Compute),
            "gateway" => Ok(Self::Gateway),
            "validator" => Ok(Self::Validator),
            _ => Err(ConfigError::Role { found: text.to_owned() }),
        }
    }
}

/// The whole configuration, complete and typed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The parts this node plays.
    pub roles: BTreeSet<Role>,
    /// How long running work may go on after a stop was asked for, in milliseconds (0 to 600000).
    pub shutdown_grace_ms: u64,
    /// The node API for status and administration.
    pub admin: Admin,
    /// What is served to others.
    pub compute: Compute,
    /// The local HTTP door.
    pub gateway: Gateway,
    /// The connections to other nodes.
    pub mesh: MeshSection,
}

/// The section `[mesh]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeshSection {
    /// Addresses to listen on: multiaddrs.
    pub listen: Vec<String>,
    /// Addresses at which this node can be reached, where it cannot find out itself.
    pub external: Vec<String>,
    /// Peers to connect to first; those of `seeds.json` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<String>>,
    /// The network; that of `seeds.json` when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkId>,
}

/// The section `[gateway]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Address and port; loopback only, as there are no keys yet.
    pub listen: SocketAddr,
    /// What the requests of this gateway may cost in a day, in atoms; 0 uses free peers only.
    pub spending_cap_atoms: u64,
}

/// The section `[admin]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port; loopback only.
    pub listen: SocketAddr,
}

/// The section `[compute]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compute {
    /// The models to serve; all that were added when empty, and `arknet/tiny` when there is none.
    pub models: Vec<ModelName>,
    /// The peer ids that may ask; anybody when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_peers: Option<Vec<String>>,
    /// Requests one peer may have running or waiting here (1 to 65536).
    pub requests_per_peer_max: u32,
    /// Requests that may wait for a slot of one model (0 to 65536).
    pub queue_max: u32,
    /// Tokens of input and answer together; the model's own, up to 8192, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Requests served at once by one model; as many as memory allows, up to 16, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u16>,
    /// Threads for the engine; one for each core when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u16>,
    /// Memory for models and their caches in bytes; what is free at the start when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// Price of a million input tokens in atoms; 0 is free.
    pub input_price_atoms: u64,
    /// Price of a million generated tokens in atoms; 0 is free.
    pub output_price_atoms: u64,
    /// A reader that takes nothing for so long loses its answer, in milliseconds (1000 to 600000).
    pub slow_reader_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: [Role::Compute, Role::Gateway].into(),
            shutdown_grace_ms: 10_000,
            admin: Admin::default(),
            compute: Compute::default(),
            gateway: Gateway::default(),
            mesh: MeshSection::default(),
        }
    }
}

impl Default for MeshSection {
    fn default() -> Self {
        let listen = ["/ip4/0.0.0.0/tcp/26656", "/ip4/0.0.0.0/udp/26656/quic-v1"];
        Self { listen: listen.map(Into::into).into(), external: vec![], seeds: None, network: None }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 4000)), spending_cap_atoms: 0 }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8910)) }
    }
}

impl Default for Compute {
    fn default() -> Self {
        Self {
            models: vec![],
            allow_peers: None,
            requests_per_peer_max: 256,
            queue_max: 256,
            context_tokens: None,
            slots: None,
            threads: None,
            memory_bytes_max: None,
            input_price_atoms: 0,
            output_price_atoms: 0,
            slow_reader_ms: 60_000,
        }
    }
}

/// What flags change.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--role`.
    pub roles: Option<BTreeSet<Role>>,
    /// `--listen`, for the mesh.
    pub listen: Option<Vec<String>>,
    /// `--seed`.
    pub seeds: Option<Vec<String>>,
    /// `--gateway`.
    pub gateway: Option<SocketAddr>,
    /// `--admin`.
    pub admin: Option<SocketAddr>,
    /// `--model`.
    pub models: Option<Vec<ModelName>>,
}

/// Why a configuration does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not the configuration's.
    #[error("{}: {source}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        source: Box<toml::de::Error>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// An address without keys would be open to the network.
    #[error(
        "{key} = {address}: only a loopback address (127.0.0.1) is allowed, there are no keys yet"
    )]
    NotLoopback {
        /// The key.
        key: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// Not a peer id.
    #[error("compute.allow_peers: {text} is not a peer id (they begin with 12D3Koo)")]
    PeerId {
        /// The text.
        text: String,
    },
    /// A value out of its bounds.
    #[error("{key} must lie between {low} and {high}")]
    Range {
        /// The key.
        key: &'static str,
        /// The least.
        low: u64,
        /// The most.
        high: u64,
    },
    /// Not a role.
    #[error("{found:?} is not a role; the roles are compute, gateway and validator")]
    Role {
        /// The text.
        found: String,
    },
    /// A node that plays no part.
    #[error("roles is empty; the roles are compute, gateway and validator")]
    Roles,
}

impl Config {
    /// Reads the file, or takes the defaults where there is none, lays the flags over it, checks.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Io { path: path.to_owned(), source }),
        };
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Content {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        config.lay_over(overrides);
        config.check()?;
        Ok(config)
    }

    fn lay_over(&mut self, overrides: &Overrides) {
        let overrides = overrides.clone();
        fn set<T>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(&mut self.roles, overrides.roles);
        set(&mut self.mesh.listen, overrides.listen);
        set(&mut self.gateway.listen, overrides.gateway);
        set(&mut self.admin.listen, overrides.admin);
        set(&mut self.compute.models, overrides.models);
        if overrides.seeds.is_some() {
            self.mesh.seeds = overrides.seeds;
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.roles.is_empty() {
            return Err(ConfigError::Roles);
        }
        let listeners =
            [("gateway.listen", self.gateway.listen), ("admin.listen", self.admin.listen)];
        for (key, address) in listeners {
            if !address.ip().is_loopback() {
                return Err(ConfigError::NotLoopback { key, address });
            }
        }
        let compute = &self.compute;
        for (key, value, low, high) in [
            ("shutdown_grace_ms", self.shutdown_grace_ms, 0, 600_000),
            ("compute.requests_per_peer_max", compute.requests_per_peer_max.into(), 1, 65_536),
            ("compute.queue_max", compute.queue_max.into(), 0, 65_536),
            ("compute.slow_reader_ms", compute.slow_reader_ms, 1_000, 600_000),
            ("compute.slots", compute.slots.unwrap_or(1).into(), 1, 1_024),
            ("compute.threads", compute.threads.unwrap_or(1).into(), 1, 1_024),
            ("compute.context_tokens", compute.context_tokens.unwrap_or(64).into(), 64, 1 << 24),
        ] {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Range { key, low, high });
            }
        }
        self.allowed_peers().map(|_| ())
    }

    /// The peers that may ask; anybody when `None`.
    pub fn allowed_peers(&self) -> Result<Option<BTreeSet<PublicKey>>, ConfigError> {
        let parse =
            |text: &String| text.parse().map_err(|_| ConfigError::PeerId { text: text.clone() });
        self.compute.allow_peers.as_ref().map(|peers| peers.iter().map(parse).collect()).transpose()
    }

    /// Whether the node plays this part.
    #[must_use]
    pub fn plays(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// What is asked for a million tokens, input and output.
    #[must_use]
    pub const fn price(&self) -> arknet_protocol::Price {
        arknet_protocol::Price {
            input: Atoms(self.compute.input_price_atoms),
            output: Atoms(self.compute.output_price_atoms),
        }
    }

    /// The configuration as it would stand in the file.
    ///
    /// # Panics
    /// Never: every value has a form in TOML.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every value of the configuration has a form in TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, text).unwrap();
        Config::load(&path, &Overrides::default())
    }

    #[test]
    fn nothing_configured_is_a_useful_node() {
        let config =
            Config::load(Path::new("/nowhere/arknet.toml"), &Overrides::default()).unwrap();
        assert_eq!(config, Config::default());
        assert!(config.plays(Role::Compute) && config.plays(Role::Gateway));
        assert_eq!(load(&config.to_toml()).unwrap(), config, "what is shown can be read again");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            ("rolls = []", "unknown field `rolls`"),
            ("[gateway]\nlisten = \"127.0.0.1:4000\"\nport = 1", "unknown field `port`"),
            ("roles = []", "roles is empty"),
            ("roles = [\"king\"]", "unknown variant `king`"),
            ("[gateway]\nlisten = \"0.0.0.0:4000\"", "loopback"),
            ("[admin]\nlisten = \"192.168.1.1:1\"", "loopback"),
            ("[compute]\nqueue_max = 65537", "between 0 and 65536"),
            ("[compute]\nallow_peers = [\"bob\"]", "bob is not a peer id"),
            ("[compute]\nmodels = [\"a b\"]", "may not contain"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn flags_go_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, "roles = [\"validator\"]").unwrap();
        let overrides = Overrides { roles: Some([Role::Gateway].into()), ..Overrides::default() };
        let config = Config::load(&path, &overrides).unwrap();
        assert_eq!(config.roles, [Role::Gateway].into());
    }
}
