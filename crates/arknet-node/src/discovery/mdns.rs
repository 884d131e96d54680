//! DNS-SD over multicast: announces this node as `_arknet._tcp`, and hears others.

use std::{net::IpAddr, time::Duration};

use arknet_mesh::{Mesh, Multiaddr};
use arknet_protocol::{Backoff, OfferDigest, Source};
use arknet_types::{NodeId, PublicKey};
use mdns_sd::{
    DaemonEvent, IfKind, Receiver, ResolvedService, ServiceDaemon, ServiceEvent, ServiceInfo,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Discovery,
    instances::{Instance, Instances, TXT_NODE_ID, TXT_OFFER, TXT_PEER, TXT_VERSION, write_digest},
    limits::{
        CACHE_CHECK_INTERVAL, CACHE_RECORDS_MAX, DOUBT_TIME, GOODBYE_TIMEOUT, INTERFACE_CHECK_S,
        OFFER_INTERVAL_MIN, REPEAT_INTERVAL, RESTART_BACKOFF_MS,
    },
    places::{self, Place},
};

/// The service under which nodes are announced.
const SERVICE: &str = "_arknet._tcp.local.";
/// The version of the protocol this node speaks.
const PROTOCOL_VERSION: u16 = 1;

/// What this node announces and how it listens for others.
pub(super) struct Mdns {
    pub(super) peer: PublicKey,
    pub(super) node_id: NodeId,
    pub(super) mesh: Mesh,
    /// Where the configuration has the mesh listen.
    pub(super) listen: Vec<Place>,
    pub(super) offer: watch::Receiver<OfferDigest>,
    pub(super) discovery: Discovery,
    /// Peers that lost their connection.
    pub(super) doubts: mpsc::Receiver<PublicKey>,
}

/// A resolver that runs.
struct Session {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
    notices: Receiver<DaemonEvent>,
    /// The port and the digest that were announced last.
    announced: Option<(u16, OfferDigest)>,
    announced_at: Option<Instant>,
}

/// Why a session ended.
enum Ended {
    Told,
    Failed,
}

impl Mdns {
    /// Runs until told to stop, then says goodbye.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RESTART_BACKOFF_MS.0, RESTART_BACKOFF_MS.1);
        let salt = u64::from(self.peer.0[0]);
        loop {
            let begun = Instant::now();
            let mut instances = Instances::default();
            let ended = match Session::start(&self.listen) {
                Ok(session) => self.follow(session, &mut instances, &stop).await,
                Err(error) => {
                    tracing::warn!(%error, "the local network cannot be searched");
                    Ended::Failed
                }
            };
            for peer in instances.clear() {
                self.discovery.goodbye(Source::Mdns, &peer);
            }
            if matches!(ended, Ended::Told) {
                return;
            }
            if begun.elapsed() > Duration::from_millis(RESTART_BACKOFF_MS.1) {
                backoff.succeed();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(Duration::from_millis(backoff.fail(salt))) => {}
            }
        }
    }

    async fn follow(
        &mut self,
        mut session: Session,
        instances: &mut Instances,
        stop: &CancellationToken,
    ) -> Ended {
        let mut listening = self.mesh.listening_changed();
        let mut repeat = interval(REPEAT_INTERVAL);
        let mut check = interval(CACHE_CHECK_INTERVAL);
        repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            let own = listening.borrow_and_update().clone();
            let digest = *self.offer.borrow_and_update();
            let later = match self.announce(&mut session, &own, digest) {
                Ok(later) => later,
                Err(error) => {
                    tracing::debug!(%error, "not announced");
                    break Ended::Failed;
                }
            };
            tokio::select! {
                biased;
                // What the network sends comes last, so that no flood keeps the rest from its turn.
                () = stop.cancelled() => break Ended::Told,
                _ = check.tick() => if session.is_flooded().await {
                    tracing::warn!("the local network is flooded with announcements");
                    break Ended::Failed;
                },
                _ = repeat.tick() => {
                    for sighting in instances.sightings(arknet_sdk::now()) {
                        self.discovery.saw(sighting);
                    }
                }
                _ = listening.changed() => {}
                _ = self.offer.changed() => {}
                () = until(later) => {}
                Some(peer) = self.doubts.recv() => session.doubt(&instances.names_of(&peer)),
                Ok(notice) = session.notices.recv_async() => note(&notice),
                event = session.events.recv_async() => match event {
                    Ok(event) => self.heard(event, instances, &own),
                    // It closes the channel of a listener that is too slow: there is a flood.
                    Err(_) => break Ended::Failed,
                },
            }
        };
        session.shut_down().await;
        ended
    }

    /// Announces this node if what was announced is not true any more. When it is too early for
    /// that, says when not.
    fn announce(
        &self,
        session: &mut Session,
        listening: &[Multiaddr],
        digest: OfferDigest,
    ) -> mdns_sd::Result<Option<Instant>> {
        let Some(port) = places::tcp_port(listening) else { return Ok(None) };
        match (session.announced, session.announced_at) {
            (Some(announced), _) if announced == (port, digest) => return Ok(None),
            (Some((before, _)), Some(at)) if before == port => {
                let due = at + OFFER_INTERVAL_MIN;
                if Instant::now() < due {
                    return Ok(Some(due));
                }
            }
            _ => {}
        }
        let properties = [
            (TXT_VERSION, PROTOCOL_VERSION.to_string()),
            (TXT_PEER, self.peer.to_string()),
            (TXT_NODE_ID, self.node_id.to_string()),
            (TXT_OFFER, write_digest(digest)),
        ];
        let host = host_name(&self.peer);
        let name = self.node_id.as_str();
        let info = ServiceInfo::new(SERVICE, name, &host, "", port, &properties[..])?;
        let mut info = info.enable_addr_auto();
        // The names are ours since the first announcement; asking for them again would take them
        // off the network for a moment.
        info.set_requires_probe(session.announced.is_none());
        session.daemon.register(info)?;
        session.announced = Some((port, digest));
        session.announced_at = Some(Instant::now());
        Ok(None)
    }

    fn heard(&self, event: ServiceEvent, instances: &mut Instances, own: &[Multiaddr]) {
        match event {
            ServiceEvent::ServiceResolved(service) => self.resolved(&service, instances, own),
            ServiceEvent::ServiceRemoved(_, name) => {
                if let Some(peer) = instances.went(&name) {
                    tracing::debug!(?peer, "left the local network");
                    self.discovery.goodbye(Source::Mdns, &peer);
                }
            }
            _ => {}
        }
    }

    fn resolved(&self, service: &ResolvedService, instances: &mut Instances, own: &[Multiaddr]) {
        let own: Vec<IpAddr> = own.iter().filter_map(Place::of).map(|p| p.ip).collect();
        let addresses = service.get_addresses().iter().map(mdns_sd::ScopedIp::to_ip_addr);
        let text = |key: &str| service.get_property_val_str(key);
        let name = service.get_fullname();
        let read = Instance::read(text, service.get_port(), addresses, &own);
        let Some(instance) = read.filter(|instance| instance.peer != self.peer) else {
            if let Some(peer) = instances.went(name) {
                self.discovery.goodbye(Source::Mdns, &peer);
            }
            return;
        };
        let peer = instance.peer;
        if let Some(gone) = instances.came(name, instance) {
            self.discovery.goodbye(Source::Mdns, &gone);
        }
        if let Some(sighting) = instances.sighting(&peer, arknet_sdk::now()) {
            self.discovery.saw(sighting);
        }
    }
}

