use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arknet_types::{FinishReason, Reply, Usage};
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;

use crate::{
    Answer, ApiError, Dispatch, Limits, Options, body,
    guard::{self, Hosts},
    id::{Ids, RequestId},
    openai::{self, Answered, Asked, Endpoint, Head, model_json, models_json},
    sse::{EventStream, broken_off, failure},
};

const PEER: HeaderName = HeaderName::from_static("x-arknet-peer");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything behind one listener.
pub(crate) struct Door {
    hosts: Hosts,
    routes: TowerToHyperService<Router>,
    desk: Arc<Desk>,
}

/// What the routes share.
struct Desk {
    dispatch: Arc<dyn Dispatch>,
    limits: Limits,
    ids: Ids,
    /// When the door opened, in seconds since the epoch. Models are listed as created then: nobody
    /// knows when theirs were made.
    opened: u64,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, dispatch: Arc<dyn Dispatch>, options: Options) -> Self {
        let desk = Arc::new(Desk {
            dispatch,
            limits: options.limits,
            ids: Ids::new(),
            opened: unix_seconds(),
        });
        let routes = Router::new()
            .route("/health", get(health))
            .route("/v1/chat/completions", post(chat))
            .route("/v1/completions", post(completion))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .with_state(Arc::clone(&desk));
        Self {
            hosts: Hosts::new(address.ip(), &options.allowed_hosts),
            routes: TowerToHyperService::new(routes),
            desk,
        }
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let mut response = match guard::check(&self.hosts, method, uri, headers) {
            Ok(()) => match self.routes.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            Err(error) => error.into_response(),
        };
        let headers = response.headers_mut();
        if !headers.contains_key(&REQUEST_ID) {
            headers.insert(REQUEST_ID, header_value(&self.desk.ids.next().to_string()));
        }
        response
    }
}

async fn chat(state: State<Arc<Desk>>, request: Request) -> Response {
    ask(state, request, Endpoint::Chat).await
}

async fn completion(state: State<Arc<Desk>>, request: Request) -> Response {
    ask(state, request, Endpoint::Completion).await
}

async fn ask(State(desk): State<Arc<Desk>>, request: Request, endpoint: Endpoint) -> Response {
    let id = desk.ids.next();
    let mut response = match desk.ask(id, request, endpoint).await {
        Ok(response) => response,
        Err(error) => {
            let (status, code) = (error.status().as_u16(), error.stable_code());
            tracing::debug!(request = %id, status, code, "not answered");
            error.into_response()
        }
    };
    let id = header_value(&id.to_string());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

impl Desk {
    async fn ask(
        &self,
        id: RequestId,
        request: Request,
        endpoint: Endpoint,
    ) -> Result<Response, ApiError> {
        let (parts, body) = request.into_parts();
        let body = body::read(&parts.headers, body, &self.limits).await?;
        let asked = match endpoint {
            Endpoint::Chat => openai::chat(&body)?,
            Endpoint::Completion => openai::completion(&body)?,
        };
        drop(body);
        let Asked { request, stream, include_usage } = asked;
        let head = Head {
            endpoint,
            id: Head::id(endpoint, &id.to_string()),
            created: unix_seconds(),
            model: request.model.clone(),
        };
        let answer = self.dispatch.infer(request).await.map_err(failure)?;
        let peer = header_value(&answer.peer.peer_id());
        let mut response = if stream {
            self.stream(head, include_usage, answer).await?
        } else {
            self.gather(head, answer).await?
        };
        response.headers_mut().insert(PEER, peer);
        Ok(response)
    }

    async fn stream(
        &self,
        head: Head,
        include_usage: bool,
        mut answer: Answer,
    ) -> Result<Response, ApiError> {
        // A refusal in place of the first token still becomes a status.
        let first = loop {
            match answer.replies.next().await {
                Some(Reply::Alive) => {}
                Some(Reply::Refused(refusal)) => return Err(failure(refusal)),
                Some(reply) => break reply,
                None => return Err(failure(broken_off())),
            }
        };
        let events = EventStream::new(head, include_usage, first, answer.replies, &self.limits);
        let mut response = Response::new(Body::new(events));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream; charset=utf-8"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Asks nginx, where there is one, not to hold tokens back.
        headers
            .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }

    async fn gather(&self, head: Head, mut answer: Answer) -> Result<Response, ApiError> {
        let (text, finish, usage) = self.whole(&mut answer).await?;
        Ok(json(head.answer_json(&Answered { text: &text, finish, usage })))
    }

    async fn whole(&self, answer: &mut Answer) -> Result<(String, FinishReason, Usage), ApiError> {
        let mut whole = String::new();
        while let Some(reply) = answer.replies.next().await {
            match reply {
                Reply::Alive => {}
                Reply::Text { text, .. } => {
                    if whole.len() + text.len() > self.limits.answer_bytes_max {
                        return Err(answer_too_large(self.limits.answer_bytes_max));
                    }
                    whole.push_str(&text);
                }
                Reply::Done { finish, usage } => return Ok((whole, finish, usage)),
                Reply::Refused(refusal) => return Err(failure(refusal)),
            }
        }
        Err(failure(broken_off()))
    }
}

async fn models(State(desk): State<Arc<Desk>>) -> Response {
    json(models_json(&desk.dispatch.models(), desk.opened))
}

async fn model(
    State(desk): State<Arc<Desk>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Ok(Path(id)) = id else {
        return Err(unknown_route().await);
    };
    let models = desk.dispatch.models();
    let found = models.iter().find(|model| model.name.as_str() == id);
    found
        .map(|model| json(model_json(model, desk.opened)))
        .ok_or_else(|| ApiError::unknown_model(&id))
}

async fn health() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json(format!(r#"{{"status":"ok","version":"{version}"}}"#).into_bytes())
}

async fn unknown_route() -> ApiError {
    ApiError::invalid(
        StatusCode::NOT_FOUND,
        "There is nothing at this URL. The API lives under /v1.",
    )
    .code("unknown_url")
}

async fn wrong_method() -> ApiError {
    ApiError::invalid(StatusCode::METHOD_NOT_ALLOWED, "This URL does not take this method.")
        .code("method_not_allowed")
}

fn answer_too_large(max: usize) -> ApiError {
    ApiError {
        kind: "api_error",
        ..ApiError::invalid(
            StatusCode::BAD_GATEWAY,
            format!("The answer has more than {max} bytes. Ask for a stream."),
        )
        .code("answer_too_large")
    }
}

fn json(body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("ids are plain ASCII")
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
