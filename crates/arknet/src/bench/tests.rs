//! Whole runs against servers that say what they are told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;

use super::{plan::tests::of, serve};
use crate::out::Out;

/// What a server does with one request.
#[derive(Clone)]
enum Act {
    /// Answers with this body.
    Answer(&'static str, &'static str, String),
    /// Sends these pieces as a stream and ends it.
    Stream(Vec<String>),
    /// Sends these pieces and goes away.
    BreakOff(Vec<String>),
    /// Answers, and closes the connection without saying so.
    AnswerAndClose(String),
}

/// A server whose `act` decides by the request's path and body; says where it is.
fn server(act: impl Fn(&str, &Value) -> Act + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, act) = (stream.unwrap(), act.clone());
            std::thread::spawn(move || serve_one(stream, act));
        }
    });
    address
}

fn serve_one(mut stream: TcpStream, act: impl Fn(&str, &Value) -> Act) {
    stream.set_nodelay(true).unwrap();
    while let Some((path, body)) = request(&mut stream) {
        let mut say = |text: &str| stream.write_all(text.as_bytes()).unwrap();
        let answer = |status: &str, kind: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
            transfer-encoding: chunked\r\n\r\n";
        let chunk = |piece: &str| format!("{:x}\r\ndata: {piece}\n\n\r\n", piece.len() + 8);
        match act(&path, &body) {
            Act::Answer(status, kind, body) => say(&answer(status, kind, &body)),
            Act::AnswerAndClose(body) => {
                say(&answer("200 OK", "application/json", &body));
                return;
            }
            Act::Stream(pieces) => {
                say(head);
                pieces.iter().for_each(|piece| say(&chunk(piece)));
                say("0\r\n\r\n");
            }
            Act::BreakOff(pieces) => {
                say(head);
                pieces.iter().for_each(|piece| say(&chunk(piece)));
                return;
            }
        }
    }
}

/// Path and body of the next request; none at the connection's end.
fn request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, serde_json::from_str(body).unwrap_or_default()));
            }
        }
        let read = stream.read(&mut piece).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&piece[..read]);
    }
}

