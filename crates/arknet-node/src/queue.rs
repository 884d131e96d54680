//! The slots of one model as something that can be awaited.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arknet_protocol::{Asker, Placement, Preempt, SlotQueue, Ticket};
use arknet_types::{Refusal, RefusalCode};
use tokio::{
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a peer's request waits for a slot: its node may know another that is free.
const PEER_WAIT_MS_MAX: u64 = 60_000;

/// The queue before one model.
#[derive(Clone)]
pub(crate) struct ModelQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    next_ticket: AtomicU64,
    /// Free slots, for whoever announces them.
    free: watch::Sender<u32>,
}

struct State {
    slots: SlotQueue,
    waiting: BTreeMap<Ticket, oneshot::Sender<Permit>>,
    /// The way to tell a running request that its slot is needed.
    running: BTreeMap<Ticket, CancellationToken>,
}

/// A slot. Given back when dropped.
pub(crate) struct Permit {
    shared: Option<Arc<Shared>>,
    ticket: Ticket,
    needed: CancellationToken,
}

impl Permit {
    /// Returns when the owner of this node needs the slot: the work must end.
    pub(crate) async fn needed(&self) {
        self.needed.cancelled().await;
    }
}

impl ModelQueue {
    pub(crate) fn new(slots: u16, waiting_max: u32, preempt: Preempt) -> Self {
        let slots = SlotQueue::new(u32::from(slots), waiting_max).preempting(preempt);
        let (free, _) = watch::channel(slots.free());
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    slots,
                    waiting: BTreeMap::new(),
                    running: BTreeMap::new(),
                }),
                next_ticket: AtomicU64::new(0),
                free,
            }),
        }
    }

    /// Slots not taken, now and when that changes.
    pub(crate) fn free(&self) -> watch::Receiver<u32> {
        self.shared.free.subscribe()
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.shared.lock().slots.waiting()
    }

    /// Waits for a slot, or refuses as busy: a peer also when its turn does not come in
    /// [`PEER_WAIT_MS_MAX`], for the owner may ask without end, and another node may be free. Dropping
    /// the future gives the place up.
    pub(crate) async fn acquire(&self, asker: Asker) -> Result<Permit, Refusal> {
        let ticket = self.shared.next_ticket.fetch_add(1, Ordering::Relaxed);
        let turn = {
            let mut state = self.shared.lock();
            let placement = state.slots.ask(asker, ticket, arknet_sdk::now());
            if let Placement::Cut(victim) = placement {
                state.running.get(&victim).expect("what runs can be told to end").cancel();
            }
            match placement {
                Placement::Start => {
                    self.shared.announce(&state);
                    return Ok(self.shared.permit(&mut state, ticket));
                }
                Placement::Busy { retry_after_ms } => {
                    let refusal = Refusal::new(RefusalCode::Busy, "all slots are taken");
                    return Err(refusal.retry_after_ms(retry_after_ms));
                }
                Placement::Wait | Placement::Cut(_) => {
                    let (turn, wait) = oneshot::channel();
                    state.waiting.insert(ticket, turn);
                    wait
                }
            }
        };
        let place = Place { shared: &self.shared, asker, ticket };
        let permit = match asker {
            Asker::Local => Ok(turn.await),
            Asker::Peer(_) => timeout(Duration::from_millis(PEER_WAIT_MS_MAX), turn).await,
        };
        drop(place);
        let Ok(permit) = permit else {
            let refusal = Refusal::new(RefusalCode::Busy, "no slot came free in time");
            return Err(refusal.retry_after_ms(PEER_WAIT_MS_MAX));
        };
        // The sender lives as long as the queue, which this future keeps alive.
        permit.map_err(|_| Refusal::new(RefusalCode::ShuttingDown, "the queue was closed"))
    }
}

