//! Starts a node, keeps it running, and stops it in order.

mod grid;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arknet_chain::Genesis;
use arknet_mesh::{Inbound, Mesh, MeshError, MeshOptions, Multiaddr};
use arknet_protocol::{Policy, Who};
use arknet_provider::{
    Provider,
    upstream::{OptionsError, Upstream},
};
use arknet_registry::{ClientError, RegistryClient};
use arknet_sdk::{
    Atoms, Circle, Client, ConnectError,
    keyfile::{self, KeyFileError},
    parse_seeds,
    seeds::{self, SeedsError},
    session::{Scope, SessionError, SessionKey},
    wallet::Wallet,
};
use arknet_types::{KeyPair, NetworkId, NodeId};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use grid::Grid;

use crate::{
    Config, ConfigError, DataDir, DataError, ModelStore, ModelsError, Role, RunningNode,
    admin::{self, Admin, Asking, Guard, Token},
    approvals::Approvals,
    audit::{AuditError, AuditLog, AuditOptions},
    data::DataLock,
    discovery::{self, Discovery, Finding},
    dispatch::{NodeDispatch, NodeObserver},
    engines::{EngineError, Engines},
    files::ModelFiles,
    gate::Gate,
    horizon::HorizonStore,
    keys::{KeyRing, KeysError},
    ledger::{self, Ledger, LedgerError},
    listen,
    metrics::Metrics,
    models::ModelEntry,
    offering::Offering,
    pull::Puller,
    reputation::ReputationFile,
    scrape::Scrape,
    secrets::SecretError,
    serving::{Serving, ServingOptions, Source},
    wake_latency::WakeLatency,
};

/// A gateway opens a session a day, each with the day's cap.
const SESSION_RENEWAL: Duration = Duration::from_secs(24 * 3600);
/// A session outlives its renewal, for the requests that run then.
const SESSION_LIFETIME: Duration = Duration::from_secs(25 * 3600);

