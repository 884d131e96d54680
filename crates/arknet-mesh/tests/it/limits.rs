use std::sync::Arc;

use arknet_types::limits::STREAMS_PER_PEER_MAX;
use tokio::{runtime::Handle, sync::Mutex};

use crate::support::{QUIC, TCP, ask_echo, echo, options, seeds, started, within};

/// Opens streams as fast as it can and never uses them, until `count` were asked for.
async fn hoard(listen: &str, count: usize) {
    let (server, mut inbound) = started(options(1, &[listen])).await;
    let held = Arc::new(Mutex::new(Vec::new()));
    let keeper = Arc::clone(&held);
    let serving = tokio::spawn(async move {
        while let Some((peer, mut stream)) = inbound.next().await {
            let keeper = Arc::clone(&keeper);
            tokio::spawn(async move {
                if let Ok(body) = stream.read_frame::<Vec<u8>>(1000).await {
                    stream.write_frame(&body).await.unwrap();
                    keeper.lock().await.push(peer);
                }
            });
        }
    });
    let (greedy, _) = started(options(2, &[])).await;
    let addresses = server.listen_addresses();
    let mut hoarded = Vec::new();
    for _ in 0..count {
        match within(20, greedy.open(server.peer(), &addresses)).await {
            // The ones beyond the limit are reset; holding on to them would gain nothing.
            Ok(stream) if hoarded.len() < STREAMS_PER_PEER_MAX => hoarded.push(stream),
            Ok(_) => {}
            Err(error) => panic!("the server goes on: {error}"),
        }
        assert!(server.stream_stats().held <= STREAMS_PER_PEER_MAX);
    }
    assert!(server.stream_stats().refused > 0, "streams beyond the limit were reset");
    assert!(server.stream_stats().held <= STREAMS_PER_PEER_MAX);
    let (modest, _) = started(options(3, &[])).await;
    for _ in 0..10 {
        let mut stream = within(5, modest.open(server.peer(), &addresses)).await.unwrap();
        within(5, ask_echo(&mut stream, &vec![1; 300])).await;
    }
    drop(hoarded);
    for mesh in [greedy, modest, server] {
        mesh.shutdown().await;
    }
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hoards_streams_over_tcp_is_limited_and_others_are_served() {
    hoard(TCP, 10_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_hoards_streams_over_quic_is_limited_and_others_are_served() {
    hoard(QUIC, 2_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_used_one_after_another_leave_nothing_behind() {
    let (server, inbound) = started(options(1, &[TCP])).await;
    let echo = echo(inbound);
    let (client, _) = started(options(2, &[])).await;
    let addresses = server.listen_addresses();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (client, addresses, peer) = (client.clone(), addresses.clone(), server.peer());
        workers.spawn(async move {
            for _ in 0..10_000 / 32 {
                let mut stream = within(10, client.open(peer, &addresses)).await.unwrap();
                within(10, ask_echo(&mut stream, &vec![1; 100])).await;
            }
        });
    }
    workers.join_all().await;
    assert!(server.stream_stats().held <= 200, "{:?}", server.stream_stats());
    assert_eq!(server.stream_stats().refused, 0);
    client.shutdown().await;
    server.shutdown().await;
    echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_down_mesh_leaves_no_task() {
    let before = Handle::current().metrics().num_alive_tasks();
    let (server, inbound) = started(options(1, &[TCP, QUIC])).await;
    let echo = echo(inbound);
    let mut client = options(2, &[TCP]);
    client.seeds = seeds(&server);
    let (client, _) = started(client).await;
    let mut stream = within(5, client.open(server.peer(), &[])).await.unwrap();
    within(5, ask_echo(&mut stream, &vec![1; 100])).await;
    assert!(Handle::current().metrics().num_alive_tasks() > before);
    within(5, client.shutdown()).await;
    within(5, server.shutdown()).await;
    within(5, echo).await.unwrap();
    drop(stream);
    // What the library spawned for sockets ends with them: QUIC drains a connection for three times
    // what it takes a packet to be given up, which is seconds where the machine is busy.
    within(30, async {
        while Handle::current().metrics().num_alive_tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
