//! Several models, each in a process of its own, within one budget of memory: loaded when somebody
//! asks, sent away when nobody has for a while or the memory is needed, started anew when their
//! process fails.

mod inner;
mod policy;
mod restarts;

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use arknet_types::{InferRequest, ModelName, Refusal, RefusalCode};
use tokio::sync::oneshot;

use inner::{Ask, Inner, Member, Request, resident_bytes};
pub use policy::{Action, FleetError, KeepAlive, Place, Policy, PolicyModel, PolicyOptions, Wish};
pub use restarts::Restarts;

use crate::{
    Generation, ModelInfo, Models, Origin, Provider,
    child::{ChildOptions, process_ended, protocol::run_frame, replies},
};

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// How the process of a model is started.
    pub child: ChildOptions,
    /// Memory of all models together.
    pub memory_bytes_max: u64,
    /// Of that, for models the owner has pinned or uses.
    pub memory_bytes_reserved: u64,
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
            memory_bytes_reserved: 0,
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
        Self { inner: Inner::start(options) }
    }

    /// Takes a model on.
    pub fn add(&self, model: FleetModel) -> Result<(), FleetError> {
        let FleetModel { info, memory_bytes, resident_bytes_max, setup, is_pinned } = model;
        let place = PolicyModel { memory_bytes, slots: info.slots, is_pinned };
        let name = info.name.clone();
        self.inner.change(|state, now| {
            let actions = state.policy.add(now, name.clone(), place)?;
            let member = Member::new(info, setup, resident_bytes_max);
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
        let seat = self.inner.ask(name, Some(keep), Wish::Load, |_| Ok(Ask::Load(done)))?;
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
        self.run(request, Wish::Request, keep)
    }

    fn run(
        &self,
        request: InferRequest,
        wish: Wish,
        keep: Option<KeepAlive>,
    ) -> Result<Generation, Refusal> {
        let (tx, rx) = replies();
        let model = request.model.clone();
        let seat = self.inner.ask(&model, keep, wish, |id| {
            Ok(Ask::Request(Request::new(model.clone(), run_frame(id, request)?, tx)))
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
        self.run(request, Wish::Request, None)
    }

    fn generate_for(&self, origin: Origin, request: InferRequest) -> Result<Generation, Refusal> {
        let wish = match origin {
            Origin::Owner => Wish::Request,
            Origin::Guest => Wish::Guest,
        };
        self.run(request, wish, None)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.inner.stop();
    }
}
