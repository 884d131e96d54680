//! What an upstream's errors mean. Its words are never passed on: they may hold what somebody wrote,
//! or what it should have kept to itself. Known codes and numbers are taken out of them, no more.

use arknet_types::{Refusal, RefusalCode};
use serde_json::Value;

use super::{
    answer::failed,
    health::Sign,
    limits::{RETRY_AFTER_MS_DEFAULT, RETRY_AFTER_MS_MAX},
    lines::LineTooLong,
    target::Place,
};

/// Why an answer cannot go on, for who asked, and what that says of the upstream's health.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// For who asked.
    pub refusal: Refusal,
    /// For us, where it says something. What a request alone could bring about says nothing, or
    /// anybody could take an upstream off the list.
    pub sign: Option<Sign>,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, sign: None }
    }
}

impl From<LineTooLong> for Fault {
    fn from(_: LineTooLong) -> Self {
        failed("the upstream sent a line without end").into()
    }
}

/// What an error says, as far as anybody acts on it.
#[derive(Debug, Default)]
struct Said {
    kind: String,
    code: String,
    /// In lower case, to look for known words in.
    words: String,
    tokens: Option<u64>,
    context: Option<u64>,
}

impl Said {
    fn of(error: &Value) -> Self {
        let inner = error.get("error").unwrap_or(error);
        let text = |value: &Value, name: &str| match value.get(name) {
            Some(Value::String(text)) => text.to_ascii_lowercase(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        let words = match inner {
            Value::String(words) => words.to_ascii_lowercase(),
            other => text(other, "message"),
        };
        let number = |name: &str| inner.get(name).and_then(Value::as_u64);
        Self {
            kind: text(inner, "type"),
            code: text(inner, "code"),
            words,
            tokens: number("n_prompt_tokens"),
            context: number("n_ctx"),
        }
    }

    fn is_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.kind == *name || self.code == *name)
    }

    fn mentions(&self, words: &[&str]) -> bool {
        words.iter().any(|some| self.words.contains(some))
    }

    fn is_overflow(&self) -> bool {
        self.is_any(&["exceed_context_size_error", "context_length_exceeded"])
            || self.mentions(&[
                "context length",
                "context size",
                "context window",
                "maximum context",
                "prompt is too long",
                "exceeds the available context",
                "exceeds context",
                "do not fit the context",
            ])
    }

    /// The first number after any of these words.
    fn number_after(&self, words: &[&str]) -> Option<u64> {
        words.iter().find_map(|some| {
            let (_, after) = self.words.split_once(some)?;
            let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        })
    }

    fn overflow(&self) -> Refusal {
        let needed = self.tokens.or_else(|| {
            self.number_after(&["requested ", "too long: ", "request (", "input (", "at least "])
        });
        let limit = self.context.or_else(|| {
            let words = ["context length is ", "tokens > ", "context size (", "context length of "];
            self.number_after(&words)
        });
        let words = match (needed, limit) {
            (Some(needed), Some(limit)) => {
                format!("the request takes {needed} tokens, the context has {limit}")
            }
            (None, Some(limit)) => {
                format!("input and answer do not fit the context of {limit} tokens")
            }
            _ => "input and answer do not fit the context".into(),
        };
        Refusal::new(RefusalCode::ContextOverflow, words)
    }
}

/// What the status and the body of an error mean for who asked, and what they say of the upstream's
/// health, where they say something.
#[must_use]
pub fn refusal(place: Place, status: u16, retry_after_ms: Option<u64>, body: &[u8]) -> Fault {
    let said = serde_json::from_slice(body).map_or_else(
        |_| Said { words: String::from_utf8_lossy(body).to_ascii_lowercase(), ..Said::default() },
        |value: Value| Said::of(&value),
    );
    meaning(place, status, retry_after_ms, &said)
}

/// The same for an error that comes in the middle of an answer, without a status.
#[must_use]
pub fn refusal_in_stream(place: Place, error: &Value) -> Fault {
    let said = Said::of(error);
    let status = match said.kind.as_str() {
        "overloaded_error" | "unavailable_error" => 503,
        "rate_limit_error" => 429,
        "invalid_request_error" | "exceed_context_size_error" | "badrequesterror" => 400,
        "authentication_error" => 401,
        "permission_error" => 403,
        "not_found_error" => 404,
        _ => said.code.parse().unwrap_or(500),
    };
    meaning(place, status, None, &said)
}

