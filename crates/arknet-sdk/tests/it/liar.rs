//! An RPC that passes on what a good one says, but for the lies it is told to tell.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::ledger::World;

type Lie = dyn Fn(&str, &mut Value) + Send + Sync;

/// Starts one before the RPC of `world`, and returns its URL. `lie` gets each path and its answer.
pub(crate) fn before(
    world: &World,
    lie: impl Fn(&str, &mut Value) + Send + Sync + 'static,
) -> String {
    start(world, Arc::new(lie), 0)
}

/// Starts one that says nothing of what was submitted, the first times, though it passes it on.
pub(crate) fn mute(world: &World, times: u32) -> String {
    start(world, Arc::new(|_, _| {}), times)
}

fn start(world: &World, lie: Arc<Lie>, mute: u32) -> String {
    let (honest, mute) = (world.at, Arc::new(AtomicU32::new(mute)));
    world.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, honest, Arc::clone(&lie), Arc::clone(&mute)));
            }
        });
        url
    })
}

async fn pass_on(mut client: TcpStream, honest: SocketAddr, lie: Arc<Lie>, mute: Arc<AtomicU32>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body).await.unwrap();
    let is_post = head.starts_with("post");
    let method = if is_post { "POST" } else { "GET" };
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let mut server = TcpStream::connect(honest).await.unwrap();
    let ask = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    server.write_all(&[ask.as_bytes(), &body].concat()).await.unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).await.unwrap();
    let less = |left: u32| left.checked_sub(1);
    if is_post && mute.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
        return;
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    let mut body: Value = serde_json::from_str(body).unwrap();
    lie(&path, &mut body);
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(format!("{head}{body}").as_bytes()).await;
}
