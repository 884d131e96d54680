use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use arknet_gateway::{KeyError, Keys, Limits, Options, Pass, Right};
use arknet_types::{ModelName, Reply};
use tokio::sync::mpsc;

use crate::{
    client::{Response, chat, post},
    door::Door,
    script::{MODELS, text},
};

/// Keys by what they are called.
#[derive(Default)]
struct Ring {
    spent: Arc<AtomicU64>,
    admitted: Mutex<Vec<Option<String>>>,
}

struct Scope {
    spent: Arc<AtomicU64>,
    one: bool,
}

impl Keys for Ring {
    fn admit(&self, key: Option<&str>) -> Result<Pass, KeyError> {
        self.admitted.lock().unwrap().push(key.map(Into::into));
        match key {
            None => Err(KeyError::Missing),
            Some("sk-ark-expired") => Err(KeyError::Expired),
            Some("sk-ark-requests") => Err(KeyError::Requests { retry_after_ms: 1500 }),
            Some("sk-ark-tokens") => Err(KeyError::Tokens { retry_after_ms: 3_600_000 }),
            Some(key @ ("sk-ark-good" | "sk-ark-other" | "sk-ark-one")) => {
                Ok(Arc::new(Scope { spent: self.spent.clone(), one: key == "sk-ark-one" }))
            }
            Some(_) => Err(KeyError::Unknown),
        }
    }
}

impl Right for Scope {
    fn allows(&self, model: &ModelName) -> bool {
        !self.one || model.as_str() == MODELS[1]
    }

    fn spend(&self, tokens: u64) {
        self.spent.fetch_add(tokens, Ordering::Relaxed);
    }
}

async fn locked() -> (Door, Arc<Ring>) {
    let ring = Arc::new(Ring::default());
    let options = Options { keys: Some(ring.clone()), ..Options::default() };
    (Door::opened(options).await, ring)
}

/// A request with one more header.
fn with(header: &str, request: &str) -> String {
    request.replacen("\r\n", &format!("\r\n{header}\r\n"), 1)
}

async fn send(door: &Door, header: &str, request: &str) -> Response {
    let mut client = door.client().await;
    client.send(with(header, request)).await;
    client.response().await
}

