//! The handle of a running mesh.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arknet_types::{Offer, PublicKey};
use libp2p::{
    Multiaddr, Swarm, TransportError, identity::Keypair, multiaddr::Protocol, swarm::DialError,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    addresses,
    behaviour::Behaviour,
    chain::{self, Chain, ChainEvent, ChainTask, Links, Room, Unjudged},
    exchange,
    limits::{COMMANDS_MAX, PROBE_TIMEOUT},
    offers::{OfferFor, Offers},
    options::MeshOptions,
    status::{Connections, PeerStatus},
    streams::{LaneError, Lanes, Permits, RequestStream, StreamEnds, StreamsBehaviour, Taken},
    swarm_loop::{Command, SwarmLoop},
    transport,
};

/// Why a mesh did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What went wrong.
        source: TransportError<std::io::Error>,
    },
    /// A seed without a peer id, or of a form that is not dialled.
    #[error("the seed {address} is not of the form /ip4/1.2.3.4/tcp/26656/p2p/12D3Koo..")]
    Seed {
        /// The address.
        address: Multiaddr,
    },
    /// The system's name resolution could not be read.
    #[error("cannot set up name resolution: {0}")]
    Dns(std::io::Error),
    /// The encryption could not be set up.
    #[error("cannot set up encryption: {0}")]
    Noise(libp2p::noise::Error),
    /// A protocol could not be set up.
    #[error("cannot set up the mesh's protocols: {0}")]
    Behaviour(String),
}

/// Why there is no stream to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer is this node.
    #[error("the peer is this node itself")]
    Own,
    /// No address of the peer is known.
    #[error("no address of the peer is known")]
    NoAddress,
    /// None of the peer's addresses answers.
    #[error("the peer cannot be reached")]
    Unreachable,
    /// The peer is there but serves no requests.
    #[error("the peer serves no requests")]
    NotServing,
    /// The peer did not complete the stream's negotiation.
    #[error("the peer did not accept a stream")]
    Negotiation,
    /// Too many callers wait for this peer.
    #[error("too many requests wait for a stream to the peer")]
    Crowded,
    /// It took too long.
    #[error("no stream to the peer in time")]
    Timeout,
    /// The mesh is shut down.
    #[error("the mesh is shut down")]
    ShutDown,
}

/// Why nobody was found at an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nothing there completes a handshake.
    #[error("no node answers there")]
    Nobody,
    /// This node answers there.
    #[error("the address is this node's own")]
    Own,
    /// Too many addresses are being tried.
    #[error("too many addresses are being tried")]
    Crowded,
    /// The mesh is shut down.
    #[error("the mesh is shut down")]
    ShutDown,
}

impl ProbeError {
    pub(crate) const fn of(error: &DialError) -> Self {
        match error {
            DialError::LocalPeerId { .. } => Self::Own,
            _ => Self::Nobody,
        }
    }
}

/// A peer to which a connection is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// The peer.
    pub peer: PublicKey,
    /// Where it can be dialled, the best first.
    pub addresses: Vec<Multiaddr>,
    /// Rises when a dial is worth it whatever went wrong earlier.
    pub news: u64,
}

/// How many request streams others hold open here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StreamStats {
    /// Held now, idle ones included.
    pub held: usize,
    /// Reset so far because a limit was reached.
    pub refused: u64,
}

