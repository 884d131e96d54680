use arknet_types::{
    FinishReason, InferRequest, Input, LogitBias, Message, ModelDigest, ModelName, PublicKey, Role,
    Sampling, Usage,
    limits::{LOGIT_BIASES_MAX, STOPS_MAX},
};
use proptest::prelude::*;

use super::*;
use crate::{ApiError, ListedModel};

fn hello() -> InferRequest {
    InferRequest {
        model: ModelName::new("m").unwrap(),
        input: Input::Chat(vec![Message { role: Role::User, content: "hi".into() }]),
        max_tokens: None,
        stop: vec![],
        sampling: Sampling::default(),
    }
}

/// The smallest chat body with `more` in front of it.
fn chat_body(more: &str) -> String {
    format!(r#"{{{more}"model":"m","messages":[{{"role":"user","content":"hi"}}]}}"#)
}

#[test]
fn the_smallest_chat_has_openais_defaults() {
    let asked = chat(chat_body("").as_bytes()).unwrap();
    assert_eq!(asked.request, hello());
    assert!(!asked.stream && !asked.include_usage);
    assert_eq!(asked.request.sampling.temperature.to_bits(), 1.0_f32.to_bits());
}

#[test]
fn every_parameter_is_mapped() {
    type Change = fn(&mut InferRequest);
    let table: [(&str, Change); 22] = [
        (r#""max_tokens":5"#, |r| r.max_tokens = Some(5)),
        (r#""max_completion_tokens":6"#, |r| r.max_tokens = Some(6)),
        (r#""max_tokens":5,"max_completion_tokens":6"#, |r| r.max_tokens = Some(6)),
        (r#""max_tokens":null"#, |_| {}),
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
    ];
    for (json, change) in table {
        let mut expected = hello();
        change(&mut expected);
        let asked = chat(chat_body(&format!("{json},")).as_bytes()).unwrap();
        assert_eq!(asked.request, expected, "{json}");
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
        let expected = Input::Chat(vec![Message { role, content: content.into() }]);
        assert_eq!(chat(body.as_bytes()).unwrap().request.input, expected, "{json}");
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
        let asked = completion(json.as_bytes()).unwrap();
        assert_eq!(asked.request.input, Input::Text(text.into()), "{json}");
        assert_eq!(asked.request.max_tokens, max_tokens, "{json}");
    }
}

#[test]
fn what_changes_nothing_is_ignored() {
    for json in [
        r#""user":"somebody","metadata":{"a":"b"},"store":true,"service_tier":"auto""#,
        r#""parallel_tool_calls":true,"tools":[],"tool_choice":"auto","functions":[],"function_call":"none""#,
        r#""n":1,"logprobs":false,"top_logprobs":0,"modalities":["text"],"audio":null"#,
        r#""response_format":{"type":"text"},"web_search_options":null,"prediction":null"#,
        r#""n":null,"tools":null,"response_format":null,"logit_bias":null,"logit_bias2":{"a":[1,{}]}"#,
        r#""prompt_cache_key":"k","safety_identifier":"s","reasoning_effort":"low","verbosity":"low""#,
    ] {
        assert_eq!(
            chat(chat_body(&format!("{json},")).as_bytes()).unwrap().request,
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
        (r#""n":2"#, "n"),
        (r#""n":0"#, "n"),
        (r#""n":"1""#, "n"),
        (r#""logprobs":true"#, "logprobs"),
        (r#""top_logprobs":2"#, "top_logprobs"),
        (r#""tools":[{"type":"function","function":{"name":"f"}}]"#, "tools"),
        (r#""functions":[{}]"#, "functions"),
        (r#""tool_choice":"required""#, "tool_choice"),
        (r#""function_call":{"name":"f"}"#, "function_call"),
        (r#""response_format":{"type":"json_object"}"#, "response_format"),
        (r#""response_format":{"json_schema":{},"type":"json_schema"}"#, "response_format"),
        (r#""modalities":["text","audio"]"#, "modalities"),
        (r#""audio":{"voice":"v"}"#, "audio"),
        (r#""web_search_options":{}"#, "web_search_options"),
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
        (r#""echo":true"#, "echo"),
        (r#""logprobs":0"#, "logprobs"),
        (r#""suffix":"x""#, "suffix"),
        (r#""n":2"#, "n"),
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
            r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]}"#,
            "messages[0].content[1]",
            "images",
        ),
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
        (
            r#"{"role":"assistant","content":null,"tool_calls":[{"id":"x"}]}"#,
            "messages[0].tool_calls",
            "tool calls",
        ),
        (
            r#"{"role":"assistant","content":"","function_call":{"name":"f"}}"#,
            "messages[0].function_call",
            "function calls",
        ),
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
        (r#""max_tokens":-1"#, "max_tokens", "expected a whole number from 0"),
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
    for body in
        [r#"{"model":"m"}"#, r#"{"model":"m","prompt":[]}"#, r#"{"model":"m","prompt":["a","b"]}"#]
    {
        let (status, at, ..) = refused(completion(body.as_bytes()));
        assert_eq!((status, at.as_str()), (400, "prompt"), "{body}");
    }
    let (status, at, ..) = refused(completion(br#"{"model":"m","prompt":[1,2]}"#));
    assert_eq!((status, at.as_str()), (400, "prompt[0]"));
}

#[test]
fn an_input_beyond_the_frame_is_too_large() {
    let long = "a".repeat(arknet_types::limits::REQUEST_FRAME_BYTES_MAX / 2 + 1);
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

fn head(endpoint: Endpoint) -> Head {
    Head {
        endpoint,
        id: Head::id(endpoint, "1f"),
        created: 7,
        model: ModelName::new("arknet/tiny").unwrap(),
    }
}

const USAGE: Usage = Usage { prompt_tokens: 3, completion_tokens: 4 };

#[test]
fn answers_have_openais_shape() {
    let answered =
        Answered { text: "say \"hi\"\n\u{e9}", finish: FinishReason::Length, usage: USAGE };
    for (endpoint, golden) in [
        (
            Endpoint::Chat,
            r#"{"id":"chatcmpl-1f","object":"chat.completion","created":7,"model":"arknet/tiny","choices":[{"index":0,"message":{"role":"assistant","content":"say \"hi\"\n<e>","refusal":null},"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Completion,
            r#"{"id":"cmpl-1f","object":"text_completion","created":7,"model":"arknet/tiny","choices":[{"text":"say \"hi\"\n<e>","index":0,"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7},"system_fingerprint":null}"#,
        ),
    ] {
        let json = String::from_utf8(head(endpoint).answer_json(&answered)).unwrap();
        assert_eq!(json, golden.replace("<e>", "\u{e9}"));
    }
}

#[test]
fn chunks_have_openais_shape() {
    for (endpoint, piece, with_usage, golden) in [
        (
            Endpoint::Chat,
            Piece::Role,
            false,
            r#"{"id":"chatcmpl-1f","object":"chat.completion.chunk","created":7,"model":"arknet/tiny","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Chat,
            Piece::Text("a"),
            true,
            r#"{"id":"chatcmpl-1f","object":"chat.completion.chunk","created":7,"model":"arknet/tiny","choices":[{"index":0,"delta":{"content":"a"},"logprobs":null,"finish_reason":null}],"usage":null,"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Chat,
            Piece::End(FinishReason::Stop),
            false,
            r#"{"id":"chatcmpl-1f","object":"chat.completion.chunk","created":7,"model":"arknet/tiny","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}],"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Completion,
            Piece::Text("a"),
            false,
            r#"{"id":"cmpl-1f","object":"text_completion","created":7,"model":"arknet/tiny","choices":[{"text":"a","index":0,"logprobs":null,"finish_reason":null}],"system_fingerprint":null}"#,
        ),
        (
            Endpoint::Completion,
            Piece::End(FinishReason::Length),
            false,
            r#"{"id":"cmpl-1f","object":"text_completion","created":7,"model":"arknet/tiny","choices":[{"text":"","index":0,"logprobs":null,"finish_reason":"length"}],"system_fingerprint":null}"#,
        ),
    ] {
        let mut out = Vec::new();
        head(endpoint).write_chunk(&mut out, piece, with_usage);
        assert_eq!(String::from_utf8(out).unwrap(), format!("data: {golden}\n\n"));
    }
    let mut out = Vec::new();
    head(Endpoint::Chat).write_usage(&mut out, USAGE);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "data: {\"id\":\"chatcmpl-1f\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"arknet/tiny\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7},\"system_fingerprint\":null}\n\n"
    );
}

#[test]
fn models_are_listed_in_openais_shape() {
    let model = ListedModel {
        name: ModelName::new("Qwen/Q").unwrap(),
        digest: ModelDigest([0xab; 32]),
        context_tokens: 4096,
        local: false,
        peers: vec![PublicKey([0; 32])],
        slots_free: 2,
    };
    let digest = "ab".repeat(32);
    let peer = PublicKey([0; 32]).peer_id();
    let golden = format!(
        r#"{{"id":"Qwen/Q","object":"model","created":7,"owned_by":"arknet","arknet":{{"digest":"sha256:{digest}","context_tokens":4096,"local":false,"peers":["{peer}"],"slots_free":2}}}}"#
    );
    assert_eq!(String::from_utf8(model_json(&model, 7)).unwrap(), golden);
    assert_eq!(
        String::from_utf8(models_json(&[model], 7)).unwrap(),
        format!(r#"{{"object":"list","data":[{golden}]}}"#)
    );
    assert_eq!(models_json(&[], 7), br#"{"object":"list","data":[]}"#);
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
                prop_assert_eq!(asked.request.check(), Ok(()));
                prop_assert_eq!(asked.request.sampling.seed.map(u64::cast_signed), Some(seed));
            }
            Err(error) => prop_assert!(error.param().is_some()),
        }
    }
}
