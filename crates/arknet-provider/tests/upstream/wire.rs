//! What is sent, and how answers are read, without a server.

use std::fmt::Write as _;

use arknet_provider::upstream::{
    Call, Dialect, Flavor, Place, Stream, Target, Thinking, UpstreamKind, call,
    limits::{ANSWER_BYTES_MAX, LINE_BYTES_MAX},
};
use arknet_types::{
    Capabilities, Chat, FinishReason, Format, Image, ImageFormat, InferRequest, Input, LogitBias,
    Message, Part, Reasoning, Refusal, RefusalCode, Reply, Role, Sampling, Tool, ToolCall,
    ToolChoice,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::name;

fn target(flavor: Flavor) -> Target {
    Target {
        id: "up/fish".into(),
        flavor,
        capabilities: Capabilities::GENERATE.with(Capabilities::REASONING),
        context_tokens: 4096,
        answer_tokens_max: Some(1000),
        thinking: Thinking::Budget,
    }
}

fn chat() -> Chat {
    Chat::new(vec![Message::new(Role::User, "hi")])
}

fn asked(input: Input) -> InferRequest {
    InferRequest::new(name("m"), input)
}

fn body(kind: UpstreamKind, flavor: Flavor, request: &InferRequest) -> Result<Value, Refusal> {
    let Call { body, .. } = call(kind, request, &target(flavor))?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// A conversation with everything in it.
fn full() -> InferRequest {
    let mut user = Message::new(Role::User, "look");
    let bytes = vec![1, 2, 3];
    user.parts.push(Part::Image(Image { format: ImageFormat::Png, bytes }));
    let mut said = Message::new(Role::Assistant, "");
    said.parts.clear();
    said.reasoning = Some("hm".into());
    said.tool_calls =
        vec![ToolCall { id: "c1".into(), name: "f".into(), arguments: "{\"b\":1,\"a\":2}".into() }];
    let mut result = Message::new(Role::Tool, "42");
    result.tool_call_id = Some("c1".into());
    let tool = Tool {
        name: "f".into(),
        description: None,
        parameters: "{\"type\":\"object\",\"properties\":{\"z\":{},\"a\":{}}}".into(),
    };
    let messages = vec![Message::new(Role::System, "be"), user, said, result];
    let chat = Chat { tools: vec![tool], ..Chat::new(messages) };
    InferRequest {
        max_tokens: Some(7),
        stop: vec!["x".into()],
        sampling: Sampling { temperature: 0.7, top_p: 0.5, ..Sampling::default() },
        ..asked(Input::Chat(chat))
    }
}

#[test]
fn a_full_conversation_in_the_language_of_openai() {
    let url = "data:image/png;base64,AQID";
    let mut expected = json!({
        "model": "up/fish", "stream": true, "stream_options": { "include_usage": true },
        "messages": [
            { "role": "system", "content": "be" },
            { "role": "user", "content": [{ "type": "text", "text": "look" },
                { "type": "image_url", "image_url": { "url": url } }] },
            { "role": "assistant", "content": null, "tool_calls": [{ "id": "c1",
                "type": "function", "function": { "name": "f", "arguments": "{\"b\":1,\"a\":2}" } }] },
            { "role": "tool", "content": "42", "tool_call_id": "c1" },
        ],
        "tools": [{ "type": "function", "function": { "name": "f", "parameters":
            { "type": "object", "properties": { "z": {}, "a": {} } } } }],
        "tool_choice": "auto", "parallel_tool_calls": true, "stop": ["x"], "max_tokens": 7,
        "temperature": 0.7, "top_p": 0.5,
    });
    let generic = body(UpstreamKind::OpenAi, Flavor::Generic, &full()).unwrap();
    assert_eq!(generic, expected);
    let fields = expected.as_object_mut().unwrap();
    fields.remove("max_tokens");
    fields.insert("max_completion_tokens".into(), json!(7));
    assert_eq!(body(UpstreamKind::OpenAi, Flavor::OpenAi, &full()).unwrap(), expected);
    let written = call(UpstreamKind::OpenAi, &full(), &target(Flavor::Generic)).unwrap().body;
    // The order of a schema's fields is kept.
    assert!(String::from_utf8(written).unwrap().contains("{\"z\":{},\"a\":{}}"));
    let vllm = body(UpstreamKind::OpenAi, Flavor::Vllm, &full()).unwrap();
    assert_eq!(vllm["messages"][2]["reasoning_content"], "hm");
    for (field, value) in
        [("top_k", json!(-1)), ("min_p", json!(0.0)), ("repetition_penalty", json!(1.0))]
    {
        assert_eq!(vllm[field], value);
    }
    let llama = body(UpstreamKind::OpenAi, Flavor::LlamaServer, &full()).unwrap();
    for (field, value) in [("top_k", json!(0)), ("repeat_penalty", json!(1.0))] {
        assert_eq!(llama[field], value);
    }
}

#[test]
fn a_full_conversation_in_the_language_of_anthropic() {
    let expected = json!({
        "model": "up/fish", "stream": true, "max_tokens": 7, "stop_sequences": ["x"],
        "system": [{ "type": "text", "text": "be" }],
        "messages": [
            { "role": "user", "content": [{ "type": "text", "text": "look" }, { "type": "image",
                "source": { "type": "base64", "media_type": "image/png", "data": "AQID" } }] },
            { "role": "assistant", "content": [
                { "type": "tool_use", "id": "c1", "name": "f", "input": { "b": 1, "a": 2 } }] },
            { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "c1",
                "content": [{ "type": "text", "text": "42" }] }] },
        ],
        "tools": [{ "name": "f", "input_schema":
            { "type": "object", "properties": { "z": {}, "a": {} } } }],
        "tool_choice": { "type": "auto", "disable_parallel_tool_use": false },
        "temperature": 0.7, "top_p": 0.5,
    });
    assert_eq!(body(UpstreamKind::Anthropic, Flavor::Generic, &full()).unwrap(), expected);
    // Without a limit, the model's own.
    let plain =
        body(UpstreamKind::Anthropic, Flavor::Generic, &asked(Input::Chat(chat()))).unwrap();
    assert_eq!(plain["max_tokens"], 1000);
    let count =
        body(UpstreamKind::Anthropic, Flavor::Generic, &asked(Input::Count(chat()))).unwrap();
    assert!(count.get("max_tokens").is_none() && count.get("stream").is_none());
}

