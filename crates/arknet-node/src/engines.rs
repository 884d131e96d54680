//! The models of this machine: planned, each in a process of its own, within one budget of memory.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_engine::{
    EngineStats, HAS_GPU, LlamaOptions, LlamaProvider, LoadError, Survey, memory_bytes_available,
    survey_with,
};
use arknet_gateway::{About, KeepAlive, LoadedModel};
use arknet_provider::{
    Provider, child,
    fleet::{self, Fleet, FleetError, FleetModel, FleetOptions},
};
use arknet_types::{ModelName, Profile, Refusal, RefusalCode, decode, encode};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinError, time::timeout};

use crate::{
    ModelStore, ModelsError,
    config::Compute,
    metrics::EngineGauges,
    models::{ModelEntry, ProjectorEntry, unix_seconds},
    serving::Source,
};

/// The argument that makes this program the process of one model.
pub const ENGINE_ARGUMENT: &str = "engine";
/// A process this much larger than planned leaks: so many times, and so much more.
const RESIDENT_FACTOR: u64 = 2;
const RESIDENT_SPARE_BYTES: u64 = 512 << 20;
/// How long who changes a model waits for answers that it is giving.
const CHANGE_PATIENCE: Duration = Duration::from_secs(2);
/// What the process of a model may see of the environment: where libraries of graphics cards look
/// for their settings, and what to log. No secret is ever among these.
const ENVIRONMENT: [&str; 10] = [
    "ARKNET_LOG",
    "CUDA_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "HOME",
    "LD_LIBRARY_PATH",
    "PATH",
    "RUST_BACKTRACE",
    "TMPDIR",
    "VK_DRIVER_FILES",
    "XDG_RUNTIME_DIR",
];

/// Why a model of this machine is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The fleet does not take it.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// It cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The models cannot be read.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// Looking at it ended early.
    #[error("its file could not be looked at: {0}")]
    Look(#[from] JoinError),
}

/// What became of a model that was added, changed or removed while the node runs.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// It is not served any more.
    Gone,
    /// When the answers that it is giving have ended, one of the others.
    Later,
    /// `compute.models` names others.
    NotConfigured,
    /// It is served, as it is.
    Now,
}

/// The models of this machine.
#[derive(Clone)]
pub(crate) struct Engines {
    fleet: Arc<Fleet>,
    store: ModelStore,
    compute: Compute,
    /// Memory one model is planned with.
    share_bytes: u64,
    /// Memory of all models together.
    budget_bytes: u64,
    /// What is served.
    served: Arc<Mutex<BTreeMap<ModelName, ModelEntry>>>,
    /// Held while one of them changes.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// The one that is let go to be replaced by another.
    replaced: Arc<Mutex<Option<ModelName>>>,
}

/// What the store says of a model.
enum Look {
    /// It has none of this name.
    Gone,
    /// It is served as it is.
    Same,
    New(ModelEntry, Box<FleetModel>),
}

