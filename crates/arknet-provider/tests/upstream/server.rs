//! A server that says what a script tells it to.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Frame, header::HeaderMap, server::conn::http1, service};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::interval,
};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    /// Each is written at once.
    pub(crate) pieces: Vec<String>,
    /// Whether the body then stays open, with lines that say nothing.
    pub(crate) hangs: bool,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: vec![], pieces: vec![body.to_string()], hangs: false }
    }

    pub(crate) fn pieces(pieces: Vec<String>) -> Self {
        Self { status: 200, headers: vec![], pieces, hangs: false }
    }
}

pub(crate) type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Connections that were made, and those still open.
    pub(crate) made: Arc<AtomicUsize>,
    pub(crate) open: watch::Sender<usize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn start_at(
        address: SocketAddr,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let script: Script = Arc::new(script);
        let seen = Arc::new(Mutex::new(vec![]));
        let (made, open) = (Arc::new(AtomicUsize::new(0)), watch::Sender::new(0));
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen2, made2, open2) = (seen.clone(), made.clone(), open.clone());
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                made2.fetch_add(1, Ordering::SeqCst);
                open2.send_modify(|open| *open += 1);
                let (script, seen, open) = (script.clone(), seen2.clone(), open2.clone());
                all.spawn(async move {
                    serve(stream, script, seen).await;
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { url, seen, made, open, task }
    }

    pub(crate) fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|one| one.path == path).cloned().collect()
    }
}

async fn serve(stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<Seen>>>) {
    let answer = |request: Request<hyper::body::Incoming>| -> BoxFuture<'static, _> {
        let (script, seen) = (script.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
            let path = head.uri.path_and_query().unwrap().to_string();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let one = Seen { path, headers: head.headers, body };
            seen.lock().unwrap().push(one.clone());
            Ok::<_, Infallible>(respond(script(&one)))
        }
        .boxed()
    };
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service::service_fn(answer))
        .await;
}

fn respond(answer: Answer) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let hangs = answer.hangs;
    let pieces = stream::iter(answer.pieces).then(|piece| async move {
        // Each piece is a write of its own, as from a model.
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(Frame::data(Bytes::from(piece)))
    });
    let ticks = stream::unfold(interval(Duration::from_millis(100)), |mut ticks| async move {
        ticks.tick().await;
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"\n"))), ticks))
    });
    let rest = ticks.take(if hangs { usize::MAX } else { 0 });
    let body = UnsyncBoxBody::new(StreamBody::new(pieces.chain(rest)));
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap()
}

/// A server that answers every connection with these bytes after the request's head and body came,
/// and then closes it, or says nothing more.
pub(crate) async fn raw(
    answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    closes: bool,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    let task = tokio::spawn(async move {
        let mut all = tokio::task::JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            all.spawn(async move {
                let Some(path) = read_request(&mut stream).await else { return };
                let _ = stream.write_all(&answer(&path)).await;
                if !closes {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    (url, task)
}

pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = vec![];
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.to_ascii_lowercase();
            let length = length.split_once("content-length: ").map_or("0", |(_, after)| after);
            let length: usize = length.split("\r\n").next()?.parse().ok()?;
            if body.len() >= length {
                return head.split(' ').nth(1).map(str::to_owned);
            }
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}
