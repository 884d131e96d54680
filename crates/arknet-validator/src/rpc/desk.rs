//! What all requests share.

use std::sync::{Arc, Mutex, PoisonError};

use arknet_chain::rpc::ErrorCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{answer::Refused, guard::Guard, rates::Rates, server::RpcOptions};
use crate::{
    Link, Reader, Store,
    limits::{READERS_MAX, STREAMS_MAX},
};

pub(super) struct Desk {
    pub(super) store: Store,
    pub(super) link: Link,
    pub(super) guard: Guard,
    pub(super) rates: Mutex<Rates>,
    pub(super) options: RpcOptions,
    /// Cancelled when no more is to be said.
    pub(super) closing: CancellationToken,
    readers: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Desk {
    pub(super) fn new(store: Store, link: Link, guard: Guard, options: RpcOptions) -> Self {
        Self {
            store,
            link,
            guard,
            rates: Mutex::new(Rates::new(options.requests_per_s, options.requests_per_s_in_all)),
            options,
            closing: CancellationToken::new(),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        }
    }

    pub(super) fn count(&self, from: std::net::IpAddr) -> Result<(), Refused> {
        let now = (self.options.clock)();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates.take(now, from).map_err(Refused::rate)
    }

    /// Reads the ledger as it is now, where waiting for a disk holds up nobody else.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let permit = Arc::clone(&self.readers).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let store = self.store.clone();
        let work = move || {
            let _permit = permit;
            read(&store.read()?)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Refused::new(ErrorCode::Stopping, "the node is stopping")),
        }
    }

    pub(super) fn stream(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let words = "there are as many streams of events as there may be";
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        permit.map_err(|_| Refused::new(ErrorCode::TooManyStreams, words))
    }
}
