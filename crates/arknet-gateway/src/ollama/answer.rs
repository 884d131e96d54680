use std::time::Duration;

use arknet_types::{FinishReason, Refusal, Reply, TokenLogprob, ToolCall, ToolCallPiece, Usage};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    error::in_words,
    moment::{Watch, nanos},
};
use crate::{ApiError, Gathered, arguments, dialect::Dialect, encode::Encode};

/// Bytes of the arguments of one call, which are told when they are whole.
const ARGUMENTS_BYTES_MAX: usize = 1024 * 1024;

/// Which endpoint answers, hence in which shape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    Chat,
    Generate,
}

/// What every line of an answer repeats.
pub(super) struct Head {
    pub(super) endpoint: Endpoint,
    /// The model as the client called it.
    pub(super) model: String,
    pub(super) watch: Watch,
}

/// What a line brings.
#[derive(Default)]
struct Piece<'a> {
    text: &'a str,
    thinking: Option<&'a str>,
    calls: &'a [ToolCall],
    logprobs: &'a [TokenLogprob],
    end: Option<End>,
}

/// What the last line says.
#[derive(Clone, Copy, Serialize)]
struct End {
    done_reason: &'static str,
    total_duration: u64,
    load_duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_duration: Option<u64>,
}

impl End {
    /// What can be seen from here: until the first piece a request waits, the model is loaded where it
    /// has to be, and the prompt is read; after it tokens are made.
    fn new(finish: FinishReason, usage: Usage, first: Duration, total: Duration) -> Self {
        let first = first.min(total);
        Self {
            done_reason: match finish {
                FinishReason::Length => "length",
                FinishReason::Stop | FinishReason::ToolCalls | FinishReason::StopSequence(_) => {
                    "stop"
                }
            },
            total_duration: nanos(total),
            load_duration: 0,
            prompt_eval_count: Some(usage.prompt_tokens),
            prompt_eval_duration: Some(nanos(first)),
            eval_count: Some(usage.completion_tokens),
            eval_duration: Some(nanos(total.saturating_sub(first))),
        }
    }
}

impl Head {
    /// A whole answer as JSON. `first`: when its first piece came.
    pub(super) fn whole_json(&self, gathered: &Gathered, first: Duration) -> Vec<u8> {
        let thinking = Some(gathered.reasoning.as_str()).filter(|text| !text.is_empty());
        let total = self.watch.elapsed();
        let mut out = Vec::with_capacity(gathered.text.len() + gathered.text.len() / 8 + 512);
        let piece = Piece {
            text: &gathered.text,
            thinking,
            calls: &gathered.tool_calls,
            logprobs: &gathered.logprobs,
            end: Some(End::new(gathered.finish, gathered.usage, first, total)),
        };
        self.write(piece, total, &mut out);
        out
    }

    /// The answer to an order to load the model, or to let go of it.
    pub(super) fn kept_json(&self, done_reason: &'static str) -> Vec<u8> {
        let total = self.watch.elapsed();
        let end = End {
            done_reason,
            total_duration: nanos(total),
            load_duration: nanos(total),
            prompt_eval_count: None,
            prompt_eval_duration: None,
            eval_count: None,
            eval_duration: None,
        };
        let mut out = Vec::with_capacity(256);
        self.write(Piece { end: Some(end), ..Piece::default() }, total, &mut out);
        out
    }

    fn write(&self, piece: Piece<'_>, elapsed: Duration, out: &mut Vec<u8>) {
        let inputs: Vec<_> =
            piece.calls.iter().map(|call| arguments::object(&call.arguments)).collect();
        let calls = piece.calls.iter().zip(&inputs).map(|(call, arguments)| Call {
            id: &call.id,
            function: Function { name: &call.name, arguments },
        });
        let calls: Vec<_> = calls.collect();
        let (message, response, thinking) = match self.endpoint {
            Endpoint::Chat => {
                let message = Message {
                    role: "assistant",
                    content: piece.text,
                    thinking: piece.thinking,
                    tool_calls: &calls,
                };
                (Some(message), None, None)
            }
            Endpoint::Generate => (None, Some(piece.text), piece.thinking),
        };
        let line = Line {
            model: &self.model,
            created_at: self.watch.at(elapsed),
            message,
            response,
            thinking,
            done: piece.end.is_some(),
            logprobs: piece.logprobs.iter().map(Likely::new).collect(),
            end: piece.end,
        };
        serde_json::to_writer(out, &line).expect("strings and finite numbers are always JSON");
    }
}

