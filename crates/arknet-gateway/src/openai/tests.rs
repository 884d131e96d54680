use arknet_types::{
    Chat, Format, Image, ImageFormat, InferRequest, Input, LogitBias, Message, ModelName, Part,
    Profile, Reasoning, Role, Tool, ToolCall, ToolChoice,
    limits::{
        COMPLETION_TOKENS_MAX, FORMAT_BYTES_MAX, INPUT_BYTES_MAX, LOGIT_BIASES_MAX, STOPS_MAX,
    },
};
use proptest::prelude::*;

use super::*;
use crate::{ApiError, CHOICES_MAX};

fn hello() -> InferRequest {
    let chat = Chat::new(vec![Message::new(Role::User, "hi")]);
    InferRequest::new(ModelName::new("m").unwrap(), Input::Chat(chat))
}

fn chat_of(request: &mut InferRequest) -> &mut Chat {
    match &mut request.input {
        Input::Chat(chat) => chat,
        _ => panic!("a chat stays a chat"),
    }
}

fn one(asked: Asked) -> InferRequest {
    let [request] = <[_; 1]>::try_from(asked.requests).unwrap();
    request
}

/// The smallest chat body with `more` in front of it.
fn chat_body(more: &str) -> String {
    format!(r#"{{{more}"model":"m","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

#[test]
fn the_smallest_chat_has_openais_defaults() {
    let asked = chat(chat_body("").as_bytes()).unwrap();
    assert!(!asked.stream && !asked.include_usage);
    assert_eq!(asked.n, 1);
    assert_eq!(one(asked), hello());
}

#[test]
fn every_parameter_is_mapped() {
    type Change = fn(&mut InferRequest);
    let table: [(&str, Change); 45] = [
        (r#""max_tokens":5"#, |r| r.max_tokens = Some(5)),
        (r#""max_completion_tokens":6"#, |r| r.max_tokens = Some(6)),
        (r#""max_tokens":5,"max_completion_tokens":6"#, |r| r.max_tokens = Some(6)),
        (r#""max_tokens":null"#, |_| {}),
        (r#""max_tokens":-1"#, |_| {}),
        (r#""max_tokens":4294967296"#, |r| r.max_tokens = Some(COMPLETION_TOKENS_MAX)),
        (r#""temperature":0"#, |r| r.sampling.temperature = 0.0),
        (r#""temperature":null"#, |_| {}),
        (r#""top_p":0.5"#, |r| r.sampling.top_p = 0.5),
        (r#""top_k":40"#, |r| r.sampling.top_k = 40),
        (r#""top_k":-1"#, |r| r.sampling.top_k = 0),
        (r#""min_p":0.25"#, |r| r.sampling.min_p = 0.25),
        (r#""presence_penalty":-2"#, |r| r.sampling.presence_penalty = -2.0),
        (r#""frequency_penalty":1.5"#, |r| r.sampling.frequency_penalty = 1.5),
        (r#""repeat_penalty":1.25"#, |r| r.sampling.repeat_penalty = 1.25),
        (r#""repetition_penalty":1.25"#, |r| r.sampling.repeat_penalty = 1.25),
        (r#""seed":7"#, |r| r.sampling.seed = Some(7)),
        (r#""seed":-1"#, |r| r.sampling.seed = Some(u64::MAX)),
        (r#""seed":-9223372036854775808"#, |r| r.sampling.seed = Some(1 << 63)),
        (r#""stop":"x""#, |r| r.stop = vec!["x".into()]),
        (r#""stop":["x","y"]"#, |r| r.stop = vec!["x".into(), "y".into()]),
        (r#""stop":[]"#, |_| {}),
        (r#""stop":null"#, |_| {}),
        (r#""logit_bias":{"5":-100,"6":1.5}"#, |r| {
            r.sampling.logit_bias =
                vec![LogitBias { token: 5, bias: -100.0 }, LogitBias { token: 6, bias: 1.5 }];
        }),
        (r#""logprobs":true"#, |r| r.logprobs = Some(0)),
        (r#""logprobs":true,"top_logprobs":20"#, |r| r.logprobs = Some(20)),
        (r#""profile":"exact""#, |r| r.profile = Profile::Exact),
        (r#""profile":"default""#, |_| {}),
        (r#""parallel_tool_calls":false"#, |r| chat_of(r).parallel_tool_calls = false),
        (r#""reasoning_effort":"none""#, |r| chat_of(r).reasoning = Reasoning::Off),
        (r#""reasoning_effort":"high""#, |r| chat_of(r).reasoning = Reasoning::On),
        (r#""reasoning":{"enabled":false}"#, |r| chat_of(r).reasoning = Reasoning::Off),
        (r#""enable_thinking":true"#, |r| chat_of(r).reasoning = Reasoning::On),
        (r#""thinking":{"type":"disabled"}"#, |r| chat_of(r).reasoning = Reasoning::Off),
        (r#""reasoning_effort":"high","chat_template_kwargs":{"enable_thinking":false}"#, |r| {
            chat_of(r).reasoning = Reasoning::Off;
        }),
        (r#""response_format":{"type":"json_object"}"#, |r| r.format = Format::JsonObject),
        (r#""response_format":{"type":"json_object","schema":{}}"#, |r| {
            r.format = Format::JsonSchema("{}".into());
        }),
        (
            r#""response_format":{"json_schema":{"name":"n","strict":true,"schema":{ "a":1}},"type":"json_schema"}"#,
            |r| r.format = Format::JsonSchema("{ \"a\":1}".into()),
        ),
        (r#""json_schema":{"a":1}"#, |r| r.format = Format::JsonSchema("{\"a\":1}".into())),
        (r#""guided_json":"{}""#, |r| r.format = Format::JsonSchema("{}".into())),
        (r#""grammar":"root ::= \"a\"""#, |r| r.format = Format::Gbnf("root ::= \"a\"".into())),
        (r#""grammar":"""#, |_| {}),
        (r#""structured_outputs":{"regex":"a+"}"#, |r| r.format = Format::Regex("a+".into())),
        (r#""structured_outputs":{"choice":["a.","b"]}"#, |r| {
            r.format = Format::Regex(r"(a\.|b)".into());
        }),
        (r#""guided_grammar":"start: \"a\"""#, |r| r.format = Format::Lark("start: \"a\"".into())),
    ];
    for (json, change) in table {
        let mut expected = hello();
        change(&mut expected);
        let asked = chat(chat_body(&format!("{json},")).as_bytes()).unwrap();
        assert_eq!(one(asked), expected, "{json}");
    }
}

#[test]
fn streams_are_asked_for() {
    for (json, stream, include_usage) in [
        (r#""stream":true"#, true, false),
        (r#""stream":false"#, false, false),
        (r#""stream":null,"stream_options":null"#, false, false),
        (r#""stream":true,"stream_options":{}"#, true, false),
        (
            r#""stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}"#,
            true,
            true,
        ),
    ] {
        let asked = chat(chat_body(&format!("{json},")).as_bytes()).unwrap();
        assert_eq!((asked.stream, asked.include_usage), (stream, include_usage), "{json}");
    }
}

#[test]
fn messages_are_mapped() {
    for (json, role, content) in [
        (r#"{"role":"system","content":"a"}"#, Role::System, "a"),
        (r#"{"role":"developer","content":"a"}"#, Role::System, "a"),
        (
            r#"{"role":"assistant","content":"a","refusal":null,"tool_calls":null}"#,
            Role::Assistant,
            "a",
        ),
        (
            r#"{"role":"assistant","content":"a","tool_calls":[],"annotations":[]}"#,
            Role::Assistant,
            "a",
        ),
        (r#"{"role":"tool","tool_call_id":"t","content":"a"}"#, Role::Tool, "a"),
        (r#"{"role":"user","name":"Zoe","content":""}"#, Role::User, ""),
        (r#"{"role":"user","content":[]}"#, Role::User, ""),
        (
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"text":"b","type":"text"}]}"#,
            Role::User,
            "a\nb",
        ),
        (
            r#"{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}"#,
            Role::Assistant,
            "no",
        ),
        (r#"{"role":"user","content":"\u00e9\ud83d\ude00\n"}"#, Role::User, "\u{e9}\u{1f600}\n"),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{json}]}}"#);
        let mut request = one(chat(body.as_bytes()).unwrap());
        let [message] = &chat_of(&mut request).messages[..] else { panic!("one stays one") };
        assert_eq!((message.role, message.text().as_str()), (role, content), "{json}");
        assert_eq!(message.parts.len(), 1);
    }
}

#[test]
fn completions_are_mapped() {
    let table: [(&str, &str, Option<u32>); 4] = [
        (r#"{"model":"m","prompt":"a"}"#, "a", Some(16)),
        (r#"{"model":"m","prompt":["a"],"max_tokens":3}"#, "a", Some(3)),
        (r#"{"model":"m","prompt":"","best_of":1,"echo":false,"suffix":null}"#, "", Some(16)),
        (r#"{"model":"m","prompt":"a","logprobs":null,"n":1}"#, "a", Some(16)),
    ];
    for (json, text, max_tokens) in table {
        let request = one(completion(json.as_bytes()).unwrap());
        assert_eq!(request.input, Input::Text(text.into()), "{json}");
        assert_eq!(request.max_tokens, max_tokens, "{json}");
    }
}

#[test]
fn what_changes_nothing_is_ignored() {
    for json in [
        r#""user":"somebody","metadata":{"a":"b"},"store":true,"service_tier":"auto""#,
        r#""parallel_tool_calls":true,"tools":[],"tool_choice":"auto","functions":[],"function_call":"none","chat_template_kwargs":{},"reasoning_effort":null"#,
        r#""n":1,"logprobs":false,"top_logprobs":0,"modalities":["text"],"audio":null"#,
        r#""response_format":{"type":"text"},"web_search_options":null,"prediction":null"#,
        r#""n":null,"tools":null,"response_format":null,"logit_bias":null,"logit_bias2":{"a":[1,{}]}"#,
        r#""prompt_cache_key":"k","safety_identifier":"s","verbosity":"low","ignore_eos":false,"min_tokens":0"#,
    ] {
        assert_eq!(
            one(chat(chat_body(&format!("{json},")).as_bytes()).unwrap()),
            hello(),
            "{json}"
        );
    }
}

fn refused(result: Result<Asked, ApiError>) -> (u16, String, Option<&'static str>, String) {
    let error = result.unwrap_err();
    let param = error.param().unwrap_or_default().to_owned();
    (error.status().as_u16(), param, error.stable_code(), error.message().to_owned())
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (json, param) in [
        (r#""functions":[{}]"#, "functions"),
        (r#""function_call":{"name":"f"}"#, "function_call"),
        (r#""modalities":["text","audio"]"#, "modalities"),
        (r#""moderation":{"model":"m"}"#, "moderation"),
        (r#""audio":{"voice":"v"}"#, "audio"),
        (r#""web_search_options":{}"#, "web_search_options"),
        (r#""ignore_eos":true"#, "ignore_eos"),
        (r#""min_tokens":5"#, "min_tokens"),
        (r#""mirostat":2"#, "mirostat"),
        (r#""typical_p":0.5"#, "typical_p"),
        (r#""use_beam_search":true"#, "use_beam_search"),
        (r#""chat_template_kwargs":{"secret":1}"#, "chat_template_kwargs"),
        (r#""tools":[{"type":"custom","custom":{"name":"f"}}]"#, "tools[0].type"),
        (r#""tool_choice":{"type":"custom"}"#, "tool_choice.type"),
    ] {
        let (status, at, code, _) = refused(chat(chat_body(&format!("{json},")).as_bytes()));
        assert_eq!(
            (status, at.as_str(), code),
            (400, param, Some("unsupported_parameter")),
            "{json}"
        );
    }
    for (json, param) in [
        (r#""best_of":2"#, "best_of"),
        (r#""echo":true,"logprobs":0"#, "logprobs"),
        (r#""suffix":"x""#, "suffix"),
    ] {
        let body = format!(r#"{{{json},"model":"m","prompt":"p"}}"#);
        let (status, at, code, _) = refused(completion(body.as_bytes()));
        assert_eq!(
            (status, at.as_str(), code),
            (400, param, Some("unsupported_parameter")),
            "{json}"
        );
    }
}

#[test]
fn content_that_is_no_text_is_refused_with_the_models_name() {
    for (json, param, word) in [
        (
            r#"{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}"#,
            "messages[0].content[0]",
            "sounds",
        ),
        (
            r#"{"role":"user","content":[{"type":"file","file":{}}]}"#,
            "messages[0].content[0]",
            "files",
        ),
        (r#"{"role":"user","content":[{"type":"video_url"}]}"#, "messages[0].content[0]", "videos"),
        (r#"{"role":"assistant","content":"","audio":{"id":"a"}}"#, "messages[0].audio", "sounds"),
    ] {
        let body = format!(r#"{{"model":"Qwen/Q","messages":[{json}]}}"#);
        let (status, at, code, message) = refused(chat(body.as_bytes()));
        assert_eq!(
            (status, at.as_str(), code),
            (400, param, Some("unsupported_content")),
            "{json}"
        );
        assert!(message.contains("`Qwen/Q`") && message.contains(word), "{message}");
    }
}

#[test]
fn wrong_types_are_refused_by_name_without_repeating_the_value() {
    for (json, param, words) in [
        (r#""temperature":"secret""#, "temperature", "expected a number, but got a string"),
        (r#""temperature":[1]"#, "temperature", "but got an array"),
        (r#""max_tokens":"5""#, "max_tokens", "expected a whole number"),
        (r#""max_tokens":1.5"#, "max_tokens", "but got a number with a fraction"),
        (r#""stream":"yes, expected secret""#, "stream", "but got a string"),
        (r#""stream_options":[true]"#, "stream_options", "expected an object, but got an array"),
        (r#""stop":5"#, "stop", "expected a string or an array of strings"),
        (r#""stop":["a",{}]"#, "stop[1]", "but got an object"),
        (r#""seed":1.5"#, "seed", "expected a whole number"),
        (r#""seed":9223372036854775808"#, "seed", "expected a whole number"),
        (r#""logit_bias":[1]"#, "logit_bias", "but got an array"),
        (r#""logit_bias":{"secret":1}"#, "logit_bias.secret", "Invalid value"),
        (r#""logit_bias":{"5":"high"}"#, "logit_bias.5", "but got a string"),
        (r#""model":5"#, "model", "but got a whole number"),
        (r#""messages":"secret""#, "messages", "but got a string"),
        (
            r#""messages":[["user","secret"]]"#,
            "messages[0]",
            "expected an object, but got an array",
        ),
        (r#""messages":[{"content":"secret"}]"#, "messages[0].role", "Missing required parameter"),
        (r#""messages":[{"role":"secret","content":""}]"#, "messages[0].role", "expected one of"),
        (
            r#""messages":[{"role":"user","content":5}]"#,
            "messages[0].content",
            "a string or an array of content parts",
        ),
        (
            r#""messages":[{"role":"user","content":["secret"]}]"#,
            "messages[0].content[0]",
            "but got a string",
        ),
        (
            r#""messages":[{"role":"user","content":[{"type":"text"}]}]"#,
            "messages[0].content.text",
            "Missing",
        ),
        (
            r#""messages":[{"role":"user","content":[{"type":"hologram"}]}]"#,
            "messages[0].content[0].type",
            "expected one of",
        ),
    ] {
        let (status, at, _, message) = refused(chat(format!("{{{json}}}").as_bytes()));
        assert_eq!((status, at.as_str()), (400, param), "{json}: {message}");
        assert!(message.contains(words), "{json}: {message}");
        assert!(at.contains("secret") || !message.contains("secret"), "{json}: {message}");
    }
}

#[test]
fn what_is_missing_or_out_of_bounds_is_named() {
    let stops = format!("[{}]", vec![r#""s""#; STOPS_MAX + 1].join(","));
    let biases: Vec<_> = (0..=LOGIT_BIASES_MAX).map(|n| format!("\"{n}\":1")).collect();
    for (json, param) in [
        (r#""temperature":2.1"#.to_owned(), "temperature"),
        (r#""temperature":1e300"#.to_owned(), "temperature"),
        (r#""top_p":-0.1"#.to_owned(), "top_p"),
        (r#""min_p":1.1"#.to_owned(), "min_p"),
        (r#""presence_penalty":3"#.to_owned(), "presence_penalty"),
        (r#""frequency_penalty":-3"#.to_owned(), "frequency_penalty"),
        (r#""repetition_penalty":0"#.to_owned(), "repeat_penalty"),
        (r#""max_tokens":0"#.to_owned(), "max_tokens"),
        (r#""max_completion_tokens":0"#.to_owned(), "max_completion_tokens"),
        (r#""stop":"""#.to_owned(), "stop"),
        (format!("\"stop\":{stops}"), "stop"),
        (r#""logit_bias":{"5":101}"#.to_owned(), "logit_bias"),
        (format!("\"logit_bias\":{{{}}}", biases.join(",")), "logit_bias"),
        (r#""stream_options":{"include_usage":true}"#.to_owned(), "stream_options"),
    ] {
        let (status, at, _, message) = refused(chat(chat_body(&format!("{json},")).as_bytes()));
        assert_eq!((status, at.as_str()), (400, param), "{json}: {message}");
    }
    for (body, param) in [
        ("{}", "model"),
        (r#"{"model":null,"messages":[]}"#, "model"),
        (r#"{"model":"","messages":[]}"#, "model"),
        (r#"{"model":"m"}"#, "messages"),
        (r#"{"model":"m","messages":[]}"#, "messages"),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#, "messages[0].content"),
        (r#"{"model":"m","model":"m"}"#, "model"),
    ] {
        let (status, at, ..) = refused(chat(body.as_bytes()));
        assert_eq!((status, at.as_str()), (400, param), "{body}");
    }
    for body in [r#"{"model":"m"}"#, r#"{"model":"m","prompt":[]}"#] {
        let (status, at, ..) = refused(completion(body.as_bytes()));
        assert_eq!((status, at.as_str()), (400, "prompt"), "{body}");
    }
    let (status, at, ..) = refused(completion(br#"{"model":"m","prompt":[1,2]}"#));
    assert_eq!((status, at.as_str()), (400, "prompt[0]"));
}

#[test]
fn an_input_beyond_the_frame_is_too_large() {
    let long = "a".repeat(INPUT_BYTES_MAX + 1);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    let (status, at, code, _) = refused(chat(body.as_bytes()));
    assert_eq!((status, at.as_str(), code), (413, "messages", Some("too_large")));
    let body = format!(r#"{{"model":"m","prompt":"{long}"}}"#);
    let (status, at, ..) = refused(completion(body.as_bytes()));
    assert_eq!((status, at.as_str()), (413, "prompt"));
}

#[test]
fn a_name_that_cannot_be_is_unknown() {
    let (status, at, code, message) = refused(chat(br#"{"model":"gpt 4","messages":[]}"#));
    assert_eq!((status, at.as_str(), code), (404, "model", Some("model_not_found")));
    assert!(message.contains("`gpt 4`"));
}

#[test]
fn what_is_no_json_object_is_refused() {
    for body in ["", "{", "nonsense", "{}x", "{\"model\":\"\u{1}\"}", "[]", "null", "5", "\"m\""] {
        let (status, at, ..) = refused(chat(body.as_bytes()));
        assert_eq!((status, at.as_str()), (400, ""), "{body}");
    }
    assert_eq!(refused(chat(b"{\"model\":\"\xff\"}")).0, 400);
    let deep = format!("{{\"tools\":{}1", "[".repeat(100_000));
    assert_eq!(refused(chat(deep.as_bytes())).0, 400);
}

const TOOL: &str = r#"{"type":"function","function":{"name":"f","description":"d","strict":true,"parameters":{"type":"object"}}}"#;

fn tool(name: &str) -> Tool {
    Tool {
        name: name.into(),
        description: Some("d".into()),
        parameters: r#"{"type":"object"}"#.into(),
    }
}

#[test]
fn tools_are_mapped() {
    let two = format!("[{TOOL},{}]", TOOL.replace("\"f\"", "\"g\""));
    for (choice, names, expected) in [
        ("null", "fg", ToolChoice::Auto),
        (r#""auto""#, "fg", ToolChoice::Auto),
        (r#""none""#, "fg", ToolChoice::None),
        (r#""required""#, "fg", ToolChoice::Required),
        (r#"{"type":"function","function":{"name":"g"}}"#, "fg", ToolChoice::Named("g".into())),
        (
            r#"{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"g"}}]}}"#,
            "g",
            ToolChoice::Required,
        ),
    ] {
        let body = chat_body(&format!(r#""tools":{two},"tool_choice":{choice},"#));
        let mut request = one(chat(body.as_bytes()).unwrap());
        let chat = chat_of(&mut request);
        let expected_tools: Vec<Tool> = names.chars().map(|name| tool(&name.to_string())).collect();
        assert_eq!(chat.tools, expected_tools, "{choice}");
        assert_eq!(chat.tool_choice, expected);
    }
    let bare = r#""tools":[{"type":"function","function":{"name":"f"}}],"#;
    let mut request = one(chat(chat_body(bare).as_bytes()).unwrap());
    assert_eq!(chat_of(&mut request).tools[0].parameters, r#"{"type":"object","properties":{}}"#);
}

#[test]
fn tools_that_make_no_sense_are_refused_by_name() {
    let many = vec![TOOL; 513].join(",");
    let deep = format!("{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
    for (json, param) in [
        (r#""tools":{}"#.to_owned(), "tools"),
        (r#""tools":["f"]"#.to_owned(), "tools[0]"),
        (r#""tools":[{}]"#.to_owned(), "tools[0].type"),
        (r#""tools":[{"type":"function"}]"#.to_owned(), "tools[0].function"),
        (r#""tools":[{"type":"function","function":{}}]"#.to_owned(), "tools[0].function.name"),
        (TOOL.replace("\"f\"", "\"a b\""), "tools"),
        (TOOL.replace(r#"{"type":"object"}"#, "[]"), "tools[0].function.parameters"),
        (TOOL.replace(r#"{"type":"object"}"#, &deep), "tools[0].function.parameters"),
        (many, "tools"),
        (r#""tool_choice":"required""#.to_owned(), "tool_choice"),
        (r#""tool_choice":"sometimes""#.to_owned(), "tool_choice"),
        (r#""tool_choice":5"#.to_owned(), "tool_choice"),
        (r#""tool_choice":{"type":"function"}"#.to_owned(), "tool_choice.function"),
        (r#""tool_choice":{"type":"function","function":{"name":"g"}}"#.to_owned(), "tool_choice"),
    ] {
        let json = if json.starts_with('{') { format!("\"tools\":[{json}]") } else { json };
        let (status, at, _, message) = refused(chat(chat_body(&format!("{json},")).as_bytes()));
        assert_eq!((status, at.as_str()), (400, param), "{json}: {message}");
    }
}

#[test]
fn calls_thoughts_and_pictures_of_earlier_turns_are_mapped() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}},{"type":"text","text":"b"}]},
        {"role":"assistant","content":null,"reasoning_content":"r","tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"j","function":{"name":"f","arguments":""}},{"id":"k","function":{"name":"f","arguments":"{\"a"}}]},
        {"role":"tool","tool_call_id":"i","content":"x"}]}"#;
    let mut request = one(chat(body.as_bytes()).unwrap());
    let image = Image { format: ImageFormat::Png, bytes: b"\x89PNG\r\n\x1a\n".into() };
    let call = |id: &str, arguments: &str| ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
    };
    let expected = [
        Message {
            parts: vec![Part::Text("a".into()), Part::Image(image), Part::Text("b".into())],
            ..Message::new(Role::User, "")
        },
        Message {
            parts: vec![],
            reasoning: Some("r".into()),
            tool_calls: vec![
                call("i", r#"{"a":1}"#),
                call("j", "{}"),
                call("k", r#"{"arguments":"{\"a"}"#),
            ],
            ..Message::new(Role::Assistant, "")
        },
        Message { tool_call_id: Some("i".into()), ..Message::new(Role::Tool, "x") },
    ];
    assert_eq!(chat_of(&mut request).messages, expected);
    let image = |url: &str| {
        format!(
            r#"{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]}}"#
        )
    };
    let call = |arguments: &str| {
        format!(
            r#"{{"role":"assistant","tool_calls":[{{"id":"i","function":{{"name":"f","arguments":{arguments}}}}}]}}"#
        )
    };
    let arguments = "messages[0].tool_calls[0].function.arguments";
    for (message, param) in [
        (image("http://169.254.169.254/latest"), "messages[0].content[0].image_url"),
        (image("data:image/png;base64,AAAA"), "messages[0].content[0].image_url"),
        (call("{}"), arguments),
        (r#"{"role":"assistant","tool_calls":[]}"#.into(), "messages[0].content"),
        (
            r#"{"role":"assistant","content":"","function_call":{"name":"f"}}"#.into(),
            "messages[0].function_call",
        ),
    ] {
        let body = format!(r#"{{"model":"m","messages":[{message}]}}"#);
        let (status, at, ..) = refused(chat(body.as_bytes()));
        assert_eq!((status, at.as_str()), (400, param), "{message}");
    }
}

#[test]
fn forms_that_make_no_sense_are_refused_by_name() {
    let bomb = format!(r#""json_schema":{{"a":"{}"}}"#, "x".repeat(FORMAT_BYTES_MAX));
    let deep = format!("\"json_schema\":{}1{}", "{\"a\":".repeat(65), "}".repeat(65));
    for (json, status, param) in [
        (r#""response_format":{"type":"xml"}"#, 400, "response_format.type"),
        (r#""response_format":{}"#, 400, "response_format.type"),
        (r#""response_format":"json""#, 400, "response_format"),
        (
            r#""response_format":{"type":"json_schema","json_schema":{"schema":[]}}"#,
            400,
            "response_format.json_schema.schema",
        ),
        (r#""guided_json":"[]""#, 400, "guided_json"),
        (r#""guided_json":5"#, 400, "guided_json"),
        (r#""grammar":"a ::= b","guided_regex":"a""#, 400, "guided_regex"),
        (r#""profile":"fast""#, 400, "profile"),
        (r#""reasoning_effort":"some""#, 400, "reasoning_effort"),
        (r#""logprobs":5"#, 400, "logprobs"),
        (r#""top_logprobs":2"#, 400, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":21"#, 400, "top_logprobs"),
        (&bomb, 413, "response_format"),
        (&deep, 400, "json_schema"),
    ] {
        let (found, at, _, message) = refused(chat(chat_body(&format!("{json},")).as_bytes()));
        assert_eq!((found, at.as_str()), (status, param), "{message}");
    }
}

#[test]
fn several_answers_are_several_requests() {
    let asked = chat(chat_body(r#""n":3,"seed":-1,"#).as_bytes()).unwrap();
    let seeds: Vec<_> = asked.asks().iter().map(|ask| ask.infer.sampling.seed).collect();
    assert_eq!(seeds, [Some(u64::MAX), Some(0), Some(1)]);
    let asked = completion(br#"{"model":"m","prompt":["a","b"],"n":2,"echo":true}"#).unwrap();
    assert!(asked.echo);
    let inputs: Vec<_> = asked.asks().into_iter().map(|ask| ask.infer.input).collect();
    assert_eq!(inputs, ["a", "a", "b", "b"].map(|text| Input::Text(text.into())));
    let most = format!(r#""n":{CHOICES_MAX},"#);
    assert!(chat(chat_body(&most).as_bytes()).is_ok());
    let long = "a".repeat(INPUT_BYTES_MAX / 2);
    let copies =
        format!(r#"{{"n":16,"model":"m","messages":[{{"role":"user","content":"{long}"}}]}}"#);
    for body in [
        chat_body(&format!(r#""n":{},"#, CHOICES_MAX + 1)),
        chat_body(r#""n":0,"#),
        chat_body(r#""n":"1","#),
        copies,
    ] {
        assert_eq!(refused(chat(body.as_bytes())).1, "n");
    }
    let prompts = |count: usize| vec![r#""a""#; count].join(",");
    let body = |prompts: &str| format!(r#"{{"model":"m","n":1,"prompt":[{prompts}]}}"#);
    assert!(completion(body(&prompts(64)).as_bytes()).is_ok());
    assert_eq!(refused(completion(body(&prompts(65)).as_bytes())).1, "prompt");
    let body = body(&prompts(9)).replace("\"n\":1", "\"n\":2");
    assert_eq!(refused(completion(body.as_bytes())).1, "n");
}

/// Pieces of JSON that make up almost requests.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#""model":"m","#.to_owned()),
        Just(r#""messages":["#.to_owned()),
        Just(r#"{"role":"user","content":"#.to_owned()),
        Just(r#"{"type":"text","text":"#.to_owned()),
        Just(r#""logit_bias":{"1":"#.to_owned()),
        Just(r#""stop":["#.to_owned()),
        Just(r#""tools":"#.to_owned()),
        Just("\"x\"".to_owned()),
        Just("1e999".to_owned()),
        "[{}\\[\\],:\"0-9a-z\u{e9}\\\\]{0,4}",
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = (chat(&bytes).is_ok(), completion(&bytes).is_ok());
    }

    #[test]
    fn no_almost_requests_make_the_parser_panic(parts in proptest::collection::vec(fragment(), 0..24)) {
        let body = format!("{{{}", parts.concat());
        let _ = (chat(body.as_bytes()).is_ok(), completion(body.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_accepted_keeps_its_bounds(
        temperature in -1.0_f32..4.0, max_tokens: u32, seed: i64, top_k: i64, stop in ".{0,300}",
    ) {
        let stop = serde_json::to_string(&stop).unwrap();
        let body = chat_body(&format!(
            r#""temperature":{temperature},"max_tokens":{max_tokens},"seed":{seed},"top_k":{top_k},"stop":{stop},"#
        ));
        match chat(body.as_bytes()) {
            Ok(asked) => {
                let request = one(asked);
                prop_assert_eq!(request.check(), Ok(()));
                prop_assert_eq!(request.sampling.seed.map(u64::cast_signed), Some(seed));
            }
            Err(error) => prop_assert!(error.param().is_some()),
        }
    }
}
