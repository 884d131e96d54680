use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt, io,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arknet_types::{DecodeError, InferRequest, Refusal, RefusalCode, Reply};
use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::Command,
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    calls::{Calls, Orphan, Taken, process_ended, replies},
    protocol::{FrameBuffer, FromChild, ToChild, VERSION, put, run_frame},
};
use crate::{
    Generation, ModelInfo, Seat,
    limits::{
        FRAME_FROM_CHILD_BYTES_MAX, FRAME_TO_CHILD_BYTES_MAX, SETUP_BYTES_MAX, STATS_TIME_MAX,
        UNSENT_BYTES_MAX,
    },
};

/// How the process of a model is started.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The program; its `main` comes to [`super::run`] with these arguments.
    pub program: PathBuf,
    /// Its arguments. Everybody on the machine can read them: what to open goes into the setup.
    pub args: Vec<OsString>,
    /// Its whole environment; nothing is inherited.
    pub env: Vec<(OsString, OsString)>,
    /// How long opening a model may take.
    pub open_time_max: Duration,
    /// A child that has work and room, and says nothing from one moment of this rhythm to the next,
    /// hangs and is ended.
    pub silence_max: Duration,
}

/// The process of one model. Dropping it ends the process.
#[derive(Debug)]
pub struct Child {
    shared: Arc<Shared>,
    info: ModelInfo,
    process_id: u32,
    next_id: AtomicU64,
    stop: CancellationToken,
}

/// Why there is no child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The process ended before the model was there.
    #[error("the model's process ended while it was loading ({0})")]
    Ended(String),
    /// The model cannot be opened, for this reason.
    #[error("{0}")]
    Failed(String),
    /// The child said what it must not.
    #[error("the model's process broke its protocol")]
    Protocol,
    /// More bytes than a setup may have.
    #[error("the setup has {0} bytes, {SETUP_BYTES_MAX} at most are allowed")]
    SetupTooLarge(usize),
    /// The program cannot be started.
    #[error("the model's process cannot be started: {0}")]
    Spawn(#[from] io::Error),
    /// It took too long.
    #[error("the model was not loaded within {} s", .0.as_secs())]
    TooSlow(Duration),
}

/// Tells when a child is gone.
#[derive(Debug)]
pub struct Exit(oneshot::Receiver<Ended>);

/// A child is gone: its memory is free again.
#[derive(Debug)]
pub struct Ended {
    /// How, in words for the log.
    pub how: String,
    /// The requests it leaves behind.
    pub orphans: Vec<Orphan>,
}

impl Exit {
    /// Waits until the process is gone.
    pub async fn wait(self) -> Ended {
        let gone = Ended { how: "the runtime stopped".into(), orphans: vec![] };
        self.0.await.unwrap_or(gone)
    }
}

impl Child {
    /// Starts a process and has it open the model that `setup` names. Dropping the future ends the
    /// process.
    pub async fn open(options: &ChildOptions, setup: Vec<u8>) -> Result<(Self, Exit), OpenError> {
        if setup.len() > SETUP_BYTES_MAX {
            return Err(OpenError::SetupTooLarge(setup.len()));
        }
        let mut process = Process::spawn(options)?;
        let opened = timeout(options.open_time_max, process.open(setup)).await;
        let info = match opened.unwrap_or(Err(OpenError::TooSlow(options.open_time_max))) {
            Ok(info) => info,
            Err(error) => {
                let how = process.end().await;
                return Err(match error {
                    OpenError::Ended(_) => OpenError::Ended(how),
                    other => other,
                });
            }
        };
        let process_id = process.child.id().unwrap_or(0);
        let Process { child, input, output, frames } = process;
        let shared = Arc::new(Shared::new(input));
        let stop = CancellationToken::new();
        let supervisor = Supervisor {
            shared: Arc::clone(&shared),
            output,
            frames,
            stop: stop.clone(),
            silence_max: options.silence_max,
            progress: None,
        };
        let (ended, exit) = oneshot::channel();
        tokio::spawn(async move {
            // The one who wanted to know may be gone; the orphans are told when they are dropped.
            let _ = ended.send(supervisor.run(child).await);
        });
        let next_id = AtomicU64::new(1);
        Ok((Self { shared, info, process_id, next_id, stop }, Exit(exit)))
    }

