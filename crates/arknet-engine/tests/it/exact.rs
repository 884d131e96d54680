//! The exact profile, as a request sees it. The bits themselves are compared inside the crate.

use arknet_engine::{LlamaOptions, LlamaProvider};
use arknet_provider::Provider;
use arknet_types::{InferRequest, Profile};

use crate::model::{Answer, QUESTION, ask, chat, options, read};

fn requests() -> Vec<InferRequest> {
    let questions = [QUESTION, "Who are you?", "Tell me a proverb.", "Write a line of code."];
    let mut requests = Vec::new();
    for (n, question) in (0..).zip(questions) {
        for temperature in [0.0, 1.0] {
            let mut request = chat(question);
            request.profile = Profile::Exact;
            request.sampling.temperature = temperature;
            request.sampling.seed = Some(n);
            requests.push(request);
        }
    }
    requests
}

fn open(threads: usize, slots: u16) -> LlamaProvider {
    let options = LlamaOptions {
        profile: Profile::Exact,
        threads: Some(threads),
        slots: Some(slots),
        ..options()
    };
    LlamaProvider::open(options).unwrap()
}

/// Greedy and drawn answers are the same alone and in a crowd, with one thread and with two, read
/// for the first time and remembered.
#[tokio::test]
async fn answers_do_not_depend_on_what_else_is_computed() {
    let alone = open(1, 1);
    let mut expected: Vec<Answer> = Vec::new();
    for request in requests() {
        expected.push(ask(&alone, request).await.unwrap());
    }
    for (threads, slots) in [(1, 3), (2, 8)] {
        let provider = open(threads, slots);
        for round in 0..2 {
            let mut got = Vec::new();
            for some in requests().chunks(usize::from(slots)) {
                let running: Vec<_> =
                    some.iter().map(|r| provider.generate(r.clone()).unwrap()).collect();
                for generation in running {
                    got.push(read(generation).await.unwrap());
                }
            }
            for (got, expected) in got.iter().zip(&expected) {
                assert_eq!(got.content(), expected.content(), "{threads} threads, round {round}");
            }
            assert!(round == 0 || got.iter().all(|answer| answer.usage.cached_tokens > 0));
        }
    }
}

#[tokio::test]
async fn a_model_opened_for_exact_requests_serves_others_too() {
    let provider = open(1, 1);
    ask(&provider, chat(QUESTION)).await.unwrap();
}
