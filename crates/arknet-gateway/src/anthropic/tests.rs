use arknet_types::{
    Chat, FinishReason, Format, Input, Message, Part, PublicKey, Reasoning, Refusal, RefusalCode,
    Reply, Role, ToolCall, ToolCallPiece, ToolChoice, Usage,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Asked, Head, Thoughts,
    answer::{Events, count_json},
    count_tokens, messages,
};
use crate::{Gathered, encode::Encode};

/// A request with these fields beside the ones that must be there.
fn parse(fields: Value) -> Result<Asked, crate::ApiError> {
    let mut body = json!({
        "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]
    });
    let fields = fields.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    messages(body.to_string().as_bytes())
}

fn chat(fields: Value) -> Chat {
    match parse(fields).unwrap().ask.infer.input {
        Input::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

#[test]
fn the_plainest_request() {
    let asked = parse(json!({})).unwrap();
    assert!(!asked.stream);
    assert_eq!(asked.thoughts, Thoughts::None);
    assert_eq!(asked.ask.infer.max_tokens, Some(9));
    let chat = chat(json!({}));
    assert_eq!(chat.messages, [user("hi")]);
    assert_eq!(chat.reasoning, Reasoning::Off);
    assert!(chat.parallel_tool_calls);
}

/// What coding agents send, as far as it is odd.
#[test]
fn an_agents_request() {
    let asked = parse(json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 32000,
        "stream": true,
        "temperature": 1,
        "top_k": 5,
        "top_p": 0.5,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "betas": ["x"],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "mcp_servers": [],
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cch=1f2e;"},
            {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}},
            {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
        ],
        "tools": [
            {
                "name": "Read", "description": "Reads.", "cache_control": {"type": "ephemeral"},
                "input_schema": {"type": "object", "properties": {"z": {}, "a": {}}}
            },
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
            {"type": "bash_20250124", "name": "bash"}
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}
    }))
    .unwrap();
    assert!(asked.stream);
    assert_eq!(asked.thoughts, Thoughts::Shown);
    let infer = asked.ask.infer;
    assert_eq!(infer.stop, ["END"]);
    assert_eq!((infer.sampling.top_k, infer.sampling.top_p), (5, 0.5));
    let Input::Chat(chat) = infer.input else { panic!() };
    assert_eq!(chat.messages[0], Message::new(Role::System, "Be brief.\n\nBe kind."));
    assert_eq!(chat.reasoning, Reasoning::Auto);
    assert!(!chat.parallel_tool_calls);
    let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["Read", "bash"]);
    // Order is part of a schema's meaning for those who write along it.
    let schema = &chat.tools[0].parameters;
    assert!(serde_json::from_str::<Value>(schema).unwrap()["properties"].is_object());
}

#[test]
fn blocks_become_messages() {
    let png = "iVBORw0KGgo=";
    let image = json!({
        "type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png}
    });
    let chat = chat(json!({"messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
            image
        ]},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "xx"},
            {"type": "text", "text": "calling"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"z":1,"a":2}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
            {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "error"}}
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "fine"},
            {"type": "tool_result", "tool_use_id": "t2", "is_error": true, "content": [
                {"type": "text", "text": "no"},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}},
                {"type": "text", "text": "way"}
            ]},
            {"type": "text", "text": "go on"}
        ]},
        {"role": "system", "content": "new rules"},
        {"role": "user", "content": [
            {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}},
            {"type": "search_result", "title": "S", "source": "where", "content": [{"type": "text", "text": "W"}]}
        ]},
        {"role": "assistant", "content": "begun "}
    ]}));
    let roles: Vec<_> = chat.messages.iter().map(|m| m.role.as_str()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "tool", "user", "assistant"]);
    let first = &chat.messages[0];
    assert_eq!(first.parts[0], Part::Text("a\nb".into()));
    assert!(matches!(&first.parts[1], Part::Image(_)));
    assert_eq!(first.parts[2], Part::Text("c".into()));
    let spoken = &chat.messages[1];
    assert_eq!(spoken.reasoning.as_deref(), Some("hm"));
    assert_eq!(spoken.text(), "calling");
    assert_eq!(spoken.tool_calls.len(), 2);
    let call = ToolCall { id: "t2".into(), name: "g".into(), arguments: "{}".into() };
    assert_eq!(spoken.tool_calls[1], call);
    assert_eq!(chat.messages[2].tool_call_id.as_deref(), Some("t1"));
    assert_eq!(chat.messages[3].text(), "Error: no\n[a document that cannot be read here]\nway");
    let reminder = "<system-reminder>\nnew rules\n</system-reminder>";
    assert_eq!(chat.messages[4].text(), format!("go on\n{reminder}\nT\nD\nS\nwhere\nW"));
    assert_eq!(chat.messages[5].text(), "begun ");
}

