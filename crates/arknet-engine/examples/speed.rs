//! Measures the engine alone on a GGUF file: prompt and decode speed, the second turn, and memory.
//!
//! `cargo run --release -p arknet-engine --example speed -- FILE [exact] [THREADS]`
//!
//! Comparable with `llama-bench -p 512 -n 64` and `llama-batched-bench -npp 128 -ntg 64`.

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::{
    env,
    time::{Duration, Instant},
};

use arknet_engine::{LlamaOptions, LlamaProvider};
use arknet_provider::Provider;
use arknet_types::{InferRequest, Input, ModelDigest, ModelName, Profile, Reply, Sampling, Usage};

/// Tokens of each input and each answer where several are measured together.
const PROMPT_TOKENS: usize = 128;
const OUTPUT_TOKENS: u32 = 64;

/// An answer as its reader saw it.
struct Seen {
    first: Duration,
    whole: Duration,
    usage: Usage,
}

fn request(text: String, tokens: u32, temperature: f32) -> InferRequest {
    let name = ModelName::new("speed/model").expect("a name");
    InferRequest {
        max_tokens: Some(tokens),
        sampling: Sampling { temperature, seed: Some(1), ..Sampling::default() },
        ..InferRequest::new(name, Input::Text(text))
    }
}

/// A text that nothing remembered begins like. The generated model has a token for each byte.
fn text(number: usize, tokens: usize) -> String {
    let mut text = format!("{number} ");
    text.extend(('a'..='z').cycle().skip(number).take(tokens - text.len()));
    text
}

async fn ask(provider: &LlamaProvider, request: InferRequest) -> Seen {
    let begin = Instant::now();
    let mut generation = provider.generate(request).expect("there is a free slot");
    let mut first = None;
    loop {
        match generation.next().await {
            Some(Reply::Done { usage, .. }) => {
                let whole = begin.elapsed();
                return Seen { first: first.unwrap_or(whole), whole, usage };
            }
            Some(Reply::Refused(refusal)) => panic!("{refusal}"),
            Some(_) => first = first.or_else(|| Some(begin.elapsed())),
            None => panic!("an end comes first"),
        }
    }
}

fn rate(tokens: u32, time: Duration) -> f64 {
    f64::from(tokens) / time.as_secs_f64()
}

/// What memory the process holds, in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

async fn one(provider: &LlamaProvider) {
    for n in 0..3 {
        let seen = ask(provider, request(text(1000 + n, 512), 1, 0.0)).await;
        println!("prompt 512: {:.1} tokens/s", rate(seen.usage.prompt_tokens, seen.first));
    }
    for n in 0..3 {
        let seen = ask(provider, request(text(n, 8), OUTPUT_TOKENS, 0.0)).await;
        let tokens = seen.usage.completion_tokens - 1;
        println!("decode 1: {:.2} tokens/s", rate(tokens, seen.whole - seen.first));
    }
    let seen = ask(provider, request(text(7, 8), OUTPUT_TOKENS, 1.0)).await;
    let tokens = seen.usage.completion_tokens - 1;
    println!("decode 1, drawn: {:.2} tokens/s", rate(tokens, seen.whole - seen.first));
    let turn = text(50, 1024);
    ask(provider, request(turn.clone(), 1, 0.0)).await;
    let seen = ask(provider, request(turn + " and more", 1, 0.0)).await;
    println!(
        "second turn: first token after {:.1} ms, {} of {} tokens remembered",
        seen.first.as_secs_f64() * 1000.0,
        seen.usage.cached_tokens,
        seen.usage.prompt_tokens
    );
}

async fn several(provider: &LlamaProvider, count: usize, temperature: f32) {
    let begin = Instant::now();
    let before = provider.stats();
    let asked = (0..count).map(|n| {
        let text = text(100 * count + n, PROMPT_TOKENS);
        ask(provider, request(text, OUTPUT_TOKENS, temperature))
    });
    let seen = futures::future::join_all(asked).await;
    let whole = begin.elapsed();
    let tokens: u32 = seen.iter().map(|seen| seen.usage.completion_tokens).sum();
    // From when all have begun to when the first ends, everybody gets a token in each step.
    let first = seen.iter().map(|seen| seen.first).max().unwrap_or_default();
    let last = seen.iter().map(|seen| seen.whole).max().unwrap_or_default();
    let stats = provider.stats();
    let busy = Duration::from_micros(stats.compute_us_total - before.compute_us_total);
    println!(
        "{count} at once, temperature {temperature}: {:.1} tokens/s served, \
         {:.1} tokens/s after the last first token, {:.1}% of the time outside of steps",
        rate(tokens, whole),
        rate(tokens, last - first),
        100.0 * (1.0 - busy.as_secs_f64() / whole.as_secs_f64())
    );
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = env::args().skip(1).peekable();
    let path = arguments.next().expect("a GGUF file");
    let is_exact = arguments.next_if(|argument| argument == "exact").is_some();
    let options = LlamaOptions {
        context_tokens: Some(2048),
        slots: Some(16),
        threads: arguments.next().map(|threads| threads.parse().expect("a number of threads")),
        profile: if is_exact { Profile::Exact } else { Profile::Default },
        ..LlamaOptions::new(
            ModelName::new("speed/model").expect("a name"),
            ModelDigest([0; 32]),
            path,
        )
    };
    let survey = arknet_engine::survey(&options).expect("a model file");
    let provider = LlamaProvider::open(options).expect("a model that loads");
    println!("{}", provider.info().details.build_class.clone().unwrap_or_default());
    println!("planned {} MiB, holds {} MiB", survey.memory_bytes >> 20, resident_mib());
    one(&provider).await;
    for count in [4, 16] {
        several(&provider, count, 0.0).await;
        several(&provider, count, 1.0).await;
    }
    println!("holds {} MiB", resident_mib());
}
