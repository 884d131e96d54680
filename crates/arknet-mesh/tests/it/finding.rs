//! Peers that are found by others than their offers.

use arknet_mesh::{Kept, Mesh, Multiaddr, OpenError, ProbeError};
use arknet_types::{NodeId, PublicKey};

use crate::support::{TCP, key, options, seeds, started, within};

async fn is_connected(mesh: &Mesh, peer: PublicKey, expected: bool) {
    let mut changed = mesh.connected_changed();
    let state = changed.wait_for(|_| mesh.connected().iter().any(|c| c.peer == peer) == expected);
    within(10, state).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_who_answers_and_both_hear_what_the_other_is_called() {
    let name = NodeId::new("ark-kitchen").unwrap();
    let mut served = options(1, &[TCP]);
    served.node_id = Some(name.clone());
    let (served, _inbound) = started(served).await;
    let (seeker, _) = started(options(2, &[TCP])).await;
    let address = served.listen_addresses()[0].clone();
    assert_eq!(within(5, seeker.probe(address.clone())).await, Ok(served.peer()));
    let mut changed = seeker.connected_changed();
    let named = changed.wait_for(|_| seeker.connected().iter().any(|c| c.node_id.is_some()));
    within(5, named).await.unwrap();
    let status = seeker.connected().remove(0);
    assert_eq!((status.node_id, status.dialed), (Some(name), Some(address)));
    is_connected(&served, seeker.peer(), true).await;
    let status = served.connected().remove(0);
    assert_eq!((status.node_id, status.dialed), (None, None));
    for mesh in [seeker, served] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_nothing_and_of_oneself_is_quiet() {
    let (mesh, _inbound) = started(options(1, &[TCP])).await;
    let own = mesh.listen_addresses()[0].clone();
    assert_eq!(within(5, mesh.probe(own)).await, Err(ProbeError::Own));
    // Nobody listens there, and nobody is given it.
    let nothing: Multiaddr = "/ip4/127.0.0.1/tcp/9".parse().unwrap();
    assert_eq!(within(5, mesh.probe(nothing)).await, Err(ProbeError::Nobody));
    let no_address = "/ip4/0.0.0.0/tcp/1".parse().unwrap();
    assert_eq!(within(5, mesh.probe(no_address)).await, Err(ProbeError::Nobody));
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_node_does_not_answer_a_probe() {
    let (mesh, _) = started(options(1, &[])).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let closes = tokio::spawn(async move { drop(listener.accept().await) });
    let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    assert_eq!(within(5, mesh.probe(address)).await, Err(ProbeError::Nobody));
    closes.await.unwrap();
    mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_peer_is_dialled_again_after_it_restarted() {
    let (peer, inbound) = started(options(1, &[TCP])).await;
    let address = peer.listen_addresses()[0].clone();
    let (mesh, _) = started(options(2, &[])).await;
    let kept = Kept { peer: peer.peer(), addresses: vec![address.clone()], news: 1 };
    mesh.keep(vec![kept]).await;
    is_connected(&mesh, peer.peer(), true).await;
    drop(inbound);
    peer.shutdown().await;
    is_connected(&mesh, key(1).public(), false).await;
    let (peer, _inbound) = started(options(1, &[&address.to_string()])).await;
    is_connected(&mesh, peer.peer(), true).await;
    for mesh in [mesh, peer] {
        mesh.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_behind_the_right_address_is_not_connected() {
    let (other, _inbound) = started(options(1, &[TCP])).await;
    let (mesh, _) = started(options(2, &[])).await;
    let address = other.listen_addresses();
    let wrong = key(3).public();
    assert_eq!(within(10, mesh.connect(wrong, &address)).await, Err(OpenError::Unreachable));
    assert!(mesh.connected().iter().all(|status| status.peer != wrong));
    let right = seeds(&other);
    assert_eq!(within(10, mesh.connect(other.peer(), &right)).await, Ok(()));
    for mesh in [mesh, other] {
        mesh.shutdown().await;
    }
}
