//! What apps send to the doors.

use arknet_gateway::{
    ApiError, CHOICES_MAX, anthropic,
    ollama::{self, Task},
    openai,
};
use arknet_types::{InferRequest, Input};

use crate::{
    Decoder, corpus,
    decoders::{survives, with},
};

/// Bytes an error may have beyond the body it speaks of.
const ERROR_WORDS_BYTES_MAX: usize = 1024;

pub(crate) fn decoders() -> Vec<Decoder> {
    vec![
        with("openai chat", corpus::chats(), openai_chat),
        with("openai completion", corpus::completions(), openai_completion),
        with("openai response", corpus::responses(), openai_response),
        with("openai embeddings", corpus::embeddings(), openai_embeddings),
        with("openai rerank", corpus::reranks(), openai_rerank),
        with("openai tokenize", corpus::tokenizes(), |body| {
            one(body, openai::tokenize(body, None).as_ref())
        }),
        with("openai detokenize", corpus::detokenizes(), |body| {
            one(body, openai::detokenize(body, None).as_ref())
        }),
        with("anthropic messages", corpus::messages(), |body| {
            one(body, anthropic::messages(body).as_ref().map(|asked| &asked.ask.infer))
        }),
        with("anthropic count", corpus::messages(), |body| {
            one(body, anthropic::count_tokens(body).as_ref().map(|ask| &ask.infer))
        }),
        with("ollama chat", corpus::ollama_chats(), |body| {
            let asked = ollama::chat(body);
            task(body, asked.as_ref().map(|asked| &asked.task))
        }),
        with("ollama generate", corpus::ollama_generates(), |body| {
            let asked = ollama::generate(body);
            task(body, asked.as_ref().map(|asked| &asked.task))
        }),
        with("ollama embed", corpus::ollama_embeds(), |body| {
            let asked = ollama::embed(body);
            task(body, asked.as_ref().map(|asked| &asked.task))
        }),
        with("ollama embeddings", corpus::ollama_embeds(), |body| {
            let asked = ollama::embeddings(body);
            task(body, asked.as_ref().map(|asked| &asked.task))
        }),
        with("ollama named", corpus::named(), |body| match ollama::named(body) {
            Ok(named) => {
                assert!(!named.name.trim().is_empty(), "a name of nothing");
                true
            }
            Err(error) => refused(body, &error),
        }),
    ]
}

/// Whoever asks wrongly hears so, in words that are bounded by what was sent.
fn refused(body: &[u8], error: &ApiError) -> bool {
    assert!(error.status().is_client_error(), "{} for a body", error.status());
    // Each byte of a name may stand for a replacement character.
    assert!(error.message().len() <= 3 * body.len() + ERROR_WORDS_BYTES_MAX, "endless words");
    false
}

/// What a door lets in passes the checks behind it, and comes out of the wire as it went in.
fn good(request: &InferRequest) {
    request.check().expect("a door let in what is out of bounds");
    survives(request);
}

fn one(body: &[u8], result: Result<&InferRequest, &ApiError>) -> bool {
    match result {
        Ok(request) => {
            good(request);
            true
        }
        Err(error) => refused(body, error),
    }
}

fn task(body: &[u8], result: Result<&Task, &ApiError>) -> bool {
    match result {
        Ok(Task::Infer(ask)) => one(body, Ok(&ask.infer)),
        Ok(Task::Keep(..)) => true,
        Err(error) => refused(body, error),
    }
}

fn openai_chat(body: &[u8]) -> bool {
    asked(body, openai::chat(body))
}

fn openai_completion(body: &[u8]) -> bool {
    asked(body, openai::completion(body))
}

fn asked(body: &[u8], result: Result<openai::Asked, ApiError>) -> bool {
    match result {
        Ok(asked) => {
            assert!(!asked.requests.is_empty(), "nothing is asked");
            assert!((1..=CHOICES_MAX).contains(&asked.n), "{} answers", asked.n);
            asked.requests.iter().for_each(good);
            true
        }
        Err(error) => refused(body, &error),
    }
}

fn openai_response(body: &[u8]) -> bool {
    match openai::response(body) {
        Ok(asked) => {
            assert!(matches!(asked.request.input, Input::Chat(_)), "no conversation");
            // It is checked when what was said before is there.
            if asked.request.check().is_ok() {
                good(&asked.request);
            }
            for json in asked.metadata.iter() {
                serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json)
                    .expect("metadata is an object");
            }
            true
        }
        Err(error) => refused(body, &error),
    }
}

fn openai_embeddings(body: &[u8]) -> bool {
    match openai::embeddings(body) {
        Ok(asked) => {
            assert_ne!(asked.dimensions, Some(0), "vectors of nothing");
            one(body, Ok(&asked.request))
        }
        Err(error) => refused(body, &error),
    }
}

fn openai_rerank(body: &[u8]) -> bool {
    match openai::rerank(body) {
        Ok(asked) => {
            assert_ne!(asked.top_n, Some(0), "the best none");
            one(body, Ok(&asked.request))
        }
        Err(error) => refused(body, &error),
    }
}
