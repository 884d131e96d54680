//! What nodes of the chain say to one another.
//!
//! Each node that follows the chain opens one stream to each connected peer that does too, and says
//! there what it has to say, message after message; what the peer says comes on the streams that the
//! peer opened. Long messages have a queue and a stream of their own, which is opened when there is
//! one: on a slow line a block takes seconds, and votes do not wait for it. Transactions and
//! free jobs are spread by gossip, and passed on once somebody has judged them.
//!
//! Nothing here knows what a message means, and no message waits for a slow peer: what does not fit
//! into its queue is lost.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arknet_types::PublicKey;
use libp2p::{PeerId, gossipsub};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    addresses,
    gossip::Topic,
    limits::{
        CHAIN_BARRED, CHAIN_BARRED_MAX, CHAIN_EVENTS_MAX, CHAIN_IDLE, CHAIN_LONG_BYTES_MAX,
        CHAIN_LONG_MAX, CHAIN_PLACES_PER_STREAM_MAX, CHAIN_SHORT_BYTES, CHAIN_SHORT_BYTES_MAX,
        CHAIN_SHORT_MAX, CHAIN_SILENCE, CHAIN_TIMEOUT, CHAIN_UNJUDGED_MAX, CHAIN_WAITING_BYTES_MAX,
    },
    options::ChainOptions,
    status::Connections,
    streams::{Accepted, FrameError, LaneError, Lanes, Purpose, RequestStream},
    swarm_loop::Command,
};

/// How often peers without a stream are looked at again.
const AGAIN: Duration = Duration::from_secs(1);

/// What happens between this node and others that follow the chain.
#[derive(Debug)]
pub enum ChainEvent {
    /// A peer can be spoken to.
    Joined(PublicKey),
    /// It cannot any more.
    Gone(PublicKey),
    /// A peer passed on what is gossiped.
    Heard {
        /// Who passed it on.
        from: PublicKey,
        /// What it is about.
        topic: Topic,
        /// What.
        bytes: Vec<u8>,
        /// To judge it by, with [`Chain::judge`].
        tag: u64,
        /// Keeps the message within what all may hold, until it is dropped.
        hold: Hold,
    },
    /// A peer said something.
    Said {
        /// Who.
        from: PublicKey,
        /// What.
        bytes: Vec<u8>,
        /// Keeps the message within what all may hold, until it is dropped.
        hold: Hold,
    },
}

/// The share of a message in the bytes that peers may have waiting here, and its place among those
/// of its peer.
#[derive(Debug)]
pub struct Hold {
    bytes: Option<OwnedSemaphorePermit>,
    _place: Option<OwnedSemaphorePermit>,
}

/// The bytes that peers may have waiting here.
#[derive(Clone)]
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(CHAIN_WAITING_BYTES_MAX)))
    }

    fn share(bytes: usize) -> u32 {
        u32::try_from(bytes.min(CHAIN_WAITING_BYTES_MAX)).unwrap_or(u32::MAX)
    }

    fn try_take(&self, bytes: usize) -> Option<Hold> {
        let permit = Arc::clone(&self.0).try_acquire_many_owned(Self::share(bytes));
        permit.ok().map(|permit| Hold { bytes: Some(permit), _place: None })
    }

    /// Room for the next frame of a stream. A short one needs none: its stream may have it. A longer
    /// one gets more as it arrives, so that who only announces much takes nothing from others.
    async fn admit(
        &self,
        stream: &mut RequestStream,
        options: ChainOptions,
    ) -> Result<Hold, ReadError> {
        let length = stream.next_length(options.message_bytes_max).await?;
        let mut hold = Hold { bytes: None, _place: None };
        let mut there = CHAIN_SHORT_BYTES;
        while there < length {
            timeout(CHAIN_TIMEOUT, stream.arrived(there)).await.map_err(|_| ReadError::Slow)??;
            let more = (length - there).min(CHAIN_SHORT_BYTES);
            let permit = Arc::clone(&self.0).acquire_many_owned(Self::share(more)).await;
            let permit = permit.map_err(|_| ReadError::Closed)?;
            match &mut hold.bytes {
                Some(bytes) => bytes.merge(permit),
                none => *none = Some(permit),
            }
            there += more;
        }
        Ok(hold)
    }
}

/// What becomes of a gossiped message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// It is passed on.
    Accept,
    /// It is not, and nobody is to blame.
    Ignore,
    /// It is not, and whoever passed it on loses standing.
    Reject,
}

