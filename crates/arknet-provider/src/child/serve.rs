use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use arknet_types::{InferRequest, Refusal, RefusalCode, Reply, limits::REFUSAL_DETAIL_BYTES_MAX};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Signal, getpid, kill_process},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::Notify,
};

use super::protocol::{FrameBuffer, FromChild, ToChild, VERSION, put, put_reply};
use crate::{
    Generation, Provider,
    limits::{
        FRAME_FROM_CHILD_BYTES_MAX, FRAME_TO_CHILD_BYTES_MAX, REPLIES_UNREAD_MAX, STATS_BYTES_MAX,
    },
};

/// Is the process of one model until the node closes the channel or dies: takes standard input and
/// output for itself, opens the model the node names and answers its requests. To be called first
/// thing in `main`, outside of any runtime; what prints later prints to standard error.
pub fn run<F>(open: F) -> io::Result<()>
where
    F: FnOnce(Vec<u8>) -> Result<Arc<dyn Provider>, String> + Send + 'static,
{
    let (input, output) = take_stdio()?;
    end_with(&input)?;
    be_first_to_go();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(async {
        let _signals = leave_signals_to_the_node()?;
        serve(input, output, open).await
    });
    // Not waiting for the model: it may be in the middle of a long step that nobody needs.
    runtime.shutdown_background();
    served
}

/// Standard input and output for the channel alone. Whoever writes to standard output from now on,
/// native code included, writes to standard error, and whoever reads finds nothing.
fn take_stdio() -> io::Result<(OwnedFd, OwnedFd)> {
    let input = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let output = fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((input, output))
}

/// Ends this process as soon as the other end of `input` is closed, by the node or by its death.
fn end_with(input: &OwnedFd) -> io::Result<()> {
    let input = fcntl_dupfd_cloexec(input.as_fd(), 3)?;
    let wait = move || {
        // Asks for nothing: a hang-up is told always, and unread bytes do not wake this thread.
        let mut watched = [PollFd::new(&input, PollFlags::empty())];
        while let Ok(0) | Err(Errno::INTR) = poll(&mut watched, None) {}
        // Killed, not exited: exit handlers of native libraries do not expect their own threads to
        // be at work, and may hang.
        let _ = kill_process(getpid(), Signal::KILL);
    };
    thread::Builder::new().name("end-with-node".into()).spawn(wait)?;
    Ok(())
}

/// When memory runs out on the machine this process goes before the node does.
fn be_first_to_go() {
    // Where there is no such file the system has no such choice.
    let _ = std::fs::write("/proc/self/oom_score_adj", "900");
}

/// Signals to the whole group or service are the node's to handle: it lets running work end first.
fn leave_signals_to_the_node() -> io::Result<[tokio::signal::unix::Signal; 3]> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok([
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ])
}

/// Opens the model the node names and answers its requests, until the node closes `input`.
pub async fn serve<F>(input: OwnedFd, output: OwnedFd, open: F) -> io::Result<()>
where
    F: FnOnce(Vec<u8>) -> Result<Arc<dyn Provider>, String> + Send + 'static,
{
    let mut input = pipe::Receiver::from_owned_fd(input)?;
    let direct = fcntl_dupfd_cloexec(output.as_fd(), 3)?;
    let output = pipe::Sender::from_owned_fd(output)?;
    let mut frames = FrameBuffer::new(FRAME_TO_CHILD_BYTES_MAX);
    let shared =
        Arc::new(Shared { calls: Mutex::default(), output: direct, has_output: Notify::new() });
    let writer = tokio::spawn(write(Arc::clone(&shared), output));
    let provider = match read_frame(&mut input, &mut frames).await? {
        Some(ToChild::Open { version, setup }) => open_model(version, setup, open).await,
        Some(_) => return Err(io::Error::other("the first frame does not open a model")),
        None => return Ok(()),
    };
    let provider = match provider {
        Ok((provider, info)) => {
            shared.send(&FromChild::Opened(Box::new(info)))?;
            provider
        }
        Err(mut words) => {
            while words.len() > REFUSAL_DETAIL_BYTES_MAX {
                words.pop();
            }
            shared.send(&FromChild::OpenFailed(words))?;
            // The node reads the words and closes the channel.
            while read_frame(&mut input, &mut frames).await?.is_some() {}
            return Ok(());
        }
    };
    let mut models = provider.models();
    loop {
        tokio::select! {
            frame = read_frame(&mut input, &mut frames) => match frame? {
                Some(frame) => shared.handle(frame, &*provider)?,
                None => break,
            },
            // A part of it met a bug and ended: only a process that begins anew helps.
            _ = models.wait_for(|models| models.is_empty()) => {
                return Err(io::Error::other("the model stopped working"));
            }
        }
    }
    writer.abort();
    Ok(())
}