/// The pieces of an answer of three tokens; a word of the prompt is two tokens, its template five.
fn pieces(body: &Value) -> Vec<String> {
    let mut pieces: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|text| format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#))
        .collect();
    pieces.push(r#"{"choices":[{"delta":{},"finish_reason":"length"}]}"#.into());
    let usage = serde_json::json!({
        "prompt_tokens": tokens(body), "completion_tokens": 3,
        "prompt_tokens_details": { "cached_tokens": 1 },
    });
    pieces.push(serde_json::json!({ "choices": [], "usage": usage }).to_string());
    pieces.push("[DONE]".into());
    pieces
}

fn tokens(body: &Value) -> usize {
    let said = |message: &Value| message["content"].as_str().unwrap().split(' ').count();
    let messages = body["messages"].as_array().map(|messages| messages.iter().map(said).sum());
    let text = body["prompt"].as_str().map(|text| text.split(' ').count());
    5 + 2 * messages.or(text).unwrap_or(0)
}

fn measure(address: SocketAddr, line: &str) -> anyhow::Result<(Value, String)> {
    let plan = of(&format!("--url http://{address}/v1 {line}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(serve::run(plan, &Out::new(true)))?;
    let text = report.text();
    report.verdict()?;
    Ok((serde_json::to_value(&report)?, text))
}

#[test]
fn a_stream_is_measured_piece_by_piece() {
    let address = server(|path, body| match path {
        "/v1/models" => {
            Act::Answer("200 OK", "application/json", r#"{"data":[{"id":"m"}]}"#.into())
        }
        _ => Act::Stream(pieces(body)),
    });
    let (report, text) = measure(address, "-n 20 -c 4 --prompt-tokens 105").unwrap();
    assert_eq!(report["model"], "m");
    assert_eq!(report["requests"]["answered"], 20);
    assert_eq!(report["errors"], serde_json::json!({}));
    // What was asked for, though the server counts two tokens a word and five of its own.
    assert_eq!(report["tokens"]["prompt"], 20 * 105);
    assert_eq!(report["tokens"]["cached"], 20);
    assert_eq!(report["tokens"]["output"], 60);
    assert_eq!(report["finish_reasons"]["length"], 20);
    assert_eq!(report["time_to_first_token_ms"]["count"], 20);
    assert_eq!(report["inter_token_ms"]["count"], 40);
    assert!(text.contains("time to first token") && text.contains("20 length"), "{text}");
}

#[test]
fn turns_carry_what_was_said_before() {
    let address = server(|_, body| {
        let messages = body["messages"].as_array().unwrap();
        // The prefix, then questions and answers in turn.
        let roles: Vec<&str> = messages.iter().map(|m| m["role"].as_str().unwrap()).collect();
        let answers = messages.iter().filter(|m| m["role"] == "assistant");
        let right = answers.clone().all(|m| m["content"] == "abc")
            && (messages.len() == 1 || roles[0] == "system")
            && answers.count() == messages.len().saturating_sub(1) / 2;
        if right {
            Act::Stream(pieces(body))
        } else {
            Act::Answer("400 Bad", "text/plain", "no".into())
        }
    });
    let line =
        "--model m -n 5 --turns 3 --prompt-tokens 60 --shared-prefix-tokens 20 --turn-tokens 8";
    let (report, text) = measure(address, line).unwrap();
    assert_eq!(
        (&report["requests"]["answered"], &report["requests"]["failed"]),
        (&15.into(), &0.into())
    );
    let turns = report["time_to_first_token_by_turn_ms"].as_array().unwrap();
    assert_eq!(
        turns.iter().map(|turn| turn["count"].as_u64().unwrap()).collect::<Vec<_>>(),
        [5, 5, 5]
    );
    assert!(text.contains("of turn 3"), "{text}");
}

#[test]
fn errors_are_counted_by_kind() {
    let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let address = server(move |_, body| {
        // Two that find out how the model counts, and one to warm up.
        match count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0..=2 | 7.. => Act::Stream(pieces(body)),
            3 => Act::Answer(
                "429 Busy",
                "application/json",
                r#"{"error":{"message":"later","code":"rate_limit_exceeded"}}"#.into(),
            ),
            4 => Act::BreakOff(pieces(body)[..2].to_vec()),
            5 => Act::Stream(vec![r#"{"error":{"message":"lost","code":"peer_lost"}}"#.into()]),
            _ => Act::Stream(vec!["<html>".into()]),
        }
    });
    let (report, text) = measure(address, "--model m -n 8").unwrap();
    let kinds: Vec<_> = report["errors"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(kinds, ["closed", "http 429 rate_limit_exceeded", "malformed", "stream peer_lost"]);
    assert_eq!(
        (&report["requests"]["answered"], &report["requests"]["failed"]),
        (&4.into(), &4.into())
    );
    assert!(text.contains("429: later"), "{text}");
}

#[test]
fn whole_answers_have_no_first_token() {
    let address = server(|path, body| {
        assert_eq!((path, &body["stream"]), ("/v1/completions", &Value::Null));
        assert!(body["max_completion_tokens"] == 9 && body.get("max_tokens").is_none());
        let usage = format!(r#"{{"prompt_tokens":{},"completion_tokens":3}}"#, tokens(body));
        let choice = r#"{"text":"abc","finish_reason":"stop"}"#;
        let body = format!(r#"{{"choices":[{choice}],"usage":{usage}}}"#);
        Act::AnswerAndClose(body)
    });
    let body = r#"{"max_tokens":null,"max_completion_tokens":9}"#;
    let line = format!("--model m -n 5 --endpoint completions --no-stream --body {body}");
    let (report, text) = measure(address, &line).unwrap();
    assert_eq!(report["requests"]["answered"], 5);
    assert_eq!(report["requests"]["reconnected"], 4);
    assert_eq!(report["tokens"]["output"], 15);
    assert_eq!(report["time_to_first_token_ms"], Value::Null);
    assert_eq!(report["latency_ms"]["count"], 5);
    assert!(text.contains("time to first token  -"), "{text}");
}

#[test]
fn what_cannot_work_at_all_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = format!("{:#}", measure(closed, "--model m").unwrap_err());
    assert!(error.contains(&format!("http://{closed}/v1")) && error.contains("refused"), "{error}");
    let body = r#"{"error":{"message":"wrong key","code":"invalid_api_key"}}"#;
    let strict = server(|_, _| Act::Answer("401 Unauthorized", "application/json", body.into()));
    let error = format!("{:#}", measure(strict, "--model m").unwrap_err());
    assert!(error.contains("401: wrong key"), "{error}");
    let error = format!("{:#}", measure(strict, "").unwrap_err());
    assert!(error.contains("--model names one") && error.contains("401"), "{error}");
    let empty = server(|_, _| Act::Answer("200 OK", "application/json", r#"{"data":[]}"#.into()));
    let error = format!("{:#}", measure(empty, "").unwrap_err());
    assert!(error.contains("lists no models"), "{error}");
}
