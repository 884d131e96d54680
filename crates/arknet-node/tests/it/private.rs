//! What approved peers are told of a node's models, and that nobody else is told anything.

use arknet_mesh::{Mesh, Offers};
use arknet_sdk::{PublicKey, RefusalCode, keyfile};
use arknet_types::Capabilities;

use crate::fixture::{ENDLESS, MODEL, PATIENCE, Stranger, TestNode, entry, info};

/// The models a mesh has heard that a peer offers to it.
fn heard(mesh: &Mesh, peer: &PublicKey) -> Vec<String> {
    mesh.offers().with(|offers| {
        let living = offers.living(Offers::now()).filter(|offer| offer.body.peer == *peer);
        living.flat_map(|offer| &offer.body.models).map(|model| model.name.to_string()).collect()
    })
}

async fn hears(mesh: &Mesh, peer: &PublicKey, models: &[&str]) {
    let mut changes = mesh.offers().changed();
    while heard(mesh, peer) != models {
        let changed = tokio::time::timeout(PATIENCE, changes.changed()).await;
        changed.unwrap_or_else(|_| panic!("{:?}", heard(mesh, peer))).unwrap();
    }
}

#[tokio::test]
async fn each_approved_peer_hears_what_is_shared_with_it_and_a_stranger_nothing() {
    let [one, all] = [0; 2].map(|_: u8| keyfile::generate().unwrap());
    let mut everything = entry(all.public(), &["*"]);
    everything["permissions"]["can_pull_models"] = true.into();
    let node = TestNode::start_approving(&[entry(one.public(), &[MODEL]), everything]).await;
    let mut stranger = Stranger::new(&node);
    let (one, all) = (Stranger::with_key(&node, one), Stranger::with_key(&node, all));
    // All three come, ask for offers as everybody does who dials, and listen to gossip.
    let request = stranger.request(MODEL);
    assert_eq!(stranger.refusal(&request).await.code, RefusalCode::NotPermitted);
    drop((one.open().await, all.open().await));
    hears(&one.mesh, &node.peer, &[MODEL]).await;
    hears(&all.mesh, &node.peer, &["test/echo", "test/endless", "test/flood"]).await;
    let can = |mesh: &Mesh| {
        mesh.offers().with(|offers| offers.get(&node.peer).unwrap().body.models[0].capabilities)
    };
    assert!(can(&all.mesh).contains(Capabilities::FILE));
    assert!(!can(&one.mesh).contains(Capabilities::FILE));
    // What changes is told to those it concerns.
    let models = [info(ENDLESS, 1), info("test/late", 3)];
    node.models.send_replace(std::sync::Arc::from(models));
    hears(&all.mesh, &node.peer, &[ENDLESS, "test/late"]).await;
    hears(&one.mesh, &node.peer, &[]).await;
    assert_eq!(stranger.mesh.offers().with(|offers| offers.len()), 0, "and to nobody else");
    // A peer that asks for nothing but files hears of files alone; a revoked one of nothing.
    let mut files = entry(one.mesh.peer(), &["test/late"]);
    files["permissions"]["can_pull_models"] = true.into();
    files["permissions"]["can_request_inference"] = false.into();
    let file = serde_json::json!({ "peers": [files] }).to_string();
    std::fs::write(node.data.approved_peers(), file).unwrap();
    hears(&one.mesh, &node.peer, &["test/late"]).await;
    assert_eq!(can(&one.mesh), Capabilities::FILE);
    hears(&all.mesh, &node.peer, &[]).await;
    assert_eq!(stranger.mesh.offers().with(|offers| offers.len()), 0);
    node.stop().await;
}
