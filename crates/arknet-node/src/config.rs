//! The file `arknet.toml`, typed. Flags override the file; unknown keys are refused.

mod ledger;
mod registry;

use std::{
    collections::BTreeSet,
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use arknet_protocol::{Preempt, Who};
use arknet_provider::upstream::UpstreamOptions;
use arknet_types::{Atoms, Endpoint, ModelName, NetworkId, NodeId, Profile};
use serde::{Deserialize, Serialize};

pub use self::{
    ledger::{LedgerSection, NotABlock, TrustedBlock},
    registry::{RegistryDatabase, RegistryDatabaseError, RegistrySection},
};
use crate::discovery::{self, ProbeTarget};

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
    /// This node among those of its neighbourhood.
    pub grid: Grid,
    /// What is served to others.
    pub compute: Compute,
    /// The local HTTP door.
    pub gateway: Gateway,
    /// The ledger, where `genesis.json` says which.
    pub ledger: LedgerSection,
    /// The connections to other nodes.
    pub mesh: MeshSection,
    /// A registry that runs here.
    pub registry: RegistrySection,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// Services that somebody runs already, whose models this node serves.
    #[serde(skip_serializing_if = "Upstreams::is_empty")]
    pub upstreams: Upstreams,
}

/// The sections `[[upstreams]]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Upstreams(pub Vec<UpstreamOptions>);

impl Upstreams {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl PartialEq for Upstreams {
    /// By what the file says; keys are not part of it.
    fn eq(&self, other: &Self) -> bool {
        serde_json::to_value(self).ok() == serde_json::to_value(other).ok()
    }
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

/// The section `[grid]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grid {
    /// What this node calls itself; made of the host's name and the peer key when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// Look for nodes on the local network by multicast DNS, and be found by them.
    pub mdns: bool,
    /// Peers to look for at known places: multiaddrs, with or without `/p2p/` and the peer id.
    pub peers: Vec<String>,
    /// Addresses behind tunnels in which to look for nodes, beside those that WireGuard's
    /// interfaces allow: `10.0.0.5`, `10.0.0.5:26656`, `10.0.0.0/28`, `fd00::5` (256 at most).
    pub probe: Vec<String>,
    /// A public directory to look for nodes in: `https://registry.example`. None by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The certificate the directory must have, in PEM; any of a public authority when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_ca: Option<PathBuf>,
    /// Be listed there: name, key, address and models, for everybody.
    pub registry_register: bool,
    /// The address to be listed with (`192.0.2.7:26656`); what the node finds out when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_endpoint: Option<Endpoint>,
    /// The file of approved peers; `approved_peers.json` in the data directory when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_peers: Option<PathBuf>,
    /// The log of what other peers ask; `audit.log` in the data directory when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_log: Option<PathBuf>,
    /// A file of that log that is larger is followed by another one, in bytes (65536 to 1 TiB).
    pub audit_file_bytes_max: u64,
    /// Nothing of an answer leaves before the disk has the line that opens its request. Otherwise
    /// the system has it, and a loss of power may take the lines of a few milliseconds.
    pub audit_waits_for_disk: bool,
}

/// The section `[gateway]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Address and port. On anything but loopback every request needs an API key.
    pub listen: SocketAddr,
    /// Ask for an API key on loopback too.
    pub require_key: bool,
    /// Serve everybody who reaches an address that is not loopback, without a key.
    pub danger_no_keys: bool,
    /// Whom to ask for what is not served here: `approved` peers, or `anyone` who offers it. Whoever
    /// is asked reads the question.
    pub ask: AskWhom,
    /// Host names under which the gateway may be addressed, beside loopback and its own address.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://chat.example`) whose web pages may use the gateway; none by default.
    pub allowed_origins: Vec<String>,
    /// What the requests of this gateway may cost in a day, in atoms; 0 uses free peers only.
    pub spending_cap_atoms: u64,
    /// So long, in microseconds, processors may take at most to wake up while there are requests (0 to
    /// 1000000); 0 keeps them awake. What the system does by itself when not given. Linux only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_latency_us_max: Option<u32>,
}

/// Whom a gateway asks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AskWhom {
    /// Peers that this node has approved.
    #[default]
    Approved,
    /// Everybody.
    Anyone,
}

/// The section `[admin]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port. From anywhere but this machine every request needs the token that lies in
    /// `admin.token` in the data directory.
    pub listen: SocketAddr,
    /// Host names under which the node API may be addressed, beside those of loopback.
    pub allowed_hosts: Vec<String>,
}

