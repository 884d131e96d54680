//! A dispatch that does what the name of the model says.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arknet_gateway::{Answer, Dispatch, ListedModel};
use arknet_types::{
    FinishReason, InferRequest, Input, ModelDigest, ModelName, PublicKey, Refusal, RefusalCode,
    Reply, Usage,
};
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use tokio::sync::{Semaphore, mpsc};

pub(crate) const PEER: PublicKey = PublicKey([7; 32]);

/// The models that answer; every other name is a script or unknown.
pub(crate) const MODELS: [&str; 2] = ["arknet/tiny", "Qwen/Qwen3-0.6B-Q8_0"];

/// What the models take, a byte a token.
const CONTEXT_BYTES: usize = 2048;

pub(crate) const CODES: [RefusalCode; 19] = [
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
];

pub(crate) struct Script {
    /// The last request that was dispatched.
    pub(crate) last: Mutex<Option<InferRequest>>,
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
            dropped: Arc::new(Semaphore::new(0)),
            taken: Arc::new(AtomicU64::new(0)),
            driven: Mutex::new(None),
        })
    }
}

impl Dispatch for Script {
    fn infer(&self, request: InferRequest) -> BoxFuture<'_, Result<Answer, Refusal>> {
        *self.last.lock().unwrap() = Some(request.clone());
        let guard = Guard(Arc::clone(&self.dropped));
        let (what, which) = match request.model.as_str().split_once('/') {
            Some((what @ ("refuse" | "first" | "late"), which)) => (what, code(which)),
            _ => (request.model.as_str(), RefusalCode::UnknownModel),
        };
        let replies = match what {
            name if MODELS.contains(&name) && request.input_bytes() > CONTEXT_BYTES => {
                return async move { Err(refusal(RefusalCode::ContextOverflow)) }.boxed();
            }
            name if MODELS.contains(&name) => stream::iter(echo(&request)).boxed(),
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
            digest: ModelDigest([1; 32]),
            context_tokens: 2048,
            local: name == MODELS[0],
            peers: vec![PEER],
            slots_free: 1,
        };
        MODELS.map(model).into()
    }
}

/// Says what was said, a word a token.
fn echo(request: &InferRequest) -> Vec<Reply> {
    let said = match &request.input {
        Input::Chat(messages) => messages.last().map_or("", |last| &last.content),
        Input::Text(text) => text,
    };
    let mut whole = format!("You said: {said}");
    let mut finish = FinishReason::Stop;
    if let Some(at) = request.stop.iter().filter_map(|stop| whole.find(stop.as_str())).min() {
        whole.truncate(at);
    }
    let mut words: Vec<&str> = whole.split_inclusive(' ').collect();
    if let Some(max) = request.max_tokens.map(|max| max as usize)
        && words.len() > max
    {
        words.truncate(max);
        finish = FinishReason::Length;
    }
    let usage = Usage { prompt_tokens: 3, completion_tokens: u32::try_from(words.len()).unwrap() };
    let mut replies: Vec<Reply> = words.into_iter().map(text).collect();
    replies.push(Reply::Done { finish, usage });
    replies
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
