//! Services that somebody already runs, as providers: OpenAI-compatible ones (vLLM, SGLang,
//! llama-server, LiteLLM, hosts), Anthropic, Ollama.
//!
//! A request becomes a call of one of a few fixed paths ([`Place`]) by a pure function, and the
//! answer's bytes become replies by a pure reader ([`Stream`]). Nothing of a request is part of a
//! host, a path or a header; nothing that an upstream says in words is passed on.
//!
//! What an upstream cannot do is refused and named, never left out in silence, with these
//! exceptions: values that change nothing, the wish to think where a model cannot choose, and what
//! was thought in earlier turns where the upstream does not take it.
//!
//! Token counts are the upstream's. Where it tells none, an answer has as many as pieces came, and
//! an input one in [`limits::ESTIMATED_BYTES_PER_TOKEN`] bytes: both at most what there was.
//! Replies that come in pieces count one token for each piece, or as many as it has likelihoods.

mod answer;
mod anthropic;
#[doc(hidden)]
pub mod conformance;
mod discover;
mod errors;
mod health;
mod http;
pub mod limits;
mod lines;
pub mod listing;
mod ollama;
mod openai;
mod options;
mod read;
mod run;
mod secret;
mod target;
mod whole;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_types::{InferRequest, ModelName, Refusal, RefusalCode};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinHandle,
    time::sleep,
};
use tracing::{info, warn};

use crate::{Generation, ModelInfo, Models, Provider, Seat};

use discover::{Found, Known, discover};
use http::Http;
use limits::RETRY_AFTER_MS_DEFAULT;

pub use errors::{Fault, refusal, refusal_in_stream, retry_after_ms};
pub use health::{Health, HealthPolicy, Sign};
pub use lines::{LineTooLong, Lines, event_data};
pub use options::{Ability, MappedModel, OptionsError, Timeouts, UpstreamOptions};
pub use read::{Dialect, Reader, Stream};
pub use secret::Secret;
pub use target::{Call, Flavor, Place, Target, Thinking, UpstreamKind, call};
pub use whole::Whole;

/// A service that somebody runs, as a provider. Stops looking after it when dropped; answers that
/// are on their way go on.
pub struct Upstream {
    shared: Arc<Shared>,
    checks: JoinHandle<()>,
}

struct Shared {
    options: UpstreamOptions,
    http: Http,
    slots: Arc<Semaphore>,
    models: watch::Sender<Arc<[ModelInfo]>>,
    state: Mutex<State>,
    doubt: Notify,
}

struct State {
    health: Health,
    found: HashMap<ModelName, Arc<Found>>,
    order: Vec<ModelName>,
}

impl Upstream {
    /// Begins to look after an upstream. Its models are there as soon as it has answered; until then
    /// the list is empty. Must be called inside of a runtime.
    pub fn start(options: UpstreamOptions) -> Result<Self, OptionsError> {
        let http = Http::new(&options)?;
        let state =
            State { health: Health::new(options.health), found: HashMap::new(), order: vec![] };
        let shared = Arc::new(Shared {
            slots: Arc::new(Semaphore::new(options.slots.into())),
            http,
            models: watch::Sender::new(Arc::from([])),
            state: Mutex::new(state),
            doubt: Notify::new(),
            options,
        });
        let checks = tokio::spawn(look_after(Arc::clone(&shared)));
        Ok(Self { shared, checks })
    }

    /// What the operator calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.shared.state().health.is_up()
    }

    /// Requests it could take at this moment.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        self.shared.slots.available_permits()
    }
}

impl Provider for Upstream {
    fn models(&self) -> Models {
        self.shared.models.subscribe()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        request.check()?;
        let found = self.shared.find(&request)?;
        let missing = request.needs().without(found.target.capabilities);
        if let Some(what) = missing.names().next() {
            let words = format!("the model {} cannot do this: {what}", request.model);
            return Err(Refusal::new(RefusalCode::Unsupported, words));
        }
        let Ok(permit) = Arc::clone(&self.shared.slots).try_acquire_owned() else {
            let busy = Refusal::new(RefusalCode::Busy, "all slots of the upstream are taken");
            return Err(busy.retry_after_ms(RETRY_AFTER_MS_DEFAULT));
        };
        let call = call(self.shared.options.kind, &request, &found.target)?;
        let replies = run::answer(Arc::clone(&self.shared), request.model, call);
        Ok(Generation::from_stream(replies, Box::new(Slot { _permit: permit })))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.checks.abort();
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name()).finish_non_exhaustive()
    }
}

struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Seat for Slot {
    fn reply_taken(&self) {}
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, request: &InferRequest) -> Result<Arc<Found>, Refusal> {
        let state = self.state();
        let Some(found) = state.found.get(&request.model) else {
            let words = format!("there is no model {} here", request.model);
            return Err(Refusal::new(RefusalCode::UnknownModel, words));
        };
        if !state.health.is_up() {
            let words = "the model's upstream is down";
            let wait = state.health.until_next_check().as_millis();
            let refusal = Refusal::new(RefusalCode::ProviderFailed, words);
            return Err(refusal.retry_after_ms(u64::try_from(wait).unwrap_or(u64::MAX)));
        }
        Ok(Arc::clone(found))
    }

    /// Takes note of what a request learned. Only the key's rejection counts at once: all else a
    /// request may have brought about itself, so a check decides.
    fn note(&self, sign: Sign) {
        if sign == Sign::Rejected {
            self.change(|state| state.health.note(Sign::Rejected));
        }
        if sign != Sign::Well {
            self.doubt.notify_one();
        }
    }

    /// Changes the state, and publishes the models if they changed with it.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let mut state = self.state();
        let turned = change(&mut state);
        let is_up = state.health.is_up();
        let served = state.order.iter().filter_map(|name| state.found.get(name));
        let models: Arc<[ModelInfo]> =
            if is_up { served.map(|found| self.info(found)).collect() } else { Arc::from([]) };
        // Under the lock, so that two changes are published in the order in which they were made.
        self.models.send_if_modified(|published| {
            let is_new = **published != *models;
            *published = models;
            is_new
        });
        drop(state);
        if turned && is_up {
            info!(upstream = self.options.name, "the upstream is up");
        } else if turned {
            warn!(upstream = self.options.name, "the upstream is down");
        }
    }

    fn info(&self, found: &Found) -> ModelInfo {
        ModelInfo {
            name: found.name.clone(),
            digest: None,
            projector: None,
            capabilities: found.target.capabilities,
            context_tokens: found.target.context_tokens,
            slots: self.options.slots,
            details: found.details.clone(),
        }
    }
}

/// Checks an upstream again and again, and finds its models on the way.
async fn look_after(shared: Arc<Shared>) {
    let mut known = Known::new();
    let mut is_first = true;
    let least = Duration::from_secs(shared.options.health.backoff_min_s);
    loop {
        let result = discover(&shared.http, &shared.options, &mut known).await;
        shared.http.sweep();
        if std::mem::take(&mut is_first) && result.is_err() {
            let (upstream, url) = (&shared.options.name, &shared.options.url);
            warn!(upstream, url, "the upstream does not answer; its models are not served yet");
        }
        shared.change(|state| match result {
            Ok(found) => {
                state.order = found.iter().map(|one| one.name.clone()).collect();
                state.found =
                    found.into_iter().map(|one| (one.name.clone(), Arc::new(one))).collect();
                state.health.note(Sign::Well)
            }
            Err(sign) => state.health.note(sign),
        });
        until_due(&shared, least).await;
    }
}

/// Waits until the next check is due. While it is up, a request that failed asks for one, but not for
/// a flood of them.
async fn until_due(shared: &Shared, least: Duration) {
    loop {
        let (is_up, wait) = {
            let health = &shared.state().health;
            (health.is_up(), health.until_next_check())
        };
        let doubted = async {
            sleep(least.min(wait)).await;
            shared.doubt.notified().await;
        };
        tokio::select! {
            () = sleep(wait) => return,
            () = doubted, if is_up => {}
        }
        // One that does not accept the key has to wait: who lists its models for everybody would be
        // back at once, and refuse the next request.
        if shared.state().health.is_up() {
            return;
        }
    }
}
