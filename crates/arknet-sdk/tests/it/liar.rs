//! An RPC that passes on what a good one says, but for the lies it is told to tell.

use std::{net::SocketAddr, sync::Arc};

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
    let (honest, lie): (SocketAddr, Arc<Lie>) = (world.at, Arc::new(lie));
    world.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, honest, Arc::clone(&lie)));
            }
        });
        url
    })
}

async fn pass_on(mut client: TcpStream, honest: SocketAddr, lie: Arc<Lie>) {
    let mut request = Vec::new();
    // Requests without a body only: what is read can be forged, what is sent cannot.
    while !request.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else { return };
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let mut server = TcpStream::connect(honest).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    server.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = String::new();
    server.read_to_string(&mut answer).await.unwrap();
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