/// Why a node does not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// An address of the configuration is none.
    #[error("mesh: {text} is not a multiaddr such as /ip4/0.0.0.0/tcp/26656")]
    Address {
        /// The text.
        text: String,
    },
    /// The audit log cannot be used.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The configuration does not count.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The API keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The gateway would refuse everybody.
    #[error(
        "the gateway on {address} needs an API key and there is none; make one with: arknet key create --name NAME"
    )]
    NoKeys {
        /// Where the gateway is to listen.
        address: SocketAddr,
    },
    /// A port cannot be listened on.
    #[error("{address}: {source}; another program may use this port, choose one with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag that changes it.
        flag: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A model cannot be served.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The ledger does not start.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// The mesh does not start.
    #[error(transparent)]
    Mesh(#[from] MeshError),
    /// The models cannot be read.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// The registry cannot be asked as it is configured.
    #[error(transparent)]
    Registry(#[from] ClientError),
    /// A seed's address is none.
    #[error(transparent)]
    Seed(#[from] ConnectError),
    /// The seed file cannot be read.
    #[error(transparent)]
    Seeds(#[from] SeedsError),
    /// No session for the gateway.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The key of an upstream cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// An upstream cannot be used as it is configured.
    #[error("upstream {name}: {source}")]
    Upstream {
        /// Which.
        name: String,
        /// What is wrong.
        source: OptionsError,
    },
    /// A part of the node ended that never should.
    #[error("the node's {part} ended unexpectedly")]
    Stopped {
        /// Which.
        part: &'static str,
    },
}

/// A running node.
pub struct Node {
    admin: Arc<Admin>,
    admin_address: SocketAddr,
    parts: JoinSet<&'static str>,
    mesh: Mesh,
    serving: Serving,
    engines: Option<Engines>,
    grace: Duration,
    /// Ends the gateway, the API and the publisher.
    stop: CancellationToken,
    _lock: DataLock,
}

impl Node {
    /// Starts a node on this directory with the models the configuration names. Must be called inside
    /// of a runtime.
    pub fn start(data: &DataDir, config: Config) -> Result<Self, NodeError> {
        let lock = data.lock()?;
        let engines = match config.plays(Role::Compute) {
            true => Some(engines(data, &config)?),
            false => None,
        };
        let mut providers: Vec<_> = engines.iter().map(Engines::source).collect();
        providers.extend(upstreams(data, &config)?);
        Self::start_locked(data, config, providers, engines, lock)
    }

    /// Starts a node that serves what these providers have. Must be called inside of a runtime.
    pub fn start_with(
        data: &DataDir,
        config: Config,
        providers: Vec<Arc<dyn Provider>>,
    ) -> Result<Self, NodeError> {
        let lock = data.lock()?;
        let shared = |provider| Source { provider, is_shared: true };
        let providers = providers.into_iter().map(shared).collect();
        Self::start_locked(data, config, providers, None, lock)
    }

    fn start_locked(
        data: &DataDir,
        config: Config,
        providers: Vec<Source>,
        engines: Option<Engines>,
        lock: DataLock,
    ) -> Result<Self, NodeError> {
        let key = keyfile::load_or_create(&data.peer_key())?;
        let genesis = ledger::genesis(data, &config)?;
        let (network, seed_texts) = network(data, &config, genesis.as_ref())?;
        // The ports first: they are what most often stands in the way.
        let admin_listener = open_port(config.admin.listen, "--admin")?;
        let gateway_listener = gateway_listener(&config)?;
        let ledger = rpc_listener(&config, genesis)?;
        let metrics = Metrics::new();
        let horizon = HorizonStore::open(data.horizon())?;
        let gate = gate(&config, &key, &network, &horizon);
        let approvals = grid::open_approvals(data, &config, &gate)?;
        let audit = audit_log(data, &config, &key, &network)?;
        let serving = serving(data, &config, gate, providers, (horizon, metrics.clone(), audit))?;
        let node_id = node_id(&config, &key);
        let follows = ledger.is_some();
        let (mesh, inbound) =
            start_mesh(&config, (&key, &node_id), (&network, &seed_texts), follows)?;
        let stop = CancellationToken::new();
        let mut parts = JoinSet::new();
        let around = (&mesh, &serving);
        let start = |(genesis, listener)| Ledger::start(data, &config, genesis, around, listener);
        let rpc = ledger.map(start).transpose()?.map(|ledger| ledger.spawn(&mut parts, &stop));
        spawn_serving(&mut parts, &serving, inbound);
        let grid = Grid::new(mesh.clone(), approvals.clone());
        grid.spawn(&mut parts, data, &stop);
        let scrape = Arc::new(Scrape {
            metrics,
            serving: serving.clone(),
            engines: engines.clone(),
            mesh: mesh.clone(),
        });
        let (node_name, registry) = (node_id.clone(), registry(&config, &network)?);
        let finding = Finding { data, key: &key, node_id: node_name, config: &config, registry };
        let (discovery, finding) = finding.run(&mesh, &serving, &approvals, stop.clone());
        spawn(&mut parts, "discovery", finding);
        let offering = offering(key, &network, &serving, &approvals, &mesh);
        grid.spawn_publisher(&mut parts, offering, config.plays(Role::Compute), &stop);
        spawn_following(&mut parts, &serving, engines.as_ref(), &stop);
        let door = Door { data, config: &config, stop: &stop, scrape: &scrape };
        let circle = grid.circle(config.gateway.ask);
        let (gateway, asking) = door.open(&mut parts, gateway_listener, &network, circle)?;
        let grace = Duration::from_millis(config.shutdown_grace_ms);
        let admin_address = admin_listener.local_addr().unwrap_or(config.admin.listen);
        let guard = guard(data, &config, admin_address)?;
        let admin = Arc::new(Admin {
            started: Instant::now(),
            node_id,
            approvals,
            discovery,
            network: network.to_string(),
            gateway,
            rpc,
            mesh: mesh.clone(),
            serving: serving.clone(),
            scrape,
            asking,
            config,
        });
        let api = admin::serve(admin_listener, Arc::clone(&admin), guard, stop.clone());
        spawn(&mut parts, "node API", async { drop(api.await) });
        data.announce(&RunningNode::this(mesh.peer(), gateway, admin_address))?;
        Ok(Self { admin, admin_address, parts, mesh, serving, engines, grace, stop, _lock: lock })
    }

    /// What the node says of itself.
    #[must_use]
    pub fn status(&self) -> crate::Status {
        self.admin.status()
    }

    /// Where its node API listens.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Who was found, by whatever way.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.admin.discovery
    }

    /// Waits until it can be reached somewhere, so that what is shown to a person is complete.
    pub async fn wait_listening(&self, patience: Duration) {
        let mut addresses = self.mesh.addresses_changed();
        let listening = addresses.wait_for(|addresses| !addresses.is_empty());
        let _ = tokio::time::timeout(patience, listening).await;
    }

    /// Runs until `until` is there or a part fails, then stops in order.
    pub async fn run_until(mut self, until: impl Future<Output = ()>) -> Result<(), NodeError> {
        let failed = tokio::select! {
            () = until => None,
            ended = self.parts.join_next() => Some(part_name(ended)),
        };
        self.stop().await;
        failed.map_or(Ok(()), |part| Err(NodeError::Stopped { part }))
    }

    /// Stops in this order: say goodbye and take no new work, let running work end within the
    /// grace, cut the rest, close the connections.
    async fn stop(mut self) {
        tracing::info!("stopping");
        self.stop.cancel();
        self.serving.shut_down(self.grace).await;
        if let Some(engines) = &self.engines {
            engines.shut_down().await;
        }
        // The goodbye and the last answers of the gateway need the mesh, which is the last part.
        while self.parts.len() > 1 {
            report(self.parts.join_next().await);
        }
        self.mesh.shutdown().await;
        while !self.parts.is_empty() {
            report(self.parts.join_next().await);
        }
        tracing::info!("stopped");
    }
}

fn report(ended: Option<Result<&'static str, tokio::task::JoinError>>) {
    if let Some(Err(error)) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a part of the node had panicked");
    }
}

/// The models of this directory without a node around them: for one question, offline.
pub fn serve_locally(data: &DataDir, config: &Config) -> Result<Serving, NodeError> {
    let key = keyfile::load_or_create(&data.peer_key())?;
    let network = seeds::load(Some(data.root()))?.chain_id;
    let engines = engines(data, config)?;
    let horizon = HorizonStore::open(data.horizon())?;
    let gate = gate(config, &key, &network, &horizon);
    serving(data, config, gate, vec![engines.source()], (horizon, Metrics::new(), None))
}

fn offering(
    key: KeyPair,
    network: &NetworkId,
    serving: &Serving,
    approvals: &Approvals,
    mesh: &Mesh,
) -> Offering {
    Offering {
        key,
        network: network.clone(),
        serving: serving.clone(),
        approvals: approvals.clone(),
        addresses: mesh.addresses_changed(),
        turn: Mutex::default(),
        told: Mutex::default(),
    }
}

/// The log of what others ask, where they can ask.
fn audit_log(
    data: &DataDir,
    config: &Config,
    key: &KeyPair,
    network: &NetworkId,
) -> Result<Option<AuditLog>, NodeError> {
    if !config.plays(Role::Compute) {
        return Ok(None);
    }
    let options = AuditOptions {
        path: config.grid.audit_log.clone().unwrap_or_else(|| data.audit_log()),
        file_bytes_max: config.grid.audit_file_bytes_max,
        waits_for_disk: config.grid.audit_waits_for_disk,
        network: network.clone(),
        node: key.public(),
    };
    Ok(Some(AuditLog::open(&options)?))
}

/// What this node calls itself.
fn node_id(config: &Config, key: &KeyPair) -> NodeId {
    let of_host = || {
        let system = rustix::system::uname();
        NodeId::of(&system.nodename().to_string_lossy(), &key.public())
    };
    config.grid.node_id.clone().unwrap_or_else(of_host)
}

/// Who may use the node API.
fn guard(data: &DataDir, config: &Config, listening: SocketAddr) -> Result<Guard, NodeError> {
    let token = Token::load_or_create(&data.admin_token())
        .map_err(|source| DataError::Io { path: data.admin_token(), source })?;
    Ok(Guard::new(listening.ip(), &config.admin.allowed_hosts, token))
}

fn gate(config: &Config, key: &KeyPair, network: &NetworkId, horizon: &HorizonStore) -> Gate {
    Gate::new(Policy {
        network: network.clone(),
        me: key.public(),
        started_at: horizon.started_at(arknet_sdk::now()),
        who: config.who(),
        requests_per_peer_max: config.compute.requests_per_peer_max,
    })
}

fn part_name(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> &'static str {
    match ended {
        Some(Ok(part)) => part,
        Some(Err(error)) => {
            tracing::error!(%error, "a part of the node failed");
            "inner work"
        }
        None => "all parts",
    }
}

fn spawn(
    parts: &mut JoinSet<&'static str>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    parts.spawn(async move {
        work.await;
        name
    });
}

