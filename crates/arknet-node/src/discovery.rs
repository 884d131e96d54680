//! Finding each other: what was seen goes into one peer book, whoever saw it, and the book says
//! whom to dial.
//!
//! Each way of finding peers is a driver that does nothing but tell the [`Discovery`] what it saw:
//! `mdns` on the local network, `prober` behind tunnels; the registry's client does it through
//! [`Discovery::saw`]. Nobody is approved by being found.

mod instances;
mod limits;
mod mdns;
mod places;
mod prober;
mod registry;
mod tunnels;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_mesh::{Kept, Mesh, Multiaddr, OpenError};
use arknet_protocol::{Grants, Known, Noticed, OfferDigest, PeerBook, Sighting, Source, Wanted};
use arknet_registry::RegistryClient;
use arknet_types::{KeyPair, NodeId, PublicKey};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::{
    limits::DOUBTS_MAX, mdns::Mdns, places::Place, prober::Prober, registry::RegistryDriver,
};
use crate::{Config, DataDir, approvals::Approvals, config::Grid, serving::Serving};

pub(crate) use self::places::ProbeTarget;

/// The peer book of a running node. Cheap to clone.
#[derive(Clone)]
pub struct Discovery {
    book: Arc<Mutex<PeerBook>>,
    changed: watch::Sender<u64>,
}

/// Whether another program listens on the TCP port of this multiaddr.
pub(crate) fn check_port(address: &str) -> Result<(), (SocketAddr, std::io::Error)> {
    let Some(place) = Place::read(address) else { return Ok(()) };
    let socket = SocketAddr::new(place.ip, place.port);
    match std::net::TcpListener::bind(socket) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err((socket, error)),
        // Whatever else stands in the way, the mesh will say so itself.
        _ => Ok(()),
    }
}

impl Discovery {
    pub(crate) fn new(me: PublicKey) -> Self {
        Self { book: Arc::new(Mutex::new(PeerBook::new(me))), changed: watch::Sender::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, PeerBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A peer was seen.
    pub fn saw(&self, sighting: Sighting) {
        let (peer, source) = (sighting.peer, sighting.source);
        let noticed = self.book().saw(sighting);
        match noticed {
            // Anybody can be the cause of any number of these.
            Noticed::New => tracing::debug!(?peer, source = source.as_str(), "peer found"),
            Noticed::Full => tracing::debug!(?peer, source = source.as_str(), "no room"),
            _ => {}
        }
        if matches!(noticed, Noticed::New | Noticed::Changed) {
            self.ring();
        }
    }

    /// A source says that a peer is gone.
    pub fn goodbye(&self, source: Source, peer: &PublicKey) {
        if self.book().goodbye(source, peer) {
            self.ring();
        }
    }

    /// These peers are approved, and no others: connections to them are kept.
    pub fn approve(&self, approved: BTreeSet<PublicKey>) {
        if self.book().approve(approved, arknet_sdk::now()) {
            self.ring();
        }
    }

    /// Everybody who is seen now.
    #[must_use]
    pub fn list(&self) -> Vec<Known> {
        self.book().list().collect()
    }

    /// What is known of one peer.
    #[must_use]
    pub fn get(&self, peer: &PublicKey) -> Option<Known> {
        self.book().get(peer)
    }

    /// Counts changes; wait on it for a peer that is not there yet.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// What the drivers are told of a node.
pub(crate) struct Finding<'a> {
    pub(crate) data: &'a DataDir,
    pub(crate) key: &'a KeyPair,
    pub(crate) node_id: NodeId,
    pub(crate) config: &'a Config,
    /// The directory to look into.
    pub(crate) registry: Option<Arc<RegistryClient>>,
}

impl Finding<'_> {
    /// The peer book, and what fills it and dials by it until told to stop.
    pub(crate) fn run(
        self,
        mesh: &Mesh,
        serving: &Serving,
        approvals: &Approvals,
        stop: CancellationToken,
    ) -> (Discovery, impl Future<Output = ()> + Send + 'static) {
        let discovery = Discovery::new(mesh.peer());
        let Grid { mdns, peers, probe, .. } = &self.config.grid;
        let mut drivers = JoinSet::new();
        if let Some(client) = self.registry {
            let registry = RegistryDriver {
                client,
                key: self.key.clone(),
                node_id: self.node_id.clone(),
                endpoint: self.config.grid.registry_endpoint.clone(),
                enters: self.config.grid.registry_register,
                mesh: mesh.clone(),
                serving: serving.clone(),
                discovery: discovery.clone(),
            };
            drivers.spawn(registry.run(stop.clone()));
        }
        let (doubt, doubts) = mpsc::channel(DOUBTS_MAX);
        let listen: Vec<_> = self.config.mesh.listen.iter().map(String::as_str).collect();
        let listen: Vec<_> = listen.into_iter().filter_map(Place::read).collect();
        // A node that listens to its own machine alone has nothing to tell a network.
        if *mdns && listen.iter().any(|place| !place.ip.is_loopback()) {
            let (digest, offer) = watch::channel(offer_digest(self.key, serving));
            drivers.spawn(follow_offer(self.key.clone(), serving.clone(), digest));
            let mdns = Mdns {
                peer: self.key.public(),
                node_id: self.node_id,
                mesh: mesh.clone(),
                listen,
                offer,
                discovery: discovery.clone(),
                doubts,
            };
            drivers.spawn(mdns.run(stop.clone()));
        }
        let named = name_peers(&discovery, peers);
        let prober = Prober {
            mesh: mesh.clone(),
            discovery: discovery.clone(),
            named,
            targets: probe.iter().filter_map(|text| text.parse().ok()).collect(),
            vpn: self.data.vpn(),
        };
        drivers.spawn(prober.run(stop.clone()));
        drivers.spawn(follow_approvals(discovery.clone(), approvals.changes(), stop.clone()));
        drivers.spawn(Dialling::new(mesh.clone(), discovery.clone(), doubt).run(stop.clone()));
        let run = async move {
            stop.cancelled().await;
            while let Some(ended) = drivers.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a way of finding peers failed");
                }
            }
        };
        (discovery, run)
    }
}

