//! The audit log of what other peers asked: written by one thread, read by `arknet audit`.
//!
//! The line that opens a request is handed to the system before the work begins, and is on the disk
//! before any of the answer leaves: a node that is killed, or whose power fails, in between leaves
//! the open line behind. Lines that come at the same time share one wait for the disk. Where a line
//! cannot be written, requests of others are refused until it can; those that run are written down
//! as soon as that goes again.

mod disk;
mod reader;
mod trail;
mod writer;

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use arknet_types::{NetworkId, PublicKey, Refusal, RefusalCode};
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use self::{disk::FileDisk, writer::Writer};

pub use self::reader::{AuditFiles, Logged, each_event, verify};
pub(crate) use self::trail::Trail;
pub use arknet_protocol::audit::{Event, Finding, Head, Report, rfc3339};

/// Lines that wait for the writer; what goes beyond is refused, or counted.
const WAITING_MAX: usize = 4096;

/// Why the audit log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error("{}: there is no audit log", path.display())]
    Missing {
        /// Where it would be.
        path: PathBuf,
    },
    /// A file that tells of the log's end is none.
    #[error("{}: this is no head of an audit log", path.display())]
    Head {
        /// The file.
        path: PathBuf,
    },
}

/// The state of the log, as the node API tells it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct AuditStatus {
    /// The last line that is on the disk: its number and hash, for whoever wants to note it
    /// elsewhere.
    pub head: Option<String>,
    /// What keeps the log from being written, and with it every request of others.
    pub failure: Option<String>,
}

/// Where the log is, and of what.
pub(crate) struct AuditOptions {
    pub(crate) path: PathBuf,
    /// A file of the log that is larger is followed by another one.
    pub(crate) file_bytes_max: u64,
    /// Whether an answer waits until the disk has the line that opens it.
    pub(crate) waits_for_disk: bool,
    pub(crate) network: NetworkId,
    pub(crate) node: PublicKey,
}

/// The way to the writer. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AuditLog {
    shared: Arc<Shared>,
    waits_for_disk: bool,
}

struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    status: watch::Sender<AuditStatus>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Message>,
    /// Refusals for which there was no room.
    overflow: u64,
    is_closed: bool,
}

/// What the writer is told.
enum Message {
    Open {
        event: Event,
        /// Told whether the line was handed to the system. Dropped when there will be no such line.
        written: oneshot::Sender<bool>,
        /// Told when the line is on the disk.
        durable: oneshot::Sender<bool>,
    },
    Close(Event),
    Refused {
        peer: PublicKey,
        node_id: Option<String>,
        model: Option<String>,
        code: RefusalCode,
    },
}

/// What became of a line that opens a request.
enum Opening {
    /// The system has it; what tells when the disk has it.
    Written {
        /// Told `true`, or dropped where the disk does not take it.
        durable: oneshot::Receiver<bool>,
    },
    /// It could not be written and will be when that goes again. It must be closed.
    Late,
    /// There will be no such line.
    None,
}

impl AuditLog {
    /// Opens the log, or begins one, and starts its writer.
    pub(crate) fn open(options: &AuditOptions) -> Result<Self, AuditError> {
        let (disk, found) = FileDisk::open(&options.path)?;
        let mut writer = Writer::new(disk, found, options.file_bytes_max);
        writer.begin(options).map_err(at(&options.path))?;
        Ok(Self::start(writer, options.waits_for_disk))
    }

    fn start(writer: Writer<impl disk::Disk + 'static>, waits_for_disk: bool) -> Self {
        let shared = Arc::new(Shared {
            inbox: Mutex::default(),
            wake: Condvar::new(),
            status: watch::Sender::new(writer.status()),
            thread: Mutex::default(),
        });
        let inner = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("audit log".into());
        let thread = thread.spawn(move || writer.run(&inner)).expect("a thread can be started");
        *lock(&shared.thread) = Some(thread);
        Self { shared, waits_for_disk }
    }

    pub(crate) fn status(&self) -> AuditStatus {
        self.shared.status.borrow().clone()
    }

    /// Writes what is left, says that the node stops, and ends the writer. Waits for the disk.
    pub(crate) fn stop(&self) {
        lock(&self.shared.inbox).is_closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = lock(&self.shared.thread).take() {
            let _ = thread.join();
        }
    }

    /// Writes the line that opens a request. Returns once the system has it.
    async fn opening(&self, event: Event) -> Opening {
        let (written, is_written) = oneshot::channel();
        let (durable, is_durable) = oneshot::channel();
        {
            let mut inbox = lock(&self.shared.inbox);
            if inbox.is_closed || inbox.messages.len() >= WAITING_MAX {
                return Opening::None;
            }
            inbox.messages.push_back(Message::Open { event, written, durable });
        }
        self.shared.wake.notify_one();
        match is_written.await {
            Ok(true) => Opening::Written { durable: is_durable },
            Ok(false) => Opening::Late,
            Err(_) => Opening::None,
        }
    }

    /// Writes the line that closes a request; there is always room for it, since each belongs to
    /// one that was opened.
    fn closing(&self, event: Event) {
        lock(&self.shared.inbox).messages.push_back(Message::Close(event));
        self.shared.wake.notify_one();
    }

    fn refused(
        &self,
        peer: PublicKey,
        node_id: Option<String>,
        model: Option<String>,
        code: RefusalCode,
    ) {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.messages.len() >= WAITING_MAX {
            inbox.overflow += 1;
            return;
        }
        inbox.messages.push_back(Message::Refused { peer, node_id, model, code });
        drop(inbox);
        self.shared.wake.notify_one();
    }
}

/// What a requester is told while the log cannot be written.
fn unwritable() -> Refusal {
    let words = "this node cannot write its audit log and takes no requests until it can";
    Refusal::new(RefusalCode::ProviderFailed, words)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> AuditError {
    move |source| AuditError::Io { path: path.to_owned(), source }
}

/// A poisoned lock still guards data that every writer leaves whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The head as a node that has written it tells it.
fn text(head: Option<Head>) -> Option<String> {
    head.map(|head| head.to_string())
}

#[cfg(test)]
mod tests;
