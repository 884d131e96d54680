//! Ollama's own language.
//!
//! It cuts what does not fit its context unless it is told not to, and its context is small unless
//! it is told how large it is; both are told with every request. It can neither be made to call a
//! tool nor be kept from calling several.

use arknet_types::{
    Capabilities, Chat, FinishReason, Format, InferRequest, Input, Message, Part, Profile,
    Reasoning, Refusal, Reply, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{
    answer::{Answer, Told, ToldLogprob, failed},
    anthropic::Encoded,
    errors::Fault,
    openai::{OneLogprob, small},
    read::{Dialect, Reader, Stream, error, garbled},
    target::{Call, Place, Target, json, object, only, seed_31, unsupported},
    whole::Whole,
};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<WireMessage<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<bool>,
    stream: bool,
    /// A prompt that is too long is an error, not a shorter prompt.
    truncate: bool,
    /// Nor is its beginning forgotten while the answer grows.
    shift: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    options: Options<'a>,
}

/// All of them, always: a model's own file may set others.
#[derive(Serialize)]
struct Options<'a> {
    num_ctx: u32,
    /// -1 goes on until the context is full.
    num_predict: i64,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    temperature: f32,
    top_p: f32,
    top_k: u32,
    min_p: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    repeat_penalty: f32,
    repeat_last_n: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Encoded<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
struct WireCall<'a> {
    id: &'a str,
    function: WireFunction<'a>,
}

#[derive(Serialize)]
struct WireFunction<'a> {
    name: &'a str,
    arguments: Box<RawValue>,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    function: WireSchema<'a>,
}

#[derive(Serialize)]
struct WireSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    parameters: Box<RawValue>,
}

/// Turns a request into a call.
pub(super) fn request(request: &InferRequest, to: &Target) -> Result<Call, Refusal> {
    if request.profile == Profile::Exact {
        return Err(unsupported("the exact profile"));
    }
    match &request.input {
        Input::Chat(chat) => {
            let place = Place::OllamaChat;
            stream(place, request, &chat_body(request, chat, to)?)
        }
        Input::Text(text) => {
            let body = Body { prompt: Some(text), raw: Some(true), ..body(request, to)? };
            stream(Place::OllamaGenerate, request, &body)
        }
        Input::Embed(texts) => {
            let options = json!({ "num_ctx": to.context_tokens });
            let body =
                json!({ "model": to.id, "input": texts, "truncate": false, "options": options });
            let reader = Reader::Whole(Whole::OllamaEmbeddings(texts.len()));
            Ok(Call { place: Place::OllamaEmbed, body: json(&body)?, reader })
        }
        Input::Rerank { .. } => Err(unsupported("documents to rank")),
        Input::Tokenize { .. } => Err(unsupported("texts to tokenize")),
        Input::Detokenize(_) => Err(unsupported("tokens to join")),
        Input::Count(_) => Err(unsupported("conversations to count")),
        Input::File { .. } => Err(unsupported("requests for model files")),
    }
}

fn stream(place: Place, request: &InferRequest, body: &Body<'_>) -> Result<Call, Refusal> {
    let reader = Reader::Stream(Box::new(Stream::new(Dialect::Ollama, place, request)));
    Ok(Call { place, body: json(body)?, reader })
}

fn body<'a>(request: &'a InferRequest, to: &'a Target) -> Result<Body<'a>, Refusal> {
    let known =
        ["top_k", "min_p", "presence_penalty", "frequency_penalty", "repeat_penalty", "seed"];
    only(&request.sampling, &known)?;
    let Sampling { temperature, top_p, top_k, min_p, .. } = request.sampling;
    let Sampling { presence_penalty, frequency_penalty, repeat_penalty, .. } = request.sampling;
    let format = match &request.format {
        Format::Text => None,
        Format::JsonObject => RawValue::from_string("\"json\"".into()).ok(),
        Format::JsonSchema(schema) => Some(object(schema, "the schema")?),
        Format::Lark(_) | Format::Gbnf(_) => return Err(unsupported("grammars")),
        Format::Regex(_) => return Err(unsupported("a regular expression")),
    };
    Ok(Body {
        model: &to.id,
        messages: None,
        prompt: None,
        raw: None,
        stream: true,
        truncate: false,
        shift: false,
        tools: vec![],
        think: None,
        format,
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs,
        options: Options {
            num_ctx: to.context_tokens,
            num_predict: request.max_tokens.map_or(-1, i64::from),
            stop: &request.stop,
            temperature,
            top_p,
            top_k,
            min_p,
            presence_penalty,
            frequency_penalty,
            repeat_penalty,
            repeat_last_n: -1,
            seed: request.sampling.seed.map(seed_31),
        },
    })
}