/// An answer as a stream of lines.
pub(super) struct Lines {
    head: Head,
    /// When the first piece came.
    first: Option<Duration>,
    /// The call that is not whole yet, and its number.
    call: Option<(u16, ToolCall)>,
    /// Those of the text to come.
    logprobs: Vec<TokenLogprob>,
    ended: bool,
}

impl Lines {
    pub(super) const fn new(head: Head) -> Self {
        Self { head, first: None, call: None, logprobs: Vec::new(), ended: false }
    }

    fn line(&mut self, piece: Piece<'_>, out: &mut Vec<u8>) {
        let logprobs = std::mem::take(&mut self.logprobs);
        let elapsed = self.head.watch.elapsed();
        self.head.write(Piece { logprobs: &logprobs, ..piece }, elapsed, out);
        out.push(b'\n');
    }

    fn call(&mut self, piece: ToolCallPiece, out: &mut Vec<u8>) {
        if self.call.as_ref().is_none_or(|(index, _)| *index != piece.index) {
            self.called(out);
            let index = piece.index;
            let id = piece.id.unwrap_or_else(|| format!("call_{index}"));
            let name = piece.name.unwrap_or_default();
            self.call = Some((index, ToolCall { id, name, arguments: String::new() }));
        }
        let Some((_, call)) = &mut self.call else { return };
        if call.arguments.len() + piece.arguments.len() > ARGUMENTS_BYTES_MAX {
            let words = format!("a tool call has more than {ARGUMENTS_BYTES_MAX} bytes");
            self.fail(&Refusal::new(arknet_types::RefusalCode::ProviderFailed, words), out);
            return;
        }
        call.arguments.push_str(&piece.arguments);
    }

    /// Tells the call that has become whole.
    fn called(&mut self, out: &mut Vec<u8>) {
        if let Some((_, call)) = self.call.take() {
            self.line(Piece { calls: &[call], ..Piece::default() }, out);
        }
    }
}

impl Encode for Lines {
    fn content_type(&self) -> &'static str {
        "application/x-ndjson"
    }

    fn open(&mut self, _: &mut Vec<u8>) {}

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        let now = self.head.watch.elapsed();
        let first = *self.first.get_or_insert(now);
        match reply {
            Reply::Text { text, .. } => {
                self.called(out);
                if !text.is_empty() {
                    self.line(Piece { text: &text, ..Piece::default() }, out);
                }
            }
            Reply::Reasoning { text, .. } => {
                self.called(out);
                if !text.is_empty() {
                    self.line(Piece { thinking: Some(&text), ..Piece::default() }, out);
                }
            }
            Reply::ToolCall(piece) => self.call(piece, out),
            Reply::Logprobs(logprobs) => self.logprobs.extend(logprobs),
            Reply::Done { finish, usage } => {
                self.called(out);
                let end = End::new(finish, usage, first, now);
                self.line(Piece { end: Some(end), ..Piece::default() }, out);
                self.ended = true;
            }
            Reply::Refused(refusal) => self.fail(&refusal, out),
            // Nothing that an answer has a place for.
            _ => {}
        }
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let error = in_words(ApiError::from_refusal(refusal.clone()), &self.head.model);
        Dialect::Ollama.write_error(&error, out);
        out.push(b'\n');
    }

    // An empty line would be one that clients cannot read.
    fn keep_alive(&mut self, _: &mut Vec<u8>) {}
}

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    done: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<Likely<'a>>,
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [Call<'a>],
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

#[derive(Serialize)]
struct Likely<'a> {
    token: String,
    logprob: f32,
    bytes: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<Self>>,
}

impl<'a> Likely<'a> {
    fn new(token: &'a TokenLogprob) -> Self {
        let top = token.top.iter().map(|other| Self::one(&other.bytes, other.logprob)).collect();
        Self { top_logprobs: Some(top), ..Self::one(&token.bytes, token.logprob) }
    }

    fn one(bytes: &'a [u8], logprob: f32) -> Self {
        let token = String::from_utf8_lossy(bytes).into_owned();
        Self { token, logprob, bytes, top_logprobs: None }
    }
}
