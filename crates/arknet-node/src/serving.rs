//! What happens to a request once it is here: admission, queue, provider, and the way back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use arknet_mesh::{FrameError, Inbound, RequestStream};
use arknet_protocol::{Admitted, Asker, CheckedRequest, Offered, Preempt, Price, Who, usage_bound};
use arknet_provider::{Generation, ModelInfo, Models, Origin, Provider};
use arknet_types::{
    Capabilities, DecodeError, InferRequest, Input, ModelDigest, ModelName, PublicKey, Refusal,
    RefusalCode, Reply, Request, Timestamp, Usage, frame,
    limits::{ALIVE_MS, REQUEST_FRAME_BYTES_MAX},
};
use arknet_validator::StoreError;
use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{AuditLog, AuditStatus, Trail},
    files::ModelFiles,
    free_uses,
    gate::{Gate, revoked},
    horizon::HorizonStore,
    ledger::Followed,
    metrics::Metrics,
    queue::{ModelQueue, Permit},
    registered,
};

/// How long a stream opened ahead of need may wait for its request.
const IDLE_STREAM_MAX: Duration = Duration::from_secs(15 * 60);
/// How long a request may take to arrive once it has begun to.
const ARRIVAL_MAX: Duration = Duration::from_secs(60);
/// Frames that are ready at the same moment and leave in one write.
const FRAMES_PER_WRITE_MAX: usize = 32;
/// Bytes of one write, except for the frame that goes beyond.
const WRITE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of requests that arrive at the same time, over all peers.
const ARRIVING_BYTES_MAX: usize = 128 << 20;
const ALIVE: Duration = Duration::from_millis(ALIVE_MS);
/// Files of models handed over at the same time.
const FILE_SLOTS: u16 = 4;

/// The owner of this node asks.
pub const LOCAL: Asker = Asker::Local;

/// One model as this node serves it.
pub struct Served {
    /// What the provider says of it.
    pub info: ModelInfo,
    /// What it costs.
    pub price: Price,
    /// Whether other peers may ask for it.
    pub is_shared: bool,
    provider: Arc<dyn Provider>,
    queue: ModelQueue,
}

impl Served {
    /// Free slots, now and when that changes.
    #[must_use]
    pub fn slots_free(&self) -> watch::Receiver<u32> {
        self.queue.free()
    }

    /// Requests that wait for a slot.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.queue.waiting()
    }

    /// How the gate sees it.
    const fn offered(&self) -> Offered<'_> {
        Offered { name: &self.info.name, price: self.price }
    }
}

/// The serving half of a node.
#[derive(Clone)]
pub struct Serving {
    shared: Arc<Shared>,
}

/// The models served at one moment, by name.
pub type ServedModels = Arc<BTreeMap<ModelName, Arc<Served>>>;

struct Shared {
    providers: Vec<Source>,
    models: RwLock<ServedModels>,
    /// Tells that `models` has changed.
    changed: watch::Sender<()>,
    price: Price,
    queue_max: u32,
    preempt: Preempt,
    /// Files of models for other peers, where they may have them.
    files: Option<Served>,
    metrics: Metrics,
    gate: Gate,
    /// The ledger, where this node follows one.
    ledger: OnceLock<Followed>,
    horizon: HorizonStore,
    audit: Option<AuditLog>,
    slow_reader: Duration,
    /// Bytes of requests that may still arrive, over all peers.
    arriving: Semaphore,
    /// Set when no new work is taken any more.
    closing: CancellationToken,
    /// Set when running work is cut.
    cut: CancellationToken,
    running: TaskTracker,
}

/// A provider, and whom it is for.
pub(crate) struct Source {
    pub(crate) provider: Arc<dyn Provider>,
    /// Other peers may ask too.
    pub(crate) is_shared: bool,
}

