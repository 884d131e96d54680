//! The one task that drives the swarm.

use std::{
    collections::{HashMap, HashSet},
    time::Instant,
};

use arknet_types::PublicKey;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    gossipsub::{MessageAcceptance, MessageId},
    kad,
    multiaddr::Protocol,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    select,
    sync::{mpsc, oneshot, watch},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    addresses,
    behaviour::Behaviour,
    chain::{Judgement, Unjudged},
    dialer::{Dial, Dialer, Failed},
    gossip::{Gossip, Topic},
    limits::{
        CLOSE_TIMEOUT, DIAL_WAITERS_MAX, FLUSH_TIME, KEPT_MAX, PROBES_MAX, SEEK_INTERVAL,
        SOUGHT_MAX,
    },
    mesh::{Kept, MeshError, OpenError, ProbeError},
    offers::Offers,
    options::MeshOptions,
    relays::Relays,
    status::Connections,
    streams::Lanes,
};

/// What users ask of the task.
pub(crate) enum Command {
    /// Connect to a peer.
    Dial {
        peer: PublicKey,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), OpenError>>,
    },
    /// Publish our offer.
    Publish { reply: oneshot::Sender<()> },
    /// Keep connections to these peers.
    Keep { peers: Vec<Kept> },
    /// Look for these peers.
    Seek { peers: Vec<PublicKey> },
    /// Find out who answers at an address.
    Probe { address: Multiaddr, reply: oneshot::Sender<Result<PublicKey, ProbeError>> },
    /// Spread something among those that follow the chain.
    Gossip { topic: Topic, bytes: Vec<u8> },
    /// What becomes of a gossiped message.
    Judge { tag: u64, judgement: Judgement },
}

/// The swarm and what is decided about it.
pub(crate) struct SwarmLoop {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) offers: Offers,
    pub(super) lanes: Lanes,
    pub(super) connections: Connections,
    pub(super) dialer: Dialer,
    pub(super) dials: HashMap<ConnectionId, PeerId>,
    /// Dials to addresses whose peer is not known.
    pub(super) probes: HashMap<ConnectionId, oneshot::Sender<Result<PublicKey, ProbeError>>>,
    pub(super) waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<(), OpenError>>>>,
    pub(super) gossip: Gossip,
    /// Where what is gossiped of the chain goes; none where the chain is not followed.
    pub(super) unjudged: Option<Unjudged>,
    /// When others that follow the chain are looked for again.
    others_sought_at: Option<Instant>,
    chain_peers_wanted: usize,
    pub(super) relays: Relays,
    /// Peers with offers to which connections and streams are kept ready.
    pub(super) serving: HashSet<PeerId>,
    pub(super) serving_max: usize,
    pub(super) listening: Vec<Multiaddr>,
    pub(super) external: Vec<Multiaddr>,
    /// Whether our own addresses count as reachable without anybody's confirmation, because others
    /// depend on them: relays hand them out with each reservation.
    pub(super) trusts_own_addresses: bool,
    /// Peers that are looked for.
    sought: HashSet<PeerId>,
    pub(super) announced: watch::Sender<Vec<Multiaddr>>,
    pub(super) listened: watch::Sender<Vec<Multiaddr>>,
    pub(super) exchanges: TaskTracker,
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
}

