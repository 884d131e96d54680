//! The exact profile: the same bits for every token, however the work is divided.

use std::{path::Path, sync::Arc};

use arknet_provider::{Generation, Provider};
use arknet_types::{InferRequest, Input, LogitBias, ModelName, Profile, Reply, Sampling};

use super::{LlamaOptions, LlamaProvider, engine::Seen};
use crate::embedded_model;

fn open(path: &Path, profile: Profile, threads: usize, slots: u16) -> LlamaProvider {
    let name = ModelName::new(embedded_model().name).unwrap();
    LlamaProvider::open(LlamaOptions {
        context_tokens: Some(512),
        slots: Some(slots),
        threads: Some(threads),
        profile,
        ..LlamaOptions::new(name, embedded_model().sha256, path)
    })
    .unwrap()
}

/// Inputs of many lengths, which share beginnings and do not.
fn prompts() -> Vec<String> {
    let mut prompts = Vec::new();
    for n in 1..8 {
        prompts.push("The ship sails over the sea. ".repeat(n * n / 4 + 1) + &n.to_string());
        prompts.push(format!("{n} plus {n} is ") + &"and so on ".repeat(n * 3));
    }
    prompts
}

fn request(prompt: &str, temperature: f32) -> InferRequest {
    let name = ModelName::new(embedded_model().name).unwrap();
    InferRequest {
        max_tokens: Some(12),
        sampling: Sampling {
            temperature,
            seed: Some(5),
            // Never ends by itself.
            logit_bias: (0..3).map(|n| LogitBias { token: 3069 + n, bias: -100.0 }).collect(),
            ..Sampling::default()
        },
        ..InferRequest::new(name, Input::Text(prompt.into()))
    }
}

async fn finish(mut generation: Generation) {
    while let Some(reply) = generation.next().await {
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
}

/// Answers everything, `together` at once, and gives what followed from what.
async fn seen(provider: &LlamaProvider, together: usize) -> Seen {
    let requests: Vec<InferRequest> =
        prompts().iter().flat_map(|p| [request(p, 0.0), request(p, 1.5)]).collect();
    for some in requests.chunks(together) {
        let running: Vec<_> = some.iter().map(|r| provider.generate(r.clone()).unwrap()).collect();
        for generation in running {
            finish(generation).await;
        }
    }
    let shared = Arc::clone(&provider.shared);
    let seen = shared.seen.lock().unwrap();
    seen.clone()
}

fn join(all: &mut Seen, more: Seen) {
    for (tokens, bits) in more {
        all.entry(tokens).or_default().extend(bits);
    }
}

#[tokio::test]
async fn bits_do_not_depend_on_how_the_work_is_divided() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, embedded_model().bytes).unwrap();
    let mut all = Seen::new();
    let mut alone = 0;
    // Alone, in a crowd, with more threads, and each time remembering what was before: steps of one
    // token and of hundreds, in every mixture.
    for (threads, slots, together) in [(1, 1, 1), (1, 4, 4), (2, 7, 7), (1, 16, 16)] {
        let provider = open(file.path(), Profile::Exact, threads, slots);
        let seen = seen(&provider, together).await;
        assert!(seen.len() > 200, "{} different inputs", seen.len());
        alone = alone.max(seen.len());
        join(&mut all, seen);
    }
    let differing = all.values().filter(|bits| bits.len() > 1).count();
    assert_eq!(differing, 0, "of {} inputs", all.len());
    // The same inputs were met again, or the comparison says nothing.
    assert!(all.len() < alone * 3 / 2, "{} of {alone}", all.len());
}
