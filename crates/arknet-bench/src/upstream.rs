//! The gateway alone: a node in front of a service that answers at once, against that service asked
//! directly, on loopback, in one run.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep_until},
};

use crate::{
    load::{self, Connection, Load, percentile},
    nodes::{AWAKE_UPSTREAM, NodeProcess, UPSTREAM},
    provider::{INSTANT, PACE, PACED},
};

const STREAMS: usize = 512;
const STREAM_TOKENS: u32 = 100;
/// How long the node may take to find the service.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run() -> anyhow::Result<()> {
    // A process of its own: asked directly it has to be woken as it has to be through the gateway.
    let service_process = ServiceProcess::start()?;
    let service = service_process.address;
    println!("gateway alone, before a service that answers at once");
    // With one request at a time every processor sleeps in between, and on a virtual machine it can take
    // longer to wake one than all of the gateway's work.
    let (gateway, address) = start(UPSTREAM, service).await?;
    one_by_one(service, address).await?;
    {
        let (_gateway, address) = start(AWAKE_UPSTREAM, service).await?;
        println!(
            "  with wake_latency_us_max = 0, which keeps processors awake when asked directly too:"
        );
        one_by_one(service, address).await?;
    }
    load::run(address, INSTANT, false, 64, 5_000).await?;
    let before = gateway.cpu_seconds()?;
    let load: Load = load::run(address, INSTANT, false, 64, 40_000).await?;
    let each = (gateway.cpu_seconds()? - before) / load.totals.len() as f64;
    println!(
        "  concurrency 64  {:.0} requests/s, processor time {:.0} us each: {:.0} requests/s for each core",
        load.rate(),
        each * 1e6,
        1.0 / each
    );
    paced(&gateway, address).await?;
    println!("  resident {:.1} MB", gateway.resident_bytes()? as f64 / 1e6);
    Ok(())
}

/// A node before the service, once it has found it.
async fn start(kind: &str, service: SocketAddr) -> anyhow::Result<(NodeProcess, SocketAddr)> {
    let gateway = NodeProcess::start("gateway", None, &format!("{kind}http://{service}"))?;
    let address = gateway.status.gateway.context("the gateway has an address")?;
    let deadline = Instant::now() + PATIENCE;
    while Connection::open(address, INSTANT, 1, false).await?.send().await.is_err() {
        ensure!(Instant::now() < deadline, "the gateway does not find the service");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok((gateway, address))
}

async fn one_by_one(service: SocketAddr, gateway: SocketAddr) -> anyhow::Result<()> {
    // In turns, so that what else the machine does meets both alike.
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    let (mut direct_first, mut through_first) = (Vec::new(), Vec::new());
    load::run(gateway, INSTANT, false, 1, 2_000).await?;
    for _ in 0..5 {
        direct.extend(load::run(service, INSTANT, false, 1, 2_000).await?.totals);
        through.extend(load::run(gateway, INSTANT, false, 1, 2_000).await?.totals);
        direct_first.extend(load::run(service, INSTANT, true, 1, 2_000).await?.first_bytes);
        through_first.extend(load::run(gateway, INSTANT, true, 1, 2_000).await?.first_bytes);
    }
    tell("concurrency 1", &mut direct, &mut through);
    tell("time to first token", &mut direct_first, &mut through_first);
    Ok(())
}

fn tell(what: &str, direct: &mut [Duration], through: &mut [Duration]) {
    direct.sort_unstable();
    through.sort_unstable();
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    let row = |percent| {
        let (direct, through) = (percentile(direct, percent), percentile(through, percent));
        let added = through.saturating_sub(direct);
        format!("{:.0} - {:.0} = {:.0} us", us(through), us(direct), us(added))
    };
    println!("  {what}  added p50 {}  p99 {}", row(50.0), row(99.0));
}

async fn paced(gateway: &NodeProcess, address: SocketAddr) -> anyhow::Result<()> {
    let before = gateway.cpu_seconds()?;
    let began = Instant::now();
    let totals = crate::paced_streams(address, STREAMS, STREAM_TOKENS).await?;
    let ideal = PACE * (STREAM_TOKENS - 1);
    println!(
        "  {STREAMS} streams of {STREAM_TOKENS} tokens at {} ms  none lost, {:.2}x the ideal time (p99 {:.2}x), \
         processor {:.0}%",
        PACE.as_millis(),
        percentile(&totals, 50.0).as_secs_f64() / ideal.as_secs_f64(),
        percentile(&totals, 99.0).as_secs_f64() / ideal.as_secs_f64(),
        (gateway.cpu_seconds()? - before) / began.elapsed().as_secs_f64() * 100.0
    );
    Ok(())
}

/// The service in a process of its own. Killed when dropped.
struct ServiceProcess {
    address: SocketAddr,
    child: Child,
}

impl ServiceProcess {
    fn start() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("service").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the child has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, child })
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service with OpenAI's API that does no work.
pub(crate) async fn service() -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let listener = socket.listen(4096)?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            // Who goes away ends its connection, and nothing else.
            let _ = serve(stream).await;
        });
    }
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut arrived = Vec::with_capacity(4096);
    let mut chunk = [0; 4096];
    loop {
        let head_end = loop {
            if let Some(at) = arrived.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let read = stream.read(&mut chunk).await?;
            ensure!(read > 0, "gone");
            arrived.extend_from_slice(&chunk[..read]);
        };
        let head = String::from_utf8_lossy(&arrived[..head_end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = head_end + length.map_or(Ok(0), |text| text.trim().parse::<usize>())?;
        while arrived.len() < end {
            let read = stream.read(&mut chunk).await?;
            ensure!(read > 0, "gone");
            arrived.extend_from_slice(&chunk[..read]);
        }
        let body = String::from_utf8_lossy(&arrived[head_end..end]).into_owned();
        arrived.drain(..end);
        if head.starts_with("get ") {
            let list = format!(
                r#"{{"object":"list","data":[{{"id":"{INSTANT}","object":"model"}},{{"id":"{PACED}","object":"model"}}]}}"#
            );
            stream.write_all(whole(&list).as_bytes()).await?;
        } else if !body.contains("\"stream\":true") {
            stream.write_all(whole(&answer()).as_bytes()).await?;
        } else {
            let paced = body.contains(PACED);
            events(&mut stream, if paced { STREAM_TOKENS } else { 1 }, paced).await?;
        }
    }
}

fn whole(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn answer() -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"{INSTANT}","choices":[{{"index":0,"message":{{"role":"assistant","content":"word "}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#
    )
}

fn event(data: &str) -> String {
    let frame = format!("data: {data}\n\n");
    format!("{:x}\r\n{frame}\r\n", frame.len())
}

fn piece(delta: &str, finish: &str) -> String {
    event(&format!(
        r#"{{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}]}}"#
    ))
}

async fn events(stream: &mut TcpStream, tokens: u32, paced: bool) -> anyhow::Result<()> {
    let mut out = String::from(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let mut next = Instant::now();
    for number in 0..tokens {
        if paced {
            sleep_until(next).await;
            next += PACE;
        }
        out.push_str(&piece(&format!(r#"{{"content":"{number} "}}"#), "null"));
        if paced {
            stream.write_all(out.as_bytes()).await?;
            out.clear();
        }
    }
    out.push_str(&piece("{}", "\"stop\""));
    out.push_str(&event(
        r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#,
    ));
    out.push_str(&event("[DONE]"));
    out.push_str("0\r\n\r\n");
    stream.write_all(out.as_bytes()).await?;
    Ok(())
}
