//! What peers ask for that is on disk, read on a thread of its own: consensus does not wait for what
//! others missed.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use arknet_chain::Hash;
use arknet_consensus::{Decided, Message, Peer, limits::DECIDED_PER_MESSAGE_MAX};

use super::shelf::Shelf;
use crate::{
    Reader, Store, StoreError, Transport,
    limits::{SERVED_BYTES_MAX, SERVED_MAX},
};

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

/// Where requests go. Dropping it waits for the thread: while that runs, the store is open.
#[derive(Debug)]
pub(super) struct Served {
    /// None only while it is dropped.
    ask: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(super) fn start(
        ledger: &Path,
        store: Store,
        transport: Arc<dyn Transport>,
    ) -> io::Result<Self> {
        let mut shelf = Shelf::open(ledger)?;
        let (ask, asked) = sync_channel(SERVED_MAX);
        let body = move || {
            for job in asked {
                match job {
                    Job::Answer(peer, request) => match answer(&store, &shelf, request) {
                        Ok(message) => transport.send(&peer, message),
                        Err(error) => tracing::error!(%error, "what a peer wants cannot be read"),
                    },
                    Job::Keep(reader) => {
                        if let Err(error) = shelf.put(&reader) {
                            tracing::error!(%error, "a snapshot for others cannot be made");
                        }
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("ledger-serve".into()).spawn(body)?;
        Ok(Self { ask: Some(ask), thread: Some(thread) })
    }

    /// A peer wants something. When too many do, it asks again.
    pub(super) fn ask(&self, peer: Peer, request: Request) {
        let _ = self.ask.as_ref().map(|ask| ask.try_send(Job::Answer(peer, request)));
    }

    /// The state is to be kept for others; the next one where too much waits.
    pub(super) fn keep(&self, reader: Reader) {
        let _ = self.ask.as_ref().map(|ask| ask.try_send(Job::Keep(Box::new(reader))));
    }
}

fn answer(store: &Store, shelf: &Shelf, request: Request) -> Result<Message, StoreError> {
    Ok(match request {
        Request::Blocks(from) => Message::Decided(decided(store, from)?),
        Request::Snapshot => Message::Snapshot(shelf.newest().cloned().map(Box::new)),
        Request::Part(block, index) => Message::Part(shelf.part(block, index)),
        Request::Light(height) => Message::Light(store.read()?.light_block(height)?.map(Box::new)),
    })
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.ask.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Blocks from a height on, as many as one message holds; none where they are kept no more.
fn decided(store: &Store, from: u64) -> Result<Vec<Decided>, StoreError> {
    let reader = store.read()?;
    let (mut found, mut bytes) = (Vec::new(), 0_usize);
    for height in (from..=reader.height()).take(DECIDED_PER_MESSAGE_MAX) {
        let Some(block) = reader.block_bytes(height)? else { break };
        bytes = bytes.saturating_add(block.len());
        if bytes > SERVED_BYTES_MAX && !found.is_empty() {
            break;
        }
        let block = arknet_types::decode(&block);
        let block = block.map_err(|error| StoreError::Damaged(error.to_string()))?;
        let Some(certificate) = reader.certificate(height)? else { break };
        found.push(Decided { block: Arc::new(block), certificate });
    }
    Ok(found)
}
