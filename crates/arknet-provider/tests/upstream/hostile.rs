//! Servers that nobody wants: whatever comes, an answer ends, with a word for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use arknet_provider::{Provider as _, upstream::UpstreamKind};
use arknet_types::{InferRequest, Input, RefusalCode};

use crate::{collect, options, request, server::raw, up};

const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn whole(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What a server says about itself on the way to being asked.
fn about(kind: UpstreamKind, path: &str) -> Option<Vec<u8>> {
    let body = match path {
        "/v1/models" | "/v1/models?limit=1000" => {
            assert_ne!(kind, UpstreamKind::Ollama);
            "{\"data\":[{\"id\":\"fish\"}]}"
        }
        "/api/version" => "{\"version\":\"0.13.0\"}",
        "/api/tags" => "{\"models\":[{\"model\":\"fish\"}]}",
        "/api/show" => "{\"capabilities\":[\"completion\",\"embedding\"]}",
        _ => return None,
    };
    Some(whole(body))
}

const STREAMS: [(UpstreamKind, &str); 3] = [
    (
        UpstreamKind::OpenAi,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"One \\u20ac\"}}]}\n\n\
         data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
         data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n\
         data: [DONE]\n\n",
    ),
    (
        UpstreamKind::Anthropic,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
         event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"One\"}}\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":2}}\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    ),
    (
        UpstreamKind::Ollama,
        "{\"message\":{\"role\":\"assistant\",\"content\":\"One\"},\"done\":false}\n\
         {\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"eval_count\":2}\n",
    ),
];

#[tokio::test]
async fn a_connection_cut_at_every_byte() {
    for (kind, body) in STREAMS {
        let bytes = Arc::new(format!("{HEAD}{}", chunked(body)).into_bytes());
        let cut = Arc::new(AtomicUsize::new(0));
        let (script, at) = (bytes.clone(), cut.clone());
        let answer = move |path: &str| {
            about(kind, path).unwrap_or_else(|| script[..at.load(Ordering::SeqCst)].to_vec())
        };
        let (url, _server) = raw(answer, true).await;
        let upstream = up(options(kind, &url)).await;
        let mut complete = 0;
        for at in 0..=bytes.len() {
            cut.store(at, Ordering::SeqCst);
            let (_, end) = collect(upstream.generate(request("fish")).unwrap()).await;
            match end {
                Ok(_) => complete += 1,
                Err(refusal) => {
                    assert_eq!(refusal.code, RefusalCode::ProviderFailed, "{kind:?} at {at}");
                    assert!(refusal.detail.contains("upstream"));
                }
            }
        }
        // The last event is there before the last few bytes are.
        assert!((1..40).contains(&complete), "{kind:?} {complete}");
        assert_eq!(upstream.free_slots(), 3);
    }
}

fn endless(start: &str, repeat: &str, bytes: usize) -> Vec<u8> {
    let mut all = start.as_bytes().to_vec();
    while all.len() < bytes {
        all.extend_from_slice(repeat.as_bytes());
    }
    all
}

fn plain(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

#[tokio::test]
async fn answers_that_are_none() {
    let open = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
    let megabytes = 3 << 20;
    let deep = format!("data: {{\"error\":{}", "[".repeat(200_000));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", vec![]),
        ("noise", (0..=255).cycle().take(4096).collect()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        ("a head without end", endless("HTTP/1.1 200 OK\r\n", "x-a: bbbbbbbb\r\n", megabytes)),
        ("a header without end", endless("HTTP/1.1 200 OK\r\nx: ", "aaaaaaaa", megabytes)),
        ("a status without end", endless("HTTP/1.1 200 ", "OOOOOOOO", megabytes)),
        ("a line without end", endless(&format!("{open}data: "), "aaaaaaaa", megabytes)),
        ("half of a JSON", plain("data: {\"choices\":[{\"del\n\n")),
        ("JSON of another kind", plain("data: []\n\n")),
        ("numbers that are none", plain("data: {\"usage\":{\"prompt_tokens\":-1}}\n\n")),
        ("nesting", plain(&format!("{deep}\n\n"))),
        ("half of a character", [open.as_bytes(), b"data: {\"choices\":[{\"text\":\"\xc3\"}]}\n\n"].concat()),
        ("half of a pair", plain("data: {\"choices\":[{\"text\":\"\\ud83d\"}]}\n\n")),
        ("a page", plain("<html><body>Welcome</body></html>")),
        ("an end before the end", plain("data: [DONE]\n\n")),
        ("chunks that are none", format!("{HEAD}zz\r\n").into_bytes()),
        ("a chunk of impossible size", format!("{HEAD}ffffffffffffffff\r\na").into_bytes()),
        ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na".to_vec()),
        (
            "a bomb",
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00".to_vec(),
        ),
        (
            "an error without end",
            endless("HTTP/1.1 500 No\r\nconnection: close\r\n\r\n", "aaaaaaaa", megabytes),
        ),
        ("an error that is none", plain("data: {\"error\":{}}\n\n")),
        ("a tool without a name", plain(
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]}}]}\n\n",
        )),
    ];
    for (what, bytes) in cases {
        let answer =
            move |path: &str| about(UpstreamKind::OpenAi, path).unwrap_or_else(|| bytes.clone());
        let (url, _server) = raw(answer, true).await;
        let upstream = up(options(UpstreamKind::OpenAi, &url)).await;
        let (replies, end) = collect(upstream.generate(request("fish")).unwrap()).await;
        assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed, "{what}");
        assert!(replies.is_empty(), "{what}");
        assert_eq!(upstream.free_slots(), 3, "{what}");
    }
}

#[tokio::test]
async fn vectors_without_end() {
    let long =
        endless("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"embeddings\":[[", "1,", 1 << 20);
    let huge = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{".to_vec();
    for bytes in [long, huge] {
        let answer =
            move |path: &str| about(UpstreamKind::Ollama, path).unwrap_or_else(|| bytes.clone());
        let (url, _server) = raw(answer, true).await;
        let upstream = up(options(UpstreamKind::Ollama, &url)).await;
        let input = Input::Embed(vec!["a".into()]);
        let request = InferRequest::new(crate::name("fish"), input);
        let (_, end) = collect(upstream.generate(request).unwrap()).await;
        assert_eq!(end.unwrap_err().code, RefusalCode::ProviderFailed);
    }
}
