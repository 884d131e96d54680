use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use arknet_types::{
    Alternative, Chat, FinishReason, Format, Input, Message, ModelDigest, ModelName, Part,
    PublicKey, Reasoning, Refusal, RefusalCode, Reply, Role, TokenLogprob, ToolCall, ToolCallPiece,
    Usage,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    Task,
    answer::{Endpoint, Head, Lines},
    catalog, chat, embed, embeddings, generate,
    moment::Watch,
    named, pull,
};
use crate::{
    About, ApiError, Ask, Gathered, KeepAlive, ListedModel, LoadedModel, Pull, encode::Encode,
};

fn with(base: Value, fields: Value) -> Vec<u8> {
    let mut body = base;
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body.to_string().into_bytes()
}

fn talk(fields: Value) -> Vec<u8> {
    with(json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]}), fields)
}

fn prompt(fields: Value) -> Vec<u8> {
    with(json!({"model": "m", "prompt": "hi"}), fields)
}

fn infer(asked: Result<super::Asked, ApiError>) -> Ask {
    match asked.unwrap().task {
        Task::Infer(ask) => *ask,
        Task::Keep(..) => panic!("an order to load"),
    }
}

fn conversation(fields: Value) -> Chat {
    match infer(chat(&talk(fields))).infer.input {
        Input::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_plainest_requests() {
    let asked = chat(&talk(json!({}))).unwrap();
    assert!(asked.stream);
    assert!(!chat(&talk(json!({"stream": false}))).unwrap().stream);
    let ask = infer(Ok(asked));
    let sampling = &ask.infer.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (0.8, 40, 0.9));
    assert_eq!((sampling.seed, ask.infer.max_tokens, ask.keep_alive), (None, None, None));
    let chat = conversation(json!({}));
    assert_eq!(
        (chat.messages, chat.reasoning),
        (vec![Message::new(Role::User, "hi")], Reasoning::Auto)
    );
    let ask = infer(generate(&prompt(json!({"system": "s", "context": [1, 2]}))));
    let Input::Chat(chat) = ask.infer.input else { panic!() };
    let said = [Message::new(Role::System, "s"), Message::new(Role::User, "hi")];
    assert_eq!(chat.messages, said);
    let ask = infer(generate(&prompt(json!({"raw": true}))));
    assert_eq!(ask.infer.input, Input::Text("hi".into()));
}

#[test]
fn options_are_heeded_or_ignored() {
    let options = json!({
        "seed": 42.0, "num_predict": 7, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "temperature": 0,
        "repeat_penalty": 1.1, "presence_penalty": 0.5, "frequency_penalty": -0.5,
        "stop": ["a", "b"], "num_ctx": 8192, "num_gpu": -1, "mirostat": 0, "nonsense": {}
    });
    let fields = json!({
        "options": options, "logprobs": true, "top_logprobs": 3, "keep_alive": "5m", "unknown": 1
    });
    for ask in [infer(chat(&talk(fields.clone()))), infer(generate(&prompt(fields)))] {
        let (infer, sampling) = (&ask.infer, &ask.infer.sampling);
        assert_eq!((sampling.seed, infer.max_tokens, sampling.top_k), (Some(42), Some(7), 3));
        assert_eq!((sampling.top_p, sampling.min_p, sampling.temperature), (0.5, 0.1, 0.0));
        assert_eq!(sampling.repeat_penalty, 1.1);
        assert_eq!((sampling.presence_penalty, sampling.frequency_penalty), (0.5, -0.5));
        assert_eq!((&infer.stop[..], infer.logprobs), (&["a".into(), "b".into()][..], Some(3)));
        assert_eq!(ask.keep_alive, Some(KeepAlive::For(Duration::from_secs(300))));
    }
    for (name, value) in [("num_predict", -1), ("num_predict", -2), ("seed", -1), ("top_k", -1)] {
        let ask = infer(chat(&talk(json!({"options": {name: value}}))));
        assert_eq!((ask.infer.max_tokens, ask.infer.sampling.seed), (None, None));
    }
}

#[test]
fn forms_and_thoughts() {
    for (format, expected) in [
        (Value::Null, Format::Text),
        (json!(""), Format::Text),
        (json!("json"), Format::JsonObject),
        (json!({"type": "object"}), Format::JsonSchema(r#"{"type":"object"}"#.into())),
    ] {
        assert_eq!(infer(chat(&talk(json!({"format": format})))).infer.format, expected);
    }
    for (think, expected) in [
        (Value::Null, Reasoning::Auto),
        (json!(true), Reasoning::On),
        (json!(false), Reasoning::Off),
        (json!("high"), Reasoning::On),
        (json!("none"), Reasoning::Off),
    ] {
        assert_eq!(conversation(json!({"think": think})).reasoning, expected);
    }
}

#[test]
fn tools_calls_and_results_find_each_other() {
    let call = |name: &str| json!({"function": {"name": name, "arguments": {"z": 1}}});
    let chat = conversation(json!({
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "F", "parameters": {"type": "object"}}},
            {"type": "function", "function": {"name": "g"}}
        ],
        "messages": [
            {"role": "user", "content": "q", "images": ["iVBORw0KGgo="]},
            {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": [call("f"), call("g"), call("g")]},
            {"role": "tool", "content": "1", "tool_name": "g"},
            {"role": "tool", "content": "2"},
            {"role": "tool", "content": "3", "tool_call_id": "call_1_2"},
            {"role": "tool", "content": "4"},
            {"role": "system", "content": null}
        ]
    }));
    assert_eq!(chat.tools[0].parameters, r#"{"type":"object"}"#);
    assert_eq!(chat.tools[1].parameters, r#"{"type":"object","properties":{}}"#);
    assert!(matches!(&chat.messages[0].parts[1], Part::Image(_)));
    assert_eq!(chat.messages[1].reasoning.as_deref(), Some("hm"));
    assert_eq!(chat.messages[1].tool_calls[0].arguments, r#"{"z":1}"#);
    let ids: Vec<_> = chat.messages[2..6].iter().map(|m| m.tool_call_id.as_deref()).collect();
    assert_eq!(ids, [Some("call_1_1"), Some("call_1_0"), Some("call_1_2"), None]);
}

#[test]
fn nothing_to_say_loads_the_model_or_lets_go_of_it() {
    let minutes = |n: u64| KeepAlive::For(Duration::from_secs(n * 60));
    for (wish, expected) in [
        (json!({}), minutes(5)),
        (json!({"keep_alive": "10m"}), minutes(10)),
        (json!({"keep_alive": 0}), KeepAlive::None),
        (json!({"keep_alive": -1}), KeepAlive::Forever),
    ] {
        let bare = with(json!({"model": "m"}), wish.clone());
        let empty = with(json!({"model": "m", "prompt": "", "messages": [], "input": []}), wish);
        for body in [bare, empty] {
            let tasks = [
                chat(&body).unwrap().task,
                generate(&body).unwrap().task,
                embed(&body).unwrap().task,
                embeddings(&body).unwrap().task,
            ];
            for task in tasks {
                let Task::Keep(model, keep) = task else { panic!() };
                assert_eq!((model.as_str(), keep), ("m", expected));
            }
        }
    }
}

#[test]
fn texts_to_embed() {
    let several = ["a", ""];
    for (input, texts) in [
        (json!("a"), vec!["a"]),
        (json!(several), several.to_vec()),
        (json!(["", ""]), vec![""; 2]),
    ] {
        let body = json!({"model": "m", "input": input, "truncate": true, "dimensions": 2});
        let asked = embed(body.to_string().as_bytes()).unwrap();
        let Task::Infer(ask) = asked.task else { panic!() };
        let texts = texts.into_iter().map(Into::into).collect();
        assert_eq!((ask.infer.input, asked.dimensions), (Input::Embed(texts), Some(2)));
        assert!(asked.truncate);
    }
    let asked = embeddings(br#"{"model":"m","prompt":"a"}"#).unwrap();
    let Task::Infer(ask) = asked.task else { panic!() };
    assert_eq!(ask.infer.input, Input::Embed(vec!["a".into()]));
}

#[test]
fn a_model_is_named_in_either_way() {
    for (body, name, stream) in [
        (r#"{"model":"m"}"#, "m", true),
        (r#"{"name":" m ","stream":false}"#, "m", false),
        (r#"{"model":"","name":"m","insecure":true}"#, "m", true),
    ] {
        let asked = named(body.as_bytes()).unwrap();
        assert_eq!((asked.name.as_str(), asked.stream), (name, stream));
    }
    assert_eq!(named(b"{}").unwrap_err().param(), Some("model"));
}

/// Fields, the parameter that is at fault, and the status.
#[test]
fn mistakes_are_named() {
    let one = |message: Value| json!({"messages": [message]});
    for (fields, param, status) in [
        (json!({"model": null}), "model", 400),
        (json!({"model": 5}), "model", 400),
        (json!({"model": "no name"}), "model", 404),
        (json!({"messages": "hi"}), "messages", 400),
        (one(json!({"role": "robot", "content": ""})), "messages[0].role", 400),
        (one(json!({"role": "user", "content": []})), "messages[0].content", 400),
        (one(json!({"role": "user", "images": ["PHN2Zz4="]})), "messages[0].images[0]", 400),
        (
            one(
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}),
            ),
            "messages[0].tool_calls[0].function.arguments",
            400,
        ),
        (json!({"options": []}), "options", 400),
        (json!({"options": {"seed": 1.5}}), "options.seed", 400),
        (json!({"options": {"temperature": "hot"}}), "options.temperature", 400),
        (json!({"options": {"temperature": 9}}), "temperature", 400),
        (json!({"options": {"stop": [""]}}), "stop", 400),
        (json!({"format": "xml"}), "format", 400),
        (json!({"format": ["json"]}), "format", 400),
        (json!({"think": "hard"}), "think", 400),
        (json!({"think": 5}), "think", 400),
        (json!({"keep_alive": "soon"}), "keep_alive", 400),
        (json!({"keep_alive": []}), "keep_alive", 400),
        (json!({"logprobs": true, "top_logprobs": 21}), "logprobs", 400),
        (
            json!({"tools": [{"function": {"name": "f", "parameters": 1}}]}),
            "tools[0].function.parameters",
            400,
        ),
        (json!({"tools": [{"function": {"name": "no name"}}]}), "", 400),
    ] {
        let words = fields.to_string();
        let error = chat(&talk(fields)).map(|_| ()).expect_err(&words);
        let param = Some(param).filter(|param| !param.is_empty());
        if param.is_some() {
            assert_eq!(error.param(), param, "{words}");
        }
        assert_eq!(error.status().as_u16(), status, "{words}");
    }
    for (fields, param) in [
        (json!({"template": "{{ .Prompt }}"}), "template"),
        (json!({"suffix": "}"}), "suffix"),
        (json!({"raw": true, "system": "s"}), "raw"),
        (json!({"images": ["x"]}), "images[0]"),
    ] {
        let error = generate(&prompt(fields)).map(|_| ()).unwrap_err();
        assert_eq!((error.param(), error.status().as_u16()), (Some(param), 400));
    }
    let many = json!({"model": "m", "input": vec!["a"; 2049]}).to_string();
    assert_eq!(embed(many.as_bytes()).map(|_| ()).unwrap_err().status().as_u16(), 400);
    let negative = embed(br#"{"model":"m","input":"a","dimensions":-1}"#).map(|_| ()).unwrap_err();
    assert_eq!(negative.param(), Some("dimensions"));
    for body in [&b"{"[..], b"[]", b"", b"null", b"{\"model\":\"\xff\"}"] {
        let statuses = [
            chat(body).map(|_| ()).unwrap_err().status(),
            generate(body).map(|_| ()).unwrap_err().status(),
            embed(body).map(|_| ()).unwrap_err().status(),
            embeddings(body).map(|_| ()).unwrap_err().status(),
            named(body).map(|_| ()).unwrap_err().status(),
        ];
        assert!(statuses.iter().all(|status| status.as_u16() == 400));
    }
}

/// A watch that shows one millisecond more at each look.
fn watch() -> Watch {
    let looks = AtomicU64::new(0);
    Watch::fake(Duration::from_secs(1_700_000_000), move || {
        Duration::from_millis(looks.fetch_add(1, Ordering::Relaxed) + 1)
    })
}

fn head(endpoint: Endpoint) -> Head {
    Head { endpoint, model: "m:latest".into(), watch: watch() }
}

fn text(text: &str) -> Reply {
    Reply::Text { text: text.into(), tokens: 1 }
}

fn piece(index: u16, name: Option<&str>, arguments: &str) -> Reply {
    Reply::ToolCall(ToolCallPiece {
        index,
        id: name.map(|name| format!("call_{name}")),
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

fn likely() -> TokenLogprob {
    let other = Alternative { token: 1, bytes: vec![0xff], logprob: -2.0 };
    TokenLogprob { token: 1, bytes: b"a".to_vec(), logprob: -0.5, top: vec![other] }
}

fn stream(endpoint: Endpoint, replies: Vec<Reply>) -> String {
    let mut lines = Lines::new(head(endpoint));
    let mut out = Vec::new();
    lines.open(&mut out);
    lines.keep_alive(&mut out);
    for reply in replies {
        lines.reply(reply, &mut out);
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn the_lines_of_a_chat() {
    let golden = concat!(
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.002Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.005Z","message":{"role":"assistant","content":"a\n"},"done":false,"logprobs":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"ZZ","logprob":-2.0,"bytes":[255]}]}]}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.01Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_f","function":{"name":"f","arguments":{"z":1,"a":2}}}]},"done":false}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.012Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_g","function":{"name":"g","arguments":{}}}]},"done":false}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.013Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":11000000,"load_duration":0,"prompt_eval_count":10,"prompt_eval_duration":1000000,"eval_count":5,"eval_duration":10000000}"#,
        "\n",
    );
    let replies = vec![
        Reply::Reasoning { text: "hm".into(), tokens: 1 },
        Reply::Logprobs(vec![likely()]),
        text("a\n"),
        text(""),
        piece(0, Some("f"), "{\"z\":1,"),
        piece(0, None, "\"a\":2}"),
        piece(1, Some("g"), ""),
        done(FinishReason::ToolCalls),
        text("late"),
    ];
    let golden = golden.replace("ZZ", "\u{fffd}");
    assert_eq!(stream(Endpoint::Chat, replies), golden);
}

#[test]
fn the_lines_of_a_completion() {
    let golden = concat!(
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.002Z","response":"","thinking":"hm","done":false}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.004Z","response":"a","done":false}"#,
        "\n",
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.006Z","response":"","done":true,"done_reason":"length","total_duration":5000000,"load_duration":0,"prompt_eval_count":10,"prompt_eval_duration":1000000,"eval_count":5,"eval_duration":4000000}"#,
        "\n",
    );
    let replies = vec![
        Reply::Reasoning { text: "hm".into(), tokens: 1 },
        text("a"),
        done(FinishReason::Length),
    ];
    assert_eq!(stream(Endpoint::Generate, replies), golden);
}

#[test]
fn a_stream_that_breaks_says_so_in_its_last_line() {
    let mut lines = Lines::new(head(Endpoint::Chat));
    let mut out = Vec::new();
    lines.fail(&Refusal::new(RefusalCode::UnknownModel, "nobody"), &mut out);
    lines.fail(&Refusal::new(RefusalCode::PeerLost, "gone"), &mut out);
    lines.reply(text("late"), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), "{\"error\":\"model 'm:latest' not found\"}\n");
    let long = piece(0, Some("f"), &"x".repeat(1024 * 1024 + 1));
    let told = stream(Endpoint::Chat, vec![long, done(FinishReason::Stop)]);
    assert_eq!(told, "{\"error\":\"a tool call has more than 1048576 bytes\"}\n");
    let fits = piece(0, Some("f"), &"x".repeat(1024 * 1024));
    assert_eq!(stream(Endpoint::Chat, vec![fits, done(FinishReason::Stop)]).lines().count(), 2);
}

#[test]
fn whole_answers() {
    let gathered = Gathered {
        text: "a".into(),
        reasoning: "hm".into(),
        tool_calls: vec![ToolCall { id: "i".into(), name: "f".into(), arguments: "{}".into() }],
        usage: Usage { prompt_tokens: 10, completion_tokens: 5, ..Usage::default() },
        ..Gathered::new(PublicKey([0; 32]))
    };
    let first = Duration::from_micros(250);
    assert_eq!(
        String::from_utf8(head(Endpoint::Chat).whole_json(&gathered, first)).unwrap(),
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.001Z","message":{"role":"assistant","content":"a","thinking":"hm","tool_calls":[{"id":"i","function":{"name":"f","arguments":{}}}]},"done":true,"done_reason":"stop","total_duration":1000000,"load_duration":0,"prompt_eval_count":10,"prompt_eval_duration":250000,"eval_count":5,"eval_duration":750000}"#
    );
    assert_eq!(
        String::from_utf8(head(Endpoint::Generate).kept_json("load")).unwrap(),
        r#"{"model":"m:latest","created_at":"2023-11-14T22:13:20.001Z","response":"","done":true,"done_reason":"load","total_duration":1000000,"load_duration":1000000}"#
    );
}

fn listed(name: &str) -> ListedModel {
    ListedModel {
        name: ModelName::new(name).unwrap(),
        digest: Some(ModelDigest([1; 32])),
        capabilities: arknet_types::Capabilities::GENERATE.with(arknet_types::Capabilities::EMBED),
        context_tokens: 2048,
        local: true,
        peers: vec![],
        slots_free: 1,
        about: About {
            architecture: Some("qwen3".into()),
            parameters: Some(751_632_384),
            quantization: Some("Q8_0".into()),
            file_bytes: Some(639),
            embedding_dimensions: Some(1024),
            template: Some("T".into()),
            build_class: None,
            added_unix_s: Some(1_700_000_000),
        },
    }
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn latest_may_be_left_out() {
    let models = [listed("a"), listed("b:latest"), listed("c:8b")];
    for (name, found) in [
        ("a", Some("a")),
        ("a:latest", Some("a")),
        ("b", Some("b:latest")),
        ("b:latest", Some("b:latest")),
        ("c:8b", Some("c:8b")),
        ("c", None),
        ("c:latest", None),
        (":latest", None),
    ] {
        assert_eq!(catalog::find(&models, name).map(|model| model.name.as_str()), found, "{name}");
    }
}

#[test]
fn what_is_told_about_models() {
    let digest = "01".repeat(32);
    let details = json!({
        "parent_model": "", "format": "gguf", "family": "qwen3", "families": ["qwen3"],
        "parameter_size": "751.63M", "quantization_level": "Q8_0"
    });
    assert_eq!(
        value(&catalog::tags_json(&[listed("a")], 5)),
        json!({"models": [{
            "name": "a", "model": "a", "modified_at": "2023-11-14T22:13:20Z", "size": 639,
            "digest": digest, "details": details
        }]})
    );
    let shown = value(&catalog::show_json(&listed("a"), 5));
    assert_eq!(shown["details"], details);
    assert_eq!(shown["capabilities"], json!(["completion", "embedding"]));
    assert_eq!(
        shown["model_info"],
        json!({
            "general.architecture": "qwen3", "general.parameter_count": 751_632_384,
            "qwen3.context_length": 2048, "qwen3.embedding_length": 1024
        })
    );
    let name = ModelName::new("a").unwrap();
    let loaded = LoadedModel {
        name,
        memory_bytes: 9,
        gpu_memory_bytes: 3,
        expires_unix_s: Some(1_700_000_000),
    };
    let forever = LoadedModel { expires_unix_s: None, ..loaded.clone() };
    let now = Duration::from_secs(1_700_000_000);
    let told = value(&catalog::ps_json(&[loaded, forever], &[listed("a")], now));
    assert_eq!(
        told["models"][0],
        json!({
            "name": "a", "model": "a", "size": 9, "digest": digest, "details": details,
            "expires_at": "2023-11-14T22:13:20Z", "size_vram": 3, "context_length": 2048
        })
    );
    assert_eq!(told["models"][1]["expires_at"], "2316-02-24T22:00:36Z");
    let unknown = ListedModel { about: About::default(), digest: None, ..listed("b") };
    let told = value(&catalog::tags_json(&[unknown], 0));
    assert_eq!(told["models"][0]["modified_at"], "1970-01-01T00:00:00Z");
    let digest = told["models"][0]["digest"].as_str().unwrap().to_owned();
    assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
}

#[test]
fn vectors_are_shortened_to_length_one() {
    let gathered = Gathered {
        embeddings: vec![vec![3.0, 4.0, 12.0], vec![0.0, 0.0, 1.0]],
        usage: Usage { prompt_tokens: 7, ..Usage::default() },
        ..Gathered::new(PublicKey([0; 32]))
    };
    let name = ModelName::new("a").unwrap();
    let told =
        |dimensions| value(&catalog::embed_json(&name, Some(&gathered), dimensions, &watch()));
    assert_eq!(
        told(None),
        json!({
            "model": "a", "embeddings": [[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]],
            "total_duration": 1_000_000, "load_duration": 0, "prompt_eval_count": 7
        })
    );
    let shortened = told(Some(2));
    assert_eq!(shortened["embeddings"][1], json!([0.0, 0.0]));
    assert!((shortened["embeddings"][0][0].as_f64().unwrap() - 0.6).abs() < 1e-6);
    assert_eq!(told(Some(9))["embeddings"][0], json!([3.0, 4.0, 12.0]));
    assert_eq!(
        value(&catalog::embedding_json(Some(&gathered))),
        json!({"embedding": [3.0, 4.0, 12.0]})
    );
    assert_eq!(value(&catalog::embedding_json(None)), json!({"embedding": []}));
}

#[test]
fn the_lines_of_a_transfer() {
    let digest = Some(ModelDigest([1; 32]));
    let progress = |digest, total_bytes| Pull::Progress { digest, done_bytes: 5, total_bytes };
    let long = format!("sha256:{}", "01".repeat(32));
    let with_digest = json!({
        "status": "pulling 010101010101", "digest": long, "total": 9, "completed": 5
    });
    for (step, line) in [
        (Pull::Looking, json!({"status": "pulling manifest"})),
        (progress(digest, Some(9)), with_digest),
        (progress(None, None), json!({"status": "pulling m", "digest": "m", "completed": 5})),
        (Pull::Verifying, json!({"status": "verifying sha256 digest"})),
        (Pull::Ready, json!({"status": "success"})),
        (
            Pull::Failed(Refusal::new(RefusalCode::UnknownModel, "x")),
            json!({"error": "model 'm' not found"}),
        ),
        (Pull::Failed(Refusal::new(RefusalCode::PeerLost, "gone")), json!({"error": "gone"})),
    ] {
        let bytes = pull::line(&step, "m");
        assert_eq!((value(&bytes), bytes.last()), (line, Some(&b'\n')));
    }
}

fn replies() -> impl Strategy<Value = Vec<Reply>> {
    let name = prop_oneof![Just(None), Just(Some("f"))];
    let one = prop_oneof![
        "[a-c\n\"\\\\]{0,4}".prop_map(|t| text(&t)),
        "[a-c]{0,4}".prop_map(|text| Reply::Reasoning { text, tokens: 1 }),
        (0_u16..3, name, "[{}a]{0,3}").prop_map(|(i, name, arguments)| piece(i, name, &arguments)),
        Just(Reply::Alive),
        Just(Reply::Logprobs(vec![likely()])),
        Just(done(FinishReason::Stop)),
        Just(Reply::Refused(Refusal::new(RefusalCode::Busy, "x"))),
    ];
    prop::collection::vec(one, 0..24)
}

proptest! {
    #[test]
    fn every_line_is_an_object_and_the_last_one_ends(replies in replies()) {
        let ends = |r: &Reply| matches!(r, Reply::Done { .. } | Reply::Refused(_));
        let whole: String = replies
            .iter()
            .take_while(|r| !ends(r))
            .filter_map(|r| match r { Reply::Text { text, .. } => Some(text.as_str()), _ => None })
            .collect();
        let ended = replies.iter().any(ends);
        let told = stream(Endpoint::Generate, replies);
        let lines: Vec<Value> =
            told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let last = |line: &Value| line["done"] == true || line["error"].is_string();
        prop_assert_eq!(lines.iter().filter(|line| last(line)).count(), usize::from(ended));
        prop_assert!(!ended || last(lines.last().unwrap()));
        let text: String =
            lines.iter().map(|line| line["response"].as_str().unwrap_or_default()).collect();
        prop_assert_eq!(text, whole);
    }

    #[test]
    fn no_bytes_break_the_parsers(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _answered = (chat(&body).is_ok(), generate(&body).is_ok(), embed(&body).is_ok());
        let _answered = (embeddings(&body).is_ok(), named(&body).is_ok());
    }
}
