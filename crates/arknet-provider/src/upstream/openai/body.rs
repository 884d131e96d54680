//! Requests in OpenAI's language.

use std::fmt;

use arknet_types::{
    Chat, Format, Image, InferRequest, Input, LogitBias, Message, Part, Profile, Reasoning,
    Refusal, Role, Sampling, Tool, ToolCall, ToolChoice,
};
use base64::{display::Base64Display, engine::general_purpose::STANDARD};
use serde::{Serialize, Serializer};
use serde_json::{json, value::RawValue};

use crate::upstream::{
    limits::ANSWER_TOKENS_DEFAULT,
    read::{Dialect, Reader, Stream},
    target::{
        Call, Flavor, Place, Target, biases, invalid, json, object, only, seed_31, unsupported,
    },
    whole::Whole,
};

/// Turns a request into a call.
pub(in crate::upstream) fn request(request: &InferRequest, to: &Target) -> Result<Call, Refusal> {
    if request.profile == Profile::Exact {
        return Err(unsupported("the exact profile"));
    }
    let model = &to.id;
    let whole = |place, whole, body: serde_json::Value| {
        Ok(Call { place, body: json(&body)?, reader: Reader::Whole(whole) })
    };
    match &request.input {
        Input::Chat(chat) => {
            let body = chat_body(request, chat, to)?;
            stream(Place::ChatCompletions, request, json(&body)?)
        }
        Input::Text(text) => {
            let body = text_body(request, text, to)?;
            stream(Place::Completions, request, json(&body)?)
        }
        Input::Embed(texts) => whole(
            Place::Embeddings,
            Whole::Embeddings(texts.len()),
            json!({ "model": model, "input": texts, "encoding_format": "float" }),
        ),
        Input::Rerank { query, documents } => whole(
            Place::Rerank,
            Whole::Scores(documents.len()),
            json!({ "model": model, "query": query, "documents": documents }),
        ),
        Input::Tokenize { text, add_special } => {
            let body = match to.flavor {
                Flavor::LlamaServer => {
                    json!({ "content": text, "add_special": add_special, "parse_special": false })
                }
                Flavor::Vllm | Flavor::Sglang => {
                    json!({ "model": model, "prompt": text, "add_special_tokens": add_special })
                }
                _ => return Err(unsupported("texts to tokenize")),
            };
            whole(Place::Tokenize, Whole::Tokens, body)
        }
        Input::Detokenize(tokens) => match to.flavor {
            Flavor::LlamaServer | Flavor::Vllm | Flavor::Sglang => {
                whole(Place::Detokenize, Whole::Text, json!({ "model": model, "tokens": tokens }))
            }
            _ => Err(unsupported("tokens to join")),
        },
        Input::Count(chat) => {
            let place = match to.flavor {
                Flavor::LlamaServer => Place::InputTokens,
                Flavor::Vllm => Place::Tokenize,
                _ => return Err(unsupported("conversations to count")),
            };
            let body = CountBody { model, messages: messages(chat, to)?, tools: tools(chat, to)? };
            Ok(Call { place, body: json(&body)?, reader: Reader::Whole(Whole::Count) })
        }
        Input::File { .. } => Err(unsupported("requests for model files")),
    }
}

fn stream(place: Place, request: &InferRequest, body: Vec<u8>) -> Result<Call, Refusal> {
    let reader = Reader::Stream(Box::new(Stream::new(Dialect::OpenAi, place, request)));
    Ok(Call { place, body, reader })
}

#[derive(Serialize)]
struct CountBody<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
}

#[derive(Serialize)]
struct ChatBody<'a> {
    model: &'a str,
    messages: Vec<WireMessage<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel_tool_calls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_template_kwargs: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continue_final_message: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    add_generation_prompt: Option<bool>,
    #[serde(flatten)]
    common: Common<'a>,
}

#[derive(Serialize)]
struct TextBody<'a> {
    model: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u8>,
    #[serde(flatten)]
    common: Common<'a>,
}

/// What chats and texts have in common.
#[derive(Serialize)]
struct Common<'a> {
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat_last_n: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    #[serde(skip_serializing_if = "<[LogitBias]>::is_empty", serialize_with = "biases")]
    logit_bias: &'a [LogitBias],
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<ResponseFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grammar: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    structured_outputs: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    regex: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ebnf: Option<&'a str>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ResponseFormat {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<NamedSchema>,
}

#[derive(Serialize)]
struct NamedSchema {
    name: &'static str,
    strict: bool,
    schema: Box<RawValue>,
}

