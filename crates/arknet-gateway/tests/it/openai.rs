use std::sync::atomic::Ordering;

use arknet_gateway::Limits;
use arknet_types::{FinishReason, Input, Reply, Role, ToolCallPiece, Usage};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{client::chat, door::Door, script::text};

#[tokio::test]
async fn several_answers_come_whole_and_streamed() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let json = client.post("/v1/chat/completions", &chat("arknet/tiny", r#""n":3,"#)).await.json();
    let choices = json["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 3);
    assert!(choices.iter().all(|choice| choice["message"]["content"] == "You said: one two"));
    assert_eq!(json["usage"]["prompt_tokens"], 3);
    assert_eq!(json["usage"]["completion_tokens"], 12);
    assert_eq!(door.script.asked.load(Ordering::Relaxed), 3);

    let more = r#""n":2,"stream":true,"stream_options":{"include_usage":true},"#;
    let response = client.post("/v1/chat/completions", &chat("arknet/tiny", more)).await;
    let mut events = response.events();
    assert_eq!(events.pop(), Some("[DONE]"));
    let mut texts = [String::new(), String::new()];
    let mut ends = 0;
    for event in &events {
        let chunk: Value = serde_json::from_str(event).unwrap();
        let Some(choice) = chunk["choices"].get(0) else {
            assert_eq!(chunk["usage"]["completion_tokens"], 8);
            continue;
        };
        let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
        texts[index] += choice["delta"]["content"].as_str().unwrap_or_default();
        ends += usize::from(choice["finish_reason"] == "stop");
    }
    assert_eq!((texts, ends), ([(); 2].map(|()| "You said: one two".to_owned()), 2));

    // The failure of one is that of all.
    for more in [r#""n":2,"#, r#""n":2,"stream":true,"#] {
        let response = client.post("/v1/chat/completions", &chat("refuse/busy", more)).await;
        assert_eq!(response.status, 429);
    }
}

#[tokio::test]
async fn tools_are_called() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","messages":[{"role":"user","content":"call f"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    let json = client.post("/v1/chat/completions", body).await.json();
    let choice = &json["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        choice["message"]["tool_calls"],
        json!([{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}])
    );
}

#[tokio::test]
async fn a_long_wait_for_the_first_token_is_filled_with_comments() {
    let door = Door::with(Limits { keepalive_ms: 20, ..Limits::default() }).await;
    for (last, expected) in [
        (Reply::Done { finish: FinishReason::Stop, usage: Usage::default() }, "[DONE]"),
        (
            Reply::Refused(arknet_types::Refusal::new(arknet_types::RefusalCode::Busy, "full")),
            r#""code":"busy""#,
        ),
    ] {
        let (replies, receiver) = mpsc::channel(4);
        *door.script.driven.lock().unwrap() = Some(receiver);
        let mut client = door.client().await;
        let body = chat("driven", r#""stream":true,"#);
        client.send(crate::client::post("/v1/chat/completions", &body)).await;
        // Nothing has come from the model, and yet there is a head, and comments.
        assert_eq!(client.head().await.status, 200);
        let role = String::from_utf8(client.chunk().await.unwrap()).unwrap();
        assert!(role.contains(r#""role":"assistant""#), "{role}");
        for _ in 0..2 {
            assert_eq!(client.chunk().await.unwrap(), b": keep-alive\n\n");
        }
        replies.send(last).await.unwrap();
        let mut end = String::new();
        while let Some(chunk) = client.chunk().await {
            end = String::from_utf8(chunk).unwrap();
        }
        assert!(end.contains(expected), "{end}");
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_cut() {
    let limits = Limits { answer_ms_max: 50, keepalive_ms: 10, ..Limits::default() };
    let door = Door::with(limits).await;
    let mut client = door.client().await;
    for more in ["", r#""n":2,"#] {
        let response = client.post("/v1/chat/completions", &chat("silent", more)).await;
        assert_eq!(response.status, 504);
        assert_eq!(response.json()["error"]["code"], "answer_too_late");
    }
    for model in ["silent", "endless"] {
        let response = client.post("/v1/chat/completions", &chat(model, r#""stream":true,"#)).await;
        assert!(response.text().contains("longer than this node waits"), "{model}");
        assert!(!response.text().contains("[DONE]"));
    }
}

#[tokio::test]
async fn a_conversation_goes_on_from_an_answer() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let first = r#"{"model":"arknet/tiny","instructions":"scene","input":"one"}"#;
    let first = client.post("/v1/responses", first).await.json();
    assert_eq!(first["output"][0]["content"][0]["text"], "You said: one");
    let id = first["id"].as_str().unwrap();
    let next = |id: &str, more: &str| {
        format!(r#"{{{more}"model":"arknet/tiny","input":"two","previous_response_id":"{id}"}}"#)
    };
    let streamed = client.post("/v1/responses", &next(id, r#""stream":true,"#)).await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let asked = door.script.last.lock().unwrap().take().unwrap();
    let Input::Chat(conversation) = asked.input else { panic!("a chat stays a chat") };
    let said: Vec<_> = conversation.messages.iter().map(|m| (m.role, m.text())).collect();
    let expected = [
        (Role::User, "one".to_owned()),
        (Role::Assistant, "You said: one".to_owned()),
        (Role::User, "two".to_owned()),
    ];
    assert_eq!(said, expected);
    // From the streamed answer too.
    let completed = streamed.text().rsplit("data: ").next().unwrap();
    let completed: Value = serde_json::from_str(completed).unwrap();
    let second = completed["response"]["id"].as_str().unwrap().to_owned();
    let kept = client.get(&format!("/v1/responses/{second}")).await.json();
    assert_eq!(kept, completed["response"]);
    let third = client.post("/v1/responses", &next(&second, r#""store":false,"#)).await.json();
    let asked = door.script.last.lock().unwrap().take().unwrap();
    assert!(matches!(asked.input, Input::Chat(chat) if chat.messages.len() == 5));
    let third = third["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/responses/{third}")).await.status, 404);
    assert_eq!(client.post("/v1/responses", &next(third, "")).await.status, 400);
    // By its items, which some clients send instead of what they said.
    let item = first["output"][0]["id"].as_str().unwrap();
    for reference in
        [format!(r#"{{"type":"item_reference","id":"{item}"}}"#), format!(r#"{{"id":"{item}"}}"#)]
    {
        let body = format!(
            r#"{{"model":"arknet/tiny","input":[{{"role":"user","content":"one"}},{reference},{{"role":"user","content":"two"}}]}}"#
        );
        assert_eq!(client.post("/v1/responses", &body).await.status, 200);
        let asked = door.script.last.lock().unwrap().take().unwrap();
        let Input::Chat(conversation) = asked.input else { panic!("a chat stays a chat") };
        let said: Vec<_> = conversation.messages.iter().map(|m| (m.role, m.text())).collect();
        assert_eq!(said, expected);
    }
    let unknown = r#"{"model":"arknet/tiny","input":[{"type":"item_reference","id":"msg_9f00"}]}"#;
    let unknown = client.post("/v1/responses", unknown).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["code"]), (400, &json!("item_not_found")));
    client.send(format!("DELETE /v1/responses/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!(
        client.response().await.json(),
        json!({"id": id, "object": "response", "deleted": true})
    );
    assert_eq!(client.post("/v1/responses", &next(id, "")).await.status, 400);
}

#[tokio::test]
async fn each_item_of_an_answer_comes_back_by_its_id() {
    let door = Door::open().await;
    let (replies, receiver) = mpsc::channel(8);
    *door.script.driven.lock().unwrap() = Some(receiver);
    let call = ToolCallPiece {
        index: 0,
        id: Some("call_1".into()),
        name: Some("f".into()),
        arguments: "{}".into(),
        tokens: 1,
    };
    let done = Reply::Done { finish: FinishReason::ToolCalls, usage: Usage::default() };
    for reply in [text("before"), Reply::ToolCall(call), text("after"), done] {
        replies.send(reply).await.unwrap();
    }
    let mut client = door.client().await;
    let body = r#"{"model":"driven","input":"a","stream":true}"#;
    let streamed = client.post("/v1/responses", body).await;
    let completed = streamed.text().rsplit("data: ").next().unwrap();
    let completed: Value = serde_json::from_str(completed).unwrap();
    let output = completed["response"]["output"].as_array().unwrap();
    assert_eq!(output.len(), 3);
    let by_id: Vec<_> = output
        .iter()
        .map(|item| json!({ "type": "item_reference", "id": item["id"] }))
        .chain([json!({ "type": "function_call_output", "call_id": "call_1", "output": "x" })])
        .collect();
    let next = json!({ "model": "arknet/tiny", "input": by_id });
    assert_eq!(client.post("/v1/responses", &next.to_string()).await.status, 200);
    let asked = door.script.last.lock().unwrap().take().unwrap();
    let Input::Chat(conversation) = asked.input else { panic!("a chat stays a chat") };
    let texts: Vec<String> =
        conversation.messages.iter().map(arknet_types::Message::text).collect();
    assert!(texts.concat().contains("before") && texts.concat().contains("after"), "{texts:?}");
    let calls = conversation.messages.iter().flat_map(|message| &message.tool_calls);
    assert_eq!(calls.map(|call| call.id.as_str()).collect::<Vec<_>>(), ["call_1"]);
}

#[tokio::test]
async fn a_picture_for_a_model_that_takes_none_is_refused_by_its_place() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let picture =
        json!({ "type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=" });
    let called = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}" });
    for (input, place) in [
        (
            json!([{ "role": "user", "content": [{ "type": "input_text", "text": "a" }, picture] }]),
            "input[0].content[1].image_url",
        ),
        (
            json!([called, { "type": "function_call_output", "call_id": "c", "output": [picture] }]),
            "input[1].output[0].image_url",
        ),
    ] {
        let body = json!({ "model": "arknet/tiny", "input": input });
        let response = client.post("/v1/responses", &body.to_string()).await;
        let error = &response.json()["error"];
        assert_eq!((response.status, &error["code"]), (400, &"invalid_value".into()), "{error}");
        assert_eq!(error["param"], place);
    }
}

#[tokio::test]
async fn what_is_too_large_for_a_response_fails_it() {
    let door = Door::with(Limits { answer_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = door.client().await;
    let body = r#"{"model":"endless","input":"a","stream":true}"#;
    let response = client.post("/v1/responses", body).await;
    assert!(response.text().contains("event: response.failed"));
    door.dropped().await;
}

#[tokio::test]
async fn texts_are_embedded_ranked_and_split() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","input":["a",""],"dimensions":2}"#;
    let json = client.post("/v1/embeddings", body).await.json();
    assert_eq!(json["data"][0]["embedding"], json!([1.0, 0.0]));
    let body = r#"{"model":"arknet/tiny","query":"a","documents":["b","aa"],"top_n":1}"#;
    for path in ["/v1/rerank", "/rerank", "/v1/reranking", "/reranking", "/v2/rerank"] {
        let json = client.post(path, body).await.json();
        assert_eq!(json["results"], json!([{"index": 1, "relevance_score": 2.0}]), "{path}");
    }
    let json = client.post("/tokenize", r#"{"model":"arknet/tiny","content":"ab"}"#).await.json();
    assert_eq!(json["tokens"], json!([97, 98]));
    let body = r#"{"model":"arknet/tiny","tokens":[97,98]}"#;
    assert_eq!(client.post("/detokenize", body).await.json()["content"], "ab");
    // Two models know tokens here, so one must be named.
    let response = client.post("/tokenize", r#"{"content":"ab"}"#).await;
    assert_eq!(response.json()["error"]["param"], "model");
    // A peer that answers with something else.
    let (replies, receiver) = mpsc::channel(4);
    *door.script.driven.lock().unwrap() = Some(receiver);
    replies.send(text("no vector")).await.unwrap();
    let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
    replies.send(done).await.unwrap();
    let response = client.post("/v1/embeddings", r#"{"model":"driven","input":"a"}"#).await;
    assert_eq!(response.status, 502);
}