impl Session {
    fn start(listen: &[Place]) -> mdns_sd::Result<Self> {
        let daemon = ServiceDaemon::new()?;
        let started = Self::configure(&daemon, listen);
        let (events, notices) = match started {
            Ok(started) => started,
            Err(error) => {
                let _ = daemon.shutdown();
                return Err(error);
            }
        };
        Ok(Self { daemon, events, notices, announced: None, announced_at: None })
    }

    fn configure(
        daemon: &ServiceDaemon,
        listen: &[Place],
    ) -> mdns_sd::Result<(Receiver<ServiceEvent>, Receiver<DaemonEvent>)> {
        let notices = daemon.monitor()?;
        daemon.set_ip_check_interval(INTERFACE_CHECK_S)?;
        daemon.disable_interface(interfaces_without(listen))?;
        daemon.enable_interface(interfaces_with(listen))?;
        daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        Ok((daemon.browse(SERVICE)?, notices))
    }

    /// Asks whether these announcements still stand, and forgets them if nobody says so.
    fn doubt(&self, names: &[String]) {
        for name in names {
            if let Err(error) = self.daemon.verify(name.clone(), DOUBT_TIME) {
                tracing::debug!(%error, name, "not verified");
            }
        }
    }

    /// Whether the resolver remembers more than it should: it has no bound of its own.
    async fn is_flooded(&self) -> bool {
        let Ok(answer) = self.daemon.get_metrics() else { return false };
        let counts = timeout(CACHE_CHECK_INTERVAL, answer.recv_async()).await;
        counts.is_ok_and(|counts| counts.is_ok_and(|counts| cached(&counts) > CACHE_RECORDS_MAX))
    }

    /// Says goodbye and ends the resolver.
    async fn shut_down(self) {
        if let Ok(done) = self.daemon.shutdown() {
            let _ = timeout(GOODBYE_TIMEOUT, done.recv_async()).await;
        }
    }
}

/// The name under which a node's addresses stand. Not the host's name: that one belongs to the
/// system's own daemon, may change, and is the same for two nodes on one host.
fn host_name(peer: &PublicKey) -> String {
    let id = peer.to_string().to_ascii_lowercase();
    format!("arknet-{}.local.", &id[id.len() - 16..])
}

/// The records in the resolver's cache, of all kinds.
fn cached(counts: &std::collections::HashMap<String, i64>) -> i64 {
    let cached = counts.iter().filter(|(name, _)| name.starts_with("cached-"));
    cached.map(|(_, count)| *count).sum()
}

fn note(notice: &DaemonEvent) {
    match notice {
        DaemonEvent::Error(error) => tracing::debug!(%error, "multicast DNS"),
        DaemonEvent::NameChange(change) => tracing::warn!(
            wanted = change.original,
            taken = change.new_name,
            "another node of the local network has this node's name"
        ),
        _ => {}
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The interfaces on which nobody could reach this node.
fn interfaces_without(listen: &[Place]) -> Vec<IfKind> {
    let on_any = |is_v4: bool| {
        listen.iter().any(|place| place.ip.is_unspecified() && place.ip.is_ipv4() == is_v4)
    };
    let v4 = (!on_any(true)).then_some(IfKind::IPv4);
    let v6 = (!on_any(false)).then_some(IfKind::IPv6);
    v4.into_iter().chain(v6).collect()
}

/// The interfaces that are named by an address of theirs.
fn interfaces_with(listen: &[Place]) -> Vec<IfKind> {
    let named = listen.iter().filter(|place| !place.ip.is_unspecified());
    named.map(|place| IfKind::Addr(place.ip)).collect()
}