/// The directory to look for nodes in, where the configuration names one.
fn registry(
    config: &Config,
    network: &NetworkId,
) -> Result<Option<Arc<RegistryClient>>, NodeError> {
    let crate::config::Grid { registry, registry_ca, .. } = &config.grid;
    let Some(url) = registry else { return Ok(None) };
    let client = RegistryClient::new(url, registry_ca.as_deref(), network.clone())?;
    Ok(Some(Arc::new(client)))
}

fn spawn_serving(parts: &mut JoinSet<&'static str>, serving: &Serving, inbound: Inbound) {
    let serving = serving.clone();
    spawn(parts, "mesh", async move { serving.serve(inbound).await });
}

/// Keeps the list of models true, and loads the first one.
fn spawn_following(
    parts: &mut JoinSet<&'static str>,
    serving: &Serving,
    engines: Option<&Engines>,
    stop: &CancellationToken,
) {
    let (serving, engines, stop) = (serving.clone(), engines.cloned(), stop.clone());
    spawn(parts, "list of models", async move {
        let warm = async {
            if let Some(engines) = engines {
                engines.warm().await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = serving.follow() => {}
            () = warm => {}
        }
    });
}

/// What the gateway is made of.
struct Door<'a> {
    data: &'a DataDir,
    config: &'a Config,
    stop: &'a CancellationToken,
    scrape: &'a Arc<Scrape>,
}

