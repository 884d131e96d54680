//! What gateway and mesh cost: a provider that answers at once, called directly and through a
//! gateway process, the mesh and a compute process, on loopback, in one run.
#![allow(clippy::print_stdout)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod chain;
mod lan;
mod load;
mod mixed;
mod nodes;
mod provider;
mod pull;
mod snapshot;
mod upstream;
mod validators;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use arknet_provider::Provider;
use arknet_types::{Chat, InferRequest, Input, Message, ModelName, Reply, Role};
use load::{Connection, percentile};
use nodes::NodeProcess;
use provider::{BenchProvider, INSTANT, PACE, PACED};

/// What is measured in this process has the product's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAMS: usize = 512;
const STREAM_TOKENS: u32 = 100;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("node") => nodes::run(&arguments[1..]),
        Some("lan") => lan::run(),
        Some("lan-load") => {
            let address = arguments.get(1).context("lan-load ADDRESS")?.parse()?;
            runtime()?.block_on(lan::load(address))
        }
        Some("latency") => runtime()?.block_on(latency()),
        Some("chain") => {
            let accounts = arguments.get(1).map_or(Ok(100_000), |text| text.parse())?;
            chain::run(accounts)
        }
        Some("validators") => validators::run(),
        Some("snapshot") => {
            let accounts = arguments.get(1).map_or(Ok(1_000_000), |text| text.parse())?;
            snapshot::run(accounts)
        }
        Some("soak") => runtime()?.block_on(soak()),
        Some("mixed") => {
            let seconds = arguments.get(1).map_or(Ok(600), |text| text.parse())?;
            runtime()?.block_on(mixed::run(Duration::from_secs(seconds)))
        }
        Some("pull") => pull::run(),
        Some("service") => runtime()?.block_on(upstream::service()),
        Some("upstream") => runtime()?.block_on(upstream::run()),
        None => runtime()?.block_on(async {
            bench().await?;
            upstream::run().await?;
            tokio::task::block_in_place(pull::run)?;
            chain::run(100_000)?;
            validators::run()?;
            snapshot::run(1_000_000)
        }),
        Some(other) => {
            anyhow::bail!(
                "{other}: the arguments are chain [ACCOUNTS], lan, latency, mixed [SECONDS], pull, \
                 snapshot [ACCOUNTS], soak, upstream and validators"
            )
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// A seed, a compute node and a gateway, which has heard of the compute node.
struct Network {
    gateway: NodeProcess,
    compute: NodeProcess,
    _seed: NodeProcess,
    ready_after: Duration,
}

impl Network {
    async fn start(transport: &str) -> anyhow::Result<Self> {
        let seed = NodeProcess::start("validator", None, transport)?;
        let compute = NodeProcess::start("compute", Some(seed.address()), transport)?;
        let began = Instant::now();
        let gateway = NodeProcess::start("gateway", Some(seed.address()), transport)?;
        let network = Self { gateway, compute, _seed: seed, ready_after: Duration::ZERO };
        let address = network.address()?;
        until_answered(address).await?;
        Ok(Self { ready_after: began.elapsed(), ..network })
    }

    fn address(&self) -> anyhow::Result<SocketAddr> {
        self.gateway.status.gateway.context("the gateway has an address")
    }
}

/// Waits until a gateway has heard of the compute node.
async fn until_answered(address: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Connection::open(address, INSTANT, 1, false).await?.send().await.is_err() {
        ensure!(Instant::now() < deadline, "the gateway hears of no compute node");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn bench() -> anyhow::Result<()> {
    println!("provider called directly, one token");
    let direct = direct(20_000).await;
    println!("  p50 {}  p99 {}", us(percentile(&direct, 50.0)), us(percentile(&direct, 99.0)));
    for transport in ["both", "tcp", "quic"] {
        let network = Network::start(transport).await?;
        let address = network.address()?;
        println!("through gateway and mesh ({transport})");
        println!(
            "  start of the gateway to its first answer  {} ms",
            network.ready_after.as_millis()
        );
        let idle = network.gateway.resident_bytes()?;
        println!("  idle gateway  {:.1} MB resident", idle as f64 / 1e6);
        load::run(address, INSTANT, false, 1, 500).await?;
        one_at_a_time(address, &direct).await?;
        many_at_once(&network, address).await?;
        paced(&network, address).await?;
    }
    if let Some(product) = nodes::product() {
        let bytes = std::fs::metadata(&product)?.len();
        println!("the arknet binary  {:.1} MB", bytes as f64 / 1e6);
    }
    Ok(())
}

/// One request at a time and nothing else, for a profiler beside it.
async fn latency() -> anyhow::Result<()> {
    let direct = direct(20_000).await;
    let network = Network::start("both").await?;
    for _ in 0..4 {
        one_at_a_time(network.address()?, &direct).await?;
    }
    Ok(())
}

async fn one_at_a_time(address: SocketAddr, direct: &[Duration]) -> anyhow::Result<()> {
    let load = load::run(address, INSTANT, false, 1, 5_000).await?;
    let added =
        |percent| percentile(&load.totals, percent).saturating_sub(percentile(direct, percent));
    println!("  concurrency 1  added p50 {}  p99 {}", us(added(50.0)), us(added(99.0)));
    let load = load::run(address, INSTANT, true, 1, 5_000).await?;
    println!(
        "  time to first token  added p50 {}  p99 {}",
        us(percentile(&load.first_bytes, 50.0)),
        us(percentile(&load.first_bytes, 99.0))
    );
    Ok(())
}

async fn many_at_once(network: &Network, address: SocketAddr) -> anyhow::Result<()> {
    load::run(address, INSTANT, false, 64, 5_000).await?;
    let before = (network.gateway.cpu_seconds()?, network.compute.cpu_seconds()?);
    let load = load::run(address, INSTANT, false, 64, 40_000).await?;
    let requests = load.totals.len() as f64;
    println!(
        "  concurrency 64  {:.0} requests/s  p50 {}  p99 {}",
        load.rate(),
        us(percentile(&load.totals, 50.0)),
        us(percentile(&load.totals, 99.0))
    );
    println!(
        "  processor time per request  gateway {:.0} us, compute {:.0} us",
        (network.gateway.cpu_seconds()? - before.0) * 1e6 / requests,
        (network.compute.cpu_seconds()? - before.1) * 1e6 / requests
    );
    Ok(())
}

/// Many streams at a pace; every frame must arrive, in order.
async fn paced(network: &Network, address: SocketAddr) -> anyhow::Result<()> {
    let before = (network.gateway.cpu_seconds()?, network.compute.cpu_seconds()?);
    let began = Instant::now();
    let totals = paced_streams(address, STREAMS, STREAM_TOKENS).await?;
    let ideal = PACE * (STREAM_TOKENS - 1);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "  {STREAMS} streams of {STREAM_TOKENS} tokens at {} ms  none lost, {:.2}x the ideal time (p99 {:.2}x), \
         processor gateway {:.0}%, compute {:.0}%",
        PACE.as_millis(),
        percentile(&totals, 50.0).as_secs_f64() / ideal.as_secs_f64(),
        percentile(&totals, 99.0).as_secs_f64() / ideal.as_secs_f64(),
        (network.gateway.cpu_seconds()? - before.0) / seconds * 100.0,
        (network.compute.cpu_seconds()? - before.1) / seconds * 100.0
    );
    Ok(())
}

/// Streams at a pace; every frame must arrive, in order. How long each took, sorted.
async fn paced_streams(
    address: SocketAddr,
    count: usize,
    tokens: u32,
) -> anyhow::Result<Vec<Duration>> {
    let mut streams = Vec::new();
    for _ in 0..count {
        streams.push(tokio::spawn(async move {
            let mut connection = Connection::open(address, PACED, tokens, true).await?;
            let timing = connection.send().await?;
            let text = String::from_utf8_lossy(&timing.body).into_owned();
            let mut from = 0;
            for number in 0..tokens {
                let frame = format!("\"content\":\"{number} \"");
                let at =
                    text[from..].find(&frame).with_context(|| format!("token {number} lost"))?;
                from += at + frame.len();
            }
            ensure!(text.contains("[DONE]"), "the stream has no end");
            anyhow::Ok(timing.total)
        }));
    }
    let mut totals = Vec::new();
    for stream in streams {
        totals.push(stream.await.context("a stream failed")??);
    }
    totals.sort_unstable();
    Ok(totals)
}

/// Memory after 10,000 requests against memory after 1,000.
async fn soak() -> anyhow::Result<()> {
    let network = Network::start("both").await?;
    let address = network.address()?;
    let mut resident = Vec::new();
    for requests in [1_000, 9_000, 90_000] {
        load::run(address, INSTANT, false, 8, requests / 2).await?;
        load::run(address, INSTANT, true, 8, requests / 2).await?;
        resident.push((network.gateway.resident_bytes()?, network.compute.resident_bytes()?));
    }
    for (name, at) in [("gateway", 0), ("compute", 1)] {
        let values: Vec<u64> =
            resident.iter().map(|both| if at == 0 { both.0 } else { both.1 }).collect();
        println!(
            "{name}: {:.1} MB after 1,000 requests, {:.1} MB after 10,000 ({:.3}x), {:.1} MB after 100,000 ({:.3}x)",
            values[0] as f64 / 1e6,
            values[1] as f64 / 1e6,
            values[1] as f64 / values[0] as f64,
            values[2] as f64 / 1e6,
            values[2] as f64 / values[0] as f64
        );
    }
    let grown = resident
        .iter()
        .any(|both| both.0 * 10 > resident[0].0 * 11 || both.1 * 10 > resident[0].1 * 11);
    ensure!(!grown, "memory grows with requests");
    Ok(())
}

/// The provider without anything around it.
async fn direct(requests: usize) -> Vec<Duration> {
    let provider = BenchProvider::new();
    let model = ModelName::new(INSTANT).expect("the name is valid");
    let chat = Chat::new(vec![Message::new(Role::User, "Hello")]);
    let request =
        InferRequest { max_tokens: Some(1), ..InferRequest::new(model, Input::Chat(chat)) };
    let mut latencies = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        let mut generation = provider.generate(request.clone()).expect("it never refuses");
        while let Some(reply) = generation.next().await {
            if matches!(reply, Reply::Done { .. }) {
                break;
            }
        }
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

fn us(duration: Duration) -> String {
    format!("{:.1} us", duration.as_secs_f64() * 1e6)
}