async fn read_frame(
    input: &mut pipe::Receiver,
    frames: &mut FrameBuffer,
) -> io::Result<Option<ToChild>> {
    loop {
        if let Some(frame) = frames.take().map_err(io::Error::other)? {
            return Ok(Some(frame));
        }
        if input.read_buf(frames.space()).await? == 0 {
            return Ok(None);
        }
    }
}

async fn open_model<F>(
    version: u16,
    setup: Vec<u8>,
    open: F,
) -> Result<(Arc<dyn Provider>, crate::ModelInfo), String>
where
    F: FnOnce(Vec<u8>) -> Result<Arc<dyn Provider>, String> + Send + 'static,
{
    if version != VERSION {
        return Err("the program was updated while the node runs; restart the node".into());
    }
    let provider = tokio::task::spawn_blocking(|| open(setup))
        .await
        .map_err(|_| "opening the model panicked")??;
    let info = provider.models().borrow().first().cloned();
    Ok((provider, info.ok_or("the model is not there")?))
}

/// Sends what the channel had no room for when it was said.
async fn write(shared: Arc<Shared>, mut output: pipe::Sender) {
    let mut bytes = Vec::new();
    loop {
        {
            let mut calls = shared.lock();
            std::mem::swap(&mut bytes, &mut calls.output);
            calls.is_writing = !bytes.is_empty();
        }
        if bytes.is_empty() {
            shared.has_output.notified().await;
            continue;
        }
        if output.write_all(&bytes).await.is_err() {
            // The node is gone; the end of the input says so too.
            return;
        }
        bytes.clear();
    }
}

