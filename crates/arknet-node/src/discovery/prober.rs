//! Looks for nodes at addresses that say nothing of a peer: behind tunnels, and where the owner
//! knows a node but not its key.

use std::{collections::BTreeMap, future::pending, path::PathBuf};

use arknet_mesh::{Mesh, Multiaddr, ProbeError};
use arknet_protocol::{Probes, Sighting, Source};
use arknet_types::{PublicKey, Timestamp};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Discovery,
    limits::TUNNEL_CHECK_INTERVAL,
    places::{self, Network, Place, ProbeTarget},
    tunnels,
};

pub(super) struct Prober {
    pub(super) mesh: Mesh,
    pub(super) discovery: Discovery,
    /// What the owner says is there.
    pub(super) named: Vec<String>,
    pub(super) targets: Vec<ProbeTarget>,
    /// Where the configurations of tunnels lie.
    pub(super) vpn: PathBuf,
}

type Answer = (String, Result<PublicKey, ProbeError>);

impl Prober {
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut probes = Probes::new();
        let mut asked: FuturesUnordered<BoxFuture<'static, Answer>> = FuturesUnordered::new();
        let mut listening = self.mesh.listening_changed();
        let mut check = interval(TUNNEL_CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut networks = Vec::new();
        let mut sources = BTreeMap::new();
        loop {
            let now = arknet_sdk::now();
            while let Some(address) = probes.poll(now) {
                asked.push(self.probe(address));
            }
            let due = probes.next_wakeup().map(|due| due.since_ms(now));
            let wait = async {
                match due {
                    Some(ms) => sleep(std::time::Duration::from_millis(ms)).await,
                    None => pending().await,
                }
            };
            let changed = tokio::select! {
                () = stop.cancelled() => return,
                Some((address, answer)) = asked.next() => {
                    let now = arknet_sdk::now();
                    self.answered(&mut probes, &sources, address, answer, now);
                    continue;
                }
                () = wait => continue,
                _ = check.tick() => false,
                changed = listening.changed() => changed.is_ok(),
            };
            let vpn = self.vpn.clone();
            let found = tokio::task::spawn_blocking(move || tunnels::networks(&vpn)).await;
            let found = found.unwrap_or_default();
            let now = arknet_sdk::now();
            if found != networks || sources.is_empty() {
                sources = self.sources(&found);
                networks = found;
                for peer in probes.set(self.order(&networks), now) {
                    self.gone(&sources, &peer);
                }
            }
            if changed {
                probes.again(now);
            }
        }
    }

    /// All addresses to look at, with what it means to find somebody there.
    fn sources(&self, networks: &[Network]) -> BTreeMap<String, Source> {
        let targets = self.targets.iter().flat_map(ProbeTarget::addresses);
        let tunnels = targets.chain(places::addresses_in(networks));
        let mut sources: BTreeMap<_, _> = tunnels.map(|a| (a, Source::Tunnel)).collect();
        sources.extend(self.named.iter().map(|address| (address.clone(), Source::Static)));
        sources
    }

    /// What the owner named comes first, should there be too many, then the first of each network.
    fn order(&self, networks: &[Network]) -> Vec<String> {
        let targets = self.targets.iter().flat_map(ProbeTarget::addresses);
        let named = self.named.iter().cloned().chain(targets);
        named.chain(places::addresses_in(networks)).collect()
    }

    fn probe(&self, address: String) -> BoxFuture<'static, Answer> {
        let mesh = self.mesh.clone();
        Box::pin(async move {
            let Ok(parsed) = address.parse::<Multiaddr>() else {
                return (address, Err(ProbeError::Nobody));
            };
            // One of this machine needs no dial to be known as such.
            let here = mesh.listening_changed().borrow().contains(&parsed);
            if here {
                return (address, Err(ProbeError::Own));
            }
            let connected = mesh.connected();
            let answer = match connected.iter().find(|peer| peer.dialed.as_ref() == Some(&parsed)) {
                Some(there) => Ok(there.peer),
                None => mesh.probe(parsed).await,
            };
            (address, answer)
        })
    }

    fn answered(
        &self,
        probes: &mut Probes,
        sources: &BTreeMap<String, Source>,
        address: String,
        answer: Result<PublicKey, ProbeError>,
        now: Timestamp,
    ) {
        let gone = match answer {
            Ok(peer) => {
                let gone = probes.found(&address, peer, now);
                let source = sources.get(&address).copied().unwrap_or(Source::Tunnel);
                tracing::debug!(?peer, address, "answers");
                self.discovery.saw(Sighting {
                    source,
                    peer,
                    node_id: None,
                    addresses: vec![address],
                    offer: None,
                    version: None,
                    at: now,
                });
                gone
            }
            Err(ProbeError::Own) => {
                probes.own(&address);
                None
            }
            Err(_) => probes.missed(&address, now),
        };
        if let Some(peer) = gone {
            self.gone(sources, &peer);
        }
    }

    fn gone(&self, sources: &BTreeMap<String, Source>, peer: &PublicKey) {
        let at = |source| sources.values().any(|known| *known == source);
        for source in [Source::Tunnel, Source::Static] {
            if at(source) {
                self.discovery.goodbye(source, peer);
            }
        }
    }
}

/// Whether a multiaddr of the configuration can be looked at without knowing the peer.
pub(super) fn is_place(address: &str) -> bool {
    Place::read(address).is_some_and(|place| place.port != 0)
}
