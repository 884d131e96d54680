//! The HTTP client: connections to one host, kept and used again.

mod link;

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body as _, Frame, Incoming},
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
        HeaderValue, USER_AGENT,
    },
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, timeout};
use tower_service::Service as _;

use super::{
    limits::{IDLE_CONNECTION, TAIL_BYTES_MAX, TAIL_TIME_MAX},
    options::{OptionsError, UpstreamOptions},
    target::{Place, UpstreamKind},
};

use link::Link;

/// A kept connection that is cut off so soon after a request was sent had been closed before. Later
/// the server may have worked on it, and is not asked again.
const STALE_MAX: Duration = Duration::from_secs(2);

/// The version of Anthropic's API that we speak.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// Why there is no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum HttpError {
    #[error("the upstream could not be reached")]
    Connect,
    #[error("the upstream broke off the connection")]
    Broken,
    /// Before a whole head of an answer had come.
    #[error("the upstream closed the connection instead of answering")]
    Cut,
    #[error("the upstream's answer is larger than allowed")]
    TooLarge,
    #[error("the upstream compresses its answer without having been asked to")]
    Encoded,
}

/// A client of one server.
pub(super) struct Http {
    connector: HttpsConnector<HttpConnector>,
    connect_time_max: Duration,
    /// Where to connect to.
    server: Uri,
    /// Where on that server each place is.
    paths: Vec<(Place, Uri)>,
    headers: HeaderMap,
    unused: Arc<Unused>,
}

impl Http {
    pub(super) fn new(options: &UpstreamOptions) -> Result<Self, OptionsError> {
        options.check()?;
        let base = options.base()?;
        let server: Uri = base.root.parse().map_err(|_| OptionsError::Url)?;
        let paths = Place::ALL.into_iter().map(|place| {
            let (is_versioned, path) = place.path();
            let before = if is_versioned { &base.versioned } else { &base.root };
            let uri: Uri = format!("{before}{path}").parse().map_err(|_| OptionsError::Url)?;
            let path = uri.path_and_query().cloned().ok_or(OptionsError::Url)?;
            Ok((place, Uri::from(path)))
        });
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // Shared among its addresses, so that one of them that is dead leaves time for the others.
        tcp.set_connect_timeout(Some(Duration::from_secs(options.timeouts.connect_s)));
        tcp.set_keepalive(Some(Duration::from_secs(30)));
        tcp.enforce_http(false);
        // No proxies: keys go to the configured host and nowhere else. HTTP/1 alone: one request on
        // one connection, so that giving a request up is closing its connection.
        let tls = HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1();
        Ok(Self {
            connector: tls.wrap_connector(tcp),
            connect_time_max: Duration::from_secs(options.timeouts.connect_s),
            headers: headers(options, &server)?,
            server,
            paths,
            unused: Arc::new(Unused { max: options.slots.into(), links: Mutex::default() }),
        })
    }

    /// Asks, and waits for the head of the answer.
    pub(super) async fn ask(&self, place: Place, body: Bytes) -> Result<Response<Body>, HttpError> {
        if let Some(mut link) = self.unused.take() {
            let asked_at = Instant::now();
            match link.ask(self.request(place, body.clone())).await {
                // The server had closed a kept connection while the request was on its way.
                Err(HttpError::Cut) if asked_at.elapsed() < STALE_MAX => {}
                asked => return self.answer(link, asked?),
            }
        }
        let mut link = self.connect().await?;
        let asked = link.ask(self.request(place, body)).await;
        self.answer(link, asked?)
    }

    fn answer(
        &self,
        link: Link,
        response: Response<Incoming>,
    ) -> Result<Response<Body>, HttpError> {
        if is_encoded(&response) {
            return Err(HttpError::Encoded);
        }
        let unused = Arc::clone(&self.unused);
        Ok(response.map(|incoming| Body { incoming, link: Some(link), unused }))
    }

    fn request(&self, place: Place, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = if place.is_get() { Method::GET } else { Method::POST };
        *request.headers_mut() = self.headers.clone();
        if let Some((_, path)) = self.paths.iter().find(|(one, _)| *one == place) {
            request.uri_mut().clone_from(path);
        }
        request
    }

    async fn connect(&self) -> Result<Link, HttpError> {
        let mut connector = self.connector.clone();
        let connecting = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(self.server.clone()).await
        };
        let stream = timeout(self.connect_time_max, connecting).await;
        let stream = stream.map_err(|_| HttpError::Connect)?.map_err(|_| HttpError::Connect)?;
        Link::open(stream).await
    }

    /// Closes connections that nobody has used for a while, or that the server has closed.
    pub(super) fn sweep(&self) {
        self.unused.sweep();
    }
}