struct Shared {
    calls: Mutex<Calls>,
    /// The channel. Writing to it fails where it would wait, as the writer's end has set it to.
    output: OwnedFd,
    has_output: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, frame: &FromChild) -> io::Result<()> {
        let mut calls = self.lock();
        put(&mut calls.output, frame, FRAME_FROM_CHILD_BYTES_MAX).map_err(io::Error::other)?;
        self.flush(&mut calls);
        Ok(())
    }

    /// Writes at once, on whatever thread has something to say: waking another for each token costs
    /// more than the writing, because all its code was pushed out of the caches by the model.
    fn flush(&self, calls: &mut Calls) {
        if calls.output.is_empty() {
            return;
        }
        // What the writer has taken goes first.
        if !calls.is_writing
            && let Ok(written) = rustix::io::write(&self.output, &calls.output)
        {
            calls.output.drain(..written);
        }
        if !calls.output.is_empty() {
            self.has_output.notify_one();
        }
    }

    fn handle(self: &Arc<Self>, frame: ToChild, provider: &dyn Provider) -> io::Result<()> {
        match frame {
            ToChild::Open { .. } => return Err(io::Error::other("a second model to open")),
            ToChild::Run { id, request } => self.run(id, *request, provider),
            // The place is free before the next frame is looked at: it may be a request that
            // counts on it.
            ToChild::Cancel { id } => drop(self.lock().open.remove(&id)),
            ToChild::Credit { id, replies } => {
                let caller = self.lock().credit(id, replies);
                if let Some(caller) = caller {
                    caller.wake();
                }
            }
            ToChild::Stats => {
                let mut stats = provider.stats();
                if stats.len() > STATS_BYTES_MAX {
                    stats.clear();
                }
                self.send(&FromChild::Stats { progress: provider.progress(), stats })?;
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, id: u64, request: InferRequest, provider: &dyn Provider) {
        match provider.generate(request) {
            Ok(generation) => {
                let caller = Arc::new(Caller {
                    shared: Arc::downgrade(self),
                    id,
                    state: AtomicU8::new(IDLE),
                });
                self.lock().open(id, generation, Arc::clone(&caller));
                caller.wake();
            }
            Err(refusal) => {
                let mut calls = self.lock();
                put_reply(&mut calls.output, id, Reply::Refused(refusal));
                self.flush(&mut calls);
            }
        }
    }
}

/// Nobody looks at the call.
const IDLE: u8 = 0;
/// Somebody looks at it now.
const LOOKING: u8 = 1;
/// Somebody looks at it, and has to look again.
const AGAIN: u8 = 2;

/// Passes on what one call has to say, on the thread that says it.
struct Caller {
    shared: Weak<Shared>,
    id: u64,
    state: AtomicU8,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        if self.state.swap(AGAIN, Ordering::AcqRel) != IDLE {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        let waker = Waker::from(Arc::clone(&self));
        loop {
            // What came before a wake that found somebody looking is to be seen by this look.
            self.state.swap(LOOKING, Ordering::AcqRel);
            {
                let mut calls = shared.lock();
                // Over or not: a call that is over is no longer known.
                let _ = calls.poll(self.id, &mut Context::from_waker(&waker));
                shared.flush(&mut calls);
            }
            let ended =
                self.state.compare_exchange(LOOKING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if ended.is_ok() {
                return;
            }
        }
    }
}

/// The requests at work, and what they have to say. Their output is bounded by their credit.
#[derive(Default)]
struct Calls {
    open: HashMap<u64, Call>,
    output: Vec<u8>,
    /// Whether the writer has output of before that is not written yet.
    is_writing: bool,
}

struct Call {
    generation: Generation,
    /// Replies that the node has room for.
    credit: u32,
    caller: Arc<Caller>,
}

impl Calls {
    fn open(&mut self, id: u64, generation: Generation, caller: Arc<Caller>) {
        self.open.insert(id, Call { generation, credit: REPLIES_UNREAD_MAX, caller });
    }

    /// Gives who speaks for the call, to look at it again without the lock that is held here.
    fn credit(&mut self, id: u64, replies: u32) -> Option<Arc<Caller>> {
        let call = self.open.get_mut(&id)?;
        call.credit = call.credit.saturating_add(replies);
        Some(Arc::clone(&call.caller))
    }

    /// Takes all replies that are ready and paid for. Ready when the call is over.
    fn poll(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Some(call) = self.open.get_mut(&id) else {
            return Poll::Ready(());
        };
        while call.credit > 0 {
            let reply = match call.generation.poll_next(cx) {
                Poll::Ready(Some(reply)) => reply,
                Poll::Ready(None) => {
                    let words = "the model stopped before the answer was complete";
                    Reply::Refused(Refusal::new(RefusalCode::ProviderFailed, words))
                }
                Poll::Pending => return Poll::Pending,
            };
            call.credit -= 1;
            let is_end = matches!(reply, Reply::Done { .. } | Reply::Refused(_));
            if put_reply(&mut self.output, id, reply).is_some() || is_end {
                self.open.remove(&id);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use arknet_types::{FinishReason, Usage};
    use tokio::sync::mpsc;

    use super::*;
    use crate::limits::CREDIT_STEP;

    fn open(calls: &mut Calls, id: u64, generation: Generation) {
        let caller = Caller { shared: Weak::new(), id, state: AtomicU8::new(IDLE) };
        calls.open(id, generation, Arc::new(caller));
    }

    fn ends() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        (reader.into(), writer.into())
    }

    fn text() -> Reply {
        Reply::Text { text: "a".into(), tokens: 1 }
    }

    fn sent(calls: &mut Calls) -> Vec<FromChild> {
        let mut frames = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
        frames.space().extend_from_slice(&std::mem::take(&mut calls.output));
        std::iter::from_fn(|| frames.take().unwrap()).collect()
    }

    #[test]
    fn a_call_takes_no_more_replies_than_the_node_has_room_for() {
        let mut calls = Calls::default();
        let (tx, rx) = mpsc::channel(200);
        open(&mut calls, 1, Generation::from_channel(rx));
        for _ in 0..100 {
            tx.try_send(text()).unwrap();
        }
        let mut cx = Context::from_waker(Waker::noop());
        assert!(calls.poll(1, &mut cx).is_pending());
        assert_eq!(sent(&mut calls).len(), REPLIES_UNREAD_MAX as usize);
        assert!(calls.poll(1, &mut cx).is_pending());
        assert!(calls.output.is_empty());
        calls.credit(1, CREDIT_STEP);
        // Credit for what is over, or never was, is nothing.
        calls.credit(2, u32::MAX);
        assert!(calls.poll(1, &mut cx).is_pending());
        assert_eq!(sent(&mut calls).len(), CREDIT_STEP as usize);
        let done = Reply::Done { finish: FinishReason::Stop, usage: Usage::default() };
        tx.try_send(done.clone()).unwrap();
        calls.credit(1, 64);
        assert!(calls.poll(1, &mut cx).is_ready());
        assert_eq!(sent(&mut calls).last(), Some(&FromChild::Reply { id: 1, reply: done }));
        assert!(calls.open.is_empty());
    }

    #[test]
    fn cancelling_drops_the_generation_at_once_and_what_cannot_be_sent_ends_it() {
        let mut calls = Calls::default();
        let mut cx = Context::from_waker(Waker::noop());
        let (tx, rx) = mpsc::channel(1);
        open(&mut calls, 1, Generation::from_channel(rx));
        assert!(calls.poll(1, &mut cx).is_pending());
        calls.open.remove(&1);
        assert!(tx.is_closed());
        assert!(calls.poll(1, &mut cx).is_ready() && calls.output.is_empty());
        let (tx, rx) = mpsc::channel(1);
        open(&mut calls, 2, Generation::from_channel(rx));
        tx.try_send(Reply::Scores(vec![f32::INFINITY - f32::INFINITY])).unwrap();
        assert!(calls.poll(2, &mut cx).is_ready());
        assert!(tx.is_closed());
        let [FromChild::Reply { id: 2, reply: Reply::Refused(_) }] = sent(&mut calls)[..] else {
            panic!("no refusal");
        };
    }

    #[tokio::test]
    async fn what_a_full_channel_does_not_take_comes_after_it_in_order() {
        let (reader, output) = ends();
        let direct = fcntl_dupfd_cloexec(output.as_fd(), 3).unwrap();
        let output = pipe::Sender::from_owned_fd(output).unwrap();
        let mut reader = pipe::Receiver::from_owned_fd(reader).unwrap();
        let calls = Mutex::new(Calls::default());
        let shared = Arc::new(Shared { calls, output: direct, has_output: Notify::new() });
        let writer = tokio::spawn(write(Arc::clone(&shared), output));
        // Far more than a pipe holds, and nobody reads yet.
        let stats = |n: u8| FromChild::Stats { progress: 0, stats: vec![n; STATS_BYTES_MAX] };
        let count = u8::try_from((1 << 20) / STATS_BYTES_MAX).unwrap_or(u8::MAX);
        for n in 0..count {
            shared.send(&stats(n)).unwrap();
        }
        assert!(!shared.lock().output.is_empty(), "more than the channel holds");
        let mut frames = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
        for n in 0..count {
            let frame: FromChild = loop {
                if let Some(frame) = frames.take().unwrap() {
                    break frame;
                }
                assert!(reader.read_buf(frames.space()).await.unwrap() > 0);
            };
            assert_eq!(frame, stats(n));
        }
        writer.abort();
    }

    #[test]
    fn who_is_woken_while_it_looks_looks_again() {
        let (reader, output) = ends();
        let calls = Mutex::new(Calls::default());
        let shared = Arc::new(Shared { calls, output, has_output: Notify::new() });
        let caller = Caller { shared: Arc::downgrade(&shared), id: 1, state: AtomicU8::new(IDLE) };
        let caller = Arc::new(caller);
        let (tx, rx) = mpsc::channel(1);
        shared.lock().open(1, Generation::from_channel(rx), Arc::clone(&caller));
        Arc::clone(&caller).wake();
        // From here on whoever sends also passes it on, with no runtime around.
        tx.try_send(text()).unwrap();
        assert_eq!(caller.state.load(Ordering::Acquire), IDLE);
        let mut frames = FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX);
        let mut bytes = [0; 256];
        let read = rustix::io::read(&reader, &mut bytes).unwrap();
        frames.space().extend_from_slice(&bytes[..read]);
        assert_eq!(frames.take().unwrap(), Some(FromChild::Reply { id: 1, reply: text() }));
        // A wake that meets a look does not wait for it, and is not forgotten.
        caller.state.store(LOOKING, Ordering::Release);
        Arc::clone(&caller).wake();
        assert_eq!(caller.state.load(Ordering::Acquire), AGAIN);
    }

    #[tokio::test]
    async fn a_program_of_another_version_opens_nothing() {
        let opened = open_model(VERSION + 1, vec![], |_| panic!("opened")).await;
        assert!(opened.is_err_and(|words| words.contains("restart the node")));
    }
}
