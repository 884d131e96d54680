//! What was read once is not read again.

use arknet_engine::{LlamaOptions, LlamaProvider};
use arknet_provider::Provider;
use arknet_types::{Input, Profile, Role};

use crate::model::{QUESTION, ask, chat, endless, greedy, talk};

/// The exact profile: what is remembered may not change an answer by one bit.
fn options() -> LlamaOptions {
    LlamaOptions { profile: Profile::Exact, ..crate::model::options() }
}

fn open() -> LlamaProvider {
    LlamaProvider::open(options()).unwrap()
}

/// About a hundred tokens.
fn book(seed: &str) -> String {
    format!("{seed} and then there was another one of them. ").repeat(8)
}

#[tokio::test]
async fn the_next_turn_does_not_read_its_history_again() {
    let provider = open();
    let first = ask(&provider, chat(QUESTION)).await.unwrap();
    assert_eq!(first.usage.cached_tokens, 0);
    let turn =
        talk(&[(Role::User, QUESTION), (Role::Assistant, &first.text), (Role::User, "Why?")]);
    let second = ask(&provider, turn.clone()).await.unwrap();
    // All but what the template writes after an answer, and the new question.
    assert!(second.usage.cached_tokens > first.usage.prompt_tokens, "{:?}", second.usage);
    let fresh = ask(&open(), turn).await.unwrap();
    assert_eq!((fresh.usage.cached_tokens, fresh.content()), (0, second.content()));
}

#[tokio::test]
async fn conversations_in_turns_are_all_remembered() {
    let provider = open();
    let texts: Vec<String> = ["One", "Two", "Three", "Four", "Five"].map(book).to_vec();
    let mut answers = Vec::new();
    for text in &texts {
        let answer = ask(&provider, greedy(Input::Text(text.clone()))).await.unwrap();
        assert_eq!(answer.usage.cached_tokens, 0);
        answers.push(answer);
    }
    // More than there are slots: what did not stay in one comes back from beside.
    for (text, first) in texts.iter().zip(&answers) {
        let again = ask(&provider, greedy(Input::Text(text.clone()))).await.unwrap();
        assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1, "{text}");
        assert_eq!(again.content(), first.content());
    }
    assert!(provider.stats().prefix_bytes > 0);
}

#[tokio::test]
async fn a_shared_beginning_is_taken_from_a_running_answer() {
    let provider = open();
    let system = book("You know that");
    let ask_with = |question: &str| talk(&[(Role::System, &system), (Role::User, question)]);
    let mut running = ask_with("What is there?");
    running.max_tokens = None;
    running.sampling = endless().sampling;
    let mut running = provider.generate(running).unwrap();
    running.next().await.unwrap();
    let other = ask(&provider, ask_with("Who was it?")).await.unwrap();
    assert!(other.usage.cached_tokens > 32, "{:?}", other.usage);
    drop(running);
    let fresh = ask(&open(), ask_with("Who was it?")).await.unwrap();
    assert_eq!(fresh.content(), other.content());
}

#[tokio::test]
async fn memory_beside_the_slots_is_bounded() {
    let bytes_max = 1 << 20;
    let some = LlamaOptions { prefix_cache_bytes_max: Some(bytes_max), ..options() };
    let provider = LlamaProvider::open(some).unwrap();
    for n in 0..12 {
        let text = book(&format!("Number {n}"));
        ask(&provider, greedy(Input::Text(text))).await.unwrap();
        assert!(provider.stats().prefix_bytes <= bytes_max);
    }
    assert!(provider.stats().prefix_bytes > 0);
    let none = LlamaOptions { prefix_cache_bytes_max: Some(0), ..options() };
    let provider = LlamaProvider::open(none).unwrap();
    for n in 0..6 {
        ask(&provider, greedy(Input::Text(book(&format!("Number {n}"))))).await.unwrap();
    }
    assert_eq!(provider.stats().prefix_bytes, 0);
}

#[tokio::test]
async fn numbers_are_kept() {
    let provider = LlamaProvider::open(LlamaOptions { slots: Some(1), ..options() }).unwrap();
    let first = ask(&provider, chat(QUESTION)).await.unwrap();
    ask(&provider, chat(QUESTION)).await.unwrap();
    let stats = provider.stats();
    assert_eq!(stats.prompt_tokens_total, u64::from(2 * first.usage.prompt_tokens));
    assert_eq!(stats.cached_tokens_total, u64::from(first.usage.prompt_tokens - 1));
    assert!(stats.completion_tokens_total >= u64::from(2 * first.usage.completion_tokens));
    assert!(stats.steps_total > 0 && stats.kv_tokens > 0);
    assert_eq!(stats.kv_tokens_max, 256);
}

#[tokio::test]
async fn inputs_that_come_together_are_read_once() {
    let provider = LlamaProvider::open(LlamaOptions { slots: Some(4), ..options() }).unwrap();
    let system = book("All of you know that");
    let request = |n: u32| talk(&[(Role::System, &system), (Role::User, &format!("Number {n}?"))]);
    let running: Vec<_> = (0..4).map(|n| provider.generate(request(n)).unwrap()).collect();
    let mut cached = Vec::new();
    for (n, generation) in (0..).zip(running) {
        let answer = crate::model::read(generation).await.unwrap();
        cached.push(answer.usage.cached_tokens);
        let alone = ask(&open(), request(n)).await.unwrap();
        assert_eq!(answer.content(), alone.content());
    }
    assert_eq!(cached.iter().filter(|tokens| **tokens > 64).count(), 3, "{cached:?}");
}
