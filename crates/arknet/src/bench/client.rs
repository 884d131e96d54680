//! One connection to a server, and the time when each piece of an answer came.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
    service::Service,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{client::legacy::connect::HttpConnector, service::TowerToHyperService};
use serde::Deserialize;
use serde_json::Value;

use super::{
    plan::{Plan, Target},
    sse::Events,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may take to end an answer after it said that it was done.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of an answer that is not a stream, and of the list of models.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of an error's body.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Pieces of one streamed answer: as many as tokens can be asked for.
const PIECES_MAX: usize = 1_000_000;
/// Characters of a server's words in an error.
const WORDS_MAX: usize = 200;

/// How a server answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Until the first piece that says something; none where the answer was not streamed.
    pub(super) first: Option<Duration>,
    /// Until the last such piece.
    pub(super) last: Duration,
    /// Between such pieces.
    pub(super) gaps: Vec<Duration>,
    /// Until the server said that it was done.
    pub(super) whole: Duration,
    pub(super) usage: Option<Usage>,
    pub(super) finish: Option<String>,
    /// What the model said, where that is needed again.
    pub(super) text: String,
    /// The kept connection was closed, so that another had to be made.
    pub(super) reconnected: bool,
}

impl Answer {
    /// Pieces of a streamed answer that said something.
    pub(super) fn pieces(&self) -> u64 {
        self.first.map_or(0, |_| self.gaps.len() as u64 + 1)
    }
}

/// What a server says an answer took.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

impl Usage {
    pub(super) fn cached_tokens(self) -> u64 {
        self.prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Failure {
    Connect(String),
    Timeout,
    /// The server closed the connection before the answer's end.
    Closed(String),
    Status {
        status: u16,
        code: Option<String>,
        message: String,
    },
    /// An error in the middle of a stream.
    Stream {
        code: Option<String>,
        message: String,
    },
    /// Not what the API says an answer is.
    Malformed(String),
    TooLarge,
}

impl Failure {
    /// What is counted together.
    pub(super) fn kind(&self) -> String {
        let with = |kind: String, code: &Option<String>| match code {
            Some(code) => format!("{kind} {code}"),
            None => kind,
        };
        match self {
            Self::Connect(_) => "connect".into(),
            Self::Timeout => "timeout".into(),
            Self::Closed(_) => "closed".into(),
            Self::Status { status, code, .. } => with(format!("http {status}"), code),
            Self::Stream { code, .. } => with("stream".into(), code),
            Self::Malformed(_) => "malformed".into(),
            Self::TooLarge => "too large".into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(words) => write!(f, "no connection: {words}"),
            Self::Timeout => f.write_str("no complete answer in time"),
            Self::Closed(words) => write!(f, "the answer broke off: {words}"),
            Self::Status { status, message, .. } => write!(f, "{status}: {message}"),
            Self::Stream { message, .. } => write!(f, "an error in the stream: {message}"),
            Self::Malformed(words) => write!(f, "not an answer: {words}"),
            Self::TooLarge => f.write_str("an answer beyond all limits"),
        }
    }
}

impl std::error::Error for Failure {}

/// One connection, kept between requests.
pub(super) struct Client {
    plan: Arc<Plan>,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// The server closed the connection after its last answer.
    lost: bool,
}

impl Client {
    pub(super) const fn new(plan: Arc<Plan>) -> Self {
        Self { plan, sender: None, lost: false }
    }

    /// Makes the connection, so that no request has to wait for it.
    pub(super) async fn connect(&mut self) -> Result<(), Failure> {
        if self.sender.is_none() {
            self.sender = Some(connection(&self.plan.target).await?);
        }
        Ok(())
    }

    /// Asks, and times the answer from before the request is sent.
    pub(super) async fn ask(&mut self, body: Bytes, keep_text: bool) -> Result<Answer, Failure> {
        let limit = self.plan.timeout;
        tokio::time::timeout(limit, self.exchange(body, keep_text))
            .await
            .unwrap_or(Err(Failure::Timeout))
    }

    /// The models that the server lists.
    pub(super) async fn models(&mut self) -> Result<Vec<String>, Failure> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Model>,
        }
        #[derive(Deserialize)]
        struct Model {
            id: String,
        }
        let get = async {
            let request = self.request("GET", "/models", Bytes::new())?;
            let mut sender = match self.sender.take() {
                Some(sender) => sender,
                None => connection(&self.plan.target).await?,
            };
            let response = sender.send_request(request).await.map_err(closed)?;
            let body = whole(accepted(response).await?).await?;
            let list: List = serde_json::from_slice(&body).map_err(malformed)?;
            self.sender = Some(sender);
            Ok(list.data.into_iter().map(|model| model.id).collect())
        };
        tokio::time::timeout(CONNECT_TIMEOUT, get).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&mut self, body: Bytes, keep_text: bool) -> Result<Answer, Failure> {
        let path = self.plan.endpoint.path();
        let request = self.request("POST", path, body)?;
        let start = Instant::now();
        let (mut sender, kept) = match self.sender.take() {
            Some(sender) => (sender, true),
            None => (connection(&self.plan.target).await?, false),
        };
        let mut reconnected = std::mem::take(&mut self.lost);
        let response = match sender.send_request(request.clone()).await {
            // Servers may close a kept connection whenever nothing is under way; every client then
            // tries again, once.
            Err(error) if kept && !error.is_parse() => {
                sender = connection(&self.plan.target).await?;
                reconnected = true;
                sender.send_request(request).await
            }
            sent => sent,
        };
        let response = accepted(response.map_err(closed)?).await?;
        let streamed = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        let mut answer = if streamed {
            stream(response.into_body(), start, keep_text).await?
        } else if self.plan.stream {
            return Err(Failure::Malformed("a stream was asked for, and none came".into()));
        } else {
            let body = whole(response).await?;
            let at = start.elapsed();
            let mut reading = Reading::new(keep_text);
            // What came as a whole says nothing of its first token.
            reading.take(&body, at)?;
            Answer { first: None, whole: at, gaps: Vec::new(), ..reading.answer }
        };
        answer.reconnected = reconnected;
        self.lost = sender.is_closed();
        self.sender = Some(sender).filter(|_| !self.lost);
        Ok(answer)
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let target = &self.plan.target;
        let mut request = Request::builder()
            .method(method)
            .uri(target.path(path))
            .header(HOST, &target.authority)
            .header(USER_AGENT, concat!("arknet-bench/", env!("CARGO_PKG_VERSION")));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = &self.plan.key {
            request = request.header(AUTHORIZATION, key);
        }
        request.body(Full::new(body)).map_err(|error| Failure::Connect(error.to_string()))
    }
}

