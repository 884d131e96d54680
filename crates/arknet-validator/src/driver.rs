//! One node of the chain: the thread that drives its state machine.
//!
//! Everything happens on that thread, one after the other: what came is handed to the `Replica`, and
//! what it wants is done in order. Records are on disk before anything is said that depends on them,
//! a block and its proof are on disk before anybody sees it, and whatever cannot be done ends the
//! thread: a node that went on after a failed write could say two things.
//!
//! A committed block is safe in the log first. The store's own file gets the last seconds' blocks at
//! one time, which is far less to write, for blocks change the same pages; after a crash they are
//! committed again from the log.

mod again;
mod error;
mod gathering;
mod join;
mod journal;
mod keeper;
mod lease;
mod run;
mod serve;
mod shelf;
mod turns;

use std::{fmt, path::PathBuf, sync::Arc, thread};

use arknet_chain::Genesis;
use arknet_types::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

pub use error::{DriverError, StartError};

use self::run::Run;
use crate::{Event, Link, Store, StoreOptions, Transport};

/// What a node is started with.
#[derive(Clone)]
pub struct ValidatorOptions {
    /// Where the ledger lies; it must be there.
    pub directory: PathBuf,
    /// What the chain begins with.
    pub genesis: Genesis,
    /// How the ledger is kept.
    pub store: StoreOptions,
    /// How the node takes part.
    pub consensus: arknet_consensus::Options,
    /// What time it is.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for ValidatorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatorOptions")
            .field("directory", &self.directory)
            .field("network", &self.genesis.network)
            .field("consensus", &self.consensus)
            .finish_non_exhaustive()
    }
}

/// A node of the chain that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Validator {
    link: Link,
    store: Store,
    stop: CancellationToken,
    ended: oneshot::Receiver<Result<(), DriverError>>,
}

impl Validator {
    /// Opens the ledger and goes on where it was. `events` tells what happens on the way that
    /// `transport` carries messages. Must be called where tokio runs.
    pub fn start(
        options: ValidatorOptions,
        transport: Arc<dyn Transport>,
        events: mpsc::Receiver<Event>,
    ) -> Result<Self, StartError> {
        let ValidatorOptions { directory, genesis, store, .. } = &options;
        let store = Store::open(directory, genesis.clone(), *store).map_err(DriverError::from)?;
        Self::start_on(store, options, transport, events)
    }

    /// The same with a store that is open, wherever it lies; the directory is that of the log.
    pub fn start_on(
        store: Store,
        options: ValidatorOptions,
        transport: Arc<dyn Transport>,
        events: mpsc::Receiver<Event>,
    ) -> Result<Self, StartError> {
        let ValidatorOptions { directory, consensus, clock, .. } = options;
        let (link, asked) = Link::new();
        let run = Run::begin(&directory, store.clone(), consensus, (transport, clock), asked)?;
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let (runtime, stopped) = (Handle::current(), stop.clone());
        let body = move || {
            let result = run.go(&runtime, events, &stopped);
            if let Err(error) = &result {
                tracing::error!(%error, "the node of the chain cannot go on");
            }
            // Nobody may want to know.
            let _ = end.send(result);
        };
        thread::Builder::new().name("ledger".into()).spawn(body).map_err(StartError::Thread)?;
        Ok(Self { link, store, stop, ended })
    }

    /// To ask it.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// The ledger it keeps.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Waits until it cannot go on, and returns why. The process must then end: what waits for
    /// this node's ledger would wait for ever.
    pub async fn ended(&mut self) -> DriverError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => DriverError::Transport,
            Err(_) => DriverError::Panicked,
        }
    }

    /// Stops it between two steps. Its ledger can be opened again when this has returned and all
    /// clones of [`store`](Self::store) are gone.
    pub async fn stop(mut self) -> Result<(), DriverError> {
        self.stop.cancel();
        (&mut self.ended).await.unwrap_or(Err(DriverError::Panicked))
    }
}

impl Drop for Validator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