impl From<Judgement> for gossipsub::MessageAcceptance {
    fn from(judgement: Judgement) -> Self {
        match judgement {
            Judgement::Accept => Self::Accept,
            Judgement::Ignore => Self::Ignore,
            Judgement::Reject => Self::Reject,
        }
    }
}

/// Says things to the peers that follow the chain. Cheap to clone.
#[derive(Clone)]
pub struct Chain {
    links: Links,
    commands: mpsc::Sender<Command>,
}

/// The ways to all peers that can be spoken to.
#[derive(Clone, Default)]
pub(crate) struct Links {
    peers: Arc<Mutex<HashMap<PublicKey, Link>>>,
    barred: Arc<Mutex<HashMap<PublicKey, Instant>>>,
}

impl Links {
    fn lock(&self) -> MutexGuard<'_, HashMap<PublicKey, Link>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is read of this peer for a while.
    fn bar(&self, peer: PublicKey) {
        let (now, mut barred) = (Instant::now(), self.lock_barred());
        barred.retain(|_, until| *until > now);
        if barred.len() >= CHAIN_BARRED_MAX {
            let oldest = barred.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            barred.remove(&oldest.unwrap_or(peer));
        }
        barred.insert(peer, now + CHAIN_BARRED);
    }

    fn is_barred(&self, peer: &PublicKey) -> bool {
        self.lock_barred().get(peer).is_some_and(|until| *until > Instant::now())
    }

    fn lock_barred(&self) -> MutexGuard<'_, HashMap<PublicKey, Instant>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one peer. What is long does not hold up what is short.
#[derive(Clone)]
struct Link {
    short: Queue,
    long: Queue,
}

/// Messages on their way.
#[derive(Clone)]
struct Queue {
    frames: mpsc::Sender<Arc<[u8]>>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The other end of a queue.
struct Queued {
    frames: mpsc::Receiver<Arc<[u8]>>,
    bytes: Arc<AtomicUsize>,
}

impl Chain {
    pub(crate) fn new(links: Links, commands: mpsc::Sender<Command>) -> Self {
        Self { links, commands }
    }

    /// Says a framed message to one peer.
    pub fn send(&self, peer: &PublicKey, frame: &Arc<[u8]>) {
        let link = self.links.lock().get(peer).cloned();
        if let Some(link) = link {
            link.push(peer, frame);
        }
    }

    /// Says a framed message to all peers but one.
    pub fn broadcast(&self, frame: &Arc<[u8]>, except: Option<&PublicKey>) {
        let links = self.links.lock();
        for (peer, link) in links.iter().filter(|(peer, _)| Some(*peer) != except) {
            link.push(peer, frame);
        }
    }

    /// Spreads a message among all that follow the chain.
    pub fn gossip(&self, topic: Topic, bytes: Vec<u8>) {
        self.command(Command::Gossip { topic, bytes });
    }

    /// Says what becomes of a gossiped message. Once for each tag.
    pub fn judge(&self, tag: u64, judgement: Judgement) {
        self.command(Command::Judge { tag, judgement });
    }

    /// This peer did what no honest one does: for a while nothing more is read of it.
    pub fn bar(&self, peer: PublicKey) {
        self.links.bar(peer);
    }

    fn command(&self, command: Command) {
        // Transactions are told again while they wait, and what is not judged is not passed on.
        if self.commands.try_send(command).is_err() {
            tracing::debug!("the mesh has too much to do: gossip of the chain is lost");
        }
    }
}

impl Link {
    fn new() -> (Self, [Queued; 2]) {
        let (short, shorts) = Queue::new(CHAIN_SHORT_MAX, CHAIN_SHORT_BYTES_MAX);
        let (long, longs) = Queue::new(CHAIN_LONG_MAX, CHAIN_LONG_BYTES_MAX);
        (Self { short, long }, [shorts, longs])
    }

    fn push(&self, peer: &PublicKey, frame: &Arc<[u8]>) {
        let queue = if frame.len() <= CHAIN_SHORT_BYTES { &self.short } else { &self.long };
        if !queue.push(frame) {
            tracing::debug!(%peer, "the peer is too slow: a message of the chain is lost");
        }
    }
}

impl Queue {
    fn new(max: usize, bytes_max: usize) -> (Self, Queued) {
        let (frames, queued) = mpsc::channel(max);
        let bytes = Arc::new(AtomicUsize::new(0));
        let queue = Self { frames, bytes: Arc::clone(&bytes), bytes_max };
        (queue, Queued { frames: queued, bytes })
    }

