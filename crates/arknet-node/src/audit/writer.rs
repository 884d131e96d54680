//! The one thread that writes.

use std::{
    collections::VecDeque,
    io,
    sync::PoisonError,
    time::{Duration, Instant},
};

use arknet_protocol::audit::{Chain, Event, Noted, RefusalMeter};
use tokio::sync::oneshot;

use super::{
    AuditOptions, AuditStatus, Message, Shared,
    disk::{Disk, Found},
    lock, text,
};

/// How long a closing line may lie in the system's memory alone.
const SYNC_AFTER: Duration = Duration::from_millis(200);
/// Time between two tries to write what could not be written.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Time between two summaries of what was refused and has no line.
const SUMMARY_AFTER: Duration = Duration::from_secs(600);

/// Writes lines, and knows which of them are on the disk.
pub(super) struct Writer<D> {
    disk: D,
    found: Found,
    chain: Chain,
    meter: RefusalMeter,
    file_bytes_max: u64,
    /// The number of the first line of the present file.
    first: u64,
    /// Bytes of the present file that are on the disk for good.
    committed: u64,
    /// Lines after those.
    pending: Vec<u8>,
    /// How much of these the system has.
    written: usize,
    /// The oldest line that is not on the disk.
    pending_since: Option<Instant>,
    /// Why nothing can be written, and when that was tried last.
    failure: Option<(String, Instant)>,
    summarized: Instant,
}

/// Who waits for one opening line.
struct Waiter {
    written: Option<oneshot::Sender<bool>>,
    durable: oneshot::Sender<bool>,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(disk: D, found: Found, file_bytes_max: u64) -> Self {
        Self {
            disk,
            chain: found.last.map_or_else(Chain::new, Chain::after),
            found,
            meter: RefusalMeter::new(),
            file_bytes_max,
            first: found.first,
            committed: found.bytes,
            pending: Vec::new(),
            written: 0,
            pending_since: None,
            failure: None,
            summarized: Instant::now(),
        }
    }

    /// Says that the node starts; in a new log, whose it is.
    pub(super) fn begin(&mut self, options: &AuditOptions) -> io::Result<()> {
        if self.found.last.is_none() {
            let mut start = [0; 32];
            getrandom::fill(&mut start).map_err(io::Error::other)?;
            self.add(&Event::Begin {
                version: 1,
                network: options.network.to_string(),
                node: options.node.to_string(),
                start: hex::encode(start),
            });
        }
        let Found { head, unclosed, torn_bytes, .. } = self.found;
        let program = env!("CARGO_PKG_VERSION").to_owned();
        self.add(&Event::Start { program, unclosed, torn_bytes, head });
        self.write()?;
        self.commit()
    }

    pub(super) fn status(&self) -> AuditStatus {
        let failure = self.failure.as_ref().map(|(words, _)| words.clone());
        AuditStatus { head: text(self.chain.head()), failure }
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self, shared: &Shared) {
        loop {
            let (messages, overflow, is_closed) = self.wait(shared);
            self.meter.count_others(overflow);
            let mut waiters = Vec::new();
            for message in messages {
                self.take(message, &mut waiters);
            }
            if is_closed || self.summarized.elapsed() >= SUMMARY_AFTER {
                self.summarize();
            }
            if is_closed {
                self.add(&Event::Stop {});
            }
            let refused = self.flush(waiters, is_closed);
            if self.pending.is_empty() {
                shared.status.send_replace(self.status());
            } else if let Some((words, _)) = &self.failure {
                shared.status.send_modify(|status| status.failure = Some(words.clone()));
            }
            // Who is refused finds the reason in the status.
            for written in refused.into_iter().filter_map(|waiter| waiter.written) {
                let _ = written.send(false);
            }
            if is_closed {
                return;
            }
        }
    }