#[tokio::test]
async fn only_a_good_key_opens_and_each_api_says_so_in_its_words() {
    let (door, ring) = locked().await;
    let routes = [
        post("/v1/chat/completions", &chat("arknet/tiny", "")),
        post("/v1/messages", &chat("arknet/tiny", r#""max_tokens":5,"#)),
        post("/api/chat", &chat("arknet/tiny", r#""stream":false,"#)),
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ];
    for (index, request) in routes.iter().enumerate() {
        for (header, status, wait) in [
            ("X-Nothing: x", 401, None),
            ("Authorization: Bearer sk-ark-bad", 401, None),
            ("Authorization: Basic c2s=", 401, None),
            ("X-API-Key: sk-ark-expired", 401, None),
            ("X-API-Key: sk-ark-requests", 429, Some("2")),
            ("Authorization: Bearer sk-ark-tokens", 429, Some("3600")),
        ] {
            let response = send(&door, header, request).await;
            assert_eq!(response.status, status, "{header} {request}");
            assert_eq!(response.header("retry-after"), wait);
            let json = response.json();
            match index {
                1 => assert_eq!(json["type"], "error"),
                2 => assert!(json["error"].is_string()),
                _ => assert!(json["error"]["code"].is_string()),
            }
        }
        for header in ["Authorization: Bearer sk-ark-good", "X-API-Key: sk-ark-good"] {
            let status = send(&door, header, request).await.status;
            assert_eq!(status, if index == 4 { 404 } else { 200 }, "{request}");
        }
    }
    assert!(door.script.asked.load(Ordering::Relaxed) == 6, "others never get behind the door");
    let admitted = ring.admitted.lock().unwrap().len();
    let mut client = door.client().await;
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(ring.admitted.lock().unwrap().len(), admitted, "health needs no key");
}

#[tokio::test]
async fn who_sends_much_with_a_bad_key_hears_that_it_is_bad() {
    let (door, _) = locked().await;
    let body = chat("arknet/tiny", "").replace("one two", &"x".repeat(10_000_000));
    let request = post("/v1/chat/completions", &body);
    assert_eq!(send(&door, "Authorization: Bearer sk-ark-bad", &request).await.status, 401);
    assert_eq!(send(&door, "X-API-Key: sk-ark-requests", &request).await.status, 429);
}

#[tokio::test]
async fn a_key_is_for_its_models() {
    let (door, _) = locked().await;
    let header = "Authorization: Bearer sk-ark-one";
    for (path, body) in [
        ("/v1/chat/completions", chat(MODELS[0], "")),
        ("/v1/chat/completions", chat(MODELS[0], r#""stream":true,"#)),
        ("/v1/chat/completions", chat(MODELS[0], r#""n":2,"#)),
        ("/v1/embeddings", format!(r#"{{"model":"{}","input":"a"}}"#, MODELS[0])),
        ("/v1/responses", format!(r#"{{"model":"{}","input":"a"}}"#, MODELS[0])),
    ] {
        let response = send(&door, header, &post(path, &body)).await;
        assert_eq!(response.status, 403, "{path}");
        assert_eq!(response.json()["error"]["code"], "model_not_allowed");
        let response = send(&door, header, &post(path, &body.replace(MODELS[0], MODELS[1]))).await;
        assert_eq!(response.status, 200, "{path}");
    }
    let list = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let json = send(&door, header, list).await.json();
    assert_eq!(json["data"].as_array().unwrap().len(), 1);
    assert_eq!(json["data"][0]["id"], MODELS[1]);
    // The numbers tell of all.
    let metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(send(&door, header, metrics).await.status, 403);
}

#[tokio::test]
async fn what_was_generated_is_counted_also_when_the_client_leaves() {
    let (door, ring) = locked().await;
    let header = "Authorization: Bearer sk-ark-good";
    let spent = || ring.spent.load(Ordering::Relaxed);
    // Three tokens of input and four of the answer.
    for (more, whole) in [("", 7), (r#""stream":true,"#, 14), (r#""n":2,"#, 25)] {
        send(&door, header, &post("/v1/chat/completions", &chat("arknet/tiny", more))).await;
        while spent() < whole {
            tokio::task::yield_now().await;
        }
        assert_eq!(spent(), whole, "{more}");
    }
    // To look at tokens costs none.
    let count = r#"{"model":"arknet/tiny","content":"a","input":"a","max_tokens":1,"messages":[{"role":"user","content":"a"}]}"#;
    let tokenize = r#"{"model":"arknet/tiny","content":"a"}"#;
    assert_eq!(send(&door, header, &post("/tokenize", tokenize)).await.status, 200);
    for path in ["/v1/messages/count_tokens", "/v1/responses/input_tokens"] {
        assert_eq!(send(&door, header, &post(path, count)).await.status, 200, "{path}");
    }
    let (replies, receiver) = mpsc::channel::<Reply>(16);
    *door.script.driven.lock().unwrap() = Some(receiver);
    let mut client = door.client().await;
    let request = post("/v1/chat/completions", &chat("driven", r#""stream":true,"#));
    client.send(with(header, &request)).await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    // One for the piece, and about one for the seven bytes of the question.
    while spent() < 27 {
        tokio::task::yield_now().await;
    }
    assert_eq!(spent(), 27);
    // What is read for whoever leaves is not free, though nobody told how much it was.
    let (replies, receiver) = mpsc::channel::<Reply>(16);
    *door.script.driven.lock().unwrap() = Some(receiver);
    let mut client = door.client().await;
    let long = chat("driven", r#""stream":true,"#).replace("one two", &"a".repeat(4000));
    assert!(long.len() > 4000, "{long}");
    client.send(with(header, &post("/v1/chat/completions", &long))).await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    client.chunk().await.unwrap();
    drop(client);
    while spent() < 27 + 1001 {
        tokio::task::yield_now().await;
    }
    assert_eq!(spent(), 27 + 1001);
}

#[tokio::test]
async fn several_prompts_with_several_answers_are_read_once_each() {
    let (door, ring) = locked().await;
    let body = r#"{"model":"arknet/tiny","prompt":["a","b"],"n":4}"#;
    let request = post("/v1/completions", body);
    let answer = send(&door, "Authorization: Bearer sk-ark-good", &request).await.json();
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
    let whole = answer["usage"]["total_tokens"].as_u64().unwrap();
    while ring.spent.load(Ordering::Relaxed) < whole {
        tokio::task::yield_now().await;
    }
    assert_eq!(ring.spent.load(Ordering::Relaxed), whole);
}

#[tokio::test]
async fn what_is_kept_belongs_to_one_key() {
    let (door, _) = locked().await;
    let body = r#"{"model":"arknet/tiny","input":"secret"}"#;
    let mine = "Authorization: Bearer sk-ark-good";
    let id = send(&door, mine, &post("/v1/responses", body)).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    let get = format!("GET /v1/responses/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let delete = get.replace("GET", "DELETE");
    let next = post(
        "/v1/responses",
        &format!(r#"{{"model":"arknet/tiny","input":"a","previous_response_id":"{id}"}}"#),
    );
    for (request, refused) in [(&get, 404), (&next, 400), (&delete, 404)] {
        assert_eq!(send(&door, "X-API-Key: sk-ark-other", request).await.status, refused);
        assert_eq!(send(&door, "X-API-Key: sk-ark-good", request).await.status, 200);
    }
    assert_eq!(send(&door, mine, &get).await.status, 404);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_ask() {
    let options = Options {
        allowed_origins: vec!["https://chat.example".into()],
        limits: Limits::default(),
        ..Options::default()
    };
    let door = Door::opened(options).await;
    let mut client = door.client().await;
    let ask = "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
               Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization, x-stainless-os\r\n";
    client.send(format!("{ask}Origin: https://chat.example\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 204);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(
        response.header("access-control-allow-headers"),
        Some("authorization, x-stainless-os")
    );
    client.send(format!("{ask}Origin: https://evil.example\r\n\r\n")).await;
    let response = client.response().await;
    assert_eq!(response.status, 403);
    assert_eq!(response.header("access-control-allow-origin"), None);
    let request = post("/v1/chat/completions", &chat("arknet/tiny", ""));
    client.send(with("Origin: https://chat.example", &request)).await;
    let response = client.response().await;
    assert_eq!(response.status, 200);
    assert_eq!(response.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(response.header("vary"), Some("Origin"));
}
