use arknet_mesh::{FrameError, OpenError};
use arknet_types::limits::REQUEST_FRAME_BYTES_MAX;

use crate::support::{QUIC, TCP, ask_echo, echo, hears, key, offer, options, started, within};

async fn echoes_over(listen: &str) {
    let (server, inbound) = started(options(1, &[listen])).await;
    let echo = echo(inbound);
    let (client, _) = started(options(2, &[])).await;
    let addresses = server.listen_addresses();
    for size in [0, 1, 300, 70_000, 1 << 20] {
        let mut stream = within(5, client.open(server.peer(), &addresses)).await.unwrap();
        within(5, ask_echo(&mut stream, &vec![7; size])).await;
        let end = within(5, stream.read_frame::<u8>(1)).await;
        assert!(matches!(end, Err(FrameError::Closed)), "{end:?}");
    }
    client.shutdown().await;
    server.shutdown().await;
    echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_over_quic() {
    echoes_over(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_over_tcp() {
    echoes_over(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_is_seen_by_the_server() {
    for listen in [TCP, QUIC] {
        let (server, mut inbound) = started(options(1, &[listen])).await;
        let (client, _) = started(options(2, &[])).await;
        let addresses = server.listen_addresses();
        let mut asked = within(5, client.open(server.peer(), &addresses)).await.unwrap();
        asked.write_frame(&7_u8).await.unwrap();
        // Streams opened ahead arrive too; the one with a request is the one that was asked.
        let mut serving = within(5, async {
            let mut waiting = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    Some((_, mut stream)) = inbound.next() => {
                        waiting.spawn(async move { (stream.read_frame::<u8>(1).await, stream) });
                    }
                    Some(Ok((Ok(7), stream))) = waiting.join_next() => break stream,
                }
            }
        })
        .await;
        serving.write_frame(&1_u8).await.unwrap();
        assert_eq!(asked.read_frame::<u8>(1).await.unwrap(), 1);
        drop(asked);
        within(2, serving.gone()).await;
        client.shutdown().await;
        server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_negotiated_ahead_to_a_peer_with_an_offer() {
    let (server, inbound) = started(options(1, &[TCP])).await;
    let _echo = echo(inbound);
    let mut client = options(2, &[]);
    client.seeds = crate::support::seeds(&server);
    let (client, _) = started(client).await;
    let known = offer(&key(1), &server.listen_addresses(), "m");
    server.publish_offer(known.clone()).await;
    within(2, hears(&client, server.peer(), known.body.sequence)).await;
    within(2, async {
        while client.warm_streams(&server.peer()) < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..100 {
        let mut stream = within(5, client.open(server.peer(), &[])).await.unwrap();
        within(5, ask_echo(&mut stream, &vec![1; 300])).await;
    }
    client.shutdown().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_not_getting_a_stream_has_its_own_reason() {
    let mut silent = options(1, &[TCP]);
    silent.serve = false;
    let (silent, _) = started(silent).await;
    let (client, _) = started(options(2, &[])).await;
    let refused = |peer, addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let client = client.clone();
        async move { within(5, client.open(peer, &addresses)).await.unwrap_err() }
    };
    assert_eq!(refused(client.peer(), &[]).await, OpenError::Own);
    assert_eq!(refused(key(9).public(), &[]).await, OpenError::NoAddress);
    assert_eq!(refused(key(9).public(), &["/ip4/127.0.0.1/tcp/9"]).await, OpenError::Unreachable);
    let addresses = silent.listen_addresses();
    let error = within(5, client.open(silent.peer(), &addresses)).await.unwrap_err();
    assert_eq!(error, OpenError::NotServing);
    // Whoever answers there, it is not the peer that was asked for.
    let error = within(5, client.open(key(9).public(), &addresses)).await.unwrap_err();
    assert_eq!(error, OpenError::Unreachable);
    client.clone().shutdown().await;
    assert_eq!(refused(key(9).public(), &["/ip4/127.0.0.1/tcp/9"]).await, OpenError::ShutDown);
    silent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_beyond_its_limit_is_refused_before_it_is_read() {
    let (server, inbound) = started(options(1, &[TCP])).await;
    let _echo = echo(inbound);
    let (client, _) = started(options(2, &[])).await;
    let addresses = server.listen_addresses();
    let mut stream = within(5, client.open(server.peer(), &addresses)).await.unwrap();
    let header = u32::try_from(REQUEST_FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    stream.write_raw(&header).await.unwrap();
    within(5, stream.gone()).await;
    client.shutdown().await;
    server.shutdown().await;
}