impl Door<'_> {
    /// Opens the gateway where it listens, with a session that stays fresh; where that is.
    fn open(
        &self,
        parts: &mut JoinSet<&'static str>,
        listener: Option<TcpListener>,
        network: &NetworkId,
        circle: Circle,
    ) -> Result<(Option<SocketAddr>, Option<Asking>), NodeError> {
        let Some(listener) = listener else { return Ok((None, None)) };
        let address = listener.local_addr().ok();
        let session = Sessions { data: self.data, config: self.config, network };
        let client = Client::within(self.scrape.mesh.clone(), session.open()?, circle);
        let reputation = ReputationFile::new(self.data.reputation());
        spawn(parts, "reputation", reputation.keep(client.clone(), self.stop.clone()));
        let (engines, serving) = (self.scrape.engines.clone(), self.scrape.serving.clone());
        let puller = Puller::new(engines, client.clone(), serving);
        let asking = Asking { client: client.clone(), puller: puller.clone() };
        self.spawn(parts, listener, &client, puller)?;
        spawn(parts, "sessions", session.keep_fresh(client, self.stop.clone())?);
        Ok((address, Some(asking)))
    }

    fn spawn(
        &self,
        parts: &mut JoinSet<&'static str>,
        listener: TcpListener,
        client: &Client,
        puller: Puller,
    ) -> Result<(), NodeError> {
        let config = &self.config.gateway;
        let needs_key = self.config.needs_key();
        let keys = KeyRing::open(self.data.keys(), self.data.key_usage(), needs_key)?;
        let keys = Arc::new(keys);
        if needs_key && keys.is_empty() {
            return Err(NodeError::NoKeys { address: config.listen });
        }
        spawn(parts, "API keys", Arc::clone(&keys).keep_usage(self.stop.clone()));
        let engines = self.scrape.engines.clone();
        let dispatch = Arc::new(NodeDispatch {
            me: client.mesh().peer(),
            serving: self.scrape.serving.clone(),
            client: client.clone(),
            puller,
            engines,
        });
        let mut options = arknet_gateway::Options {
            allowed_hosts: config.allowed_hosts.clone(),
            allowed_origins: config.allowed_origins.clone(),
            keys: Some(keys),
            observer: Some(Arc::new(NodeObserver {
                scrape: Arc::clone(self.scrape),
                wake_latency: config.wake_latency_us_max.and_then(WakeLatency::new),
            })),
            ..arknet_gateway::Options::default()
        };
        options.limits.drain_ms = self.config.shutdown_grace_ms;
        let served = arknet_gateway::serve(listener, dispatch, options, self.stop.clone());
        spawn(parts, "gateway", async move {
            match served.await {
                Ok(0) => {}
                Ok(cut) => tracing::warn!(cut, "answers were cut at shutdown"),
                Err(error) => tracing::error!(%error, "the gateway failed"),
            }
        });
        Ok(())
    }
}