#[test]
fn the_system_speaks_first() {
    let chat = chat(json!({"system": "a", "messages": [
        {"role": "system", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
        {"role": "system", "content": "e"}
    ]}));
    let said: Vec<_> = chat.messages.iter().map(|m| (m.role.as_str(), m.text())).collect();
    let said: Vec<_> = said.iter().map(|(role, text)| (*role, text.as_str())).collect();
    let reminder = "<system-reminder>\ne\n</system-reminder>";
    assert_eq!(said, [("system", "a\n\nb"), ("user", "c"), ("assistant", "d"), ("user", reminder)]);
}

#[test]
fn arguments_are_passed_on_as_they_were_written() {
    let body = br#"{"model":"m","max_tokens":1,"messages":[
        {"role":"assistant","content":[{"type":"tool_use","id":"i","name":"f","input":{"z": 1,"a":2}}]},
        {"role":"user","content":"x"}]}"#;
    let Input::Chat(chat) = messages(body).unwrap().ask.infer.input else { panic!() };
    assert_eq!(chat.messages[0].tool_calls[0].arguments, r#"{"z": 1,"a":2}"#);
}

#[test]
fn an_answer_that_was_begun_with_nothing_was_not_begun() {
    for content in [json!(""), json!([]), json!([{"type": "text", "text": ""}])] {
        let chat = chat(json!({"messages": [
            {"role": "user", "content": "a"}, {"role": "assistant", "content": content}
        ]}));
        assert_eq!(chat.messages, [user("a")]);
    }
}

#[test]
fn thinking_is_what_the_client_asks_for() {
    for (thinking, reasoning, thoughts) in [
        (json!({"type": "enabled", "budget_tokens": 1024}), Reasoning::On, Thoughts::Shown),
        (json!({"type": "adaptive"}), Reasoning::Auto, Thoughts::Shown),
        (json!({"type": "adaptive", "display": "omitted"}), Reasoning::Auto, Thoughts::Omitted),
        (json!({"type": "between_tools"}), Reasoning::Auto, Thoughts::Shown),
        (json!({"type": "disabled"}), Reasoning::Off, Thoughts::None),
        (Value::Null, Reasoning::Off, Thoughts::None),
    ] {
        let fields = json!({"thinking": thinking});
        assert_eq!(parse(fields.clone()).unwrap().thoughts, thoughts);
        assert_eq!(chat(fields).reasoning, reasoning);
    }
}

#[test]
fn choices_of_tools() {
    let f = json!({"name": "f", "input_schema": {"type": "object"}});
    for (choice, expected) in [
        (json!({"type": "auto"}), ToolChoice::Auto),
        (json!({"type": "any"}), ToolChoice::Required),
        (json!({"type": "none"}), ToolChoice::None),
        (json!({"type": "tool", "name": "f"}), ToolChoice::Named("f".into())),
    ] {
        let chat = chat(json!({"tools": [f], "tool_choice": choice}));
        assert_eq!(chat.tool_choice, expected);
    }
}

