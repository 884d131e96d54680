use arknet_types::{
    Format, InferRequest, Input, Reasoning, Refusal, RefusalCode, Tool, ToolChoice, Usage,
};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{
    super::{response::write, tools::Grouped},
    items::{Item, Shape},
    request::ResponseAsked,
};

/// How far an answer is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Status<'a> {
    InProgress,
    Completed(Usage),
    /// The token limit came first.
    Incomplete(Usage),
    Failed(&'a Refusal),
}

impl Status<'_> {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed(_) => "completed",
            Self::Incomplete(_) => "incomplete",
            Self::Failed(_) => "failed",
        }
    }
}

/// What every object of one answer repeats: who it is, and what was asked.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// What the ids of the answer and its items have in common.
    pub(crate) number: String,
    pub(crate) created: u64,
    pub(super) grouped: Grouped,
    echo: Echo,
}

impl Frame {
    pub(crate) fn new(number: String, created: u64, asked: &ResponseAsked) -> Self {
        Self { number, created, grouped: asked.grouped.clone(), echo: Echo::of(asked) }
    }

    pub(crate) fn id(&self) -> String {
        format!("resp_{}", self.number)
    }

    /// Appends the answer as it stands.
    pub(crate) fn write(&self, out: &mut Vec<u8>, items: &[Item], status: Status<'_>) {
        let last = items.len().saturating_sub(1);
        let output = items.iter().enumerate().map(|(index, item)| {
            let cut = index == last && !matches!(status, Status::Completed(_));
            item.shape(
                (&self.number, &self.grouped),
                index,
                if cut { "incomplete" } else { "completed" },
            )
        });
        let usage = match status {
            Status::Completed(usage) | Status::Incomplete(usage) => Some(usage.into()),
            Status::InProgress | Status::Failed(_) => None,
        };
        let object = Object {
            id: self.id(),
            object: "response",
            created_at: self.created,
            status: status.name(),
            background: false,
            error: match status {
                Status::Failed(refusal) => Some(Failure::of(refusal)),
                _ => None,
            },
            incomplete_details: matches!(status, Status::Incomplete(_))
                .then_some(Details { reason: "max_output_tokens" }),
            output: output.collect(),
            usage,
            echo: &self.echo,
        };
        write(out, &object);
    }
}

/// The answer to `DELETE /v1/responses/{id}`.
pub(crate) fn deleted_json(id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    write(&mut out, &Deleted { id, object: "response", deleted: true });
    out
}

/// The answer to `POST /v1/responses/input_tokens`.
pub(crate) fn input_tokens_json(usage: Usage) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let count = InputTokens { object: "response.input_tokens", input_tokens: usage.prompt_tokens };
    write(&mut out, &count);
    out
}

#[derive(Serialize)]
struct Deleted<'a> {
    id: &'a str,
    object: &'static str,
    deleted: bool,
}

#[derive(Serialize)]
struct InputTokens {
    object: &'static str,
    input_tokens: u32,
}

#[derive(Serialize)]
struct Object<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<Failure<'a>>,
    incomplete_details: Option<Details>,
    output: Vec<Shape<'a>>,
    usage: Option<Counts>,
    #[serde(flatten)]
    echo: &'a Echo,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'static str,
    message: &'a str,
}

impl<'a> Failure<'a> {
    fn of(refusal: &'a Refusal) -> Self {
        let code = match refusal.code {
            RefusalCode::Busy | RefusalCode::RateLimited => "rate_limit_exceeded",
            RefusalCode::InvalidRequest => "invalid_prompt",
            RefusalCode::ContextOverflow => "context_length_exceeded",
            _ => "server_error",
        };
        Self { code, message: &refusal.detail }
    }
}

#[derive(Serialize)]
struct Details {
    reason: &'static str,
}

#[derive(Serialize)]
struct Counts {
    input_tokens: u32,
    input_tokens_details: InputDetails,
    output_tokens: u32,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u32,
    cache_write_tokens: u32,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u32,
}

impl From<Usage> for Counts {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: u64::from(usage.prompt_tokens) + u64::from(usage.completion_tokens),
        }
    }
}

/// What was asked, for the client to find again.
#[derive(Clone, Debug, Serialize)]
struct Echo {
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    metadata: Raw,
    model: String,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    reasoning: EchoReasoning,
    store: bool,
    temperature: f32,
    text: EchoText,
    tool_choice: EchoChoice,
    tools: Vec<EchoTool>,
    top_logprobs: u8,
    top_p: f32,
    truncation: &'static str,
}

/// Text that is JSON already.
#[derive(Clone, Debug)]
struct Raw(String);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

#[derive(Clone, Debug, Serialize)]
struct EchoReasoning {
    effort: Option<&'static str>,
    summary: Option<()>,
}

#[derive(Clone, Debug, Serialize)]
struct EchoText {
    format: EchoFormat,
}

#[derive(Clone, Debug, Serialize)]
struct EchoFormat {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum EchoChoice {
    Word(&'static str),
    Named { r#type: &'static str, name: String },
}

#[derive(Clone, Debug, Serialize)]
struct EchoTool {
    r#type: &'static str,
    name: String,
    description: Option<String>,
    parameters: Raw,
    strict: bool,
}

impl Echo {
    fn of(asked: &ResponseAsked) -> Self {
        let request = &asked.request;
        let chat = match &request.input {
            Input::Chat(chat) => Some(chat),
            _ => None,
        };
        Self {
            instructions: asked.instructions.clone(),
            max_output_tokens: request.max_tokens,
            metadata: Raw(asked.metadata.clone().unwrap_or_else(|| "{}".to_owned())),
            model: request.model.as_str().to_owned(),
            parallel_tool_calls: chat.is_none_or(|chat| chat.parallel_tool_calls),
            previous_response_id: asked.previous.clone(),
            reasoning: EchoReasoning {
                effort: match chat.map(|chat| chat.reasoning) {
                    Some(Reasoning::Off) => Some("none"),
                    Some(Reasoning::On) => Some("medium"),
                    Some(Reasoning::Auto) | None => None,
                },
                summary: None,
            },
            store: asked.store,
            temperature: request.sampling.temperature,
            text: EchoText { format: format(request, asked.format_name.as_deref()) },
            tool_choice: match chat.map(|chat| &chat.tool_choice) {
                Some(ToolChoice::None) => EchoChoice::Word("none"),
                Some(ToolChoice::Required) => EchoChoice::Word("required"),
                Some(ToolChoice::Named(name)) => {
                    EchoChoice::Named { r#type: "function", name: name.clone() }
                }
                Some(ToolChoice::Auto) | None => EchoChoice::Word("auto"),
            },
            tools: chat.iter().flat_map(|chat| &chat.tools).map(tool).collect(),
            top_logprobs: request.logprobs.unwrap_or_default(),
            top_p: request.sampling.top_p,
            truncation: "disabled",
        }
    }
}

fn tool(tool: &Tool) -> EchoTool {
    EchoTool {
        r#type: "function",
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: Raw(tool.parameters.clone()),
        strict: false,
    }
}

fn format(request: &InferRequest, name: Option<&str>) -> EchoFormat {
    let plain = |r#type| EchoFormat { r#type, name: None, schema: None, strict: None };
    match &request.format {
        Format::JsonObject => plain("json_object"),
        Format::JsonSchema(schema) => EchoFormat {
            r#type: "json_schema",
            name: Some(name.unwrap_or("schema").to_owned()),
            schema: Some(Raw(schema.clone())),
            strict: Some(true),
        },
        _ => plain("text"),
    }
}