fn gateway_listener(config: &Config) -> Result<Option<TcpListener>, NodeError> {
    match config.plays(Role::Gateway) {
        true => Ok(Some(open_port(config.gateway.listen, "--gateway")?)),
        false => Ok(None),
    }
}

/// What the chain begins with, and where it is told of.
fn rpc_listener(
    config: &Config,
    genesis: Option<Genesis>,
) -> Result<Option<(Genesis, TcpListener)>, NodeError> {
    let Some(genesis) = genesis else { return Ok(None) };
    let listener = open_port(config.ledger.rpc, "[ledger] rpc")?;
    Ok(Some((genesis, listener)))
}

fn open_port(address: SocketAddr, flag: &'static str) -> Result<TcpListener, NodeError> {
    listen(address).map_err(|source| NodeError::Listen { address, flag, source })
}

fn serving(
    data: &DataDir,
    config: &Config,
    gate: Gate,
    providers: Vec<Source>,
    (horizon, metrics, audit): (HorizonStore, Metrics, Option<AuditLog>),
) -> Result<Serving, NodeError> {
    let files = match config.who() {
        Who::Anyone { files: false } => None,
        Who::Approved | Who::Anyone { .. } => Some(ModelFiles::new(
            ModelStore::open(data.models())?,
            config.compute.share_bytes_per_second,
        )),
    };
    let options = ServingOptions {
        gate,
        price: config.price(),
        queue_max: config.compute.queue_max,
        preempt: config.compute.preempt.into(),
        slow_reader: Duration::from_millis(config.compute.slow_reader_ms),
        files,
        metrics,
        audit,
    };
    Ok(Serving::new(providers, options, horizon))
}

/// The network to be part of, and whom to connect to first.
fn network(
    data: &DataDir,
    config: &Config,
    genesis: Option<&Genesis>,
) -> Result<(NetworkId, Vec<String>), NodeError> {
    let file = seeds::load(Some(data.root()))?;
    let compiled = || file.seeds.into_iter().map(|seed| seed.multiaddr).collect();
    let seeds = config.mesh.seeds.clone().unwrap_or_else(compiled);
    let of_chain = genesis.map(|genesis| genesis.network.clone());
    Ok((config.mesh.network.clone().or(of_chain).unwrap_or(file.chain_id), seeds))
}