impl SwarmLoop {
    #[allow(
        clippy::too_many_arguments,
        reason = "called once, with the parts it owns from then on"
    )]
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        options: &MeshOptions,
        offers: Offers,
        lanes: Lanes,
        connections: Connections,
        (announced, listened): (watch::Sender<Vec<Multiaddr>>, watch::Sender<Vec<Multiaddr>>),
        unjudged: Option<Unjudged>,
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> Result<Self, MeshError> {
        let own = options.key.public();
        let salt = own.0.first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes));
        let mut dialer = Dialer::new(salt);
        let now = Instant::now();
        for seed in &options.seeds {
            let (address, peer) = addresses::split_peer(seed.clone());
            match (peer, addresses::route(&address)) {
                // A shared seed list may well name this node itself.
                (Some(peer), Some(_)) if peer == *swarm.local_peer_id() => {}
                (Some(peer), Some(_)) => dialer.seed(peer, address, now),
                _ => return Err(MeshError::Seed { address: seed.clone() }),
            }
        }
        let external = options.external.iter().cloned();
        let mut this = Self {
            swarm,
            gossip: Gossip::new(offers.clone()),
            unjudged,
            others_sought_at: None,
            chain_peers_wanted: options.limits.chain_peers_wanted,
            offers,
            lanes,
            connections,
            dialer,
            dials: HashMap::new(),
            probes: HashMap::new(),
            waiting: HashMap::new(),
            relays: Relays::new(options),
            serving: HashSet::new(),
            serving_max: options.limits.warm_peers_max,
            listening: Vec::new(),
            external: external.map(|address| addresses::split_peer(address).0).collect(),
            trusts_own_addresses: options.relay_server && options.external.is_empty(),
            sought: HashSet::new(),
            announced,
            listened,
            exchanges: TaskTracker::new(),
            tasks,
            closing,
        };
        this.announce();
        Ok(this)
    }

    /// Runs until the mesh is shut down or nobody holds a handle of it. Own work comes before what
    /// others send, so that a flood cannot keep us from closing or from dialling.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let closing = self.closing.clone();
        let mut changed = self.offers.changed();
        let mut tick = interval(std::time::Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.next_wakeup();
            let wait = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                biased;
                () = closing.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Ok(()) = changed.changed() => self.plan(),
                () = wait => self.wake(),
                _ = tick.tick() => self.tend(),
                event = self.swarm.select_next_some() => self.event(event),
            }
        }
        Box::pin(self.close()).await;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses, reply } => {
                self.connect(addresses::peer_id(&peer), addresses, reply);
            }
            Command::Publish { reply } => {
                let now = (Offers::now(), Instant::now());
                self.gossip.publish(&mut self.swarm.behaviour_mut().gossip, now);
                let _ = reply.send(());
            }
            Command::Keep { peers } => self.keep(peers),
            Command::Seek { peers } => self.seek(&peers),
            Command::Probe { address, reply } => self.probe(address, reply),
            Command::Gossip { topic, bytes } => {
                let gossip = &mut self.swarm.behaviour_mut().gossip;
                // Transactions are told again while they wait for a block; a free job that nobody
                // hears of, nobody was there to give again.
                if let Err(error) = gossip.publish(topic.ident(), bytes) {
                    tracing::debug!(%error, ?topic, "not spread");
                }
                return;
            }
            Command::Judge { tag, judgement } => {
                let judged = self.unjudged.as_mut().and_then(|unjudged| unjudged.judged(tag));
                self.judge(judged, judgement.into());
                return;
            }
        }
        self.wake();
    }

    /// Tells the gossip what became of a message.
    pub(super) fn judge(
        &mut self,
        message: Option<(MessageId, PeerId)>,
        verdict: MessageAcceptance,
    ) {
        if let Some((id, forwarder)) = message {
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            let _ = gossip.report_message_validation_result(&id, &forwarder, verdict);
        }
    }

    fn seek(&mut self, peers: &[PublicKey]) {
        let peers = peers.iter().map(addresses::peer_id);
        let missing = peers.filter(|peer| !self.swarm.is_connected(peer)).take(SOUGHT_MAX);
        self.sought = missing.collect();
        for peer in &self.sought {
            self.swarm.behaviour_mut().kad.get_closest_peers(*peer);
        }
    }

    /// Somebody was looked for: dials those that were meant. The search may have led to others.
    pub(super) fn found(&mut self, result: kad::GetClosestPeersResult) {
        let (Ok(kad::GetClosestPeersOk { peers, .. })
        | Err(kad::GetClosestPeersError::Timeout { peers, .. })) = result;
        for kad::PeerInfo { peer_id, addrs } in peers {
            if self.sought.contains(&peer_id) || self.wants_others() {
                let known = addresses::dialable_of(addrs, &peer_id, &self.listening);
                self.dialer.once(peer_id, known, Instant::now());
            }
        }
        self.wake();
    }

    /// Whether this node follows the chain and knows so few that losing some may cut it off.
    fn wants_others(&self) -> bool {
        self.unjudged.is_some() && self.swarm.network_info().num_peers() < self.chain_peers_wanted
    }

    /// Looks for others that may follow the chain, now and then.
    fn seek_others(&mut self, now: Instant) {
        let is_due = self.others_sought_at.is_none_or(|at| now.duration_since(at) >= SEEK_INTERVAL);
        if is_due && self.wants_others() && self.swarm.network_info().num_peers() > 0 {
            self.others_sought_at = Some(now);
            let own = *self.swarm.local_peer_id();
            self.swarm.behaviour_mut().kad.get_closest_peers(own);
        }
    }

    fn keep(&mut self, peers: Vec<Kept>) {
        let now = Instant::now();
        let known = peers.into_iter().take(KEPT_MAX).map(|Kept { peer, addresses, news }| {
            let peer = addresses::peer_id(&peer);
            (peer, addresses::dialable_of(addresses, &peer, &self.listening), news)
        });
        let known: Vec<_> = known.filter(|(peer, ..)| peer != self.swarm.local_peer_id()).collect();
        let kept: Vec<_> = known.iter().map(|(peer, ..)| *peer).collect();
        if self.dialer.keep(known, now) {
            self.plan();
        }
        for peer in kept.iter().filter(|peer| self.swarm.is_connected(peer)) {
            self.dialer.connected(peer);
        }
        self.tend_lanes(now);
    }

    fn probe(&mut self, address: Multiaddr, reply: oneshot::Sender<Result<PublicKey, ProbeError>>) {
        self.probes.retain(|_, reply| !reply.is_closed());
        if self.probes.len() >= PROBES_MAX {
            let _ = reply.send(Err(ProbeError::Crowded));
            return;
        }
        let is_own = self.listening.contains(&address);
        if is_own || addresses::route(&address).is_none() {
            let _ = reply.send(Err(if is_own { ProbeError::Own } else { ProbeError::Nobody }));
            return;
        }
        let options = DialOpts::unknown_peer_id().address(address).build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.probes.insert(id, reply)),
            Err(error) => drop(reply.send(Err(ProbeError::of(&error)))),
        }
    }

    fn connect(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        reply: oneshot::Sender<Result<(), OpenError>>,
    ) {
        if self.swarm.is_connected(&peer) {
            let _ = reply.send(Ok(()));
            return;
        }
        if self.waiting.values().map(Vec::len).sum::<usize>() >= DIAL_WAITERS_MAX {
            let _ = reply.send(Err(OpenError::Crowded));
            return;
        }
        let addresses = addresses::dialable_of(addresses, &peer, &self.listening);
        if addresses.is_empty() && self.dialer.addresses(&peer).is_empty() {
            let _ = reply.send(Err(OpenError::NoAddress));
            return;
        }
        self.dialer.once(peer, addresses, Instant::now());
        self.waiting.entry(peer).or_default().push(reply);
    }

    /// Decides anew to whom connections are kept, after the offers changed.
    fn plan(&mut self) {
        let (now, wall) = (Instant::now(), Offers::now());
        let chosen = self.choose(wall);
        for (peer, sequence, texts) in &chosen {
            let known = addresses::dialable(texts, peer, &self.listening);
            self.dialer.offer(*peer, known, *sequence, now);
            if self.swarm.is_connected(peer) {
                self.dialer.connected(peer);
            }
        }
        self.serving = chosen.into_iter().map(|(peer, ..)| peer).collect();
        let offers = &self.offers;
        self.dialer.retain_offers(|peer| {
            // Peers that cannot be reached are tried for as long as their offer lasts.
            addresses::public_key(peer).is_some_and(|key| {
                offers.with(|table| {
                    table.get(&key).is_some_and(|offer| {
                        offer.body.expires_at > wall && !offer.body.models.is_empty()
                    })
                })
            })
        });
        self.tend_lanes(now);
        self.wake();
    }

    /// The peers with offers to be kept connected: those that are already, then others up to the
    /// limit.
    fn choose(&self, wall: arknet_types::Timestamp) -> Vec<(PeerId, u64, Vec<String>)> {
        self.offers.with(|table| {
            let living =
                table.living(wall).map(|offer| (addresses::peer_id(&offer.body.peer), offer));
            let (kept, others): (Vec<_>, Vec<_>) =
                living.partition(|(peer, _)| self.serving.contains(peer));
            let chosen = kept.into_iter().chain(others).take(self.serving_max);
            chosen
                .map(|(peer, offer)| (peer, offer.body.sequence, offer.body.addresses.clone()))
                .collect()
        })
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.dialer.next_wakeup().into_iter().chain(self.gossip.next_wakeup()).min()
    }

    /// Does what is due.
    pub(super) fn wake(&mut self) {
        let now = Instant::now();
        while let Some(dial) = self.dialer.poll(now) {
            self.dial(dial);
        }
        if self.gossip.next_wakeup().is_some_and(|due| due <= now) {
            self.gossip.publish(&mut self.swarm.behaviour_mut().gossip, (Offers::now(), now));
        }
    }

    fn dial(&mut self, dial: Dial) {
        let Dial { peer, addresses } = dial;
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::Disconnected)
            .addresses(addresses)
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, peer);
            }
            Err(DialError::DialPeerConditionFalse(_)) => self.dialer.connected(&peer),
            Err(error) => self.dial_failed(peer, &error),
        }
    }

    pub(super) fn dial_failed(&mut self, peer: PeerId, error: &DialError) {
        tracing::debug!(%peer, %error, "dial failed");
        if self.dialer.failed(&peer, Instant::now()) == Failed::NotYet
            || self.swarm.is_connected(&peer)
        {
            return;
        }
        self.mark(&peer, false);
        for reply in self.waiting.remove(&peer).into_iter().flatten() {
            let _ = reply.send(Err(OpenError::Unreachable));
        }
    }

    /// Takes a peer out of routing, or back into it. This also plans anew.
    pub(super) fn mark(&self, peer: &PeerId, reachable: bool) {
        if let Some(key) = addresses::public_key(peer)
            && self.offers.with(|table| table.get(&key).is_some())
        {
            self.offers.mark(&key, reachable);
        }
    }

    /// Housekeeping, once a second.
    fn tend(&mut self) {
        let now = Instant::now();
        self.offers.expire(Offers::now());
        self.tend_lanes(now);
        let swarm = &self.swarm;
        self.gossip.tend(now, |peer| swarm.is_connected(peer));
        self.waiting.retain(|_, replies| {
            replies.retain(|reply| !reply.is_closed());
            !replies.is_empty()
        });
        self.reserve(now);
        self.seek_others(now);
    }

    pub(super) fn tend_lanes(&self, now: Instant) {
        let (dialer, serving) = (&self.dialer, &self.serving);
        self.lanes.tend(now, |peer| dialer.is_kept(peer), |peer| serving.contains(peer));
    }

    /// Reserves a place on a relay where one is needed.
    pub(super) fn reserve(&mut self, now: Instant) {
        let connections = &self.connections;
        while let Some((relay, address)) =
            self.relays.wanted(now, |peer| connections.dialed_address(peer))
        {
            let circuit = address.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit);
            match self.swarm.listen_on(circuit) {
                Ok(listener) => self.relays.asked(relay, listener),
                Err(error) => {
                    tracing::debug!(%relay, %error, "no place on the relay");
                    self.relays.failed(now);
                }
            }
        }
    }

    /// Tells who follows our addresses what they are now.
    pub(super) fn announce(&mut self) {
        let direct = self.listening.iter().filter(|address| !addresses::is_relayed(address));
        let direct: Vec<_> = direct.cloned().collect();
        let set = |known: &mut Vec<Multiaddr>, addresses: Vec<Multiaddr>| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        };
        self.listened.send_if_modified(|known| set(known, direct));
        let confirmed = self.swarm.external_addresses().cloned();
        let external: Vec<_> = self.external.iter().cloned().chain(confirmed).collect();
        let addresses = addresses::announced(&external, &self.listening);
        self.announced.send_if_modified(|known| set(known, addresses));
    }

    /// The order of closing: what was published leaves, connections close, everything is dropped.
    async fn close(mut self) {
        self.waiting.clear();
        if self.gossip.published_within(CLOSE_TIMEOUT, Instant::now()) {
            let _ = timeout(FLUSH_TIME, self.drain(false)).await;
        }
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let _ = timeout(CLOSE_TIMEOUT, self.drain(true)).await;
    }

    async fn drain(&mut self, until_empty: bool) {
        while !until_empty || self.swarm.network_info().num_peers() > 0 {
            self.swarm.select_next_some().await;
        }
    }
}
