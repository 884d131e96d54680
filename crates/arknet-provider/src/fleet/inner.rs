use std::{
    collections::HashMap,
    fmt, fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_types::{ModelName, Refusal, RefusalCode, Reply};
use bytes::Bytes;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Action, FleetError, FleetOptions, KeepAlive, Place, Policy, PolicyOptions, Wish};
use crate::{
    ModelInfo, Seat,
    child::{Child, ChildOptions, Ended, Orphan, Taken},
};

/// What carries out the decisions of a [`Policy`].
pub(super) struct Inner {
    child: ChildOptions,
    memory_check_every: Duration,
    state: Mutex<State>,
    pub(super) models: watch::Sender<Arc<[ModelInfo]>>,
    /// Told whenever a model may have changed its place, or what is wished of it.
    changed: watch::Sender<()>,
    must_rearm: Notify,
    stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    begin: Instant,
}

pub(super) struct State {
    pub(super) policy: Policy,
    pub(super) members: HashMap<ModelName, Member>,
    asks: HashMap<u64, Ask>,
    next_id: u64,
    /// When the policy is told the time next.
    tick_at: Option<Duration>,
    is_stopping: bool,
}

pub(super) struct Member {
    info: ModelInfo,
    setup: Vec<u8>,
    resident_bytes_max: Option<u64>,
    pub(super) child: Option<Arc<Child>>,
    /// Requests that came when the process had just ended.
    stranded: Vec<Orphan>,
}

pub(super) enum Ask {
    Request(Request),
    Load(oneshot::Sender<Result<(), Refusal>>),
}

pub(super) struct Request {
    model: ModelName,
    /// What it takes to begin, until it has.
    begin: Option<(Bytes, mpsc::Sender<Reply>)>,
    has_retried: bool,
}

impl Member {
    pub(super) fn new(info: ModelInfo, setup: Vec<u8>, resident_bytes_max: Option<u64>) -> Self {
        Self { info, setup, resident_bytes_max, child: None, stranded: vec![] }
    }
}

impl Request {
    pub(super) fn new(model: ModelName, frame: Bytes, replies: mpsc::Sender<Reply>) -> Self {
        Self { model, begin: Some((frame, replies)), has_retried: false }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

/// The place of an ask; given back when dropped.
pub(super) struct FleetSeat {
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
    pub(super) fn start(options: FleetOptions) -> Arc<Self> {
        let policy = Policy::new(PolicyOptions {
            memory_bytes_max: options.memory_bytes_max,
            memory_bytes_reserved: options.memory_bytes_reserved,
            keep_alive: options.keep_alive,
            patience: options.patience,
            restarts: options.restarts,
        });
        let state = State {
            policy,
            members: HashMap::new(),
            asks: HashMap::new(),
            next_id: 1,
            tick_at: None,
            is_stopping: false,
        };
        let inner = Arc::new(Self {
            child: options.child,
            memory_check_every: options.memory_check_every,
            state: Mutex::new(state),
            models: watch::Sender::new(Arc::new([])),
            changed: watch::Sender::new(()),
            must_rearm: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            begin: Instant::now(),
        });
        inner.tasks.spawn(Arc::clone(&inner).keep_time());
        inner
    }

    pub(super) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that may change where models are, and with it what is listed.
    pub(super) fn change<E>(
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

    pub(super) fn ask(
        self: &Arc<Self>,
        name: &ModelName,
        keep: Option<KeepAlive>,
        wish: Wish,
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
        let mut actions = state.policy.ask(now, name, id, keep, wish);
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
        self.changed.send_replace(());
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
    }

    pub(super) async fn until(&self, is_so: impl Fn(&Policy) -> bool) {
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
                // What has come due meanwhile is no time that lies ahead.
                let is_due = state.tick_at.is_some_and(|at| at <= self.now());
                if !is_due {
                    state.tick_at = state.policy.next_tick(self.now());
                }
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
                        self.change(|state, now| {
                            state.tick_at = None;
                            Ok(state.policy.tick(now))
                        });
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

    pub(super) fn stop(self: &Arc<Self>) {
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
pub(super) fn resident_bytes(process_id: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{process_id}/statm")).ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}
