use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use axum::http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Dispatch, Options, http::Door, stall::Patient, wakes::as_one};

/// How long to wait before accepting again when the system is out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is recorded as the status where the client left before there was one: nginx' number for it.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// The smallest buffer hyper works with.
const HEAD_BYTES_LEAST: usize = 8192;

/// Serves the door on `listener` until `shutdown`, then lets running answers finish for at most
/// `options.limits.drain_ms`. Returns how many connections had to be cut.
///
/// Dropping the future closes every connection at once.
pub async fn serve(
    listener: TcpListener,
    dispatch: Arc<dyn Dispatch>,
    options: Options,
    shutdown: CancellationToken,
) -> io::Result<usize> {
    let address = listener.local_addr()?;
    let permits = Arc::new(Semaphore::new(options.limits.connections_max));
    let drain = options.limits.drain();
    let patience = options.limits.write_stall();
    let http1 = http1_builder(&options);
    let door = Arc::new(Door::new(address, dispatch, options));
    let mut connections = JoinSet::new();
    tracing::info!(%address, "gateway listens");
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let door = Arc::clone(&door);
                let connection =
                    connection(stream, patience, http1.clone(), door, shutdown.clone());
                connections.spawn(async move {
                    as_one(connection).await;
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
    let drained = timeout(drain, async { while connections.join_next().await.is_some() {} });
    let cut = if drained.await.is_ok() { 0 } else { connections.len() };
    connections.shutdown().await;
    tracing::info!(cut, "gateway closed");
    Ok(cut)
}

fn http1_builder(options: &Options) -> http1::Builder {
    let mut builder = http1::Builder::new();
    let head_bytes_max = options.limits.head_bytes_max.max(HEAD_BYTES_LEAST);
    // `half_close` stays off: the end of the client's side means it is gone, and its request with it.
    // `pipeline_flush` stays off: it would hold tokens back while a pipelined request waits.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(options.limits.head_read())
        .max_header_size(head_bytes_max)
        .max_buf_size(head_bytes_max);
    builder
}

/// Waits for a permit first, so that connections beyond the limit stay in the backlog.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

async fn connection(
    stream: TcpStream,
    patience: Duration,
    http1: http1::Builder,
    door: Arc<Door>,
    shutdown: CancellationToken,
) {
    // Without this a token can wait 40 ms for the acknowledgement of the one before.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let io = TokioIo::new(Patient::new(stream, patience));
    let mut connection = pin!(http1.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go as they like; hyper's words never hold what they sent.
        tracing::debug!(%error, "connection ended");
    }
}
