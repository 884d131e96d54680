use arknet_types::{Input, Role};
use serde_json::json;

use crate::{
    client::{chat, post},
    door::Door,
    script::PEER,
};

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = chat("arknet/tiny", r#""user":"me","seed":-1,"#);
    let response = client.post("/v1/chat/completions", &body).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("x-arknet-peer"), Some(PEER.peer_id().as_str()));
    let json = response.json();
    let id = response.header("x-request-id").unwrap();
    assert_eq!(json["id"], format!("chatcmpl-{id}"));
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "arknet/tiny");
    assert!(json["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        json["choices"],
        json!([{
            "index": 0,
            "message": {"role": "assistant", "content": "You said: one two", "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }])
    );
    assert_eq!(
        json["usage"],
        json!({
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    );
    let asked = door.script.last.lock().unwrap().take().unwrap();
    assert_eq!(asked.sampling.seed, Some(u64::MAX));
    let Input::Chat(chat) = asked.input else {
        panic!("a chat stays a chat");
    };
    assert_eq!(chat.messages[0].role, Role::User);
}

#[tokio::test]
async fn a_chat_is_streamed() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let more = r#""stream":true,"stream_options":{"include_usage":true},"max_tokens":3,"#;
    let response = client.post("/v1/chat/completions", &chat("arknet/tiny", more)).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(response.header("cache-control"), Some("no-cache"));
    assert_eq!(response.header("x-arknet-peer"), Some(PEER.peer_id().as_str()));
    let mut events = response.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<serde_json::Value> =
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let deltas: Vec<_> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    assert_eq!(*deltas[0], json!({"role": "assistant", "content": ""}));
    assert_eq!(*deltas[1], json!({"content": "You "}));
    assert_eq!(*deltas[3], json!({"content": "one "}));
    assert_eq!(*deltas[4], json!({}));
    assert_eq!(chunks[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[5]["choices"], json!([]));
    assert_eq!(chunks[5]["usage"]["total_tokens"], 6);
    assert_eq!(chunks.len(), 6);
    assert!(chunks[..5].iter().all(|chunk| chunk["usage"].is_null()));
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[tokio::test]
async fn a_completion_is_answered_whole_and_streamed() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","prompt":["a b"],"stop":" b"}"#;
    let json = client.post("/v1/completions", body).await.json();
    assert_eq!(json["object"], "text_completion");
    assert_eq!(json["choices"][0]["text"], "You said: a");
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    let body = r#"{"model":"arknet/tiny","prompt":"a b","stream":true}"#;
    let response = client.post("/v1/completions", body).await;
    let events = response.events();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let texts = events[..events.len() - 1].iter().map(|event| {
        let chunk: serde_json::Value = serde_json::from_str(event).unwrap();
        assert!(chunk.get("usage").is_none());
        chunk["choices"][0]["text"].as_str().unwrap().to_owned()
    });
    assert_eq!(texts.collect::<String>(), "You said: a b");
}

#[tokio::test]
async fn models_are_listed_and_found_under_any_spelling() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let list = client.get("/v1/models").await.json();
    assert_eq!(list["object"], "list");
    assert_eq!(list["data"][1]["id"], "Qwen/Qwen3-0.6B-Q8_0");
    assert_eq!(list["data"][1]["arknet"]["local"], false);
    assert_eq!(list["data"][1]["arknet"]["peers"], json!([PEER.peer_id()]));
    for path in [
        "/v1/models/Qwen/Qwen3-0.6B-Q8_0",
        "/v1/models/Qwen%2FQwen3-0.6B-Q8_0",
        "/v1/models/Qwen%2fQwen3%2D0.6B-Q8_0?x=y",
    ] {
        let response = client.get(path).await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.json(), list["data"][1], "{path}");
    }
    for path in ["/v1/models/Qwen", "/v1/models/a/b/c", "/v1/models/%ff", "/v1/models/"] {
        let response = client.get(path).await;
        assert_eq!(response.status, 404, "{path}");
        assert_eq!(response.json()["error"]["type"], "invalid_request_error");
    }
}

#[tokio::test]
async fn health_is_told() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let response = client.get("/health").await;
    assert_eq!(response.json(), json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
    assert!(response.header("x-request-id").is_some());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let mut ids = Vec::new();
    for round in 0..50 {
        let more = if round % 2 == 0 { "" } else { r#""stream":true,"# };
        let response = client.post("/v1/chat/completions", &chat("arknet/tiny", more)).await;
        assert_eq!(response.status, 200);
        ids.push(response.header("x-request-id").unwrap().to_owned());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50);
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let streamed = post("/v1/chat/completions", &chat("arknet/tiny", r#""stream":true,"#));
    client.send(format!("{streamed}GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    let first = client.response().await;
    assert_eq!(first.events().last(), Some(&"[DONE]"));
    assert_eq!(client.response().await.json()["status"], "ok");
}
