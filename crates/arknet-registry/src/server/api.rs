//! The requests, one by one. See `spec/registry.md`.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arknet_types::{
    ModelName, PublicKey, RegistryEntry, RegistryError, RegistryName, RegistryWithdrawal,
    Timestamp,
    limits::{REGISTRY_ENTRIES_PER_PAGE_MAX, REGISTRY_ENTRY_BYTES_MAX},
};
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, Query as Parameters, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    ServerOptions,
    origin::{self, Remote},
};
use crate::{
    Query, Store, StoreError, Told,
    limits::{COUNTED_MAX, REQUEST_TIME_MAX},
    rates::Rates,
};

/// What the requests share.
pub(super) struct Desk {
    options: ServerOptions,
    store: Arc<dyn Store>,
    reads: Mutex<Rates<IpAddr>>,
    writes: Mutex<Rates<IpAddr>>,
    writes_of_key: Mutex<Rates<PublicKey>>,
    /// Keys that the database remembers, by the last count and what came since.
    keys: AtomicU64,
}

/// A request that is refused.
struct Refused {
    status: StatusCode,
    code: &'static str,
    words: String,
    again: Option<Duration>,
}

impl Refused {
    fn new(status: StatusCode, code: &'static str, words: impl Into<String>) -> Self {
        Self { status, code, words: words.into(), again: None }
    }

    fn rate(words: &str, again: Duration) -> Self {
        let refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", words);
        Self { again: Some(again), ..refused }
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        let status = match error {
            RegistryError::Forged => StatusCode::FORBIDDEN,
            RegistryError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "a request could not be answered");
        let words = "the database does not answer; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", words)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.words, "code": self.code }));
        let mut response = (self.status, body).into_response();
        if let Some(again) = self.again {
            let seconds = again.as_millis().div_ceil(1000).to_string();
            if let Ok(value) = HeaderValue::from_str(&seconds) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        response
    }
}

/// All requests by path and method.
pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/entries", get(list).post(register))
        .route("/v1/withdrawals", post(withdraw))
        .route("/health", get(async || Json(json!({ "status": "ok" }))))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .layer(DefaultBodyLimit::max(REGISTRY_ENTRY_BYTES_MAX))
        .with_state(desk)
}

/// The answer, if it is there in time.
pub(super) async fn in_time(
    answer: impl Future<Output = Result<Response, Infallible>>,
) -> Response {
    let mut response = match timeout(REQUEST_TIME_MAX, answer).await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let words = "the request did not arrive in time";
            Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", words).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn nothing() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "not_found", "no such path or method")
}

async fn register(
    State(desk): State<Arc<Desk>>,
    Extension(remote): Extension<Remote>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let now = desk.now();
    desk.count(&desk.writes, now, desk.address(remote, &headers))?;
    let entry = RegistryEntry::parse(&whole(body)?)?;
    let body = &entry.body;
    entry.check(&desk.options.network, desk.name(&body.registry)?, now)?;
    // After the signature: nobody uses up the turns of another's key.
    desk.count_key(now, body.public_key)?;
    desk.make_room(&body.public_key).await?;
    desk.hold(desk.store.put(&entry).await?)?;
    Ok(Json(json!({ "registered": true, "expires_at_ms": body.expires_at.0 })))
}

