//! Several models, each in a process of its own, within one budget of memory: loaded when somebody
//! asks, sent away when nobody has for a while or the memory is needed, started anew when their
//! process fails.

mod policy;
mod restarts;

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_types::{InferRequest, ModelName, Refusal, RefusalCode, Reply};
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use policy::{Action, FleetError, KeepAlive, Place, Policy, PolicyModel, PolicyOptions};
pub use restarts::Restarts;

use crate::{
    Generation, ModelInfo, Models, Provider, Seat,
    child::{
        Child, ChildOptions, Ended, Orphan, Taken, process_ended, protocol::run_frame, replies,
    },
};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How the process of a model is started.
    pub child: ChildOptions,
    /// Memory of all models together.
    pub memory_bytes_max: u64,
    /// How long a model that nobody uses stays in memory, unless a request says otherwise.
    pub keep_alive: KeepAlive,
    /// How long a request waits before busy models make room for its model, and how long a model
    /// stays at least before it makes room for others.
    pub patience: Duration,
    /// How a model whose process fails is tried again.
    pub restarts: Restarts,
    /// How often the memory that processes really take is looked at.
    pub memory_check_every: Duration,
}

impl FleetOptions {
    /// The usual, for processes of this program and this much memory.
    #[must_use]
    pub fn new(program: PathBuf, args: Vec<OsString>, memory_bytes_max: u64) -> Self {
        Self {
            child: ChildOptions {
                program,
                args,
                env: vec![],
                open_time_max: Duration::from_secs(600),
                silence_max: Duration::from_secs(600),
            },
            memory_bytes_max,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            patience: Duration::from_secs(5),
            restarts: Restarts::default(),
            memory_check_every: Duration::from_secs(2),
        }
    }
}

/// A model to serve.
#[derive(Clone, Debug)]
pub struct FleetModel {
    /// What is known of it before it is loaded. Its process may correct all but the name.
    pub info: ModelInfo,
    /// What it takes in memory with all its slots.
    pub memory_bytes: u64,
    /// Memory of its process, as the system counts it, beyond which it is taken to leak and is
    /// ended. Where none is said, or the system does not tell, the system itself sets the bound.
    pub resident_bytes_max: Option<u64>,
    /// What its process is told, in a form that the process knows.
    pub setup: Vec<u8>,
    /// Whether it is loaded at once and stays.
    pub is_pinned: bool,
}

/// A model in memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Loaded {
    /// Its name.
    pub name: ModelName,
    /// What it takes.
    pub memory_bytes: u64,
    /// Requests it works on.
    pub running: usize,
    /// How long it stays if nobody asks for it again; none is until its memory is needed.
    pub expires_in: Option<Duration>,
}

/// The numbers of a model's process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ModelStats {
    /// The model.
    pub name: ModelName,
    /// What its provider says of itself; empty where it says nothing in time.
    pub stats: Vec<u8>,
    /// The process's number; none while the model is not in memory.
    pub process_id: Option<u32>,
    /// Memory of the process, where the system tells.
    pub resident_bytes: Option<u64>,
    /// Processes of this model that failed.
    pub failures: u64,
}

/// Models in processes of their own. To be used inside a tokio runtime. Dropping it ends them all.
#[derive(Debug)]
pub struct Fleet {
    inner: Arc<Inner>,
}

impl Fleet {
    /// A fleet without models.
    #[must_use]
    pub fn start(options: FleetOptions) -> Self {
        let policy = Policy::new(PolicyOptions {
            memory_bytes_max: options.memory_bytes_max,
            keep_alive: options.keep_alive,
            patience: options.patience,
            restarts: options.restarts,
        });
        let inner = Arc::new(Inner {
            child: options.child,
            memory_check_every: options.memory_check_every,
            state: Mutex::new(State {
                policy,
                members: HashMap::new(),
                asks: HashMap::new(),
                next_id: 1,
                tick_at: None,
                is_stopping: false,
            }),
            models: watch::Sender::new(Arc::new([])),
            changed: watch::Sender::new(()),
            must_rearm: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            begin: Instant::now(),
        });
        inner.tasks.spawn(Arc::clone(&inner).keep_time());
        Self { inner }
    }

