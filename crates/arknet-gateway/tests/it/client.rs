//! As little HTTP as the tests need, so that they see every byte.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// When an awaited event counts as missing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The data of every event.
    pub(crate) fn events(&self) -> Vec<&str> {
        let events = self.text().split_terminator("\n\n");
        events.filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        self.response().await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Response {
        self.send(post(path, body)).await;
        self.response().await
    }

    /// Reads one whole response.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.head().await;
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
        } else {
            let length = response.header("content-length").map_or(0, |n| n.parse().unwrap());
            response.body = self.bytes(length).await;
        }
        response
    }

    /// Reads status and headers.
    pub(crate) async fn head(&mut self) -> Response {
        let end = self.find(b"\r\n\r\n").await;
        let head = String::from_utf8(self.bytes(end + 4).await).unwrap();
        Response {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: Vec::new(),
        }
    }

    /// Reads one chunk of a chunked body; none is its end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = self.find(b"\r\n").await;
        let size = String::from_utf8(self.bytes(end + 2).await).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let mut chunk = self.bytes(size + 2).await;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// Reads whatever still comes until the other side closes or resets.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.unread)
    }

    async fn find(&mut self, what: &[u8]) -> usize {
        loop {
            if let Some(at) = self.unread.windows(what.len()).position(|part| part == what) {
                return at;
            }
            assert!(self.more().await, "the connection closed early");
        }
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await, "the connection closed early");
        }
        self.unread.drain(..length).collect()
    }

    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.unread);
        let read = timeout(PATIENCE, read).await.expect("an answer in time");
        read.is_ok_and(|bytes| bytes > 0)
    }
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost:4000\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A chat body for `model`, with more fields in front.
pub(crate) fn chat(model: &str, more: &str) -> String {
    format!(r#"{{{more}"model":"{model}","messages":[{{"role":"user","content":"one two"}}]}}"#)
}