#[test]
fn a_full_conversation_in_the_language_of_ollama() {
    let found = body(UpstreamKind::Ollama, Flavor::Generic, &full()).unwrap();
    let messages = json!([
        { "role": "system", "content": "be" },
        { "role": "user", "content": "look", "images": ["AQID"] },
        { "role": "assistant", "content": "", "thinking": "hm", "tool_calls": [
            { "id": "c1", "function": { "name": "f", "arguments": { "b": 1, "a": 2 } } }] },
        { "role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1" },
    ]);
    assert_eq!(found["messages"], messages);
    let options = &found["options"];
    for (field, value) in [
        ("num_ctx", json!(4096)),
        ("num_predict", json!(7)),
        ("temperature", json!(0.7)),
        ("top_k", json!(0)),
        ("repeat_penalty", json!(1.0)),
        ("stop", json!(["x"])),
    ] {
        assert_eq!(options[field], value, "{field}");
    }
}

#[test]
fn what_an_upstream_cannot_take_is_named() {
    use Flavor::{Generic, LlamaServer, Sglang, Vllm};
    use UpstreamKind::{Anthropic, Ollama, OpenAi};
    type Change = fn(&mut InferRequest);
    let cases: [(UpstreamKind, Flavor, Change, &str); 22] = [
        (OpenAi, Generic, |r| r.sampling.top_k = 5, "top_k"),
        (OpenAi, Generic, |r| r.sampling.min_p = 0.5, "min_p"),
        (OpenAi, Generic, |r| r.sampling.repeat_penalty = 1.5, "repeat_penalty"),
        (OpenAi, Generic, |r| r.format = Format::Gbnf("a".into()), "grammar"),
        (OpenAi, Generic, |r| r.format = Format::Regex("a".into()), "regular"),
        (OpenAi, LlamaServer, |r| r.format = Format::Lark("a".into()), "grammar"),
        (OpenAi, LlamaServer, |r| r.format = Format::Regex("a".into()), "regular"),
        (OpenAi, Sglang, |r| r.format = Format::Lark("a".into()), "grammar"),
        (OpenAi, Generic, |r| continue_it(r), "continue"),
        (OpenAi, Generic, |r| r.input = Input::Count(chat()), "count"),
        (OpenAi, Vllm, |r| r.profile = arknet_types::Profile::Exact, "exact"),
        (Anthropic, Generic, |r| r.sampling.seed = Some(1), "seed"),
        (Anthropic, Generic, |r| r.sampling.temperature = 1.5, "temperature"),
        (Anthropic, Generic, |r| r.sampling.frequency_penalty = 1.0, "frequency_penalty"),
        (Anthropic, Generic, |r| r.logprobs = Some(1), "logprobs"),
        (Anthropic, Generic, |r| r.format = Format::JsonObject, "JSON object"),
        (Anthropic, Generic, |r| r.input = Input::Text("a".into()), "continue"),
        (Anthropic, Generic, |r| r.input = Input::Embed(vec!["a".into()]), "embed"),
        (
            Ollama,
            Generic,
            |r| r.sampling.logit_bias = vec![LogitBias { token: 1, bias: 1.0 }],
            "logit_bias",
        ),
        (Ollama, Generic, |r| choose(r, ToolChoice::Required), "tool choice"),
        (Ollama, Generic, |r| r.format = Format::Regex("a".into()), "regular"),
        (Ollama, Generic, |r| r.input = Input::Detokenize(vec![1]), "tokens"),
    ];
    for (kind, flavor, change, word) in cases {
        let mut request = asked(Input::Chat(chat()));
        change(&mut request);
        let refusal = body(kind, flavor, &request).unwrap_err();
        assert!(
            matches!(refusal.code, RefusalCode::Unsupported | RefusalCode::InvalidRequest),
            "{word}"
        );
        assert!(refusal.detail.contains(word), "{} for {word}", refusal.detail);
    }
}