    /// Takes a model on.
    pub fn add(&self, model: FleetModel) -> Result<(), FleetError> {
        let FleetModel { info, memory_bytes, resident_bytes_max, setup, is_pinned } = model;
        let place = PolicyModel { memory_bytes, slots: info.slots, is_pinned };
        let name = info.name.clone();
        self.inner.change(|state, now| {
            let actions = state.policy.add(now, name.clone(), place)?;
            let member = Member { info, setup, resident_bytes_max, child: None, stranded: vec![] };
            state.members.insert(name, member);
            Ok(actions)
        })
    }

    /// Lets a model go: nothing new is asked of it, running work ends first. Returns when it is gone.
    pub async fn remove(&self, name: &ModelName) -> Result<(), FleetError> {
        self.inner.change(|state, now| state.policy.remove(now, name))?;
        self.inner.until(|policy| policy.place(name).is_none()).await;
        Ok(())
    }

    /// Keeps a model in memory always, or no longer.
    pub fn pin(&self, name: &ModelName, is_pinned: bool) -> Result<(), FleetError> {
        self.inner.change(|state, now| state.policy.pin(now, name, is_pinned))
    }

    /// Loads a model to stay so long; with no time at all, sends it away when its work is done, even
    /// if it is pinned. Returns when that has happened, or when somebody asks for it meanwhile.
    pub async fn keep(&self, name: &ModelName, keep: KeepAlive) -> Result<(), Refusal> {
        if keep == KeepAlive::For(Duration::ZERO) {
            self.inner
                .change(|state, now| state.policy.dismiss(now, name))
                .map_err(|error| Refusal::new(RefusalCode::UnknownModel, error.to_string()))?;
            let is_gone = |place| matches!(place, None | Some(Place::Out));
            self.inner
                .until(|policy| is_gone(policy.place(name)) || !policy.is_dismissed(name))
                .await;
            return Ok(());
        }
        let (done, is_done) = oneshot::channel();
        let seat = self.inner.ask(name, Some(keep), |_| Ok(Ask::Load(done)))?;
        let answer = is_done.await.unwrap_or_else(|_| Err(process_ended()));
        drop(seat);
        answer
    }

    /// As [`Provider::generate`]; the model then stays so long, where something is said.
    pub fn generate_with(
        &self,
        request: InferRequest,
        keep: Option<KeepAlive>,
    ) -> Result<Generation, Refusal> {
        let (tx, rx) = replies();
        let model = request.model.clone();
        let seat = self.inner.ask(&model, keep, |id| {
            let begin = Some((run_frame(id, request)?, tx));
            Ok(Ask::Request(Request { model: model.clone(), begin, has_retried: false }))
        })?;
        Ok(Generation::with_seat(rx, Box::new(seat)))
    }

    /// The models in memory.
    #[must_use]
    pub fn loaded(&self) -> Vec<Loaded> {
        let now = self.inner.now();
        let state = self.inner.lock();
        let loaded =
            state.policy.in_memory(now).map(|(name, memory_bytes, running, expires_in)| Loaded {
                name: name.clone(),
                memory_bytes,
                running,
                expires_in,
            });
        loaded.collect()
    }

    /// The numbers of all models.
    pub async fn stats(&self) -> Vec<ModelStats> {
        let members: Vec<_> = {
            let state = self.inner.lock();
            let of_member = |(name, member): (&ModelName, &Member)| {
                (name.clone(), member.child.clone(), state.policy.failures(name))
            };
            state.members.iter().map(of_member).collect()
        };
        let stats = members.into_iter().map(|(name, child, failures)| async move {
            let (process_id, stats) = match &child {
                Some(child) => (Some(child.process_id()), child.stats().await),
                None => (None, vec![]),
            };
            let resident_bytes = process_id.and_then(resident_bytes);
            ModelStats { name, stats, process_id, resident_bytes, failures }
        });
        let mut stats = futures::future::join_all(stats).await;
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }

