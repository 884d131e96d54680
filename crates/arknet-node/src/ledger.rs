//! The chain in this node: its messages over the mesh, its RPC, and what it says of itself.

use std::{
    fs, io,
    net::SocketAddr,
    num::NonZeroU64,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arknet_chain::{Genesis, GenesisError};
use arknet_consensus::{
    Message, Misdeed, Options, Peer, Timing, Verdict,
    limits::{MESSAGE_BYTES_MAX, TRANSACTIONS_BYTES_MAX},
};
use arknet_mesh::{Chain, ChainEvent, ChainOptions, Judgement, Mesh, Topic};
use arknet_quotes::VendorRoots;
use arknet_sdk::keyfile::{self, KeyFileError};
use arknet_types::{Address, NetworkId, Timestamp, frame, limits::FREE_USE_BYTES_MAX};
use arknet_validator::{
    DriverError, Event, Progress, RpcOptions, RpcServer, StartError, Store, StoreError,
    StoreOptions, Transport, Validator, ValidatorOptions, which_hold,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{Config, DataDir, Role, free_uses, gate::Gate, serving::Serving};

/// Events on their way to the thread that keeps the ledger. Each may be a block, and what peers have
/// waiting in the mesh is bounded there.
const EVENTS_MAX: usize = 16;
/// A clock that is behind by more than this was set back.
const CLOCK_STEP_MS: u64 = 500;
/// Bytes that a message of transactions has around them.
const ENVELOPE_BYTES: usize = 64;

/// Why the ledger of a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The directory of the ledger cannot be made.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The genesis document cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The genesis document does not count.
    #[error("{path}: {source}")]
    Genesis {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: GenesisError,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The configuration names another network.
    #[error("the genesis is of the network {genesis}, [mesh] network says {configured}")]
    Network {
        /// What the document says.
        genesis: NetworkId,
        /// What the configuration says.
        configured: NetworkId,
    },
    /// The RPC cannot be served.
    #[error("the chain RPC: {0}")]
    Rpc(#[source] io::Error),
    /// The ledger cannot be kept.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The genesis of the chain that this node follows; none where it follows none.
pub(crate) fn genesis(data: &DataDir, config: &Config) -> Result<Option<Genesis>, LedgerError> {
    let path = config.ledger.genesis.clone().unwrap_or_else(|| data.genesis());
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && config.ledger.genesis.is_none() =>
        {
            return Ok(None);
        }
        Err(source) => return Err(LedgerError::File { path, source }),
    };
    let genesis = Genesis::parse(&text).map_err(|source| LedgerError::Genesis { path, source })?;
    match &config.mesh.network {
        Some(configured) if *configured != genesis.network => {
            Err(LedgerError::Network { genesis: genesis.network, configured: configured.clone() })
        }
        _ => Ok(Some(genesis)),
    }
}

/// What the mesh carries for the chain.
pub(crate) fn chain_options() -> ChainOptions {
    ChainOptions {
        message_bytes_max: MESSAGE_BYTES_MAX,
        transactions_bytes_max: TRANSACTIONS_BYTES_MAX + ENVELOPE_BYTES,
        free_use_bytes_max: FREE_USE_BYTES_MAX,
    }
}

/// The ledger as the other parts of the node know it.
pub(crate) struct Followed {
    /// The way to others that follow it.
    pub(crate) chain: Chain,
    /// What it says.
    pub(crate) store: Store,
}

/// The chain as part of a running node.
pub(crate) struct Ledger {
    validator: Validator,
    rpc: RpcServer,
    inbound: Inbound,
}

impl Ledger {
    /// Opens the ledger and goes on where it was.
    pub(crate) fn start(
        data: &DataDir,
        config: &Config,
        genesis: Genesis,
        (mesh, serving): (&Mesh, &Serving),
        listener: TcpListener,
    ) -> Result<Self, LedgerError> {
        let directory = data.ledger();
        fs::create_dir_all(&directory)
            .map_err(|source| LedgerError::Directory { path: directory.clone(), source })?;
        let options = ValidatorOptions {
            directory,
            genesis,
            store: StoreOptions {
                cache_bytes: usize::try_from(config.ledger.cache_mb << 20).unwrap_or(usize::MAX),
                keep_blocks: config.ledger.keep_blocks,
                checkpoint_ms: config.ledger.checkpoint_ms,
                snapshot_interval: NonZeroU64::new(config.ledger.snapshot_interval),
                trusted: config.ledger.trusted.map(|block| (block.height, block.name)),
            },
            consensus: Options {
                key: voter(data, config)?,
                timing: Timing {
                    block_interval_ms: config.ledger.block_interval_ms,
                    ..Timing::default()
                },
                which_hold,
                quotes: Arc::new(VendorRoots),
            },
            clock: Arc::new(steady_clock()),
        };
        let (chain, said) = mesh.chain().expect("the mesh carries the chain, and one part listens");
        let (events, arriving) = mpsc::channel(EVENTS_MAX);
        let transport = Arc::new(MeshTransport { chain: chain.clone() });
        let validator = Validator::start(options, transport, arriving)?;
        let gate = serving.gate().clone();
        // Before the first request: the quota holds from the beginning.
        let lasts = bootstrap(validator.store());
        gate.set_bootstrap(lasts.map_err(|error| StartError::from(DriverError::from(error)))?);
        let store = validator.store().clone();
        serving.follow_ledger(Followed { chain: chain.clone(), store });
        let options = RpcOptions {
            allowed_hosts: config.ledger.allowed_hosts.clone(),
            requests_per_s: config.ledger.rpc_requests_per_second,
            requests_per_s_in_all: config.ledger.rpc_requests_per_second.saturating_mul(5),
            ..RpcOptions::new(Arc::new(arknet_sdk::now))
        };
        let (store, link) = (validator.store().clone(), validator.link().clone());
        let rpc = RpcServer::new(listener, options, store, link).map_err(LedgerError::Rpc)?;
        Ok(Self { validator, rpc, inbound: Inbound { chain, said, events, gate } })
    }

    /// Keeps the ledger as a part of the node. Returns where its RPC listens.
    pub(crate) fn spawn(
        self,
        parts: &mut JoinSet<&'static str>,
        stop: &CancellationToken,
    ) -> SocketAddr {
        let address = self.rpc.address();
        let stop = stop.clone();
        parts.spawn(async move {
            self.run(stop).await;
            "ledger"
        });
        address
    }

    /// Keeps the ledger until `stop`, or until it cannot be kept: then the node must end.
    async fn run(self, stop: CancellationToken) {
        let Self { mut validator, rpc, inbound } = self;
        let rpc = tokio::spawn(rpc.run(stop.clone()));
        // What comes has an end only when nobody listens any more.
        let deaf = CancellationToken::new();
        let (store, progress) = (validator.store().clone(), validator.link().watch());
        let period = follow_bootstrap(store, progress, inbound.gate.clone());
        let period = tokio::spawn(deaf.clone().run_until_cancelled_owned(period));
        let inbound = tokio::spawn(deaf.clone().run_until_cancelled_owned(inbound.run()));
        tokio::select! {
            error = validator.ended() => {
                tracing::error!(%error, "the ledger cannot be kept");
                stop.cancel();
            }
            () = stop.cancelled() => {
                if let Err(error) = validator.stop().await {
                    tracing::error!(%error, "the ledger did not stop in order");
                }
            }
        }
        deaf.cancel();
        // Their ends say nothing more.
        let _ = tokio::join!(rpc, period, inbound);
    }
}

/// Whether the bootstrap period lasts, as of the last block.
fn bootstrap(store: &Store) -> Result<bool, StoreError> {
    Ok(store.read()?.meta().bootstrap)
}

/// Tells the gate when the bootstrap period is over: it never comes back.
async fn follow_bootstrap(store: Store, mut progress: watch::Receiver<Progress>, gate: Gate) {
    while progress.changed().await.is_ok() {
        match bootstrap(&store) {
            Ok(true) => {}
            Ok(false) => return gate.set_bootstrap(false),
            Err(error) => tracing::error!(%error, "the ledger cannot be read"),
        }
    }
}

/// The time for the ledger's thread. A clock that is set back goes on from where it was until the
/// true time is there: whatever waits for a moment would wait for as long as it was set back.
fn steady_clock() -> impl Fn() -> Timestamp + Send + Sync {
    let known = Mutex::new((arknet_sdk::now(), Instant::now()));
    move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, since) = *known;
        let now = steady(arknet_sdk::now(), last, since.elapsed());
        *known = (now, Instant::now());
        now
    }
}

/// What time it is, when it was `last` so long ago and the clock says `wall`.
fn steady(wall: Timestamp, last: Timestamp, elapsed: Duration) -> Timestamp {
    let ticked = last.plus_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    if ticked.since_ms(wall) > CLOCK_STEP_MS { ticked } else { wall.max(last) }
}

/// For whom this node votes, and with which key.
fn voter(
    data: &DataDir,
    config: &Config,
) -> Result<Option<(Address, arknet_types::KeyPair)>, LedgerError> {
    if !config.plays(Role::Validator) {
        return Ok(None);
    }
    let key = keyfile::load_or_create(&data.consensus_key())?;
    let operator = match config.ledger.operator {
        Some(operator) => operator,
        None => keyfile::load_or_create(&data.wallet())?.public().address(),
    };
    Ok(Some((operator, key)))
}

/// Carries what the ledger says.
struct MeshTransport {
    chain: Chain,
}

impl Transport for MeshTransport {
    fn broadcast(&self, message: Message) {
        match message {
            Message::Transactions(_) => {
                self.chain.gossip(Topic::Transactions, arknet_types::encode(&message));
            }
            _ => self.chain.broadcast(&frame(&message).into(), None),
        }
    }

    fn send(&self, peer: &Peer, message: Message) {
        self.chain.send(peer, &frame(&message).into());
    }

    fn forward(&self, from: &Peer, message: Message) {
        self.chain.broadcast(&frame(&message).into(), Some(from));
    }

    fn judge(&self, tag: u64, verdict: Verdict) {
        let judgement = match verdict {
            Verdict::Accept => Judgement::Accept,
            Verdict::Ignore => Judgement::Ignore,
            Verdict::Reject => Judgement::Reject,
        };
        self.chain.judge(tag, judgement);
    }

    fn misbehaved(&self, peer: &Peer, _: &Misdeed) {
        self.chain.bar(*peer);
    }
}

/// Reads what others say.
struct Inbound {
    chain: Chain,
    said: mpsc::Receiver<ChainEvent>,
    events: mpsc::Sender<Event>,
    gate: Gate,
}

impl Inbound {
    async fn run(mut self) {
        while let Some(event) = self.said.recv().await {
            // Until it is on its way to the ledger a message counts as waiting.
            let mut held = None;
            let event = match event {
                ChainEvent::Joined(peer) => Event::Joined(peer),
                ChainEvent::Gone(peer) => Event::Gone(peer),
                ChainEvent::Heard { from, topic: Topic::FreeUses, bytes, tag, .. } => {
                    self.chain.judge(tag, free_uses::judge(&self.gate, &from, &bytes));
                    continue;
                }
                ChainEvent::Heard { from, topic: Topic::Transactions, bytes, tag, hold } => {
                    match Message::parse(&bytes) {
                        Ok(message @ Message::Transactions(_)) => {
                            held = Some(hold);
                            Event::Message { from, message: Box::new(message), tag: Some(tag) }
                        }
                        _ => {
                            self.chain.judge(tag, Judgement::Reject);
                            continue;
                        }
                    }
                }
                ChainEvent::Said { from, bytes, hold } => match Message::parse(&bytes) {
                    Ok(message) => {
                        held = Some(hold);
                        Event::Message { from, message: Box::new(message), tag: None }
                    }
                    Err(error) => {
                        tracing::debug!(peer = %from, %error, "a peer said nothing of the chain");
                        self.chain.bar(from);
                        continue;
                    }
                },
            };
            if self.events.send(event).await.is_err() {
                return;
            }
            drop(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_and_one_that_is_set_forward_is_followed() {
        let (at, second) = (Timestamp(10_000_000), Duration::from_secs(1));
        assert_eq!(steady(at.plus_ms(1_000), at, second), at.plus_ms(1_000));
        assert_eq!(steady(at.plus_ms(800), at, second), at.plus_ms(800), "it is slewed");
        assert_eq!(steady(at.plus_ms(3_600_000), at, second), at.plus_ms(3_600_000));
        // Set back by an hour: it ticks on until that hour is over.
        let mut now = at;
        for tick in 1..=7_200 {
            let wall = Timestamp(at.0 - 3_600_000).plus_ms(tick * 1_000);
            now = steady(wall, now, second);
            assert_eq!(now, at.plus_ms(tick * 1_000).max(wall));
        }
    }
}
