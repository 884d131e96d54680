use std::sync::atomic::Ordering;

use arknet_gateway::Limits;
use arknet_types::{Input, Reply};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    client::{Response, post},
    door::Door,
    script::text,
};

fn say(model: &str, more: &Value) -> String {
    let mut body = json!({
        "model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "one two"}]
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

/// Name and data of every event.
fn events(response: &Response) -> Vec<(String, Value)> {
    let events = response.text().split_terminator("\n\n").map(|event| {
        let (name, data) = event.split_once('\n').unwrap();
        let name = name.strip_prefix("event: ").unwrap().to_owned();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(data["type"], name.as_str());
        (name, data)
    });
    events.collect()
}

fn failure(response: &Response) -> (String, String) {
    let body = response.json();
    assert_eq!(body["type"], "error");
    assert_eq!(body["request_id"].as_str(), response.header("request-id"));
    let field = |name: &str| body["error"][name].as_str().unwrap().to_owned();
    (field("type"), field("message"))
}

#[tokio::test]
async fn a_message_is_answered() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let response = client.post("/v1/messages?beta=true", &say("arknet/tiny", &json!({}))).await;
    assert_eq!(response.status, 200);
    let body = response.json();
    assert_eq!(body["content"], json!([{"type": "text", "text": "You said: one two"}]));
    assert_eq!((&body["stop_reason"], &body["model"]), (&json!("end_turn"), &json!("arknet/tiny")));
    let id = response.header("request-id").unwrap();
    assert_eq!(body["id"], format!("msg_{id}"));
    assert_eq!(response.header("x-request-id"), Some(id));
    assert_eq!(
        body["usage"],
        json!({
            "input_tokens": 2, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1,
            "output_tokens": 4
        })
    );
}

#[tokio::test]
async fn a_message_is_answered_event_by_event() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let fields = json!({"stream": true, "stop_sequences": ["two"]});
    let response = client.post("/v1/messages", &say("arknet/tiny", &fields)).await;
    assert_eq!(response.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let events = events(&response);
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let deltas = events.iter().filter_map(|(_, data)| data["delta"]["text"].as_str());
    assert_eq!(deltas.collect::<String>(), "You said: one ");
    let end = &events[7].1;
    assert_eq!(end["delta"], json!({"stop_reason": "stop_sequence", "stop_sequence": "two"}));
    assert_eq!(end["usage"]["input_tokens"], 2);
}

#[tokio::test]
async fn tools_are_called_and_thoughts_shown() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let fields = json!({
        "messages": [{"role": "user", "content": "call f"}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}]
    });
    let response = client.post("/v1/messages", &say("arknet/tiny", &fields)).await;
    let body = response.json();
    let call = json!({"type": "tool_use", "id": "call_1", "name": "f", "input": {"a": 1}});
    assert_eq!((&body["content"], &body["stop_reason"]), (&json!([call]), &json!("tool_use")));
    let fields = json!({
        "messages": [{"role": "user", "content": "think"}],
        "thinking": {"type": "enabled", "budget_tokens": 1024}, "stream": true
    });
    let response = client.post("/v1/messages", &say("arknet/tiny", &fields)).await;
    let kinds: Vec<_> = events(&response)
        .iter()
        .filter_map(|(_, data)| data["delta"]["type"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        kinds,
        ["thinking_delta", "signature_delta", "text_delta", "text_delta", "text_delta"]
    );
}

#[tokio::test]
async fn tokens_are_counted() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","messages":[{"role":"user","content":"one two"}]}"#;
    let response = client.post("/v1/messages/count_tokens", body).await;
    assert_eq!((response.status, response.json()), (200, json!({"input_tokens": 7})));
    let last = door.script.last.lock().unwrap().take().unwrap();
    assert!(matches!(last.input, Input::Count(_)));
}

