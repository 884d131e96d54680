//! A dispatch that does what the name of the model says.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arknet_gateway::{About, Answer, Ask, Dispatch, KeepAlive, ListedModel, LoadedModel, Pull};
use arknet_types::{
    Alternative, Capabilities, Chat, FinishReason, InferRequest, Input, ModelDigest, ModelName,
    PublicKey, Refusal, RefusalCode, Reply, TokenLogprob, ToolCallPiece, Usage,
};
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tokio::sync::{Semaphore, mpsc};

pub(crate) const PEER: PublicKey = PublicKey([7; 32]);

/// The models that answer; every other name is a script or unknown.
pub(crate) const MODELS: [&str; 2] = ["arknet/tiny", "Qwen/Qwen3-0.6B-Q8_0"];

/// What the models take, a byte a token.
const CONTEXT_BYTES: usize = 2048;

pub(crate) const CODES: [RefusalCode; 20] = [
    RefusalCode::Malformed,
    RefusalCode::TooLarge,
    RefusalCode::WrongNetwork,
    RefusalCode::WrongAudience,
    RefusalCode::BadSignature,
    RefusalCode::Expired,
    RefusalCode::FutureDated,
    RefusalCode::Replayed,
    RefusalCode::NotPermitted,
    RefusalCode::CapExceeded,
    RefusalCode::UnknownModel,
    RefusalCode::Busy,
    RefusalCode::ContextOverflow,
    RefusalCode::InvalidRequest,
    RefusalCode::ShuttingDown,
    RefusalCode::ProviderFailed,
    RefusalCode::RateLimited,
    RefusalCode::PeerLost,
    RefusalCode::PriceTooHigh,
    RefusalCode::Unsupported,
];

pub(crate) struct Script {
    /// The last request that was dispatched.
    pub(crate) last: Mutex<Option<InferRequest>>,
    /// How long its model was to be kept.
    pub(crate) keep: Mutex<Option<KeepAlive>>,
    /// Requests that were dispatched.
    pub(crate) asked: AtomicU64,
    /// One permit for every answer or waiting request that was dropped.
    pub(crate) dropped: Arc<Semaphore>,
    /// Replies taken from endless answers.
    pub(crate) taken: Arc<AtomicU64>,
    /// What the model `driven` replies.
    pub(crate) driven: Mutex<Option<mpsc::Receiver<Reply>>>,
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            last: Mutex::new(None),
            keep: Mutex::new(None),
            asked: AtomicU64::new(0),
            dropped: Arc::new(Semaphore::new(0)),
            taken: Arc::new(AtomicU64::new(0)),
            driven: Mutex::new(None),
        })
    }
}

