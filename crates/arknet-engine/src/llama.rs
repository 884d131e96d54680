//! llama.cpp, embedded: one model, one native context, two threads.
//!
//! A request goes from [`LlamaProvider::generate`] to the preparation thread (template, tokens),
//! from there to the engine thread (steps, sampling), and comes back as replies through a bounded
//! channel. Both queues are bounded, and the number of requests inside is bounded by the slots.

mod backend;
mod engine;
mod error;
mod plan;
mod prepare;
mod prompt;
mod sampling;
mod schedule;
mod sequence;
mod template;
mod text;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
        mpsc as queue,
    },
    thread::{self, JoinHandle, Thread},
};

use arknet_types::{InferRequest, ModelDigest, ModelName, Refusal, RefusalCode};
use llama_cpp_2::model::{LlamaModel, params::LlamaModelParams};
use tokio::sync::mpsc;

pub use error::LoadError;

use crate::{
    gguf::GgufInfo,
    provider::{Generation, ModelInfo, Provider, Seat},
};
use engine::Engine;
use plan::{Facts, Plan, Wishes, plan};
use prepare::{Ask, Preparation};

/// Replies that wait for a reader before its sequence stops taking part in steps.
const REPLIES_MAX: usize = 16;
/// Requests that wait for preparation beyond the slots: those that were cancelled since.
const CANCELLED_ASKS_MAX: usize = 64;
/// Milliseconds after which a full provider is worth another try.
const RETRY_AFTER_MS: u64 = 1000;

/// Which model to load, and how.
#[derive(Clone, Debug)]
pub struct LlamaOptions {
    /// What requests call it.
    pub name: ModelName,
    /// The hash of the file. Not computed here: hashing belongs where a file is added.
    pub digest: ModelDigest,
    /// The GGUF file.
    pub path: PathBuf,
    /// Tokens of input and answer together. None takes what the model was trained on, at most
    /// 8,192, and less when memory is short.
    pub context_tokens: Option<u32>,
    /// Requests answered at once, at most 256. None lets memory decide, at most 16.
    pub slots: Option<u16>,
    /// Threads that compute. None takes the processor's cores, and fewer for a small model.
    pub threads: Option<usize>,
    /// Memory for weights and caches, at most. None leaves three quarters of what is free beside
    /// the weights alone.
    pub memory_bytes_max: Option<u64>,
}

impl LlamaOptions {
    /// A model with everything else left to us.
    #[must_use]
    pub fn new(name: ModelName, digest: ModelDigest, path: impl Into<PathBuf>) -> Self {
        Self {
            name,
            digest,
            path: path.into(),
            context_tokens: None,
            slots: None,
            threads: None,
            memory_bytes_max: None,
        }
    }
}

/// A model that runs inside this process.
///
/// Dropping it ends all running answers with a refusal, and waits for the step that is being
/// computed.
#[derive(Debug)]
pub struct LlamaProvider {
    info: ModelInfo,
    asks: Option<queue::SyncSender<Ask>>,
    active: Arc<AtomicU16>,
    is_closing: Arc<AtomicBool>,
    engine: Option<JoinHandle<()>>,
    preparation: Option<JoinHandle<()>>,
}

impl LlamaProvider {
    /// Loads a model. Takes as long as reading the file does; call it where blocking is allowed.
    pub fn open(options: LlamaOptions) -> Result<Self, LoadError> {
        let plan = check(&options)?;
        let model = Arc::new(load(&options)?);
        let is_closing = Arc::new(AtomicBool::new(false));
        let (job_sender, jobs) = queue::sync_channel(usize::from(plan.slots));
        let engine = spawn_engine(&options, plan, &model, jobs, &is_closing)?;
        let (asks, ask_receiver) =
            queue::sync_channel(usize::from(plan.slots) + CANCELLED_ASKS_MAX);
        let mut provider = Self {
            info: ModelInfo {
                name: options.name.clone(),
                digest: options.digest,
                context_tokens: plan.context_tokens,
                slots: plan.slots,
            },
            asks: Some(asks),
            active: Arc::new(AtomicU16::new(0)),
            is_closing: Arc::clone(&is_closing),
            engine: Some(engine),
            preparation: None,
        };
        let engine_thread = provider.engine_thread();
        let preparation = Preparation::new(model, options.name, plan.context_tokens);
        let handle = thread::Builder::new()
            .name("llama-prepare".into())
            .spawn(move || {
                preparation.run(&ask_receiver, &job_sender, &engine_thread, &is_closing);
            })
            .map_err(LoadError::Thread)?;
        provider.preparation = Some(handle);
        tracing::info!(
            model = %provider.info.name,
            context_tokens = plan.context_tokens,
            slots = plan.slots,
            threads = plan.threads,
            "model loaded"
        );
        Ok(provider)
    }