fn start_mesh(
    config: &Config,
    (key, node_id): (&KeyPair, &NodeId),
    (network, seeds): (&NetworkId, &[String]),
    follows: bool,
) -> Result<(Mesh, Inbound), NodeError> {
    for address in &config.mesh.listen {
        // The mesh shares its port with its own outgoing connections, so another node on the same
        // port would go unnoticed, and each would get some of the other's connections.
        discovery::check_port(address).map_err(|(address, source)| NodeError::Listen {
            address,
            flag: "--listen",
            source,
        })?;
    }
    let mut options = MeshOptions::new(key.clone(), network.clone());
    options.node_id = Some(node_id.clone());
    options.listen = parse_addresses(&config.mesh.listen)?;
    options.external = parse_addresses(&config.mesh.external)?;
    options.seeds = parse_seeds(seeds)?;
    options.relay_server = config.plays(Role::Validator);
    options.serve = config.plays(Role::Compute);
    options.chain = follows.then(ledger::chain_options);
    Ok(arknet_mesh::start(options)?)
}

fn parse_addresses(texts: &[String]) -> Result<Vec<Multiaddr>, NodeError> {
    let parse = |text: &String| text.parse().map_err(|_| NodeError::Address { text: text.clone() });
    texts.iter().map(parse).collect()
}

/// The models of this machine, planned.
fn engines(data: &DataDir, config: &Config) -> Result<Engines, NodeError> {
    let store = ModelStore::open(data.models())?;
    let entries = chosen(&store, config)?;
    Ok(Engines::start(store, &config.compute, &entries)?)
}

/// The services whose models this node serves.
fn upstreams(data: &DataDir, config: &Config) -> Result<Vec<Source>, NodeError> {
    let secrets = data.secrets();
    let mut sources = Vec::new();
    for options in &config.upstreams.0 {
        let mut options = options.clone();
        options.key = secrets.get(&options.name)?;
        let (name, is_shared) = (options.name.clone(), options.share);
        let upstream =
            Upstream::start(options).map_err(|source| NodeError::Upstream { name, source })?;
        sources.push(Source { provider: Arc::new(upstream), is_shared });
    }
    Ok(sources)
}

/// The models to serve: those configured, else those added, else the one that ships.
fn chosen(store: &ModelStore, config: &Config) -> Result<Vec<ModelEntry>, ModelsError> {
    let embedded = store.embedded()?;
    if !config.compute.models.is_empty() {
        let entry = |name| match store.get(name) {
            Err(ModelsError::Unknown { .. }) if *name == embedded.name => Ok(embedded.clone()),
            result => result,
        };
        return config.compute.models.iter().map(entry).collect();
    }
    let added = store.list()?;
    Ok(if added.is_empty() { vec![embedded] } else { added })
}

/// Opens sessions for the gateway.
struct Sessions<'a> {
    data: &'a DataDir,
    config: &'a Config,
    network: &'a NetworkId,
}

impl Sessions<'_> {
    fn open(&self) -> Result<SessionKey, NodeError> {
        let wallet = Wallet::from_key(keyfile::load_or_create(&self.data.wallet())?);
        open_session(&wallet, self.config.gateway.spending_cap_atoms, self.network)
    }

    /// Renews the session of `client` before it expires.
    fn keep_fresh(
        &self,
        client: Client,
        stop: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, NodeError> {
        let wallet = Wallet::from_key(keyfile::load_or_create(&self.data.wallet())?);
        let cap = self.config.gateway.spending_cap_atoms;
        let network = self.network.clone();
        Ok(async move {
            let mut renewal = tokio::time::interval(SESSION_RENEWAL);
            renewal.tick().await;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = renewal.tick() => {}
                }
                match open_session(&wallet, cap, &network) {
                    Ok(session) => client.set_session(session),
                    Err(error) => tracing::error!(%error, "the session cannot be renewed"),
                }
            }
        })
    }
}

fn open_session(wallet: &Wallet, cap: u64, network: &NetworkId) -> Result<SessionKey, NodeError> {
    let scope = Scope { network: Some(network.clone()), ..Scope::default() };
    Ok(SessionKey::create_scoped(wallet, Atoms(cap), SESSION_LIFETIME, scope)?)
}
