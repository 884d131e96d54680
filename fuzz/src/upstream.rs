//! What services that somebody else runs answer.

use arknet_provider::upstream::{
    Dialect, Fault, LineTooLong, Lines, Place, Stream, UpstreamKind, Whole, event_data,
    limits::{RETRY_AFTER_MS_MAX, TEXT_BYTES_MAX, TOOL_CALLS_MAX},
    listing::{self, Listed},
    refusal, refusal_in_stream, retry_after_ms,
};
use arknet_types::{
    Chat, FinishReason, InferRequest, Input, Message, Refusal, RefusalCode, Reply, Role, encode,
    limits::{REFUSAL_DETAIL_BYTES_MAX, REPLY_FRAME_BYTES_MAX},
};
use serde_json::Value;

use crate::{
    Decoder,
    corpus::upstream as corpus,
    decoders::{survives, with},
    pieces::pieces,
};

/// What no refusal may pass on. The good inputs have it wherever words stand.
const SECRET: &str = "sk-1";

/// Statuses that mean something of their own, and some that do not.
const STATUSES: [u16; 16] =
    [0, 200, 302, 400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 501, 503, 529];

pub(crate) fn decoders() -> Vec<Decoder> {
    vec![
        with("lines", corpus::lines(), lines),
        with("openai stream", corpus::openai_streams(), |bytes| {
            stream(Dialect::OpenAi, Place::ChatCompletions, bytes)
        }),
        with("anthropic stream", corpus::anthropic_streams(), |bytes| {
            stream(Dialect::Anthropic, Place::Messages, bytes)
        }),
        with("ollama stream", corpus::ollama_streams(), |bytes| {
            stream(Dialect::Ollama, Place::OllamaChat, bytes)
        }),
        with("openai vectors", corpus::vectors(), |body| whole(Whole::Embeddings(2), body)),
        with("ollama vectors", corpus::ollama_vectors(), |body| {
            whole(Whole::OllamaEmbeddings(2), body)
        }),
        with("scores", corpus::scores(), |body| whole(Whole::Scores(3), body)),
        with("tokens", corpus::tokens(), |body| whole(Whole::Tokens, body)),
        with("joined tokens", corpus::texts(), |body| whole(Whole::Text, body)),
        with("counts", corpus::counts(), |body| whole(Whole::Count, body)),
        with("lists of models", corpus::listings(), listings),
        with("upstream errors", corpus::errors(), errors),
        with("Retry-After", corpus::waits(), waits),
    ]
}

/// Where the bytes are cut does not matter, and nothing but line ends is lost.
fn lines(bytes: &[u8]) -> bool {
    let split = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut lines, mut found) = (Lines::default(), vec![]);
        for piece in pieces {
            let mut each = |line: &[u8]| {
                found.push(line.to_vec());
                Ok::<_, LineTooLong>(())
            };
            lines.feed(piece, &mut each).expect("a short line");
        }
        found.extend(lines.rest());
        found
    };
    let found = split(&mut std::iter::once(bytes));
    assert_eq!(split(&mut pieces(bytes)), found, "a cut made a difference");
    let ends = |byte: &&u8| !matches!(byte, b'\n' | b'\r');
    let kept: Vec<_> = found.concat().iter().filter(ends).copied().collect();
    assert_eq!(kept, bytes.iter().filter(ends).copied().collect::<Vec<_>>(), "bytes were lost");
    found.iter().any(|line| {
        event_data(line).is_some_and(|data| {
            assert!(line.windows(data.len().max(1)).any(|part| part == data) || data.is_empty());
            true
        })
    })
}

fn request() -> InferRequest {
    let chat = Chat::new(vec![Message::new(Role::User, "How are you?")]);
    InferRequest {
        stop: vec!["END".into(), "\n".into()],
        logprobs: Some(2),
        ..InferRequest::new("m".parse().expect("a good name"), Input::Chat(chat))
    }
}

/// However the bytes are cut, the same replies come; they fit the wire and end as they should.
fn stream(dialect: Dialect, place: Place, bytes: &[u8]) -> bool {
    let request = request();
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut stream = Stream::new(dialect, place, &request);
        let mut out = vec![];
        for piece in pieces {
            if let Err(fault) = stream.feed(piece, &mut out) {
                return (out, Err(fault));
            }
        }
        let result = stream.end(&mut out);
        assert!(result.is_err() || stream.is_over(), "it ended without an end");
        (out, result)
    };
    let (replies, result) = read(&mut std::iter::once(bytes));
    assert_eq!(
        read(&mut pieces(bytes)),
        (replies.clone(), result.clone()),
        "a cut made a difference"
    );
    answer(&replies);
    let is_done = matches!(replies.last(), Some(Reply::Done { .. }));
    match result {
        Ok(()) => assert!(is_done, "it ended well without saying so"),
        Err(fault) => {
            told(&fault.refusal);
            assert!(!is_done, "it ended well and failed");
        }
    }
    is_done
}

