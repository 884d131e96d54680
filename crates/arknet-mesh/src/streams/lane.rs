//! The streams to one peer over one connection.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::AsyncRead;
use libp2p::Stream;
use tokio::sync::oneshot;

use super::handler::Purpose;
use crate::limits::{OPENING_MAX, WAITING_MAX};

/// Why a connection gives no stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LaneError {
    /// The connection is closed.
    Closed,
    /// The peer does not speak the protocol.
    Unsupported,
    /// Negotiation failed or took too long.
    Failed,
    /// Too many wait already.
    Crowded,
}

pub(crate) type StreamReply = oneshot::Sender<Result<Stream, LaneError>>;

/// How demand is measured: streams taken in one period.
const PERIOD: Duration = Duration::from_secs(1);
/// Streams kept ready for each this many taken in a second. New ones arrive within milliseconds, so
/// few suffice at a steady rate; bursts are learnt from misses.
const TAKEN_PER_WARM: usize = 64;

/// Bounds of the streams kept ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WarmBounds {
    pub(crate) min: usize,
    pub(crate) max: usize,
}

/// Streams of one connection: negotiated ahead, being negotiated, waited for.
pub(crate) struct Lane {
    pub(crate) relayed: bool,
    bounds: WarmBounds,
    state: Mutex<State>,
}

struct State {
    open: bool,
    supported: bool,
    /// Whether the connection is kept although nothing moves on it.
    kept_alive: bool,
    /// Whether streams are kept ready without demand.
    kept_ready: bool,
    warm: VecDeque<Stream>,
    opening: usize,
    refilling: bool,
    waiting: VecDeque<StreamReply>,
    /// Streams that are asked for one by one.
    once: VecDeque<(Purpose, StreamReply)>,
    demand: Demand,
    waker: Option<Waker>,
}

/// What is asked of a connection's handler next.
pub(crate) enum Wanted {
    Request,
    Once(Purpose, StreamReply),
}

