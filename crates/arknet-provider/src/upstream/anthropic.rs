//! Anthropic's language.
//!
//! Its temperature ends at 1: more is refused, not bent. Seeds, penalties, biases and likelihoods of
//! tokens it does not have. What a model thought in earlier turns is left out, since it is accepted
//! only with a signature that was lost on the way here.

use arknet_types::{
    Chat, FinishReason, Format, Image, InferRequest, Input, Message, Part, Profile, Reasoning,
    Refusal, Reply, Role, Tool, ToolCall, ToolChoice,
};
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json, value::RawValue};

use super::{
    answer::{Answer, Told, failed},
    errors::Fault,
    limits::{ANSWER_TOKENS_DEFAULT, THINKING_TOKENS_MIN},
    openai::{filtered, small},
    read::{Dialect, Reader, Stream, error, garbled},
    target::{Call, Place, Target, Thinking, invalid, json, object, only, unsupported},
    whole::Whole,
};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    system: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<OutputConfig>,
}

#[derive(Serialize)]
struct OutputConfig {
    format: OutputFormat,
}

#[derive(Serialize)]
struct OutputFormat {
    r#type: &'static str,
    schema: Box<RawValue>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    Image { source: Source<'a> },
    ToolUse { id: &'a str, name: &'a str, input: Box<RawValue> },
    ToolResult { tool_use_id: &'a str, content: Vec<Self> },
}

#[derive(Serialize)]
struct Source<'a> {
    r#type: &'static str,
    media_type: &'static str,
    data: Encoded<'a>,
}

pub(super) struct Encoded<'a>(pub(super) &'a Image);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Base64Display::new(&self.0.bytes, &STANDARD))
    }
}

#[derive(Serialize)]
struct WireTool<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    input_schema: Box<RawValue>,
}

/// Turns a request into a call.
pub(super) fn request(request: &InferRequest, to: &Target) -> Result<Call, Refusal> {
    if request.profile == Profile::Exact {
        return Err(unsupported("the exact profile"));
    }
    match &request.input {
        Input::Chat(chat) => {
            let place = Place::Messages;
            let body = json(&chat_body(request, chat, to)?)?;
            let reader = Reader::Stream(Box::new(Stream::new(Dialect::Anthropic, place, request)));
            Ok(Call { place, body, reader })
        }
        Input::Count(chat) => {
            let body = Body {
                max_tokens: None,
                stream: None,
                stop_sequences: &[],
                ..conversation(chat, to)?
            };
            let reader = Reader::Whole(Whole::Count);
            Ok(Call { place: Place::CountTokens, body: json(&body)?, reader })
        }
        Input::Text(_) => Err(unsupported("texts to continue")),
        Input::Embed(_) => Err(unsupported("texts to embed")),
        Input::Rerank { .. } => Err(unsupported("documents to rank")),
        Input::Tokenize { .. } => Err(unsupported("texts to tokenize")),
        Input::Detokenize(_) => Err(unsupported("tokens to join")),
        Input::File { .. } => Err(unsupported("requests for model files")),
    }
}