async fn withdraw(
    State(desk): State<Arc<Desk>>,
    Extension(remote): Extension<Remote>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, Refused> {
    let now = desk.now();
    desk.count(&desk.writes, now, desk.address(remote, &headers))?;
    let withdrawal = RegistryWithdrawal::parse(&whole(body)?)?;
    let body = &withdrawal.body;
    withdrawal.check(&desk.options.network, desk.name(&body.registry)?, now)?;
    desk.count_key(now, body.public_key)?;
    desk.make_room(&body.public_key).await?;
    desk.hold(desk.store.withdraw(&withdrawal).await?)?;
    Ok(Json(json!({ "withdrawn": true })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParameters {
    model: Option<ModelName>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(desk): State<Arc<Desk>>,
    Extension(remote): Extension<Remote>,
    headers: HeaderMap,
    parameters: Result<Parameters<ListParameters>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let now = desk.now();
    desk.count(&desk.reads, now, desk.address(remote, &headers))?;
    let invalid = |words: &str| Refused::new(StatusCode::BAD_REQUEST, "invalid_query", words);
    let Parameters(asked) = parameters.map_err(|error| invalid(&error.body_text()))?;
    let after = asked.after.map(|text| PublicKey::from_peer_id(&text)).transpose();
    let after = after.map_err(|_| invalid("after is not a peer id"))?;
    let limit = asked.limit.unwrap_or(REGISTRY_ENTRIES_PER_PAGE_MAX);
    if !(1..=REGISTRY_ENTRIES_PER_PAGE_MAX).contains(&limit) {
        return Err(invalid("limit goes from 1 to 100"));
    }
    // One more than is asked for tells whether there is a next page.
    let query = Query { model: asked.model, after, limit: limit + 1 };
    let mut entries = desk.store.list(&query, now).await?;
    let is_last = entries.len() <= limit;
    entries.truncate(limit);
    let last = entries.last().map(|entry| entry.body.public_key.peer_id());
    let next = if is_last { None } else { last };
    Ok(Json(json!({ "entries": entries, "next": next })))
}

fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refused> {
    body.map_err(|error| {
        let status = error.status();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "malformed" };
        Refused::new(status, code, format!("at most {REGISTRY_ENTRY_BYTES_MAX} bytes, whole"))
    })
}

impl Desk {
    pub(super) fn new(options: ServerOptions, store: Arc<dyn Store>) -> Self {
        Self {
            reads: Mutex::new(Rates::new(options.reads, COUNTED_MAX)),
            writes: Mutex::new(Rates::new(options.writes, COUNTED_MAX)),
            writes_of_key: Mutex::new(Rates::new(options.writes_of_key, COUNTED_MAX)),
            keys: AtomicU64::new(0),
            options,
            store,
        }
    }

    pub(super) fn database(&self) -> &'static str {
        self.store.kind()
    }

    /// Forgets what has expired.
    pub(super) async fn sweep(&self) -> Result<(), StoreError> {
        let keys = self.store.sweep(self.now()).await?;
        self.keys.store(keys, Ordering::Relaxed);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        (self.options.clock)()
    }

    fn address(&self, remote: Remote, headers: &HeaderMap) -> IpAddr {
        origin::counted(remote, headers, &self.options.trusted_proxies)
    }

    /// The one of this registry's names that is meant.
    fn name(&self, meant: &RegistryName) -> Result<&RegistryName, Refused> {
        let found = self.options.names.iter().find(|name| *name == meant);
        found.ok_or_else(|| RegistryError::WrongRegistry.into())
    }

    fn count(
        &self,
        rates: &Mutex<Rates<IpAddr>>,
        now: Timestamp,
        address: IpAddr,
    ) -> Result<(), Refused> {
        let taken = rates.lock().unwrap_or_else(PoisonError::into_inner).take(now, address);
        taken.map_err(|again| Refused::rate("too many requests from this address", again))
    }

    fn count_key(&self, now: Timestamp, key: PublicKey) -> Result<(), Refused> {
        let mut rates = self.writes_of_key.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = rates.take(now, key);
        taken.map_err(|again| Refused::rate("this key has told too much in a short time", again))
    }

    /// Refuses a key that is new where no more fit.
    async fn make_room(&self, key: &PublicKey) -> Result<(), Refused> {
        let is_full = self.keys.load(Ordering::Relaxed) >= self.options.keys_max;
        if is_full && !self.store.knows(key).await? {
            let words = "no more nodes fit into this registry";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "full", words));
        }
        Ok(())
    }

    fn hold(&self, told: Told) -> Result<(), Refused> {
        match told {
            Told::Added => {
                self.keys.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Told::Replaced => Ok(()),
            Told::Superseded => {
                let words = "something with this sequence or a higher one was told before";
                Err(Refused::new(StatusCode::CONFLICT, "superseded", words))
            }
        }
    }
}
