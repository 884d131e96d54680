use arknet_types::{
    Alternative, Capabilities, FinishReason, ModelDigest, ModelName, PublicKey, Refusal,
    RefusalCode, Reply, TokenLogprob, ToolCall, ToolCallPiece, Usage,
};

use super::{chunks::Chunks, *};
use crate::{About, Gathered, ListedModel, encode::Encode};

fn head(endpoint: Endpoint, n: usize) -> Head {
    Head {
        endpoint,
        id: Head::id(endpoint, "1f"),
        created: 7,
        model: ModelName::new("arknet/tiny").unwrap(),
        n,
        echo: vec![],
    }
}

const USAGE: Usage =
    Usage { prompt_tokens: 3, completion_tokens: 4, cached_tokens: 2, reasoning_tokens: 1 };
const COUNTS: &str = r#"{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":1}}"#;

fn answer(text: &str) -> Gathered {
    Gathered {
        text: text.into(),
        finish: FinishReason::Length,
        usage: USAGE,
        ..Gathered::new(PublicKey([0; 32]))
    }
}

fn likely(bytes: &[u8], logprob: f32) -> TokenLogprob {
    let top = vec![Alternative { token: 2, bytes: b"b".into(), logprob: f32::NEG_INFINITY }];
    TokenLogprob { token: 1, bytes: bytes.into(), logprob, top }
}

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap()
}

#[test]
fn answers_have_openais_shape() {
    let plain = [answer("say \"hi\"\n\u{e9}")];
    for (endpoint, golden) in [
        (
            Endpoint::Chat,
            r#"{"id":"chatcmpl-1f","object":"chat.completion","created":7,"model":"arknet/tiny","choices":[{"index":0,"message":{"role":"assistant","content":"say \"hi\"\n<e>","refusal":null},"logprobs":null,"finish_reason":"length"}],"usage":<u>,"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Completion,
            r#"{"id":"cmpl-1f","object":"text_completion","created":7,"model":"arknet/tiny","choices":[{"text":"say \"hi\"\n<e>","index":0,"logprobs":null,"finish_reason":"length"}],"usage":<u>,"system_fingerprint":null}"#,
        ),
    ] {
        let golden = golden.replace("<e>", "\u{e9}").replace("<u>", COUNTS);
        assert_eq!(text(head(endpoint, 1).answer_json(&plain, false)), golden);
    }
}

#[test]
fn calls_thoughts_and_likelihoods_have_their_places() {
    let called = Gathered {
        reasoning: "hm".into(),
        tool_calls: vec![ToolCall { id: "i".into(), name: "f".into(), arguments: "{}".into() }],
        finish: FinishReason::ToolCalls,
        ..answer("")
    };
    let json = text(head(Endpoint::Chat, 1).answer_json(&[called], false));
    let golden = r#""message":{"role":"assistant","content":null,"refusal":null,"reasoning_content":"hm","tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls""#;
    assert!(json.contains(golden), "{json}");
    let likely = Gathered { logprobs: vec![likely(b"\xff", -0.5)], ..answer("a") };
    let json = text(head(Endpoint::Chat, 1).answer_json(std::slice::from_ref(&likely), true));
    let golden = r#""logprobs":{"content":[{"token":"<r>","bytes":[255],"logprob":-0.5,"top_logprobs":[{"token":"b","bytes":[98],"logprob":-9999.0}]}],"refusal":null}"#;
    assert!(json.contains(&golden.replace("<r>", "\u{fffd}")), "{json}");
    let mut head = head(Endpoint::Completion, 1);
    head.echo = vec!["pr\u{e9}".into()];
    let json = text(head.answer_json(&[likely], true));
    let golden = r#"{"text":"pr<e>a","index":0,"logprobs":{"text_offset":[3],"token_logprobs":[-0.5],"tokens":["<r>"],"top_logprobs":[{"b":-9999.0}]},"finish_reason":"length"}"#;
    let golden = golden.replace("<r>", "\u{fffd}").replace("<e>", "\u{e9}");
    assert!(json.contains(&golden), "{json}");
}

