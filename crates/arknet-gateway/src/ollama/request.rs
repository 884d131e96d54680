use arknet_types::{
    Chat, Format, InferRequest, Input, Message, ModelName, Part, Reasoning, Role, Sampling, Tool,
    ToolCall,
    limits::{COMPLETION_TOKENS_MAX, STOPS_MAX},
};
use serde_json::value::RawValue;

use super::{
    error::unknown_model,
    lifetime::{DEFAULT, keep_alive},
    wire::{
        ChatParams, EmbedParams, GenerateParams, Knobs, Lifetime, NameParams, Texts, Think,
        WireCall, WireMessage, WireRole, WireTool,
    },
};
use crate::{
    ApiError, Ask, KeepAlive,
    json::{self, Object, RawObject},
    picture,
};

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What to do.
    pub task: Task,
    /// Whether the answer is sent token by token.
    pub stream: bool,
}

/// What to do.
#[derive(Clone, Debug)]
pub enum Task {
    /// Ask the model.
    Infer(Box<Ask>),
    /// Load the model, or let go of it.
    Keep(ModelName, KeepAlive),
}

/// What a client wants embedded.
#[derive(Clone, Debug)]
pub struct Embed {
    /// What to do.
    pub task: Task,
    /// How many numbers of each vector are wanted, if not all.
    pub dimensions: Option<usize>,
    /// Whether a text that is too long is cut, and not refused.
    pub truncate: bool,
}

/// Which model a client speaks of.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name, or where to get it.
    pub name: String,
    /// Whether progress is told as it happens.
    pub stream: bool,
}

/// Reads the body of `POST /api/chat`.
pub fn chat(body: &[u8]) -> Result<Asked, ApiError> {
    let params: ChatParams = json::object(body)?;
    let model = model(params.model)?;
    let wire = params.messages.unwrap_or_default();
    let stream = params.stream.unwrap_or(true);
    if wire.is_empty() {
        return keep(model, params.keep_alive, stream);
    }
    let chat = Chat {
        messages: messages(wire)?,
        tools: tools(params.tools.unwrap_or_default()),
        reasoning: reasoning(params.think)?,
        ..Chat::new(vec![])
    };
    let infer = InferRequest {
        format: format(params.format)?,
        logprobs: logprobs(params.logprobs, params.top_logprobs),
        ..tuned(InferRequest::new(model, Input::Chat(chat)), params.options)
    };
    finish(infer, params.keep_alive, stream)
}

/// Reads the body of `POST /api/generate`.
pub fn generate(body: &[u8]) -> Result<Asked, ApiError> {
    let params: GenerateParams = json::object(body)?;
    let model = model(params.model)?;
    let stream = params.stream.unwrap_or(true);
    let is_said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let raw = params.raw.unwrap_or_default();
    let images = params.images.unwrap_or_default();
    if is_said(&params.template) {
        return Err(ApiError::unsupported(
            "template",
            "A template of one's own is not supported: leave it out, or apply it and send the \
             result as prompt, with raw.",
        ));
    }
    if is_said(&params.suffix) {
        return Err(ApiError::unsupported("suffix", format!("{model} does not support insert")));
    }
    if raw && (is_said(&params.system) || !images.is_empty()) {
        return Err(ApiError::parameter("raw", "raw mode does not support system or images"));
    }
    if !is_said(&params.prompt) && images.is_empty() {
        return keep(model, params.keep_alive, stream);
    }
    let prompt = params.prompt.unwrap_or_default();
    let input = if raw {
        Input::Text(prompt)
    } else {
        let system = params.system.filter(|text| !text.is_empty());
        let mut messages: Vec<_> =
            system.into_iter().map(|text| Message::new(Role::System, text)).collect();
        let mut message = Message::new(Role::User, prompt);
        add_images(&mut message, images, "images")?;
        messages.push(message);
        Input::Chat(Chat { reasoning: reasoning(params.think)?, ..Chat::new(messages) })
    };
    let infer = InferRequest {
        format: format(params.format)?,
        logprobs: logprobs(params.logprobs, params.top_logprobs),
        ..tuned(InferRequest::new(model, input), params.options)
    };
    finish(infer, params.keep_alive, stream)
}