impl Dispatch for Script {
    fn infer(&self, ask: Ask) -> BoxFuture<'_, Result<Answer, Refusal>> {
        let Ask { infer: request, keep_alive } = ask;
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.keep.lock().unwrap() = keep_alive;
        *self.last.lock().unwrap() = Some(request.clone());
        let guard = Guard(Arc::clone(&self.dropped));
        let (what, which) = match request.model.as_str().split_once('/') {
            Some((what @ ("refuse" | "first" | "late"), which)) => (what, code(which)),
            _ => (request.model.as_str(), RefusalCode::UnknownModel),
        };
        let replies = match what {
            name if MODELS.contains(&name) && overflows(&request) => {
                return async move { Err(refusal(RefusalCode::ContextOverflow)) }.boxed();
            }
            name if MODELS.contains(&name) => stream::iter(replies(&request)).boxed(),
            "driven" => {
                let receiver = self.driven.lock().unwrap().take().unwrap();
                stream::unfold(receiver, |mut receiver| async {
                    receiver.recv().await.map(|reply| (reply, receiver))
                })
                .boxed()
            }
            "endless" => {
                let taken = Arc::clone(&self.taken);
                stream::repeat_with(move || {
                    taken.fetch_add(1, Ordering::Relaxed);
                    text("0123456789abcdef")
                })
                .boxed()
            }
            "first" => stream::iter([Reply::Alive, Reply::Refused(refusal(which))]).boxed(),
            "late" => stream::iter([text("a"), Reply::Refused(refusal(which))]).boxed(),
            "vanish" => stream::iter([text("a")]).boxed(),
            "silent" => stream::pending().boxed(),
            "stuck" => {
                return async move {
                    let _guard = guard;
                    std::future::pending().await
                }
                .boxed();
            }
            _ => return async move { Err(refusal(which)) }.boxed(),
        };
        let replies = Guarded(replies, guard).boxed();
        async move { Ok(Answer { peer: PEER, replies }) }.boxed()
    }

    fn models(&self) -> Vec<ListedModel> {
        let model = |name: &str| ListedModel {
            name: ModelName::new(name).unwrap(),
            digest: Some(ModelDigest([1; 32])),
            capabilities: CAPABILITIES,
            context_tokens: 2048,
            local: name == MODELS[0],
            peers: vec![PEER],
            slots_free: 1,
            about: About {
                architecture: Some("qwen3".into()),
                parameters: Some(751_632_384),
                quantization: Some("Q8_0".into()),
                file_bytes: Some(639_446_688),
                embedding_dimensions: Some(3),
                template: Some("{{ messages }}".into()),
                build_class: None,
                added_unix_s: Some(1_790_000_000),
            },
        };
        MODELS.map(model).into()
    }

    fn loaded(&self) -> Vec<LoadedModel> {
        let name = ModelName::new(MODELS[0]).unwrap();
        let expires_unix_s = Some(1_790_000_300);
        vec![LoadedModel { name, memory_bytes: 1000, gpu_memory_bytes: 0, expires_unix_s }]
    }

    fn keep(&self, model: ModelName, keep: KeepAlive) -> BoxFuture<'_, Result<(), Refusal>> {
        *self.keep.lock().unwrap() = Some(keep);
        let known = MODELS.contains(&model.as_str());
        let result = if known { Ok(()) } else { Err(refusal(RefusalCode::UnknownModel)) };
        async move { result }.boxed()
    }

    fn pull(&self, model: String) -> BoxStream<'static, Pull> {
        let digest = Some(ModelDigest([1; 32]));
        let progress = |done_bytes| Pull::Progress { digest, done_bytes, total_bytes: Some(1000) };
        let steps = if MODELS.contains(&model.as_str()) {
            vec![Pull::Looking, progress(0), progress(1000), Pull::Verifying, Pull::Ready]
        } else {
            vec![Pull::Looking, Pull::Failed(refusal(RefusalCode::UnknownModel))]
        };
        stream::iter(steps).boxed()
    }
}

const CAPABILITIES: Capabilities = Capabilities::GENERATE
    .with(Capabilities::TOOLS)
    .with(Capabilities::REASONING)
    .with(Capabilities::CONSTRAINED)
    .with(Capabilities::LOGPROBS)
    .with(Capabilities::EMBED)
    .with(Capabilities::RERANK)
    .with(Capabilities::TOKENIZE);

/// Whether a request does not fit the context. What only works on texts needs none.
fn overflows(request: &InferRequest) -> bool {
    match &request.input {
        Input::Tokenize { .. } | Input::Detokenize(_) => false,
        _ => request.input_bytes() > CONTEXT_BYTES,
    }
}

/// What the models reply. A chat that says `call NAME` with that tool among its tools calls it, and
/// one that says `think` is thought about first.
fn replies(request: &InferRequest) -> Vec<Reply> {
    match &request.input {
        Input::Chat(chat) => match called(chat) {
            Some(name) => call(&name),
            None => echo(request, said(chat)),
        },
        Input::Text(text) => echo(request, text.clone()),
        Input::Embed(texts) => {
            let tokens = texts.iter().map(String::len).sum();
            let vectors = texts.iter().zip(0..).map(|(text, index)| Reply::Embedding {
                index,
                values: if text.is_empty() { vec![1.0, 0.0, 0.0] } else { vec![0.6, 0.0, 0.8] },
            });
            vectors.chain([done(FinishReason::Stop, tokens, 0)]).collect()
        }
        Input::Rerank { query, documents } => {
            let scores = documents.iter().map(|text| text.matches(query.as_str()).count() as f32);
            let tokens = documents.iter().map(String::len).sum();
            vec![Reply::Scores(scores.collect()), done(FinishReason::Stop, tokens, 0)]
        }
        Input::Tokenize { text, add_special } => {
            let special = add_special.then_some(1);
            let tokens: Vec<u32> = special.into_iter().chain(text.bytes().map(u32::from)).collect();
            let count = tokens.len();
            vec![Reply::Tokens(tokens), done(FinishReason::Stop, count, 0)]
        }
        Input::Detokenize(tokens) => {
            let bytes = tokens.iter().map(|token| u8::try_from(*token).unwrap_or(b'?')).collect();
            vec![
                text(&String::from_utf8(bytes).unwrap()),
                done(FinishReason::Stop, tokens.len(), 0),
            ]
        }
        Input::Count(_) => vec![done(FinishReason::Stop, request.input_bytes(), 0)],
        Input::File { .. } => vec![Reply::Refused(refusal(RefusalCode::Unsupported))],
    }
}