/// How to serve.
pub(crate) struct ServingOptions {
    /// Who may ask, and how much.
    pub(crate) gate: Gate,
    /// What it costs.
    pub(crate) price: Price,
    /// Requests that may wait for a slot of one model.
    pub(crate) queue_max: u32,
    /// What a request of the owner does when peers hold all slots.
    pub(crate) preempt: Preempt,
    /// A reader that takes nothing for so long loses its answer.
    pub(crate) slow_reader: Duration,
    /// The files that others may have.
    pub(crate) files: Option<ModelFiles>,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
    /// Where it is written down what others ask; none where nobody else can ask.
    pub(crate) audit: Option<AuditLog>,
}

/// An answer that is being made here. Dropping it stops the work and frees the slot.
pub struct Running {
    generation: Option<Generation>,
    permit: Permit,
}

impl Running {
    /// The next piece. Cancel safe.
    pub async fn next(&mut self) -> Option<Reply> {
        let generation = self.generation.as_mut()?;
        tokio::select! {
            biased;
            () = self.permit.needed() => {}
            reply = generation.next() => return reply,
        }
        self.generation = None;
        let words = "ended because the owner of this node needs the slot; ask again";
        Some(Reply::Refused(Refusal::new(RefusalCode::Busy, words).retry_after_ms(1_000)))
    }
}

impl Serving {
    /// Serves what these providers have; of two models with one name the first counts.
    #[must_use]
    pub(crate) fn new(
        providers: Vec<Source>,
        options: ServingOptions,
        horizon: HorizonStore,
    ) -> Self {
        let files = options.files.map(|files| Served {
            info: files.info(FILE_SLOTS),
            price: Price::default(),
            is_shared: true,
            provider: Arc::new(files),
            queue: ModelQueue::new(FILE_SLOTS, options.queue_max, Preempt::Queue),
        });
        let serving = Self {
            shared: Arc::new(Shared {
                providers,
                models: RwLock::default(),
                changed: watch::channel(()).0,
                price: options.price,
                queue_max: options.queue_max,
                preempt: options.preempt,
                files,
                metrics: options.metrics,
                gate: options.gate,
                ledger: OnceLock::new(),
                horizon,
                audit: options.audit,
                slow_reader: options.slow_reader,
                arriving: Semaphore::new(ARRIVING_BYTES_MAX),
                closing: CancellationToken::new(),
                cut: CancellationToken::new(),
                running: TaskTracker::new(),
            }),
        };
        serving.update();
        serving
    }

    /// Follows what the providers serve, until they are gone.
    pub(crate) async fn follow(&self) {
        let mut lists: Vec<Models> =
            self.shared.providers.iter().map(|source| source.provider.models()).collect();
        self.update();
        loop {
            let mut changes: FuturesUnordered<_> =
                lists.iter_mut().map(|list| list.changed()).collect();
            match changes.next().await {
                Some(Ok(())) => {
                    drop(changes);
                    self.update();
                }
                Some(Err(_)) => {
                    // A provider that is gone changes nothing any more.
                    drop(changes);
                    lists.retain(|list| list.has_changed().is_ok());
                }
                None => return std::future::pending().await,
            }
        }
    }

    /// Takes over what the providers serve now. A model that stays keeps its queue. [`Self::follow`]
    /// does it a moment after each change; who cannot wait for that moment does it before.
    pub(crate) fn update(&self) {
        let mut held = self.shared.models.write().unwrap_or_else(PoisonError::into_inner);
        let mut models = BTreeMap::new();
        for Source { provider, is_shared } in &self.shared.providers {
            for info in provider.models().borrow().iter() {
                if models.contains_key(&info.name) {
                    continue;
                }
                let info = info.clone();
                let queue = match held.get(&info.name) {
                    Some(old) if old.info.slots == info.slots => old.queue.clone(),
                    _ => ModelQueue::new(info.slots, self.shared.queue_max, self.shared.preempt),
                };
                let price = self.shared.price;
                let (provider, is_shared) = (Arc::clone(provider), *is_shared);
                let served = Served { price, is_shared, provider, queue, info };
                models.insert(served.info.name.clone(), Arc::new(served));
            }
        }
        *held = Arc::new(models);
        drop(held);
        self.shared.changed.send_replace(());
    }

