use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use arknet_types::{Input, ModelName, PublicKey, Reply, Usage};
use axum::http::HeaderMap;
use opentelemetry::{global, propagation::Extractor, trace::TraceContextExt as _};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Ask, Observer, Pass, RequestRecord, id::RequestId, server::CLIENT_LEFT};

const TRACE_PARENT: &str = "traceparent";

/// What is kept of one request while it runs. When the last holder lets go of it, the request has
/// ended: its tokens are counted against its key, and the observer hears of it.
pub(crate) struct Trail {
    started: Instant,
    observer: Option<Arc<dyn Observer>>,
    span: Span,
    state: Mutex<State>,
}

struct State {
    record: RequestRecord,
    pass: Option<Pass>,
    /// Tokens seen in pieces, whether or not their answer has ended.
    seen: u32,
    /// Answers that have not ended.
    running: u32,
    /// Answers to each of its inputs.
    each: u32,
    /// What all answers together say that they took in.
    taken_in: Usage,
    /// About so many tokens all inputs have.
    about: u64,
    /// Whether tokens are looked at only, and not worked on.
    looked_at: bool,
}

impl Trail {
    pub(crate) fn new(
        door: &'static str,
        endpoint: &'static str,
        id: RequestId,
        observer: Option<Arc<dyn Observer>>,
    ) -> Arc<Self> {
        let span = tracing::info_span!(
            target: "arknet::request",
            "request",
            %id,
            door,
            endpoint,
            model = field::Empty,
            peer = field::Empty,
            status = field::Empty,
            error = field::Empty,
            prompt_tokens = field::Empty,
            cached_tokens = field::Empty,
            completion_tokens = field::Empty,
        );
        let record = RequestRecord {
            door,
            endpoint,
            status: CLIENT_LEFT,
            error: None,
            model: None,
            peer: None,
            duration: std::time::Duration::ZERO,
            until_dispatch: None,
            first_piece: None,
            last_piece: None,
            request_bytes: 0,
            answer_bytes: 0,
            usage: Usage::default(),
            streamed: false,
            left: false,
        };
        let state = State {
            record,
            pass: None,
            seen: 0,
            running: 0,
            each: 1,
            taken_in: Usage::default(),
            about: 0,
            looked_at: false,
        };
        if let Some(observer) = &observer {
            observer.began();
        }
        Arc::new(Self { started: Instant::now(), observer, span, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock panics; and if it did, counting goes on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the request a part of the trace that its client says it belongs to, where traces are
    /// collected. Called before anything happens in the span.
    pub(crate) fn follow(&self, headers: &HeaderMap) {
        let told = global::get_text_map_propagator(|known| known.extract(&Headers(headers)));
        if told.span().span_context().is_valid() {
            // Where nobody collects spans there is nothing to follow.
            let _ = self.span.set_parent(told);
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    pub(crate) fn admitted(&self, pass: Pass) {
        self.state().pass = Some(pass);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.state().record.request_bytes = bytes as u64;
    }

    /// These are asked now.
    pub(crate) fn dispatched(&self, asks: &[Ask], streamed: bool) {
        let same = asks.windows(2).take_while(|two| two[0].infer.input == two[1].infer.input);
        let each = 1 + same.count();
        let about = asks.iter().step_by(each).map(|ask| text_bytes(ask) / BYTES_PER_TOKEN).sum();
        let looked_at = asks.iter().all(|ask| {
            let input = &ask.infer.input;
            matches!(input, Input::Count(_) | Input::Tokenize { .. } | Input::Detokenize(_))
        });
        let mut state = self.state();
        state.running += u32::try_from(asks.len()).unwrap_or(u32::MAX);
        state.each = u32::try_from(each).unwrap_or(u32::MAX);
        (state.about, state.looked_at) = (about, looked_at);
        state.record.streamed = streamed;
        state.record.until_dispatch.get_or_insert_with(|| self.started.elapsed());
    }

    /// Somebody answers.
    pub(crate) fn answered(&self, model: &ModelName, peer: PublicKey) {
        let record = &mut self.state().record;
        if record.model.is_none() {
            record.model = Some(model.clone());
        }
        record.peer = Some(peer);
    }

    /// When the first piece came.
    pub(crate) fn first_piece(&self) -> Option<Instant> {
        self.state().record.first_piece.map(|elapsed| self.started + elapsed)
    }

    pub(crate) fn peer(&self) -> Option<PublicKey> {
        self.state().record.peer
    }

    /// Looks at a reply that goes to the client.
    pub(crate) fn see(&self, reply: &Reply) {
        let mut state = self.state();
        let state = &mut *state;
        let tokens = match reply {
            Reply::Text { tokens, .. } | Reply::Reasoning { tokens, .. } => *tokens,
            Reply::ToolCall(piece) => piece.tokens,
            Reply::Done { usage, .. } => {
                state.running = state.running.saturating_sub(1);
                if !state.looked_at {
                    add(&mut state.record.usage, &mut state.taken_in, *usage, state.each);
                }
                return;
            }
            Reply::Refused(refusal) => {
                state.running = state.running.saturating_sub(1);
                state.record.error = Some(refusal.code.as_str());
                return;
            }
            Reply::Alive | Reply::File { .. } | Reply::Logprobs(_) => return,
            Reply::Embedding { .. } | Reply::Scores(_) | Reply::Tokens(_) => 0,
        };
        state.seen = state.seen.saturating_add(tokens);
        let now = self.started.elapsed();
        state.record.first_piece.get_or_insert(now);
        state.record.last_piece = Some(now);
    }

    pub(crate) fn sent(&self, bytes: usize) {
        self.state().record.answer_bytes += bytes as u64;
    }

    /// The response's head is decided.
    pub(crate) fn decided(&self, status: u16, error: Option<&'static str>) {
        let record = &mut self.state().record;
        record.status = status;
        record.error = error.or(record.error);
    }

    /// The answer breaks off for a reason that is not in its replies.
    pub(crate) fn failed(&self, error: &'static str) {
        let mut state = self.state();
        state.running = 0;
        state.record.error = Some(error);
    }
}

/// Of usual text.
const BYTES_PER_TOKEN: u64 = 4;

/// Bytes of text that an input has. Pictures become far fewer tokens.
fn text_bytes(ask: &Ask) -> u64 {
    let pictures = match &ask.infer.input {
        Input::Chat(chat) => chat.images().map(|image| image.bytes.len()).sum(),
        _ => 0,
    };
    ask.infer.input_bytes().saturating_sub(pictures) as u64
}

/// What a request says of its trace: two numbers and a flag. What else it may say in `tracestate` is
/// text of the client's, which leaves no node.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key != TRACE_PARENT {
            return None;
        }
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACE_PARENT]
    }
}

/// Adds one answer. `each` answers that share their input took it once.
fn add(sum: &mut Usage, all: &mut Usage, one: Usage, each: u32) {
    let once = |sum: &mut u32, all: &mut u32, one: u32| {
        *all = all.saturating_add(one);
        *sum = (*sum).max(one).max(*all / each);
    };
    once(&mut sum.prompt_tokens, &mut all.prompt_tokens, one.prompt_tokens);
    once(&mut sum.cached_tokens, &mut all.cached_tokens, one.cached_tokens);
    sum.completion_tokens = sum.completion_tokens.saturating_add(one.completion_tokens);
    sum.reasoning_tokens = sum.reasoning_tokens.saturating_add(one.reasoning_tokens);
}

impl Drop for Trail {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let record = &mut state.record;
        record.duration = duration;
        record.usage.completion_tokens = record.usage.completion_tokens.max(state.seen);
        let undecided = record.status == CLIENT_LEFT;
        record.left = undecided || (state.running > 0 && record.error.is_none());
        let mut taken_in = u64::from(record.usage.prompt_tokens);
        // What was read for whoever left before the end was never told.
        if state.running > 0 && record.model.is_some() && !state.looked_at {
            taken_in = taken_in.max(state.about);
        }
        let tokens = taken_in + u64::from(record.usage.completion_tokens);
        if let Some(pass) = &state.pass
            && tokens > 0
        {
            pass.spend(tokens);
        }
        if !self.span.is_disabled() {
            if let Some(model) = &record.model {
                self.span.record("model", model.as_str());
            }
            if let Some(peer) = record.peer {
                self.span.record("peer", peer.peer_id());
            }
            if let Some(error) = record.error {
                self.span.record("error", error);
            }
            self.span.record("status", record.status);
            self.span.record("prompt_tokens", record.usage.prompt_tokens);
            self.span.record("cached_tokens", record.usage.cached_tokens);
            self.span.record("completion_tokens", record.usage.completion_tokens);
        }
        if let Some(observer) = &self.observer {
            observer.ended(record);
        }
    }
}