impl Engines {
    /// Plans the models; none is loaded yet.
    pub(crate) fn start(
        store: ModelStore,
        compute: &Compute,
        entries: &[ModelEntry],
    ) -> Result<Self, EngineError> {
        if !HAS_GPU && compute.gpu_layers.is_some_and(|layers| layers > 0) {
            tracing::warn!(
                "[compute] gpu_layers has no effect: this build computes on the processor alone; \
                 build with --features cuda, vulkan or metal"
            );
        }
        let available = memory_bytes_available();
        let reserved = compute.memory_reserved_bytes.unwrap_or(available / 4);
        let budget = compute.memory_bytes_max.unwrap_or_else(|| available.saturating_sub(reserved));
        let mut options =
            FleetOptions::new(program(), vec![OsString::from(ENGINE_ARGUMENT)], budget);
        options.memory_bytes_reserved = compute.reserve_memory_mb.saturating_mul(1 << 20);
        options.keep_alive = match compute.keep_alive_ms {
            Some(ms) => fleet::KeepAlive::For(Duration::from_millis(ms)),
            None => fleet::KeepAlive::Forever,
        };
        let seen = |name: &&str| Some((OsString::from(*name), std::env::var_os(name)?));
        options.child.env = ENVIRONMENT.iter().filter_map(seen).collect();
        // An abort in the native code would start a debugger first, where there is one.
        options.child.env.push(("GGML_NO_BACKTRACE".into(), "1".into()));
        // Two models that are used in turn should not have to send each other away.
        let share_bytes = if entries.len() > 1 { budget / 2 } else { budget };
        let engines = Self {
            fleet: Arc::new(Fleet::start(options)),
            store,
            compute: compute.clone(),
            share_bytes,
            budget_bytes: budget,
            served: Arc::default(),
            changing: Arc::default(),
            replaced: Arc::default(),
        };
        let mut failed = None;
        for entry in entries {
            // One that cannot be served must not keep the others from it.
            let taken = engines.plan(entry).and_then(|model| engines.take(entry.clone(), model));
            if let Err(error) = taken {
                tracing::error!(model = %entry.name, %error, "the model is not served");
                failed = Some(error);
            }
        }
        match failed {
            Some(error) if engines.fleet.models().borrow().is_empty() => Err(error),
            _ => Ok(engines),
        }
    }

    /// What a model takes, from its file.
    fn plan(&self, entry: &ModelEntry) -> Result<FleetModel, EngineError> {
        let mut options =
            LlamaOptions::new(entry.name.clone(), entry.digest, self.store.path(&entry.digest));
        options.context_tokens = self.compute.context_tokens;
        options.slots = self.compute.slots;
        options.threads = self.compute.threads.map(usize::from);
        options.prefix_cache_bytes_max = self.compute.prefix_cache_bytes_max;
        options.draft_tokens_max = self.compute.draft_tokens_max;
        options.portable_kernels = self.compute.portable_kernels;
        options.gpu_layers = self.compute.gpu_layers;
        let is_exact = self.compute.exact.contains(&entry.name);
        options.profile = if is_exact { Profile::Exact } else { self.compute.profile.into() };
        options.projector_digest = entry.projector.map(|projector| projector.digest);
        // That profile takes no pictures.
        if options.profile == Profile::Default {
            let path = |projector: ProjectorEntry| self.store.path(&projector.digest);
            options.projector = entry.projector.map(path);
        }
        let survey = match self.survey(&mut options) {
            // It is of use without.
            Err(error) if options.projector.is_some() => {
                tracing::warn!(model = %entry.name, %error, "the model takes no pictures");
                options.projector = None;
                self.survey(&mut options)?
            }
            result => result?,
        };
        // The process must not plan anew: what it would find free by then is another number.
        let setup = encode(&survey.pin(&options));
        Ok(FleetModel {
            info: survey.info,
            memory_bytes: survey.memory_bytes,
            resident_bytes_max: Some(survey.memory_bytes * RESIDENT_FACTOR + RESIDENT_SPARE_BYTES),
            setup,
            is_pinned: self.compute.pinned.contains(&entry.name),
        })
    }

    fn survey(&self, options: &mut LlamaOptions) -> Result<Survey, LoadError> {
        options.memory_bytes_max = Some(self.share_bytes);
        match survey_with(options, self.budget_bytes) {
            // Alone it may still fit.
            Err(LoadError::Memory { .. }) => {
                options.memory_bytes_max = Some(self.budget_bytes);
                survey_with(options, self.budget_bytes)
            }
            result => result,
        }
    }

    /// Takes one more model on.
    fn take(&self, entry: ModelEntry, model: FleetModel) -> Result<(), EngineError> {
        let (memory_bytes, slots) = (model.memory_bytes, model.info.slots);
        let context_tokens = model.info.context_tokens;
        self.fleet.add(model)?;
        tracing::info!(model = %entry.name, slots, context_tokens, memory_bytes, "model planned");
        self.served().insert(entry.name.clone(), entry);
        Ok(())
    }

