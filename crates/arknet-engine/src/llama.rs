//! llama.cpp, embedded: one model, one native context, two threads.
//!
//! A request goes from [`LlamaProvider::generate`] to the preparation thread (template, tokens),
//! from there to the engine thread (steps, sampling), and comes back as replies through a bounded
//! channel. Both queues are bounded, and the number of requests inside is bounded by the slots.

mod cache;
mod engine;
mod error;
#[cfg(test)]
mod exact_tests;
mod guess;
mod native;
mod options;
mod outbox;
mod picture;
mod plan;
mod prepare;
mod prompt;
mod sampling;
mod schedule;
mod sequence;
mod stats;
mod text;
mod vectors;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc as queue,
    },
    thread::{self, JoinHandle, Thread},
};

use arknet_provider::{Generation, ModelInfo, Models, Provider, Seat};
use arknet_types::{Capabilities, InferRequest, Profile, Refusal, RefusalCode};
use tokio::sync::{mpsc, watch};

pub use error::LoadError;
pub use options::{LlamaOptions, Survey, survey, survey_with};
pub use plan::memory_bytes_available;
pub use stats::EngineStats;

use crate::gguf::GgufInfo;
use engine::{Engine, Running, Shared};
use guess::DRAFT_TOKENS_DEFAULT;
use native::{Model, Projector};
use picture::{Names, Picture};
use prepare::{Ask, Preparation};

/// Replies that wait for a reader before its sequence stops taking part in steps.
const REPLIES_MAX: usize = 16;
/// Requests that wait for preparation beyond the slots: those that were cancelled since.
const CANCELLED_ASKS_MAX: usize = 64;
/// Several vocabularies are split by a regular expression that calls itself for each character of a
/// match: 300 to 530 bytes of stack for each that [`prepare`] lets through. Taken only when used.
const PREPARE_STACK_BYTES: usize = 256 << 20;
/// Milliseconds after which a full provider is worth another try.
const RETRY_AFTER_MS: u64 = 1000;

/// A model that runs inside this process.
///
/// Dropping it ends all running answers with a refusal, and waits for the operation that is being
/// computed.
#[derive(Debug)]
pub struct LlamaProvider {
    info: ModelInfo,
    models: Arc<watch::Sender<Arc<[ModelInfo]>>>,
    asks: Option<queue::SyncSender<Ask>>,
    active: Arc<AtomicU16>,
    shared: Arc<Shared>,
    engine: Option<JoinHandle<()>>,
    preparation: Option<JoinHandle<()>>,
    looking: Option<JoinHandle<()>>,
}

impl LlamaProvider {
    /// Loads a model. Takes as long as reading the file does; call it where blocking is allowed.
    pub fn open(options: LlamaOptions) -> Result<Self, LoadError> {
        let survey = survey(&options)?;
        let path = &options.path;
        let file =
            GgufInfo::read(path).map_err(|cause| LoadError::Gguf { path: path.clone(), cause })?;
        let running = Running {
            plan: survey.plan,
            purpose: file.purpose,
            is_read_whole: file.is_read_whole,
            profile: options.profile,
            draft_tokens_max: options.draft_tokens_max.unwrap_or(DRAFT_TOKENS_DEFAULT),
        };
        start(&options)?;
        let model = Model::load(path, options.gpu_layers).ok_or_else(|| LoadError::Refused {
            path: path.clone(),
            architecture: file.architecture.clone(),
        })?;
        let (plan, info, model) = (survey.plan, survey.info, Arc::new(model));
        let projector = projector(&options, &model, plan)?;
        let (models, _) = watch::channel::<Arc<[ModelInfo]>>(Arc::new([info.clone()]));
        let models = Arc::new(models);
        let shared = Arc::new(Shared::default());
        let (job_sender, jobs) = queue::sync_channel(usize::from(plan.slots));
        let (pictures, to_look_at) = queue::sync_channel(usize::from(plan.slots));
        let eyes = projector
            .as_ref()
            .map(|projector| engine::Eyes { projector: Arc::clone(projector), pictures });
        let engine =
            spawn_engine(&options, running, &model, Queues { jobs, eyes }, &shared, &models)?;
        let (asks, ask_receiver) =
            queue::sync_channel(usize::from(plan.slots) + CANCELLED_ASKS_MAX);
        let mut provider = Self {
            info,
            models: Arc::clone(&models),
            asks: Some(asks),
            active: Arc::new(AtomicU16::new(0)),
            shared: Arc::clone(&shared),
            engine: Some(engine),
            preparation: None,
            looking: None,
        };
        let engine_thread = provider.engine_thread();
        if let Some(projector) = &projector {
            let handle = spawn_looking(projector, to_look_at, provider.engine_thread(), &provider)?;
            provider.looking = Some(handle);
        }
        let name = options.name;
        let (step_tokens, names) = (plan.step_tokens, Names::default());
        let eyes = projector.map(|projector| prepare::Eyes { projector, step_tokens, names });
        let context_tokens = plan.context_tokens;
        let preparation =
            Preparation::new(model, name, file.purpose, file.pooling, context_tokens, eyes);
        provider.preparation = Some(spawn_preparation(move || {
            let _served = Served(models);
            preparation.run(&ask_receiver, &job_sender, &engine_thread, &shared);
        })?);
        tracing::info!(
            model = %provider.info.name,
            context_tokens = plan.context_tokens,
            slots = plan.slots,
            threads = plan.threads,
            memory_mib = plan.memory_bytes >> 20,
            "model loaded"
        );
        Ok(provider)
    }