/// Connections that wait for their next request, the last used one last.
struct Unused {
    max: usize,
    links: Mutex<Vec<(Instant, Link)>>,
}

impl Unused {
    fn links(&self) -> MutexGuard<'_, Vec<(Instant, Link)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Link> {
        loop {
            let (since, mut link) = self.links().pop()?;
            // One that lay long may be gone without a word: on the way some forget it.
            if since.elapsed() < IDLE_CONNECTION && link.is_ready() {
                return Some(link);
            }
        }
    }

    fn put(&self, mut link: Link) {
        if link.is_ready() {
            let mut links = self.links();
            if links.len() < self.max {
                links.push((Instant::now(), link));
            }
        }
    }

    fn sweep(&self) {
        self.links()
            .retain_mut(|(since, link)| since.elapsed() < IDLE_CONNECTION && link.is_ready());
    }
}

/// The body of an answer. Read to its end it gives its connection back; dropped before, it closes it.
pub(super) struct Body {
    incoming: Incoming,
    link: Option<Link>,
    unused: Arc<Unused>,
}

impl Body {
    /// The bytes that come next; none at the end.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, HttpError>> {
        poll_fn(|cx| self.poll_piece(cx)).await
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, HttpError>>> {
        let Some(link) = &mut self.link else { return Poll::Ready(None) };
        let incoming = &mut self.incoming;
        let piece = link.poll_with(cx, |cx| {
            while let Some(frame) = ready!(Pin::new(&mut *incoming).poll_frame(cx)) {
                match frame.map(Frame::into_data) {
                    Ok(Ok(data)) => return Poll::Ready(Some(Ok(data))),
                    Ok(Err(_trailers)) => {}
                    Err(_) => return Poll::Ready(Some(Err(HttpError::Broken))),
                }
            }
            Poll::Ready(None)
        });
        let piece = ready!(piece);
        match (&piece, self.link.take()) {
            (Some(Ok(_)), link) => self.link = link,
            (None, Some(link)) => self.unused.put(link),
            _ => {}
        }
        Poll::Ready(piece)
    }

    /// Lets go of a body of which only the end is missing. It is still read where it comes soon, so
    /// that the connection is there for the next request.
    pub(super) fn finish(mut self) {
        let mut end = Box::pin(async move {
            let mut bytes = 0;
            while let Some(Ok(piece)) = self.piece().await {
                bytes += piece.len();
                if bytes > TAIL_BYTES_MAX {
                    return;
                }
            }
        });
        // It mostly came together with the last reply.
        if end.as_mut().now_or_never().is_none() {
            tokio::spawn(timeout(TAIL_TIME_MAX, end));
        }
    }
}

/// A status, and headers that matter.
pub(super) fn retry_after_ms(response: &Response<Body>) -> Option<u64> {
    let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    super::errors::retry_after_ms(text("retry-after-ms"), text("retry-after"))
}

pub(super) fn is_well(response: &Response<Body>) -> bool {
    response.status() == StatusCode::OK
}

/// The whole of a body, if it is no larger than `max`.
pub(super) async fn whole(mut body: Body, max: usize) -> Result<Vec<u8>, HttpError> {
    if body.incoming.size_hint().lower() > max as u64 {
        return Err(HttpError::TooLarge);
    }
    let mut bytes = vec![];
    while let Some(piece) = body.piece().await {
        let piece = piece?;
        if bytes.len() + piece.len() > max {
            return Err(HttpError::TooLarge);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// The beginning of a body, for what it may say of an error.
pub(super) async fn beginning(mut body: Body, max: usize) -> Vec<u8> {
    let mut bytes = vec![];
    while let Some(Ok(piece)) = body.piece().await {
        bytes.extend_from_slice(&piece[..piece.len().min(max - bytes.len())]);
        if bytes.len() == max {
            break;
        }
    }
    bytes
}

fn is_encoded(response: &Response<Incoming>) -> bool {
    response.headers().get(CONTENT_ENCODING).is_some_and(|value| value != "identity")
}

fn headers(options: &UpstreamOptions, server: &Uri) -> Result<HeaderMap, OptionsError> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, host(server)?);
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

/// The server's name as its clients say it: without the port that its scheme implies.
fn host(server: &Uri) -> Result<HeaderValue, OptionsError> {
    let authority = server.authority().ok_or(OptionsError::Url)?;
    let implied = if server.scheme_str() == Some("https") { 443 } else { 80 };
    let name = match authority.port_u16() {
        Some(port) if port != implied => authority.as_str(),
        _ => authority.host(),
    };
    HeaderValue::from_str(name).map_err(|_| OptionsError::Url)
}