fn continue_it(request: &mut InferRequest) {
    let mut chat = chat();
    chat.messages.push(Message::new(Role::Assistant, "It is"));
    request.input = Input::Chat(chat);
}

fn choose(request: &mut InferRequest, tool_choice: ToolChoice) {
    let parameters = "{}".to_owned();
    let tool =
        |name: &str| Tool { name: name.into(), description: None, parameters: parameters.clone() };
    let tools = vec![tool("f"), tool("g")];
    request.input = Input::Chat(Chat { tools, tool_choice, ..chat() });
}

#[test]
fn formats_choices_and_thoughts_in_each_language() {
    use Flavor::{Generic, LlamaServer, Sglang, Vllm};
    use UpstreamKind::{Anthropic, Ollama, OpenAi};
    type Change = fn(&mut InferRequest);
    let schema = "{\"type\":\"object\"}";
    let format = json!({ "type": "json_schema", "json_schema":
        { "name": "answer", "strict": true, "schema": { "type": "object" } } });
    let named: Change = |r| choose(r, ToolChoice::Named("f".into()));
    let follow: Change = |r| r.format = Format::JsonSchema("{\"type\":\"object\"}".into());
    let think: Change = |r| {
        r.max_tokens = Some(4000);
        r.input = Input::Chat(Chat { reasoning: Reasoning::On, ..chat() });
    };
    let quiet: Change = |r| r.input = Input::Chat(Chat { reasoning: Reasoning::Off, ..chat() });
    for (kind, flavor, change, at, value) in [
        (OpenAi, Generic, follow, "/response_format", format),
        (
            Anthropic,
            Generic,
            follow,
            "/output_config/format/schema",
            serde_json::from_str(schema).unwrap(),
        ),
        (Ollama, Generic, follow, "/format", serde_json::from_str(schema).unwrap()),
        (
            OpenAi,
            Vllm,
            |r| r.format = Format::Lark("g".into()),
            "/structured_outputs/grammar",
            json!("g"),
        ),
        (
            OpenAi,
            Vllm,
            |r| r.format = Format::Regex("g".into()),
            "/structured_outputs/regex",
            json!("g"),
        ),
        (OpenAi, Sglang, |r| r.format = Format::Regex("g".into()), "/regex", json!("g")),
        (OpenAi, LlamaServer, |r| r.format = Format::Gbnf("g".into()), "/grammar", json!("g")),
        (OpenAi, Generic, named, "/tool_choice/function/name", json!("f")),
        (OpenAi, LlamaServer, named, "/tool_choice", json!("required")),
        (OpenAi, LlamaServer, named, "/tools/0/function/name", json!("f")),
        (OpenAi, LlamaServer, named, "/tools/1", Value::Null),
        (Anthropic, Generic, named, "/tool_choice/type", json!("tool")),
        (OpenAi, Vllm, think, "/chat_template_kwargs/enable_thinking", json!(true)),
        (Anthropic, Generic, think, "/thinking/budget_tokens", json!(2000)),
        (Anthropic, Generic, quiet, "/thinking/type", json!("disabled")),
        (Ollama, Generic, think, "/think", json!(true)),
        (OpenAi, LlamaServer, |r| r.logprobs = Some(0), "/top_logprobs", json!(1)),
        (OpenAi, Generic, |r| r.logprobs = Some(0), "/top_logprobs", json!(0)),
        (OpenAi, LlamaServer, |r| r.sampling.presence_penalty = 0.5, "/repeat_last_n", json!(4096)),
        (OpenAi, Vllm, |r| continue_it(r), "/continue_final_message", json!(true)),
        (
            OpenAi,
            Generic,
            |r| r.sampling.logit_bias = vec![LogitBias { token: 9, bias: -1.0 }],
            "/logit_bias/9",
            json!(-1.0),
        ),
        (OpenAi, Generic, |r| r.input = Input::Text("hello".into()), "/max_tokens", json!(4075)),
    ] {
        let mut request = asked(Input::Chat(chat()));
        change(&mut request);
        let body = body(kind, flavor, &request).unwrap();
        let found = body.pointer(at).cloned().unwrap_or_default();
        assert_eq!(found, value, "{kind:?} {flavor:?} {at}");
    }
}