/// Reads the body of `POST /api/embed`.
pub fn embed(body: &[u8]) -> Result<Embed, ApiError> {
    let params: EmbedParams = json::object(body)?;
    let texts = params.input.map_or_else(Vec::new, |Texts(texts)| texts);
    let dimensions = match params.dimensions.map(|whole| usize::try_from(whole.0)) {
        None | Some(Ok(0)) => None,
        Some(Ok(dimensions)) => Some(dimensions),
        Some(Err(_)) => {
            return Err(ApiError::parameter("dimensions", "dimensions may not be below 0"));
        }
    };
    let truncate = params.truncate.unwrap_or(true);
    let task = vectors(params.model, texts, params.keep_alive)?;
    Ok(Embed { task, dimensions, truncate })
}

/// Reads the body of `POST /api/embeddings`, which older clients use.
pub fn embeddings(body: &[u8]) -> Result<Embed, ApiError> {
    let params: EmbedParams = json::object(body)?;
    let texts = params.prompt.into_iter().collect();
    let task = vectors(params.model, texts, params.keep_alive)?;
    Ok(Embed { task, dimensions: None, truncate: true })
}

/// Reads the body of `POST /api/show` and `POST /api/pull`.
pub fn named(body: &[u8]) -> Result<Named, ApiError> {
    let params: NameParams = json::object(body)?;
    let name = params.model.filter(|name| !name.is_empty()).or(params.name);
    let name = name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    Ok(Named {
        name: name.ok_or_else(|| ApiError::missing("model"))?,
        stream: params.stream.unwrap_or(true),
    })
}

fn vectors(
    name: Option<String>,
    texts: Vec<String>,
    wish: Option<Lifetime>,
) -> Result<Task, ApiError> {
    let model = model(name)?;
    // As with a conversation, nothing to do is an order to load.
    let asked = if texts.is_empty() || texts == [""] {
        keep(model, wish, false)?
    } else {
        finish(InferRequest::new(model, Input::Embed(texts)), wish, false)?
    };
    Ok(asked.task)
}

fn model(name: Option<String>) -> Result<ModelName, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| ApiError::missing("model"))?;
    // What cannot be a name is nobody's model.
    ModelName::new(name.as_str()).map_err(|_| unknown_model(&name))
}

fn keep(model: ModelName, wish: Option<Lifetime>, stream: bool) -> Result<Asked, ApiError> {
    let keep = keep_alive(wish)?.unwrap_or(DEFAULT);
    Ok(Asked { task: Task::Keep(model, keep), stream })
}

fn finish(infer: InferRequest, wish: Option<Lifetime>, stream: bool) -> Result<Asked, ApiError> {
    let keep_alive = keep_alive(wish)?;
    infer.check().map_err(ApiError::from_refusal)?;
    Ok(Asked { task: Task::Infer(Box::new(Ask { infer, keep_alive })), stream })
}

/// The request with the client's options, and Ollama's defaults where it has none.
fn tuned(request: InferRequest, knobs: Option<Object<Knobs>>) -> InferRequest {
    let Object(knobs) = knobs.unwrap_or_default();
    let neutral = Sampling::default();
    let mut stop = knobs.stop.unwrap_or_default();
    // One more than allowed, so that the check of the request sees that there are too many.
    stop.truncate(STOPS_MAX + 1);
    InferRequest {
        // -1 is no limit, -2 is the rest of the context.
        max_tokens: knobs
            .num_predict
            .filter(|n| n.0 > 0)
            .map(|n| u32::try_from(n.0).unwrap_or(u32::MAX).min(COMPLETION_TOKENS_MAX)),
        stop,
        sampling: Sampling {
            temperature: knobs.temperature.unwrap_or(0.8),
            top_k: knobs.top_k.map_or(40, |k| u32::try_from(k.0.max(0)).unwrap_or(u32::MAX)),
            top_p: knobs.top_p.unwrap_or(0.9),
            min_p: knobs.min_p.unwrap_or(neutral.min_p),
            repeat_penalty: knobs.repeat_penalty.unwrap_or(neutral.repeat_penalty),
            presence_penalty: knobs.presence_penalty.unwrap_or(neutral.presence_penalty),
            frequency_penalty: knobs.frequency_penalty.unwrap_or(neutral.frequency_penalty),
            // -1 draws one. The rest keeps its bits, so that different seeds stay different.
            seed: knobs.seed.filter(|n| n.0 != -1).map(|n| n.0.cast_unsigned()),
            ..neutral
        },
        ..request
    }
}