    /// Takes no more requests, ends all processes, and returns when they are gone. To let running
    /// work end first, wait for it before.
    pub async fn shut_down(&self) {
        self.inner.stop();
        self.inner.tasks.wait().await;
    }
}

impl Provider for Fleet {
    fn models(&self) -> Models {
        self.inner.models.subscribe()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        self.generate_with(request, None)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.inner.stop();
    }
}

struct Inner {
    child: ChildOptions,
    memory_check_every: Duration,
    state: Mutex<State>,
    models: watch::Sender<Arc<[ModelInfo]>>,
    /// Told whenever a model may have changed its place.
    changed: watch::Sender<()>,
    must_rearm: Notify,
    stop: CancellationToken,
    tasks: TaskTracker,
    begin: Instant,
}

struct State {
    policy: Policy,
    members: HashMap<ModelName, Member>,
    asks: HashMap<u64, Ask>,
    next_id: u64,
    /// When the policy is told the time next.
    tick_at: Option<Duration>,
    is_stopping: bool,
}

struct Member {
    info: ModelInfo,
    setup: Vec<u8>,
    resident_bytes_max: Option<u64>,
    child: Option<Arc<Child>>,
    /// Requests that came when the process had just ended.
    stranded: Vec<Orphan>,
}

enum Ask {
    Request(Request),
    Load(oneshot::Sender<Result<(), Refusal>>),
}

struct Request {
    model: ModelName,
    /// What it takes to begin, until it has.
    begin: Option<(Bytes, mpsc::Sender<Reply>)>,
    has_retried: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// The place of an ask; given back when dropped.
struct FleetSeat {
    inner: Arc<Inner>,
    id: u64,
    taken: Taken,
}

impl Seat for FleetSeat {
    fn reply_taken(&self) {
        if let Some(replies) = self.taken.one_more() {
            let state = self.inner.lock();
            if let Some(child) = state.child_of(self.id) {
                child.credit(self.id, replies);
            }
        }
    }
}

impl Drop for FleetSeat {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        if let Some(child) = state.child_of(self.id) {
            child.cancel(self.id);
        }
        state.asks.remove(&self.id);
        let now = self.inner.now();
        let actions = state.policy.ended(now, self.id);
        self.inner.act(&mut state, now, actions);
    }
}

impl State {
    fn child_of(&self, id: u64) -> Option<&Arc<Child>> {
        let Ask::Request(request) = self.asks.get(&id)? else {
            return None;
        };
        self.members.get(&request.model)?.child.as_ref()
    }

    fn run(&mut self, id: u64) {
        match self.asks.get_mut(&id) {
            Some(Ask::Request(request)) => {
                let Some(member) = self.members.get_mut(&request.model) else { return };
                let Some((frame, replies)) = request.begin.take() else { return };
                let orphan = match &member.child {
                    Some(child) => child.start(id, frame, replies).err(),
                    None => Some(Orphan::new(id, frame, replies)),
                };
                member.stranded.extend(orphan);
            }
            Some(Ask::Load(_)) => {
                if let Some(Ask::Load(done)) = self.asks.remove(&id) {
                    let _ = done.send(Ok(()));
                }
            }
            None => {}
        }
    }

    fn refuse(&mut self, id: u64, refusal: Refusal) {
        match self.asks.remove(&id) {
            Some(Ask::Request(Request { begin: Some((_, replies)), .. })) => {
                let _ = replies.try_send(Reply::Refused(refusal));
            }
            Some(Ask::Load(done)) => {
                let _ = done.send(Err(refusal));
            }
            Some(Ask::Request(_)) | None => {}
        }
    }