/// Connects, with every packet sent at once.
async fn connection(target: &Target) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let connect = async {
        let stream = connector().call(target.uri()).await?;
        let (sender, connection) = http1::handshake(stream).await?;
        // Ends when its sender was dropped or the server closed it; errors reach who waits for an
        // answer.
        tokio::spawn(connection);
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sender)
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(Ok(sender)) => Ok(sender),
        Ok(Err(error)) => Err(Failure::Connect(causes(error.as_ref()))),
        Err(_) => Err(Failure::Connect("no answer in time".into())),
    }
}

fn connector() -> TowerToHyperService<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
    TowerToHyperService::new(tls.wrap_connector(tcp))
}

/// An error and what caused it.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The response where it is one, else the error that the server sent in its place.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (code, message) = match serde_json::from_slice::<Value>(&body) {
        Ok(value) => complaint(value.get("error").unwrap_or(&value)),
        Err(_) => (None, words(&String::from_utf8_lossy(&body))),
    };
    Err(Failure::Status { status: status.as_u16(), code, message })
}

/// Code and message of an error, in any of the shapes that servers send.
fn complaint(error: &Value) -> (Option<String>, String) {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let code = text("code").or_else(|| text("type")).filter(|code| {
        (1..=64).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    });
    let message = error.as_str().or_else(|| text("message")).unwrap_or("no message");
    (code.map(Into::into), words(message))
}

/// The beginning of what a server wrote, fit for a terminal.
fn words(text: &str) -> String {
    text.chars().take(WORDS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn closed(error: impl fmt::Display) -> Failure {
    Failure::Closed(error.to_string())
}

fn malformed(error: impl fmt::Display) -> Failure {
    Failure::Malformed(error.to_string())
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Failure::TooLarge
        } else {
            closed(error)
        }
    })
}

/// Reads a stream to its end.
async fn stream(mut body: Incoming, start: Instant, keep_text: bool) -> Result<Answer, Failure> {
    let (mut events, mut reading) = (Events::default(), Reading::new(keep_text));
    while !reading.done {
        let Some(frame) = body.frame().await else { break };
        let at = start.elapsed();
        let Ok(data) = frame.map_err(closed)?.into_data() else { continue };
        let mut result = Ok(());
        let pushed = events.push(&data, |event| {
            if result.is_ok() {
                result = reading.event(event, at);
            }
        });
        result?;
        pushed.map_err(|_| Failure::TooLarge)?;
    }
    if !reading.done {
        // Some servers leave out the last event; none leaves out why the answer ended.
        if reading.answer.finish.is_none() {
            return Err(Failure::Closed("the stream ended before the answer did".into()));
        }
        reading.answer.whole = start.elapsed();
    }
    // The connection can be used again once the body ended too.
    let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
    let _ = tokio::time::timeout(END_TIMEOUT, rest).await;
    Ok(reading.answer)
}

