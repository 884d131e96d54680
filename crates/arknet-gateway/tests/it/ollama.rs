use std::{sync::Arc, time::Duration};

use arknet_gateway::{KeepAlive, KeyError, Keys, Options, Pass, Right};
use arknet_types::{Input, ModelName};
use serde_json::{Value, json};

use crate::{
    client::{Response, post},
    door::Door,
    script::MODELS,
};

fn say(model: &str, more: &Value) -> String {
    let mut body = json!({"model": model, "messages": [{"role": "user", "content": "one two"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

fn lines(response: &Response) -> Vec<Value> {
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
    response.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn failure(response: &Response) -> String {
    let body = response.json();
    assert_eq!(body.as_object().unwrap().len(), 1);
    body["error"].as_str().unwrap().to_owned()
}

/// Checks what an answer says it took.
fn measured(end: &Value) {
    let number = |name: &str| end[name].as_u64().unwrap();
    assert_eq!((number("prompt_eval_count"), number("eval_count")), (3, 4));
    assert_eq!(
        number("total_duration"),
        number("prompt_eval_duration") + number("eval_duration"),
        "{end}"
    );
    assert!(number("total_duration") > 0);
}

#[tokio::test]
async fn a_chat_is_answered_line_by_line_or_at_once() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let response = client.post("/api/chat", &say("arknet/tiny:latest", &json!({}))).await;
    let told = lines(&response);
    let text = told.iter().map(|line| line["message"]["content"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), "You said: one two");
    assert!(told.iter().all(|line| line["model"] == "arknet/tiny:latest"));
    let end = told.last().unwrap();
    assert_eq!((&end["done"], &end["done_reason"]), (&json!(true), &json!("stop")));
    measured(end);
    let last = door.script.last.lock().unwrap().take().unwrap();
    assert_eq!(last.model, ModelName::new("arknet/tiny").unwrap());
    let fields = json!({"stream": false, "keep_alive": "10m", "options": {"num_predict": 4}});
    let response = client.post("/api/chat", &say("arknet/tiny", &fields)).await;
    let body = response.json();
    assert_eq!(body["message"], json!({"role": "assistant", "content": "You said: one two"}));
    measured(&body);
    let keep = door.script.keep.lock().unwrap().take();
    assert_eq!(keep, Some(KeepAlive::For(Duration::from_secs(600))));
}

#[tokio::test]
async fn a_prompt_is_answered() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","prompt":"one two","raw":true}"#;
    let told = lines(&client.post("/api/generate", body).await);
    let text = told.iter().map(|line| line["response"].as_str().unwrap());
    assert_eq!(text.collect::<String>(), "You said: one two");
    let last = door.script.last.lock().unwrap().take().unwrap();
    assert_eq!(last.input, Input::Text("one two".into()));
    let body = r#"{"model":"arknet/tiny","prompt":"think","think":true,"stream":false}"#;
    let body = client.post("/api/generate", body).await.json();
    assert_eq!(body["thinking"], "Hm.");
}

#[tokio::test]
async fn tools_are_called_in_whole() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let fields = json!({
        "messages": [{"role": "user", "content": "call f"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    });
    let told = lines(&client.post("/api/chat", &say("arknet/tiny", &fields)).await);
    assert_eq!(
        told[0]["message"]["tool_calls"],
        json!([{"id": "call_1", "function": {"name": "f", "arguments": {"a": 1}}}])
    );
    assert_eq!((told.len(), &told[1]["done_reason"]), (2, &json!("stop")));
}

#[tokio::test]
async fn models_are_loaded_and_let_go() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (path, wish, reason, keep) in [
        ("/api/generate", "", "load", KeepAlive::For(Duration::from_secs(300))),
        ("/api/generate", r#","keep_alive":0"#, "unload", KeepAlive::None),
        ("/api/chat", r#","keep_alive":-1"#, "load", KeepAlive::Forever),
    ] {
        let body = format!(r#"{{"model":"arknet/tiny:latest"{wish}}}"#);
        let body = client.post(path, &body).await.json();
        assert_eq!((&body["done"], &body["done_reason"]), (&json!(true), &json!(reason)));
        assert_eq!(door.script.keep.lock().unwrap().take(), Some(keep));
    }
    let response = client.post("/api/generate", r#"{"model":"gone"}"#).await;
    assert_eq!((response.status, failure(&response)), (404, "model 'gone' not found".into()));
}

#[tokio::test]
async fn texts_become_vectors() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = r#"{"model":"arknet/tiny","input":["a","b"]}"#;
    let body = client.post("/api/embed", body).await.json();
    assert_eq!(body["embeddings"].as_array().unwrap().len(), 2);
    assert_eq!((&body["prompt_eval_count"], &body["model"]), (&json!(2), &json!("arknet/tiny")));
    let body = r#"{"model":"arknet/tiny","prompt":"a"}"#;
    let body = client.post("/api/embeddings", body).await.json();
    assert_eq!(body["embedding"].as_array().unwrap().len(), 3);
    let body = client.post("/api/embed", r#"{"model":"arknet/tiny","input":[]}"#).await.json();
    assert_eq!(body["embeddings"], json!([]));
    let response = client.post("/api/embed", r#"{"model":"gone","input":"a"}"#).await;
    assert_eq!((response.status, failure(&response)), (404, "model 'gone' not found".into()));
}

#[tokio::test]
async fn long_texts_are_cut_unless_that_is_not_wanted() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let body = json!({"model": "arknet/tiny:latest", "input": ["a".repeat(3000)]});
    let told = client.post("/api/embed", &body.to_string()).await;
    assert_eq!((told.status, &told.json()["prompt_eval_count"]), (200, &json!(2032)));
    let body = json!({"model": "arknet/tiny", "input": "a".repeat(3000), "truncate": false});
    let told = client.post("/api/embed", &body.to_string()).await;
    assert_eq!((told.status, failure(&told).as_str()), (400, "the script says so"));
}

#[tokio::test]
async fn models_are_listed_and_shown() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let tags = client.get("/api/tags").await.json();
    assert_eq!(tags["models"].as_array().unwrap().len(), 2);
    assert_eq!(tags["models"][0]["name"], "arknet/tiny");
    let loaded = client.get("/api/ps").await.json();
    assert_eq!(loaded["models"][0]["size"], 1000);
    for body in [r#"{"model":"arknet/tiny:latest"}"#, r#"{"name":"arknet/tiny"}"#] {
        let shown = client.post("/api/show", body).await.json();
        assert_eq!(shown["capabilities"], json!(["completion", "tools", "thinking", "embedding"]));
        assert_eq!(shown["template"], "{{ messages }}");
    }
    let version = client.get("/api/version").await.json();
    assert_eq!(version["version"].as_str().unwrap().split('.').count(), 3);
    let response = client.get("/").await;
    assert_eq!((response.status, response.text()), (200, "Ollama is running"));
}

#[tokio::test]
async fn models_are_pulled() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let told = lines(&client.post("/api/pull", r#"{"model":"arknet/tiny:latest"}"#).await);
    let statuses: Vec<_> = told.iter().map(|line| line["status"].as_str().unwrap()).collect();
    assert_eq!(
        statuses,
        [
            "pulling manifest",
            "pulling 010101010101",
            "pulling 010101010101",
            "verifying sha256 digest",
            "success"
        ]
    );
    assert_eq!((&told[2]["completed"], &told[2]["total"]), (&json!(1000), &json!(1000)));
    let response = client.post("/api/pull", r#"{"name":"arknet/tiny","stream":false}"#).await;
    assert_eq!(response.json(), json!({"status": "success"}));
    let told = lines(&client.post("/api/pull", r#"{"model":"gone"}"#).await);
    assert_eq!(told.last().unwrap(), &json!({"error": "model 'gone' not found"}));
    let response = client.post("/api/pull", r#"{"model":"gone","stream":false}"#).await;
    assert_eq!((response.status, failure(&response)), (404, "model 'gone' not found".into()));
}

#[tokio::test]
async fn failures_have_the_shape_of_the_api() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for (model, status, words) in [
        ("gone", 404, "model 'gone' not found"),
        ("no name", 404, "model 'no name' not found"),
        ("refuse/busy", 429, "the script says so"),
        ("refuse/context_overflow", 400, "the script says so"),
        ("first/provider_failed", 502, "the script says so"),
    ] {
        for stream in [false, true] {
            let response = client.post("/api/chat", &say(model, &json!({"stream": stream}))).await;
            assert_eq!((response.status, failure(&response).as_str()), (status, words));
        }
    }
    let told = lines(&client.post("/api/chat", &say("late/peer_lost", &json!({}))).await);
    assert_eq!(told.last().unwrap(), &json!({"error": "the script says so"}));
    for (path, body, status) in [
        ("/api/chat", "{", 400),
        ("/api/generate", "[]", 400),
        ("/api/embed", "{}", 400),
        ("/api/embeddings", "5", 400),
        ("/api/show", "{}", 400),
        ("/api/show", r#"{"model":"gone"}"#, 404),
        ("/api/pull", "{}", 400),
        ("/api/create", "{}", 501),
        ("/api/copy", "{}", 501),
        ("/api/push", "{}", 501),
        ("/api/blobs/sha256:00", "", 501),
        ("/api/nothing", "{}", 404),
    ] {
        let response = client.post(path, body).await;
        assert_eq!(response.status, status, "{path} {body}");
        failure(&response);
    }
    let response = client.get("/api/chat").await;
    assert_eq!(response.status, 405);
    failure(&response);
}

#[tokio::test]
async fn who_leaves_stops_the_answer() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.send(post("/api/chat", &say("endless", &json!({})))).await;
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    door.dropped().await;
}

/// Lets everybody in, for one model.
struct OneModel;

impl Keys for OneModel {
    fn admit(&self, _: Option<&str>) -> Result<Pass, KeyError> {
        Ok(Arc::new(Self))
    }
}

impl Right for OneModel {
    fn allows(&self, model: &ModelName) -> bool {
        model.as_str() == MODELS[1]
    }

    fn spend(&self, _: u64) {}
}

#[tokio::test]
async fn a_key_is_for_its_models_under_either_name() {
    let options = Options { keys: Some(Arc::new(OneModel)), ..Options::default() };
    let door = Door::opened(options).await;
    let mut client = door.client().await;
    let long = format!("https://example.org/{}", "x".repeat(200));
    for (path, fields) in [
        ("/api/chat", r#","messages":[{"role":"user","content":"a"}]"#),
        ("/api/generate", r#","prompt":"a","stream":false"#),
        ("/api/generate", r#","keep_alive":0"#),
        ("/api/embed", r#","input":"a""#),
        ("/api/embeddings", r#","prompt":"a""#),
        ("/api/pull", ""),
    ] {
        for (model, status) in [
            (MODELS[0], 403),
            ("arknet/tiny:latest", 403),
            ("gone", 403),
            (MODELS[1], 200),
            ("Qwen/Qwen3-0.6B-Q8_0:latest", 200),
        ] {
            let body = format!(r#"{{"model":"{model}"{fields}}}"#);
            let response = client.post(path, &body).await;
            assert_eq!(response.status, status, "{path} {body}");
        }
    }
    let response = client.post("/api/pull", &format!(r#"{{"model":"{long}"}}"#)).await;
    assert_eq!(response.status, 403);
    let tags = client.get("/api/tags").await.json();
    assert_eq!(tags["models"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/api/ps").await.json(), json!({"models": []}));
    let response = client.post("/api/show", r#"{"model":"arknet/tiny"}"#).await;
    assert_eq!(response.status, 404);
}