fn said(chat: &Chat) -> String {
    chat.messages.last().map(arknet_types::Message::text).unwrap_or_default()
}

fn called(chat: &Chat) -> Option<String> {
    let said = said(chat);
    let name = said.strip_prefix("call ")?;
    chat.tools.iter().find(|tool| tool.name == name).map(|tool| tool.name.clone())
}

fn call(name: &str) -> Vec<Reply> {
    let piece = |first: bool, arguments: &str| {
        Reply::ToolCall(ToolCallPiece {
            index: 0,
            id: first.then(|| "call_1".into()),
            name: first.then(|| name.into()),
            arguments: arguments.into(),
            tokens: 1,
        })
    };
    let end = done(FinishReason::ToolCalls, 3, 3);
    vec![piece(true, ""), piece(false, r#"{"a":"#), piece(false, "1}"), end]
}

/// Says what was said, a word a token.
fn echo(request: &InferRequest, said: String) -> Vec<Reply> {
    let mut whole = format!("You said: {said}");
    let mut finish = FinishReason::Stop;
    let stops = request.stop.iter().zip(0..);
    if let Some((at, index)) =
        stops.filter_map(|(stop, index)| Some((whole.find(stop.as_str())?, index))).min()
    {
        whole.truncate(at);
        finish = FinishReason::StopSequence(index);
    }
    let mut words: Vec<&str> = whole.split_inclusive(' ').collect();
    if let Some(max) = request.max_tokens.map(|max| max as usize)
        && words.len() > max
    {
        words.truncate(max);
        finish = FinishReason::Length;
    }
    let mut replies = Vec::new();
    if said == "think" {
        replies.push(Reply::Reasoning { text: "Hm.".into(), tokens: 2 });
    }
    for word in &words {
        if let Some(top) = request.logprobs {
            replies.push(Reply::Logprobs(vec![likely(word, top)]));
        }
        replies.push(text(word));
    }
    replies.push(done(finish, 3, words.len()));
    replies
}

fn likely(word: &str, top: u8) -> TokenLogprob {
    let bytes = word.as_bytes().to_vec();
    let alternative = Alternative { token: 7, bytes: bytes.clone(), logprob: -0.5 };
    TokenLogprob { token: 7, bytes, logprob: -0.5, top: vec![alternative; usize::from(top.min(1))] }
}

fn done(finish: FinishReason, prompt: usize, completion: usize) -> Reply {
    let usage = Usage {
        prompt_tokens: u32::try_from(prompt).unwrap(),
        completion_tokens: u32::try_from(completion).unwrap(),
        cached_tokens: u32::from(prompt > 1),
        reasoning_tokens: 0,
    };
    Reply::Done { finish, usage }
}

pub(crate) fn text(text: &str) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

fn code(text: &str) -> RefusalCode {
    CODES.into_iter().find(|code| code.as_str() == text).unwrap()
}

fn refusal(code: RefusalCode) -> Refusal {
    let detail = match code {
        RefusalCode::UnknownModel => "nobody serves this model",
        RefusalCode::InvalidRequest => "top_p must lie between 0 and 1",
        _ => "the script says so",
    };
    match code {
        RefusalCode::Busy => Refusal::new(code, detail).retry_after_ms(1500),
        _ => Refusal::new(code, detail),
    }
}

struct Guard(Arc<Semaphore>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

struct Guarded<S>(S, #[expect(dead_code, reason = "dropped with the stream")] Guard);

impl<S: Stream + Unpin> Stream for Guarded<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        self.0.poll_next_unpin(cx)
    }
}