/// What is refused for the sake of the key, its rights and its credit, or of a filter. Only what is said
/// of the key itself counts against the upstream at once: what a request asks for can bring about a
/// refusal, too, by its text, its model or its price.
fn refused(status: u16, said: &Said) -> Option<(Refusal, Option<Sign>)> {
    use RefusalCode::{ProviderFailed, UnknownModel};
    let of = Refusal::new;
    let is_of_key = said.is_any(&[
        "permission_error",
        "permission_denied",
        "authentication_error",
        "invalid_api_key",
        "forbidden",
        "access_denied",
    ]) || said.mentions(&["api key", "key limit"]);
    Some(match status {
        401 => (
            of(ProviderFailed, "the upstream does not accept the configured key"),
            Some(Sign::Rejected),
        ),
        // Some hosts refuse so what their filter does not like.
        403 if said.mentions(&["flagged", "moderation"]) => {
            (of(RefusalCode::NotPermitted, "the upstream's filter refuses the request"), None)
        }
        403 if said.code == "model_not_found" => {
            (of(UnknownModel, "the upstream does not know the model"), None)
        }
        403 => (
            of(ProviderFailed, "the upstream does not permit this with the configured key"),
            Some(if is_of_key { Sign::Rejected } else { Sign::Failed }),
        ),
        402 if said.mentions(&["fewer max_tokens", "can only afford"]) => {
            (of(ProviderFailed, "the upstream's credit is too little for so long an answer"), None)
        }
        400 if said.words.starts_with("your credit balance") => {
            (of(ProviderFailed, "the upstream wants to be paid"), Some(Sign::Rejected))
        }
        402 => (of(ProviderFailed, "the upstream wants to be paid"), Some(Sign::Rejected)),
        429 if said.is_any(&["insufficient_quota"]) => {
            (of(ProviderFailed, "the upstream's quota is used up"), Some(Sign::Rejected))
        }
        _ => return None,
    })
}

fn meaning(place: Place, status: u16, retry_after_ms: Option<u64>, said: &Said) -> Fault {
    use RefusalCode::{Busy, InvalidRequest, ProviderFailed, TooLarge, UnknownModel, Unsupported};
    let of = Refusal::new;
    let is_content = matches!(
        place,
        Place::ChatCompletions
            | Place::Completions
            | Place::Messages
            | Place::OllamaChat
            | Place::OllamaGenerate
    );
    let names_model = said.mentions(&["model"]) || said.code == "model_not_found";
    if let Some((refusal, sign)) = refused(status, said) {
        return Fault { refusal, sign };
    }
    let (refusal, sign) = match status {
        // Busy is not ill: its models stay listed.
        429 | 503 | 529 => {
            let ms = retry_after_ms.unwrap_or(RETRY_AFTER_MS_DEFAULT).min(RETRY_AFTER_MS_MAX);
            (of(Busy, "the upstream is busy").retry_after_ms(ms), None)
        }
        // Some give overflows a 413 or a 500.
        400..=599 if said.is_overflow() => (said.overflow(), None),
        404 if is_content || names_model => {
            (of(UnknownModel, "the upstream does not know the model"), None)
        }
        400 if said.code == "model_not_found" => {
            (of(UnknownModel, "the upstream does not know the model"), None)
        }
        404 | 405 | 501 => (of(Unsupported, "the upstream does not offer this"), None),
        413 => (of(TooLarge, "the request is too large for the upstream"), None),
        408 => (of(ProviderFailed, "the upstream gave up waiting"), Some(Sign::Failed)),
        400..=499 => (of(InvalidRequest, "the upstream does not accept the request"), None),
        500..=599 => {
            let words = format!("the upstream failed with status {status}");
            (of(ProviderFailed, &words), Some(Sign::Failed))
        }
        // Redirects too: nobody is led elsewhere with a key in hand.
        _ => (
            of(ProviderFailed, &format!("the upstream answered with status {status}")),
            Some(Sign::Failed),
        ),
    };
    Fault { refusal, sign }
}