    /// Has the requests begin anew that nobody has seen a reply of, once each. The others are told
    /// that their process is gone.
    fn adopt(&mut self, orphans: Vec<Orphan>) -> Vec<u64> {
        let mut adopted = vec![];
        for orphan in orphans {
            let id = orphan.id;
            if let Some(Ask::Request(request)) = self.asks.get_mut(&id)
                && !request.has_retried
                && let Some(begin) = orphan.into_restart()
            {
                (request.begin, request.has_retried) = (Some(begin), true);
                adopted.push(id);
            }
        }
        adopted
    }
}

impl Inner {
    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that may change where models are, and with it what is listed.
    fn change<E>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, Duration) -> Result<Vec<Action>, E>,
    ) -> Result<(), E> {
        let mut state = self.lock();
        let now = self.now();
        let actions = change(&mut state, now)?;
        self.act(&mut state, now, actions);
        self.publish(&mut state, now);
        Ok(())
    }

    fn ask(
        self: &Arc<Self>,
        name: &ModelName,
        keep: Option<KeepAlive>,
        ask: impl FnOnce(u64) -> Result<Ask, Refusal>,
    ) -> Result<FleetSeat, Refusal> {
        let id = {
            let mut state = self.lock();
            let id = state.next_id;
            state.next_id += 1;
            id
        };
        // A request may hold pictures: not encoded under the lock.
        let ask = ask(id)?;
        let mut state = self.lock();
        if state.is_stopping {
            return Err(Refusal::new(RefusalCode::ShuttingDown, "the node is going away"));
        }
        let now = self.now();
        let is_request = matches!(ask, Ask::Request(_));
        let mut actions = state.policy.ask(now, name, id, keep, is_request);
        if let [Action::Refuse(refused, _)] = &actions[..]
            && *refused == id
            && let Some(Action::Refuse(_, refusal)) = actions.pop()
        {
            return Err(refusal);
        }
        state.asks.insert(id, ask);
        self.act(&mut state, now, actions);
        Ok(FleetSeat { inner: Arc::clone(self), id, taken: Taken::default() })
    }

    fn act(self: &Arc<Self>, state: &mut State, now: Duration, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Load(name) => {
                    if !state.is_stopping {
                        self.tasks.spawn(Arc::clone(self).host(name));
                    }
                }
                Action::Unload(name) => {
                    if let Some(child) = state.members.get(&name).and_then(|m| m.child.as_ref()) {
                        child.end();
                    }
                }
                Action::Run(id) => state.run(id),
                Action::Refuse(id, refusal) => state.refuse(id, refusal),
            }
        }
        let next = state.policy.next_tick(now);
        if next.is_some_and(|next| state.tick_at.is_none_or(|at| next < at)) {
            state.tick_at = next;
            self.must_rearm.notify_one();
        }
    }

    /// Says which models there are, where that is not what was said before.
    fn publish(&self, state: &mut State, now: Duration) {
        let State { policy, members, .. } = state;
        members.retain(|name, _| policy.place(name).is_some());
        let mut listed: Vec<_> = members
            .values()
            .map(|member| &member.info)
            .filter(|info| policy.is_listed(now, &info.name))
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        self.models.send_if_modified(|before| {
            let is_other = !before.iter().eq(listed.iter().copied());
            if is_other {
                *before = listed.into_iter().cloned().collect();
            }
            is_other
        });
        self.changed.send_replace(());
    }

    async fn until(&self, is_so: impl Fn(&Policy) -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so(&self.lock().policy) {
            tokio::select! {
                _ = changed.changed() => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Tells the policy the time.
    async fn keep_time(self: Arc<Self>) {
        while !self.stop.is_cancelled() {
            let at = {
                let mut state = self.lock();
                state.tick_at = state.policy.next_tick(self.now());
                state.tick_at
            };
            let tick = async {
                match at {
                    Some(at) => sleep_until(self.begin + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tick => {
                    let ticked: Result<(), FleetError> =
                        self.change(|state, now| Ok(state.policy.tick(now)));
                    ticked.expect("time passes always");
                }
                () = self.must_rearm.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Is there for one process of a model, from its start to its end.
    async fn host(self: Arc<Self>, name: ModelName) {
        let (setup, resident_bytes_max) = match self.lock().members.get(&name) {
            Some(member) => (member.setup.clone(), member.resident_bytes_max),
            None => (vec![], None),
        };
        let opened = tokio::select! {
            opened = Child::open(&self.child, setup) => opened,
            () = self.stop.cancelled() => return,
        };
        let failed = match opened {
            Ok((child, exit)) if child.info().name == name => {
                let process = child.process_id();
                tracing::info!(model = %name, process, "model loaded");
                self.loaded(&name, child);
                let exit = exit.wait();
                tokio::pin!(exit);
                let ended = tokio::select! {
                    ended = &mut exit => ended,
                    () = self.outgrown(process, resident_bytes_max) => {
                        self.end(&name);
                        Ended { how: "it took more memory than it may".into(), ..exit.await }
                    }
                };
                return self.gone(&name, ended);
            }
            Ok((child, exit)) => {
                child.end();
                exit.wait().await;
                "its process opened another model".to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.gone(&name, Ended { how: failed, orphans: vec![] });
    }

    /// Returns when a process has taken more memory than it may.
    async fn outgrown(&self, process: u32, resident_bytes_max: Option<u64>) {
        let Some(max) = resident_bytes_max else {
            return std::future::pending().await;
        };
        let mut check = interval(self.memory_check_every);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while resident_bytes(process).is_none_or(|bytes| bytes <= max) {
            check.tick().await;
        }
    }

    fn end(&self, name: &ModelName) {
        if let Some(child) = self.lock().members.get(name).and_then(|m| m.child.as_ref()) {
            child.end();
        }
    }

    fn loaded(self: &Arc<Self>, name: &ModelName, child: Child) {
        let loaded: Result<(), FleetError> = self.change(|state, now| {
            let slots = child.info().slots;
            if state.is_stopping {
                child.end();
            }
            if let Some(member) = state.members.get_mut(name) {
                member.info = child.info().clone();
                member.child = Some(Arc::new(child));
            }
            Ok(state.policy.loaded(now, name, slots))
        });
        loaded.expect("it was to be loaded");
    }

    fn gone(self: &Arc<Self>, name: &ModelName, ended: Ended) {
        let gone: Result<(), FleetError> = self.change(|state, now| {
            let Ended { how, mut orphans } = ended;
            if let Some(member) = state.members.get_mut(name) {
                member.child = None;
                orphans.append(&mut member.stranded);
            }
            if state.policy.place(name) == Some(Place::Leaving) {
                tracing::info!(model = %name, "model unloaded");
                return Ok(state.policy.unloaded(now, name));
            }
            let adopted = if state.is_stopping { vec![] } else { state.adopt(orphans) };
            if !state.is_stopping {
                tracing::warn!(model = %name, %how, retried = adopted.len(), "model failed");
            }
            Ok(state.policy.failed(now, name, &how, &adopted))
        });
        gone.expect("it was there");
    }

    fn stop(self: &Arc<Self>) {
        let mut state = self.lock();
        state.is_stopping = true;
        let waiting: Vec<_> = state.asks.keys().copied().collect();
        for id in waiting {
            // Those that run are told when their process is gone.
            let refusal = Refusal::new(RefusalCode::ShuttingDown, "the node is going away");
            state.refuse(id, refusal);
        }
        for member in state.members.values() {
            if let Some(child) = &member.child {
                child.end();
            }
        }
        drop(state);
        self.stop.cancel();
        self.tasks.close();
    }
}

/// Memory of a process, where the system has `/proc`.
fn resident_bytes(process_id: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{process_id}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