fn chat_body<'a>(
    request: &'a InferRequest,
    chat: &'a Chat,
    to: &'a Target,
) -> Result<Body<'a>, Refusal> {
    let sampling = &request.sampling;
    only(sampling, &["top_k"])?;
    if request.logprobs.is_some() {
        return Err(unsupported("logprobs"));
    }
    if sampling.temperature > 1.0 {
        return Err(invalid("temperature must lie between 0 and 1 for this model's upstream"));
    }
    let output_config = match &request.format {
        Format::Text => None,
        Format::JsonSchema(schema) => {
            let schema = object(schema, "the schema")?;
            Some(OutputConfig { format: OutputFormat { r#type: "json_schema", schema } })
        }
        Format::JsonObject => return Err(unsupported("a JSON object without a schema")),
        Format::Lark(_) | Format::Gbnf(_) => return Err(unsupported("grammars")),
        Format::Regex(_) => return Err(unsupported("a regular expression")),
    };
    // It wants a limit in every request.
    let most = to.answer_tokens_max.unwrap_or(ANSWER_TOKENS_DEFAULT).min(to.context_tokens);
    let max_tokens = request.max_tokens.unwrap_or(most);
    let unless_one = |value: f32| ((value - 1.0).abs() > f32::EPSILON).then_some(value);
    Ok(Body {
        max_tokens: Some(max_tokens),
        stop_sequences: &request.stop,
        temperature: unless_one(sampling.temperature),
        top_p: unless_one(sampling.top_p),
        top_k: (sampling.top_k != 0).then_some(sampling.top_k),
        thinking: thinking(chat.reasoning, max_tokens, to)?,
        output_config,
        ..conversation(chat, to)?
    })
}

fn thinking(wish: Reasoning, max_tokens: u32, to: &Target) -> Result<Option<Value>, Refusal> {
    match (wish, to.thinking) {
        // Where a model cannot do both, there is nothing to switch.
        (Reasoning::Auto, _) | (_, Thinking::Unknown) => Ok(None),
        (Reasoning::Off, _) => Ok(Some(json!({ "type": "disabled" }))),
        (Reasoning::On, Thinking::Adaptive) => {
            Ok(Some(json!({ "type": "adaptive", "display": "summarized" })))
        }
        (Reasoning::On, Thinking::Budget) if max_tokens <= THINKING_TOKENS_MIN => {
            Err(invalid("reasoning needs a max_tokens of more than 1024"))
        }
        (Reasoning::On, Thinking::Budget) => {
            let budget = (max_tokens / 2).max(THINKING_TOKENS_MIN);
            Ok(Some(json!({ "type": "enabled", "budget_tokens": budget })))
        }
    }
}

/// The parts of a body that a conversation decides.
fn conversation<'a>(chat: &'a Chat, to: &'a Target) -> Result<Body<'a>, Refusal> {
    let mut system = vec![];
    let mut messages: Vec<WireMessage<'_>> = vec![];
    for message in &chat.messages {
        let (role, blocks) = match message.role {
            Role::System => {
                let texts = message.parts.iter().filter_map(|part| match part {
                    Part::Text(text) if !text.is_empty() => Some(Block::Text { text }),
                    _ => None,
                });
                system.extend(texts);
                continue;
            }
            Role::User => ("user", blocks(message)),
            Role::Assistant => ("assistant", assistant_blocks(message)?),
            Role::Tool => {
                let Some(tool_use_id) = message.tool_call_id.as_deref() else {
                    return Err(invalid("the result of a tool must say which call it answers"));
                };
                let content = blocks(message);
                ("user", vec![Block::ToolResult { tool_use_id, content }])
            }
        };
        match messages.last_mut() {
            // The results of several calls must stand in one message.
            Some(last) if last.role == role => last.content.extend(blocks),
            _ if blocks.is_empty() => {}
            _ => messages.push(WireMessage { role, content: blocks }),
        }
    }
    let tools = chat.tools.iter().map(|Tool { name, description, parameters }| {
        let input_schema = object(parameters, "a tool's parameters")?;
        Ok(WireTool { name, description: description.as_deref(), input_schema })
    });
    let tools = tools.collect::<Result<Vec<_>, Refusal>>()?;
    let tool_choice = (!tools.is_empty()).then(|| tool_choice(chat));
    Ok(Body {
        model: &to.id,
        messages,
        max_tokens: None,
        stream: Some(true),
        system,
        stop_sequences: &[],
        temperature: None,
        top_p: None,
        top_k: None,
        tools,
        tool_choice,
        thinking: None,
        output_config: None,
    })
}

fn tool_choice(chat: &Chat) -> Value {
    let one_at_a_time = !chat.parallel_tool_calls;
    match &chat.tool_choice {
        ToolChoice::Auto => json!({ "type": "auto", "disable_parallel_tool_use": one_at_a_time }),
        ToolChoice::None => json!({ "type": "none" }),
        ToolChoice::Required => {
            json!({ "type": "any", "disable_parallel_tool_use": one_at_a_time })
        }
        ToolChoice::Named(name) => {
            json!({ "type": "tool", "name": name, "disable_parallel_tool_use": one_at_a_time })
        }
    }
}

/// Empty texts are not accepted.
fn blocks(message: &Message) -> Vec<Block<'_>> {
    let blocks = message.parts.iter().filter_map(|part| match part {
        Part::Text(text) if text.is_empty() => None,
        Part::Text(text) => Some(Block::Text { text }),
        Part::Image(image) => {
            let media_type = image.format.media_type();
            let source = Source { r#type: "base64", media_type, data: Encoded(image) };
            Some(Block::Image { source })
        }
    });
    blocks.collect()
}

fn assistant_blocks(message: &Message) -> Result<Vec<Block<'_>>, Refusal> {
    let mut all = blocks(message);
    for ToolCall { id, name, arguments } in &message.tool_calls {
        let input = object(arguments, "a tool call's arguments")?;
        all.push(Block::ToolUse { id, name, input });
    }
    Ok(all)
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: StartedMessage,
    },
    ContentBlockStart {
        index: u64,
        content_block: StartedBlock,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    MessageDelta {
        #[serde(default)]
        delta: EndDelta,
        usage: Option<ToldUsage>,
    },
    MessageStop,
    Error {
        error: Option<Value>,
    },
    /// Pings, ends of blocks, and what is yet to be invented.
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
struct StartedMessage {
    usage: Option<ToldUsage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum StartedBlock {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    ToolUse {
        id: String,
        name: String,
    },
    #[serde(other)]
    Else,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(other)]
    Else,
}

#[derive(Default, Deserialize)]
struct EndDelta {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

#[derive(Deserialize)]
struct ToldUsage {
    input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

impl ToldUsage {
    /// Its input tokens are those that are neither read from a cache nor written to one.
    fn told(&self) -> Told {
        let prompt = self.input_tokens.map(|fresh| {
            fresh
                .saturating_add(self.cache_read_input_tokens.unwrap_or(0))
                .saturating_add(self.cache_creation_input_tokens.unwrap_or(0))
        });
        Told {
            prompt: small(prompt),
            completion: small(self.output_tokens),
            cached: small(self.cache_read_input_tokens),
            reasoning: small(self.output_tokens_details.as_ref().and_then(|d| d.thinking_tokens)),
        }
    }
}

/// Takes one event of a streamed answer.
pub(super) fn event(
    place: Place,
    data: &[u8],
    answer: &mut Answer,
    out: &mut Vec<Reply>,
) -> Result<(), Fault> {
    match serde_json::from_slice(data).map_err(garbled)? {
        Event::MessageStart { message } => {
            if let Some(usage) = message.usage {
                answer.usage(usage.told());
            }
        }
        Event::ContentBlockStart { index, content_block } => match content_block {
            StartedBlock::Text { text } => answer.text(&text, 1, out),
            StartedBlock::Thinking { thinking } => answer.reasoning(&thinking, 1, out),
            StartedBlock::ToolUse { id, name } => {
                answer.tool(index, Some(&id), Some(&name), "", out)?;
            }
            StartedBlock::Else => {}
        },
        Event::ContentBlockDelta { index, delta } => match delta {
            Delta::Text { text } => answer.text(&text, 1, out),
            Delta::Thinking { thinking } => answer.reasoning(&thinking, 1, out),
            Delta::Input { partial_json } => {
                answer.tool(index, None, None, &partial_json, out)?;
            }
            Delta::Else => {}
        },
        Event::MessageDelta { delta, usage } => {
            if let Some(usage) = usage {
                answer.usage(usage.told());
            }
            end(&delta, answer)?;
        }
        Event::MessageStop => answer.end(out)?,
        Event::Error { error: told } => {
            error(place, told)?;
            return Err(failed("the upstream failed while it answered").into());
        }
        Event::Else => {}
    }
    Ok(())
}

fn end(delta: &EndDelta, answer: &mut Answer) -> Result<(), Refusal> {
    match delta.stop_reason.as_deref() {
        None => {}
        Some("max_tokens" | "model_context_window_exceeded") => {
            answer.finish(FinishReason::Length);
        }
        Some("tool_use") => answer.finish(FinishReason::ToolCalls),
        Some("stop_sequence") => {
            answer.finish_at(delta.stop_sequence.as_deref().unwrap_or_default());
        }
        Some("refusal") => return Err(filtered()),
        Some(_) => answer.finish(FinishReason::Stop),
    }
    Ok(())
}
