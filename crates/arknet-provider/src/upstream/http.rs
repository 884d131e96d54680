//! The HTTP client: connections to one host, kept and used again.

use std::{
    error::Error as _,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body as _, Incoming},
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
        USER_AGENT,
    },
    rt::{Read, ReadBufCursor, Write},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector, capture_connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use super::{
    limits::{HEAD_BYTES_MAX, HEADERS_MAX, IDLE_CONNECTION},
    options::{OptionsError, UpstreamOptions},
    target::{Place, UpstreamKind},
};

/// Connections that may turn out to be closed before a new one is made.
const STALE_MAX: usize = 3;

/// The version of Anthropic's API that we speak.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the upstream could not be reached")]
    Connect,
    #[error("the upstream broke off the connection")]
    Broken,
    #[error("the upstream's answer is larger than allowed")]
    TooLarge,
    #[error("the upstream compresses its answer without having been asked to")]
    Encoded,
}

/// A client of one server.
pub(super) struct Http {
    client: Client<Connector, Full<Bytes>>,
    uris: Vec<(Place, Uri)>,
    headers: HeaderMap,
}

impl Http {
    pub(super) fn new(options: &UpstreamOptions) -> Result<Self, OptionsError> {
        options.check()?;
        let base = options.base()?;
        let uris = Place::ALL.into_iter().map(|place| {
            let (is_versioned, path) = place.path();
            let before = if is_versioned { &base.versioned } else { &base.root };
            let uri = format!("{before}{path}").parse().map_err(|_| OptionsError::Url)?;
            Ok((place, uri))
        });
        let uris = uris.collect::<Result<Vec<_>, _>>()?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        // No proxies: keys go to the configured host and nowhere else. HTTP/1 alone: one request on
        // one connection, so that giving a request up is closing its connection.
        let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        let connector = Connector {
            inner: tls.wrap_connector(tcp),
            timeout: Duration::from_secs(options.timeouts.connect_s),
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(options.slots.into())
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http1_max_headers(HEADERS_MAX)
            .build(connector);
        Ok(Self { client, uris, headers: headers(options)? })
    }

    /// Asks, and waits for the head of the answer.
    pub(super) async fn ask(
        &self,
        place: Place,
        body: Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (result, was_used) = self.ask_once(place, body.clone()).await;
            match result {
                // The server had closed a kept connection while the request was on its way.
                Err(HttpError::Broken) if was_used && attempts <= STALE_MAX => {}
                other => return other,
            }
        }
    }

    async fn ask_once(
        &self,
        place: Place,
        body: Bytes,
    ) -> (Result<Response<Incoming>, HttpError>, bool) {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = if place.is_get() { Method::GET } else { Method::POST };
        *request.headers_mut() = self.headers.clone();
        if let Some((_, uri)) = self.uris.iter().find(|(one, _)| *one == place) {
            request.uri_mut().clone_from(uri);
        }
        let captured = capture_connection(&mut request);
        let result = self.client.request(request).await;
        let uses = captured.connection_metadata().as_ref().and_then(|connected| {
            let mut extensions = hyper::http::Extensions::new();
            connected.get_extras(&mut extensions);
            extensions.remove::<Uses>()
        });
        let was_used = uses.is_some_and(|uses| uses.0.fetch_add(1, Ordering::Relaxed) > 0);
        match result {
            Ok(response) if is_encoded(&response) => (Err(HttpError::Encoded), was_used),
            Ok(response) => (Ok(response), was_used),
            Err(error) if error.is_connect() => (Err(HttpError::Connect), was_used),
            Err(error) => {
                let parse = error.source().and_then(|e| e.downcast_ref::<hyper::Error>());
                let is_head = parse.is_some_and(|e| e.is_parse_too_large());
                (Err(if is_head { HttpError::TooLarge } else { HttpError::Broken }), was_used)
            }
        }
    }
}

/// A status, and headers that matter.
pub(super) fn retry_after_ms(response: &Response<Incoming>) -> Option<u64> {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    super::errors::retry_after_ms(text("retry-after-ms"), text("retry-after"))
}

pub(super) fn is_well(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::OK
}

/// The whole of a body, if it is no larger than `max`.
pub(super) async fn whole(mut body: Incoming, max: usize) -> Result<Vec<u8>, HttpError> {
    if body.size_hint().lower() > max as u64 {
        return Err(HttpError::TooLarge);
    }
    let mut bytes = vec![];
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| HttpError::Broken)?;
        if let Some(data) = frame.data_ref() {
            if bytes.len() + data.len() > max {
                return Err(HttpError::TooLarge);
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// The beginning of a body, for what it may say of an error.
pub(super) async fn beginning(mut body: Incoming, max: usize) -> Vec<u8> {
    let mut bytes = vec![];
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(&data[..data.len().min(max - bytes.len())]);
        }
        if bytes.len() == max {
            break;
        }
    }
    bytes
}

fn is_encoded(response: &Response<Incoming>) -> bool {
    response.headers().get(CONTENT_ENCODING).is_some_and(|value| value != "identity")
}

fn headers(options: &UpstreamOptions) -> Result<HeaderMap, OptionsError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(USER_AGENT, HeaderValue::from_static("arknet"));
    let is_anthropic = options.kind == UpstreamKind::Anthropic;
    if is_anthropic {
        headers.insert(HeaderName::from_static("anthropic-version"), ANTHROPIC_VERSION);
    }
    if let Some(key) = &options.key {
        let (name, text) = if is_anthropic {
            (HeaderName::from_static("x-api-key"), key.expose().to_owned())
        } else {
            (AUTHORIZATION, format!("Bearer {}", key.expose()))
        };
        let text = zeroize::Zeroizing::new(text);
        let mut value = HeaderValue::from_str(&text).map_err(|_| OptionsError::Key)?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// How often a connection was used.
#[derive(Clone)]
struct Uses(Arc<AtomicU32>);

/// Connects within a time, and counts each connection's uses.
#[derive(Clone)]
struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = Counted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Counted>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_ready(cx).map_err(io::Error::other)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = timeout(self.timeout, self.inner.call(uri));
        Box::pin(async move {
            let stream = connecting.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok(Counted { stream, uses: Uses(Arc::default()) })
        })
    }
}

struct Counted {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    uses: Uses,
}

impl Connection for Counted {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.uses.clone())
    }
}

impl Read for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
