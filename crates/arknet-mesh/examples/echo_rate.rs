//! Times requests through two meshes in one process over loopback.
//!
//! `cargo run --release -p arknet-mesh --example echo_rate [SECONDS]`

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    env,
    time::{Duration, Instant},
};

use arknet_mesh::{Inbound, Mesh, MeshOptions, RequestStream};
use arknet_types::{KeyPair, NetworkId};
use tokio::task::JoinSet;

const REQUEST_BYTES: usize = 300;
const FRAME_BYTES_MAX: usize = 1 << 20;

fn options(seed: u8) -> MeshOptions {
    let network = NetworkId::new("echo-rate").expect("the name is valid");
    MeshOptions::new(KeyPair::from_seed(&[seed; 32]), network)
}

async fn serve(mut inbound: Inbound) {
    while let Some((_, stream)) = inbound.next().await {
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: RequestStream) {
    if let Ok(body) = stream.read_frame::<Vec<u8>>(FRAME_BYTES_MAX).await {
        let _ = stream.write_frame(&body).await;
    }
}

/// Requests one after another until the end; the time each took, and whether a stream was ready.
async fn ask(client: Mesh, server: Mesh, until: Instant) -> Vec<(Duration, bool)> {
    let addresses = server.listen_addresses();
    let body = vec![7_u8; REQUEST_BYTES];
    let mut times = Vec::new();
    while Instant::now() < until {
        let was_ready = client.warm_streams(&server.peer()) > 0;
        let begun = Instant::now();
        let mut stream = client.open(server.peer(), &addresses).await.expect("the server is there");
        stream.write_frame(&body).await.expect("the stream is open");
        let answer = stream.read_frame::<Vec<u8>>(FRAME_BYTES_MAX).await.expect("an answer");
        assert_eq!(answer.len(), body.len(), "the echo is whole");
        times.push((begun.elapsed(), was_ready));
    }
    times
}

async fn measure(listen: &str, concurrency: usize, time: Duration) {
    let mut serving = options(1);
    serving.listen = vec![listen.parse().expect("the address is valid")];
    serving.serve = true;
    let (server, inbound) = arknet_mesh::start(serving).expect("the server starts");
    let mut addresses = server.addresses_changed();
    addresses.wait_for(|addresses| !addresses.is_empty()).await.expect("the server listens");
    let echo = tokio::spawn(serve(inbound));
    let (client, _) = arknet_mesh::start(options(2)).expect("the client starts");
    let warm_up = Instant::now() + Duration::from_millis(500);
    ask(client.clone(), server.clone(), warm_up).await;

    let begun = Instant::now();
    let mut workers = JoinSet::new();
    for _ in 0..concurrency {
        workers.spawn(ask(client.clone(), server.clone(), begun + time));
    }
    let mut times: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    let taken = begun.elapsed();
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 1000].0.as_secs_f64() * 1000.0;
    let ready = times.iter().filter(|(_, was_ready)| *was_ready).count();
    println!(
        "{:4} c={concurrency:<3} p50 {:.3} ms  p99 {:.3} ms  p99.9 {:.3} ms  {:.0} requests/s  \
         ready {:.1}%",
        if listen.contains("quic") { "quic" } else { "tcp" },
        at(500),
        at(990),
        at(999),
        times.len() as f64 / taken.as_secs_f64(),
        100.0 * ready as f64 / times.len() as f64,
    );
    client.shutdown().await;
    server.shutdown().await;
    let _ = echo.await;
}

#[tokio::main]
async fn main() {
    let seconds = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    for listen in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        for concurrency in [1, 8, 64] {
            measure(listen, concurrency, Duration::from_secs(seconds)).await;
        }
    }
}
