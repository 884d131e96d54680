use std::{
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use arknet_gateway::{METRICS_CONTENT_TYPE, Observer, Options, RequestRecord};
use arknet_types::Reply;
use tokio::sync::mpsc;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    client::{Client, chat, post},
    door::Door,
    script::{PEER, text},
};

#[derive(Default)]
struct Notes {
    records: Mutex<Vec<RequestRecord>>,
    open: AtomicUsize,
}

impl Observer for Notes {
    fn began(&self) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, record: &RequestRecord) {
        let open = self.open.fetch_sub(1, Ordering::SeqCst);
        assert!(open > 0, "what ends has begun");
        self.records.lock().unwrap().push(record.clone());
    }

    fn metrics(&self) -> futures::future::BoxFuture<'_, String> {
        Box::pin(async { "arknet_up 1\n".to_owned() })
    }
}

async fn watched() -> (Door, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let options = Options { observer: Some(notes.clone()), ..Options::default() };
    (Door::opened(options).await, notes)
}

async fn next(notes: &Notes) -> RequestRecord {
    loop {
        if let Some(record) = notes.records.lock().unwrap().pop() {
            return record;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_request_leaves_a_record() {
    let (door, notes) = watched().await;
    let mut client = door.client().await;
    for (path, body, endpoint, status, error, model, completion) in [
        ("/v1/chat/completions", chat("arknet/tiny", ""), "chat", 200, None, true, 4),
        (
            "/v1/chat/completions",
            chat("arknet/tiny", r#""stream":true,"#),
            "chat",
            200,
            None,
            true,
            4,
        ),
        ("/v1/chat/completions", chat("gone", ""), "chat", 404, Some("model_not_found"), false, 0),
        ("/v1/chat/completions", "{".into(), "chat", 400, None, false, 0),
        (
            "/v1/chat/completions",
            chat("late/peer_lost", r#""stream":true,"#),
            "chat",
            200,
            Some("peer_lost"),
            true,
            1,
        ),
        (
            "/v1/embeddings",
            r#"{"model":"arknet/tiny","input":"a"}"#.into(),
            "embeddings",
            200,
            None,
            true,
            0,
        ),
    ] {
        let response = client.post(path, &body).await;
        let record = next(&notes).await;
        assert_eq!((record.door, record.endpoint), ("openai", endpoint), "{body}");
        assert_eq!((record.status, record.error), (status, error), "{body}");
        assert_eq!(record.model.is_some(), model, "{body}");
        assert_eq!(record.peer, model.then_some(PEER), "{body}");
        assert_eq!(record.usage.completion_tokens, completion, "{body}");
        assert_eq!(record.request_bytes, body.len() as u64);
        assert_eq!(record.answer_bytes, response.body.len() as u64, "{body}");
        assert_eq!(record.streamed, body.contains("stream"));
        assert!(!record.left, "{body}");
        assert!(
            record.first_piece <= record.last_piece && record.last_piece <= Some(record.duration)
        );
        assert!(record.until_dispatch.is_some() == (body != "{"));
    }
    assert_eq!(notes.open.load(Ordering::SeqCst), 0, "what begins ends");
}

#[tokio::test]
async fn who_leaves_leaves_a_record_too() {
    let (door, notes) = watched().await;
    // Before there was a status, and after.
    let mut client = door.client().await;
    client.send(post("/v1/chat/completions", &chat("stuck", ""))).await;
    while door.script.last.lock().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    drop(client);
    let record = next(&notes).await;
    assert_eq!((record.status, record.left), (499, true));
    let (replies, receiver) = mpsc::channel::<Reply>(4);
    *door.script.driven.lock().unwrap() = Some(receiver);
    let mut client = door.client().await;
    client.send(post("/v1/chat/completions", &chat("driven", r#""stream":true,"#))).await;
    replies.send(text("a")).await.unwrap();
    client.head().await;
    drop(client);
    let record = next(&notes).await;
    assert_eq!((record.status, record.left), (200, true));
    assert_eq!(record.usage.completion_tokens, 1);
}

#[tokio::test]
async fn metrics_are_told() {
    let (door, _) = watched().await;
    let mut client = door.client().await;
    let response = client.get("/metrics").await;
    assert_eq!(response.header("content-type"), Some(METRICS_CONTENT_TYPE));
    assert_eq!(response.text(), "arknet_up 1\n");
    let mut client = Door::open().await.client().await;
    assert_eq!(client.get("/metrics").await.status, 404);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// What a client of every door could write its secret into.
async fn whisper(client: &mut Client) {
    let secret = r#""user":"SECRET","metadata":{"SECRET":"SECRET"},"stop":"SECRET","#;
    let tools = r#""tools":[{"type":"function","function":{"name":"SECRET","description":"SECRET","parameters":{"SECRET":1}}}],"#;
    let bodies = [
        chat("arknet/tiny", secret),
        chat("arknet/tiny", tools),
        chat("arknet/tiny", &format!(r#""stream":true,{secret}"#)),
        chat("SECRET", ""),
        chat("refuse/provider_failed", secret),
        chat("late/peer_lost", &format!(r#""stream":true,{secret}"#)),
        chat("arknet/tiny", r#""logit_bias":{"SECRET":1},"#),
        chat("arknet/tiny", r#""temperature":"SECRET","#),
        r#"{"model":"arknet/tiny","input":"SECRET","prompt":"SECRET","query":"SECRET","documents":["SECRET"],"content":"SECRET"}"#.to_owned(),
        "{\"SECRET".to_owned(),
        "SECRET".to_owned(),
    ];
    for path in [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/embeddings",
        "/v1/rerank",
        "/tokenize",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/api/chat",
        "/api/generate",
        "/api/embed",
        "/api/show",
    ] {
        for body in &bodies {
            let request = post(path, &body.replace("one two", "SECRET"));
            client
                .send(request.replacen(
                    "\r\n",
                    "\r\nAuthorization: Bearer SECRET\r\nX-SECRET: SECRET\r\n",
                    1,
                ))
                .await;
            client.response().await;
        }
    }
    for path in
        ["/v1/models/SECRET", "/v1/responses/SECRET", "/SECRET?SECRET=SECRET", "/api/SECRET"]
    {
        client.get(path).await;
    }
}

#[tokio::test]
async fn nothing_that_was_written_is_logged() {
    let log = Log::default();
    // With one dispatcher alone, whether an event is wanted is asked of the thread that comes to it
    // first, which may be another test's that has none, and remembered for all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_writer(log.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (door, _) = watched().await;
    let mut client = door.client().await;
    whisper(&mut client).await;
    // What is no HTTP at all.
    let mut broken = door.client().await;
    broken.send("SECRET SECRET SECRET\r\nSECRET\r\n\r\n").await;
    broken.rest().await;
    assert_eq!(client.get("/health").await.status, 200);
    // What is said of a request may be said a moment after its answer.
    let said = async {
        loop {
            let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            if log.contains("not answered") {
                return log;
            }
            tokio::task::yield_now().await;
        }
    };
    let log = tokio::time::timeout(std::time::Duration::from_secs(10), said).await.unwrap();
    assert!(log.contains("arknet::request") && log.contains(r#"model="arknet/tiny""#));
    let line = log.lines().find(|line| line.contains("SECRET"));
    assert_eq!(line, None);
}