    fn served(&self) -> MutexGuard<'_, BTreeMap<ModelName, ModelEntry>> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, name: &ModelName) -> Result<Look, EngineError> {
        let entry = match self.store.get(name) {
            Err(ModelsError::Unknown { .. }) if self.serves(name) => return Ok(Look::Gone),
            entry => entry?,
        };
        if self.served().get(name) == Some(&entry) {
            return Ok(Look::Same);
        }
        let model = self.plan(&entry)?;
        Ok(Look::New(entry, Box::new(model)))
    }

    async fn follow(&self, name: &ModelName) -> Result<Taken, EngineError> {
        let _one = self.changing.lock().await;
        let (engines, called) = (self.clone(), name.clone());
        let look = tokio::task::spawn_blocking(move || engines.look(&called)).await??;
        if let Look::Same = look {
            return Ok(Taken::Now);
        }
        if let Look::New(..) = look {
            *self.replaced() = Some(name.clone());
        }
        let changed = self.change(name, look).await;
        *self.replaced() = None;
        changed
    }

    async fn change(&self, name: &ModelName, look: Look) -> Result<Taken, EngineError> {
        if self.served().remove(name).is_some() {
            self.fleet.remove(name).await?;
        }
        let Look::New(entry, model) = look else { return Ok(Taken::Gone) };
        self.take(entry, *model)?;
        Ok(Taken::Now)
    }

    fn replaced(&self) -> MutexGuard<'_, Option<ModelName>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a model that is not served now will be in a moment.
    pub(crate) fn will_serve(&self, name: &ModelName) -> bool {
        self.replaced().as_ref() == Some(name)
    }

    /// Serves what the store has under this name, in place of what it had; lets go of a model that
    /// is not there any more. What cannot be served changes nothing. Returns when that has happened:
    /// answers under way end first, while nothing new is asked of the model. Goes on when nobody waits
    /// for it any more, as a model that was let go is not served until it has ended.
    pub(crate) async fn follow_store(&self, name: ModelName) -> Result<Taken, EngineError> {
        let engines = self.clone();
        let change = tokio::spawn(async move {
            let taken = engines.follow(&name).await;
            taken.inspect_err(|error| tracing::error!(model = %name, %error, "not served"))
        });
        change.await?
    }

    /// The same for a model that somebody added or removed, if it is one of those to serve. Waits for
    /// a moment only.
    pub(crate) async fn take_changed(&self, name: ModelName) -> Result<Taken, EngineError> {
        let is_configured = self.compute.models.is_empty() || self.compute.models.contains(&name);
        if !is_configured && !self.serves(&name) {
            return Ok(Taken::NotConfigured);
        }
        let taken = timeout(CHANGE_PATIENCE, self.follow_store(name)).await;
        taken.unwrap_or(Ok(Taken::Later))
    }

    pub(crate) fn source(&self) -> Source {
        Source { provider: Arc::<Fleet>::clone(&self.fleet), is_shared: true }
    }

    pub(crate) const fn store(&self) -> &ModelStore {
        &self.store
    }

    /// Whether this model was taken on, even where it fails at the moment.
    pub(crate) fn serves(&self, name: &ModelName) -> bool {
        self.served().contains_key(name)
    }

    /// Whether this model is one of this machine's.
    pub(crate) fn has(&self, name: &ModelName) -> bool {
        self.fleet.models().borrow().iter().any(|info| info.name == *name)
    }

    /// Loads a model, or lets go of it.
    pub(crate) async fn keep(&self, name: &ModelName, keep: KeepAlive) -> Result<(), Refusal> {
        if !self.has(name) {
            let words = format!("{name} is not a model of this node");
            return Err(Refusal::new(RefusalCode::UnknownModel, words));
        }
        self.fleet.keep(name, fleet_keep(keep)).await
    }

    /// Lets a model that has just been asked stay so long from now on; with no time at all it goes
    /// when its work is done.
    pub(crate) fn touch(&self, name: ModelName, keep: KeepAlive) {
        let fleet = Arc::clone(&self.fleet);
        tokio::spawn(async move {
            if let Err(error) = fleet.keep(&name, fleet_keep(keep)).await {
                tracing::debug!(model = %name, %error, "the wish to keep a model has no effect");
            }
        });
    }

    /// Loads the first model in the background, so that the first question need not wait.
    pub(crate) async fn warm(&self) {
        let first = self.fleet.models().borrow().first().map(|info| info.name.clone());
        let Some(first) = first else { return };
        let keep = match self.compute.keep_alive_ms {
            Some(ms) => fleet::KeepAlive::For(Duration::from_millis(ms)),
            None => fleet::KeepAlive::Forever,
        };
        if let Err(error) = self.fleet.keep(&first, keep).await {
            tracing::warn!(model = %first, %error, "the model cannot be loaded");
        }
    }

    /// The models in memory.
    pub(crate) fn loaded(&self) -> Vec<LoadedModel> {
        let now = unix_seconds();
        let loaded = self.fleet.loaded().into_iter().map(|loaded| LoadedModel {
            name: loaded.name,
            memory_bytes: loaded.memory_bytes,
            gpu_memory_bytes: if HAS_GPU { loaded.memory_bytes } else { 0 },
            expires_unix_s: loaded.expires_in.map(|rest| now + rest.as_secs()),
        });
        loaded.collect()
    }

    /// What people like to know of a model of this machine.
    pub(crate) fn about(&self, name: &ModelName) -> About {
        let models = self.fleet.models();
        let infos = models.borrow();
        let Some(info) = infos.iter().find(|info| info.name == *name) else {
            return About::default();
        };
        let details = info.details.clone();
        About {
            architecture: details.architecture,
            parameters: details.parameters,
            quantization: details.quantization,
            file_bytes: details.file_bytes,
            embedding_dimensions: details.embedding_dimensions,
            template: details.template,
            build_class: details.build_class,
            added_unix_s: info.digest.and_then(|digest| self.store.added_unix_s(&digest)),
        }
    }

    /// The numbers of the processes, for `/metrics`.
    pub(crate) async fn gauges(&self) -> BTreeMap<ModelName, EngineGauges> {
        let stats = self.fleet.stats().await.into_iter().map(|model| {
            let engine: EngineStats = decode(&model.stats).unwrap_or_default();
            let gauges = EngineGauges {
                resident_bytes: model.resident_bytes.unwrap_or(0),
                restarts: model.failures,
                kv_tokens_used: engine.kv_tokens,
                kv_tokens_max: engine.kv_tokens_max,
                prefix_cache_bytes: engine.prefix_bytes,
                prompt_tokens: engine.prompt_tokens_total,
                cached_tokens: engine.cached_tokens_total,
                generated_tokens: engine.completion_tokens_total,
                draft_tokens: engine.draft_tokens_total,
                draft_tokens_accepted: engine.draft_tokens_accepted_total,
            };
            (model.name, gauges)
        });
        stats.collect()
    }

    /// Ends all processes.
    pub(crate) async fn shut_down(&self) {
        self.fleet.shut_down().await;
    }
}

/// Is the process of one model, until the node that started it ends it. To be called first in `main`.
#[must_use]
pub fn run_engine() -> ExitCode {
    let open = |setup: Vec<u8>| {
        let options: LlamaOptions =
            decode(&setup).map_err(|error| format!("the setup of the model is {error}"))?;
        let provider = LlamaProvider::open(options).map_err(|error| error.to_string())?;
        Ok(Arc::new(provider) as Arc<dyn Provider>)
    };
    match child::run(open) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the process of a model cannot speak to its node");
            ExitCode::FAILURE
        }
    }
}

/// In the words of the fleet.
const fn fleet_keep(keep: KeepAlive) -> fleet::KeepAlive {
    match keep {
        KeepAlive::None => fleet::KeepAlive::For(Duration::ZERO),
        KeepAlive::For(time) => fleet::KeepAlive::For(time),
        KeepAlive::Forever => fleet::KeepAlive::Forever,
    }
}

/// The program that runs now, even where its file has been replaced since.
fn program() -> PathBuf {
    if cfg!(target_os = "linux") {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe().unwrap_or_else(|_| PathBuf::from("arknet"))
    }
}
