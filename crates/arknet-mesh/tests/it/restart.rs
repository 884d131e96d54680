use crate::support::{
    QUIC, TCP, ask_echo, echo, hears, key, offer, options, seeds, started, within,
};

/// A gateway uses a compute node that restarts, on the same address or another.
async fn comes_back(listen: &str, same_address: bool) {
    let (seed, _seed_inbound) = started(options(1, &[TCP])).await;
    let mut gateway = options(2, &[]);
    gateway.seeds = seeds(&seed);
    let (gateway, _) = started(gateway).await;

    let mut first = options(3, &[listen]);
    first.seeds = seeds(&seed);
    let (first, inbound) = started(first).await;
    let first_echo = echo(inbound);
    let address = first.listen_addresses()[0].to_string();
    let known = offer(&key(3), &first.listen_addresses(), "m");
    first.publish_offer(known.clone()).await;
    within(2, hears(&gateway, first.peer(), known.body.sequence)).await;
    let mut stream = within(5, gateway.open(first.peer(), &[])).await.unwrap();
    within(5, ask_echo(&mut stream, &vec![1; 300])).await;
    first.shutdown().await;
    first_echo.await.unwrap();

    let mut again = options(3, &[if same_address { &address } else { listen }]);
    again.seeds = seeds(&seed);
    let (again, inbound) = started(again).await;
    let again_echo = echo(inbound);
    let fresh = offer(&key(3), &again.listen_addresses(), "m");
    again.publish_offer(fresh.clone()).await;
    within(5, hears(&gateway, again.peer(), fresh.body.sequence)).await;
    let mut stream = within(5, gateway.open(again.peer(), &[])).await.unwrap();
    within(5, ask_echo(&mut stream, &vec![1; 300])).await;
    for mesh in [gateway, again, seed] {
        mesh.shutdown().await;
    }
    again_echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_used_again_at_its_old_tcp_address() {
    comes_back(TCP, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_used_again_at_a_new_tcp_address() {
    comes_back(TCP, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_is_used_again_over_quic() {
    comes_back(QUIC, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_leaves_routing_without_anybody_asking_for_it() {
    let (serving, inbound) = started(options(1, &[TCP])).await;
    let mut client = options(2, &[]);
    client.seeds = seeds(&serving);
    let (client, _) = started(client).await;
    let known = offer(&key(1), &serving.listen_addresses(), "m");
    serving.publish_offer(known.clone()).await;
    within(2, hears(&client, serving.peer(), known.body.sequence)).await;
    drop(inbound);
    // No goodbye: as if the process had died.
    serving.shutdown().await;
    let mut changed = client.offers().changed();
    let gone = |_: &u64| {
        client.offers().with(|table| table.living(arknet_mesh::Offers::now()).next().is_none())
    };
    within(3, changed.wait_for(gone)).await.unwrap();
    client.shutdown().await;
}
