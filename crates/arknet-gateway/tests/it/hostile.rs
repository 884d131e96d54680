use std::sync::atomic::Ordering;

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

const ROUTES: [&str; 12] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/embed",
];

/// Every field that any route reads.
const FIELDS: [&str; 22] = [
    "model",
    "messages",
    "prompt",
    "input",
    "query",
    "documents",
    "content",
    "tokens",
    "tools",
    "tool_choice",
    "stop",
    "logit_bias",
    "response_format",
    "json_schema",
    "metadata",
    "system",
    "thinking",
    "options",
    "format",
    "keep_alive",
    "text",
    "reasoning",
];

#[tokio::test]
async fn bodies_that_are_made_to_hurt_are_refused_at_once() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let deep_list = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let wide_list = format!("[{}0]", "0,".repeat(200_000));
    let digits = "9".repeat(100_000);
    for route in ROUTES {
        for value in [&deep_list, &deep_object, &wide_list, &digits] {
            // All fields at once: the first that is wrong is named, whichever that is.
            let fields: Vec<String> =
                FIELDS.iter().map(|field| format!("\"{field}\":{value}")).collect();
            for field in &fields[..3] {
                let response = client.post(route, &format!("{{{field}}}")).await;
                assert_eq!(response.status, 400, "{route}");
            }
            let body = format!("{{\"model\":\"arknet/tiny\",{}}}", fields[3..].join(","));
            let response = client.post(route, &body).await;
            assert!((400..500).contains(&response.status), "{route} {}", response.status);
            assert!(response.body.len() < 1000, "{route}");
        }
        let unknown: String = (0..50_000).map(|n| format!("\"x{n}\":{n},")).collect();
        let body = chat("arknet/tiny", &unknown);
        let response = client.post(route, &body).await;
        assert!(response.status < 500, "{route}");
    }
}

#[tokio::test]
async fn what_is_no_utf8_is_refused_in_each_apis_shape() {
    let door = Door::open().await;
    for route in ROUTES {
        for broken in [&b"\xff\xfe"[..], b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"] {
            let mut body = br#"{"model":"arknet/tiny","prompt":""#.to_vec();
            body.extend_from_slice(broken);
            body.extend_from_slice(br#"","messages":[{"role":"user","content":""#);
            body.extend_from_slice(broken);
            body.extend_from_slice(br#""}],"input":""#);
            body.extend_from_slice(broken);
            body.extend_from_slice(b"\"}");
            let mut client = door.client().await;
            client.send(format!("POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len())).await;
            client.send(&body).await;
            let response = client.response().await;
            assert_eq!(response.status, 400, "{route}");
            let json = response.json();
            match route {
                _ if route.starts_with("/api/") => assert!(json["error"].is_string()),
                _ if route.starts_with("/v1/messages") => assert_eq!(json["type"], "error"),
                _ => assert_eq!(json["error"]["type"], "invalid_request_error"),
            }
        }
    }
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_and_the_client_hears_why() {
    let door = Door::open().await;
    let bytes = 100_000_000;
    for route in ["/v1/chat/completions", "/v1/messages", "/api/chat"] {
        for chunked in [false, true] {
            let mut client = door.client().await;
            let length = if chunked {
                "Transfer-Encoding: chunked".to_owned()
            } else {
                format!("Content-Length: {bytes}")
            };
            client
                .send(format!("POST {route} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"))
                .await;
            let piece = vec![b' '; 1_000_000];
            for _ in 0..bytes / piece.len() {
                if chunked {
                    client.send(format!("{:x}\r\n", piece.len())).await;
                }
                client.send(&piece).await;
                if chunked {
                    client.send("\r\n").await;
                }
            }
            if chunked {
                client.send("0\r\n\r\n").await;
            }
            let response = client.response().await;
            assert_eq!(response.status, 413, "{route}");
            assert!(response.json()["error"].is_object() || response.json()["error"].is_string());
        }
    }
    assert_eq!(door.script.asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn large_bodies_share_a_bounded_room() {
    let limits = Limits { large_bodies_bytes_max: 256 * 1024, ..Limits::default() };
    let door = Door::with(limits).await;
    let large = |bytes: usize| chat("stuck", "").replace("one two", &"x".repeat(bytes));
    let mut first = door.client().await;
    first.send(post("/v1/chat/completions", &large(150_000))).await;
    while door.script.last.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    let mut second = door.client().await;
    let response = second.post("/v1/chat/completions", &large(150_000)).await;
    assert_eq!(response.status, 429);
    assert!(response.header("retry-after").is_some());
    // Small ones are none of it.
    let mut third = door.client().await;
    assert_eq!(third.post("/v1/chat/completions", &chat("arknet/tiny", "")).await.status, 200);
    drop(first);
    door.dropped().await;
    loop {
        let body = large(150_000).replace("stuck", "refuse/not_permitted");
        let mut client = door.client().await;
        match client.post("/v1/chat/completions", &body).await.status {
            403 => break,
            status => assert_eq!(status, 429, "the room is free again, soon"),
        }
    }
}

#[tokio::test]
async fn who_stops_reading_is_given_up() {
    let door = Door::with(Limits { write_stall_ms: 50, ..Limits::default() }).await;
    let mut client = door.client().await;
    client.send(post("/v1/chat/completions", &chat("endless", r#""stream":true,"#))).await;
    client.head().await;
    // Reads nothing more, and stays connected: its slot is free again all the same.
    door.dropped().await;
    // Who reads slowly, but reads, is not.
    let mut client = door.client().await;
    client.send(post("/v1/chat/completions", &chat("arknet/tiny", r#""stream":true,"#))).await;
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn many_requests_sent_ahead_are_answered_in_order() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let ask = |n: usize| {
        let body = chat("arknet/tiny", "").replace("one two", &n.to_string());
        post(if n.is_multiple_of(3) { "/gone" } else { "/v1/chat/completions" }, &body)
    };
    let all: String = (0..200).map(ask).collect();
    let mut reader = door.client().await;
    // Sent in pieces that end anywhere.
    for piece in all.as_bytes().chunks(997) {
        reader.send(piece).await;
    }
    for n in 0..200 {
        let response = reader.response().await;
        if n % 3 == 0 {
            assert_eq!(response.status, 404);
        } else {
            let json = response.json();
            assert_eq!(json["choices"][0]["message"]["content"], format!("You said: {n}"));
        }
    }
    assert_eq!(client.get("/health").await.status, 200);
}

#[tokio::test]
async fn a_key_as_long_as_a_head_is_a_bad_key() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let long = "k".repeat(60_000);
    client
        .send(format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {long}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200, "there are no keys here");
}