    /// Waits for something to do.
    fn wait(&self, shared: &Shared) -> (VecDeque<Message>, u64, bool) {
        let patience = match (&self.failure, self.pending_since) {
            (Some((_, tried)), _) => RETRY_AFTER.saturating_sub(tried.elapsed()),
            (None, Some(since)) => SYNC_AFTER.saturating_sub(since.elapsed()),
            (None, None) => SUMMARY_AFTER,
        };
        let inbox = lock(&shared.inbox);
        let nothing = |inbox: &mut super::Inbox| inbox.messages.is_empty() && !inbox.is_closed;
        let waited = shared.wake.wait_timeout_while(inbox, patience, nothing);
        let (mut inbox, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let messages = std::mem::take(&mut inbox.messages);
        (messages, std::mem::take(&mut inbox.overflow), inbox.is_closed)
    }

    fn take(&mut self, message: Message, waiters: &mut Vec<Waiter>) {
        match message {
            // Dropping who is to be told refuses the request.
            Message::Open { .. } if self.failure.is_some() => {}
            Message::Open { event, written, durable } => {
                self.add(&event);
                waiters.push(Waiter { written: Some(written), durable });
            }
            Message::Close(event) => self.add(&event),
            Message::Refused { peer, .. } if self.failure.is_some() => self.meter.count(peer),
            Message::Refused { peer, node_id, model, code } => {
                let noted = self.meter.note(peer, arknet_sdk::now());
                if let Noted::Write { uncounted } = noted {
                    let (peer, outcome) = (Some(peer.to_string()), code.as_str().to_owned());
                    self.add(&Event::Refused { peer, node_id, model, outcome, uncounted });
                }
            }
        }
    }

    fn summarize(&mut self) {
        self.summarized = Instant::now();
        if self.failure.is_some() {
            return;
        }
        for (peer, uncounted) in self.meter.summary() {
            let (peer, outcome) = (peer.map(|peer| peer.to_string()), "several".to_owned());
            self.add(&Event::Refused { peer, node_id: None, model: None, outcome, uncounted });
        }
    }

    fn add(&mut self, event: &Event) {
        self.pending.extend(self.chain.append(arknet_sdk::now(), event).into_bytes());
        self.pending_since.get_or_insert_with(Instant::now);
    }

    /// Hands over what is pending; waits for the disk where somebody waits for it, and otherwise
    /// when it is time.
    /// Returns who waits for what could not be written.
    fn flush(&mut self, mut waiters: Vec<Waiter>, must_sync: bool) -> Vec<Waiter> {
        let Some(since) = self.pending_since else { return waiters };
        let is_retry_due =
            self.failure.as_ref().is_none_or(|(_, tried)| tried.elapsed() >= RETRY_AFTER);
        if !is_retry_due && !must_sync {
            return waiters;
        }
        let result = self.write().and_then(|()| {
            for waiter in &mut waiters {
                if let Some(written) = waiter.written.take() {
                    let _ = written.send(true);
                }
            }
            let is_due = must_sync || since.elapsed() >= SYNC_AFTER || self.failure.is_some();
            if is_due || !waiters.is_empty() { self.commit() } else { Ok(()) }
        });
        match result {
            Ok(()) => {
                for waiter in waiters {
                    let _ = waiter.durable.send(true);
                }
                vec![]
            }
            Err(error) => {
                self.fail(&error);
                waiters
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.failure.is_some() {
            // What a failed write has left behind goes first: a part of a line, or lines of which
            // the system has forgotten that they are not on the disk.
            self.disk.truncate(self.committed)?;
        }
        self.disk.append(&self.pending[self.written..])?;
        self.written = self.pending.len();
        Ok(())
    }

    fn commit(&mut self) -> io::Result<()> {
        self.disk.sync()?;
        self.committed += self.pending.len() as u64;
        self.pending.clear();
        self.written = 0;
        self.pending_since = None;
        if self.failure.take().is_some() {
            tracing::info!("the audit log can be written again");
        }
        let head = self.chain.head().expect("a log that was written to has a line");
        if let Err(error) = self.disk.note(head) {
            tracing::warn!(%error, "the head of the audit log cannot be noted");
        }
        if self.committed >= self.file_bytes_max {
            match self.disk.rotate(self.first) {
                Ok(()) => (self.first, self.committed) = (self.chain.next(), 0),
                Err(error) => tracing::warn!(%error, "the audit log goes on in its large file"),
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            tracing::error!(%error, "the audit log cannot be written: requests of other peers are refused");
        }
        self.failure = Some((error.to_string(), Instant::now()));
        self.written = 0;
    }
}
