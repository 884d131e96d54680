//! Two meshes on loopback and the book between them.

use std::path::PathBuf;

use arknet_mesh::{Inbound, MeshOptions};
use arknet_types::{NetworkId, Timestamp};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

fn mesh(seed: u8, node_id: &str) -> (Mesh, Inbound) {
    let key = KeyPair::from_seed(&[seed; 32]);
    let mut options = MeshOptions::new(key, NetworkId::new("test").unwrap());
    options.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    options.node_id = Some(NodeId::new(node_id).unwrap());
    arknet_mesh::start(options).unwrap()
}

async fn address(mesh: &Mesh) -> String {
    let mut addresses = mesh.addresses_changed();
    let known = timeout(PATIENCE, addresses.wait_for(|known| !known.is_empty())).await;
    known.unwrap().unwrap()[0].to_string()
}

/// Waits until what is known of a peer is as expected.
async fn until(
    discovery: &Discovery,
    peer: PublicKey,
    what: impl Fn(Option<Known>) -> bool + Send + Sync,
) {
    let mut changed = discovery.changed();
    let waited = timeout(PATIENCE, changed.wait_for(|_| what(discovery.get(&peer)))).await;
    assert!(waited.is_ok(), "{:?}", discovery.list());
}

struct Running {
    mesh: Mesh,
    discovery: Discovery,
    doubts: mpsc::Receiver<PublicKey>,
    stop: CancellationToken,
    parts: JoinSet<()>,
}

impl Running {
    fn start(seed: u8, node_id: &str, named: Vec<String>, targets: &[&str]) -> Self {
        let (mesh, _) = mesh(seed, node_id);
        let discovery = Discovery::new(mesh.peer());
        let (doubt, doubts) = mpsc::channel(8);
        let (stop, mut parts) = (CancellationToken::new(), JoinSet::new());
        let prober = Prober {
            mesh: mesh.clone(),
            discovery: discovery.clone(),
            named: name_peers(&discovery, &named),
            targets: targets.iter().map(|text| text.parse().unwrap()).collect(),
            vpn: PathBuf::from("/nowhere"),
        };
        parts.spawn(prober.run(stop.clone()));
        let dialling = Dialling::new(mesh.clone(), discovery.clone(), doubt);
        parts.spawn(dialling.run(stop.clone()));
        Self { mesh, discovery, doubts, stop, parts }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.parts.join_next().await {
            ended.unwrap();
        }
        self.mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_was_named_proves_its_key_and_says_what_it_is_called() {
    let (other, _inbound) = mesh(1, "ark-cellar");
    let at = address(&other).await;
    let named = format!("{at}/p2p/{}", other.peer());
    let running = Running::start(2, "ark-attic", vec![named], &[]);
    until(&running.discovery, other.peer(), |known| {
        known.is_some_and(|known| known.proved && known.node_id.is_some())
    })
    .await;
    let known = running.discovery.list().remove(0);
    assert_eq!(known.node_id.unwrap().as_str(), "ark-cellar");
    assert_eq!(known.sources, [Source::Static, Source::Connected]);
    assert_eq!((known.addresses, known.approved), (vec![at], false));
    other.shutdown().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_says_nothing_of_a_peer_is_asked_who_is_there() {
    let (other, _inbound) = mesh(1, "ark-cellar");
    let at = address(&other).await;
    let port = at.rsplit('/').next().unwrap();
    let target = format!("127.0.0.1:{port}");
    // A loopback address is no host behind a tunnel: only the owner can name it.
    assert!(target.parse::<ProbeTarget>().is_err());
    let running = Running::start(2, "ark-attic", vec![at.clone()], &[]);
    until(&running.discovery, other.peer(), |known| {
        known.is_some_and(|known| known.sources.contains(&Source::Static))
    })
    .await;
    assert_eq!(running.discovery.list().remove(0).addresses, [at]);
    other.shutdown().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approved_peer_is_connected_again_when_it_comes_back_and_doubted_while_it_is_gone() {
    let (other, inbound) = mesh(1, "ark-cellar");
    let (peer, at) = (other.peer(), address(&other).await);
    let mut running = Running::start(2, "ark-attic", vec![], &[]);
    running.discovery.approve([peer].into());
    running.discovery.saw(Sighting {
        source: Source::Mdns,
        peer,
        node_id: None,
        addresses: vec![at.clone()],
        offer: None,
        version: None,
        at: arknet_sdk::now(),
    });
    until(&running.discovery, peer, |known| known.is_some_and(|known| known.connected)).await;
    drop(inbound);
    other.shutdown().await;
    until(&running.discovery, peer, |known| known.is_some_and(|known| !known.connected)).await;
    assert_eq!(timeout(PATIENCE, running.doubts.recv()).await.unwrap(), Some(peer));
    let key = KeyPair::from_seed(&[1; 32]);
    let mut options = MeshOptions::new(key, NetworkId::new("test").unwrap());
    options.listen = vec![at.parse().unwrap()];
    let (other, _inbound) = arknet_mesh::start(options).unwrap();
    until(&running.discovery, peer, |known| known.is_some_and(|known| known.connected)).await;
    other.shutdown().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_behind_a_seen_address_is_not_taken_for_the_one_that_was_seen() {
    let (other, _inbound) = mesh(1, "ark-cellar");
    let at = address(&other).await;
    let victim = KeyPair::from_seed(&[9; 32]).public();
    let mut running = Running::start(2, "ark-attic", vec![], &[]);
    running.discovery.saw(Sighting {
        source: Source::Mdns,
        peer: victim,
        node_id: None,
        addresses: vec![at],
        offer: None,
        version: None,
        at: Timestamp(arknet_sdk::now().0),
    });
    assert_eq!(timeout(PATIENCE, running.doubts.recv()).await.unwrap(), Some(victim));
    let known = running.discovery.get(&victim).unwrap();
    assert!(!known.proved && !known.connected);
    other.shutdown().await;
    running.stop().await;
}
