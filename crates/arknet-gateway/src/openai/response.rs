use arknet_types::{FinishReason, ModelName, ToolCall, Usage};
use serde::Serialize;

use super::logprobs::{ChatLogprobs, TextLogprobs};
use crate::{ApiError, Gathered, ListedModel, dialect::Dialect};

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
    /// How many answers there are to each prompt.
    pub n: usize,
    /// What the answers to each prompt begin with, where that was asked for.
    pub echo: Vec<String>,
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
    pub fn answer_json(&self, answers: &[Gathered], with_logprobs: bool) -> Vec<u8> {
        let choices: Vec<Choice<'_>> = answers
            .iter()
            .zip(0_u32..)
            .map(|(answer, index)| match self.endpoint {
                Endpoint::Chat => chat_choice(answer, index, with_logprobs),
                Endpoint::Completion => self.text_choice(answer, index, with_logprobs),
            })
            .collect();
        let usages: Vec<Usage> = answers.iter().map(|answer| answer.usage).collect();
        let text: usize = answers.iter().map(|answer| answer.text.len()).sum();
        let mut out = Vec::with_capacity(text + text / 8 + 768);
        let envelope = Envelope {
            id: &self.id,
            object: match self.endpoint {
                Endpoint::Chat => "chat.completion",
                Endpoint::Completion => "text_completion",
            },
            created: self.created,
            model: self.model.as_str(),
            choices: &choices,
            usage: total(&usages, self.n).into(),
            system_fingerprint: None,
        };
        write(&mut out, &envelope);
        out
    }

    /// The prompt that the answer of this index repeats.
    pub(crate) fn echoed(&self, index: usize) -> &str {
        self.echo.get(index / self.n.max(1)).map_or("", String::as_str)
    }

    fn text_choice<'a>(&'a self, answer: &'a Gathered, index: u32, likely: bool) -> Choice<'a> {
        let echo = self.echoed(index as usize);
        let mut offset = echo.chars().count();
        Choice::Text {
            text: Joined(echo, &answer.text),
            index,
            logprobs: likely.then(|| TextLogprobs::new(&answer.logprobs, &mut offset)),
            finish_reason: finish_reason(answer.finish),
        }
    }
}

fn chat_choice(answer: &Gathered, index: u32, with_logprobs: bool) -> Choice<'_> {
    // Who only calls tools says nothing.
    let silent = answer.text.is_empty() && !answer.tool_calls.is_empty();
    Choice::Message {
        index,
        message: WholeMessage {
            role: "assistant",
            content: (!silent).then_some(&answer.text),
            refusal: None,
            reasoning_content: (!answer.reasoning.is_empty()).then_some(&answer.reasoning),
            tool_calls: answer.tool_calls.iter().map(WireCall::from).collect(),
        },
        logprobs: with_logprobs.then(|| ChatLogprobs::new(&answer.logprobs)),
        finish_reason: finish_reason(answer.finish),
    }
}

/// What several answers took together. Those to the same prompt share its tokens.
pub(crate) fn total(usages: &[Usage], n: usize) -> Usage {
    let mut sum = Usage::default();
    for same in usages.chunks(n.max(1)) {
        sum.prompt_tokens = sum.prompt_tokens.saturating_add(same[0].prompt_tokens);
        sum.cached_tokens = sum.cached_tokens.saturating_add(same[0].cached_tokens);
        for one in same {
            sum.completion_tokens = sum.completion_tokens.saturating_add(one.completion_tokens);
            sum.reasoning_tokens = sum.reasoning_tokens.saturating_add(one.reasoning_tokens);
        }
    }
    sum
}

/// Appends the event that ends a stream which failed. No `[DONE]` follows, so that the answer is
/// not taken for complete.
pub(crate) fn write_error(out: &mut Vec<u8>, error: &ApiError) {
    out.extend_from_slice(b"data: ");
    Dialect::OpenAi.write_error(error, out);
    out.extend_from_slice(b"\n\n");
}

/// The body of `GET /v1/models`.
#[must_use]
pub fn models_json(models: &[ListedModel], opened: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 512 * models.len());
    let data: Vec<_> = models.iter().map(|model| entry(model, opened)).collect();
    let list = List { object: "list", data: &data };
    write(&mut out, &list);
    out
}

/// The body of `GET /v1/models/{id}`.
#[must_use]
pub fn model_json(model: &ListedModel, opened: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    write(&mut out, &entry(model, opened));
    out
}

fn entry(model: &ListedModel, opened: u64) -> Entry<'_> {
    let about = &model.about;
    Entry {
        id: model.name.as_str(),
        object: "model",
        created: about.added_unix_s.unwrap_or(opened),
        owned_by: "arknet",
        max_model_len: model.context_tokens,
        arknet: Details {
            digest: model.digest.map(|digest| digest.to_string()),
            context_tokens: model.context_tokens,
            capabilities: model.capabilities.names().collect(),
            local: model.local,
            peers: model.peers.iter().map(ToString::to_string).collect(),
            slots_free: model.slots_free,
            architecture: about.architecture.as_deref(),
            parameters: about.parameters,
            quantization: about.quantization.as_deref(),
            file_bytes: about.file_bytes,
            embedding_dimensions: about.embedding_dimensions,
            build_class: about.build_class.as_deref(),
        },
    }
}

pub(crate) fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("strings and numbers are always JSON");
}

pub(crate) const fn finish_reason(finish: FinishReason) -> &'static str {
    match finish {
        FinishReason::Stop | FinishReason::StopSequence(_) => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [Choice<'a>],
    usage: Counts,
    system_fingerprint: Option<()>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Choice<'a> {
    Message {
        index: u32,
        message: WholeMessage<'a>,
        logprobs: Option<ChatLogprobs<'a>>,
        finish_reason: &'static str,
    },
    Text {
        text: Joined<'a>,
        index: u32,
        logprobs: Option<TextLogprobs<'a>>,
        finish_reason: &'static str,
    },
}

/// Two texts as one.
struct Joined<'a>(&'a str, &'a str);

impl Serialize for Joined<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_empty() {
            serializer.serialize_str(self.1)
        } else {
            serializer.collect_str(&format_args!("{}{}", self.0, self.1))
        }
    }
}

#[derive(Serialize)]
struct WholeMessage<'a> {
    role: &'static str,
    content: Option<&'a String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    r#type: &'static str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: &'a str,
}

impl<'a> From<&'a ToolCall> for WireCall<'a> {
    fn from(call: &'a ToolCall) -> Self {
        let function = WireFunction { name: &call.name, arguments: &call.arguments };
        Self { id: &call.id, r#type: "function", function }
    }
}

/// Token counts in the shape of chat completions, completions and embeddings.
#[derive(Serialize)]
pub(crate) struct Counts {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning_tokens,
            },
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
    /// vLLM's name for the context length.
    max_model_len: u32,
    arknet: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    digest: Option<String>,
    context_tokens: u32,
    capabilities: Vec<&'static str>,
    local: bool,
    peers: Vec<String>,
    slots_free: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantization: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding_dimensions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    build_class: Option<&'a str>,
}