fn stream(dialect: Dialect, request: &InferRequest) -> Stream {
    Stream::new(dialect, Place::ChatCompletions, request)
}

fn read(dialect: Dialect, text: &str) -> (Vec<Reply>, Option<Refusal>) {
    let request =
        InferRequest { stop: vec!["X".into()], logprobs: Some(1), ..asked(Input::Chat(chat())) };
    let mut stream = stream(dialect, &request);
    let mut out = vec![];
    let result = stream.feed(text.as_bytes(), &mut out).and_then(|()| stream.end(&mut out));
    (out, result.err().map(|fault| fault.refusal))
}

#[test]
fn ends_and_counts_as_real_servers_tell_them() {
    let openai = |choice: &str, usage: &str| {
        let mut text = String::new();
        write!(text, "data: {{\"choices\":[{choice}],\"usage\":{usage}}}\r\n\r\n").unwrap();
        text + "data: [DONE]\r\n\r\n"
    };
    for (dialect, text, finish, usage) in [
        (Dialect::OpenAi, openai(r#"{"finish_reason":"stop","stop_reason":"X"}"#, "null"),
            FinishReason::StopSequence(0), (0, 0, 0, 0)),
        (Dialect::OpenAi, openai(r#"{"finish_reason":"stop","stop_reason":151645}"#, "null"),
            FinishReason::Stop, (0, 0, 0, 0)),
        (Dialect::OpenAi, openai(r#"{"finish_reason":"stop","matched_stop":"X"}"#, "null"),
            FinishReason::StopSequence(0), (0, 0, 0, 0)),
        (Dialect::OpenAi, openai(r#"{"delta":{"reasoning":"a"},"finish_reason":"length"}"#,
            r#"{"prompt_tokens":9,"completion_tokens":8,"prompt_tokens_details":{"cached_tokens":7},"completion_tokens_details":{"reasoning_tokens":6}}"#),
            FinishReason::Length, (9, 8, 7, 6)),
        (Dialect::OpenAi, openai(r#"{"finish_reason":"eos"}"#,
            r#"{"prompt_tokens":9,"completion_tokens":8,"prompt_cache_hit_tokens":3}"#),
            FinishReason::Stop, (9, 8, 3, 0)),
        (Dialect::Ollama, "{\"message\":{\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{}}}]},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":4,\"eval_count\":2}".into(),
            FinishReason::ToolCalls, (4, 2, 0, 0)),
    ] {
        let (out, refusal) = read(dialect, &text);
        assert_eq!(refusal, None, "{text}");
        let Some(Reply::Done { finish: found, usage: told }) = out.last() else { panic!("{text}") };
        let told = (told.prompt_tokens, told.completion_tokens, told.cached_tokens, told.reasoning_tokens);
        assert_eq!((*found, told), (finish, usage), "{text}");
    }
}

#[test]
fn an_answer_in_one_piece_is_one_too() {
    let one = |message: &str, reason: &str| {
        let choice = format!(r#"{{"index":0,"message":{message},"finish_reason":"{reason}"}}"#);
        read(Dialect::OpenAi, &format!("{{\"choices\":[{choice}]}}\n"))
    };
    let (out, refusal) = one(r#"{"role":"assistant","content":"a b"}"#, "stop");
    assert_eq!(refusal, None);
    assert!(matches!(&out[0], Reply::Text { text, .. } if text == "a b"), "{out:?}");
    let call = |name: &str| format!(r#"{{"function":{{"name":"{name}","arguments":"{{}}"}}}}"#);
    let calls = format!(r#"{{"content":null,"tool_calls":[{},{}]}}"#, call("f"), call("g"));
    let (out, refusal) = one(&calls, "tool_calls");
    let names = out.iter().filter_map(|reply| match reply {
        Reply::ToolCall(piece) => piece.name.as_deref(),
        _ => None,
    });
    assert_eq!((names.collect::<Vec<_>>(), refusal), (vec!["f", "g"], None));
    // What was said in pieces is not said again, and no reason is no end.
    let text = r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}
data: {"choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}
"#;
    let (out, refusal) = read(Dialect::OpenAi, text);
    assert_eq!((out.len(), refusal), (2, None), "{out:?}");
    let (_, refusal) = read(Dialect::OpenAi, text.lines().next().unwrap());
    assert!(refusal.is_some());
}

#[test]
fn likelihoods_in_every_form() {
    for text in [
        r#"data: {"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"id":5,"token":"a","logprob":-1.5,"bytes":[97],"top_logprobs":[{"id":5,"token":"a","logprob":null}]}]},"finish_reason":"stop"}]}"#,
        r#"data: {"choices":[{"text":"a","logprobs":{"tokens":["a"],"token_logprobs":[-1.5],"top_logprobs":[{"a":-1.5,"b":-2.5}],"text_offset":[0]},"finish_reason":"stop"}]}"#,
    ] {
        let (out, refusal) = read(Dialect::OpenAi, &format!("{text}\n"));
        assert_eq!(refusal, None);
        let Reply::Logprobs(list) = &out[0] else { panic!("{out:?}") };
        assert_eq!((list.len(), list[0].bytes.as_slice(), list[0].top.len()), (1, &b"a"[..], 1));
        assert!((list[0].logprob + 1.5).abs() < 1e-6);
        assert!(matches!(out[1], Reply::Text { tokens: 1, .. }));
    }
}

#[test]
fn an_answer_has_a_last_byte() {
    let request = asked(Input::Chat(chat()));
    let mut long = stream(Dialect::OpenAi, &request);
    let line = [vec![b':'; LINE_BYTES_MAX - 1], vec![b'\n']].concat();
    let mut fed = 0;
    while fed + line.len() <= ANSWER_BYTES_MAX {
        long.feed(&line, &mut vec![]).unwrap();
        fed += line.len();
    }
    assert!(long.feed(&line, &mut vec![]).is_err());
}

const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Ollama];

/// Words that streams are made of, so that chance finds its way deep.
const WORDS: [&str; 24] = [
    "data: ",
    "{\"type\":",
    "\"content_block_start\"",
    "\"content_block_delta\"",
    "\"tool_use\"",
    ",\"index\":0",
    ",\"delta\":{",
    "\"content\":\"a\"",
    "\"tool_calls\":[{\"index\":0,\"id\":\"x\"",
    ",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}",
    "}]",
    "}",
    "\n",
    "\n\n",
    "[DONE]",
    "{\"choices\":[{",
    "\"finish_reason\":\"stop\"",
    "\"message\":{",
    ",\"done\":true",
    "null",
    "\"error\":{\"message\":\"x\"}",
    "\"usage\":{\"prompt_tokens\":1}",
    "\u{20ac}",
    "\"",
];

proptest! {
    #[test]
    fn nothing_makes_a_reader_panic(
        which in 0_usize..3,
        words in proptest::collection::vec(0_usize..WORDS.len(), 0..60),
        noise in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes: Vec<u8> = words.into_iter().flat_map(|at| WORDS[at].bytes()).collect();
        bytes.extend(noise);
        let request = asked(Input::Chat(chat()));
        let mut stream = stream(DIALECTS[which], &request);
        let mut out = vec![];
        let _ = stream.feed(&bytes, &mut out).and_then(|()| stream.end(&mut out));
        for reply in &out {
            // Whatever came out can be sent.
            prop_assert!(arknet_types::decode::<Reply>(&arknet_types::encode(reply)).is_ok());
        }
    }

    #[test]
    fn where_a_stream_is_cut_does_not_matter(cuts in proptest::collection::vec(0_usize..400, 0..6)) {
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"\u{20ac}\"}}]}\r\n\r\ndata: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}\r\n\r\ndata: [DONE]\r\n\r\n";
        let (whole, refusal) = read(Dialect::OpenAi, text);
        prop_assert_eq!(refusal, None);
        let request = asked(Input::Chat(chat()));
        let mut stream = stream(Dialect::OpenAi, &request);
        let mut out = vec![];
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut start = 0;
        for cut in cuts.into_iter().chain([text.len()]) {
            stream.feed(&text.as_bytes()[start..cut], &mut out).unwrap();
            start = cut;
        }
        prop_assert_eq!(out, whole);
    }
}
