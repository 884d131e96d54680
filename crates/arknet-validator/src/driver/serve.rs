//! Old blocks for peers that catch up, read on a thread of their own: consensus does not wait for
//! what others missed.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use arknet_consensus::{Decided, Message, Peer, limits::DECIDED_PER_MESSAGE_MAX};

use crate::{
    Store, StoreError, Transport,
    limits::{SERVED_BYTES_MAX, SERVED_MAX},
};

/// Where requests go. Dropping it waits for the thread: while that runs, the store is open.
#[derive(Debug)]
pub(super) struct Served {
    /// None only while it is dropped.
    ask: Option<SyncSender<(Peer, u64)>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(super) fn start(store: Store, transport: Arc<dyn Transport>) -> io::Result<Self> {
        let (ask, asked) = sync_channel(SERVED_MAX);
        let body = move || {
            for (peer, from) in asked {
                match decided(&store, from) {
                    Ok(decided) => transport.send(&peer, Message::Decided(decided)),
                    Err(error) => tracing::error!(%error, "blocks for a peer cannot be read"),
                }
            }
        };
        let thread = thread::Builder::new().name("ledger-serve".into()).spawn(body)?;
        Ok(Self { ask: Some(ask), thread: Some(thread) })
    }

    /// A peer wants blocks. When too many do, it asks again.
    pub(super) fn ask(&self, peer: Peer, from: u64) {
        let _ = self.ask.as_ref().map(|ask| ask.try_send((peer, from)));
    }
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
