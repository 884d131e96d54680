//! What every route of every door does alike: admit, read, dispatch, stream or gather, keep count.

use std::{
    future::{Future, poll_fn},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arknet_types::{ModelName, PublicKey, Refusal, Reply};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::Response,
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, try_join_all},
};
use tokio::time::timeout;
use tracing::Instrument;

use crate::{
    Answer, ApiError, Ask, Dispatch, KeyError, Keys, Limits, ListedModel, Observer, Options, Pass,
    Right,
    body::{self, Hold, Room},
    dialect::Dialect,
    encode::Encode,
    flow::{Begun, Flow},
    gather::{Expected, Gathered, broken_off, gather, too_late},
    id::{Ids, RequestId},
    openai::Shelf,
    trail::Trail,
};

pub(crate) const PEER: HeaderName = HeaderName::from_static("x-arknet-peer");
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The name Anthropic's clients look for.
const REQUEST_ID_ANTHROPIC: HeaderName = HeaderName::from_static("request-id");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The routes of one door.
pub(crate) type Routes = Router<Arc<Desk>>;

/// What the routes share.
pub(crate) struct Desk {
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) limits: Limits,
    pub(crate) ids: Ids,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    /// When the door opened, in seconds since the epoch: what is said of models whose age nobody
    /// knows.
    pub(crate) opened: u64,
    /// Answers that others can go on from.
    pub(crate) shelf: Arc<Shelf>,
    hold: Hold,
    keys: Option<Arc<dyn Keys>>,
    free: Pass,
    /// Tells keys apart without keeping them.
    owners: RandomState,
    /// Who answered last, as it is said to clients: writing a name takes long, and it is mostly the
    /// same.
    answered_last: Mutex<Option<(PublicKey, HeaderValue)>>,
}

impl Desk {
    pub(crate) fn new(dispatch: Arc<dyn Dispatch>, options: Options) -> Self {
        Self {
            dispatch,
            ids: Ids::new(),
            observer: options.observer,
            opened: unix_seconds(),
            shelf: Arc::new(Shelf::new(&options.limits)),
            hold: Hold::new(&options.limits),
            owners: RandomState::new(),
            answered_last: Mutex::default(),
            limits: options.limits,
            keys: options.keys,
            free: Arc::new(Free),
        }
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Pass, ApiError> {
        let Some(keys) = &self.keys else {
            return Ok(Arc::clone(&self.free));
        };
        let key = key(headers).map_err(|error| ApiError::from_key(&error))?;
        keys.admit(key).map_err(|error| ApiError::from_key(&error))
    }

    fn name(&self, peer: PublicKey) -> HeaderValue {
        let mut last = self.answered_last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, name)) if *known == peer => name.clone(),
            _ => last.insert((peer, header_value(&peer.peer_id()))).1.clone(),
        }
    }
}

/// The right of those who need none.
struct Free;

impl Right for Free {
    fn allows(&self, _: &ModelName) -> bool {
        true
    }

    fn spend(&self, _: u64) {}
}

/// The key that came with a request, in either of the ways apps send one.
fn key(headers: &HeaderMap) -> Result<Option<&str>, KeyError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let text = value.to_str().map_err(|_| KeyError::Unknown)?;
        let (scheme, key) = text.split_once(' ').unwrap_or((text, ""));
        // Apps in which no key was set send the scheme alone.
        if scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty() {
            return Ok(Some(key.trim()));
        }
    }
    let value = headers.get(API_KEY);
    value.map(|value| value.to_str().map_err(|_| KeyError::Unknown)).transpose()
}

/// One request under way.
pub(crate) struct Call {
    pub(crate) desk: Arc<Desk>,
    pub(crate) id: RequestId,
    pub(crate) parts: Parts,
    pass: Pass,
    trail: Arc<Trail>,
    /// What the body takes of the memory for such, until somebody answers.
    room: Arc<Room>,
}