/// The section `[compute]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compute {
    /// The models to serve; all that were added when empty, and `arknet/tiny` when there is none.
    pub models: Vec<ModelName>,
    /// Serve everybody who asks, approved or not: for tests and demonstrations.
    pub danger_serve_anyone: bool,
    /// Requests one peer may have running or waiting here (1 to 65536).
    pub requests_per_peer_max: u32,
    /// Requests that may wait for a slot of one model (0 to 65536).
    pub queue_max: u32,
    /// What a request of this machine does when peers hold all slots of its model: `queue` takes the
    /// next that comes free, `cut` ends the youngest request of a peer.
    pub preempt: PreemptChoice,
    /// Tokens of input and answer together; the model's own, up to 8192, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens: Option<u32>,
    /// Requests served at once by one model; as many as memory allows, up to 16, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<u16>,
    /// Threads for the engine; one for each core when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u16>,
    /// Memory for all models and their caches in bytes; what is free at the start, less what is
    /// reserved, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
    /// Memory that stays free for everything else on this machine, in bytes; a quarter of what is
    /// free at the start when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reserved_bytes: Option<u64>,
    /// Memory of each model for conversations that may go on, beside its slots, in bytes; an eighth
    /// of its caches, up to 512 MiB, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_cache_bytes_max: Option<u64>,
    /// Tokens that an answer guesses at once from what was said before, at most: text that repeats
    /// something comes sooner, and is what it would be. 0 guesses nothing; 8 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft_tokens_max: Option<u16>,
    /// Compute with what every processor of the last ten years knows, as others may have: slower on
    /// newer ones, with the bits of any of them in the exact profile.
    pub portable_kernels: bool,
    /// Layers on the graphics card, in builds for one; all when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_layers: Option<u32>,
    /// How long a model that nobody uses stays in memory, in milliseconds (0 to 31 days); until its
    /// memory is needed for another when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive_ms: Option<u64>,
    /// Of the memory for models, what is for those that are pinned or that this machine's own apps
    /// use, in MiB. What peers ask for stays out of it, and never sends such a model away.
    pub reserve_memory_mb: u64,
    /// Models that are loaded at the start and stay; `pin` means the same.
    #[serde(alias = "pin")]
    pub pinned: Vec<ModelName>,
    /// Models that compute exactly, whatever `profile` says.
    pub exact: Vec<ModelName>,
    /// `default`, or `exact`: the same bits whatever else is computed, and slower.
    pub profile: EngineProfile,
    /// With `danger_serve_anyone`, hand the files of models to everybody, too. To an approved peer
    /// they go if its `can_pull_models` says so.
    pub share_models: bool,
    /// Bytes of models handed over in a second, over all peers; as many as can be when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share_bytes_per_second: Option<u64>,
    /// Price of a million input tokens in atoms; 0 is free.
    pub input_price_atoms: u64,
    /// Price of a million generated tokens in atoms; 0 is free.
    pub output_price_atoms: u64,
    /// A reader that takes nothing for so long loses its answer, in milliseconds (1000 to 600000).
    pub slow_reader_ms: u64,
}

/// What a request of this machine does when peers hold all slots.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PreemptChoice {
    /// It takes the next slot that comes free.
    #[default]
    Queue,
    /// The youngest request of a peer is ended for it.
    Cut,
}

impl From<PreemptChoice> for Preempt {
    fn from(choice: PreemptChoice) -> Self {
        match choice {
            PreemptChoice::Queue => Self::Queue,
            PreemptChoice::Cut => Self::Cut,
        }
    }
}

/// How models compute.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineProfile {
    /// As fast as can be.
    #[default]
    Default,
    /// The same bits whatever else is computed.
    Exact,
}

impl From<EngineProfile> for Profile {
    fn from(profile: EngineProfile) -> Self {
        match profile {
            EngineProfile::Default => Self::Default,
            EngineProfile::Exact => Self::Exact,
        }
    }
}

/// The section `[telemetry]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where traces go, by OTLP over HTTP: `http://127.0.0.1:4318`. Nowhere when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_url: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            roles: [Role::Compute, Role::Gateway].into(),
            shutdown_grace_ms: 10_000,
            admin: Admin::default(),
            grid: Grid::default(),
            compute: Compute::default(),
            gateway: Gateway::default(),
            ledger: LedgerSection::default(),
            mesh: MeshSection::default(),
            registry: RegistrySection::default(),
            telemetry: Telemetry::default(),
            upstreams: Upstreams::default(),
        }
    }
}

impl Default for MeshSection {
    fn default() -> Self {
        let listen = [
            "/ip4/0.0.0.0/tcp/26656",
            "/ip4/0.0.0.0/udp/26656/quic-v1",
            "/ip6/::/tcp/26656",
            "/ip6/::/udp/26656/quic-v1",
        ];
        Self { listen: listen.map(Into::into).into(), external: vec![], seeds: None, network: None }
    }
}