/// An answer as far as it came.
struct Reading {
    answer: Answer,
    keep_text: bool,
    done: bool,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(alias = "message")]
    delta: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    #[serde(alias = "reasoning")]
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<serde::de::IgnoredAny>>,
}

impl Reading {
    fn new(keep_text: bool) -> Self {
        Self { answer: Answer::default(), keep_text, done: false }
    }

    fn event(&mut self, event: &[u8], at: Duration) -> Result<(), Failure> {
        if event == b"[DONE]" {
            self.done = true;
            self.answer.whole = at;
            return Ok(());
        }
        self.take(event, at)
    }

    fn take(&mut self, chunk: &[u8], at: Duration) -> Result<(), Failure> {
        let chunk: Chunk = serde_json::from_slice(chunk).map_err(malformed)?;
        if let Some(error) = chunk.error.filter(|error| !error.is_null()) {
            let (code, message) = complaint(&error);
            return Err(Failure::Stream { code, message });
        }
        self.answer.usage = chunk.usage.or(self.answer.usage);
        for choice in chunk.choices {
            self.choice(choice, at)?;
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice, at: Duration) -> Result<(), Failure> {
        let mut says = false;
        let delta = choice.delta.as_ref();
        for text in [choice.text.as_ref(), delta.and_then(|delta| delta.content.as_ref())] {
            let Some(text) = text else { continue };
            says |= !text.is_empty();
            if self.keep_text {
                self.answer.text.push_str(text);
            }
        }
        if let Some(delta) = delta {
            says |= delta.reasoning_content.as_ref().is_some_and(|text| !text.is_empty());
            says |= delta.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        }
        if says {
            if self.answer.first.is_some() {
                if self.answer.gaps.len() >= PIECES_MAX {
                    return Err(Failure::TooLarge);
                }
                self.answer.gaps.push(at.saturating_sub(self.answer.last));
            } else {
                self.answer.first = Some(at);
            }
            self.answer.last = at;
        }
        if choice.finish_reason.is_some() {
            self.answer.finish = choice.finish_reason;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(events: &[&str]) -> Result<Answer, Failure> {
        let mut reading = Reading::new(true);
        for (place, event) in events.iter().enumerate() {
            reading.event(event.as_bytes(), Duration::from_millis(10 * (place as u64 + 1)))?;
        }
        Ok(reading.answer)
    }

    #[test]
    fn only_pieces_that_say_something_are_timed() {
        let answer = read(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"hm"}}],"usage":null}"#,
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,
                "prompt_tokens_details":{"cached_tokens":5}}}"#,
            "[DONE]",
        ])
        .unwrap();
        let ms = Duration::from_millis;
        assert_eq!((answer.first, answer.last, answer.whole), (Some(ms(20)), ms(40), ms(70)));
        assert_eq!(answer.gaps, [ms(10), ms(10)]);
        assert_eq!(answer.pieces(), 3);
        assert_eq!((answer.text.as_str(), answer.finish.as_deref()), ("a", Some("stop")));
        let usage = answer.usage.unwrap();
        assert_eq!(
            (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens()),
            (7, 3, 5)
        );
    }

    #[test]
    fn completions_say_their_text_elsewhere() {
        let answer = read(&[
            r#"{"choices":[{"text":"a","finish_reason":null}]}"#,
            r#"{"choices":[{"text":"b","finish_reason":"length"}]}"#,
        ])
        .unwrap();
        assert_eq!((answer.pieces(), answer.text.as_str()), (2, "ab"));
    }

    #[test]
    fn what_went_wrong_has_a_kind() {
        for (event, kind) in [
            (
                r#"{"error":{"message":"gone","code":"peer_lost","type":"api_error"}}"#,
                "stream peer_lost",
            ),
            (
                r#"{"error":{"message":"gone","code":500,"type":"server_error"}}"#,
                "stream server_error",
            ),
            (r#"{"error":"gone"}"#, "stream"),
            (r#"{"error":{"code":"one two\u001b[31m"}}"#, "stream"),
            ("{", "malformed"),
            (r#"{"choices":7}"#, "malformed"),
        ] {
            assert_eq!(read(&[event]).unwrap_err().kind(), kind, "{event}");
        }
        let long = Value::String(format!("\u{1b}[31m{}", "x".repeat(WORDS_MAX)));
        let (_, words) = complaint(&long);
        assert_eq!(words.chars().count(), WORDS_MAX);
        assert!(!words.contains('\u{1b}'));
    }
}
