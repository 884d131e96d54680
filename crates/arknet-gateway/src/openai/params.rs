//! The parameters: which are read, and which are refused. Parameters in neither list (`user`,
//! `metadata`, `store`, `service_tier`, ..) do not change the answer, are ignored and go nowhere.

use std::collections::BTreeMap;

use arknet_types::{
    Profile, Reasoning, Sampling,
    limits::{COMPLETION_TOKENS_MAX, TOP_LOGPROBS_MAX},
};
use serde::Deserialize;

use super::{
    content::{Biases, Stops, Texts},
    format::{Forms, Schema, Structured, WireFormat},
    message::WireMessage,
    shape::Shape,
    tools::{WireChoice, WireTool},
};
use crate::{ApiError, json::Object};

/// Prompts in one request.
pub(crate) const PROMPTS_MAX: usize = 64;

/// What either endpoint reads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Params {
    pub(crate) model: Option<String>,
    pub(crate) messages: Option<Vec<Object<WireMessage>>>,
    pub(crate) prompt: Option<Texts<PROMPTS_MAX>>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<Object<StreamOptions>>,
    pub(crate) max_tokens: Option<i64>,
    pub(crate) max_completion_tokens: Option<i64>,
    pub(crate) n: Option<u32>,
    pub(crate) echo: Option<bool>,
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
    pub(crate) logprobs: Shape,
    pub(crate) top_logprobs: Option<u8>,
    pub(crate) tools: Option<Vec<Object<WireTool>>>,
    pub(crate) tool_choice: Option<WireChoice>,
    pub(crate) parallel_tool_calls: Option<bool>,
    pub(crate) profile: Option<WireProfile>,
    response_format: Option<Object<WireFormat>>,
    json_schema: Option<Schema>,
    grammar: Option<String>,
    structured_outputs: Option<Object<Structured>>,
    guided_json: Option<Schema>,
    guided_regex: Option<String>,
    guided_grammar: Option<String>,
    guided_choice: Option<Vec<String>>,
    reasoning_effort: Option<Effort>,
    reasoning: Option<Object<WireReasoning>>,
    enable_thinking: Option<bool>,
    thinking: Option<Object<WireThinking>>,
    chat_template_kwargs: Option<BTreeMap<String, Shape>>,
    audio: Shape,
    best_of: Shape,
    dry_multiplier: Shape,
    dynatemp_range: Shape,
    function_call: Shape,
    functions: Shape,
    ignore_eos: Shape,
    min_tokens: Shape,
    mirostat: Shape,
    modalities: Shape,
    moderation: Shape,
    suffix: Shape,
    typical_p: Shape,
    use_beam_search: Shape,
    web_search_options: Shape,
    xtc_probability: Shape,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

/// How the numbers are computed.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WireProfile {
    Default,
    Exact,
}

impl From<WireProfile> for Profile {
    fn from(wire: WireProfile) -> Self {
        match wire {
            WireProfile::Default => Self::Default,
            WireProfile::Exact => Self::Exact,
        }
    }
}

/// How long to think. Models here either do or do not.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