fn chat_body<'a>(
    request: &'a InferRequest,
    chat: &'a Chat,
    to: &'a Target,
) -> Result<ChatBody<'a>, Refusal> {
    let mut common = common(request, to)?;
    format(&mut common, &request.format, to.flavor)?;
    let continues = chat.messages.last().is_some_and(|m| m.role == Role::Assistant);
    let flagged = matches!(to.flavor, Flavor::Vllm | Flavor::Sglang);
    // llama-server continues by itself; the others would answer their own message.
    if continues && !flagged && to.flavor != Flavor::LlamaServer {
        return Err(unsupported("a message of the assistant to continue"));
    }
    if to.flavor == Flavor::LlamaServer && !chat.tools.is_empty() && request.logprobs.is_some() {
        return Err(unsupported("tools together with logprobs"));
    }
    let tools = tools(chat, to)?;
    let has_tools = !tools.is_empty();
    let is_own = to.flavor == Flavor::OpenAi;
    let thinks = match chat.reasoning {
        Reasoning::Auto => None,
        Reasoning::Off => Some(false),
        Reasoning::On => Some(true),
    };
    Ok(ChatBody {
        model: &to.id,
        messages: messages(chat, to)?,
        tools,
        tool_choice: has_tools.then(|| tool_choice(chat, to)),
        parallel_tool_calls: has_tools.then_some(chat.parallel_tool_calls),
        max_tokens: request.max_tokens.filter(|_| !is_own),
        max_completion_tokens: request.max_tokens.filter(|_| is_own),
        logprobs: request.logprobs.map(|_| true),
        top_logprobs: request.logprobs.map(|n| alternatives(n, to)),
        chat_template_kwargs: thinks
            .filter(|_| to.flavor.samples_fully())
            .map(|thinks| json!({ "enable_thinking": thinks })),
        continue_final_message: (continues && flagged).then_some(true),
        add_generation_prompt: (continues && flagged).then_some(false),
        common,
    })
}

fn text_body<'a>(
    request: &'a InferRequest,
    text: &'a str,
    to: &'a Target,
) -> Result<TextBody<'a>, Refusal> {
    let mut common = common(request, to)?;
    match (&request.format, to.flavor) {
        (Format::Text, _) => {}
        // It reads a response format in chats only.
        (Format::JsonObject, Flavor::LlamaServer) => {
            common.json_schema = Some(object("{\"type\":\"object\"}", "the schema")?);
        }
        (Format::JsonSchema(schema), Flavor::LlamaServer) => {
            common.json_schema = Some(object(schema, "the schema")?);
        }
        (_, flavor) if flavor.samples_fully() => format(&mut common, &request.format, flavor)?,
        _ => return Err(unsupported("a format for a continued text")),
    }
    // Where nothing is said, others than llama-server stop after 16 tokens. A token has at least a
    // byte, so this much fits for certain.
    let room = u32::try_from(text.len()).unwrap_or(u32::MAX).saturating_add(16);
    let room = to.context_tokens.checked_sub(room).filter(|room| *room > 0);
    let default = (to.flavor != Flavor::LlamaServer)
        .then(|| room.unwrap_or_else(|| ANSWER_TOKENS_DEFAULT.min(to.context_tokens)));
    Ok(TextBody {
        model: &to.id,
        prompt: text,
        max_tokens: request.max_tokens.or(default),
        logprobs: request.logprobs.map(|n| alternatives(n, to)),
        common,
    })
}

/// llama-server takes none for "say nothing at all".
fn alternatives(asked: u8, to: &Target) -> u8 {
    if to.flavor == Flavor::LlamaServer { asked.max(1) } else { asked }
}

fn common<'a>(request: &'a InferRequest, to: &Target) -> Result<Common<'a>, Refusal> {
    let Sampling { temperature, top_p, top_k, min_p, .. } = request.sampling;
    let Sampling { presence_penalty, frequency_penalty, repeat_penalty, .. } = request.sampling;
    let fully = to.flavor.samples_fully();
    if !fully {
        let known = ["presence_penalty", "frequency_penalty", "seed", "logit_bias"];
        only(&request.sampling, &known)?;
    }
    let is_llama = to.flavor == Flavor::LlamaServer;
    let unless = |value: f32, neutral: f32| {
        (fully || (value - neutral).abs() > f32::EPSILON).then_some(value)
    };
    let penalizes = presence_penalty != 0.0
        || frequency_penalty != 0.0
        || (repeat_penalty - 1.0).abs() > f32::EPSILON;
    let top_k = if is_llama || top_k != 0 { i64::from(top_k) } else { -1 };
    Ok(Common {
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        stop: &request.stop,
        temperature: unless(temperature, 1.0),
        top_p: unless(top_p, 1.0),
        top_k: fully.then_some(top_k),
        min_p: fully.then_some(min_p),
        presence_penalty: unless(presence_penalty, 0.0),
        frequency_penalty: unless(frequency_penalty, 0.0),
        repeat_penalty: is_llama.then_some(repeat_penalty),
        repetition_penalty: (fully && !is_llama).then_some(repeat_penalty),
        // It looks at 64 tokens only unless told otherwise.
        repeat_last_n: (is_llama && penalizes)
            .then(|| i32::try_from(to.context_tokens).unwrap_or(i32::MAX)),
        seed: request
            .sampling
            .seed
            .map(|seed| if is_llama { seed_31(seed) } else { seed & (i64::MAX as u64) }),
        logit_bias: &request.sampling.logit_bias,
        response_format: None,
        json_schema: None,
        grammar: None,
        structured_outputs: None,
        regex: None,
        ebnf: None,
    })
}

