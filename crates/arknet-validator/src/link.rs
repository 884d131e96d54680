//! What the RPC and other parts of a node ask of the task that drives it.

use arknet_chain::{Hash, Rejected, SignedTransaction};
use arknet_types::Address;
use tokio::sync::{mpsc, oneshot, watch};

use crate::limits::ASKED_MAX;

/// A question to the driver.
#[derive(Debug)]
pub enum Ask {
    /// Lets a transaction wait for a block.
    Submit {
        /// Which.
        transaction: Box<SignedTransaction>,
        /// Where its name goes once a crash cannot lose it any more, or why it does not wait.
        answer: oneshot::Sender<Result<Hash, NotAccepted>>,
    },
    /// A waiting transaction by its name.
    Find {
        /// Which.
        id: Hash,
        /// Where it goes.
        answer: oneshot::Sender<Option<Waiting>>,
    },
    /// The nonce for an account's next transaction, after those that wait.
    NextNonce {
        /// The account.
        owner: Address,
        /// Where it goes.
        answer: oneshot::Sender<u64>,
    },
}

/// A transaction that waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// The transaction.
    pub transaction: SignedTransaction,
    /// Transactions of its account that come before it.
    pub ahead: u64,
}

/// Why a transaction does not wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// It could not be in a block, or there is no room.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It is not signed by the account that pays.
    #[error("the signature does not match")]
    Signature,
    /// The driver has stopped.
    #[error("the node is stopping")]
    Stopping,
}

/// How far a node is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// The last height that is kept.
    pub height: u64,
    /// The highest that a connected peer says it has.
    pub peers_height: u64,
    /// Peers that follow the chain and are connected.
    pub peers: u32,
    /// Whether others are ahead.
    pub catching_up: bool,
    /// The account that this node votes for.
    pub operator: Option<Address>,
    /// Whether it votes on the next block.
    pub votes: bool,
    /// Transactions that wait.
    pub waiting: u32,
}

/// How the driver is asked. Clones ask the same one.
#[derive(Clone, Debug)]
pub struct Link {
    ask: mpsc::Sender<Ask>,
    progress: watch::Receiver<Progress>,
}

/// The driver's end of a [`Link`].
#[derive(Debug)]
pub struct Asked {
    /// The questions, in the order in which they were asked.
    pub questions: mpsc::Receiver<Ask>,
    /// Where it tells how far it is, after each block.
    pub progress: watch::Sender<Progress>,
}

impl Link {
    /// Both ends.
    #[must_use]
    pub fn new() -> (Self, Asked) {
        let (ask, questions) = mpsc::channel(ASKED_MAX);
        let (progress, seen) = watch::channel(Progress::default());
        (Self { ask, progress: seen }, Asked { questions, progress })
    }

    /// How far the node is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// To wait for the next block by.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Lets a transaction wait for a block. When this is its name, no crash loses it. Dropping the
    /// future does not take it back.
    pub async fn submit(&self, transaction: SignedTransaction) -> Result<Hash, NotAccepted> {
        let transaction = Box::new(transaction);
        let asked = self.ask(|answer| Ask::Submit { transaction, answer }).await;
        asked.unwrap_or(Err(NotAccepted::Stopping))
    }

    /// A waiting transaction by its name; none where the driver has stopped.
    pub async fn find(&self, id: Hash) -> Option<Waiting> {
        self.ask(|answer| Ask::Find { id, answer }).await.flatten()
    }

    /// The nonce for an account's next transaction; none where the driver has stopped.
    pub async fn next_nonce(&self, owner: Address) -> Option<u64> {
        self.ask(|answer| Ask::NextNonce { owner, answer }).await
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.ask.send(ask(answer)).await.ok()?;
        answered.await.ok()
    }
}