fn answer(replies: &[Reply]) {
    let mut calls = 0;
    for (at, reply) in replies.iter().enumerate() {
        fits(reply);
        match reply {
            Reply::Text { text, .. } | Reply::Reasoning { text, .. } => {
                assert!((1..=TEXT_BYTES_MAX).contains(&text.len()), "a piece of {}", text.len());
            }
            Reply::ToolCall(piece) => {
                assert_eq!(piece.name.is_some(), piece.id.is_some(), "half a beginning");
                calls += u16::from(piece.name.is_some());
                assert_eq!(piece.index + 1, calls, "calls are mixed");
            }
            Reply::Done { finish, usage } => {
                assert_eq!(at + 1, replies.len(), "something comes after the end");
                assert!(*finish != FinishReason::Stop || calls == 0, "nobody runs the tools");
                assert!(usage.cached_tokens <= usage.prompt_tokens, "{usage:?}");
                assert!(usage.reasoning_tokens <= usage.completion_tokens, "{usage:?}");
            }
            Reply::Logprobs(list) => {
                let all = list.iter().flat_map(|one| {
                    std::iter::once(one.logprob).chain(one.top.iter().map(|other| other.logprob))
                });
                for logprob in all {
                    assert!((f32::MIN..=0.0).contains(&logprob), "{logprob} is no logarithm");
                }
            }
            other => panic!("an upstream cannot say {other:?}"),
        }
    }
    assert!(calls <= TOOL_CALLS_MAX, "{calls} calls");
}

/// A reply goes on to peers as it is.
fn fits(reply: &Reply) {
    let bytes = encode(reply);
    assert!(bytes.len() <= REPLY_FRAME_BYTES_MAX, "a reply of {} bytes", bytes.len());
    survives(reply);
}

/// Words for who asked are ours.
fn told(refusal: &Refusal) {
    let Refusal { detail, .. } = refusal;
    assert!(detail.len() <= REFUSAL_DETAIL_BYTES_MAX && detail.is_ascii(), "{detail}");
    assert!(!detail.contains(SECRET), "{detail}");
    survives(refusal);
}

fn whole(kind: Whole, body: &[u8]) -> bool {
    let replies = match kind.read(body) {
        Ok(replies) => replies,
        Err(refusal) => {
            told(&refusal);
            return false;
        }
    };
    replies.iter().for_each(fits);
    let Some((Reply::Done { .. }, replies)) = replies.split_last() else { panic!("no end") };
    let (mut vectors, mut scores) = (0, 0);
    for reply in replies {
        match reply {
            Reply::Embedding { index, values } => {
                assert_eq!(*index as usize, vectors, "vectors out of order");
                vectors += 1;
                let length = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                assert!(length == 0.0 || (length - 1.0).abs() < 1e-3, "a vector of {length}");
            }
            Reply::Scores(some) => {
                assert!(some.iter().all(|score| score.is_finite()), "a score that is none");
                scores += some.len();
            }
            Reply::Tokens(some) => assert!(!some.is_empty()),
            Reply::Text { text, tokens } => assert!(!text.is_empty() && *tokens == 0),
            other => panic!("{kind:?} gave {other:?}"),
        }
    }
    match kind {
        Whole::Embeddings(count) | Whole::OllamaEmbeddings(count) => assert_eq!(vectors, count),
        Whole::Scores(count) => assert_eq!(scores, count),
        Whole::Tokens | Whole::Text | Whole::Count => {}
    }
    true
}

fn listings(bytes: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return false };
    let has_logprobs = listing::ollama_has_logprobs(&value);
    let mut all = listing::openai(&value, None);
    all.extend(listing::anthropic(&value));
    all.extend(listing::ollama(&value));
    let is_listed = !all.is_empty();
    let mut one = Listed::unknown("m", UpstreamKind::OpenAi);
    listing::llama_props(&mut one, &value);
    all.push(one);
    let mut one = Listed::unknown("m", UpstreamKind::Ollama);
    listing::ollama_show(&mut one, &value, has_logprobs);
    all.push(one);
    for Listed { id, context_tokens, .. } in &all {
        assert!((1..=256).contains(&id.len()), "a name of {} bytes", id.len());
        assert_ne!(*context_tokens, Some(0), "a context of nothing");
    }
    is_listed
}

fn errors(bytes: &[u8]) -> bool {
    let check = |fault: &Fault| {
        told(&fault.refusal);
        let wait = fault.refusal.retry_after_ms;
        assert!(wait.is_none_or(|ms| u64::from(ms) <= RETRY_AFTER_MS_MAX), "{wait:?}");
        assert_eq!(wait.is_some(), fault.refusal.code == RefusalCode::Busy, "{fault:?}");
    };
    for place in [Place::ChatCompletions, Place::Embeddings] {
        for status in STATUSES {
            check(&refusal(place, status, Some(u64::MAX), bytes));
        }
        if let Ok(value) = serde_json::from_slice(bytes) {
            check(&refusal_in_stream(place, &value));
        }
    }
    serde_json::from_slice::<Value>(bytes).is_ok()
}

fn waits(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let all = [(Some(&*text), None), (None, Some(&*text)), (Some(&*text), Some(&*text))];
    let found = all.map(|(in_ms, in_s)| retry_after_ms(in_ms, in_s));
    assert!(found.iter().flatten().all(|ms| *ms <= RETRY_AFTER_MS_MAX), "{found:?}");
    found[0].is_some()
}
