//! Replies come from peers: whatever they send, in whatever order, what is written is JSON.

use arknet_types::{
    Alternative, FinishReason, ModelName, PublicKey, Refusal, RefusalCode, Reply, TokenLogprob,
    ToolCallPiece, Usage,
};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    chunks::Chunks,
    responses::{Events, Frame},
    *,
};
use crate::{Gathered, encode::Encode};

fn reply() -> impl Strategy<Value = Reply> {
    let finish = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        any::<u8>().prop_map(FinishReason::StopSequence),
    ];
    let usage = any::<(u32, u32, u32, u32)>().prop_map(|(p, c, cached, r)| Usage {
        prompt_tokens: p,
        completion_tokens: c,
        cached_tokens: cached,
        reasoning_tokens: r,
    });
    let bytes = proptest::collection::vec(any::<u8>(), 0..6);
    let likely = (bytes, prop_oneof![Just(f32::NEG_INFINITY), -9.0_f32..0.0]).prop_map(
        |(bytes, logprob)| {
            let top = vec![Alternative { token: 1, bytes: bytes.clone(), logprob }];
            Reply::Logprobs(vec![TokenLogprob { token: 1, bytes, logprob, top }])
        },
    );
    let text = ".{0,4}";
    prop_oneof![
        (text, any::<u32>()).prop_map(|(text, tokens)| Reply::Text { text, tokens }),
        (text, any::<u32>()).prop_map(|(text, tokens)| Reply::Reasoning { text, tokens }),
        (any::<u16>(), proptest::option::of(text), proptest::option::of(text), text).prop_map(
            |(index, id, name, arguments)| {
                Reply::ToolCall(ToolCallPiece { index, id, name, arguments, tokens: 1 })
            }
        ),
        likely,
        proptest::collection::vec(any::<u32>(), 0..3).prop_map(Reply::Tokens),
        Just(Reply::Scores(vec![f32::INFINITY])),
        (finish, usage).prop_map(|(finish, usage)| Reply::Done { finish, usage }),
    ]
}

fn all_json(out: Vec<u8>) {
    let text = String::from_utf8(out).expect("events are text");
    for line in text.lines() {
        if let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") {
            serde_json::from_str::<Value>(data).expect("data is JSON");
        } else {
            assert!(line.is_empty() || line.starts_with("event: ") || line.starts_with("data: [D"));
        }
    }
}

proptest! {
    #[test]
    fn whatever_replies_come_what_is_written_is_json(
        replies in proptest::collection::vec((0_usize..3, reply()), 0..24),
        include_usage: bool,
        chat: bool,
    ) {
        let refusal = Refusal::new(RefusalCode::PeerLost, "gone");
        let endpoint = if chat { Endpoint::Chat } else { Endpoint::Completion };
        let head = Head {
            endpoint,
            id: Head::id(endpoint, "1f"),
            created: 7,
            model: ModelName::new("m").unwrap(),
            n: 3,
            echo: vec!["\"".into()],
        };
        let mut chunks = Chunks::new(head.clone(), 3, include_usage);
        let asked = response(br#"{"model":"m","input":"a"}"#).unwrap();
        let mut events = Events::new(Frame::new("1f".into(), 7, &asked), 64, None);
        let (mut chunked, mut evented) = (Vec::new(), Vec::new());
        chunks.open(&mut chunked);
        events.open(&mut evented);
        for (index, reply) in replies.clone() {
            chunks.choose(index);
            chunks.reply(reply.clone(), &mut chunked);
            if !events.is_full() {
                events.reply(reply, &mut evented);
            }
        }
        chunks.fail(&refusal, &mut chunked);
        events.fail(&refusal, &mut evented);
        all_json(chunked);
        all_json(evented);
        let mut whole = Gathered::new(PublicKey([0; 32]));
        for (_, reply) in replies {
            let _refused = whole.add(reply).is_err();
        }
        let json = head.answer_json(&[whole], true);
        prop_assert!(serde_json::from_slice::<Value>(&json).is_ok());
    }

    #[test]
    fn no_bytes_make_any_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let only = ModelName::new("m").unwrap();
        let _ = (response(&bytes).is_ok(), embeddings(&bytes).is_ok(), rerank(&bytes).is_ok());
        let _ = (tokenize(&bytes, Some(&only)).is_ok(), detokenize(&bytes, None).is_ok());
    }

    #[test]
    fn no_almost_requests_make_any_parser_panic(
        parts in proptest::collection::vec(fragment(), 0..16),
    ) {
        let body = format!("{{\"model\":\"m\",{}}}", parts.join(","));
        let body = body.as_bytes();
        if let Ok(mut asked) = response(body) {
            let _ = asked.after(&[]).is_ok();
        }
        let _ = (embeddings(body).is_ok(), rerank(body).is_ok(), chat(body).is_ok());
        let _ = (tokenize(body, None).is_ok(), detokenize(body, None).is_ok());
    }
}

/// Fields of requests with values that are almost right.
fn fragment() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        Just("input"),
        Just("messages"),
        Just("tools"),
        Just("tool_choice"),
        Just("text"),
        Just("instructions"),
        Just("documents"),
        Just("tokens"),
        Just("metadata"),
        Just("response_format"),
        Just("structured_outputs"),
        Just("top_logprobs"),
        Just("dimensions"),
    ];
    let value = prop_oneof![
        Just(r#""x""#),
        Just(r#"[{"role":"user","content":"a"}]"#),
        Just(r#"[{"type":"function_call","call_id":"i","name":"f","arguments":"{"}]"#),
        Just(r#"[{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}]}]"#),
        Just(r#"[{"type":"function","name":"f","function":{"name":"g","parameters":{}}}]"#),
        Just(r#"{"type":"json_schema","json_schema":{"schema":{"a":[]}}}"#),
        Just(r#"{"type":"allowed_tools","tools":[{"name":"f"}]}"#),
        Just(r#"{"format":{"type":"json_object"}}"#),
        Just(r#"{"choice":["(","\\"]}"#),
        Just("[1,2]"),
        Just("{}"),
        Just("null"),
        Just("4294967295"),
        Just("-1e40"),
    ];
    (field, value).prop_map(|(field, value)| format!("\"{field}\":{value}"))
}
