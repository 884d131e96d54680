//! A load of HTTP requests over kept-alive connections, with as little work as possible here.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// One connection that sends the same request again and again.
pub(crate) struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

/// When the parts of one answer came.
pub(crate) struct Timing {
    pub(crate) first_byte: Duration,
    pub(crate) total: Duration,
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(
        address: SocketAddr,
        model: &str,
        max_tokens: u32,
        stream: bool,
    ) -> anyhow::Result<Self> {
        let body = format!(
            "{{\"model\":\"{model}\",\"max_tokens\":{max_tokens},\"stream\":{stream},\
             \"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}"
        );
        Self::post(address, "/v1/chat/completions", &body).await
    }

    /// A connection that asks for this path.
    pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: request.into_bytes(), buffer: vec![0; 64 * 1024] })
    }

    /// A connection that sends this body to this path.
    pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> anyhow::Result<Self> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: request.into_bytes(), buffer: vec![0; 64 * 1024] })
    }

    /// Sends the request and reads the whole answer, which must be a good one.
    pub(crate) async fn send(&mut self) -> anyhow::Result<Timing> {
        let timing = self.exchange().await?;
        let body = || String::from_utf8_lossy(&timing.body);
        ensure!(timing.status == 200, "{}: {}", timing.status, body());
        Ok(timing)
    }

    /// Sends the request, reads so many bytes of the answer and goes away.
    pub(crate) async fn leave_after(mut self, bytes: usize) -> anyhow::Result<()> {
        self.stream.write_all(&self.request).await?;
        let mut left = bytes;
        while left > 0 {
            let read = self.stream.read(&mut self.buffer).await?;
            if read == 0 {
                break;
            }
            left = left.saturating_sub(read);
        }
        Ok(())
    }

    /// Sends the request and reads the whole answer, whatever it is.
    pub(crate) async fn exchange(&mut self) -> anyhow::Result<Timing> {
        let began = Instant::now();
        self.stream.write_all(&self.request).await?;
        let mut answer = Vec::with_capacity(1024);
        let mut first_byte = None;
        loop {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "the gateway closed the connection");
            first_byte.get_or_insert_with(|| began.elapsed());
            answer.extend_from_slice(&self.buffer[..read]);
            if let Some((status, body)) = complete(&answer)? {
                let body = body.to_vec();
                let first_byte = first_byte.unwrap_or_default();
                return Ok(Timing { first_byte, total: began.elapsed(), status, body });
            }
        }
    }
}

/// Status and body of an answer that is all there.
fn complete(answer: &[u8]) -> anyhow::Result<Option<(u16, &[u8])>> {
    let Some(head_end) = answer.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..head_end])?;
    let body = &answer[head_end + 4..];
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let is_whole = match length {
        Some(length) => body.len() >= length.trim().parse()?,
        None => body.ends_with(b"0\r\n\r\n"),
    };
    Ok(is_whole.then_some((status, body)))
}

/// Latencies of many requests.
pub(crate) struct Load {
    pub(crate) totals: Vec<Duration>,
    pub(crate) first_bytes: Vec<Duration>,
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn rate(&self) -> f64 {
        self.totals.len() as f64 / self.elapsed.as_secs_f64()
    }
}

/// Sends `requests` requests over `concurrency` connections.
pub(crate) async fn run(
    address: SocketAddr,
    model: &'static str,
    stream: bool,
    concurrency: usize,
    requests: u64,
) -> anyhow::Result<Load> {
    let left = Arc::new(AtomicU64::new(requests));
    let mut workers = Vec::new();
    let began = Instant::now();
    for _ in 0..concurrency {
        let left = Arc::clone(&left);
        workers.push(tokio::spawn(async move {
            let mut connection = Connection::open(address, model, 1, stream).await?;
            let mut timings = Vec::new();
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok()
            {
                let timing = connection.send().await?;
                timings.push((timing.first_byte, timing.total));
            }
            anyhow::Ok(timings)
        }));
    }
    let mut load = Load { totals: vec![], first_bytes: vec![], elapsed: Duration::ZERO };
    for worker in workers {
        for (first_byte, total) in worker.await.context("a worker failed")?? {
            load.first_bytes.push(first_byte);
            load.totals.push(total);
        }
    }
    load.elapsed = began.elapsed();
    load.totals.sort_unstable();
    load.first_bytes.sort_unstable();
    Ok(load)
}

/// The value below which `percent` of the sorted values lie.
pub(crate) fn percentile(sorted: &[Duration], percent: f64) -> Duration {
    let at = (sorted.len() as f64 * percent / 100.0) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