/// Makes a function from a request's body to its response a route. What goes before and after is
/// the same everywhere: the key is judged, the body read, failures get the door's shape, and the end
/// is recorded.
pub(crate) fn route<H, F>(
    dialect: Dialect,
    endpoint: &'static str,
    handle: H,
) -> impl Fn(State<Arc<Desk>>, Request) -> BoxFuture<'static, Response> + Clone + Send + Sync + 'static
where
    H: Fn(Call, Bytes) -> F + Copy + Send + Sync + 'static,
    F: Future<Output = Result<Response, ApiError>> + Send + 'static,
{
    move |State(desk), request| run(desk, request, dialect, endpoint, handle).boxed()
}

async fn run<H, F>(
    desk: Arc<Desk>,
    request: Request,
    dialect: Dialect,
    endpoint: &'static str,
    handle: H,
) -> Response
where
    H: Fn(Call, Bytes) -> F,
    F: Future<Output = Result<Response, ApiError>>,
{
    let id = desk.ids.next();
    let trail = Trail::new(dialect.name(), endpoint, id, desk.observer.clone());
    trail.follow(request.headers());
    let span = trail.span().clone();
    let named = Arc::clone(&desk);
    let answered = async {
        let (parts, mut body) = request.into_parts();
        let pass = match desk.admit(&parts.headers) {
            Ok(pass) => pass,
            Err(error) => {
                if !parts.headers.contains_key(header::EXPECT) {
                    body::discard(&mut body).await;
                }
                return Err(error);
            }
        };
        trail.admitted(Arc::clone(&pass));
        let (body, room) = body::read(&parts.headers, body, &desk.limits, &desk.hold).await?;
        trail.received(body.len());
        let (trail, room) = (Arc::clone(&trail), Arc::new(room));
        handle(Call { desk, id, parts, pass, trail, room }, body).await
    };
    let mut response = match answered.instrument(span).await {
        Ok(response) => {
            trail.decided(response.status().as_u16(), None);
            response
        }
        Err(error) => {
            let response = dialect.refuse_request(&error, &id.to_string());
            let (status, code) = (response.status().as_u16(), error.stable_code());
            tracing::debug!(request = %id, status, code, "not answered");
            trail.decided(status, code);
            response
        }
    };
    if let Some(bytes) = http_body::Body::size_hint(response.body()).exact() {
        trail.sent(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let headers = response.headers_mut();
    let id = header_value(&id.to_string());
    if dialect == Dialect::Anthropic {
        headers.insert(REQUEST_ID_ANTHROPIC, id.clone());
    }
    headers.insert(REQUEST_ID, id);
    if let Some(peer) = trail.peer() {
        headers.insert(PEER, named.name(peer));
    }
    response
}

impl Call {
    /// Refuses a model that the key is not for.
    pub(crate) fn allow(&self, model: &ModelName) -> Result<(), ApiError> {
        if self.pass.allows(model) {
            return Ok(());
        }
        Err(ApiError::from_key(&KeyError::Model).about("model"))
    }

    /// Refuses a key that is for some models alone.
    pub(crate) fn allow_all(&self) -> Result<(), ApiError> {
        self.allow(&ModelName::new("*").expect("a star is a name"))
    }

    /// When the first piece of the answer came.
    pub(crate) fn first_piece(&self) -> Option<Instant> {
        self.trail.first_piece()
    }

    /// To whom belongs what this request leaves behind.
    pub(crate) fn owner(&self) -> u64 {
        self.desk.owners.hash_one(key(&self.parts.headers).ok().flatten())
    }

    /// The models that can be asked with this key.
    pub(crate) fn models(&self) -> Vec<ListedModel> {
        let mut models = self.desk.dispatch.models();
        models.retain(|model| self.pass.allows(&model.name));
        models
    }

    /// Answers piece by piece, as `encoder` writes it. A refusal that comes before the first piece
    /// becomes an error, if it comes before a client would take the silence for the end.
    pub(crate) async fn stream(
        &self,
        asks: Vec<Ask>,
        encoder: Box<dyn Encode>,
    ) -> Result<Response, ApiError> {
        for ask in &asks {
            self.allow(&ask.infer.model)?;
        }
        self.trail.dispatched(&asks, true);
        let kind = encoder.content_type();
        let waiting = asks.into_iter().map(|ask| self.begin(ask)).collect();
        let limits = &self.desk.limits;
        let mut flow = Flow::new(encoder, waiting, limits, Arc::clone(&self.trail));
        if let Ok(begun) = timeout(limits.keepalive(), poll_fn(|cx| flow.poll_begin(cx))).await {
            begun.or_else(|refusal| flow.refuse(refusal)).map_err(ApiError::from_refusal)?;
        }
        let mut response = Response::new(Body::new(flow));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Asks nginx, where there is one, not to hold tokens back.
        headers
            .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }

    /// Waits for the first piece of an answer.
    fn begin(&self, ask: Ask) -> BoxFuture<'static, Result<Begun, Refusal>> {
        let dispatch = Arc::clone(&self.desk.dispatch);
        let (trail, room) = (Arc::clone(&self.trail), Arc::clone(&self.room));
        async move {
            let model = ask.infer.model.clone();
            let Answer { peer, mut replies } = dispatch.infer(ask).await?;
            drop(room);
            trail.answered(&model, peer);
            loop {
                match replies.next().await {
                    Some(Reply::Alive) => {}
                    Some(Reply::Refused(refusal)) => return Err(refusal),
                    Some(first) => return Ok(Begun { first, replies }),
                    None => return Err(broken_off()),
                }
            }
        }
        .boxed()
    }

    /// Answers at once.
    pub(crate) async fn gather(&self, ask: Ask) -> Result<Gathered, ApiError> {
        self.allow(&ask.infer.model)?;
        self.trail.dispatched(std::slice::from_ref(&ask), false);
        let max = self.desk.limits.answer_bytes_max;
        timeout(self.desk.limits.answer(), self.whole(ask, max))
            .await
            .unwrap_or_else(|_| Err(too_late()))
    }

    /// Several answers at once, in the order of `asks`. The first failure is that of all.
    pub(crate) async fn gather_all(&self, asks: Vec<Ask>) -> Result<Vec<Gathered>, ApiError> {
        for ask in &asks {
            self.allow(&ask.infer.model)?;
        }
        self.trail.dispatched(&asks, false);
        let max = self.desk.limits.answer_bytes_max / asks.len().max(1);
        let all = try_join_all(asks.into_iter().map(|ask| self.whole(ask, max)));
        timeout(self.desk.limits.answer(), all).await.unwrap_or_else(|_| Err(too_late()))
    }

    async fn whole(&self, ask: Ask, bytes_max: usize) -> Result<Gathered, ApiError> {
        let expected = Expected::of(&ask.infer.input);
        let model = ask.infer.model.clone();
        let answer = self.desk.dispatch.infer(ask).await.map_err(ApiError::from_refusal)?;
        self.trail.answered(&model, answer.peer);
        gather(answer, expected, bytes_max, &self.trail).await
    }
}

/// A response of JSON.
pub(crate) fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids are plain ASCII")
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_in_either_header() {
        for (name, value, expected) in [
            ("authorization", "Bearer sk-ark-1", Ok(Some("sk-ark-1"))),
            ("authorization", "bearer  sk-ark-1 ", Ok(Some("sk-ark-1"))),
            ("authorization", "Basic c2s=", Ok(None)),
            ("authorization", "sk-ark-1", Ok(None)),
            ("authorization", "Bearer", Ok(None)),
            ("authorization", "Bearer ", Ok(None)),
            ("x-api-key", "sk-ark-1", Ok(Some("sk-ark-1"))),
            ("accept", "sk-ark-1", Ok(None)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(key(&headers), expected, "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(key(&headers), Err(KeyError::Unknown));
    }
}
