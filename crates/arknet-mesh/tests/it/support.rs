//! Meshes on loopback.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use arknet_mesh::{Inbound, Mesh, MeshOptions, Multiaddr, RequestStream};
use arknet_types::{
    Atoms, Capabilities, KeyPair, ModelDigest, ModelName, ModelOffer, NetworkId, Offer, OfferBody,
    PublicKey, limits::REQUEST_FRAME_BYTES_MAX,
};
use tokio::time::timeout;

pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

pub(crate) fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

pub(crate) fn network() -> NetworkId {
    NetworkId::new("test").unwrap()
}

pub(crate) fn options(seed: u8, listen: &[&str]) -> MeshOptions {
    let mut options = MeshOptions::new(key(seed), network());
    options.listen = listen.iter().map(|address| address.parse().unwrap()).collect();
    options.serve = !listen.is_empty();
    options
}

/// Starts a mesh and waits until it listens on all it was told to.
pub(crate) async fn started(options: MeshOptions) -> (Mesh, Inbound) {
    let listeners = options.listen.len();
    let (mesh, inbound) = arknet_mesh::start(options).unwrap();
    let mut addresses = mesh.addresses_changed();
    within(5, addresses.wait_for(|addresses| addresses.len() >= listeners)).await.unwrap();
    (mesh, inbound)
}

/// The addresses of a mesh as others are given them as seeds.
pub(crate) fn seeds(mesh: &Mesh) -> Vec<Multiaddr> {
    let peer = mesh.peer().peer_id();
    let addresses = mesh.listen_addresses().into_iter();
    addresses.map(|address| format!("{address}/p2p/{peer}").parse().unwrap()).collect()
}

/// What takes `seconds` at most, with patience for a machine that does much else.
pub(crate) async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(seconds * 6), work).await.expect("in time")
}

/// An offer of one model, newer than all before.
pub(crate) fn offer(signer: &KeyPair, addresses: &[Multiaddr], model: &str) -> Offer {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    let now = arknet_mesh::Offers::now();
    let model = ModelOffer {
        name: ModelName::new(model).unwrap(),
        digest: Some(ModelDigest([7; 32])),
        projector: None,
        capabilities: Capabilities::GENERATE,
        context_tokens: 4096,
        slots_total: 4,
        slots_free: 4,
        input_price: Atoms::ZERO,
        output_price: Atoms::ZERO,
    };
    let body = OfferBody {
        network: network(),
        peer: signer.public(),
        sequence: SEQUENCE.fetch_add(1, Ordering::Relaxed),
        issued_at: now,
        expires_at: now.plus_ms(120_000),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        models: vec![model],
    };
    Offer::sign(body, signer)
}

/// Waits until `mesh` knows a living offer of `peer` with at least this sequence.
pub(crate) async fn hears(mesh: &Mesh, peer: PublicKey, sequence: u64) {
    let mut changed = mesh.offers().changed();
    changed
        .wait_for(|_| {
            mesh.offers().with(|table| {
                let mut living = table.living(arknet_mesh::Offers::now());
                living.any(|offer| offer.body.peer == peer && offer.body.sequence >= sequence)
            })
        })
        .await
        .unwrap();
}

/// Answers each request stream with what it asked.
pub(crate) fn echo(mut inbound: Inbound) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while let Some((_, stream)) = inbound.next().await {
            tokio::spawn(echo_one(stream));
        }
    })
}

async fn echo_one(mut stream: RequestStream) {
    if let Ok(body) = stream.read_frame::<Vec<u8>>(REQUEST_FRAME_BYTES_MAX).await {
        let _ = stream.write_frame(&body).await;
        let _ = stream.close().await;
    }
}

/// Sends a request and checks that it comes back.
pub(crate) async fn ask_echo(stream: &mut RequestStream, body: &Vec<u8>) {
    stream.write_frame(body).await.unwrap();
    assert_eq!(&stream.read_frame::<Vec<u8>>(REQUEST_FRAME_BYTES_MAX).await.unwrap(), body);
}