fn logprobs(wanted: Option<bool>, others: Option<u8>) -> Option<u8> {
    wanted.unwrap_or_default().then_some(others.unwrap_or_default())
}

fn format(wire: Option<Box<RawValue>>) -> Result<Format, ApiError> {
    match wire.as_deref().map(RawValue::get) {
        None | Some(r#""""#) => Ok(Format::Text),
        Some(r#""json""#) => Ok(Format::JsonObject),
        Some(schema) if json::is_object(schema) => Ok(Format::JsonSchema(schema.into())),
        Some(_) => Err(ApiError::parameter(
            "format",
            "Invalid value for 'format': expected \"json\" or a JSON schema.",
        )),
    }
}

fn reasoning(think: Option<Think>) -> Result<Reasoning, ApiError> {
    match think {
        None => Ok(Reasoning::Auto),
        Some(Think::Flag(false)) => Ok(Reasoning::Off),
        Some(Think::Flag(true)) => Ok(Reasoning::On),
        Some(Think::Level(level)) => match level.as_str() {
            "" => Ok(Reasoning::Auto),
            "none" | "false" => Ok(Reasoning::Off),
            "low" | "medium" | "high" | "max" | "true" => Ok(Reasoning::On),
            _ => Err(ApiError::parameter(
                "think",
                "Invalid value for 'think': expected true, false, \"low\", \"medium\" or \"high\".",
            )),
        },
    }
}

fn tools(wire: Vec<Object<WireTool>>) -> Vec<Tool> {
    let mut tools = Vec::with_capacity(wire.len().min(arknet_types::limits::TOOLS_MAX));
    for Object(tool) in wire {
        let Object(function) = tool.function;
        let parameters = match function.parameters {
            Some(RawObject(schema)) => schema,
            None => r#"{"type":"object","properties":{}}"#.into(),
        };
        let description = function.description;
        tools.push(Tool { name: function.name, description, parameters });
    }
    tools
}

fn messages(wire: Vec<Object<WireMessage>>) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::with_capacity(wire.len());
    // Calls without a result yet. Clients do not always say which one a result belongs to.
    let mut open: Vec<(String, String)> = Vec::new();
    for (index, Object(wire)) in wire.into_iter().enumerate() {
        let mut message = Message {
            reasoning: wire.thinking.filter(|text| !text.is_empty()),
            ..Message::new(role(wire.role), wire.content.unwrap_or_default())
        };
        let place = format!("messages[{index}]");
        add_images(&mut message, wire.images.unwrap_or_default(), &format!("{place}.images"))?;
        if wire.role == WireRole::Assistant {
            message.tool_calls = calls(wire.tool_calls.unwrap_or_default(), index);
            open.extend(message.tool_calls.iter().map(|c| (c.id.clone(), c.name.clone())));
        }
        if wire.role == WireRole::Tool {
            let found = match (&wire.tool_call_id, &wire.tool_name) {
                (Some(id), _) => open.iter().position(|call| call.0 == *id),
                (None, Some(name)) => open.iter().position(|call| call.1 == *name),
                (None, None) => (!open.is_empty()).then_some(0),
            };
            let answered = found.map(|at| open.remove(at).0);
            message.tool_call_id = wire.tool_call_id.or(answered);
        }
        messages.push(message);
    }
    Ok(messages)
}

const fn role(wire: WireRole) -> Role {
    match wire {
        WireRole::System => Role::System,
        WireRole::User => Role::User,
        WireRole::Assistant => Role::Assistant,
        WireRole::Tool => Role::Tool,
    }
}

fn calls(wire: Vec<Object<WireCall>>, message: usize) -> Vec<ToolCall> {
    let mut calls = Vec::with_capacity(wire.len());
    for (index, Object(call)) in wire.into_iter().enumerate() {
        let Object(function) = call.function;
        let arguments = match function.arguments {
            Some(RawObject(arguments)) => arguments,
            None => "{}".into(),
        };
        let id = call.id.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| format!("call_{message}_{index}"));
        calls.push(ToolCall { id, name: function.name, arguments });
    }
    calls
}

fn add_images(message: &mut Message, images: Vec<String>, place: &str) -> Result<(), ApiError> {
    for (index, data) in images.into_iter().enumerate() {
        let image = picture::from_base64(data.trim_end(), &format!("{place}[{index}]"))?;
        message.parts.push(Part::Image(image));
    }
    Ok(())
}