    /// The models served now.
    #[must_use]
    pub fn models(&self) -> ServedModels {
        Arc::clone(&self.shared.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells when [`Self::models`] has changed.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// The model of this name or digest.
    #[must_use]
    pub fn model(&self, name: &ModelName) -> Option<Arc<Served>> {
        let models = self.models();
        let found = models.get(name).or_else(|| {
            let digest = name.digest()?;
            models.values().find(|served| served.info.digest == Some(digest))
        });
        found.cloned()
    }

    /// Who may ask, and how much.
    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// From now on it goes by this ledger. A node follows one, from its beginning on.
    pub(crate) fn follow_ledger(&self, ledger: Followed) {
        let _ = self.shared.ledger.set(ledger);
    }

    /// The ledger it goes by; none where it follows none.
    pub(crate) fn ledger(&self) -> Option<&Followed> {
        self.shared.ledger.get()
    }

    /// The files that the ledger has accepted under this name; none where it says nothing of it, or
    /// no ledger is followed. Reads the disk, for as many models as the ledger knows.
    pub(crate) fn accepted(&self, name: &ModelName) -> Result<BTreeSet<ModelDigest>, StoreError> {
        let Some(ledger) = self.ledger() else { return Ok(BTreeSet::new()) };
        Ok(registered::accepted(&ledger.store.read()?, name))
    }

    /// Whether the ledger has accepted this file under this name.
    pub(crate) fn is_vouched_for(&self, name: &ModelName, digest: ModelDigest) -> bool {
        let reader = self.ledger().and_then(|ledger| {
            let read = ledger.store.read();
            read.inspect_err(|error| tracing::error!(%error, "the ledger cannot be read")).ok()
        });
        reader.is_some_and(|reader| registered::vouches(&reader, name, digest))
    }

    /// From when on requests must be signed to be taken.
    pub(crate) fn started_at(&self) -> Timestamp {
        self.shared.gate.policy().started_at
    }

    /// Requests of others that are running or waiting.
    #[must_use]
    pub fn remote_requests(&self) -> u32 {
        self.shared.gate.running()
    }

    /// How the log of what others ask is doing; none where there is none.
    #[must_use]
    pub fn audit(&self) -> Option<AuditStatus> {
        self.shared.audit.as_ref().map(AuditLog::status)
    }

    /// Starts an answer for `asker`, after its turn has come.
    pub async fn run(&self, asker: Asker, infer: InferRequest) -> Result<Running, Refusal> {
        self.run_on(asker, infer, None).await
    }

    async fn run_on(
        &self,
        asker: Asker,
        mut infer: InferRequest,
        trail: Option<&mut Trail>,
    ) -> Result<Running, Refusal> {
        if self.shared.closing.is_cancelled() {
            return Err(shutting_down());
        }
        let served = self.model(&infer.model);
        let served = served.filter(|served| served.is_shared || asker == Asker::Local);
        if let Input::File { .. } = infer.input {
            let files = self.shared.files.as_ref().ok_or_else(|| {
                Refusal::new(RefusalCode::NotPermitted, "this node does not hand over models")
            })?;
            return start(files, asker, infer, trail).await;
        }
        let Some(served) = served else {
            let words = format!("{} is not served here", infer.model);
            return Err(Refusal::new(RefusalCode::UnknownModel, words));
        };
        let missing = infer.needs().without(served.info.capabilities);
        if missing != Capabilities::NONE {
            let missing: Vec<_> = missing.names().collect();
            let words = format!("{} cannot do this: {}", served.info.name, missing.join(", "));
            return Err(Refusal::new(RefusalCode::Unsupported, words));
        }
        // The provider knows its models by name only.
        infer.model = served.info.name.clone();
        start(&served, asker, infer, trail).await
    }

    /// Takes requests of others until the mesh ends.
    pub async fn serve(&self, mut inbound: Inbound) {
        while let Some((peer, stream)) = inbound.next().await {
            let serving = self.clone();
            self.shared.running.spawn(async move { serving.take(peer, stream).await });
        }
    }

    /// Refuses new work from now on, lets running work end for `grace`, then cuts it. Then nothing
    /// more is written down.
    pub async fn shut_down(&self, grace: Duration) {
        self.shared.closing.cancel();
        self.shared.running.close();
        if timeout(grace, self.shared.running.wait()).await.is_err() {
            self.shared.cut.cancel();
            self.shared.running.wait().await;
        }
        if let Some(audit) = self.shared.audit.clone() {
            let _ = tokio::task::spawn_blocking(move || audit.stop()).await;
        }
    }

    /// One stream: waits for its request, answers it.
    async fn take(&self, from: PublicKey, mut stream: RequestStream) {
        let request = tokio::select! {
            biased;
            request = self.read_request(from, &mut stream) => request,
            () = self.shared.closing.cancelled() => return,
        };
        let node_id = self.shared.gate.node_id(&from);
        let mut trail = Trail::new(self.shared.audit.clone(), from, node_id);
        let outcome = match request {
            Ok(None) => return,
            Ok(Some(request)) => {
                let answered = self.answer(from, request, &mut stream, &mut trail).await;
                answered.inspect_err(|refusal| self.log_refusal(from, refusal))
            }
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = outcome {
            trail.refused(&refusal);
            tracing::debug!(peer = ?from, code = refusal.code.as_str(), "request refused");
            let _ = timeout(ALIVE, stream.write_frame(&Reply::Refused(refusal))).await;
        }
        // The last frame must arrive before the stream goes; a requester that is gone does not mind.
        let _ = timeout(ALIVE, stream.close()).await;
    }

    /// What an approved peer may not do, its owner wants to know; what anybody tries is no news.
    fn log_refusal(&self, from: PublicKey, refusal: &Refusal) {
        if self.shared.gate.policy().who == Who::Approved {
            let code = refusal.code.as_str();
            tracing::info!(peer = %from, code, detail = refusal.detail, "refused");
        }
    }

    /// Admits, runs, and sends the answer. An error is a refusal that was not sent yet.
    async fn answer(
        &self,
        from: PublicKey,
        request: Request,
        stream: &mut RequestStream,
        trail: &mut Trail,
    ) -> Result<(), Refusal> {
        trail.arrived(&request);
        let now = arknet_sdk::now();
        let gate = &self.shared.gate;
        let is_known = |digest: &[u8; 32]| gate.knows_delegation(digest);
        let checked = CheckedRequest::check(request, from, gate.policy(), now, is_known)?;
        self.shared.horizon.cover(checked.request()).await.map_err(|error| {
            tracing::error!(%error, "no request is taken while the horizon cannot be stored");
            Refusal::new(RefusalCode::ProviderFailed, "this node cannot write to its disk")
        })?;
        let infer = &checked.request().infer;
        let served = self.asked_for(infer);
        let context_tokens = served.as_ref().map_or(0, |served| served.info.context_tokens);
        let bound = usage_bound(infer, context_tokens);
        let offered = served.as_ref().map(|served| served.offered());
        let (admitted, cut) = gate.admit(checked, offered, bound, now)?;
        let mut account = Account::open(self, admitted, cut, trail);
        let infer = account.admitted.infer.clone();
        // What the prompt takes is known at the end only; until then its bound counts.
        account.used.prompt_tokens = bound.prompt_tokens;
        let cut = account.cut.clone();
        let running = self.run_on(Asker::Peer(from), infer, Some(&mut *account.trail));
        let running = self.wait(running, stream, &cut).await;
        let Some(running) = running.inspect_err(|_| account.outcome = "refused")? else {
            return Ok(());
        };
        if let (Some(free_use), Some(ledger)) = (account.admitted.begin(), self.ledger()) {
            free_uses::tell(&ledger.chain, &free_use);
        }
        // The work has begun; nothing of it leaves before the disk knows of it.
        let durable = self.wait(account.trail.durable(), stream, &cut).await;
        if durable.inspect_err(|_| account.outcome = "refused")?.is_none() {
            return Ok(());
        }
        self.pump(running, stream, &mut account).await
    }

    /// Waits for a slot or the disk, saying so now and then. `None` when the requester has gone.
    async fn wait<T>(
        &self,
        until: impl Future<Output = Result<T, Refusal>>,
        stream: &mut RequestStream,
        cut: &CancellationToken,
    ) -> Result<Option<T>, Refusal> {
        let mut until = std::pin::pin!(until);
        if let Some(result) = until.as_mut().now_or_never() {
            return result.map(Some);
        }
        let mut alive = Instant::now() + ALIVE;
        loop {
            tokio::select! {
                biased;
                // Before the slot that another request of the same peer gives back.
                () = cut.cancelled() => return Err(revoked()),
                result = &mut until => return result.map(Some),
                () = self.shared.cut.cancelled() => return Err(shutting_down()),
                () = stream.gone() => return Ok(None),
                () = sleep_until(alive) => {}
            }
            alive = Instant::now() + ALIVE;
            if !self.write(stream, &frame(&Reply::Alive), cut).await {
                return Ok(None);
            }
        }
    }

    /// Sends the pieces as they come, several in one write when several are there.
    async fn pump(
        &self,
        mut running: Running,
        stream: &mut RequestStream,
        account: &mut Account<'_>,
    ) -> Result<(), Refusal> {
        let cut = account.cut.clone();
        loop {
            let alive = Instant::now() + ALIVE;
            let reply = tokio::select! {
                biased;
                // First of all, so that a model that never stops writing is cut as well.
                () = cut.cancelled() => {
                    account.outcome = "revoked";
                    return Err(revoked());
                }
                reply = running.next() => reply,
                () = self.shared.cut.cancelled() => return Err(shutting_down()),
                () = stream.gone() => return Ok(()),
                () = sleep_until(alive) => Some(Reply::Alive),
            };
            let mut next = reply;
            let mut bytes = Vec::with_capacity(256);
            let mut is_over = false;
            // What was taken must be sent: nothing is taken beyond what this write holds.
            for left in (0..FRAMES_PER_WRITE_MAX).rev() {
                let Some(reply) = next else { break };
                account.count(&reply);
                is_over = matches!(reply, Reply::Done { .. } | Reply::Refused(_));
                bytes.extend_from_slice(&frame(&reply));
                if is_over {
                    break;
                }
                if left == 0 || bytes.len() >= WRITE_BYTES_MAX {
                    break;
                }
                next = running.next().now_or_never().flatten();
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if is_over {
                // The slot is free and the account closed before the requester knows: it may ask
                // again at once.
                drop(running);
                account.settle();
                self.write(stream, &bytes, &cut).await;
                return Ok(());
            }
            if !self.write(stream, &bytes, &cut).await {
                return Ok(());
            }
        }
    }

    /// Writes, unless the requester is gone, takes nothing for too long, or loses its right while it
    /// takes nothing.
    async fn write(
        &self,
        stream: &mut RequestStream,
        frames: &[u8],
        cut: &CancellationToken,
    ) -> bool {
        let written = timeout(self.shared.slow_reader, stream.write_raw(frames));
        tokio::select! {
            biased;
            written = written => matches!(written, Ok(Ok(()))),
            () = cut.cancelled() => false,
        }
    }

    /// The model a request of another peer is for, where one is served that others may ask for.
    fn asked_for(&self, infer: &InferRequest) -> Option<Arc<Served>> {
        let named = self.model(&infer.model).filter(|served| served.is_shared);
        let Input::File { digest, .. } = &infer.input else { return named };
        // A file is what its digest says, whatever it was called: the right to one model must not
        // open the file of another.
        let has_it = |served: &Arc<Served>| {
            let ModelInfo { digest: model, projector, .. } = &served.info;
            served.is_shared && [model, projector].contains(&&Some(*digest))
        };
        named
            .filter(has_it)
            .or_else(|| self.models().values().find(|served| has_it(served)).cloned())
    }

    /// The request of a stream; `None` when none came.
    async fn read_request(
        &self,
        from: PublicKey,
        stream: &mut RequestStream,
    ) -> Result<Option<Request>, Refusal> {
        let length = stream.next_length(REQUEST_FRAME_BYTES_MAX);
        let length = match timeout(IDLE_STREAM_MAX, length).await {
            Ok(Ok(length)) => Ok(length),
            Ok(Err(FrameError::Decode(error))) => Err(undecodable(&error)),
            Ok(Err(_)) | Err(_) => return Ok(None),
        };
        // Before a byte of the request is taken in.
        self.shared.gate.knock(from)?;
        let length = u32::try_from(length?).unwrap_or(u32::MAX);
        let Ok(_budget) = self.shared.arriving.try_acquire_many(length) else {
            let refusal = Refusal::new(RefusalCode::Busy, "too many large requests arrive at once");
            return Err(refusal.retry_after_ms(1_000));
        };
        match timeout(ARRIVAL_MAX, stream.read_frame(REQUEST_FRAME_BYTES_MAX)).await {
            Ok(Ok(request)) => Ok(Some(request)),
            Ok(Err(FrameError::Decode(error))) => Err(undecodable(&error)),
            Ok(Err(_)) => Ok(None),
            Err(_) => {
                Err(Refusal::new(RefusalCode::Malformed, "the request did not arrive in time"))
            }
        }
    }
}

/// Starts an answer once its turn has come.
async fn start(
    served: &Served,
    asker: Asker,
    infer: InferRequest,
    trail: Option<&mut Trail>,
) -> Result<Running, Refusal> {
    let permit = served.queue.acquire(asker).await?;
    if let Some(trail) = trail {
        trail.open().await?;
    }
    let origin = if asker == Asker::Local { Origin::Owner } else { Origin::Guest };
    let generation = served.provider.generate_for(origin, infer)?;
    Ok(Running { generation: Some(generation), permit })
}

/// What an admitted request has used; settled when dropped, however the request ends.
struct Account<'a> {
    serving: &'a Serving,
    admitted: Admitted,
    /// Set when its right is taken away.
    cut: CancellationToken,
    used: Usage,
    began: Instant,
    first_token: Option<Duration>,
    outcome: &'static str,
    is_settled: bool,
    trail: &'a mut Trail,
}

impl<'a> Account<'a> {
    fn open(
        serving: &'a Serving,
        admitted: Admitted,
        cut: CancellationToken,
        trail: &'a mut Trail,
    ) -> Self {
        let began = Instant::now();
        let used = Usage::default();
        // Unless something else is said, the requester has gone.
        Self {
            serving,
            admitted,
            cut,
            used,
            began,
            first_token: None,
            outcome: "left",
            is_settled: false,
            trail,
        }
    }

    fn count(&mut self, reply: &Reply) {
        let tokens = match reply {
            Reply::Text { tokens, .. } | Reply::Reasoning { tokens, .. } => *tokens,
            Reply::ToolCall(piece) => piece.tokens,
            Reply::Done { usage, .. } => {
                self.used = *usage;
                self.outcome = "done";
                0
            }
            Reply::Refused(refusal) => {
                self.outcome = "refused";
                self.trail.refused(refusal);
                return;
            }
            Reply::Alive => return,
            _ => 0,
        };
        self.first_token.get_or_insert_with(|| self.began.elapsed());
        self.used.completion_tokens = self.used.completion_tokens.saturating_add(tokens);
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Account<'_> {
    fn settle(&mut self) {
        if std::mem::replace(&mut self.is_settled, true) {
            return;
        }
        let cost = self.serving.shared.gate.settle(&self.admitted, self.used);
        let (model, peer) = (&self.admitted.infer.model, self.admitted.from);
        let metrics = &self.serving.shared.metrics;
        metrics.peer_request_ended(model, peer, self.outcome, self.first_token, self.used);
        self.trail.went(self.outcome, self.used, self.first_token);
        tracing::info!(
            peer = ?self.admitted.from,
            wallet = %self.admitted.wallet,
            model = %self.admitted.infer.model,
            tokens = self.used.completion_tokens,
            cost = cost.0,
            "request ended"
        );
    }
}

fn undecodable(error: &DecodeError) -> Refusal {
    let code = match error {
        DecodeError::TooLarge { .. } => RefusalCode::TooLarge,
        _ => RefusalCode::Malformed,
    };
    Refusal::new(code, error.to_string())
}

fn shutting_down() -> Refusal {
    Refusal::new(RefusalCode::ShuttingDown, "this node is shutting down")
}
