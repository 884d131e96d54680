//! A client that says exactly what a test wants said.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or("none"))
    }

    pub(crate) fn read<T: serde::de::DeserializeOwned>(&self) -> T {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_value(self.body.clone()).unwrap()
    }
}

/// Sends a request as it stands and reads the answer to its end.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> Answer {
    try_raw(address, request).await.expect("an answer")
}

/// The same with a server that may be gone.
async fn try_raw(address: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    // Who refuses early may not read all of it.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_default();
    Some(Answer { status, head: head.to_lowercase(), body })
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    try_get(address, path).await.expect("an answer")
}

pub(crate) async fn try_get(address: SocketAddr, path: &str) -> Option<Answer> {
    let head = "host: localhost\r\nconnection: close";
    try_raw(address, &format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n")).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &str) -> Answer {
    try_post(address, path, body).await.expect("an answer")
}

pub(crate) async fn try_post(address: SocketAddr, path: &str, body: &str) -> Option<Answer> {
    let head = "host: localhost\r\nconnection: close\r\ncontent-type: application/json";
    let (start, length) = (format!("POST {path} HTTP/1.1\r\n{head}"), body.len());
    try_raw(address, &format!("{start}\r\ncontent-length: {length}\r\n\r\n{body}")).await
}

/// A stream of events.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    /// Opens one; who has seen something says what.
    pub(crate) async fn open(address: SocketAddr, last: Option<u64>) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        let request = format!("GET /events HTTP/1.1\r\nhost: localhost\r\n{last}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut events = Self(BufReader::new(stream));
        let head = events.until("\r\n").await;
        assert!(head.unwrap().starts_with("HTTP/1.1 200"));
        events
    }

    /// The height of the next block; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(u64, Value)> {
        loop {
            let line = self.line().await?;
            if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).unwrap();
                return Some((data["height"].as_u64().unwrap(), data));
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).await.unwrap_or_default();
        (read > 0).then(|| line.trim_end().to_owned())
    }

    async fn until(&mut self, end: &str) -> Option<String> {
        let mut head = String::new();
        loop {
            let read = self.0.read_line(&mut head).await.ok()?;
            if read == 0 || head.ends_with(&format!("\r\n{end}")) {
                return Some(head);
            }
        }
    }
}