    /// What it serves.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What it has done and holds, at this moment. Costs a few loads.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.shared.counters.read()
    }

    fn engine_thread(&self) -> Thread {
        let engine = self.engine.as_ref().expect("taken by drop only");
        engine.thread().clone()
    }

    /// What a request needs and the model cannot do.
    fn check_capabilities(&self, request: &InferRequest) -> Result<(), Refusal> {
        let lacks = request.needs().without(self.info.capabilities);
        if lacks == Capabilities::NONE {
            return Ok(());
        }
        let name = &self.info.name;
        if lacks.contains(Capabilities::VISION) {
            return Err(prepare::blind(name));
        }
        let lacks: Vec<&str> = lacks.names().collect();
        let words = format!("{name} cannot do this: {}", lacks.join(", "));
        Err(Refusal::new(RefusalCode::Unsupported, words))
    }
}

impl Provider for LlamaProvider {
    fn models(&self) -> Models {
        self.models.subscribe()
    }

    fn progress(&self) -> u64 {
        self.shared.counters.steps.load(Ordering::Relaxed)
    }

    fn stats(&self) -> Vec<u8> {
        arknet_types::encode(&Self::stats(self))
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        // Cheap, and the last border before native code.
        request.check()?;
        if request.model != self.info.name {
            return Err(Refusal::new(
                RefusalCode::UnknownModel,
                format!("this provider serves {}", self.info.name),
            ));
        }
        self.check_capabilities(&request)?;
        let busy = || {
            let words = format!("all {} slots are taken", self.info.slots);
            Refusal::new(RefusalCode::Busy, words).retry_after_ms(RETRY_AFTER_MS)
        };
        let seat = EngineSeat::take(&self.active, self.info.slots, self.engine_thread());
        let seat = seat.ok_or_else(busy)?;
        let (replies, receiver) = mpsc::channel(REPLIES_MAX);
        let asks = self.asks.as_ref().expect("taken by drop only");
        match asks.try_send(Ask { request, replies }) {
            Ok(()) => Ok(Generation::with_seat(receiver, Box::new(seat))),
            Err(queue::TrySendError::Full(_)) => Err(busy()),
            Err(queue::TrySendError::Disconnected(_)) => {
                Err(Refusal::new(RefusalCode::ProviderFailed, "the model stopped working"))
            }
        }
    }
}

impl Drop for LlamaProvider {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::SeqCst);
        self.asks = None;
        if let Some(engine) = self.engine.take() {
            engine.thread().unpark();
            // A thread that panicked has said so already.
            let _ = engine.join();
        }
        for thread in [self.preparation.take(), self.looking.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

/// Held by threads without which nothing is served. One that ends by itself met a bug.
struct Served(Arc<watch::Sender<Arc<[ModelInfo]>>>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.send_replace(Arc::new([]));
    }
}

/// A slot of the engine.
struct EngineSeat {
    active: Arc<AtomicU16>,
    engine: Thread,
}

