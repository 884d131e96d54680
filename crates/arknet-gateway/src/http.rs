use std::{net::SocketAddr, sync::Arc};

use arknet_types::Hosts;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
    routing::get,
};
use bytes::Bytes;
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;

use crate::{
    ApiError, Dispatch, METRICS_CONTENT_TYPE, Options, anthropic,
    desk::{Call, Desk, REQUEST_ID, header_value, json, route},
    dialect::Dialect,
    guard::{self, Origins},
    ollama, openai,
};

/// Everything behind one listener.
pub(crate) struct Door {
    hosts: Hosts,
    origins: Origins,
    routes: TowerToHyperService<Router>,
    desk: Arc<Desk>,
}

impl Door {
    pub(crate) fn new(address: SocketAddr, dispatch: Arc<dyn Dispatch>, options: Options) -> Self {
        let hosts = Hosts::new(address.ip(), &options.allowed_hosts);
        let origins = Origins::new(&options.allowed_origins);
        let desk = Arc::new(Desk::new(dispatch, options));
        let routes = Router::new()
            .route("/health", get(health))
            .route("/metrics", get(route(Dialect::OpenAi, "metrics", metrics)))
            .merge(openai::routes())
            .merge(anthropic::routes())
            .merge(ollama::routes())
            .fallback(unknown_route)
            .method_not_allowed_fallback(wrong_method)
            .with_state(Arc::clone(&desk));
        Self { hosts, origins, routes: TowerToHyperService::new(routes), desk }
    }

    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let guest = match guard::check(&self.hosts, &self.origins, method, uri, headers) {
            Ok(guest) => guest,
            Err(error) => return self.named(Dialect::of(uri.path()).refuse(&error)),
        };
        // What a browser asks before it lets a page ask.
        if let Some(origin) = &guest
            && method == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            return self.named(guard::welcome(origin.clone(), wanted));
        }
        let mut response = match self.routes.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if let Some(origin) = guest {
            guard::show(&mut response, origin);
        }
        self.named(response)
    }

    fn named(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if !headers.contains_key(&REQUEST_ID) {
            headers.insert(REQUEST_ID, header_value(&self.desk.ids.next().to_string()));
        }
        response
    }
}

async fn health() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    json(format!(r#"{{"status":"ok","version":"{version}"}}"#).into_bytes())
}

async fn metrics(call: Call, _: Bytes) -> Result<Response, ApiError> {
    // They tell of all models and peers.
    call.allow_all()?;
    let observer = call.desk.observer.as_ref().ok_or_else(nothing_here)?;
    let mut response = json(observer.metrics().await.into_bytes());
    let kind = HeaderValue::from_static(METRICS_CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn unknown_route(uri: Uri) -> Response {
    Dialect::of(uri.path()).refuse(&nothing_here())
}

fn nothing_here() -> ApiError {
    ApiError::invalid(
        StatusCode::NOT_FOUND,
        "There is nothing at this URL. The APIs live under /v1 and /api.",
    )
    .code("unknown_url")
}

async fn wrong_method(uri: Uri) -> Response {
    let error =
        ApiError::invalid(StatusCode::METHOD_NOT_ALLOWED, "This URL does not take this method.")
            .code("method_not_allowed");
    Dialect::of(uri.path()).refuse(&error)
}
