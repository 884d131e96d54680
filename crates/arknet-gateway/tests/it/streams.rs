use std::sync::atomic::Ordering;

use arknet_gateway::Limits;
use arknet_types::{FinishReason, Reply, Usage};
use tokio::sync::mpsc;

use crate::{
    client::{Client, chat, post},
    door::Door,
    script::text,
};

const STREAM: &str = r#""stream":true,"#;

async fn start(client: &mut Client, model: &str) {
    client.send(post("/v1/chat/completions", &chat(model, STREAM))).await;
}

fn done() -> Reply {
    Reply::Done { finish: FinishReason::Stop, usage: Usage::default() }
}

fn drive(door: &Door) -> mpsc::Sender<Reply> {
    let (replies, receiver) = mpsc::channel(16);
    *door.script.driven.lock().unwrap() = Some(receiver);
    replies
}

#[tokio::test]
async fn every_token_goes_out_at_once() {
    let door = Door::open().await;
    let replies = drive(&door);
    let mut client = door.client().await;
    start(&mut client, "driven").await;
    for word in ["a", "b", "c"] {
        replies.send(text(word)).await.unwrap();
        if word == "a" {
            assert_eq!(client.head().await.status, 200);
        }
        // The next one is not sent before this one has arrived.
        let chunk = String::from_utf8(client.chunk().await.unwrap()).unwrap();
        assert!(chunk.contains(&format!(r#""content":"{word}""#)), "{chunk}");
    }
    replies.send(done()).await.unwrap();
    let chunk = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    assert!(chunk.ends_with("data: [DONE]\n\n"), "{chunk}");
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn what_is_ready_goes_out_together() {
    let door = Door::open().await;
    let mut client = door.client().await;
    start(&mut client, "arknet/tiny").await;
    client.head().await;
    let chunk = client.chunk().await.unwrap();
    assert!(chunk.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(client.chunk().await, None);
}

#[tokio::test]
async fn a_pause_is_filled_with_comments() {
    let door = Door::with(Limits { keepalive_ms: 20, ..Limits::default() }).await;
    let replies = drive(&door);
    let mut client = door.client().await;
    start(&mut client, "driven").await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    client.chunk().await.unwrap();
    for _ in 0..3 {
        assert_eq!(client.chunk().await.unwrap(), b": keep-alive\n\n");
        // The peer's own signs of life are not the client's.
        replies.send(Reply::Alive).await.unwrap();
    }
    replies.send(done()).await.unwrap();
    let mut last = client.chunk().await.unwrap();
    while last == b": keep-alive\n\n" {
        last = client.chunk().await.unwrap();
    }
    assert!(last.ends_with(b"data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_slow_reader_holds_back_its_own_answer_only() {
    let door = Door::open().await;
    let mut slow = door.client().await;
    start(&mut slow, "endless").await;
    slow.head().await;
    let taken = || door.script.taken.load(Ordering::Relaxed);
    // Reads nothing more. Others are served, and its own answer comes to rest when the system's
    // buffers are full.
    let mut other = door.client().await;
    let (mut before, mut at_rest) = (0, 0);
    while at_rest < 20 {
        let response = other.post("/v1/chat/completions", &chat("arknet/tiny", STREAM)).await;
        assert_eq!(response.events().last(), Some(&"[DONE]"));
        let now = taken();
        assert!(now < 1_000_000, "read ahead of the client");
        at_rest = if now == before { at_rest + 1 } else { 0 };
        before = now;
    }
    // And goes on when it reads.
    while taken() == before {
        slow.chunk().await.unwrap();
    }
    drop(slow);
    door.dropped().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    let door = Door::open().await;
    // In the middle of a stream, with and without tokens coming.
    let replies = drive(&door);
    let mut client = door.client().await;
    start(&mut client, "driven").await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    drop(client);
    door.dropped().await;

    let mut client = door.client().await;
    start(&mut client, "endless").await;
    client.head().await;
    drop(client);
    door.dropped().await;

    // Before the first token, before an answer, and while it is gathered.
    for (model, more) in [("silent", STREAM), ("stuck", STREAM), ("stuck", ""), ("silent", "")] {
        let mut client = door.client().await;
        let mut seen = door.script.last.lock().unwrap().take();
        client.send(post("/v1/chat/completions", &chat(model, more))).await;
        while seen.is_none() {
            tokio::task::yield_now().await;
            seen = door.script.last.lock().unwrap().take();
        }
        drop(client);
        door.dropped().await;
    }
}

#[tokio::test]
async fn an_answer_that_is_gathered_has_a_limit() {
    let door = Door::with(Limits { answer_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = door.client().await;
    let response = client.post("/v1/chat/completions", &chat("endless", "")).await;
    assert_eq!(response.status, 502);
    assert_eq!(response.json()["error"]["code"], "answer_too_large");
    door.dropped().await;
}

#[tokio::test]
async fn shutdown_lets_answers_finish() {
    let door = Door::open().await;
    let replies = drive(&door);
    let mut idle = door.client().await;
    assert_eq!(idle.get("/health").await.status, 200);
    let mut client = door.client().await;
    start(&mut client, "driven").await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    door.shutdown.cancel();
    assert!(idle.rest().await.is_empty(), "idle connections close at once");
    replies.send(done()).await.unwrap();
    let rest = client.rest().await;
    assert!(String::from_utf8(rest).unwrap().contains("data: [DONE]"));
    assert_eq!(door.close().await, 0);
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_finish() {
    let door = Door::with(Limits { drain_ms: 50, ..Limits::default() }).await;
    let _replies = drive(&door);
    let mut client = door.client().await;
    start(&mut client, "driven").await;
    while door.script.last.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(door.close().await, 1);
    assert!(client.rest().await.is_empty());
}
