//! The server: HTTPS on one port, every answer from the database.

mod api;
mod origin;

use std::{
    convert::Infallible,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arknet_types::{NetworkId, RegistryName, Timestamp};
use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use self::{api::Desk, origin::Remote};
use crate::{
    CertificateError, CertificateFiles, Rate, Store, StoreError,
    limits::{
        CONNECTION_TIME_MAX, CONNECTIONS_MAX, DRAIN_TIME_MAX, HANDSHAKE_TIME_MAX, HEAD_BYTES_MAX,
        HEAD_TIME_MAX, KEYS_MAX, SWEEP_PERIOD,
    },
};

/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a registry is told about itself.
#[derive(Clone)]
pub struct ServerOptions {
    /// The network whose nodes may enter.
    pub network: NetworkId,
    /// The host names under which it is reached; entries for others are refused.
    pub names: Vec<RegistryName>,
    /// Its certificate and key.
    pub certificate: CertificateFiles,
    /// The balancers whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpAddr>,
    /// Questions of one address.
    pub reads: Rate,
    /// Entries and withdrawals from one address.
    pub writes: Rate,
    /// Entries and withdrawals of one key.
    pub writes_of_key: Rate,
    /// Keys that are remembered.
    pub keys_max: u64,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl ServerOptions {
    /// The usual bounds.
    #[must_use]
    pub fn new(
        network: NetworkId,
        names: Vec<RegistryName>,
        certificate: CertificateFiles,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Self {
        Self {
            network,
            names,
            certificate,
            trusted_proxies: vec![],
            reads: Rate { per_minute: 240 },
            writes: Rate { per_minute: 30 },
            writes_of_key: Rate { per_minute: 6 },
            keys_max: KEYS_MAX,
            clock,
        }
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The port cannot be listened on.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A registry that is about to serve.
pub struct RegistryServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    desk: Arc<Desk>,
}

impl fmt::Debug for RegistryServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl RegistryServer {
    /// Reads the certificate and looks into the database.
    pub async fn start(
        listener: TcpListener,
        options: ServerOptions,
        store: Arc<dyn Store>,
    ) -> Result<Self, StartError> {
        let address = listener.local_addr()?;
        let tls = TlsAcceptor::from(Arc::new(options.certificate.server_config()?));
        let desk = Arc::new(Desk::new(options, store));
        desk.sweep().await?;
        Ok(Self { listener, address, tls, desk })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then lets running requests end.
    pub async fn run(self, stop: CancellationToken) {
        let Self { listener, tls, desk, .. } = self;
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let router = api::router(Arc::clone(&desk));
        let mut connections = JoinSet::new();
        let mut sweeps = interval(SWEEP_PERIOD);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tracing::info!(database = desk.database(), "the registry serves");
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                _ = sweeps.tick() => {
                    if let Err(error) = desk.sweep().await {
                        tracing::error!(%error, "what has expired cannot be forgotten");
                    }
                    continue;
                }
                accepted = accept(&listener, &permits) => accepted,
            };
            match accepted {
                Ok((stream, remote, permit)) => {
                    let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                    connections.spawn(async move {
                        let served = connection(stream, Remote(remote.ip()), tls, router, stop);
                        let _ = timeout(CONNECTION_TIME_MAX, served).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        let _ = timeout(DRAIN_TIME_MAX, drained).await;
        connections.shutdown().await;
        tracing::info!("the registry stopped");
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
    remote: Remote,
    tls: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) {
    // Who does not speak TLS gets an alert and the end of the connection.
    let Ok(Ok(stream)) = timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await else {
        return;
    };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(remote);
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(api::in_time(router.call(request)).await) }
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