fn format<'a>(common: &mut Common<'a>, format: &'a Format, flavor: Flavor) -> Result<(), Refusal> {
    match (format, flavor) {
        (Format::Text, _) => {}
        (Format::JsonObject, _) => {
            common.response_format =
                Some(ResponseFormat { r#type: "json_object", json_schema: None });
        }
        (Format::JsonSchema(schema), _) => {
            let schema = object(schema, "the schema")?;
            let json_schema = Some(NamedSchema { name: "answer", strict: true, schema });
            common.response_format = Some(ResponseFormat { r#type: "json_schema", json_schema });
        }
        (Format::Gbnf(grammar), Flavor::LlamaServer) => common.grammar = Some(grammar),
        (Format::Gbnf(grammar), Flavor::Sglang) => common.ebnf = Some(grammar),
        (Format::Regex(regex), Flavor::Sglang) => common.regex = Some(regex),
        (Format::Gbnf(grammar) | Format::Lark(grammar), Flavor::Vllm) => {
            common.structured_outputs = Some(json!({ "grammar": grammar }));
        }
        (Format::Regex(regex), Flavor::Vllm) => {
            common.structured_outputs = Some(json!({ "regex": regex }));
        }
        (Format::Gbnf(_) | Format::Lark(_), _) => return Err(unsupported("this kind of grammar")),
        (Format::Regex(_), _) => return Err(unsupported("a regular expression")),
    }
    Ok(())
}

#[derive(Serialize)]
struct WireMessage<'a> {
    role: &'static str,
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WireCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Parts(Vec<WirePart<'a>>),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WirePart<'a> {
    Text { text: &'a str },
    ImageUrl { image_url: ImageUrl<'a> },
}

#[derive(Serialize)]
struct ImageUrl<'a> {
    url: DataUrl<'a>,
}

struct DataUrl<'a>(&'a Image);

impl fmt::Display for DataUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Base64Display::new(&self.0.bytes, &STANDARD);
        write!(f, "data:{};base64,{bytes}", self.0.format.media_type())
    }
}

impl Serialize for DataUrl<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
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

fn messages<'a>(chat: &'a Chat, to: &Target) -> Result<Vec<WireMessage<'a>>, Refusal> {
    chat.messages.iter().map(|message| wire_message(message, to)).collect()
}

fn wire_message<'a>(message: &'a Message, to: &Target) -> Result<WireMessage<'a>, Refusal> {
    if message.role == Role::Tool && message.tool_call_id.is_none() {
        return Err(invalid("the result of a tool must say which call it answers"));
    }
    let content = match message.parts.as_slice() {
        [] if !message.tool_calls.is_empty() => None,
        [] => Some(Content::Text("")),
        [Part::Text(text)] => Some(Content::Text(text)),
        parts => Some(Content::Parts(parts.iter().map(wire_part).collect())),
    };
    let tool_calls = message.tool_calls.iter().map(|ToolCall { id, name, arguments }| {
        let arguments = if arguments.is_empty() { "{}" } else { arguments };
        WireCall { id, r#type: "function", function: WireFunction { name, arguments } }
    });
    Ok(WireMessage {
        role: message.role.as_str(),
        content,
        reasoning_content: message.reasoning.as_deref().filter(|_| to.flavor.samples_fully()),
        tool_calls: tool_calls.collect(),
        tool_call_id: message.tool_call_id.as_deref(),
    })
}

fn wire_part(part: &Part) -> WirePart<'_> {
    match part {
        Part::Text(text) => WirePart::Text { text },
        Part::Image(image) => WirePart::ImageUrl { image_url: ImageUrl { url: DataUrl(image) } },
    }
}

fn tools<'a>(chat: &'a Chat, to: &Target) -> Result<Vec<WireTool<'a>>, Refusal> {
    let named = match &chat.tool_choice {
        // It knows no name in a choice: the one tool is all there is, and must be called.
        ToolChoice::Named(name) if to.flavor == Flavor::LlamaServer => Some(name),
        _ => None,
    };
    let tools = chat.tools.iter().filter(|tool| named.is_none_or(|name| &tool.name == name));
    let tools = tools.map(|Tool { name, description, parameters }| {
        let parameters = object(parameters, "a tool's parameters")?;
        let function = WireSchema { name, description: description.as_deref(), parameters };
        Ok(WireTool { r#type: "function", function })
    });
    tools.collect()
}

fn tool_choice(chat: &Chat, to: &Target) -> serde_json::Value {
    match &chat.tool_choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Named(_) if to.flavor == Flavor::LlamaServer => json!("required"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({ "type": "function", "function": { "name": name } }),
    }
}