#[test]
fn several_answers_count_their_prompt_once() {
    let json = text(head(Endpoint::Chat, 2).answer_json(&[answer("a"), answer("b")], false));
    assert!(
        json.contains(r#""prompt_tokens":3,"completion_tokens":8,"total_tokens":11"#),
        "{json}"
    );
    assert!(json.contains(r#"{"index":1,"message":{"role":"assistant","content":"b""#), "{json}");
    let json = text(head(Endpoint::Completion, 1).answer_json(&[answer("a"), answer("b")], false));
    assert!(
        json.contains(r#""prompt_tokens":6,"completion_tokens":8,"total_tokens":14"#),
        "{json}"
    );
}

fn piece(text: &str) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

fn written(chunks: &mut Chunks, replies: impl IntoIterator<Item = Reply>) -> Vec<String> {
    let mut out = Vec::new();
    chunks.open(&mut out);
    replies.into_iter().for_each(|reply| chunks.reply(reply, &mut out));
    let text = text(out);
    let events = text.strip_suffix("\n\n").unwrap().split("\n\n");
    events.map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
}

const END: Reply = Reply::Done { finish: FinishReason::Stop, usage: USAGE };

#[test]
fn chunks_have_openais_shape() {
    let chat = r#"{"id":"chatcmpl-1f","object":"chat.completion.chunk","created":7,"model":"arknet/tiny","choices":[<c>],"usage":null,"system_fingerprint":null}"#;
    let mut chunks = Chunks::new(head(Endpoint::Chat, 1), 1, true);
    let call = |id: Option<&str>, arguments: &str| {
        Reply::ToolCall(ToolCallPiece {
            index: 0,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
            tokens: 1,
        })
    };
    let thought = Reply::Reasoning { text: "hm".into(), tokens: 1 };
    let replies = [thought, piece("a\"b"), piece(""), call(Some("i"), ""), call(None, "{}"), END];
    let events = written(&mut chunks, replies);
    let choices = [
        r#"{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}"#,
        r#"{"index":0,"delta":{"reasoning_content":"hm"},"logprobs":null,"finish_reason":null}"#,
        r#"{"index":0,"delta":{"content":"a\"b"},"logprobs":null,"finish_reason":null}"#,
        r#"{"index":0,"delta":{"tool_calls":[{"index":0,"id":"i","type":"function","function":{"name":"f","arguments":""}}]},"logprobs":null,"finish_reason":null}"#,
        r#"{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}"#,
        r#"{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}"#,
    ];
    for (event, choice) in events.iter().zip(choices) {
        assert_eq!(*event, chat.replace("<c>", choice));
    }
    let last = chat.replace("<c>", "").replace("null,\"system", &format!("{COUNTS},\"system"));
    assert_eq!(events[6..], [last, "[DONE]".to_owned()]);

    let mut head = head(Endpoint::Completion, 1);
    head.echo = vec!["p".into()];
    let completion = r#"{"id":"cmpl-1f","object":"text_completion","created":7,"model":"arknet/tiny","choices":[<c>],"system_fingerprint":null}"#;
    let events = written(&mut Chunks::new(head, 1, false), [piece("a"), END]);
    let choices = [
        r#"{"text":"p","index":0,"logprobs":null,"finish_reason":null}"#,
        r#"{"text":"a","index":0,"logprobs":null,"finish_reason":null}"#,
        r#"{"text":"","index":0,"logprobs":null,"finish_reason":"stop"}"#,
    ];
    let mut expected = choices.map(|choice| completion.replace("<c>", choice)).to_vec();
    expected.push("[DONE]".into());
    assert_eq!(events, expected);
}

#[test]
fn likelihoods_travel_with_their_text_and_do_not_pile_up() {
    let list = || Reply::Logprobs(vec![likely(b"a", -1.0)]);
    let mut chunks = Chunks::new(head(Endpoint::Chat, 1), 1, false);
    let events = written(&mut chunks, [list(), piece("a"), list(), END]);
    assert!(events[1].contains(r#""content":"a"},"logprobs":{"content":[{"token":"a""#));
    assert!(events[2].contains(r#""content":""},"logprobs":{"content":[{"token":"a""#));
    assert!(events[3].contains(r#""finish_reason":"stop""#));
    let mut chunks = Chunks::new(head(Endpoint::Chat, 1), 1, false);
    let events = written(&mut chunks, (0..1000).map(|_| list()));
    assert!(events.len() > 3, "they do not wait for ever");
    let mut chunks = Chunks::new(head(Endpoint::Completion, 1), 1, false);
    let events = written(&mut chunks, [list(), piece("a"), list(), piece("a"), END]);
    assert!(events[1].contains(r#""text_offset":[1]"#), "{}", events[1]);
}

#[test]
fn answers_that_come_at_once_are_told_apart() {
    let mut chunks = Chunks::new(head(Endpoint::Chat, 2), 2, true);
    let mut out = Vec::new();
    chunks.open(&mut out);
    for (index, reply) in [(1, piece("b")), (0, piece("a")), (1, END), (0, END)] {
        chunks.choose(index);
        chunks.reply(reply, &mut out);
    }
    let text = text(out);
    let order = [
        "\"index\":0,\"delta\":{\"role\"",
        "\"index\":1,\"delta\":{\"role\"",
        "\"index\":1,\"delta\":{\"content\":\"b\"",
        "\"index\":0,\"delta\":{\"content\":\"a\"",
        "\"index\":1,\"delta\":{}",
        "\"index\":0,\"delta\":{}",
        "\"completion_tokens\":8",
        "[DONE]",
    ];
    let places: Vec<usize> = order.iter().map(|part| text.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    assert_eq!(text.matches("[DONE]").count(), 1);
    assert!(text.contains(r#""prompt_tokens":3,"#));
}

#[test]
fn a_stream_that_fails_ends_in_an_error() {
    let mut out = Vec::new();
    let mut chunks = Chunks::new(head(Endpoint::Chat, 1), 1, false);
    chunks.fail(&Refusal::new(RefusalCode::PeerLost, "gone"), &mut out);
    assert_eq!(
        text(out),
        "data: {\"error\":{\"message\":\"gone\",\"type\":\"api_error\",\"param\":null,\"code\":\"peer_lost\"}}\n\n"
    );
}

#[test]
fn models_are_listed_in_openais_shape() {
    let model = ListedModel {
        name: ModelName::new("Qwen/Q").unwrap(),
        digest: Some(ModelDigest([0xab; 32])),
        capabilities: Capabilities::GENERATE.with(Capabilities::TOOLS),
        context_tokens: 4096,
        local: false,
        peers: vec![PublicKey([0; 32])],
        slots_free: 2,
        about: About { parameters: Some(5), ..About::default() },
    };
    let digest = "ab".repeat(32);
    let peer = PublicKey([0; 32]).peer_id();
    let golden = format!(
        r#"{{"id":"Qwen/Q","object":"model","created":7,"owned_by":"arknet","max_model_len":4096,"arknet":{{"digest":"sha256:{digest}","context_tokens":4096,"capabilities":["generate","tools"],"local":false,"peers":["{peer}"],"slots_free":2,"parameters":5}}}}"#
    );
    assert_eq!(text(model_json(&model, 7)), golden);
    assert_eq!(text(models_json(&[model], 7)), format!(r#"{{"object":"list","data":[{golden}]}}"#));
    assert_eq!(models_json(&[], 7), br#"{"object":"list","data":[]}"#);
}
