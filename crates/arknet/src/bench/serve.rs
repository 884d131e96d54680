//! The run itself: workers that ask, one request after the other.

use std::{
    io::IsTerminal,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hyper::body::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    client::Client,
    plan::{Endpoint, Plan},
    prompt::{Counting, Numbers},
    report::Report,
    stats::Stats,
};
use crate::out::Out;

/// Words of the shorter, and at most of the longer prompt that show how a model counts.
const PROBE_WORDS: (usize, u32) = (8, 128);
/// Places in the sequence of prompts that no measured request reaches.
const PREFIX_PLACE: u64 = u64::MAX;
const PROBE_PLACES: [u64; 2] = [u64::MAX - 1, u64::MAX - 2];

/// Asks, and says how it was answered. An interrupt ends the asking, not what is known by then.
pub(super) async fn run(mut plan: Plan, out: &Out) -> anyhow::Result<Report> {
    let url = plan.target.url();
    if plan.model.is_none() {
        plan.model = Some(first_model(&plan).await.with_context(|| url.clone())?);
    }
    let plan = Arc::new(plan);
    let counting = counting(&plan).await.with_context(|| format!("{url}: the first request"))?;
    if counting == Counting::ONE_EACH {
        out.note("the server does not say how it counts; a word is taken for a token");
    }
    let prompts = Arc::new(Prompts::new(plan.clone(), counting));
    let (warmup, requests) = (u64::from(plan.warmup), u64::from(plan.requests));
    if warmup > 0 {
        let bar = bar(out, "warming up", warmup);
        if round(&prompts, 0..warmup, 1, &bar).await.interrupted {
            bail!("interrupted");
        }
    }
    let bar = bar(out, "asking", requests * u64::from(plan.turns));
    let measured = round(&prompts, warmup..warmup + requests, plan.turns, &bar).await;
    Ok(Report::new(&plan, &measured.stats, measured.took, measured.interrupted))
}

async fn first_model(plan: &Plan) -> anyhow::Result<String> {
    let mut client = Client::new(Arc::new(plan.clone()));
    let models = client.models().await.context("asking for its models; --model names one")?;
    models.into_iter().next().context("the server lists no models; --model names one")
}

/// Two short requests show how many tokens the chat template and each word take.
async fn counting(plan: &Arc<Plan>) -> anyhow::Result<Counting> {
    let mut client = Client::new(plan.clone());
    let (short, most) = PROBE_WORDS;
    let long = (plan.prompt_tokens / 4).clamp(32, most) as usize;
    let mut counted = Vec::new();
    for (place, words) in PROBE_PLACES.into_iter().zip([short, long]) {
        let text = Numbers::new(plan.seed, place).words(words);
        let body = match plan.endpoint {
            Endpoint::Chat => body(plan, json!([{ "role": "user", "content": text }]), Some(1)),
            Endpoint::Completions => body(plan, text.into(), Some(1)),
        };
        let answer = client.ask(body, false).await?;
        let Some(usage) = answer.usage else { return Ok(Counting::ONE_EACH) };
        counted.push((words, usage.prompt_tokens));
    }
    Ok(Counting::between(counted[0], counted[1]))
}