/// Notes the peers that the configuration names. Those without a key come back: they must be asked.
fn name_peers(discovery: &Discovery, peers: &[String]) -> Vec<String> {
    let mut without_key = Vec::new();
    for text in peers {
        match text.rsplit_once("/p2p/") {
            Some((address, peer)) => {
                if let Ok(peer) = peer.parse() {
                    discovery.saw(Sighting {
                        source: Source::Static,
                        peer,
                        node_id: None,
                        addresses: vec![address.to_owned()],
                        offer: None,
                        version: None,
                        at: arknet_sdk::now(),
                    });
                }
            }
            None => without_key.push(text.clone()),
        }
    }
    without_key
}

/// Whether a text can stand in `[grid] peers`.
pub(crate) fn is_peer_address(text: &str) -> bool {
    let has_form = text.parse::<Multiaddr>().is_ok();
    has_form
        && match text.rsplit_once("/p2p/") {
            Some((_, peer)) => peer.parse::<PublicKey>().is_ok(),
            None => prober::is_place(text),
        }
}

/// Tells one state of what is offered from another, and nothing else to anybody: without the key
/// nobody can find out which models it stands for. What changes with every request is left out.
fn offer_digest(key: &KeyPair, serving: &Serving) -> OfferDigest {
    let secret = blake3::derive_key("arknet 2026-11-30 digest of the offer", &key.seed()[..]);
    let mut hasher = blake3::Hasher::new_keyed(&secret);
    for served in serving.models().values().filter(|served| served.is_shared) {
        let info = &served.info;
        let digest = info.digest.map(|digest| digest.to_string()).unwrap_or_default();
        let numbers = [info.context_tokens.into(), u64::from(info.slots), served.price.input.0];
        for part in [info.name.as_str(), &digest, &format!("{numbers:?}")] {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        }
    }
    let mut digest = [0; 8];
    digest.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    OfferDigest(digest)
}

async fn follow_offer(key: KeyPair, serving: Serving, digest: watch::Sender<OfferDigest>) {
    let mut models = serving.changed();
    loop {
        let changed = tokio::select! {
            changed = models.changed() => changed.is_ok(),
            () = digest.closed() => false,
        };
        if !changed {
            return;
        }
        let new = offer_digest(&key, &serving);
        digest.send_if_modified(|known| std::mem::replace(known, new) != new);
    }
}