/// A place in the queue; left when dropped, whether or not the turn came.
struct Place<'a> {
    shared: &'a Shared,
    asker: Asker,
    ticket: Ticket,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.slots.abandon(self.asker, self.ticket);
        state.waiting.remove(&self.ticket);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(self: &Arc<Self>, state: &mut State, ticket: Ticket) -> Permit {
        let needed = CancellationToken::new();
        state.running.insert(ticket, needed.clone());
        Permit { shared: Some(Arc::clone(self)), ticket, needed }
    }

    fn announce(&self, state: &State) {
        let free = state.slots.free();
        self.free.send_if_modified(|known| std::mem::replace(known, free) != free);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        let mut unclaimed = None;
        {
            let mut state = shared.lock();
            state.running.remove(&self.ticket);
            if let Some(ticket) = state.slots.finished(self.ticket, arknet_sdk::now()) {
                let turn = state.waiting.remove(&ticket).expect("who waits left a way to be told");
                let permit = shared.permit(&mut state, ticket);
                // A receiver that has just gone gives the permit back here, and dropping it after
                // the lock is released passes the slot on.
                unclaimed = turn.send(permit).err();
            }
            shared.announce(&state);
        }
        drop(unclaimed);
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::PublicKey;
    use futures::FutureExt;

    use super::*;

    const PEER: Asker = Asker::Peer(PublicKey([1; 32]));

    #[tokio::test]
    async fn a_slot_passes_on_and_none_is_lost() {
        let queue = ModelQueue::new(1, 8, Preempt::Queue);
        let free = queue.free();
        let first = queue.acquire(PEER).await.unwrap();
        assert_eq!(*free.borrow(), 0);
        let mut gone = Box::pin(queue.acquire(PEER));
        let mut second = Box::pin(queue.acquire(PEER));
        let mut local = Box::pin(queue.acquire(Asker::Local));
        assert!((&mut gone).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut local).now_or_never().is_none());
        drop(gone);
        drop(first);
        let local = local.now_or_never().expect("local goes first").unwrap();
        assert!((&mut second).now_or_never().is_none());
        drop(local);
        // The permit is already sent when the one who waits goes away.
        drop(second);
        assert_eq!((*free.borrow(), queue.waiting()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_behind_an_owner_who_asks_without_end_is_told_to_go_elsewhere() {
        let queue = ModelQueue::new(1, 8, Preempt::Queue);
        let mut held = queue.acquire(Asker::Local).await.unwrap();
        let peer = tokio::spawn({
            let queue = queue.clone();
            async move { queue.acquire(PEER).await.err() }
        });
        let start = tokio::time::Instant::now();
        while !peer.is_finished() {
            // The owner's next request waits before this one ends.
            let (next, ()) = tokio::join!(queue.acquire(Asker::Local), async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(held);
            });
            held = next.unwrap();
        }
        assert!(start.elapsed() <= Duration::from_millis(PEER_WAIT_MS_MAX + 1_000));
        let refusal = peer.await.unwrap().unwrap();
        assert_eq!(refusal.code, RefusalCode::Busy);
        assert_eq!(refusal.retry_after_ms, Some(u32::try_from(PEER_WAIT_MS_MAX).unwrap()));
        assert_eq!(queue.waiting(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let queue = ModelQueue::new(1, 0, Preempt::Queue);
        let held = queue.acquire(PEER).await.unwrap();
        let refusal = queue.acquire(PEER).await.err().unwrap();
        assert_eq!(refusal.code, RefusalCode::Busy);
        assert!(refusal.retry_after_ms.is_some());
        drop(held);
        assert!(queue.acquire(PEER).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_of_a_peer_is_told_when_the_owner_needs_its_slot() {
        let queue = ModelQueue::new(1, 0, Preempt::Cut);
        let held = queue.acquire(PEER).await.unwrap();
        assert!(held.needed().now_or_never().is_none());
        let mut local = Box::pin(queue.acquire(Asker::Local));
        assert!((&mut local).now_or_never().is_none());
        held.needed().await;
        drop(held);
        let local = local.now_or_never().expect("its turn").unwrap();
        let refused = queue.acquire(Asker::Local).await;
        assert!(refused.is_err(), "what is the owner's is not ended");
        assert!(local.needed().now_or_never().is_none());
    }
}