    /// The model, as its process describes it.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The process's number in the system.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Starts answering and returns at once, as [`crate::Provider::generate`].
    pub fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = run_frame(id, request)?;
        let (tx, rx) = replies();
        self.start(id, frame, tx).map_err(|_| process_ended())?;
        let seat = ChildSeat { shared: Arc::clone(&self.shared), id, taken: Taken::default() };
        Ok(Generation::with_seat(rx, Box::new(seat)))
    }

    /// Sends a request whose id the caller has chosen, and never used before. Gives it back where
    /// the child is gone, or about to be.
    pub(crate) fn start(
        &self,
        id: u64,
        frame: Bytes,
        replies: mpsc::Sender<Reply>,
    ) -> Result<(), Orphan> {
        let mut side = self.shared.lock();
        if side.is_over {
            return Err(Orphan::new(id, frame, replies));
        }
        if side.unsent_bytes() > UNSENT_BYTES_MAX {
            let words = "the model does not keep up with what is asked of it";
            let _ = replies.try_send(Reply::Refused(Refusal::new(RefusalCode::Busy, words)));
            return Ok(());
        }
        side.calls.open(id, frame.clone(), replies);
        self.shared.send(&mut side, frame);
        Ok(())
    }

    /// Gives the child room for more replies.
    pub(crate) fn credit(&self, id: u64, replies: u32) {
        self.shared.credit(id, replies);
    }

    /// Ends a request.
    pub(crate) fn cancel(&self, id: u64) {
        self.shared.cancel(id);
    }

    /// What [`crate::Provider::stats`] says in the child; nothing where it does not say it in time.
    pub async fn stats(&self) -> Vec<u8> {
        let mut stats = self.shared.stats.subscribe();
        self.shared.send_small(&ToChild::Stats);
        match timeout(STATS_TIME_MAX, stats.changed()).await {
            Ok(Ok(())) => stats.borrow().clone(),
            _ => vec![],
        }
    }

    /// Requests the child works on.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.lock().calls.len()
    }

    /// Ends the process. [`Exit::wait`] says when it is gone.
    pub fn end(&self) {
        self.stop.cancel();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

struct ChildSeat {
    shared: Arc<Shared>,
    id: u64,
    taken: Taken,
}

impl Seat for ChildSeat {
    fn reply_taken(&self) {
        if let Some(replies) = self.taken.one_more() {
            self.shared.credit(self.id, replies);
        }
    }
}

impl Drop for ChildSeat {
    fn drop(&mut self) {
        self.shared.cancel(self.id);
    }
}

/// What callers and the supervisor share.
struct Shared {
    side: Mutex<Side>,
    input: pipe::Sender,
    has_unsent: Notify,
    stats: watch::Sender<Vec<u8>>,
}

#[derive(Default)]
struct Side {
    calls: Calls,
    /// What the pipe had no room for.
    unsent: VecDeque<Bytes>,
    is_over: bool,
}

impl Side {
    fn unsent_bytes(&self) -> usize {
        self.unsent.iter().map(Bytes::len).sum()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn new(input: pipe::Sender) -> Self {
        Self {
            side: Mutex::default(),
            input,
            has_unsent: Notify::new(),
            stats: watch::Sender::new(vec![]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Side> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn credit(&self, id: u64, replies: u32) {
        let mut side = self.lock();
        if side.calls.credit(id, replies) {
            self.send_small_locked(&mut side, &ToChild::Credit { id, replies });
        }
    }

    fn cancel(&self, id: u64) {
        let mut side = self.lock();
        if side.calls.cancel(id) {
            self.send_small_locked(&mut side, &ToChild::Cancel { id });
        }
    }

    fn send_small(&self, frame: &ToChild) {
        self.send_small_locked(&mut self.lock(), frame);
    }

    fn send_small_locked(&self, side: &mut Side, frame: &ToChild) {
        let mut out = Vec::with_capacity(32);
        put(&mut out, frame, FRAME_TO_CHILD_BYTES_MAX).expect("a few integers");
        self.send(side, out.into());
    }

    /// Writes from the caller's own thread: another task in between would cost a wake-up.
    fn send(&self, side: &mut Side, frame: Bytes) {
        if side.is_over {
            return;
        }
        let must_wake = side.unsent.is_empty();
        side.unsent.push_back(frame);
        self.write_some(side);
        if must_wake && !side.unsent.is_empty() {
            self.has_unsent.notify_one();
        }
    }

    /// Writes what the pipe takes now.
    fn write_some(&self, side: &mut Side) {
        while let Some(frame) = side.unsent.front_mut() {
            match self.input.try_write(frame) {
                Ok(bytes) if bytes < frame.len() => frame.advance(bytes),
                Ok(_) => {
                    side.unsent.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nobody reads any more; the supervisor sees the other pipe end, too.
                Err(_) => side.unsent.clear(),
            }
        }
    }

    /// Waits until the pipe takes more of what is left, and writes it. Cancel safe.
    async fn write_rest(&self) {
        if self.lock().unsent.is_empty() {
            self.has_unsent.notified().await;
            return;
        }
        // An error shows when writing.
        let _ = self.input.writable().await;
        self.write_some(&mut self.lock());
    }
}

/// A process that is not a child yet.
struct Process {
    child: tokio::process::Child,
    input: pipe::Sender,
    output: pipe::Receiver,
    frames: FrameBuffer,
}

impl Process {
    fn spawn(options: &ChildOptions) -> io::Result<Self> {
        let mut child = Command::new(&options.program)
            .args(&options.args)
            .env_clear()
            .envs(options.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Of its own: an interrupt from the terminal goes to the node, which lets work end.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().expect("piped").into_owned_fd()?;
        let output = child.stdout.take().expect("piped").into_owned_fd()?;
        Ok(Self {
            child,
            input: pipe::Sender::from_owned_fd(input)?,
            output: pipe::Receiver::from_owned_fd(output)?,
            frames: FrameBuffer::new(FRAME_FROM_CHILD_BYTES_MAX),
        })
    }

    async fn open(&mut self, setup: Vec<u8>) -> Result<ModelInfo, OpenError> {
        let mut out = Vec::with_capacity(setup.len() + 16);
        let frame = ToChild::Open { version: VERSION, setup };
        put(&mut out, &frame, FRAME_TO_CHILD_BYTES_MAX).expect("the setup is within its limit");
        let ended = |_| OpenError::Ended(String::new());
        self.input.write_all(&out).await.map_err(ended)?;
        loop {
            match self.frames.take().map_err(|_| OpenError::Protocol)? {
                Some(FromChild::Opened(info)) => return Ok(*info),
                Some(FromChild::OpenFailed(words)) => return Err(OpenError::Failed(words)),
                Some(_) => return Err(OpenError::Protocol),
                None => {}
            }
            if self.output.read_buf(self.frames.space()).await.map_err(ended)? == 0 {
                return Err(OpenError::Ended(String::new()));
            }
        }
    }

    async fn end(mut self) -> String {
        drop(self.input);
        end(&mut self.child).await
    }
}

/// Ends a process that may have ended by itself, and says how it went.
async fn end(child: &mut tokio::process::Child) -> String {
    // A process that closed its output is about to end by itself, and how says why. One that only
    // pretends to be does not keep us.
    let status = match timeout(Duration::from_millis(200), child.wait()).await {
        Ok(status) => status,
        Err(_) => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    status.map_or_else(|error| error.to_string(), how)
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(6) => "it aborted".into(),
        Some(9) => "it was killed, perhaps for its memory".into(),
        _ => status.to_string(),
    }
}

/// Reads what a child says until there is no more to come.
struct Supervisor {
    shared: Arc<Shared>,
    output: pipe::Receiver,
    frames: FrameBuffer,
    stop: CancellationToken,
    silence_max: Duration,
    /// How far the child has said that it was.
    progress: Option<u64>,
}

/// Why a child is left.
#[derive(Debug)]
enum Leave {
    ItEnded,
    Asked,
    Malformed(DecodeError),
    Overrun,
    OutOfPlace,
    Silent,
}

impl Supervisor {
    async fn run(mut self, mut process: tokio::process::Child) -> Ended {
        let leave = self.read_all().await;
        // From here on nobody starts anything, and the orphans are complete.
        self.shared.lock().is_over = true;
        if !matches!(leave, Leave::ItEnded) {
            let _ = process.start_kill();
        }
        let status = end(&mut process).await;
        let how = match leave {
            Leave::Asked => "it was asked to".into(),
            Leave::ItEnded => status,
            Leave::Malformed(error) => format!("it was ended for what it sent: {error}"),
            Leave::Overrun => "it was ended for sending more than there was room for".into(),
            Leave::OutOfPlace => "it was ended for a frame out of place".into(),
            Leave::Silent => "it was ended because it hung".into(),
        };
        let mut side = self.shared.lock();
        side.unsent.clear();
        Ended { how, orphans: side.calls.take_all() }
    }

    async fn read_all(&mut self) -> Leave {
        let mut tick = interval_at(Instant::now() + self.silence_max, self.silence_max);
        // The call that was due at the last tick, while nothing has come since.
        let mut silent = None;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Leave::Asked,
                read = self.output.read_buf(self.frames.space()) => match read {
                    Ok(0) | Err(_) => return Leave::ItEnded,
                    Ok(_) => match self.dispatch() {
                        Ok(true) => silent = None,
                        Ok(false) => {}
                        Err(leave) => return leave,
                    },
                },
                () = self.shared.write_rest() => {}
                _ = tick.tick() => {
                    let due = self.shared.lock().calls.oldest_due();
                    if due.is_some() && due == silent {
                        return Leave::Silent;
                    }
                    silent = due;
                    // Long inputs are read without a word; the answer says whether they are.
                    self.shared.send_small(&ToChild::Stats);
                }
            }
        }
    }

    /// Passes on what came. Whether that shows that the child gets on.
    fn dispatch(&mut self) -> Result<bool, Leave> {
        let mut gets_on = false;
        let mut side = self.shared.lock();
        while let Some(frame) = self.frames.take().map_err(Leave::Malformed)? {
            match frame {
                FromChild::Reply { id, reply } => {
                    side.calls.reply(id, reply).map_err(|_| Leave::Overrun)?;
                    gets_on = true;
                }
                FromChild::Stats { progress, stats } => {
                    gets_on |= self.progress.replace(progress) != Some(progress);
                    self.shared.stats.send_replace(stats);
                }
                FromChild::Opened(_) | FromChild::OpenFailed(_) => return Err(Leave::OutOfPlace),
            }
        }
        Ok(gets_on)
    }
}