/// Keeps the peer book's notion of who is approved true.
async fn follow_approvals(
    discovery: Discovery,
    mut grants: watch::Receiver<Arc<Grants>>,
    stop: CancellationToken,
) {
    loop {
        let approved = grants.borrow_and_update().iter().map(|grant| grant.key).collect();
        discovery.approve(approved);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = grants.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

type Proof = (PublicKey, Result<(), OpenError>);

/// Dials whom the book wants, and tells it who is connected.
struct Dialling {
    mesh: Mesh,
    discovery: Discovery,
    /// Peers whose announcement may be out of date.
    doubt: mpsc::Sender<PublicKey>,
    connected: BTreeSet<PublicKey>,
    kept: Vec<Wanted>,
    proofs: FuturesUnordered<BoxFuture<'static, Proof>>,
}

impl Dialling {
    fn new(mesh: Mesh, discovery: Discovery, doubt: mpsc::Sender<PublicKey>) -> Self {
        Self {
            mesh,
            discovery,
            doubt,
            connected: BTreeSet::new(),
            kept: Vec::new(),
            proofs: FuturesUnordered::new(),
        }
    }

    async fn run(mut self, stop: CancellationToken) {
        let mut connections = self.mesh.connected_changed();
        let mut changed = self.discovery.changed();
        loop {
            connections.borrow_and_update();
            self.note_connections();
            changed.borrow_and_update();
            let wait = self.dial().await;
            tokio::select! {
                () = stop.cancelled() => return,
                Some((peer, answer)) = self.proofs.next() => self.proved(peer, answer),
                _ = changed.changed() => {}
                _ = connections.changed() => {}
                () = async {
                    match wait {
                        Some(wait) => sleep(wait).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn note_connections(&mut self) {
        let now = arknet_sdk::now();
        let mut connected = BTreeSet::new();
        let mut is_news = false;
        for status in self.mesh.connected() {
            connected.insert(status.peer);
            let address = status.dialed.map(|address| address.to_string());
            let noticed =
                self.discovery.book().connected(status.peer, status.node_id, address, now);
            is_news |= matches!(noticed, Noticed::New | Noticed::Changed);
        }
        for peer in self.connected.difference(&connected) {
            is_news |= self.discovery.book().disconnected(peer, now);
            // A full queue has doubts enough; what is announced runs out by itself.
            let _ = self.doubt.try_send(*peer);
        }
        self.connected = connected;
        if is_news {
            self.discovery.ring();
        }
    }

    /// Begins what is due; how long until something is again.
    async fn dial(&mut self) -> Option<Duration> {
        let now = arknet_sdk::now();
        let (kept, proofs, next) = {
            let mut book = self.discovery.book();
            let expired = book.expire(now);
            if expired {
                self.discovery.ring();
            }
            let proofs: Vec<_> = std::iter::from_fn(|| book.next_proof(now)).collect();
            (book.keep().collect::<Vec<_>>(), proofs, book.next_wakeup())
        };
        if kept != self.kept {
            let peers = kept.iter().map(|wanted| Kept {
                peer: wanted.peer,
                addresses: parse(&wanted.addresses),
                news: wanted.news,
            });
            self.mesh.keep(peers.collect()).await;
            self.kept = kept;
        }
        for Wanted { peer, addresses, .. } in proofs {
            let (mesh, addresses) = (self.mesh.clone(), parse(&addresses));
            self.proofs.push(Box::pin(async move {
                // Without an address it would be looked for where its offer says.
                match addresses.is_empty() {
                    true => (peer, Err(OpenError::NoAddress)),
                    false => (peer, mesh.connect(peer, &addresses).await),
                }
            }));
        }
        next.map(|next| Duration::from_millis(next.since_ms(now)))
    }

    fn proved(&mut self, peer: PublicKey, answer: Result<(), OpenError>) {
        if let Err(error) = answer {
            tracing::debug!(?peer, %error, "not reached");
            let _ = self.doubt.try_send(peer);
        }
        // Whose connection stands has proved its key; one that is gone already counts for nothing.
        self.note_connections();
        self.discovery.book().unreachable(&peer, arknet_sdk::now());
    }
}

fn parse(addresses: &[String]) -> Vec<Multiaddr> {
    addresses.iter().filter_map(|address| address.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