/// A handle of a running mesh. The mesh ends with [`Mesh::shutdown`], or when its last handle goes.
#[derive(Clone)]
pub struct Mesh {
    peer: PublicKey,
    open_timeout: Duration,
    offers: Offers,
    lanes: Lanes,
    permits: Arc<Permits>,
    connections: Connections,
    commands: mpsc::Sender<Command>,
    chain: Option<Chain>,
    chain_events: Arc<Mutex<Option<mpsc::Receiver<ChainEvent>>>>,
    addresses: watch::Receiver<Vec<Multiaddr>>,
    listening: watch::Receiver<Vec<Multiaddr>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

/// The streams on which others bring requests.
///
/// A stream comes at once, before its first byte: it may lie idle for long, because peers open
/// streams ahead of need. Give each its own task and let it wait for the request there.
pub struct Inbound(mpsc::Receiver<(PublicKey, RequestStream)>);

impl Inbound {
    /// The next stream and the peer behind it; `None` when the mesh is shut down. May be cancelled.
    pub async fn next(&mut self) -> Option<(PublicKey, RequestStream)> {
        self.0.recv().await
    }
}

/// Starts a mesh on the current tokio runtime.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start(options: MeshOptions) -> Result<(Mesh, Inbound), MeshError> {
    let keypair = Keypair::ed25519_from_bytes(*options.key.seed())
        .map_err(|error| MeshError::Behaviour(error.to_string()))?;
    let (behaviour, StreamEnds { lanes, permits, requests, exchanges, chain: from_chain }) =
        StreamsBehaviour::new(&options);
    let mut swarm = transport::build(&options, keypair, behaviour)?;
    listen(&mut swarm, &options)?;
    let offers = Offers::new(options.key.public(), options.network.clone());
    let connections = Connections::default();
    let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
    let (commands, from_users) = mpsc::channel(COMMANDS_MAX);
    let (addresses, watched) = watch::channel(Vec::new());
    let (listened, listening) = watch::channel(Vec::new());
    let (links, room) = (Links::default(), Room::new());
    let chain = options.chain.map(|_| Chain::new(links.clone(), commands.clone()));
    let (said, chain_events) = chain.as_ref().map(|_| chain::events()).unzip();
    let driver = SwarmLoop::new(
        swarm,
        &options,
        offers.clone(),
        lanes.clone(),
        connections.clone(),
        (addresses, listened),
        said.clone().map(|said| Unjudged::new(said, room.clone())),
        tasks.clone(),
        closing.clone(),
    )?;
    tasks.spawn(driver.run(from_users));
    tasks.spawn(exchange::serve(exchanges, offers.clone(), tasks.clone(), closing.clone()));
    if let (Some(options), Some(events), Some(accepted)) = (options.chain, said, from_chain) {
        let (lanes, connections) = (lanes.clone(), connections.clone());
        let (tasks_of_chain, closing) = (tasks.clone(), closing.clone());
        let task = ChainTask {
            links,
            options,
            events,
            room,
            lanes,
            connections,
            tasks: tasks_of_chain,
            closing,
        };
        tasks.spawn(task.run(accepted));
    }
    let mesh = Mesh {
        peer: options.key.public(),
        open_timeout: options.limits.open_timeout,
        offers,
        lanes,
        permits,
        connections,
        commands,
        chain,
        chain_events: Arc::new(Mutex::new(chain_events)),
        addresses: watched,
        listening,
        tasks,
        closing,
    };
    Ok((mesh, Inbound(requests)))
}

fn listen(swarm: &mut Swarm<Behaviour>, options: &MeshOptions) -> Result<(), MeshError> {
    for address in &options.listen {
        match swarm.listen_on(address.clone()) {
            Ok(_) => {}
            // All addresses of a kind that this machine has none of.
            Err(TransportError::Other(error)) if is_any_ip6(address) && lacks_ip6(&error) => {
                tracing::info!(%address, "this machine has no IPv6");
            }
            Err(source) => return Err(MeshError::Listen { address: address.clone(), source }),
        }
    }
    for address in &options.external {
        swarm.add_external_address(address.clone());
    }
    Ok(())
}

fn is_any_ip6(address: &Multiaddr) -> bool {
    matches!(address.iter().next(), Some(Protocol::Ip6(ip)) if ip.is_unspecified())
}