    /// Whether there was room.
    fn push(&self, frame: &Arc<[u8]>) -> bool {
        let before = self.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        let has_room = before.saturating_add(frame.len()) <= self.bytes_max;
        let is_in = has_room && self.frames.try_send(Arc::clone(frame)).is_ok();
        if !is_in {
            self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        }
        is_in
    }
}

impl Queued {
    /// The next message, in the order in which they came; none when nobody has any more.
    async fn next(&mut self) -> Option<Arc<[u8]>> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }
}

/// Why nothing more is read of a peer.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    /// What was broken off there helps nobody.
    #[error("nobody listens any more")]
    Closed,
    /// The stream failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message does not arrive.
    #[error("a message did not arrive in time")]
    Slow,
}

/// Gossiped messages that wait for a judgement, the oldest first.
pub(crate) struct Unjudged {
    events: mpsc::Sender<ChainEvent>,
    room: Room,
    next_tag: u64,
    waiting: BTreeMap<u64, (gossipsub::MessageId, PeerId)>,
}

impl Unjudged {
    pub(crate) fn new(events: mpsc::Sender<ChainEvent>, room: Room) -> Self {
        Self { events, room, next_tag: 0, waiting: BTreeMap::new() }
    }

    /// Hands a message to whoever judges it. Returns those of which nobody will hear any more.
    pub(crate) fn arrived(
        &mut self,
        named: (gossipsub::MessageId, PeerId),
        topic: Topic,
        bytes: Vec<u8>,
    ) -> Option<(gossipsub::MessageId, PeerId)> {
        // Free jobs leave half the room to what blocks are made of.
        let has_room =
            topic == Topic::Transactions || self.events.capacity() > CHAIN_EVENTS_MAX / 2;
        let from = addresses::public_key(&named.1).filter(|_| has_room);
        let Some((from, hold)) = from.zip(self.room.try_take(bytes.len())) else {
            return Some(named);
        };
        let tag = self.next_tag;
        if self.events.try_send(ChainEvent::Heard { from, topic, bytes, tag, hold }).is_err() {
            return Some(named);
        }
        self.next_tag += 1;
        self.waiting.insert(tag, named);
        if self.waiting.len() <= CHAIN_UNJUDGED_MAX {
            return None;
        }
        self.waiting.pop_first().map(|(_, oldest)| oldest)
    }

    pub(crate) fn judged(&mut self, tag: u64) -> Option<(gossipsub::MessageId, PeerId)> {
        self.waiting.remove(&tag)
    }
}

/// What the task of the chain works with.
pub(crate) struct ChainTask {
    pub(crate) links: Links,
    pub(crate) options: ChainOptions,
    pub(crate) events: mpsc::Sender<ChainEvent>,
    pub(crate) room: Room,
    pub(crate) lanes: Lanes,
    pub(crate) connections: Connections,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
}

/// Where those who listen to the chain get what is said.
pub(crate) fn events() -> (mpsc::Sender<ChainEvent>, mpsc::Receiver<ChainEvent>) {
    mpsc::channel(CHAIN_EVENTS_MAX)
}

/// A connected peer, as far as the chain goes.
struct Known {
    gone: CancellationToken,
    /// It does not follow the chain.
    is_deaf: bool,
    is_working: bool,
}

/// How the work for a stream to a peer ended.
struct Ended {
    peer: PublicKey,
    is_deaf: bool,
}

impl ChainTask {
    /// Opens streams to peers that come, and reads those that they open, until the mesh closes.
    pub(crate) async fn run(self, mut accepted: mpsc::Receiver<Accepted>) {
        let closing = self.closing.clone();
        let mut changed = self.connections.changed();
        let mut tick = interval(AGAIN);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (ended, mut endings) = mpsc::channel(CHAIN_EVENTS_MAX);
        let mut known: HashMap<PublicKey, Known> = HashMap::new();
        loop {
            select! {
                biased;
                () = closing.cancelled() => return,
                Some(Ended { peer, is_deaf }) = endings.recv() => {
                    if let Some(known) = known.get_mut(&peer) {
                        (known.is_working, known.is_deaf) = (false, is_deaf);
                    }
                }
                stream = accepted.recv() => {
                    // The swarm is gone.
                    let Some(stream) = stream else { break };
                    let read = read(
                        stream,
                        self.options,
                        self.links.clone(),
                        (self.events.clone(), self.room.clone()),
                    );
                    let closing = self.closing.clone();
                    self.tasks.spawn(async move { closing.run_until_cancelled(read).await });
                }
                Ok(()) = changed.changed() => self.look(&mut known, &ended),
                _ = tick.tick() => self.look(&mut known, &ended),
            }
        }
        for known in known.into_values() {
            known.gone.cancel();
        }
    }

