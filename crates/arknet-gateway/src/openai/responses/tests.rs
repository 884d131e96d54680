use arknet_types::{
    Alternative, Chat, FinishReason, Format, InferRequest, Input, Message, ModelName, Part,
    Reasoning, Refusal, RefusalCode, Reply, Role, TokenLogprob, Tool, ToolCall, ToolCallPiece,
    ToolChoice, Usage,
};
use serde_json::{Value, json};

use super::*;
use crate::encode::Encode;

fn asked(json: &str) -> ResponseAsked {
    response(format!(r#"{{"model":"m",{json}}}"#).as_bytes()).unwrap()
}

fn chat(asked: ResponseAsked) -> Chat {
    match asked.request.input {
        Input::Chat(chat) => chat,
        _ => panic!("a response comes of a chat"),
    }
}

fn assistant(text: Option<&str>, reasoning: Option<&str>, calls: &[&str]) -> Message {
    let call = |id: &&str| ToolCall { id: (*id).into(), name: "f".into(), arguments: "{}".into() };
    Message {
        parts: text.into_iter().map(|text| Part::Text(text.into())).collect(),
        reasoning: reasoning.map(Into::into),
        tool_calls: calls.iter().map(call).collect(),
        ..Message::new(Role::Assistant, "")
    }
}

#[test]
fn items_become_turns() {
    let user = || Message::new(Role::User, "hi");
    let said = r#"{"type":"message","id":"msg_1","role":"assistant","status":"completed","content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[]}]}"#;
    let call = |id: &str| {
        format!(
            r#"{{"type":"function_call","id":"fc_1","call_id":"{id}","name":"f","arguments":"{{}}","status":"completed"}}"#
        )
    };
    let thought = r#"{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"r"}],"encrypted_content":null}"#;
    let result = Message { tool_call_id: Some("i".into()), ..Message::new(Role::Tool, "x") };
    let hi = r#"{"role":"user","content":"hi"}"#;
    for (items, expected) in [
        (r#""hi""#.to_owned(), vec![user()]),
        (format!("[{hi}]"), vec![user()]),
        (
            r#"[{"role":"developer","content":[{"type":"input_text","text":"d"}]}]"#.to_owned(),
            vec![Message::new(Role::System, "d")],
        ),
        (format!("[{hi},{said}]"), vec![user(), assistant(Some("a"), None, &[])]),
        (
            format!("[{hi},{thought},{said},{},{}]", call("i"), call("j")),
            vec![user(), assistant(Some("a"), Some("r"), &["i", "j"])],
        ),
        (
            format!(
                r#"[{},{{"type":"function_call_output","call_id":"i","output":"x"}},{thought},{said}]"#,
                call("i")
            ),
            vec![assistant(None, None, &["i"]), result, assistant(Some("a"), Some("r"), &[])],
        ),
        (
            format!("[{said},{thought},{}]", call("i")),
            vec![assistant(Some("a"), None, &[]), assistant(None, Some("r"), &["i"])],
        ),
    ] {
        assert_eq!(chat(asked(&format!(r#""input":{items}"#))).messages, expected, "{items}");
    }
}

#[test]
fn tools_in_groups_are_tools_and_those_that_openai_runs_are_left_out() {
    let json = r#""tools":[
        {"type":"function","name":"f"},
        {"type":"web_search","external_web_access":false},
        {"type":"namespace","name":"mcp","tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}]}
    ],"tool_choice":"auto","input":[{"role":"user","content":"hi"},
        {"type":"function_call","call_id":"i","name":"f","namespace":"mcp","arguments":"{}"},
        {"type":"web_search_call","id":"ws_1","status":"completed"},
        {"type":"function_call_output","call_id":"i","output":"x"}]"#;
    let asked = asked(json);
    let frame = Frame::new("1f".into(), 7, &asked);
    let chat = chat(asked);
    let names: Vec<_> = chat.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["f", "mcp__f", "g"]);
    assert_eq!(chat.messages[1].tool_calls[0].name, "mcp__f");
    let call = |name: &str| {
        let (id, arguments) = ("i".into(), "{}".into());
        Item::Called(ToolCall { id, name: name.into(), arguments })
    };
    let mut out = vec![];
    let items = ["f", "mcp__f", "g"].map(call);
    frame.write(&mut out, &items, Status::Completed(Usage::default()));
    let told: Value = serde_json::from_slice(&out).unwrap();
    let told = told["output"].as_array().unwrap().iter();
    let told: Vec<_> = told.map(|item| (item["namespace"].clone(), item["name"].clone())).collect();
    let expected = [(json!(null), "f"), (json!("mcp"), "f"), (json!("mcp"), "g")];
    assert_eq!(told, expected.map(|(group, name)| (group, json!(name))));
    for wrong in [
        r#"{"type":"custom","name":"a"}"#,
        r#"{"type":"namespace","tools":[]}"#,
        r#"{"type":"namespace","name":"a b","tools":[]}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"function","name":"a"},{"type":"function","name":"a"},{"type":"function","name":"a"}]}"#,
        r#"{"type":"namespace","name":"n","tools":[{"type":"namespace","name":"n","tools":[]}]}"#,
    ] {
        let body = format!(r#"{{"model":"m","input":"hi","tools":[{wrong}]}}"#);
        assert!(response(body.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn few_letters_do_not_bring_back_more_than_a_request_may_hold() {
    let long = "a".repeat(arknet_types::limits::INPUT_BYTES_MAX / 2);
    let recall = |_: &str| Some(Item::Said(long.clone(), vec![]));
    let ask = |times: usize| {
        let items = vec![r#"{"id":"msg_00"}"#; times].join(",");
        response_after(format!(r#"{{"model":"m","input":[{items}]}}"#).as_bytes(), &recall)
    };
    assert!(ask(2).is_ok());
    assert_eq!(ask(3).unwrap_err().param(), Some("input"));
}

#[test]
fn parameters_are_mapped() {
    type Change = fn(&mut InferRequest);
    let base = || {
        let chat = Chat::new(vec![Message::new(Role::User, "hi")]);
        InferRequest::new(ModelName::new("m").unwrap(), Input::Chat(chat))
    };
    fn of(request: &mut InferRequest) -> &mut Chat {
        match &mut request.input {
            Input::Chat(chat) => chat,
            _ => panic!("a response comes of a chat"),
        }
    }
    let table: [(&str, Change); 10] = [
        (r#""max_output_tokens":5"#, |r| r.max_tokens = Some(5)),
        (r#""temperature":0.5,"top_p":0.25"#, |r| {
            (r.sampling.temperature, r.sampling.top_p) = (0.5, 0.25);
        }),
        (r#""reasoning":{"effort":"none","summary":"auto"}"#, |r| of(r).reasoning = Reasoning::Off),
        (r#""reasoning":{"effort":"high"}"#, |r| of(r).reasoning = Reasoning::On),
        (r#""text":{"format":{"type":"text"},"verbosity":"low"}"#, |_| {}),
        (r#""text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{}}}"#, |r| {
            r.format = Format::JsonSchema("{}".into())
        }),
        (r#""top_logprobs":2"#, |r| r.logprobs = Some(2)),
        (r#""include":["message.output_text.logprobs"],"top_logprobs":0"#, |r| {
            r.logprobs = Some(0)
        }),
        (
            r#""tools":[{"type":"function","name":"f","strict":true,"parameters":{}}],"tool_choice":{"type":"function","name":"f"}"#,
            |r| {
                let parameters = "{}".into();
                of(r).tools = vec![Tool { name: "f".into(), description: None, parameters }];
                of(r).tool_choice = ToolChoice::Named("f".into());
            },
        ),
        (
            r#""user":"u","truncation":"auto","service_tier":"auto","include":["reasoning.encrypted_content"],"background":false,"prompt_cache_key":"k""#,
            |_| {},
        ),
    ];
    for (json, change) in table {
        let mut expected = base();
        change(&mut expected);
        assert_eq!(asked(&format!(r#""input":"hi",{json}"#)).request, expected, "{json}");
    }
    let plain = asked(r#""input":"hi""#);
    assert!(plain.store && !plain.stream && plain.previous.is_none());
    let other = asked(r#""input":"hi","store":false,"stream":true,"previous_response_id":"r""#);
    assert!(!other.store && other.stream && other.previous.as_deref() == Some("r"));
}

#[test]
fn mistakes_are_named() {
    for (json, param) in [
        (r#""stream":true"#, "input"),
        (r#""input":5"#, "input"),
        (r#""input":["a"]"#, "input[0]"),
        (r#""input":[{"content":"a"}]"#, "input[0].role"),
        (r#""input":[{"role":"tool","content":"a"}]"#, "input[0].role"),
        (r#""input":[{"role":"user"}]"#, "input[0].content"),
        (r#""input":[{"type":"item_reference","id":"x"}]"#, "input[0].id"),
        (r#""input":[{"type":"custom_tool_call","call_id":"x"}]"#, "input[0].type"),
        (r#""input":[{"type":"function_call","name":"f"}]"#, "input[0].call_id"),
        (r#""input":[{"type":"function_call","call_id":"i"}]"#, "input[0].name"),
        (r#""input":[{"type":"function_call_output","call_id":"i"}]"#, "input[0].output"),
        (
            r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"http://x/"}]}]"#,
            "input[0].content[0].image_url",
        ),
        (
            r#""input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]"#,
            "input[0].content[0]",
        ),
        (r#""input":"a","background":true"#, "background"),
        (r#""input":"a","conversation":"c""#, "conversation"),
        (r#""input":"a","prompt":{"id":"p"}"#, "prompt"),
        (r#""input":"a","moderation":{"model":"m"}"#, "moderation"),
        (r#""input":"a","tools":[{"type":"mcp"}]"#, "tools[0].type"),
        (
            r#""input":"a","tools":[{"type":"web_search"}],"tool_choice":{"type":"web_search"}"#,
            "tool_choice.type",
        ),
        (r#""input":"a","tools":[{"type":"function"}]"#, "tools[0].function"),
        (r#""input":"a","reasoning":{"effort":"some"}"#, "reasoning.effort"),
        (r#""input":"a","text":{"format":{"type":"xml"}}"#, "text.format.type"),
        (r#""input":"a","metadata":[]"#, "metadata"),
        (r#""input":"a","metadata":{"a":"\ud800"}"#, "metadata"),
    ] {
        let error = response(format!(r#"{{"model":"m",{json}}}"#).as_bytes()).unwrap_err();
        assert_eq!((error.status().as_u16(), error.param()), (400, Some(param)), "{json}");
    }
    for (json, param) in [
        (r#""input":[]"#, "input"),
        (r#""input":"a","max_output_tokens":0"#, "max_output_tokens"),
        (r#""input":"a","top_logprobs":21"#, "top_logprobs"),
        (r#""input":"a","temperature":3"#, "temperature"),
        (r#""input":"a","tool_choice":"required""#, "tool_choice"),
    ] {
        let error = asked(json).after(&[]).unwrap_err();
        assert_eq!((error.status().as_u16(), error.param()), (400, Some(param)), "{json}");
    }
}

#[test]
fn the_scene_is_set_for_one_turn() {
    for input in [r#""hi""#, r#"[{"role":"system","content":"s"},{"role":"user","content":"hi"}]"#]
    {
        let plain = chat(asked(&format!(r#""input":{input}"#))).messages;
        let mut one = asked(&format!(r#""instructions":"i","input":{input}"#));
        one.after(&[]).unwrap();
        let mut messages = match &one.request.input {
            Input::Chat(chat) => chat.messages.clone(),
            _ => panic!("a response comes of a chat"),
        };
        assert_eq!(messages[0].role, Role::System);
        assert!(messages[0].text().starts_with('i'));
        one.forget_instructions(&mut messages);
        assert_eq!(messages, plain);
    }
    let mut second = asked(r#""input":"b""#);
    let before = [Message::new(Role::User, "a"), assistant(Some("x"), None, &[])];
    second.after(&before).unwrap();
    let texts: Vec<String> = chat(second).messages.iter().map(Message::text).collect();
    assert_eq!(texts, ["a", "x", "b"]);
}

fn frame(json: &str) -> Frame {
    Frame::new("1f".into(), 7, &asked(json))
}

const USAGE: Usage =
    Usage { prompt_tokens: 3, completion_tokens: 4, cached_tokens: 2, reasoning_tokens: 1 };

fn events(events: &mut Events, replies: impl IntoIterator<Item = Reply>) -> Vec<Value> {
    let mut out = Vec::new();
    events.open(&mut out);
    replies.into_iter().for_each(|reply| events.reply(reply, &mut out));
    read(out)
}

fn read(out: Vec<u8>) -> Vec<Value> {
    let text = String::from_utf8(out).unwrap();
    let blocks = text.strip_suffix("\n\n").unwrap().split("\n\n");
    let values = blocks.enumerate().map(|(number, block)| {
        let (name, data) = block.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
        assert_eq!(value["sequence_number"], number);
        value
    });
    values.collect()
}

fn text(text: &str) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

/// Thoughts, words and a call.
fn all_kinds() -> Vec<Reply> {
    let call = |id: Option<&str>, arguments: &str| {
        Reply::ToolCall(ToolCallPiece {
            index: 0,
            id: id.map(Into::into),
            name: id.map(|_| "f".into()),
            arguments: arguments.into(),
            tokens: 1,
        })
    };
    let likely = TokenLogprob {
        token: 1,
        bytes: b"a".into(),
        logprob: -0.5,
        top: vec![Alternative { token: 1, bytes: b"a".into(), logprob: -0.5 }],
    };
    vec![
        Reply::Reasoning { text: "hm".into(), tokens: 1 },
        Reply::Logprobs(vec![likely]),
        text("a"),
        text("b"),
        call(Some("i"), ""),
        call(None, "{}"),
        Reply::Done { finish: FinishReason::ToolCalls, usage: USAGE },
    ]
}

#[test]
fn events_come_in_openais_order() {
    let all = events(&mut Events::new(frame(r#""input":"hi""#), 1000, None), all_kinds());
    let names: Vec<&str> = all.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
}

#[test]
fn events_have_openais_shape() {
    let all = events(&mut Events::new(frame(r#""input":"hi""#), 1000, None), all_kinds());
    let likely = json!([{"token": "a", "bytes": [97], "logprob": -0.5, "top_logprobs": [{"token": "a", "bytes": [97], "logprob": -0.5}]}]);
    let message = json!({"id": "msg_1f01", "type": "message", "status": "completed", "role": "assistant", "content": [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": likely}]});
    let called = json!({"id": "fc_1f02", "type": "function_call", "status": "completed", "call_id": "i", "name": "f", "arguments": "{}"});
    for (index, expected) in [
        (
            8,
            json!({"type": "response.output_item.added", "sequence_number": 8, "output_index": 1, "item": {"id": "msg_1f01", "type": "message", "status": "in_progress", "role": "assistant", "content": []}}),
        ),
        (
            9,
            json!({"type": "response.content_part.added", "sequence_number": 9, "item_id": "msg_1f01", "output_index": 1, "content_index": 0, "part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}}),
        ),
        (
            10,
            json!({"type": "response.output_text.delta", "sequence_number": 10, "item_id": "msg_1f01", "output_index": 1, "content_index": 0, "delta": "a", "logprobs": likely}),
        ),
        (
            12,
            json!({"type": "response.output_text.done", "sequence_number": 12, "item_id": "msg_1f01", "output_index": 1, "content_index": 0, "text": "ab", "logprobs": likely}),
        ),
        (
            14,
            json!({"type": "response.output_item.done", "sequence_number": 14, "output_index": 1, "item": message}),
        ),
        (
            17,
            json!({"type": "response.function_call_arguments.done", "sequence_number": 17, "item_id": "fc_1f02", "output_index": 2, "name": "f", "arguments": "{}"}),
        ),
        (
            18,
            json!({"type": "response.output_item.done", "sequence_number": 18, "output_index": 2, "item": called}),
        ),
    ] {
        assert_eq!(all[index], expected);
    }
    let whole = &all[19]["response"];
    assert_eq!(whole["status"], "completed");
    assert_eq!(whole["output"][1], message);
    assert_eq!(whole["output"][2], called);
    assert_eq!(whole["output"][0]["content"], json!([{"type": "reasoning_text", "text": "hm"}]));
    assert_eq!(
        whole["usage"],
        json!({"input_tokens": 3, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 7})
    );
}

#[test]
fn an_answer_that_is_cut_is_incomplete() {
    let end = Reply::Done { finish: FinishReason::Length, usage: USAGE };
    let all = events(&mut Events::new(frame(r#""input":"hi""#), 1000, None), [text("a"), end]);
    let last = all.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
}

#[test]
fn an_answer_of_nothing_is_an_empty_message() {
    let end = Reply::Done { finish: FinishReason::Stop, usage: USAGE };
    let all = events(&mut Events::new(frame(r#""input":"hi""#), 1000, None), [end]);
    assert_eq!(all.last().unwrap()["response"]["output"][0]["content"][0]["text"], "");
}

#[test]
fn an_answer_that_fails_says_so_and_is_not_kept() {
    let keep: Keep = Box::new(|_, _| panic!("it is not complete"));
    let mut failing = Events::new(frame(r#""input":"hi""#), 1000, Some(keep));
    let mut out = Vec::new();
    failing.open(&mut out);
    failing.reply(text("a"), &mut out);
    failing.fail(&Refusal::new(RefusalCode::PeerLost, "gone"), &mut out);
    let all = read(out);
    let last = &all.last().unwrap()["response"];
    assert_eq!(last["status"], "failed");
    assert_eq!(last["error"], json!({"code": "server_error", "message": "gone"}));
    // More than is held of one answer.
    let mut full = Events::new(frame(r#""input":"hi""#), 5, None);
    let all = events(&mut full, [text("1234"), text("56")]);
    assert!(full.is_full());
    assert_eq!(all.last().unwrap()["type"], "response.failed");
}

#[test]
fn what_was_asked_is_found_in_the_answer_again() {
    let frame = frame(
        r#""input":"hi","instructions":"i","tools":[{"type":"function","name":"f","parameters":{"a":1}}],"text":{"format":{"type":"json_schema","name":"n","schema":{"b":2}}},"metadata":{"k":"v"},"max_output_tokens":9"#,
    );
    let mut out = Vec::new();
    frame.write(&mut out, &[Item::Said("x".into(), vec![])], Status::Completed(USAGE));
    let value: Value = serde_json::from_slice(&out).unwrap();
    for (field, expected) in [
        ("id", json!("resp_1f")),
        ("object", json!("response")),
        ("created_at", json!(7)),
        ("model", json!("m")),
        ("instructions", json!("i")),
        ("max_output_tokens", json!(9)),
        ("metadata", json!({"k": "v"})),
        (
            "tools",
            json!([{"type": "function", "name": "f", "description": null, "parameters": {"a": 1}, "strict": false}]),
        ),
        ("tool_choice", json!("auto")),
        (
            "text",
            json!({"format": {"type": "json_schema", "name": "n", "schema": {"b": 2}, "strict": true}}),
        ),
        ("previous_response_id", Value::Null),
        ("error", Value::Null),
        ("store", json!(true)),
    ] {
        assert_eq!(value[field], expected, "{field}");
    }
}