#[tokio::test]
async fn failures_have_the_shape_of_the_api() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (model, status, kind, words) in [
        ("gone", 404, "not_found_error", "model: gone is not here; there are arknet/tiny"),
        ("refuse/busy", 429, "rate_limit_error", "the script"),
        ("refuse/rate_limited", 429, "rate_limit_error", "the script"),
        ("refuse/shutting_down", 529, "overloaded_error", "the script"),
        ("refuse/provider_failed", 502, "api_error", "the script"),
        ("refuse/not_permitted", 403, "permission_error", "the script"),
        ("refuse/price_too_high", 402, "billing_error", "the script"),
        ("refuse/too_large", 413, "request_too_large", "the script"),
        ("refuse/unsupported", 400, "invalid_request_error", "the script"),
        ("refuse/context_overflow", 400, "invalid_request_error", "prompt is too long: the script"),
        ("first/context_overflow", 400, "invalid_request_error", "prompt is too long: the script"),
        ("no name", 404, "not_found_error", ""),
    ] {
        for stream in [false, true] {
            let body = say(model, &json!({"stream": stream}));
            let response = client.post("/v1/messages", &body).await;
            let (found, message) = failure(&response);
            assert_eq!((response.status, found.as_str()), (status, kind), "{model}");
            assert!(message.starts_with(words), "{model}: {message}");
            assert_eq!(response.header("retry-after").is_some(), status == 429, "{model}");
        }
    }
    for (path, body, status) in [
        ("/v1/messages", "{", 400),
        ("/v1/messages", "[]", 400),
        ("/v1/messages", "{}", 400),
        ("/v1/messages/count_tokens", "{}", 400),
        ("/v1/messages/batches", "{}", 404),
    ] {
        let response = client.post(path, body).await;
        assert_eq!(response.status, status, "{path} {body}");
        assert_eq!(response.json()["type"], "error");
    }
    client.send(&b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{\"model\":\"\xff\"} "[..]).await;
    let response = client.response().await;
    assert_eq!(failure(&response).0, "invalid_request_error");
    let response = client.get("/v1/messages").await;
    assert_eq!((response.status, &response.json()["type"]), (405, &json!("error")));
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for model in ["late/peer_lost", "vanish"] {
        let response = client.post("/v1/messages", &say(model, &json!({"stream": true}))).await;
        assert_eq!(response.status, 200);
        let events = events(&response);
        let (name, data) = events.last().unwrap();
        assert_eq!((name.as_str(), &data["error"]["type"]), ("error", &json!("api_error")));
        assert!(!events.iter().any(|(name, _)| name == "message_stop"));
    }
}

#[tokio::test]
async fn long_silence_is_filled_with_pings() {
    let door = Door::with(Limits { keepalive_ms: 20, ..Limits::default() }).await;
    let (replies, receiver) = mpsc::channel(4);
    *door.script.driven.lock().unwrap() = Some(receiver);
    let mut client = door.client().await;
    client.send(post("/v1/messages", &say("driven", &json!({"stream": true})))).await;
    assert_eq!(client.head().await.status, 200);
    let start = String::from_utf8(client.chunk().await.unwrap()).unwrap();
    assert!(start.starts_with("event: message_start\n"));
    let ping = client.chunk().await.unwrap();
    assert_eq!(ping, b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    replies.send(text("a")).await.unwrap();
    loop {
        let chunk = String::from_utf8(client.chunk().await.unwrap()).unwrap();
        if chunk.contains("text_delta") {
            break;
        }
        assert!(chunk.starts_with("event: ping\n"), "{chunk}");
    }
    replies.send(Reply::Alive).await.unwrap();
    drop(client);
    door.dropped().await;
}

#[tokio::test]
async fn who_leaves_stops_the_answer() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.send(post("/v1/messages", &say("endless", &json!({"stream": true})))).await;
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    door.dropped().await;
    assert!(door.script.taken.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn models_are_listed_in_the_shape_of_who_asks() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (path, pointer) in [("/v1/models", "/data/0"), ("/v1/models/arknet/tiny", "")] {
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nAnthropic-Version: 2023-06-01\r\n\r\n"
            ))
            .await;
        let body = client.response().await.json();
        assert_eq!(
            body.pointer(pointer).unwrap(),
            &json!({
                "type": "model", "id": "arknet/tiny", "display_name": "arknet/tiny",
                "created_at": "2026-09-21T14:13:20Z", "lifecycle": "active",
                "max_input_tokens": 2048, "max_tokens": 2048
            })
        );
        assert_eq!(client.get(path).await.json().pointer(pointer).unwrap()["object"], "model");
    }
}