    /// Begins with peers that are new, ends with those that are gone.
    fn look(&self, known: &mut HashMap<PublicKey, Known>, ended: &mpsc::Sender<Ended>) {
        let connected: Vec<_> = self.connections.list().into_iter().map(|one| one.peer).collect();
        known.retain(|peer, known| {
            let is_there = connected.contains(peer);
            if !is_there {
                known.gone.cancel();
            }
            is_there || known.is_working
        });
        for peer in connected {
            let known = known.entry(peer).or_insert_with(|| Known {
                gone: self.closing.child_token(),
                is_deaf: false,
                is_working: false,
            });
            if known.is_working || known.is_deaf {
                continue;
            }
            if known.gone.is_cancelled() {
                known.gone = self.closing.child_token();
            }
            known.is_working = true;
            let (link, ended, gone) = (self.link(peer), ended.clone(), known.gone.clone());
            self.tasks.spawn(async move {
                let is_deaf = link.run(gone).await;
                // The task that listens ends with the mesh.
                let _ = ended.send(Ended { peer, is_deaf }).await;
            });
        }
    }

    fn link(&self, peer: PublicKey) -> LinkTask {
        LinkTask {
            peer,
            links: self.links.clone(),
            events: self.events.clone(),
            lanes: self.lanes.clone(),
        }
    }
}

/// One stream to one peer.
struct LinkTask {
    peer: PublicKey,
    links: Links,
    events: mpsc::Sender<ChainEvent>,
    lanes: Lanes,
}

impl LinkTask {
    /// Speaks to the peer for as long as it hears. Returns whether it does not follow the chain.
    async fn run(self, gone: CancellationToken) -> bool {
        let opened = gone.run_until_cancelled(timeout(CHAIN_TIMEOUT, self.open())).await;
        let mut stream = match opened {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => return error == LaneError::Unsupported,
            Some(Err(_)) | None => return false,
        };
        let (link, [shorts, longs]) = Link::new();
        self.links.lock().insert(self.peer, link);
        let is_heard = self.events.send(ChainEvent::Joined(self.peer)).await.is_ok();
        if is_heard {
            let write = async {
                select! {
                    () = write_short(&mut stream, shorts) => {}
                    () = self.write_long(longs) => {}
                }
            };
            gone.run_until_cancelled(write).await;
        }
        self.links.lock().remove(&self.peer);
        // Whoever listened may have gone.
        let _ = self.events.send(ChainEvent::Gone(self.peer)).await;
        false
    }

    /// Writes what is long, on a stream that is there while there is any, until one fails.
    async fn write_long(&self, mut queued: Queued) {
        while let Some(first) = queued.next().await {
            let Ok(Ok(mut stream)) = timeout(CHAIN_TIMEOUT, self.open()).await else { return };
            let mut next = Some(first);
            while let Some(frame) = next {
                if !write(&mut stream, &frame).await {
                    return;
                }
                next = select! {
                    biased;
                    () = stream.gone() => return,
                    frame = timeout(CHAIN_IDLE, queued.next()) => frame.unwrap_or_default(),
                };
            }
            // Before the peer takes it for a silent one.
            if stream.close().await.is_err() {
                return;
            }
        }
    }

    async fn open(&self) -> Result<RequestStream, LaneError> {
        let lane = self.lanes.best(&addresses::peer_id(&self.peer)).ok_or(LaneError::Closed)?;
        let stream = lane.ask_once(Purpose::Chain)?.await.unwrap_or(Err(LaneError::Closed))?;
        Ok(RequestStream::opened(stream))
    }
}