impl EngineSeat {
    fn take(active: &Arc<AtomicU16>, slots: u16, engine: Thread) -> Option<Self> {
        let one_more = |taken: u16| (taken < slots).then_some(taken + 1);
        active.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(Self { active: Arc::clone(active), engine })
    }
}

impl Seat for EngineSeat {
    fn reply_taken(&self) {
        self.engine.unpark();
    }
}

impl Drop for EngineSeat {
    fn drop(&mut self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
        self.engine.unpark();
    }
}

/// How the start of an engine went.
enum Start {
    Ready,
    NoMemory,
    NotExact,
}

/// Starts the library with the kernels that the options ask for.
fn start(options: &LlamaOptions) -> Result<(), LoadError> {
    if native::start(options.kernels()) == options.kernels() {
        return Ok(());
    }
    Err(LoadError::Kernels { path: options.path.clone() })
}

/// Loads what looks at pictures, where the model has it.
fn projector(
    options: &LlamaOptions,
    model: &Arc<Model>,
    plan: plan::Plan,
) -> Result<Option<Arc<Projector>>, LoadError> {
    let Some(path) = &options.projector else {
        return Ok(None);
    };
    // Half of the context is left for what is said about pictures.
    let tokens_max = plan.context_tokens / 2;
    let loaded = Projector::load(path, Arc::clone(model), plan.threads, tokens_max.max(1));
    let loaded = loaded.ok_or_else(|| LoadError::Projector { path: path.clone() })?;
    Ok(Some(Arc::new(loaded)))
}

fn spawn_preparation(run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LoadError> {
    let thread = thread::Builder::new().name("llama-prepare".into());
    thread.stack_size(PREPARE_STACK_BYTES).spawn(run).map_err(LoadError::Thread)
}

/// Starts the thread that computes pictures, beside the engine: one takes as long as many steps.
fn spawn_looking(
    projector: &Arc<Projector>,
    pictures: queue::Receiver<Arc<Picture>>,
    engine: Thread,
    provider: &LlamaProvider,
) -> Result<JoinHandle<()>, LoadError> {
    let (projector, shared) = (Arc::clone(projector), Arc::clone(&provider.shared));
    let served = Served(Arc::clone(&provider.models));
    thread::Builder::new()
        .name("llama-pictures".into())
        .spawn(move || {
            let _served = served;
            while let Ok(picture) = pictures.recv() {
                // Nobody else has it when its request was cancelled.
                let is_wanted = Arc::strong_count(&picture) > 1;
                if is_wanted && !shared.is_closing.load(Ordering::SeqCst) {
                    picture.compute(&projector);
                }
                engine.unpark();
            }
        })
        .map_err(LoadError::Thread)
}

/// Where an engine's work comes from, and where its pictures go.
struct Queues {
    jobs: queue::Receiver<engine::Job>,
    eyes: Option<engine::Eyes>,
}

/// Starts the engine and waits until it has its memory.
fn spawn_engine(
    options: &LlamaOptions,
    running: Running,
    model: &Arc<Model>,
    Queues { jobs, eyes }: Queues,
    shared: &Arc<Shared>,
    models: &Arc<watch::Sender<Arc<[ModelInfo]>>>,
) -> Result<JoinHandle<()>, LoadError> {
    let (started, has_started) = queue::sync_channel(1);
    let (model, shared) = (Arc::clone(model), Arc::clone(shared));
    let served = Served(Arc::clone(models));
    let handle = thread::Builder::new()
        .name("llama-engine".into())
        .spawn(move || {
            let _served = served;
            let Some(mut engine) = Engine::new(model, running, jobs, eyes, shared) else {
                let _ = started.send(Start::NoMemory);
                return;
            };
            if running.profile == Profile::Exact && !engine.is_exact() {
                let _ = started.send(Start::NotExact);
                return;
            }
            // The receiver waits for exactly this.
            let _ = started.send(Start::Ready);
            engine.run();
        })
        .map_err(LoadError::Thread)?;
    match has_started.recv() {
        Ok(Start::Ready) => Ok(handle),
        Ok(Start::NotExact) => Err(LoadError::NotExact { path: options.path.clone() }),
        Ok(Start::NoMemory) | Err(_) => Err(LoadError::Context {
            path: options.path.clone(),
            slots: running.plan.slots,
            context_tokens: running.plan.context_tokens,
        }),
    }
}
