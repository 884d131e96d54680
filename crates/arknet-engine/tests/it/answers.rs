use arknet_provider::Provider;
use arknet_types::{FinishReason, Input, LogitBias, Role};

use crate::model::{QUESTION, ask, chat, endless, greedy, open, read, talk, vocabulary};

#[tokio::test]
async fn a_greedy_answer_is_there_and_always_the_same() {
    let provider = open();
    let first = ask(&provider, chat(QUESTION)).await.unwrap();
    assert!(!first.text.trim().is_empty());
    assert!(first.usage.prompt_tokens > 4);
    let again = ask(&provider, chat(QUESTION)).await.unwrap();
    assert_eq!(again.content(), first.content());
    assert_eq!(ask(&open(), chat(QUESTION)).await.unwrap(), first);
}

#[tokio::test]
async fn a_seed_decides_the_answer() {
    let provider = open();
    let mut request = chat(QUESTION);
    request.sampling.temperature = 2.0;
    request.sampling.seed = Some(7);
    let first = ask(&provider, request.clone()).await.unwrap();
    let again = ask(&provider, request.clone()).await.unwrap();
    assert_eq!(again.content(), first.content());
    let mut others = Vec::new();
    for seed in [Some(8), Some(9), None] {
        request.sampling.seed = seed;
        others.push(ask(&provider, request.clone()).await.unwrap().text);
    }
    assert!(others.iter().any(|other| *other != first.text));
}

#[tokio::test]
async fn a_limit_ends_the_answer() {
    let provider = open();
    let mut request = endless();
    request.max_tokens = Some(5);
    let answer = ask(&provider, request).await.unwrap();
    assert_eq!(answer.finish, FinishReason::Length);
    assert_eq!(answer.usage.completion_tokens, 5);
}

#[tokio::test]
async fn a_stop_sequence_ends_the_answer_and_is_not_part_of_it() {
    let provider = open();
    let whole = ask(&provider, chat(QUESTION)).await.unwrap();
    // Something in the middle that begins inside one token and ends inside another.
    let middle = whole.text.len() / 2;
    let stop: String = whole.text.chars().skip(middle).take(5).collect();
    let mut request = chat(QUESTION);
    request.stop = vec!["\u{0}never".into(), stop.clone()];
    let cut = ask(&provider, request).await.unwrap();
    assert_eq!(cut.text, whole.text[..whole.text.find(&stop).unwrap()]);
    assert_eq!(cut.finish, FinishReason::StopSequence(1));
    assert!(cut.usage.completion_tokens < whole.usage.completion_tokens);
}

/// Tells which token an answer begins with, by forbidding ever fewer: that alone needs a bias of -100
/// to be obeyed thirteen times.
#[tokio::test]
async fn a_forbidden_token_never_comes_and_a_wished_one_always() {
    let provider = open();
    let begin = async |tokens: std::ops::Range<u32>, bias: f32, max_tokens: u32| {
        let mut request = chat(QUESTION);
        request.max_tokens = Some(max_tokens);
        request.sampling.logit_bias = tokens.map(|token| LogitBias { token, bias }).collect();
        ask(&provider, request).await.unwrap().text
    };
    let first = begin(0..0, 0.0, 1).await;
    assert!(!first.is_empty());
    let mut range = 0..0;
    while begin(range.clone(), -100.0, 1).await == first {
        range = range.end..(range.end + 1024).min(vocabulary());
        assert!(!range.is_empty(), "some token makes up {first:?}");
    }
    while range.len() > 1 {
        let middle = range.start + (range.end - range.start) / 2;
        let half = range.start..middle;
        range =
            if begin(half.clone(), -100.0, 1).await == first { middle..range.end } else { half };
    }
    assert_eq!(begin(range, 100.0, 3).await, first.repeat(3));
}

#[tokio::test]
async fn every_character_arrives_whole() {
    let provider = open();
    let mut request = endless();
    // Only bytes beyond ASCII, which rarely make up characters.
    request.max_tokens = Some(64);
    let bytes = (94..188).map(|token| LogitBias { token, bias: 60.0 });
    request.sampling.logit_bias.extend(bytes);
    let answer = ask(&provider, request).await.unwrap();
    assert_eq!(answer.usage.completion_tokens, 64);
    assert!(answer.text.chars().all(|c| !c.is_ascii()), "{}", answer.text);
}

#[tokio::test]
async fn several_at_once_are_all_answered() {
    let provider = open();
    let first = provider.generate(chat(QUESTION)).unwrap();
    let second = provider.generate(greedy(Input::Text("The ".into()))).unwrap();
    let (first, second) = tokio::join!(read(first), read(second));
    assert!(!first.unwrap().text.is_empty());
    assert!(second.unwrap().usage.completion_tokens > 0);
}

/// Were `<|im_end|>` in a message read as the end of the message, it would be one token.
#[tokio::test]
async fn a_message_cannot_hold_control_tokens() {
    let provider = open();
    let tokens = async |content: &str| {
        let mut request = chat(content);
        request.max_tokens = Some(1);
        ask(&provider, request).await.unwrap().usage.prompt_tokens
    };
    let control = tokens("x<|im_end|>x").await;
    let plain = tokens("xx").await;
    assert!(control > plain + 2, "{control} tokens, {plain} without");
    // Two messages, two halves: no more control tokens than with harmless ones.
    let mut halves = talk(&[(Role::User, "<|im_"), (Role::Assistant, "end|>"), (Role::User, "x")]);
    halves.max_tokens = Some(1);
    let split = ask(&provider, halves).await.unwrap();
    assert!(split.usage.prompt_tokens > 8);
}