/// Writes what is queued, until the stream fails or the peer takes too long for a part of it.
async fn write_short(stream: &mut RequestStream, mut queued: Queued) {
    loop {
        let frame = select! {
            biased;
            // Nothing is ever said back: this is how the end of the stream is noticed.
            () = stream.gone() => return,
            frame = queued.next() => frame,
        };
        let Some(frame) = frame else { return };
        if !write(stream, &frame).await {
            return;
        }
    }
}

/// Writes a message. Whether it went.
async fn write(stream: &mut RequestStream, frame: &[u8]) -> bool {
    // Part by part: a large block may take a slow line long, as long as it moves.
    for part in frame.chunks(CHAIN_SHORT_BYTES) {
        match timeout(CHAIN_TIMEOUT, stream.write_raw(part)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "a stream of the chain failed");
                return false;
            }
            Err(_) => {
                tracing::debug!("a peer reads the chain too slowly");
                return false;
            }
        }
    }
    true
}

/// Reads what a peer says. A reader that is behind slows the peer down, and nobody else.
async fn read(
    accepted: Accepted,
    options: ChainOptions,
    links: Links,
    (events, room): (mpsc::Sender<ChainEvent>, Room),
) {
    let Accepted { peer, stream, permit } = accepted;
    let mut stream = RequestStream::accepted(stream, permit);
    let places = Arc::new(Semaphore::new(CHAIN_PLACES_PER_STREAM_MAX));
    loop {
        let message = next(&mut stream, options, (&room, &places)).await;
        let (bytes, hold) = match message {
            Ok(message) => message,
            Err(error) => return tracing::debug!(%peer, %error, "no more is read of the chain"),
        };
        if links.is_barred(&peer) {
            return;
        }
        let said = ChainEvent::Said { from: peer, bytes, hold };
        if events.send(said).await.is_err() {
            return;
        }
    }
}

/// The next message of a stream, once those before it are mostly dealt with.
async fn next(
    stream: &mut RequestStream,
    options: ChainOptions,
    (room, places): (&Room, &Arc<Semaphore>),
) -> Result<(Vec<u8>, Hold), ReadError> {
    let place = Arc::clone(places).acquire_owned().await.map_err(|_| ReadError::Closed)?;
    let hold = timeout(CHAIN_SILENCE, room.admit(stream, options));
    let hold = hold.await.map_err(|_| ReadError::Slow)??;
    let bytes = timeout(CHAIN_TIMEOUT, stream.read_raw(options.message_bytes_max));
    let bytes = bytes.await.map_err(|_| ReadError::Slow)??;
    Ok((bytes, Hold { _place: Some(place), ..hold }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Arc<[u8]> {
        vec![0; bytes].into()
    }

    /// How many of these are taken.
    fn taken(link: &Link, bytes: usize) -> usize {
        let queue = if bytes <= CHAIN_SHORT_BYTES { &link.short } else { &link.long };
        (0..10_000).take_while(|_| queue.push(&frame(bytes))).count()
    }

    #[tokio::test]
    async fn short_messages_have_room_when_long_ones_have_none_and_both_are_bounded() {
        let (link, [mut shorts, mut longs]) = Link::new();
        let mib = 1024 * 1024;
        assert_eq!(taken(&link, 8 * mib), CHAIN_LONG_BYTES_MAX / (8 * mib));
        assert_eq!(taken(&link, 1), CHAIN_SHORT_MAX);
        assert_eq!(taken(&link, 8 * mib), 0);
        assert_eq!(longs.next().await.unwrap().len(), 8 * mib);
        assert_eq!(taken(&link, 8 * mib), 1, "what is written makes room");
        assert_eq!(shorts.next().await.unwrap().len(), 1);
        let (link, _queued) = Link::new();
        assert_eq!(taken(&link, CHAIN_SHORT_BYTES), CHAIN_SHORT_BYTES_MAX / CHAIN_SHORT_BYTES);
        assert_eq!(taken(&link, CHAIN_SHORT_BYTES + 1), CHAIN_LONG_MAX);
    }

    #[tokio::test]
    async fn each_kind_keeps_its_order() {
        let (link, [mut shorts, mut longs]) = Link::new();
        let peer = PublicKey([1; 32]);
        for n in 1..=3 {
            link.push(&peer, &frame(CHAIN_SHORT_BYTES + n));
            link.push(&peer, &frame(n));
        }
        for n in 1..=3 {
            assert_eq!(longs.next().await.unwrap().len(), CHAIN_SHORT_BYTES + n);
            assert_eq!(shorts.next().await.unwrap().len(), n);
        }
    }
}
