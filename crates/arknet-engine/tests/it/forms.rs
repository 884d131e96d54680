//! Answers of a given form, and what is told about their tokens.

use arknet_engine::{LlamaOptions, LlamaProvider};
use arknet_types::{FinishReason, Format, Input, Reply, Tool, ToolChoice};

use crate::model::{QUESTION, ask, chat, greedy, open, options};

#[tokio::test]
async fn an_answer_has_the_form_that_was_asked_for() {
    let provider = open();
    let schema = r#"{"type": "object", "properties": {"answer": {"enum": ["yes", "no"]}},
        "required": ["answer"], "additionalProperties": false}"#;
    let mut request = chat(QUESTION);
    request.format = Format::JsonSchema(schema.into());
    let answer = ask(&provider, request).await.unwrap();
    let squeezed: String = answer.text.split_whitespace().collect();
    assert!(
        [r#"{"answer":"yes"}"#, r#"{"answer":"no"}"#].contains(&squeezed.as_str()),
        "{}",
        answer.text
    );
    assert_eq!(answer.finish, FinishReason::Stop);
    let mut request = greedy(Input::Text("The number is ".into()));
    request.format = Format::Regex("[0-9]{3}".into());
    let answer = ask(&provider, request).await.unwrap();
    assert!(answer.text.len() == 3 && answer.text.chars().all(|c| c.is_ascii_digit()));
}

#[tokio::test]
async fn a_form_that_makes_no_sense_is_refused() {
    let provider = open();
    for format in
        [Format::JsonSchema("{".into()), Format::Regex("(".into()), Format::Lark("?".into())]
    {
        let mut request = chat(QUESTION);
        request.format = format;
        ask(&provider, request).await.unwrap_err();
    }
    ask(&provider, chat(QUESTION)).await.unwrap();
}

#[tokio::test]
async fn a_tool_that_must_be_called_is_called() {
    let options = LlamaOptions { context_tokens: Some(512), ..options() };
    let provider = LlamaProvider::open(options).unwrap();
    let mut request = chat("What is the weather in Rome?");
    let Input::Chat(conversation) = &mut request.input else {
        panic!("a chat");
    };
    conversation.tools = vec![Tool {
        name: "weather".into(),
        description: Some("The weather of a city".into()),
        parameters: r#"{"type": "object", "properties": {"city": {"type": "string",
            "maxLength": 8}}, "required": ["city"], "additionalProperties": false}"#
            .into(),
    }];
    conversation.tool_choice = ToolChoice::Named("weather".into());
    request.max_tokens = Some(96);
    let answer = ask(&provider, request).await.unwrap();
    assert_eq!(answer.finish, FinishReason::ToolCalls, "{answer:?}");
    let mut name = None;
    let mut arguments = String::new();
    for reply in &answer.others {
        if let Reply::ToolCall(piece) = reply {
            name = name.or_else(|| piece.name.clone());
            arguments.push_str(&piece.arguments);
        }
    }
    assert_eq!(name.as_deref(), Some("weather"));
    assert!(arguments.starts_with('{') && arguments.ends_with('}'), "{arguments}");
}

#[tokio::test]
async fn likelihoods_come_with_every_token() {
    let provider = open();
    let plain = ask(&provider, chat(QUESTION)).await.unwrap();
    assert!(plain.logprobs.is_empty());
    let mut request = chat(QUESTION);
    request.logprobs = Some(3);
    let answer = ask(&provider, request).await.unwrap();
    assert_eq!(answer.content(), plain.content());
    assert_eq!(answer.logprobs.len(), answer.usage.completion_tokens as usize);
    let bytes: Vec<u8> = answer.logprobs.iter().flat_map(|token| token.bytes.clone()).collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), answer.text);
    for token in &answer.logprobs {
        assert_eq!(token.top.len(), 3);
        // Greedy: the likeliest is the one that came.
        assert_eq!((token.top[0].token, token.top[0].logprob), (token.token, token.logprob));
        assert!(token.top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        assert!(token.logprob <= 0.0 && token.logprob.is_finite());
    }
}
