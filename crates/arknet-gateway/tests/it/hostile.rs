use arknet_gateway::Limits;

use crate::{
    client::{chat, post},
    door::Door,
};

#[tokio::test]
async fn web_pages_are_kept_out() {
    let door = Door::open().await;
    for (headers, status) in [
        ("Host: evil.example", 403),
        ("Host: evil.example:4000\r\nOrigin: http://evil.example:4000", 403),
        ("Host: localhost:4000\r\nOrigin: https://evil.example", 403),
        ("Host: localhost:4000\r\nOrigin: null", 403),
        ("Host: localhost:4000\r\nOrigin: http://localhost:4000", 200),
        ("Host: 127.0.0.1:4000", 200),
        ("X: y", 400),
        ("Host: localhost\r\nHost: evil.example", 400),
    ] {
        let mut client = door.client().await;
        client.send(format!("GET /v1/models HTTP/1.1\r\n{headers}\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{headers}");
        assert_eq!(response.header("access-control-allow-origin"), None);
    }
    let mut client = door.client().await;
    let body = chat("arknet/tiny", "");
    let form = post("/v1/chat/completions", &body).replace("application/json", "text/plain");
    client.send(form).await;
    assert_eq!(client.response().await.status, 415);
    assert!(door.script.last.lock().unwrap().is_none());
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let door = Door::open().await;
    let many: String = (0..1000).map(|n| format!("X-{n}: y\r\n")).collect();
    let long = format!("X: {}\r\n", "y".repeat(Limits::default().head_bytes_max));
    for bomb in [many, long] {
        let mut client = door.client().await;
        client.send(format!("GET /health HTTP/1.1\r\nHost: localhost\r\n{bomb}\r\n")).await;
        assert_eq!(client.head().await.status, 431);
    }
    let mut client = door.client().await;
    assert_eq!(client.get("/health").await.status, 200);
}

#[tokio::test]
async fn bodies_that_are_too_large_are_refused() {
    let max = 10_000;
    let door = Door::with(Limits { body_bytes_max: max, ..Limits::default() }).await;
    // Announced, and sent all the same.
    let mut client = door.client().await;
    let body = " ".repeat(max + 1);
    let response = client.post("/v1/chat/completions", &body).await;
    assert_eq!(response.status, 413);
    assert_eq!(response.json()["error"]["code"], "too_large");
    // Announced, with the question whether to send.
    let mut client = door.client().await;
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";
    client.send(format!("{head}Expect: 100-continue\r\nContent-Length: 99999\r\n\r\n")).await;
    assert_eq!(client.head().await.status, 413);
    // In chunks, without an announcement.
    let mut client = door.client().await;
    let chunks = format!("1000\r\n{}\r\n", " ".repeat(0x1000)).repeat(3);
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 413);
    // As large as allowed.
    let mut client = door.client().await;
    let body = chat("arknet/tiny", "");
    let body = format!("{body}{}", " ".repeat(max - body.len()));
    assert_eq!(client.post("/v1/chat/completions", &body).await.status, 200);
}

#[tokio::test]
async fn chunked_bodies_are_put_together() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = chat("arknet/tiny", "");
    let (a, b) = body.split_at(20);
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             {:x}\r\n{a}\r\n",
            a.len()
        ))
        .await;
    client.send(format!("{:x}\r\n{b}\r\n0\r\n\r\n", b.len())).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn slow_senders_are_cut_off() {
    let door = Door::with(Limits { head_read_ms: 50, ..Limits::default() }).await;
    let mut client = door.client().await;
    client.send("GET /health HTTP/1.1\r\nHost: local").await;
    let rest = client.rest().await;
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"));

    let door = Door::with(Limits { body_read_ms: 50, ..Limits::default() }).await;
    let mut client = door.client().await;
    let request = post("/v1/chat/completions", &chat("arknet/tiny", ""));
    client.send(&request[..request.len() - 1]).await;
    assert_eq!(client.response().await.status, 408);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let door = Door::with(Limits { connections_max: 1, ..Limits::default() }).await;
    let mut first = door.client().await;
    assert_eq!(first.get("/health").await.status, 200);
    let mut second = door.client().await;
    second.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(first.get("/health").await.status, 200);
    drop(first);
    assert_eq!(second.response().await.status, 200);
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_harms_nobody() {
    let door = Door::open().await;
    let request = post("/v1/chat/completions", &chat("arknet/tiny", ""));
    for garbage in [
        "\0\0\0\0",
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        let mut client = door.client().await;
        client.send(garbage).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
        let rest = client.rest().await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{garbage:?}");
    }
    // A request with any one byte changed or cut off at any point.
    for at in (0..request.len()).step_by(3) {
        let mut bytes = request.clone().into_bytes();
        bytes[at] ^= 0x80;
        for bytes in [&bytes[..], &request.as_bytes()[..at]] {
            let mut client = door.client().await;
            client.send(bytes).await;
            tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.unwrap();
            client.rest().await;
        }
    }
    let mut client = door.client().await;
    client.send(request).await;
    assert_eq!(client.response().await.status, 200);
}
