use arknet_types::{
    Chat, Format, Image, InferRequest, Input, Message, ModelName, Part, Reasoning, Role, Sampling,
    ToolCall, limits::STOPS_MAX,
};

use super::{
    tools::tools,
    wire::{Block, Content, Params, Source, Thinking, ThinkingKind, WireMessage, WireRole},
};
use crate::{
    ApiError, Ask,
    json::{self, Object, RawObject},
    picture,
};

/// What Claude Code puts in front of its system prompt. It changes with every request, so that no
/// prompt would ever be found in a cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What goes to the model.
    pub ask: Ask,
    /// Whether the answer is sent token by token.
    pub stream: bool,
    /// What the client wants to see of the model's thoughts.
    pub thoughts: Thoughts,
}

/// What a client sees of the model's thoughts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Thoughts {
    /// Nothing: it did not ask for any.
    None,
    /// That there are some.
    Omitted,
    /// All.
    Shown,
}

/// Reads the body of `POST /v1/messages`.
pub fn messages(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = json::object(body)?;
    let max_tokens = params.max_tokens.ok_or_else(|| ApiError::missing("max_tokens"))?;
    let model = model(&mut params)?;
    let (chat, thoughts) = chat(&mut params)?;
    let neutral = Sampling::default();
    let infer = InferRequest {
        max_tokens: Some(max_tokens),
        stop: params.stop_sequences.take().map(stops).unwrap_or_default(),
        sampling: Sampling {
            temperature: params.temperature.unwrap_or(neutral.temperature),
            top_p: params.top_p.unwrap_or(neutral.top_p),
            top_k: params.top_k.map_or(0, |k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            ..neutral
        },
        format: format(&mut params)?,
        ..InferRequest::new(model, Input::Chat(chat))
    };
    infer.check().map_err(ApiError::from_refusal)?;
    let stream = params.stream.unwrap_or_default();
    Ok(Asked { ask: Ask { infer, keep_alive: None }, stream, thoughts })
}

/// Reads the body of `POST /v1/messages/count_tokens`.
pub fn count_tokens(body: &[u8]) -> Result<Ask, ApiError> {
    let mut params: Params = json::object(body)?;
    let model = model(&mut params)?;
    let (chat, _) = chat(&mut params)?;
    let infer = InferRequest::new(model, Input::Count(chat));
    infer.check().map_err(ApiError::from_refusal)?;
    Ok(Ask { infer, keep_alive: None })
}

fn model(params: &mut Params) -> Result<ModelName, ApiError> {
    let name = params.model.take().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::missing("model"))?;
    // What cannot be a name is nobody's model.
    ModelName::new(name.as_str()).map_err(|_| ApiError::unknown_model(&name))
}

/// Up to one more than allowed, so that the check of the request sees that there are too many.
fn stops(mut stops: Vec<String>) -> Vec<String> {
    stops.truncate(STOPS_MAX + 1);
    stops
}

fn chat(params: &mut Params) -> Result<(Chat, Thoughts), ApiError> {
    let thread = params.thread.take().and_then(|Object(thread)| thread.r#type);
    if thread.as_deref() == Some("continue") {
        return Err(ApiError::unsupported(
            "thread",
            "Conversations are not kept here: send all of their messages.",
        ));
    }
    let wire = params.messages.take().ok_or_else(|| ApiError::missing("messages"))?;
    let mut turns = Turns::default();
    if let Some(system) = params.system.take() {
        turns.system(system, "system")?;
    }
    for (index, Object(message)) in wire.into_iter().enumerate() {
        turns.message(message, &format!("messages[{index}].content"))?;
    }
    let messages = turns.finish();
    let (tools, tool_choice, parallel_tool_calls) =
        tools(params.tools.take(), params.tool_choice.take())?;
    let (reasoning, thoughts) = thinking(params.thinking.take());
    Ok((Chat { messages, tools, tool_choice, parallel_tool_calls, reasoning }, thoughts))
}

/// Who does not ask for thoughts gets none, as many programs take the first block for the answer.
fn thinking(asked: Option<Object<Thinking>>) -> (Reasoning, Thoughts) {
    let Some(Object(thinking)) = asked else {
        return (Reasoning::Off, Thoughts::None);
    };
    let thoughts = match thinking.display.as_deref() {
        Some("omitted") => Thoughts::Omitted,
        _ => Thoughts::Shown,
    };
    match thinking.r#type {
        ThinkingKind::Disabled => (Reasoning::Off, Thoughts::None),
        ThinkingKind::Enabled => (Reasoning::On, thoughts),
        ThinkingKind::Adaptive | ThinkingKind::BetweenTools => (Reasoning::Auto, thoughts),
    }
}

