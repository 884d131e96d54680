//! Connections and what holds for every request.

use std::{
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arknet_chain::rpc::ErrorCode;
use arknet_types::Timestamp;
use axum::{
    Router,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use super::{answer::Refused, desk::Desk, guard::Guard, routes};
use crate::{
    Link, Store,
    limits::{
        CONNECTION_TIME_MAX, CONNECTIONS_MAX, DRAIN_TIME_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX,
        REQUEST_TIME_MAX, REQUESTS_PER_S, REQUESTS_PER_S_IN_ALL,
    },
};

/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the RPC serves.
#[derive(Clone)]
pub struct RpcOptions {
    /// Host names that may be used for it beside those of this machine.
    pub allowed_hosts: Vec<String>,
    /// Requests of one address in a second.
    pub requests_per_s: u32,
    /// Requests of all addresses in a second.
    pub requests_per_s_in_all: u32,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl RpcOptions {
    /// The usual bounds.
    #[must_use]
    pub fn new(clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self {
            allowed_hosts: vec![],
            requests_per_s: REQUESTS_PER_S,
            requests_per_s_in_all: REQUESTS_PER_S_IN_ALL,
            clock,
        }
    }
}

impl fmt::Debug for RpcOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcOptions")
            .field("allowed_hosts", &self.allowed_hosts)
            .finish_non_exhaustive()
    }
}

/// An RPC that is about to serve.
pub struct RpcServer {
    listener: TcpListener,
    address: SocketAddr,
    desk: Arc<Desk>,
}

impl fmt::Debug for RpcServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RpcServer {
    /// One that tells of `store` and asks by `link`.
    pub fn new(
        listener: TcpListener,
        options: RpcOptions,
        store: Store,
        link: Link,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let guard = Guard::new(address.ip(), &options.allowed_hosts);
        let desk = Arc::new(Desk::new(store, link, guard, options));
        Ok(Self { listener, address, desk })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets running requests end.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, desk, .. } = self;
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let router = routes::router(Arc::clone(&desk));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = accept(&listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, remote, permit)) => {
                    let (router, desk, stop) = (router.clone(), Arc::clone(&desk), stop.clone());
                    connections.spawn(async move {
                        let served = connection(stream, remote.ip(), router, desk, stop);
                        let _ = timeout(CONNECTION_TIME_MAX, served).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the chain RPC cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        desk.closing.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_TIME_MAX, drained).await;
        connections.shutdown().await;
    }
}

/// Waits for a permit first, so that connections beyond the limit stay in the backlog.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, remote) = listener.accept().await?;
    Ok((stream, remote, permit))
}

async fn connection(
    stream: TcpStream,
    remote: IpAddr,
    router: Router,
    desk: Arc<Desk>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (mut router, desk) = (router.clone(), Arc::clone(&desk));
        async move {
            let checked = desk.count(remote).and_then(|()| {
                desk.guard.check(request.method(), request.uri(), request.headers())
            });
            Ok::<_, Infallible>(match checked {
                Ok(()) => in_time(router.call(request)).await,
                Err(refused) => refused.into_response(),
            })
        }
    });
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let mut served = std::pin::pin!(http1.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go as they like.
        tracing::debug!(%error, "connection ended");
    }
}

/// The answer, if it is there in time.
async fn in_time(answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
    let mut response = match timeout(REQUEST_TIME_MAX, answer).await {
        Ok(Ok(response)) => response,
        Err(_) => {
            let words = "the request took too long, or did not arrive in time";
            Refused::new(ErrorCode::Timeout, words).into_response()
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
