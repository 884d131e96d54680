use arknet_mesh::RelayReserve;

use crate::support::{TCP, ask_echo, echo, hears, key, offer, options, seeds, started, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_nowhere_is_reached_through_a_relay() {
    let mut relay = options(1, &[TCP]);
    relay.relay_server = true;
    let (relay, _relay_inbound) = started(relay).await;

    let mut hidden = options(2, &[]);
    hidden.serve = true;
    hidden.seeds = seeds(&relay);
    hidden.relay_reserve = RelayReserve::Auto;
    let (hidden, inbound) = started(hidden).await;
    let echo = echo(inbound);
    let mut addresses = hidden.addresses_changed();
    within(10, addresses.wait_for(|addresses| !addresses.is_empty())).await.unwrap();
    let known = offer(&key(2), &hidden.listen_addresses(), "m");
    hidden.publish_offer(known.clone()).await;

    let mut client = options(3, &[]);
    client.seeds = seeds(&relay);
    let (client, _) = started(client).await;
    within(5, hears(&client, hidden.peer(), known.body.sequence)).await;
    let mut stream = within(10, client.open(hidden.peer(), &[])).await.unwrap();
    // Eight times what a circuit carries by the library's default.
    within(20, ask_echo(&mut stream, &vec![7; 1 << 20])).await;
    let connected = client.connected();
    let to_hidden = connected.iter().find(|status| status.peer == hidden.peer()).unwrap();
    assert!(to_hidden.relayed);
    for mesh in [client, hidden, relay] {
        mesh.shutdown().await;
    }
    echo.await.unwrap();
}