/// One request as JSON: what all have, the question, and over it what the command line says.
fn body(plan: &Plan, question: Value, max_tokens: Option<u32>) -> Bytes {
    let mut fields = plan.fields.clone();
    fields.insert("model".into(), plan.model.clone().into());
    let name = match plan.endpoint {
        Endpoint::Chat => "messages",
        Endpoint::Completions => "prompt",
    };
    fields.insert(name.into(), question);
    if let Some(tokens) = max_tokens {
        fields.insert("max_tokens".into(), tokens.into());
    }
    for (name, value) in &plan.overlay {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    Value::Object(fields).to_string().into()
}

/// What the measured requests ask.
struct Prompts {
    plan: Arc<Plan>,
    /// What all prompts begin with.
    prefix: Option<String>,
    /// Words of a prompt's own part.
    words: usize,
    /// Words of a further question of a conversation.
    turn_words: usize,
}

impl Prompts {
    fn new(plan: Arc<Plan>, counting: Counting) -> Self {
        let shared = plan.shared_prefix_tokens;
        let prefix = (shared > 0)
            .then(|| Numbers::new(plan.seed, PREFIX_PLACE).words(counting.words(shared)));
        let words = counting.words_of_all(plan.prompt_tokens - shared);
        let turn_words = counting.words(plan.turn_tokens);
        Self { plan, prefix, words, turn_words }
    }

    /// The conversation at a place, before its first question.
    fn open(&self, place: u64) -> Conversation<'_> {
        let system = self.prefix.as_ref().map(|text| json!({ "role": "system", "content": text }));
        Conversation {
            prompts: self,
            numbers: Numbers::new(self.plan.seed, place),
            messages: system.into_iter().collect(),
        }
    }
}

struct Conversation<'a> {
    prompts: &'a Prompts,
    numbers: Numbers,
    messages: Vec<Value>,
}

impl Conversation<'_> {
    /// The request that asks the next question.
    fn ask(&mut self, turn: u32) -> Bytes {
        let Prompts { plan, prefix, words, turn_words } = self.prompts;
        let question = self.numbers.words(if turn == 0 { *words } else { *turn_words });
        match (plan.endpoint, prefix) {
            (Endpoint::Chat, _) => {
                self.messages.push(json!({ "role": "user", "content": question }));
                body(plan, self.messages.clone().into(), None)
            }
            (Endpoint::Completions, Some(prefix)) => {
                body(plan, format!("{prefix} {question}").into(), None)
            }
            (Endpoint::Completions, None) => body(plan, question.into(), None),
        }
    }

    fn answered(&mut self, text: &str) {
        self.messages.push(json!({ "role": "assistant", "content": text }));
    }
}

/// What one round of requests showed.
struct Measured {
    stats: Stats,
    took: Duration,
    interrupted: bool,
}

/// Has the workers hold all conversations of these places.
async fn round(
    prompts: &Arc<Prompts>,
    places: Range<u64>,
    turns: u32,
    bar: &ProgressBar,
) -> Measured {
    let mut connecting = JoinSet::new();
    for _ in 0..u64::from(prompts.plan.concurrency).min(places.end - places.start) {
        let mut client = Client::new(prompts.plan.clone());
        connecting.spawn(async move {
            // Who has no connection now tries again with its first request, where it counts.
            let _ = client.connect().await;
            client
        });
    }
    let clients = connecting.join_all().await;
    let stats = Arc::new(Mutex::new(Stats::default()));
    let next = Arc::new(AtomicU64::new(places.start));
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for client in clients {
        let (prompts, stats, next) = (prompts.clone(), stats.clone(), next.clone());
        let (end, bar) = (places.end, bar.clone());
        workers.spawn(async move {
            let mut client = client;
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                if place >= end {
                    break;
                }
                converse(&mut client, prompts.open(place), turns, &stats).await;
                bar.inc(u64::from(turns));
            }
        });
    }
    let interrupted = tokio::select! {
        () = async { while workers.join_next().await.is_some() {} } => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    let took = start.elapsed();
    workers.shutdown().await;
    bar.finish_and_clear();
    let stats = std::mem::take(&mut *stats.lock().unwrap_or_else(PoisonError::into_inner));
    Measured { stats, took, interrupted }
}

async fn converse(
    client: &mut Client,
    mut conversation: Conversation<'_>,
    turns: u32,
    stats: &Mutex<Stats>,
) {
    for turn in 0..turns {
        let result = client.ask(conversation.ask(turn), turns > 1).await;
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(answer) => {
                stats.record(turn as usize, &answer);
                conversation.answered(&answer.text);
            }
            Err(failure) => {
                stats.fail(&failure);
                // What would come next has no history.
                break;
            }
        }
    }
}

fn bar(out: &Out, what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if out.is_json() || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = "{msg} {bar:30} {pos} of {len}, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar.set_message(what);
    bar
}