fn lacks_ip6(error: &std::io::Error) -> bool {
    // Address family not supported (by a kernel without IPv6), address not available (where it is
    // switched off). The transports wrap what the system says.
    use std::io::ErrorKind;
    let text = error.to_string();
    matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::AddrNotAvailable)
        || text.contains("Address family not supported")
        || text.contains("Cannot assign requested address")
}

impl Mesh {
    /// This node's peer key.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// The offers of others.
    #[must_use]
    pub fn offers(&self) -> &Offers {
        &self.offers
    }

    /// The peers connected now.
    #[must_use]
    pub fn connected(&self) -> Vec<PeerStatus> {
        self.connections.list()
    }

    /// Counts peers that come, go or say what they are called; wait on it, then look at
    /// [`Mesh::connected`].
    #[must_use]
    pub fn connected_changed(&self) -> watch::Receiver<u64> {
        self.connections.changed()
    }

    /// What others hold open here.
    #[must_use]
    pub fn stream_stats(&self) -> StreamStats {
        StreamStats { held: self.permits.held(), refused: self.permits.refused() }
    }

    /// Streams to a peer that are negotiated ahead now.
    #[must_use]
    pub fn warm_streams(&self, peer: &PublicKey) -> usize {
        self.lanes.warm_count(&addresses::peer_id(peer))
    }

