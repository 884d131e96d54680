//! What peers ask for that is on disk, read on a thread of its own: consensus does not wait for what
//! others missed.

use std::{
    io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arknet_chain::{Hash, limits::LIGHT_BLOCK_BYTES_MAX};
use arknet_consensus::{Decided, Message, Peer, limits::DECIDED_PER_MESSAGE_MAX};

use super::{shelf::Shelf, turns::Turns};
use crate::{Reader, Store, StoreError, Transport, limits::SERVED_BYTES_MAX};

/// How often an idle thread looks up.
const IDLE_MS: u64 = 60_000;

/// What a peer asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// Blocks from a height on.
    Blocks(u64),
    /// The newest snapshot.
    Snapshot,
    /// A part of one.
    Part(Hash, u32),
    /// What shows a header to be the chain's.
    Light(u64),
}

enum Job {
    Answer(Peer, Request),
    /// The state is to be kept for others.
    Keep(Box<Reader>),
}

/// What there is to do.
#[derive(Default)]
struct Waiting {
    turns: Turns<Request>,
    keep: Option<Box<Reader>>,
    is_over: bool,
}

/// What the thread and those who give it something to do share.
struct Desk {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    began: Instant,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for what is to be done next; none at the end.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.is_over {
                return None;
            }
            if let Some(reader) = waiting.keep.take() {
                return Some(Job::Keep(reader));
            }
            let now_ms = self.now_ms();
            if let Some((peer, request)) = waiting.turns.next(now_ms) {
                return Some(Job::Answer(peer, request));
            }
            let next = waiting.turns.next_at().unwrap_or(u64::MAX).saturating_sub(now_ms);
            let patience = Duration::from_millis(next.min(IDLE_MS));
            let woken = self.changed.wait_timeout(waiting, patience);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }
}

/// Where requests go. Dropping it waits for the thread: while that runs, the store is open.
pub(super) struct Served {
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(super) fn start(
        ledger: &Path,
        store: Store,
        transport: Arc<dyn Transport>,
    ) -> io::Result<Self> {
        let waiting = Mutex::new(Waiting::default());
        let began = Instant::now();
        let desk = Arc::new(Desk { waiting, changed: Condvar::new(), began });
        let shelf = Shelf::open(ledger, desk.now_ms())?;
        let server = Server { desk: Arc::clone(&desk), shelf, store, transport };
        let thread = thread::Builder::new().name("ledger-serve".into());
        let thread = Some(thread.spawn(move || server.run())?);
        Ok(Self { desk, thread })
    }

    /// A peer wants something. When it wants too much, it asks again.
    pub(super) fn ask(&self, peer: Peer, request: Request) {
        let now_ms = self.desk.now_ms();
        self.desk.change(|waiting| {
            waiting.turns.ask(now_ms, peer, request);
        });
    }

    /// The state is to be kept for others, in the place of one that still waits for it.
    pub(super) fn keep(&self, reader: Reader) {
        self.desk.change(|waiting| waiting.keep = Some(Box::new(reader)));
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.desk.change(|waiting| waiting.is_over = true);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread that reads.
struct Server {
    desk: Arc<Desk>,
    shelf: Shelf,
    store: Store,
    transport: Arc<dyn Transport>,
}

impl Server {
    fn run(mut self) {
        while let Some(job) = self.desk.next() {
            match job {
                Job::Answer(peer, request) => match self.answer(request) {
                    Ok((message, bytes)) => {
                        self.transport.send(&peer, message);
                        let now_ms = self.desk.now_ms();
                        self.desk.lock().turns.gave(now_ms, &peer, bytes);
                    }
                    Err(error) => tracing::error!(%error, "what a peer wants cannot be read"),
                },
                Job::Keep(reader) => {
                    if let Err(error) = self.shelf.put(&reader) {
                        tracing::error!(%error, "a snapshot for others cannot be made");
                    }
                }
            }
            if let Err(error) = self.shelf.tidy(self.desk.now_ms()) {
                tracing::error!(%error, "an old snapshot cannot be taken away");
            }
        }
    }

    /// The answer, and about how many bytes it has.
    fn answer(&mut self, request: Request) -> Result<(Message, usize), StoreError> {
        let now_ms = self.desk.now_ms();
        Ok(match request {
            Request::Blocks(from) => {
                let (found, bytes) = decided(&self.store, from)?;
                (Message::Decided(found), bytes)
            }
            Request::Snapshot => {
                let newest = self.shelf.newest(now_ms).cloned();
                let parts = newest.as_ref().map_or(0, |manifest| manifest.parts.len());
                let bytes = LIGHT_BLOCK_BYTES_MAX.saturating_add(parts.saturating_mul(32));
                (Message::Snapshot(newest.map(Box::new)), bytes)
            }
            Request::Part(block, index) => {
                let part = self.shelf.part(block, index, now_ms);
                let bytes = part.bytes.len();
                (Message::Part(part), bytes)
            }
            Request::Light(height) => {
                let light = self.store.read()?.light_block(height)?;
                (Message::Light(light.map(Box::new)), LIGHT_BLOCK_BYTES_MAX)
            }
        })
    }
}

/// Blocks from a height on, as many as one message holds, and their bytes; none where they are kept no
/// more.
fn decided(store: &Store, from: u64) -> Result<(Vec<Decided>, usize), StoreError> {
    let reader = store.read()?;
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    for height in (from..=reader.height()).take(DECIDED_PER_MESSAGE_MAX) {
        let Some(block) = reader.block_bytes(height)? else { break };
        let more = bytes.saturating_add(block.len());
        if more > SERVED_BYTES_MAX && !found.is_empty() {
            break;
        }
        bytes = more;
        let block = arknet_types::decode(&block);
        let block = block.map_err(|error| StoreError::Damaged(error.to_string()))?;
        let Some(certificate) = reader.certificate(height)? else { break };
        found.push(Decided { block: Arc::new(block), certificate });
    }
    Ok((found, bytes))
}