impl From<Effort> for Reasoning {
    fn from(effort: Effort) -> Self {
        match effort {
            Effort::None | Effort::Minimal => Self::Off,
            Effort::Low | Effort::Medium | Effort::High | Effort::Xhigh | Effort::Max => Self::On,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WireReasoning {
    pub(crate) effort: Option<Effort>,
    enabled: Option<bool>,
}

/// How some hosted models are told to think.
#[derive(Debug, Deserialize)]
struct WireThinking {
    r#type: Thinking,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Thinking {
    Auto,
    Disabled,
    Enabled,
}

impl From<Thinking> for Reasoning {
    fn from(thinking: Thinking) -> Self {
        match thinking {
            Thinking::Auto => Self::Auto,
            Thinking::Disabled => Self::Off,
            Thinking::Enabled => Self::On,
        }
    }
}

type Field = (&'static str, fn(&Params) -> &Shape, fn(&Shape) -> bool, &'static str);

/// Refused by both endpoints unless they ask for nothing: name, value, whether it asks for nothing,
/// what would be accepted.
const REFUSED: &[Field] = &[
    ("dry_multiplier", |p| &p.dry_multiplier, Shape::is_zero, "0"),
    ("dynatemp_range", |p| &p.dynatemp_range, Shape::is_zero, "0"),
    ("ignore_eos", |p| &p.ignore_eos, Shape::is_false, "false"),
    ("min_tokens", |p| &p.min_tokens, Shape::is_zero, "0"),
    ("mirostat", |p| &p.mirostat, Shape::is_zero, "0"),
    ("typical_p", |p| &p.typical_p, Shape::is_one, "1"),
    ("use_beam_search", |p| &p.use_beam_search, Shape::is_false, "false"),
    ("xtc_probability", |p| &p.xtc_probability, Shape::is_zero, "0"),
];

/// Refused by chat.
const CHAT_REFUSED: &[Field] = &[
    ("audio", |p| &p.audio, Shape::is_absent, "null"),
    ("function_call", |p| &p.function_call, Shape::is_no_choice, "'tool_choice'"),
    ("functions", |p| &p.functions, Shape::is_empty, "'tools'"),
    ("modalities", |p| &p.modalities, Shape::is_text_only, "['text']"),
    ("moderation", |p| &p.moderation, Shape::is_absent, "null"),
    ("web_search_options", |p| &p.web_search_options, Shape::is_absent, "null"),
];

/// Refused by completions.
const COMPLETION_REFUSED: &[Field] = &[
    ("best_of", |p| &p.best_of, Shape::is_one, "1"),
    ("suffix", |p| &p.suffix, Shape::is_empty, "null"),
];

impl Params {
    /// Refuses what would change the answer and cannot be done.
    pub(crate) fn check_supported(&self, chat: bool) -> Result<(), ApiError> {
        let own = if chat { CHAT_REFUSED } else { COMPLETION_REFUSED };
        for (name, value, asks_nothing, accepted) in REFUSED.iter().chain(own) {
            if !asks_nothing(value(self)) {
                let message =
                    format!("'{name}' is not supported here: leave it out or send {accepted}.");
                return Err(ApiError::unsupported(*name, message));
            }
        }
        if self.stream_options.is_some() && !self.stream.unwrap_or_default() {
            return Err(ApiError::parameter(
                "stream_options",
                "'stream_options' is only allowed when 'stream' is true.",
            ));
        }
        Ok(())
    }

    /// All the ways to ask for a form.
    pub(crate) fn forms(&mut self) -> Forms {
        Forms {
            response_format: self.response_format.take().map(|Object(format)| format),
            json_schema: self.json_schema.take(),
            grammar: self.grammar.take(),
            structured_outputs: self.structured_outputs.take().map(|Object(form)| form),
            guided_json: self.guided_json.take(),
            guided_regex: self.guided_regex.take(),
            guided_grammar: self.guided_grammar.take(),
            guided_choice: self.guided_choice.take(),
        }
    }

    /// Whether to think before answering. What is said to the template counts most.
    pub(crate) fn thinking(&self) -> Result<Reasoning, ApiError> {
        for (name, value) in self.chat_template_kwargs.iter().flatten() {
            match (name.as_str(), value) {
                (_, Shape::Absent) => {}
                ("enable_thinking" | "thinking", Shape::Bool(on)) => return Ok(switch(*on)),
                _ => {
                    return Err(ApiError::unsupported(
                        "chat_template_kwargs",
                        "Of 'chat_template_kwargs' only 'enable_thinking', true or false, is \
                         supported here.",
                    ));
                }
            }
        }
        let reasoning = self.reasoning.as_ref().map(|Object(reasoning)| reasoning);
        let enabled = self.enable_thinking.or_else(|| reasoning?.enabled);
        let effort = self.reasoning_effort.or_else(|| reasoning?.effort);
        let thinking = || self.thinking.as_ref().map(|Object(thinking)| thinking.r#type.into());
        let said = enabled.map(switch).or_else(thinking);
        Ok(said.or_else(|| effort.map(Into::into)).unwrap_or_default())
    }

    /// How many other likely tokens to tell of each, where the likelihood is asked for at all.
    pub(crate) fn chat_logprobs(&self) -> Result<Option<u8>, ApiError> {
        match (&self.logprobs, self.top_logprobs) {
            (Shape::Bool(true), top) => Ok(Some(top.unwrap_or_default())),
            (Shape::Absent | Shape::Bool(false), None | Some(0)) => Ok(None),
            (Shape::Absent | Shape::Bool(false), Some(_)) => Err(ApiError::parameter(
                "top_logprobs",
                "'top_logprobs' is only allowed when 'logprobs' is true.",
            )),
            _ => Err(ApiError::parameter(
                "logprobs",
                "Invalid value for 'logprobs': expected true or false.",
            )),
        }
    }

    /// The same for completions, where one number says both.
    pub(crate) fn completion_logprobs(&self) -> Result<Option<u8>, ApiError> {
        let top = match self.logprobs {
            Shape::Absent => return Ok(None),
            Shape::Number(number) => {
                (0..=TOP_LOGPROBS_MAX).find(|top| f64::from(*top).total_cmp(&number).is_eq())
            }
            _ => None,
        };
        let message = format!(
            "Invalid value for 'logprobs': expected a whole number from 0 to {TOP_LOGPROBS_MAX}."
        );
        top.map(Some).ok_or_else(|| ApiError::parameter("logprobs", message))
    }

    /// How the next token is drawn.
    pub(crate) fn sampling(&mut self) -> Sampling {
        let neutral = Sampling::default();
        Sampling {
            temperature: self.temperature.unwrap_or(neutral.temperature),
            top_p: self.top_p.unwrap_or(neutral.top_p),
            // Other servers write -1 for off.
            top_k: self
                .top_k
                .map_or(neutral.top_k, |k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: self.min_p.unwrap_or(neutral.min_p),
            presence_penalty: self.presence_penalty.unwrap_or(neutral.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(neutral.frequency_penalty),
            repeat_penalty: self.repeat_penalty.unwrap_or(neutral.repeat_penalty),
            // The same bits: a bijection, so that different seeds stay different.
            seed: self.seed.map(i64::cast_unsigned),
            logit_bias: self.logit_bias.take().unwrap_or_default().0,
        }
    }
}

const fn switch(on: bool) -> Reasoning {
    if on { Reasoning::On } else { Reasoning::Off }
}

/// The tokens of an answer as a model takes them. Apps that know no limit say so with a negative number,
/// or one beyond all that can be.
pub(crate) fn answer_limit(asked: Option<i64>) -> Option<u32> {
    let asked = u64::try_from(asked?).ok()?;
    Some(u32::try_from(asked).unwrap_or(u32::MAX).min(COMPLETION_TOKENS_MAX))
}