    /// The addresses to put into an offer.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<Multiaddr> {
        self.addresses.borrow().clone()
    }

    /// Follows the addresses to put into an offer.
    #[must_use]
    pub fn addresses_changed(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.addresses.clone()
    }

    /// Follows the addresses of this machine on which the mesh listens, all of them.
    #[must_use]
    pub fn listening_changed(&self) -> watch::Receiver<Vec<Multiaddr>> {
        self.listening.clone()
    }

    /// Keeps connections to these peers, and no longer to those that were named before and are not
    /// now: dials them, again when they are lost, and lets no idle connection to them close.
    pub async fn keep(&self, peers: Vec<Kept>) {
        // Nothing is kept by a mesh that is shut down.
        let _ = self.commands.send(Command::Keep { peers }).await;
    }

    /// Connects to a peer once, at these addresses, where it is not connected yet. May be
    /// cancelled.
    pub async fn connect(&self, peer: PublicKey, addresses: &[Multiaddr]) -> Result<(), OpenError> {
        if peer == self.peer {
            return Err(OpenError::Own);
        }
        let dial = timeout(self.open_timeout, self.dial(peer, addresses));
        dial.await.unwrap_or(Err(OpenError::Timeout))
    }

    /// Finds out who answers at an address that says nothing of a peer: the handshake proves the
    /// key. The connection stays for a while. May be cancelled.
    pub async fn probe(&self, address: Multiaddr) -> Result<PublicKey, ProbeError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Probe { address, reply };
        self.commands.send(command).await.map_err(|_| ProbeError::ShutDown)?;
        match timeout(PROBE_TIMEOUT, answer).await {
            Ok(answer) => answer.unwrap_or(Err(ProbeError::ShutDown)),
            Err(_) => Err(ProbeError::Nobody),
        }
    }

    /// A stream for one request to a peer. Takes one that was negotiated ahead, else negotiates one,
    /// else dials: the addresses given, or those of the peer's offer when none are.
    ///
    /// May be cancelled; a stream that arrives later is kept for the next caller.
    pub async fn open(
        &self,
        peer: PublicKey,
        addresses: &[Multiaddr],
    ) -> Result<RequestStream, OpenError> {
        if peer == self.peer {
            return Err(OpenError::Own);
        }
        let id = addresses::peer_id(&peer);
        // The usual case first: no channel, no timer.
        let first = self.lanes.take(&id, Instant::now());
        if let Some(Ok(Taken::Ready(stream))) = first {
            return Ok(RequestStream::opened(stream));
        }
        let slow = Box::pin(self.open_slowly(peer, addresses, first));
        timeout(self.open_timeout, slow).await.unwrap_or(Err(OpenError::Timeout))
    }

    async fn open_slowly(
        &self,
        peer: PublicKey,
        addresses: &[Multiaddr],
        first: Option<Result<Taken, LaneError>>,
    ) -> Result<RequestStream, OpenError> {
        let id = addresses::peer_id(&peer);
        let mut taken = first;
        loop {
            match taken {
                Some(Ok(Taken::Ready(stream))) => return Ok(RequestStream::opened(stream)),
                Some(Ok(Taken::Soon(answer))) => match answer.await {
                    Ok(Ok(stream)) => return Ok(RequestStream::opened(stream)),
                    Ok(Err(error)) => error.or_again()?,
                    Err(_) => {}
                },
                Some(Err(error)) => error.or_again()?,
                None => self.dial(peer, addresses).await?,
            }
            taken = self.lanes.take(&id, Instant::now());
        }
    }

    async fn dial(&self, peer: PublicKey, addresses: &[Multiaddr]) -> Result<(), OpenError> {
        let known = || {
            let texts =
                self.offers.with(|table| table.get(&peer).map(|o| o.body.addresses.clone()));
            texts.into_iter().flatten().filter_map(|text| text.parse().ok()).collect()
        };
        let addresses = if addresses.is_empty() { known() } else { addresses.to_vec() };
        let (reply, answer) = oneshot::channel();
        let command = Command::Dial { peer, addresses, reply };
        self.commands.send(command).await.map_err(|_| OpenError::ShutDown)?;
        answer.await.unwrap_or(Err(OpenError::ShutDown))
    }

    /// Publishes this node's offer, keeps it for whoever asks, and publishes it again when newcomers
    /// appear. Returns when it is on its way to the peers connected.
    pub async fn publish_offer(&self, offer: Offer) {
        assert_eq!(offer.body.peer, self.peer, "a node publishes its own offer");
        self.offers.set_own(offer);
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Publish { reply }).await.is_ok() {
            let _ = done.await;
        }
    }

    /// Says how this node's offer is made for one peer, where it is not the same for everybody. It is
    /// asked whenever a peer asks for offers, and what comes back is told to that peer alone. An
    /// offer for everybody that was published goes before.
    pub fn offer_to_each(&self, offer_for: OfferFor) {
        self.offers.set_own_for(offer_for);
    }

    /// Tells a connected peer this node's offer for it, and nobody else. Returns whether it has it.
    pub async fn tell(&self, peer: &PublicKey, offer: Offer) -> bool {
        assert_eq!(offer.body.peer, self.peer, "a node tells its own offer");
        match self.lanes.best(&addresses::peer_id(peer)) {
            Some(lane) => exchange::tell(lane, offer, self.closing.clone()).await,
            None => false,
        }
    }

    /// To speak to others that follow the chain, and what they say, which one caller gets; none where
    /// this node does not follow it.
    #[must_use]
    pub fn chain(&self) -> Option<(Chain, mpsc::Receiver<ChainEvent>)> {
        let events = self.chain_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.chain.clone().zip(events)
    }

    /// Asks the peers that are there where these are, and dials them where somebody knows. For the
    /// first few that are not connected; those looked for before are forgotten.
    pub async fn seek(&self, peers: Vec<PublicKey>) {
        let _ = self.commands.send(Command::Seek { peers }).await;
    }

    /// Lets what was published leave, closes all connections and ends all tasks of the mesh.
    /// Publish the goodbye before. Streams that are still held elsewhere fail.
    pub async fn shutdown(self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl LaneError {
    /// What is worth another try is none: the connection closed while we waited, dial again.
    fn or_again(self) -> Result<(), OpenError> {
        match self {
            Self::Closed => Ok(()),
            Self::Unsupported => Err(OpenError::NotServing),
            Self::Failed => Err(OpenError::Negotiation),
            Self::Crowded => Err(OpenError::Crowded),
        }
    }
}