#[test]
fn a_schema_for_the_answer() {
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    for fields in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
        let asked = parse(fields).unwrap();
        assert_eq!(asked.ask.infer.format, Format::JsonSchema(r#"{"type":"object"}"#.into()));
    }
}

/// Fields, the parameter that is at fault, and the status.
#[test]
fn mistakes_are_named() {
    let f = json!({"name": "f", "input_schema": {"type": "object"}});
    let search = json!({"type": "web_search_20250305", "name": "web_search"});
    let content = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    for (fields, param, status) in [
        (json!({"model": null}), "model", 400),
        (json!({"model": ""}), "model", 400),
        (json!({"model": "no name"}), "model", 404),
        (json!({"model": 5}), "model", 400),
        (json!({"max_tokens": null}), "max_tokens", 400),
        (json!({"max_tokens": 0}), "max_tokens", 400),
        (json!({"max_tokens": -1}), "max_tokens", 400),
        (json!({"max_tokens": "9"}), "max_tokens", 400),
        (json!({"messages": null}), "messages", 400),
        (json!({"messages": []}), "messages", 400),
        (json!({"messages": "hi"}), "messages", 400),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", 400),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role", 400),
        (json!({"temperature": 3}), "temperature", 400),
        (json!({"top_p": "x"}), "top_p", 400),
        (json!({"stop_sequences": [""]}), "stop", 400),
        (json!({"stop_sequences": "x"}), "stop_sequences", 400),
        (json!({"stream": 1}), "stream", 400),
        (json!({"thinking": {"type": "sometimes"}}), "thinking.type", 400),
        (json!({"system": 5}), "system", 400),
        (json!({"system": [{"type": "image"}]}), "system[0].type", 400),
        (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema", 400),
        (json!({"tools": [{"name": "f", "input_schema": 5}]}), "tools[0].input_schema", 400),
        (json!({"tools": [{"input_schema": {}}]}), "tools[0].name", 400),
        (json!({"tools": [f], "tool_choice": {"type": "tool"}}), "tool_choice.name", 400),
        (json!({"tools": [f], "tool_choice": {"type": "tool", "name": "g"}}), "tool_choice", 400),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice", 400),
        (json!({"tools": [search], "tool_choice": {"type": "any"}}), "tool_choice", 400),
        (
            json!({"tools": [f, search], "tool_choice": {"type": "tool", "name": "web_search"}}),
            "tool_choice",
            400,
        ),
        (json!({"output_format": {"type": "grammar"}}), "output_format.type", 400),
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema", 400),
        (content(json!({"type": "text"})), "messages[0].content", 400),
        (content(json!([{"type": "text"}])), "messages[0].content[0].text", 400),
        (content(json!([{"type": "audio"}])), "messages[0].content[0].type", 400),
        (content(json!([{"type": "tool_use"}])), "messages[0].content[0].type", 400),
        (content(json!([{"type": "tool_result"}])), "messages[0].content[0].tool_use_id", 400),
        (content(json!([{"type": "image"}])), "messages[0].content[0].source", 400),
        (
            content(json!([{"type": "image", "source": {"type": "url", "url": "http://x"}}])),
            "messages[0].content[0].source",
            400,
        ),
        (
            content(json!([{"type": "image", "source": {"type": "base64", "data": "PHN2Zz4="}}])),
            "messages[0].content[0].source",
            400,
        ),
        (
            content(
                json!([{"type": "document", "source": {"type": "base64", "data": "JVBERg=="}}]),
            ),
            "messages[0].content[0].source",
            400,
        ),
    ] {
        let words = fields.to_string();
        let error = parse(fields).map(|_| ()).expect_err(&words);
        assert_eq!((error.param(), error.status().as_u16()), (Some(param), status), "{words}");
    }
}

#[test]
fn what_is_no_object_is_a_mistake() {
    for body in [&b"{"[..], b"[]", b"", b"null", b"{\"model\":\"\xff\"}", b"\xff\xfe"] {
        assert_eq!(messages(body).map(|_| ()).unwrap_err().status().as_u16(), 400);
        assert_eq!(count_tokens(body).map(|_| ()).unwrap_err().status().as_u16(), 400);
    }
}

#[test]
fn tokens_are_counted_of_the_same_conversation() {
    let body = br#"{"model":"m","system":"s","messages":[{"role":"user","content":"hi"}]}"#;
    let Input::Count(chat) = count_tokens(body).unwrap().infer.input else { panic!() };
    assert_eq!(chat.messages.len(), 2);
    let usage = Usage { prompt_tokens: 7, ..Usage::default() };
    assert_eq!(count_json(usage), br#"{"input_tokens":7}"#);
}

fn head(thoughts: Thoughts) -> Head {
    Head { id: "msg_1".into(), model: "m".into(), stop: vec!["END".into()], thoughts }
}

fn text(text: &str) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

fn thought(text: &str) -> Reply {
    Reply::Reasoning { text: text.into(), tokens: 1 }
}

fn piece(index: u16, name: Option<&str>, arguments: &str) -> Reply {
    Reply::ToolCall(ToolCallPiece {
        index,
        id: name.map(|name| format!("toolu_{name}")),
        name: name.map(Into::into),
        arguments: arguments.into(),
        tokens: 1,
    })
}

fn done(finish: FinishReason) -> Reply {
    let usage =
        Usage { prompt_tokens: 10, completion_tokens: 5, cached_tokens: 4, reasoning_tokens: 0 };
    Reply::Done { finish, usage }
}

fn stream(thoughts: Thoughts, replies: Vec<Reply>) -> String {
    let mut events = Events::new(head(thoughts));
    let mut out = Vec::new();
    events.open(&mut out);
    for reply in replies {
        events.reply(reply, &mut out);
    }
    String::from_utf8(out).unwrap()
}

const BEGIN: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",",
    "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],",
    "\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,",
    "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
);

fn end(reason: &str) -> String {
    format!(
        "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{{reason}}},\
         \"usage\":{{\"input_tokens\":6,\"cache_creation_input_tokens\":0,\
         \"cache_read_input_tokens\":4,\"output_tokens\":5}}}}\n\n\
         event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n"
    )
}

#[test]
fn the_events_of_a_text() {
    let golden = [
        BEGIN,
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
         \"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{\"type\":\"text_delta\",\"text\":\"\\n\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        &end(r#""stop_reason":"end_turn","stop_sequence":null"#),
    ];
    let replies = vec![text("a"), text(""), text("\n"), done(FinishReason::Stop), text("late")];
    assert_eq!(stream(Thoughts::None, replies), golden.concat());
}

#[test]
fn the_events_of_thoughts_and_calls() {
    let golden = [
        BEGIN,
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
         \"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\
         \"delta\":{\"type\":\"signature_delta\",\"signature\":\"YXJrbmV0\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\
         \"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_f\",\"name\":\"f\",\"input\":{}}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\
         \"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"a\\\":\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\
         \"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"1}\"}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":2,\
         \"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_g\",\"name\":\"g\",\"input\":{}}}\n\n",
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n",
        &end(r#""stop_reason":"tool_use","stop_sequence":null"#),
    ];
    let replies = vec![
        thought("hm"),
        piece(0, Some("f"), ""),
        piece(0, None, "{\"a\":"),
        piece(0, None, "1}"),
        piece(1, Some("g"), ""),
        done(FinishReason::ToolCalls),
    ];
    assert_eq!(stream(Thoughts::Shown, replies.clone()), golden.concat());
    assert!(!stream(Thoughts::None, replies.clone()).contains("thinking"));
    let omitted = stream(Thoughts::Omitted, replies);
    assert!(omitted.contains("signature_delta") && !omitted.contains("hm"));
}

#[test]
fn ends_and_their_reasons() {
    for (finish, reason) in [
        (FinishReason::Stop, r#""stop_reason":"end_turn","stop_sequence":null"#),
        (FinishReason::Length, r#""stop_reason":"max_tokens","stop_sequence":null"#),
        (FinishReason::StopSequence(0), r#""stop_reason":"stop_sequence","stop_sequence":"END""#),
        (FinishReason::StopSequence(9), r#""stop_reason":"end_turn","stop_sequence":null"#),
    ] {
        assert_eq!(stream(Thoughts::None, vec![done(finish)]), [BEGIN, &end(reason)].concat());
    }
}

#[test]
fn a_stream_that_breaks_says_so_in_its_last_event() {
    let mut events = Events::new(head(Thoughts::None));
    let mut out = Vec::new();
    events.fail(&Refusal::new(RefusalCode::PeerLost, "gone"), &mut out);
    events.fail(&Refusal::new(RefusalCode::PeerLost, "gone"), &mut out);
    events.reply(text("late"), &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"gone\"}}\n\n"
    );
}

#[test]
fn a_whole_answer() {
    let gathered = Gathered {
        text: "hi".into(),
        reasoning: "hm".into(),
        tool_calls: vec![
            ToolCall { id: "i".into(), name: "f".into(), arguments: r#"{"b":1,"a":2}"#.into() },
            ToolCall { id: "j".into(), name: "g".into(), arguments: "broken".into() },
        ],
        usage: Usage {
            prompt_tokens: 10,
            completion_tokens: 5,
            cached_tokens: 4,
            reasoning_tokens: 2,
        },
        ..Gathered::new(PublicKey([0; 32]))
    };
    assert_eq!(
        String::from_utf8(head(Thoughts::Shown).message_json(&gathered)).unwrap(),
        concat!(
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":["#,
            r#"{"type":"thinking","thinking":"hm","signature":"YXJrbmV0"},"#,
            r#"{"type":"text","text":"hi"},"#,
            r#"{"type":"tool_use","id":"i","name":"f","input":{"b":1,"a":2}},"#,
            r#"{"type":"tool_use","id":"j","name":"g","input":{"arguments":"broken"}}],"#,
            r#""stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":6,"#,
            r#""cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":5,"#,
            r#""output_tokens_details":{"thinking_tokens":2}}}"#,
        )
    );
    let plain = head(Thoughts::None).message_json(&gathered);
    assert!(!String::from_utf8(plain).unwrap().contains("\"type\":\"thinking\""));
}

fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let name = prop_oneof![Just(None), Just(Some("f"))];
    let one = prop_oneof![
        "[a-c\n\"\\\\]{0,4}".prop_map(|t| text(&t)),
        "[a-c]{0,4}".prop_map(|t| thought(&t)),
        (0_u16..3, name, "[{}a]{0,3}").prop_map(|(i, name, arguments)| piece(i, name, &arguments)),
        Just(Reply::Alive),
        Just(Reply::Logprobs(vec![])),
        Just(done(FinishReason::Stop)),
        Just(Reply::Refused(Refusal::new(RefusalCode::Busy, "x"))),
    ];
    prop::collection::vec(one, 0..24)
}

/// Checks the grammar of events; returns all of the text.
fn check(stream: &str) -> String {
    let (mut open, mut next, mut ended, mut whole) = (None, 0, false, String::new());
    for (number, event) in stream.split_terminator("\n\n").enumerate() {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        let name = name.strip_prefix("event: ").unwrap();
        assert_eq!(data["type"], name);
        assert!(!ended, "{name} after the end");
        assert_eq!(name == "message_start", number == 0);
        match name {
            "message_start" | "ping" => {}
            "content_block_start" => {
                assert_eq!((open, data["index"].as_u64()), (None, Some(next)));
                open =
                    Some(data["content_block"]["type"].as_str().unwrap().to_owned()).map(|kind| {
                        match kind.as_str() {
                            "text" => "text_delta",
                            "thinking" => "thinking_delta",
                            _ => "input_json_delta",
                        }
                    });
                next += 1;
            }
            "content_block_delta" => {
                assert_eq!(data["index"].as_u64(), Some(next - 1));
                let kind = data["delta"]["type"].as_str().unwrap();
                assert!(
                    open == Some(kind)
                        || (open == Some("thinking_delta") && kind == "signature_delta")
                );
                whole.push_str(data["delta"]["text"].as_str().unwrap_or_default());
            }
            "content_block_stop" => {
                assert!(open.take().is_some());
                assert_eq!(data["index"].as_u64(), Some(next - 1));
            }
            "message_delta" => assert_eq!(open, None),
            "message_stop" | "error" => ended = true,
            other => panic!("{other}"),
        }
    }
    whole
}

proptest! {
    #[test]
    fn no_order_of_replies_breaks_the_grammar(replies in replies(), shown in any::<bool>()) {
        let thoughts = if shown { Thoughts::Shown } else { Thoughts::Omitted };
        let whole: String = replies
            .iter()
            .take_while(|r| !matches!(r, Reply::Done { .. } | Reply::Refused(_)))
            .filter_map(|r| match r { Reply::Text { text, .. } => Some(text.as_str()), _ => None })
            .collect();
        prop_assert_eq!(check(&stream(thoughts, replies)), whole);
    }

    #[test]
    fn no_bytes_break_the_parser(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _answered = (messages(&body).is_ok(), count_tokens(&body).is_ok());
    }
}