fn format(params: &mut Params) -> Result<Format, ApiError> {
    let configured = params.output_config.take().and_then(|Object(config)| config.format);
    let (param, format) = match (configured, params.output_format.take()) {
        (Some(Object(format)), _) => ("output_config.format", format),
        (None, Some(Object(format))) => ("output_format", format),
        (None, None) => return Ok(Format::Text),
    };
    if format.r#type != "json_schema" {
        let message = format!("Invalid value for '{param}.type': expected json_schema.");
        return Err(ApiError::parameter(format!("{param}.type"), message));
    }
    let schema = format.schema.ok_or_else(|| ApiError::missing(format!("{param}.schema")))?;
    Ok(Format::JsonSchema(schema.0))
}

/// Messages as they grow. Neighbours of one role become one, as Anthropic has it and as many
/// templates demand.
#[derive(Default)]
struct Turns(Vec<Message>);

impl Turns {
    fn system(&mut self, content: Content, place: &str) -> Result<(), ApiError> {
        let text = match content {
            Content::Text(text) => text,
            Content::Other => return Err(not_content(place)),
            Content::Blocks(blocks) => {
                let mut texts = Vec::with_capacity(blocks.len());
                for (index, Object(block)) in blocks.into_iter().enumerate() {
                    let place = || format!("{place}[{index}]");
                    if block.r#type != "text" {
                        return Err(unknown_block(&place(), "a text"));
                    }
                    let text = block.text.ok_or_else(|| missing(&place(), "text"))?;
                    if !text.starts_with(BILLING) {
                        texts.push(text);
                    }
                }
                texts.join("\n\n")
            }
        };
        if text.is_empty() {
            return Ok(());
        }
        match self.0.last_mut() {
            None => self.0.push(Message::new(Role::System, text)),
            Some(first) if first.role == Role::System => {
                push_line(&mut first.parts, format!("\n{text}"));
            }
            // Most templates take a system message in front only. Later ones are told with the next
            // turn, in the form that agents used before Anthropic took them anywhere.
            Some(_) => {
                let text = format!("<system-reminder>\n{text}\n</system-reminder>");
                self.turn(Role::User);
                self.text(Role::User, text);
            }
        }
        Ok(())
    }

    fn message(&mut self, message: WireMessage, place: &str) -> Result<(), ApiError> {
        let role = match message.role {
            WireRole::System => return self.system(message.content, place),
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
        };
        match message.content {
            Content::Text(text) => {
                self.turn(role);
                self.text(role, text);
            }
            Content::Other => return Err(not_content(place)),
            Content::Blocks(blocks) => {
                if blocks.is_empty() {
                    self.turn(role);
                }
                for (index, Object(block)) in blocks.into_iter().enumerate() {
                    self.block(role, block, &format!("{place}[{index}]"))?;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, role: Role, block: Block, place: &str) -> Result<(), ApiError> {
        match (block.r#type.as_str(), role) {
            ("text", _) => {
                let text = block.text.ok_or_else(|| missing(place, "text"))?;
                self.turn(role);
                self.text(role, text);
            }
            ("image", Role::User) => {
                let image = image(block.source, place)?;
                self.turn(role).parts.push(Part::Image(image));
            }
            ("document" | "search_result", Role::User) => {
                let text = document(block, place)?;
                self.turn(role);
                self.text(role, text);
            }
            ("tool_result", Role::User) => self.tool_result(block, place)?,
            ("thinking", Role::Assistant) => {
                let thought = block.thinking.unwrap_or_default();
                let turn = self.turn(role);
                turn.reasoning.get_or_insert_default().push_str(&thought);
            }
            ("tool_use", Role::Assistant) => {
                let call = ToolCall {
                    id: block.id.ok_or_else(|| missing(place, "id"))?,
                    name: block.name.ok_or_else(|| missing(place, "name"))?,
                    arguments: match block.input {
                        Some(RawObject(input)) => input,
                        None => "{}".into(),
                    },
                };
                self.turn(role).tool_calls.push(call);
            }
            // What is left of earlier turns elsewhere and says nothing to another model: thoughts
            // that only Anthropic can read, and tools that it ran.
            (
                "redacted_thinking" | "server_tool_use" | "mcp_tool_use" | "mcp_tool_listing"
                | "fallback",
                Role::Assistant,
            ) => {}
            (kind, Role::Assistant) if kind.ends_with("_tool_result") => {}
            (_, Role::Assistant) => return Err(unknown_block(place, ASSISTANT_BLOCKS)),
            _ => return Err(unknown_block(place, USER_BLOCKS)),
        }
        Ok(())
    }

    fn tool_result(&mut self, block: Block, place: &str) -> Result<(), ApiError> {
        let id = block.tool_use_id.ok_or_else(|| missing(place, "tool_use_id"))?;
        let mut parts = Vec::new();
        match block.content {
            None => {}
            Some(Content::Text(text)) => parts.push(Part::Text(text)),
            Some(Content::Other) => return Err(not_content(&format!("{place}.content"))),
            Some(Content::Blocks(blocks)) => {
                for (index, Object(block)) in blocks.into_iter().enumerate() {
                    let place = format!("{place}.content[{index}]");
                    match block.r#type.as_str() {
                        "text" => {
                            let text = block.text.ok_or_else(|| missing(&place, "text"))?;
                            push_line(&mut parts, text);
                        }
                        "image" => parts.push(Part::Image(image(block.source, &place)?)),
                        // It comes again with every turn, and the conversation is to go on.
                        "document" if is_unreadable(&block) => {
                            push_line(&mut parts, "[a document that cannot be read here]".into());
                        }
                        "document" | "search_result" => {
                            push_line(&mut parts, document(block, &place)?);
                        }
                        // Tools that a search found: all of them are known to the model anyway.
                        "tool_reference" => {}
                        _ => return Err(unknown_block(&place, "text, image or document")),
                    }
                }
            }
        }
        if block.is_error.unwrap_or_default() {
            parts.insert(0, Part::Text("Error: ".into()));
        }
        self.0.push(Message {
            role: Role::Tool,
            parts,
            reasoning: None,
            tool_calls: vec![],
            tool_call_id: Some(id),
        });
        Ok(())
    }

    /// The message that is being spoken.
    fn turn(&mut self, role: Role) -> &mut Message {
        if self.0.last().is_none_or(|last| last.role != role) {
            self.0.push(Message { parts: vec![], ..Message::new(role, "") });
        }
        self.0.last_mut().expect("it was just pushed")
    }

    fn text(&mut self, role: Role, text: String) {
        let parts = &mut self.turn(role).parts;
        match role {
            // The text that is continued has to stay as it is.
            Role::Assistant => parts.push(Part::Text(text)),
            _ => push_line(parts, text),
        }
    }

    /// An answer that was begun with nothing is one that was not begun.
    fn finish(mut self) -> Vec<Message> {
        let is_nothing = |message: &Message| {
            message.role == Role::Assistant
                && message.tool_calls.is_empty()
                && message.parts.iter().all(|part| matches!(part, Part::Text(t) if t.is_empty()))
        };
        if self.0.last().is_some_and(is_nothing) {
            self.0.pop();
        }
        self.0
    }
}

const USER_BLOCKS: &str = "text, image, document, search_result or tool_result";
const ASSISTANT_BLOCKS: &str = "text, thinking, redacted_thinking or tool_use";

/// Adds a text on a line of its own.
fn push_line(parts: &mut Vec<Part>, text: String) {
    match parts.last_mut() {
        Some(Part::Text(before)) => {
            before.push('\n');
            before.push_str(&text);
        }
        _ => parts.push(Part::Text(text)),
    }
}

fn image(source: Option<Source>, place: &str) -> Result<Image, ApiError> {
    let param = || format!("{place}.source");
    let Some(Source::From(origin)) = source else {
        return Err(ApiError::missing(param()));
    };
    if origin.r#type != "base64" {
        return Err(ApiError::unsupported(
            param(),
            "This node fetches nothing: send images with a source of type base64.",
        ));
    }
    let data = origin.data.ok_or_else(|| missing(&param(), "data"))?;
    picture::from_base64(data.trim_end(), &param())
}

