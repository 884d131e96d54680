use arknet_types::{FinishReason, ModelName, Usage};
use serde::Serialize;

use crate::{ApiError, ListedModel, dialect::Dialect};

/// Which endpoint answers, hence in which shape.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
}

/// What every object of one answer repeats.
#[derive(Clone, Debug)]
pub struct Head {
    /// Which endpoint answers.
    pub endpoint: Endpoint,
    /// The answer's id.
    pub id: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that was asked for.
    pub model: ModelName,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answered<'a> {
    /// All of the text.
    pub text: &'a str,
    /// Why it ended.
    pub finish: FinishReason,
    /// What it took.
    pub usage: Usage,
}

/// What a chunk of a stream brings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece<'a> {
    /// Who speaks. Chat only.
    Role,
    Text(&'a str),
    End(FinishReason),
}

impl Head {
    /// The id in the form the endpoint uses.
    #[must_use]
    pub fn id(endpoint: Endpoint, number: &str) -> String {
        match endpoint {
            Endpoint::Chat => format!("chatcmpl-{number}"),
            Endpoint::Completion => format!("cmpl-{number}"),
        }
    }

    /// A whole answer as JSON.
    #[must_use]
    pub fn answer_json(&self, answered: &Answered<'_>) -> Vec<u8> {
        let finish_reason = Some(finish_reason(answered.finish));
        let choice = match self.endpoint {
            Endpoint::Chat => Choice::Message {
                index: 0,
                message: WholeMessage { role: "assistant", content: answered.text, refusal: None },
                logprobs: None,
                finish_reason,
            },
            Endpoint::Completion => {
                Choice::Text { text: answered.text, index: 0, logprobs: None, finish_reason }
            }
        };
        let object = match self.endpoint {
            Endpoint::Chat => "chat.completion",
            Endpoint::Completion => "text_completion",
        };
        let usage = Some(Some(answered.usage.into()));
        let mut out = Vec::with_capacity(answered.text.len() + answered.text.len() / 8 + 512);
        write(&mut out, &self.object(object, &[choice], usage));
        out
    }

    /// Appends one server-sent event. `with_usage`: whether the stream ends with token counts, which
    /// puts a null into every chunk before.
    pub(crate) fn write_chunk(&self, out: &mut Vec<u8>, piece: Piece<'_>, with_usage: bool) {
        let choice = match self.endpoint {
            Endpoint::Chat => Choice::Delta {
                index: 0,
                delta: Delta::from(piece),
                logprobs: None,
                finish_reason: piece.finish_reason(),
            },
            Endpoint::Completion => Choice::Text {
                text: piece.text(),
                index: 0,
                logprobs: None,
                finish_reason: piece.finish_reason(),
            },
        };
        let usage = with_usage.then_some(None);
        event(out, |out| {
            write(out, &self.object(self.chunk_object(), &[choice], usage));
        });
    }

    /// Appends the event that ends a stream with token counts.
    pub(crate) fn write_usage(&self, out: &mut Vec<u8>, usage: Usage) {
        let usage = Some(Some(usage.into()));
        event(out, |out| {
            write(out, &self.object(self.chunk_object(), &[], usage));
        });
    }

    const fn chunk_object(&self) -> &'static str {
        match self.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        }
    }

    fn object<'a>(
        &'a self,
        object: &'static str,
        choices: &'a [Choice<'a>],
        usage: Option<Option<Counts>>,
    ) -> Envelope<'a> {
        Envelope {
            id: &self.id,
            object,
            created: self.created,
            model: self.model.as_str(),
            choices,
            usage,
            system_fingerprint: None,
        }
    }
}

/// Appends the event that ends a stream which failed. No `[DONE]` follows, so that the answer is
/// not taken for complete.
pub(crate) fn write_error(out: &mut Vec<u8>, error: &ApiError) {
    event(out, |out| Dialect::OpenAi.write_error(error, out));
}

/// The body of `GET /v1/models`.
#[must_use]
pub fn models_json(models: &[ListedModel], created: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 512 * models.len());
    let data: Vec<_> = models.iter().map(|model| entry(model, created)).collect();
    let list = List { object: "list", data: &data };
    write(&mut out, &list);
    out
}

/// The body of `GET /v1/models/{id}`.
#[must_use]
pub fn model_json(model: &ListedModel, created: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(&mut out, &entry(model, created));
    out
}

fn entry(model: &ListedModel, created: u64) -> Entry<'_> {
    Entry {
        id: model.name.as_str(),
        object: "model",
        created,
        owned_by: "arknet",
        arknet: Where {
            digest: model.digest.map(|digest| digest.to_string()),
            context_tokens: model.context_tokens,
            local: model.local,
            peers: model.peers.iter().map(ToString::to_string).collect(),
            slots_free: model.slots_free,
        },
    }
}

fn event(out: &mut Vec<u8>, json: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"data: ");
    json(out);
    out.extend_from_slice(b"\n\n");
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("strings and numbers are always JSON");
}

const fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop | FinishReason::StopSequence(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

impl<'a> Piece<'a> {
    const fn text(self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Role | Self::End(_) => "",
        }
    }

    const fn finish_reason(self) -> Option<&'static str> {
        match self {
            Self::End(finish) => Some(finish_reason(finish)),
            Self::Role | Self::Text(_) => None,
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Counts>>,
    system_fingerprint: Option<()>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Delta {
        index: u32,
        delta: Delta<'a>,
        logprobs: Option<()>,
        finish_reason: Option<&'static str>,
    },
    Message {
        index: u32,
        message: WholeMessage<'a>,
        logprobs: Option<()>,
        finish_reason: Option<&'static str>,
    },
    Text {
        text: &'a str,
        index: u32,
        logprobs: Option<()>,
        finish_reason: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}

impl<'a> From<Piece<'a>> for Delta<'a> {
    fn from(piece: Piece<'a>) -> Self {
        Self {
            role: matches!(piece, Piece::Role).then_some("assistant"),
            content: (!matches!(piece, Piece::End(_))).then(|| piece.text()),
        }
    }
}

#[derive(Serialize)]
struct WholeMessage<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
}

#[derive(Serialize)]
struct Counts {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
        }
    }
}

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: &'a [Entry<'a>],
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    arknet: Where,
}

#[derive(Serialize)]
struct Where {
    digest: Option<String>,
    context_tokens: u32,
    local: bool,
    peers: Vec<String>,
    slots_free: u32,
}
