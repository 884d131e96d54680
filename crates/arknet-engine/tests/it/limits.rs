use std::path::Path;

use arknet_engine::{LlamaOptions, LlamaProvider, embedded_model};
use arknet_provider::Provider;
use arknet_types::{
    Chat, FinishReason, Image, ImageFormat, Input, Message, ModelName, Part, Profile, RefusalCode,
    Reply, Role,
};

use crate::model::{QUESTION, ask, chat, endless, greedy, open, options, read};

#[tokio::test]
async fn what_does_not_fit_the_context_is_refused_with_both_numbers() {
    let provider = open();
    let refusal = ask(&provider, greedy(Input::Text("\u{2603}".repeat(2000)))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ContextOverflow);
    assert!(refusal.detail.contains("256"), "{refusal}");
    // The place is free again.
    ask(&provider, chat(QUESTION)).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_a_limit_ends_with_the_context() {
    let provider = open();
    let answer = ask(&provider, endless()).await.unwrap();
    let used = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    assert_eq!((answer.finish, used), (FinishReason::Length, 256));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let provider = open();
    let mut request = chat(QUESTION);
    request.model = ModelName::new("other").unwrap();
    let code = |request| provider.generate(request).unwrap_err().code;
    assert_eq!(code(request), RefusalCode::UnknownModel);
    let mut request = chat(QUESTION);
    request.sampling.repeat_penalty = 0.0;
    assert_eq!(code(request), RefusalCode::InvalidRequest);
    let mut request = chat(QUESTION);
    request.sampling.logit_bias = vec![arknet_types::LogitBias { token: u32::MAX, bias: 1.0 }];
    let refusal = ask(&provider, request).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
}

#[tokio::test]
async fn more_than_the_slots_are_busy_and_dropping_one_frees_its_slot_at_once() {
    let provider = LlamaProvider::open(LlamaOptions { slots: Some(1), ..options() }).unwrap();
    for _ in 0..20 {
        let mut running = provider.generate(endless()).unwrap();
        assert!(matches!(running.next().await, Some(Reply::Text { .. })));
        let refusal = provider.generate(endless()).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Busy);
        assert!(refusal.retry_after_ms.is_some());
        drop(running);
    }
    ask(&provider, chat(QUESTION)).await.unwrap();
}

#[tokio::test]
async fn a_slot_is_free_as_soon_as_the_end_is_known() {
    let provider = LlamaProvider::open(LlamaOptions { slots: Some(1), ..options() }).unwrap();
    let mut ended = provider.generate(chat(QUESTION)).unwrap();
    while !matches!(ended.next().await, Some(Reply::Done { .. })) {}
    ask(&provider, chat(QUESTION)).await.unwrap();
    drop(ended);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_only_itself() {
    let provider = open();
    let stalled = provider.generate(endless()).unwrap();
    // Each of these takes more steps than the stalled one has room for.
    for _ in 0..4 {
        let answer = ask(&provider, endless()).await.unwrap();
        assert!(answer.usage.completion_tokens > 0);
    }
    // It goes on where it was left.
    let answer = read(stalled).await.unwrap();
    let again = ask(&provider, endless()).await.unwrap();
    assert_eq!(answer.content(), again.content());
}

#[tokio::test]
async fn unloading_ends_running_answers() {
    let provider = open();
    let running = provider.generate(endless()).unwrap();
    drop(provider);
    match read(running).await {
        Err(refusal) => assert_eq!(refusal.code, RefusalCode::ShuttingDown),
        // It was through before it was asked to stop.
        Ok(answer) => assert!(answer.usage.completion_tokens > 0),
    }
}

#[tokio::test]
async fn what_the_model_cannot_do_is_refused_by_name() {
    let provider = open();
    let mut message = Message::new(Role::User, "What is this?");
    message.parts.push(Part::Image(Image { format: ImageFormat::Png, bytes: vec![1] }));
    let refusal = ask(&provider, greedy(Input::Chat(Chat::new(vec![message])))).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unsupported);
    assert!(refusal.detail.contains("arknet/tiny"), "{refusal}");
    let mut request = chat(QUESTION);
    request.profile = Profile::Exact;
    let refusal = ask(&provider, request).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Unsupported);
    assert!(refusal.detail.contains("exact"), "{refusal}");
}

/// A long input is being read when its request goes away; the next one does not wait for it.
#[tokio::test]
async fn a_request_that_is_cancelled_while_its_input_is_read_stops() {
    let options = LlamaOptions { slots: Some(1), context_tokens: Some(1024), ..options() };
    let provider = LlamaProvider::open(options).unwrap();
    let long = greedy(Input::Text("abcdefgh ".repeat(100)));
    for _ in 0..10 {
        drop(provider.generate(long.clone()).unwrap());
        let answer = ask(&provider, chat(QUESTION)).await.unwrap();
        assert!(!answer.text.is_empty());
    }
}

/// The shipped model under the name of a vocabulary that is split by a regular expression.
fn split_by_expression(directory: &Path) -> LlamaProvider {
    let (mut bytes, before) = (embedded_model().bytes.to_vec(), b"tokenizer.ggml.pre");
    let key = bytes.windows(before.len()).position(|window| window == before).unwrap();
    // The key, its type and the length of its value come first.
    let value = key + before.len() + 4 + 8;
    assert_eq!(&bytes[value..value + 5], b"qwen2");
    bytes[value..value + 5].copy_from_slice(b"bloom");
    let path = directory.join("bloom.gguf");
    std::fs::write(&path, bytes).unwrap();
    LlamaProvider::open(LlamaOptions { path, ..options() }).unwrap()
}

#[tokio::test]
async fn a_long_row_of_like_characters_is_read_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let provider = split_by_expression(directory.path());
    let tokenize =
        |text: String| ask(&provider, greedy(Input::Tokenize { text, add_special: true }));
    for character in ["a", " ", "-", "\u{2603}"] {
        tokenize(character.repeat(200_000)).await.unwrap();
        let refusal = tokenize(character.repeat(200_001)).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::InvalidRequest, "{character}");
        assert!(refusal.detail.contains("200000"), "{refusal}");
    }
    ask(&provider, chat(QUESTION)).await.unwrap();
}

#[tokio::test]
async fn what_is_too_long_for_a_vector_is_refused_before_it_is_read() {
    let provider = open();
    let long = "a ".repeat(3_000_000);
    for input in [
        Input::Embed(vec!["short".into(), long.clone()]),
        Input::Rerank { query: "short".into(), documents: vec![long.clone()] },
        Input::Rerank { query: long, documents: vec!["short".into()] },
    ] {
        let refusal = ask(&provider, greedy(input)).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ContextOverflow);
        assert!(refusal.detail.contains("more than"), "{refusal}");
    }
}