fn chat_body<'a>(
    request: &'a InferRequest,
    chat: &'a Chat,
    to: &'a Target,
) -> Result<Body<'a>, Refusal> {
    let tools = match &chat.tool_choice {
        ToolChoice::None => vec![],
        ToolChoice::Auto => tools(chat)?,
        ToolChoice::Required | ToolChoice::Named(_) => {
            return Err(unsupported("a tool choice other than auto and none"));
        }
    };
    if !tools.is_empty() && !chat.parallel_tool_calls {
        return Err(unsupported("parallel_tool_calls switched off"));
    }
    let can_think = to.capabilities.contains(Capabilities::REASONING);
    let think = match chat.reasoning {
        Reasoning::Auto => None,
        Reasoning::Off => Some(false),
        Reasoning::On => Some(true),
    };
    let messages = chat.messages.iter().map(|message| wire_message(chat, message));
    Ok(Body {
        messages: Some(messages.collect::<Result<_, _>>()?),
        tools,
        think: think.filter(|_| can_think),
        ..body(request, to)?
    })
}

fn wire_message<'a>(chat: &'a Chat, message: &'a Message) -> Result<WireMessage<'a>, Refusal> {
    let tool_calls = message.tool_calls.iter().map(|ToolCall { id, name, arguments }| {
        let arguments = object(arguments, "a tool call's arguments")?;
        Ok(WireCall { id, function: WireFunction { name, arguments } })
    });
    let images = message.parts.iter().filter_map(|part| match part {
        Part::Image(image) => Some(Encoded(image)),
        Part::Text(_) => None,
    });
    // It knows results by the tool's name.
    let answered = message.tool_call_id.as_deref().filter(|_| message.role == Role::Tool);
    let mut calls = chat.messages.iter().flat_map(|m| &m.tool_calls);
    let answered_call = answered.and_then(|id| calls.find(|call| call.id == id));
    Ok(WireMessage {
        role: message.role.as_str(),
        content: message.text(),
        thinking: message.reasoning.as_deref(),
        images: images.collect(),
        tool_calls: tool_calls.collect::<Result<_, Refusal>>()?,
        tool_name: answered_call.map(|call| call.name.as_str()),
        tool_call_id: answered,
    })
}

fn tools(chat: &Chat) -> Result<Vec<WireTool<'_>>, Refusal> {
    let tools = chat.tools.iter().map(|Tool { name, description, parameters }| {
        let parameters = object(parameters, "a tool's parameters")?;
        let function = WireSchema { name, description: description.as_deref(), parameters };
        Ok(WireTool { r#type: "function", function })
    });
    tools.collect()
}

#[derive(Deserialize)]
struct Line {
    message: Option<LineMessage>,
    response: Option<String>,
    thinking: Option<String>,
    #[serde(default)]
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    eval_count: Option<u64>,
    logprobs: Option<Vec<OneLogprob>>,
    error: Option<Value>,
}

#[derive(Default, Deserialize)]
struct LineMessage {
    content: Option<String>,
    thinking: Option<String>,
    tool_calls: Option<Vec<LineCall>>,
}

#[derive(Deserialize)]
struct LineCall {
    id: Option<String>,
    function: LineFunction,
}

#[derive(Deserialize)]
struct LineFunction {
    name: String,
    arguments: Option<Box<RawValue>>,
}

/// Takes one line of a streamed answer.
pub(super) fn line(
    place: Place,
    data: &[u8],
    answer: &mut Answer,
    out: &mut Vec<Reply>,
) -> Result<(), Fault> {
    let line: Line = serde_json::from_slice(data).map_err(garbled)?;
    error(place, line.error)?;
    let logprobs: Vec<_> =
        line.logprobs.unwrap_or_default().into_iter().map(ToldLogprob::from).collect();
    let tokens = u32::try_from(logprobs.len()).unwrap_or(u32::MAX).max(1);
    answer.logprobs(logprobs, out);
    let message = line.message.unwrap_or_default();
    for text in [message.thinking, line.thinking].into_iter().flatten() {
        answer.reasoning(&text, tokens, out);
    }
    for text in [message.content, line.response].into_iter().flatten() {
        answer.text(&text, tokens, out);
    }
    for call in message.tool_calls.unwrap_or_default() {
        let arguments = call.function.arguments.as_ref().map_or("{}", |raw| raw.get());
        let name = Some(call.function.name.as_str());
        answer.whole_call(call.id.as_deref(), name, arguments, out)?;
    }
    if line.done {
        answer.usage(Told {
            prompt: small(line.prompt_eval_count),
            completion: small(line.eval_count),
            ..Told::default()
        });
        match line.done_reason.as_deref() {
            Some("length") => answer.finish(FinishReason::Length),
            Some("load" | "unload") => {
                return Err(failed("the upstream loaded the model and answered nothing").into());
            }
            _ => answer.finish(FinishReason::Stop),
        }
        answer.end(out)?;
    }
    Ok(())
}
