//! The parameters: which are read, which are refused, which one a refusal speaks of. Parameters in
//! neither list (`user`, `metadata`, `store`, `service_tier`, ..) do not change the answer, are
//! ignored and go nowhere.

use serde::Deserialize;

use super::{
    content::{Biases, Content, Object, PartKind, Prompt, Stops},
    shape::Shape,
};
use crate::ApiError;

/// What either endpoint reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Params {
    pub(crate) model: Option<String>,
    pub(crate) messages: Option<Vec<Object<WireMessage>>>,
    pub(crate) prompt: Option<Prompt>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<Object<StreamOptions>>,
    pub(crate) max_tokens: Option<u32>,
    pub(crate) max_completion_tokens: Option<u32>,
    pub(crate) stop: Option<Stops>,
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    pub(crate) top_k: Option<i64>,
    pub(crate) min_p: Option<f32>,
    pub(crate) presence_penalty: Option<f32>,
    pub(crate) frequency_penalty: Option<f32>,
    #[serde(alias = "repetition_penalty")]
    pub(crate) repeat_penalty: Option<f32>,
    pub(crate) seed: Option<i64>,
    pub(crate) logit_bias: Option<Biases>,
    audio: Shape,
    best_of: Shape,
    echo: Shape,
    function_call: Shape,
    functions: Shape,
    logprobs: Shape,
    modalities: Shape,
    n: Shape,
    response_format: Shape,
    suffix: Shape,
    tool_choice: Shape,
    tools: Shape,
    top_logprobs: Shape,
    web_search_options: Shape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct WireMessage {
    pub(crate) role: WireRole,
    pub(crate) content: Option<Content>,
    #[serde(default)]
    tool_calls: Shape,
    #[serde(default)]
    function_call: Shape,
    #[serde(default)]
    audio: Shape,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

type Field = (&'static str, fn(&Params) -> &Shape, fn(&Shape) -> bool, &'static str);

/// Refused by both endpoints unless they ask for nothing: name, value, whether it asks for nothing,
/// what would be accepted.
const REFUSED: &[Field] = &[("n", |p| &p.n, is_one, "1")];

/// Refused by chat.
const CHAT_REFUSED: &[Field] = &[
    ("audio", |p| &p.audio, is_absent, "null"),
    ("function_call", |p| &p.function_call, is_no_choice, "'none' or 'auto'"),
    ("functions", |p| &p.functions, is_empty, "an empty array"),
    ("logprobs", |p| &p.logprobs, is_false, "false"),
    ("modalities", |p| &p.modalities, is_text_only, "['text']"),
    ("response_format", |p| &p.response_format, is_text_format, "{'type': 'text'}"),
    ("tool_choice", |p| &p.tool_choice, is_no_choice, "'none' or 'auto'"),
    ("tools", |p| &p.tools, is_empty, "an empty array"),
    ("top_logprobs", |p| &p.top_logprobs, is_zero, "0"),
    ("web_search_options", |p| &p.web_search_options, is_absent, "null"),
];

/// Refused by completions.
const COMPLETION_REFUSED: &[Field] = &[
    ("best_of", |p| &p.best_of, is_one, "1"),
    ("echo", |p| &p.echo, is_false, "false"),
    ("logprobs", |p| &p.logprobs, is_absent, "null"),
    ("suffix", |p| &p.suffix, is_empty, "null"),
];

impl Params {
    /// Refuses what would change the answer and cannot be done.
    pub(crate) fn check_supported(&self, chat: bool) -> Result<(), ApiError> {
        let own = if chat { CHAT_REFUSED } else { COMPLETION_REFUSED };
        for (name, value, asks_nothing, accepted) in REFUSED.iter().chain(own) {
            if !asks_nothing(value(self)) {
                let message =
                    format!("'{name}' is not supported here: leave it out or send {accepted}.");
                return Err(ApiError::parameter(*name, message).code("unsupported_parameter"));
            }
        }
        let stream = self.stream.unwrap_or_default();
        if self.stream_options.is_some() && !stream {
            return Err(ApiError::parameter(
                "stream_options",
                "'stream_options' is only allowed when 'stream' is true.",
            ));
        }
        Ok(())
    }
}

impl WireMessage {
    /// Refuses what a model that reads text cannot be given.
    pub(crate) fn check_supported(&self, index: usize, model: &str) -> Result<(), ApiError> {
        let unsupported = |param: String, what: &str| {
            let message = format!("The model `{model}` reads text only: {what} are not supported.");
            Err(ApiError::parameter(param, message).code("unsupported_content"))
        };
        if let Some((part, kind)) = self.content.as_ref().and_then(|content| content.other) {
            let what = match kind {
                PartKind::ImageUrl => "images",
                PartKind::InputAudio => "sounds",
                PartKind::VideoUrl => "videos",
                PartKind::File | PartKind::Refusal | PartKind::Text => "files",
            };
            return unsupported(format!("messages[{index}].content[{part}]"), what);
        }
        if !is_empty(&self.tool_calls) {
            return unsupported(format!("messages[{index}].tool_calls"), "tool calls");
        }
        if !is_absent(&self.function_call) {
            return unsupported(format!("messages[{index}].function_call"), "function calls");
        }
        if !is_absent(&self.audio) {
            return unsupported(format!("messages[{index}].audio"), "sounds");
        }
        Ok(())
    }
}

const fn is_absent(shape: &Shape) -> bool {
    matches!(shape, Shape::Absent)
}

const fn is_false(shape: &Shape) -> bool {
    matches!(shape, Shape::Absent | Shape::Bool(false))
}

fn is_zero(shape: &Shape) -> bool {
    is_absent(shape) || *shape == Shape::Number(0.0)
}

fn is_one(shape: &Shape) -> bool {
    is_absent(shape) || *shape == Shape::Number(1.0)
}

fn is_empty(shape: &Shape) -> bool {
    match shape {
        Shape::Absent | Shape::List { length: 0, .. } => true,
        Shape::Text(text) => text.is_empty(),
        _ => false,
    }
}

const fn is_text_only(shape: &Shape) -> bool {
    matches!(shape, Shape::Absent | Shape::List { text_only: true, .. })
}

fn is_text_format(shape: &Shape) -> bool {
    match shape {
        Shape::Absent => true,
        Shape::Object(kind) => kind.as_deref() == Some("text"),
        _ => false,
    }
}

fn is_no_choice(shape: &Shape) -> bool {
    match shape {
        Shape::Absent => true,
        Shape::Text(text) => text == "none" || text == "auto",
        _ => false,
    }
}