    fn engine_thread(&self) -> Thread {
        let engine = self.engine.as_ref().expect("taken by drop only");
        engine.thread().clone()
    }
}

impl Provider for LlamaProvider {
    fn models(&self) -> Vec<ModelInfo> {
        // A thread that ended by itself met a bug; what it served is not served any more.
        let lives =
            |thread: &Option<JoinHandle<()>>| thread.as_ref().is_some_and(|t| !t.is_finished());
        if lives(&self.engine) && lives(&self.preparation) {
            vec![self.info.clone()]
        } else {
            Vec::new()
        }
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
        self.is_closing.store(true, Ordering::SeqCst);
        self.asks = None;
        if let Some(engine) = self.engine.take() {
            engine.thread().unpark();
            // A thread that panicked has said so already.
            let _ = engine.join();
        }
        if let Some(preparation) = self.preparation.take() {
            let _ = preparation.join();
        }
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

/// Looks at the file before native code does, and plans.
fn check(options: &LlamaOptions) -> Result<Plan, LoadError> {
    let path = &options.path;
    let info =
        GgufInfo::read(path).map_err(|cause| LoadError::Gguf { path: path.clone(), cause })?;
    if !info.is_causal {
        return Err(LoadError::NotCausal { path: path.clone(), architecture: info.architecture });
    }
    let facts = Facts::of(&info);
    let wishes = Wishes {
        context_tokens: options.context_tokens,
        slots: options.slots,
        memory_bytes_max: options.memory_bytes_max,
        threads: options.threads,
    };
    plan(facts, wishes).map_err(|shortage| shortage.into_error(path))
}

fn load(options: &LlamaOptions) -> Result<LlamaModel, LoadError> {
    let backend = backend::backend().ok_or(LoadError::Backend)?;
    LlamaModel::load_from_file(backend, &options.path, &LlamaModelParams::default()).map_err(|_| {
        let architecture = GgufInfo::read(&options.path).map(|info| info.architecture);
        LoadError::Refused {
            path: options.path.clone(),
            architecture: architecture.unwrap_or_default(),
        }
    })
}

/// Starts the engine and waits until it has its memory.
fn spawn_engine(
    options: &LlamaOptions,
    plan: Plan,
    model: &Arc<LlamaModel>,
    jobs: queue::Receiver<sequence::Job>,
    is_closing: &Arc<AtomicBool>,
) -> Result<JoinHandle<()>, LoadError> {
    let backend = backend::backend().ok_or(LoadError::Backend)?;
    let (ready, is_ready) = queue::sync_channel(1);
    let (model, is_closing) = (Arc::clone(model), Arc::clone(is_closing));
    let handle = thread::Builder::new()
        .name("llama-engine".into())
        .spawn(move || {
            let engine = Engine::new(backend, &model, plan, jobs, is_closing);
            // The receiver waits for exactly this.
            let _ = ready.send(engine.is_some());
            if let Some(engine) = engine {
                engine.run();
            }
        })
        .map_err(LoadError::Thread)?;
    if is_ready.recv() == Ok(true) {
        Ok(handle)
    } else {
        Err(LoadError::Context {
            path: options.path.clone(),
            slots: plan.slots,
            context_tokens: plan.context_tokens,
        })
    }
}