/// Whether a document is a file, or lies where this node does not look.
fn is_unreadable(block: &Block) -> bool {
    let Some(Source::From(origin)) = &block.source else {
        return false;
    };
    matches!(origin.r#type.as_str(), "base64" | "url" | "file")
}

/// The words of a document or search result.
fn document(block: Block, place: &str) -> Result<String, ApiError> {
    let mut words = String::new();
    let mut add = |text: &str| {
        if !words.is_empty() {
            words.push('\n');
        }
        words.push_str(text);
    };
    if let Some(title) = &block.title {
        add(title);
    }
    let content = match block.source {
        Some(Source::From(origin)) => match (origin.r#type.as_str(), origin.data, origin.content) {
            ("text", Some(data), _) => Some(Content::Text(data)),
            ("content", _, Some(content)) => Some(content),
            _ => {
                return Err(ApiError::unsupported(
                    format!("{place}.source"),
                    "Documents are read as text: send a source of type text or content.",
                ));
            }
        },
        Some(Source::Name(name)) => {
            add(&name);
            block.content
        }
        None => block.content,
    };
    match content {
        Some(Content::Text(text)) => add(&text),
        Some(Content::Blocks(blocks)) => {
            for Object(block) in blocks {
                match block.text {
                    Some(text) if block.r#type == "text" => add(&text),
                    _ => return Err(unknown_block(&format!("{place}.content"), "text")),
                }
            }
        }
        Some(Content::Other) | None => return Err(missing(place, "source")),
    }
    Ok(words)
}

fn missing(place: &str, field: &str) -> ApiError {
    ApiError::missing(format!("{place}.{field}"))
}

fn not_content(place: &str) -> ApiError {
    let message =
        format!("Invalid value for '{place}': expected a string or an array of content blocks.");
    ApiError::parameter(place.to_owned(), message)
}

fn unknown_block(place: &str, expected: &str) -> ApiError {
    let message = format!("Invalid value for '{place}.type': expected {expected}.");
    ApiError::parameter(format!("{place}.type"), message)
}
