//! Answers that guess what follows are the answers they would be.

use arknet_engine::{LlamaOptions, LlamaProvider};
use arknet_types::{Format, InferRequest, Input, Profile, Sampling};

use crate::model::{Answer, ask, chat, endless, greedy, options};

/// The exact profile: nothing but guessing can make a difference.
fn open(draft_tokens_max: u16) -> LlamaProvider {
    let draft_tokens_max = Some(draft_tokens_max);
    let options = LlamaOptions { profile: Profile::Exact, draft_tokens_max, ..options() };
    LlamaProvider::open(options).unwrap()
}

fn repeating(more: impl Fn(&mut InferRequest)) -> InferRequest {
    let mut request = greedy(Input::Text("one two three, one two three, one two".into()));
    request.max_tokens = Some(60);
    request.logprobs = Some(2);
    more(&mut request);
    request
}

fn requests() -> Vec<InferRequest> {
    let drawn = |temperature| Sampling { temperature, seed: Some(7), ..Sampling::default() };
    vec![
        endless(),
        chat("What is arknet?"),
        repeating(|_| {}),
        repeating(|request| request.max_tokens = Some(1)),
        repeating(|request| request.stop = vec!["three".into()]),
        repeating(|request| request.sampling = drawn(0.7)),
        repeating(|request| request.sampling = drawn(0.2)),
        repeating(|request| {
            request.sampling.repeat_penalty = 1.3;
            request.sampling.frequency_penalty = 0.4;
        }),
        repeating(|request| {
            request.format = Format::Regex("(one two three, ){8}".into());
            request.logprobs = None;
        }),
    ]
}

fn content(answer: &Answer) -> (&str, String, Vec<(u32, u32)>) {
    let bits = answer.logprobs.iter().map(|one| (one.token, one.logprob.to_bits()));
    let usage = answer.usage.completion_tokens;
    (&answer.text, format!("{:?} {usage}", answer.finish), bits.collect())
}

#[tokio::test]
async fn guessing_changes_no_bit() {
    let (guessing, plain) = (open(8), open(0));
    for request in requests() {
        let expected = ask(&plain, request.clone()).await.unwrap();
        for _ in 0..2 {
            let answer = ask(&guessing, request.clone()).await.unwrap();
            assert_eq!(content(&answer), content(&expected), "{request:?}");
        }
    }
    assert_eq!(plain.stats().draft_tokens_total, 0);
    let stats = guessing.stats();
    assert!(stats.draft_tokens_accepted_total > 0, "{stats:?}");
    assert!(stats.draft_tokens_accepted_total <= stats.draft_tokens_total);
    assert_eq!(stats.completion_tokens_total, 2 * plain.stats().completion_tokens_total);
    assert!(stats.steps_total < 2 * plain.stats().steps_total, "it takes fewer steps");
}

#[tokio::test]
async fn many_that_guess_do_not_disturb_each_other() {
    let (guessing, plain) = (open(8), open(0));
    let mut expected = Vec::new();
    for request in requests() {
        expected.push(ask(&plain, request).await.unwrap());
    }
    for _ in 0..3 {
        let pairs = requests().into_iter().zip(&expected).collect::<Vec<_>>();
        // As many as there are slots.
        for pair in pairs.chunks(2) {
            let asked = pair.iter().map(|(request, _)| ask(&guessing, request.clone()));
            let answers = futures::future::join_all(asked).await;
            for (answer, (request, expected)) in answers.iter().zip(pair) {
                let answer = answer.as_ref().unwrap();
                assert_eq!(content(answer), content(expected), "{request:?}");
            }
        }
    }
}