impl Lane {
    pub(crate) fn new(relayed: bool, bounds: WarmBounds) -> Self {
        let state = State {
            open: true,
            supported: true,
            kept_alive: false,
            kept_ready: false,
            warm: VecDeque::new(),
            opening: 0,
            refilling: false,
            waiting: VecDeque::new(),
            once: VecDeque::new(),
            demand: Demand::default(),
            waker: None,
        };
        Self { relayed, bounds, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream negotiated ahead, if one is ready and still whole.
    pub(crate) fn take(&self, now: Instant) -> Option<Stream> {
        let mut state = self.lock();
        state.demand.taken(now);
        let stream = state.take_whole();
        if stream.is_none() {
            state.demand.missed(self.bounds.max);
        }
        let target = state.target(self.bounds);
        let wake = if state.wants_more(target) { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = wake {
            waker.wake();
        }
        stream
    }

    /// Asks for a stream; it comes through the channel.
    pub(crate) fn ask(&self) -> Result<oneshot::Receiver<Result<Stream, LaneError>>, LaneError> {
        let (reply, answer) = oneshot::channel();
        self.change(|state| {
            state.check()?;
            state.waiting.push_back(reply);
            Ok(answer)
        })
    }

    /// Asks for one stream of another protocol than requests.
    pub(crate) fn ask_once(
        &self,
        purpose: Purpose,
    ) -> Result<oneshot::Receiver<Result<Stream, LaneError>>, LaneError> {
        let (reply, answer) = oneshot::channel();
        self.change(|state| {
            if !state.open {
                return Err(LaneError::Closed);
            }
            if state.once.len() >= WAITING_MAX {
                return Err(LaneError::Crowded);
            }
            state.once.push_back((purpose, reply));
            Ok(answer)
        })
    }

    /// Whether the connection is kept, and streams are kept ready, although nobody asked yet.
    pub(crate) fn keep(&self, alive: bool, ready: bool) {
        let mut state = self.lock();
        if (state.kept_alive, state.kept_ready) == (alive, ready) {
            return;
        }
        state.kept_alive = alive;
        state.kept_ready = ready;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_kept_alive(&self) -> bool {
        self.lock().kept_alive
    }

    /// Lets go of streams that demand no longer needs.
    pub(crate) fn trim(&self, now: Instant) {
        let mut state = self.lock();
        state.demand.roll(now);
        let target = state.target(self.bounds);
        state.warm.truncate(target);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    pub(crate) fn warm_count(&self) -> usize {
        self.lock().warm.len()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }
}

/// The handler's side.
impl Lane {
    pub(crate) fn poll_wanted(&self, cx: &Context<'_>) -> Poll<Wanted> {
        let mut state = self.lock();
        if let Some((purpose, reply)) = state.once.pop_front() {
            return Poll::Ready(Wanted::Once(purpose, reply));
        }
        let target = state.target(self.bounds);
        if state.wants_more(target) {
            state.opening += 1;
            return Poll::Ready(Wanted::Request);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn opened(&self, stream: Stream) {
        let mut state = self.lock();
        state.opening = state.opening.saturating_sub(1);
        let mut stream = stream;
        while let Some(reply) = state.waiting.pop_front() {
            match reply.send(Ok(stream)) {
                Err(Ok(back)) => stream = back,
                _ => return,
            }
        }
        if state.open {
            state.warm.push_back(stream);
        }
    }

    pub(crate) fn failed(&self, error: LaneError) {
        let mut state = self.lock();
        state.opening = state.opening.saturating_sub(1);
        state.refilling = false;
        if error == LaneError::Unsupported {
            state.supported = false;
            state.fail_all(error);
        } else if let Some(reply) = state.waiting.pop_front() {
            let _ = reply.send(Err(error));
        }
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.open = false;
        state.warm.clear();
        state.fail_all(LaneError::Closed);
        for (_, reply) in state.once.drain(..) {
            let _ = reply.send(Err(LaneError::Closed));
        }
    }
}

impl State {
    fn check(&self) -> Result<(), LaneError> {
        if !self.open {
            Err(LaneError::Closed)
        } else if !self.supported {
            Err(LaneError::Unsupported)
        } else if self.waiting.len() >= WAITING_MAX {
            Err(LaneError::Crowded)
        } else {
            Ok(())
        }
    }

    fn take_whole(&mut self) -> Option<Stream> {
        loop {
            let mut stream = self.warm.pop_front()?;
            if is_whole(&mut stream) {
                return Some(stream);
            }
        }
    }

    fn target(&self, bounds: WarmBounds) -> usize {
        let wanted = self.demand.warm();
        let min = if self.kept_ready || wanted > 0 { bounds.min } else { 0 };
        wanted.clamp(min, bounds.max)
    }

    /// Whether one more stream is to be opened now. Refilling begins when half the streams are gone
    /// and goes on until all are back, so that their negotiation shares packets and wake-ups
    /// instead of doubling the work of every request.
    fn wants_more(&mut self, target: usize) -> bool {
        if !self.open || !self.supported || self.opening >= OPENING_MAX {
            return false;
        }
        if self.opening < self.waiting.len() {
            return true;
        }
        let ready = self.warm.len() + self.opening - self.waiting.len();
        self.refilling |= ready < target && ready <= target / 2;
        self.refilling &= ready < target;
        self.refilling
    }

    fn fail_all(&mut self, error: LaneError) {
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(error));
        }
    }
}

/// Whether a stream that lay ready is still open: nothing arrives on it before a request is sent, so
/// anything to read means that the peer has closed or reset it.
fn is_whole(stream: &mut Stream) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut context, &mut [0]).is_pending()
}

/// How many streams were needed lately.
#[derive(Debug, Default)]
struct Demand {
    since: Option<Instant>,
    taken: usize,
    /// Streams kept ready because the last periods needed them.
    learnt: usize,
}

impl Demand {
    fn taken(&mut self, now: Instant) {
        self.roll(now);
        self.since.get_or_insert(now);
        self.taken += 1;
    }

    /// None was ready: twice as many would have been.
    fn missed(&mut self, max: usize) {
        self.learnt = (self.learnt * 2).clamp(2, max);
    }

    fn roll(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let periods = now.saturating_duration_since(since).as_secs() / PERIOD.as_secs();
        if periods == 0 {
            return;
        }
        // What was learnt fades by a quarter each period, but not below what the rate asks for.
        let by_rate = if periods == 1 { self.taken.div_ceil(TAKEN_PER_WARM) } else { 0 };
        let faded = (0..periods.min(32)).fold(self.learnt, |learnt, _| learnt * 3 / 4);
        self.learnt = faded.max(by_rate);
        self.taken = 0;
        self.since = (self.learnt > 0).then_some(now);
    }

    fn warm(&self) -> usize {
        self.learnt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn demand_is_learnt_from_misses_and_fades() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut demand = Demand::default();
        demand.taken(at(0));
        assert_eq!(demand.warm(), 0);
        (0..10).for_each(|_| demand.missed(128));
        assert_eq!(demand.warm(), 128);
        demand.taken(at(1));
        assert_eq!(demand.warm(), 96);
        demand.roll(at(40));
        assert_eq!(demand.warm(), 0, "an idle peer keeps nothing beyond the minimum");
    }

    #[test]
    fn a_steady_rate_keeps_streams_ready() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for request in 0..5000 {
            demand.taken(start + Duration::from_micros(request * 200));
        }
        demand.taken(start + Duration::from_secs(1));
        assert_eq!(demand.warm(), 5000_usize.div_ceil(TAKEN_PER_WARM));
    }

    #[test]
    fn a_closed_lane_fails_who_waits_and_who_comes() {
        let lane = Lane::new(false, WarmBounds { min: 2, max: 8 });
        let mut waiting = lane.ask().unwrap();
        assert!(matches!(
            lane.poll_wanted(&Context::from_waker(Waker::noop())),
            Poll::Ready(Wanted::Request)
        ));
        lane.close();
        assert!(matches!(waiting.try_recv(), Ok(Err(LaneError::Closed))));
        assert_eq!(lane.ask().err(), Some(LaneError::Closed));
        assert!(lane.poll_wanted(&Context::from_waker(Waker::noop())).is_pending());
    }

    #[test]
    fn a_lane_kept_ready_opens_its_minimum() {
        let lane = Lane::new(false, WarmBounds { min: 2, max: 8 });
        let cx = Context::from_waker(Waker::noop());
        assert!(lane.poll_wanted(&cx).is_pending(), "nobody needs this peer");
        lane.keep(true, true);
        assert!(lane.poll_wanted(&cx).is_ready() && lane.poll_wanted(&cx).is_ready());
        assert!(lane.poll_wanted(&cx).is_pending());
    }

    #[test]
    fn a_peer_without_the_protocol_is_asked_once() {
        let lane = Lane::new(false, WarmBounds { min: 2, max: 8 });
        lane.keep(true, true);
        lane.failed(LaneError::Unsupported);
        assert!(lane.poll_wanted(&Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(lane.ask().err(), Some(LaneError::Unsupported));
    }
}
