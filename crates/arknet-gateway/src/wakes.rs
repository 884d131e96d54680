//! Futures that wake one another, polled as one.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::task::AtomicWaker;

/// Nobody polls: the task is to be woken.
const RESTING: u8 = 0;
/// Somebody polls, and nothing was woken since that began.
const POLLING: u8 = 1;
/// Woken, and not polled since.
const WOKEN: u8 = 2;

/// Times that a future is polled in a row when it has woken itself.
const TURNS_MAX: usize = 32;

/// Polls a future again at once when it wakes itself while it is polled: a connection hands its
/// request's body to a handler, and the handler asks for more of it, all in one task. With the task's
/// own waker the runtime puts the task into its queue for that, and wakes a second thread to look
/// there, several times in each request, although nobody but this task has anything to do.
pub(crate) async fn as_one<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let wakes = Arc::<Wakes>::default();
    let waker = Waker::from(Arc::clone(&wakes));
    poll_fn(|cx| wakes.poll(cx, &waker, |cx| future.as_mut().poll(cx))).await
}

#[derive(Default)]
struct Wakes {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wakes {
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        waker: &Waker,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before the future is polled: a wake that comes from elsewhere must find the task.
        self.task.register(cx.waker());
        for _ in 0..TURNS_MAX {
            self.state.store(POLLING, Ordering::SeqCst);
            let result = poll(&mut Context::from_waker(waker));
            if result.is_ready() {
                return result;
            }
            let (order, rest) = (Ordering::SeqCst, RESTING);
            if self.state.compare_exchange(POLLING, rest, order, order).is_ok() {
                return Poll::Pending;
            }
        }
        // Others shall have their turn; where the task has used up its budget, nothing moves before.
        self.state.store(RESTING, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == RESTING {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls a future that `poll` decides, once, and says how often `poll` was called and how often
    /// the task was woken meanwhile.
    fn turns(mut poll: impl FnMut(usize, &Waker) -> Poll<()>) -> (Poll<()>, usize, usize) {
        let (task, mut turns) = (Arc::<Count>::default(), 0);
        let waker = Waker::from(Arc::clone(&task));
        let future = as_one(poll_fn(|cx| {
            turns += 1;
            poll(turns, cx.waker())
        }));
        let result = pin!(future).poll(&mut Context::from_waker(&waker));
        (result, turns, task.0.load(Ordering::SeqCst))
    }

    #[test]
    fn who_wakes_itself_is_polled_again_and_the_task_left_alone() {
        let result = turns(|turn, waker| {
            waker.wake_by_ref();
            if turn == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        assert_eq!(result, (Poll::Ready(()), 3, 0));
    }

    #[test]
    fn who_wakes_itself_without_end_lets_others_have_their_turn() {
        let result = turns(|_, waker| {
            waker.wake_by_ref();
            Poll::Pending
        });
        assert_eq!(result, (Poll::Pending, TURNS_MAX, 1));
    }

    #[test]
    fn who_is_woken_from_elsewhere_wakes_the_task_once_for_each_poll() {
        let (task, within) = (Arc::<Count>::default(), Mutex::new(None));
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(as_one(poll_fn(|cx| {
            *within.lock().expect("nobody panics") = Some(cx.waker().clone());
            Poll::<()>::Pending
        })));
        for polls in 1..4 {
            assert!(future.as_mut().poll(&mut cx).is_pending());
            let within = within.lock().expect("nobody panics").take().expect("it was polled");
            within.wake_by_ref();
            within.wake();
            assert_eq!(task.0.load(Ordering::SeqCst), polls);
        }
    }

    /// Many wakes from another thread while it is polled: each is followed by a poll, here or
    /// through the task.
    #[test]
    fn no_wake_is_lost() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build();
        runtime.expect("a runtime").block_on(async {
            let (to, mut from) = futures::channel::mpsc::channel::<u32>(1);
            let sender = tokio::spawn(as_one(async move {
                let mut to = to;
                for number in 0..20_000 {
                    futures::SinkExt::send(&mut to, number).await.expect("somebody listens");
                }
            }));
            let reader = tokio::spawn(as_one(async move {
                let mut sum = 0_u64;
                while let Some(number) = futures::StreamExt::next(&mut from).await {
                    sum += u64::from(number);
                }
                sum
            }));
            sender.await.expect("it ends");
            assert_eq!(reader.await.expect("it ends"), 19_999 * 20_000 / 2);
        });
    }
}