/// Milliseconds that an upstream asks for in its headers. Dates are left out: they would make us
/// depend on its clock.
#[must_use]
pub fn retry_after_ms(in_ms: Option<&str>, in_s: Option<&str>) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| (0.0..1e9).contains(n));
    let ms = in_ms.and_then(number).or_else(|| Some(in_s.and_then(number)? * 1000.0))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the limit"
    )]
    let ms = ms.min(RETRY_AFTER_MS_MAX as f64) as u64;
    Some(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (u16, &'static str, RefusalCode, &'static str, Option<Sign>);

    const REAL: &[Row] = &[
        // llama-server
        (
            400,
            r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
            RefusalCode::ContextOverflow,
            "takes 9 tokens, the context has 8",
            None,
        ),
        (
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            RefusalCode::Busy,
            "busy",
            None,
        ),
        // vLLM, old and new
        (
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, 500 in the completion).","type":"BadRequestError","code":400}"#,
            RefusalCode::ContextOverflow,
            "takes 5000 tokens, the context has 4096",
            None,
        ),
        (
            404,
            r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","code":404}}"#,
            RefusalCode::UnknownModel,
            "model",
            None,
        ),
        // OpenAI
        (
            400,
            r#"{"error":{"message":"...","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            RefusalCode::ContextOverflow,
            "do not fit",
            None,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key provided: sk-12*34","code":"invalid_api_key"}}"#,
            RefusalCode::ProviderFailed,
            "key",
            Some(Sign::Rejected),
        ),
        (
            429,
            r#"{"error":{"code":"insufficient_quota","message":"x"}}"#,
            RefusalCode::ProviderFailed,
            "quota",
            Some(Sign::Rejected),
        ),
        // Anthropic
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            RefusalCode::ContextOverflow,
            "takes 210000 tokens, the context has 200000",
            None,
        ),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            RefusalCode::Busy,
            "busy",
            None,
        ),
        // Ollama
        (404, r#"{"error":"model 'x' not found"}"#, RefusalCode::UnknownModel, "model", None),
        (
            400,
            r#"{"error":"the input length exceeds the context length"}"#,
            RefusalCode::ContextOverflow,
            "do not fit",
            None,
        ),
        // Anybody
        (400, "secret sk-1", RefusalCode::InvalidRequest, "does not accept the request", None),
        (422, "", RefusalCode::InvalidRequest, "does not accept", None),
        (413, "<html>", RefusalCode::TooLarge, "too large", None),
        (500, "\u{0}", RefusalCode::ProviderFailed, "status 500", Some(Sign::Failed)),
        (302, "", RefusalCode::ProviderFailed, "status 302", Some(Sign::Failed)),
        (403, "{}", RefusalCode::ProviderFailed, "permit", Some(Sign::Failed)),
        (403, "<html>blocked", RefusalCode::ProviderFailed, "permit", Some(Sign::Failed)),
        (
            403,
            r#"{"error":{"type":"permission_error","message":"no"}}"#,
            RefusalCode::ProviderFailed,
            "permit",
            Some(Sign::Rejected),
        ),
        (
            403,
            r#"{"error":{"code":403,"message":"Key limit exceeded (total limit)"}}"#,
            RefusalCode::ProviderFailed,
            "permit",
            Some(Sign::Rejected),
        ),
        (
            403,
            r#"{"error":{"code":"model_not_found","message":"Project has no access to model x"}}"#,
            RefusalCode::UnknownModel,
            "does not know the model",
            None,
        ),
        (
            402,
            r#"{"error":{"code":402,"message":"This request requires more credits, or fewer max_tokens. You requested up to 16384 tokens, but can only afford 3324."}}"#,
            RefusalCode::ProviderFailed,
            "too little",
            None,
        ),
        (402, "{}", RefusalCode::ProviderFailed, "paid", Some(Sign::Rejected)),
        (
            400,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}}"#,
            RefusalCode::ProviderFailed,
            "paid",
            Some(Sign::Rejected),
        ),
    ];

    #[test]
    fn errors_of_real_servers() {
        for &(status, body, code, words, sign) in REAL {
            let fault = refusal(Place::ChatCompletions, status, Some(7), body.as_bytes());
            let (refusal, found) = (fault.refusal, fault.sign);
            assert_eq!((refusal.code, found), (code, sign), "{status} {body}");
            assert!(refusal.detail.contains(words), "{} for {body}", refusal.detail);
            assert!(!refusal.detail.contains("sk-"), "{}", refusal.detail);
            assert_eq!(refusal.retry_after_ms, (code == RefusalCode::Busy).then_some(7));
        }
    }

    #[test]
    fn errors_inside_an_answer() {
        for (error, code) in [
            (r#"{"error":{"type":"overloaded_error","message":"x"}}"#, RefusalCode::Busy),
            (r#"{"error":{"message":"x","code":400}}"#, RefusalCode::InvalidRequest),
            (r#"{"error":"llama runner process has terminated"}"#, RefusalCode::ProviderFailed),
            (r#"{"error":null}"#, RefusalCode::ProviderFailed),
        ] {
            let error = serde_json::from_str(error).unwrap();
            assert_eq!(refusal_in_stream(Place::OllamaChat, &error).refusal.code, code, "{error}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_is_a_thing_it_cannot_do() {
        let fault = refusal(Place::Rerank, 404, None, b"Not Found");
        assert_eq!(fault.refusal.code, RefusalCode::Unsupported);
    }

    #[test]
    fn times_to_come_again() {
        for (in_ms, in_s, found) in [
            (None, None, None),
            (Some("1500"), Some("9"), Some(1500)),
            (None, Some(" 2 "), Some(2000)),
            (None, Some("0.25"), Some(250)),
            (None, Some("-1"), None),
            (None, Some("NaN"), None),
            (None, Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
            (None, Some("99999999"), Some(RETRY_AFTER_MS_MAX)),
        ] {
            assert_eq!(retry_after_ms(in_ms, in_s), found);
        }
    }
}