impl Default for Grid {
    fn default() -> Self {
        Self {
            node_id: None,
            mdns: true,
            peers: vec![],
            probe: vec![],
            registry: None,
            registry_ca: None,
            registry_register: false,
            registry_endpoint: None,
            approved_peers: None,
            audit_log: None,
            audit_file_bytes_max: 16 << 20,
            audit_waits_for_disk: true,
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4000)),
            require_key: false,
            danger_no_keys: false,
            ask: AskWhom::Approved,
            allowed_hosts: vec![],
            allowed_origins: vec![],
            spending_cap_atoms: 0,
            wake_latency_us_max: None,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8910)), allowed_hosts: vec![] }
    }
}

impl Default for Compute {
    fn default() -> Self {
        Self {
            models: vec![],
            danger_serve_anyone: false,
            requests_per_peer_max: 256,
            queue_max: 256,
            preempt: PreemptChoice::Queue,
            context_tokens: None,
            slots: None,
            threads: None,
            memory_bytes_max: None,
            memory_reserved_bytes: None,
            prefix_cache_bytes_max: None,
            draft_tokens_max: None,
            portable_kernels: false,
            gpu_layers: None,
            keep_alive_ms: None,
            reserve_memory_mb: 0,
            pinned: vec![],
            exact: vec![],
            profile: EngineProfile::Default,
            share_models: false,
            share_bytes_per_second: None,
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
    /// A key of earlier versions.
    #[error(
        "{}: compute.allow_peers is gone: remove it, and approve each of those peers with: arknet peers approve PEER_ID",
        path.display()
    )]
    AllowPeers {
        /// The file.
        path: PathBuf,
    },
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
    /// Keys cannot be needed and not needed.
    #[error("gateway.require_key and gateway.danger_no_keys contradict each other")]
    Keys,
    /// Not the address of a peer.
    #[error(
        "grid.peers: {text} is not of the form /ip4/192.168.1.2/tcp/26656, with or without /p2p/12D3Koo.."
    )]
    GridPeer {
        /// The text.
        text: String,
    },
    /// To be listed nowhere.
    #[error("grid.registry_register says to be listed, and no grid.registry says where")]
    GridRegister,
    /// Not the URL of a registry.
    #[error("grid.registry: {text} is not of the form https://HOST or https://HOST:PORT")]
    GridRegistry {
        /// The text.
        text: String,
    },
    /// Nothing that can be searched.
    #[error(
        "grid.probe: {text} is neither an address nor a network of up to 256, such as 10.0.0.0/24"
    )]
    GridProbe {
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
    /// Two upstreams of one name.
    #[error("two sections [[upstreams]] are called {name}")]
    UpstreamTwice {
        /// The name.
        name: String,
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
        let had_allow_peers =
            |table: toml::Table| table.get("compute")?.get("allow_peers").cloned();
        if toml::from_str(&text).ok().and_then(had_allow_peers).is_some() {
            return Err(ConfigError::AllowPeers { path: path.to_owned() });
        }
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
        let mut names = BTreeSet::new();
        for upstream in &self.upstreams.0 {
            let name = upstream.name.clone();
            if !names.insert(&upstream.name) {
                return Err(ConfigError::UpstreamTwice { name });
            }
        }
        for text in &self.grid.peers {
            if !discovery::is_peer_address(text) {
                return Err(ConfigError::GridPeer { text: text.clone() });
            }
        }
        for text in &self.grid.probe {
            if text.parse::<ProbeTarget>().is_err() {
                return Err(ConfigError::GridProbe { text: text.clone() });
            }
        }
        match &self.grid.registry {
            Some(url) if arknet_registry::registry_name(url).is_none() => {
                return Err(ConfigError::GridRegistry { text: url.clone() });
            }
            None if self.grid.registry_register => return Err(ConfigError::GridRegister),
            _ => {}
        }
        if self.gateway.require_key && self.gateway.danger_no_keys {
            return Err(ConfigError::Keys);
        }
        let compute = &self.compute;
        let of_registry = self.registry.ranges();
        for (key, value, low, high) in [
            ("shutdown_grace_ms", self.shutdown_grace_ms, 0, 600_000),
            ("grid.audit_file_bytes_max", self.grid.audit_file_bytes_max, 65_536, 1 << 40),
            ("compute.requests_per_peer_max", compute.requests_per_peer_max.into(), 1, 65_536),
            ("compute.queue_max", compute.queue_max.into(), 0, 65_536),
            ("compute.slow_reader_ms", compute.slow_reader_ms, 1_000, 600_000),
            ("compute.slots", compute.slots.unwrap_or(1).into(), 1, 1_024),
            ("compute.threads", compute.threads.unwrap_or(1).into(), 1, 1_024),
            ("compute.keep_alive_ms", compute.keep_alive_ms.unwrap_or(0), 0, 31 * 24 * 3_600_000),
            ("compute.reserve_memory_mb", compute.reserve_memory_mb, 0, 1 << 30),
            (
                "compute.share_bytes_per_second",
                compute.share_bytes_per_second.unwrap_or(1 << 20),
                1_024,
                1 << 40,
            ),
            (
                "gateway.wake_latency_us_max",
                self.gateway.wake_latency_us_max.unwrap_or(0).into(),
                0,
                1_000_000,
            ),
            ("compute.context_tokens", compute.context_tokens.unwrap_or(64).into(), 64, 1 << 24),
        ]
        .into_iter()
        .chain(self.ledger.ranges())
        .chain(of_registry)
        {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Range { key, low, high });
            }
        }
        Ok(())
    }

    /// Who may ask this node.
    #[must_use]
    pub const fn who(&self) -> Who {
        match self.compute.danger_serve_anyone {
            true => Who::Anyone { files: self.compute.share_models },
            false => Who::Approved,
        }
    }

    /// Whether every request of the gateway needs an API key.
    #[must_use]
    pub const fn needs_key(&self) -> bool {
        let Gateway { listen, require_key, danger_no_keys, .. } = &self.gateway;
        *require_key || (!listen.ip().is_loopback() && !*danger_no_keys)
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
            ("[gateway]\nrequire_key = true\ndanger_no_keys = true", "contradict"),
            ("[[upstreams]]\nname = \"a\"\nkind = \"telex\"\nurl = \"http://h\"", "telex"),
            (
                "[[upstreams]]\nname = \"a\"\nkind = \"ollama\"\nurl = \"http://h\"\n\
                 [[upstreams]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://h\"",
                "two sections",
            ),
            ("[compute]\nprofile = \"quick\"", "unknown variant `quick`"),
            ("[gateway]\nask = \"nobody\"", "unknown variant `nobody`"),
            ("[grid]\nnode_id = \"my node\"", "may not contain"),
            ("[compute]\nqueue_max = 65537", "between 0 and 65536"),
            ("[gateway]\nwake_latency_us_max = 1000001", "between 0 and 1000000"),
            ("[compute]\nallow_peers = [\"bob\"]", "arknet peers approve"),
            ("[ledger]\ncheckpoint_ms = 600001", "ledger.checkpoint_ms must lie between 0 and"),
            (
                "[ledger]\nsnapshot_interval = 1000000001",
                "ledger.snapshot_interval must lie between",
            ),
            ("[ledger]\ntrusted = \"12\"", "\"12\" is not HEIGHT:NAME"),
            ("[ledger]\ntrusted = \"12:0xab\"", "as arknet chain block shows them"),
            ("[compute]\nmodels = [\"a b\"]", "may not contain"),
            (
                "[grid]\nregistry = \"http://r.example\"",
                "http://r.example is not of the form https",
            ),
            ("[grid]\nregistry_register = true", "no grid.registry says where"),
            ("[grid]\npeers = [\"10.0.0.5\"]", "10.0.0.5 is not of the form"),
            ("[grid]\npeers = [\"/ip4/10.0.0.5/tcp/1/p2p/bob\"]", "bob is not of the form"),
            ("[grid]\nprobe = [\"10.0.0.0/8\"]", "neither an address nor a network"),
        ] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_trusted_block_is_its_height_and_name() {
        let name = "ab".repeat(32);
        let text = |height: &str| format!("[ledger]\ntrusted = \"{height}:{name}\"");
        let config = load(&text("12")).unwrap();
        let trusted = config.ledger.trusted.unwrap();
        assert_eq!((trusted.height, trusted.name.to_string()), (12, name.clone()));
        assert_eq!(load(&config.to_toml()).unwrap(), config);
        for height in ["", "-1", "0", "18446744073709551616", "12:13"] {
            let error = load(&text(height)).unwrap_err().to_string();
            assert!(error.contains("is not HEIGHT:NAME"), "{error}");
        }
        assert!(load(&text("18446744073709551615")).is_ok());
    }

    #[test]
    fn who_is_not_on_this_machine_needs_a_key() {
        let needs = |text: &str| load(&format!("[gateway]\n{text}")).unwrap().needs_key();
        assert!(!needs("") && !needs("listen = \"[::1]:1\""));
        assert!(needs("listen = \"0.0.0.0:4000\"") && needs("listen = \"192.168.1.2:4000\""));
        assert!(needs("require_key = true"));
        assert!(!needs("listen = \"0.0.0.0:4000\"\ndanger_no_keys = true"));
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
