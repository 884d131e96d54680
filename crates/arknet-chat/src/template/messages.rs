//! Requests as the values templates read.

use arknet_types::{Chat, Message, Part, Role, ToolCall, ToolChoice};
use serde_json::{Map, Value, json};

use super::{PromptOptions, TemplateError, functions::python_json};

/// How a template wants to be told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Dialect {
    /// It writes system messages, first or later.
    pub system: bool,
    /// It writes system messages after the first message.
    pub late_system: bool,
    /// It writes tools.
    pub tools: bool,
    /// It writes tool calls and results.
    pub results: bool,
    /// Arguments of tool calls are told as JSON text, not as a value.
    pub arguments_as_text: bool,
    /// Messages without text have no content, instead of an empty one.
    pub none_for_empty: bool,
    /// Contents are lists of parts.
    pub typed: bool,
    /// Ids of tool calls must have 9 letters or digits.
    pub short_ids: bool,
}

/// What stands for the message to go on with, while it is rendered. Noncharacters of Unicode, which
/// are taken out of what users write.
pub(super) const HERE: &str = "\u{fdd2}\u{fdd3}";

/// Something a request holds, ready for the template.
pub(super) struct Writer<'a> {
    pub dialect: Dialect,
    pub options: &'a PromptOptions<'a>,
}

impl Writer<'_> {
    /// A text of the request.
    pub(super) fn text(&self, text: &str) -> String {
        let mut text = text.replace(['\u{fdd2}', '\u{fdd3}'], "\u{fffd}");
        if let Some(marker) = self.options.image_marker.filter(|m| !m.is_empty()) {
            // Until there is none: what is left may make up another.
            while text.contains(marker) {
                text = text.replace(marker, "\u{fffd}");
            }
        }
        (self.options.escape)(&text)
    }

    pub(super) fn content(&self, message: &Message) -> Result<String, TemplateError> {
        let mut content = String::new();
        for part in &message.parts {
            match part {
                Part::Text(text) => content.push_str(&self.text(text)),
                Part::Image(_) => {
                    content.push_str(self.options.image_marker.ok_or(TemplateError::Image)?);
                }
            }
        }
        Ok(content)
    }

    /// The tools as function descriptions.
    pub(super) fn tools(&self, chat: &Chat) -> Vec<Value> {
        let tool = |tool: &arknet_types::Tool| {
            let mut function = Map::new();
            function.insert("name".into(), self.text(&tool.name).into());
            let description = tool.description.as_deref().unwrap_or_default();
            function.insert("description".into(), self.text(description).into());
            let parameters = serde_json::from_str(&tool.parameters)
                .ok()
                .filter(Value::is_object)
                .unwrap_or_else(|| json!({"type": "object", "properties": {}}));
            function.insert("parameters".into(), self.json(parameters));
            json!({"type": "function", "function": function})
        };
        chat.tools.iter().map(tool).collect()
    }

    /// A value of the request, its keys and texts escaped.
    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (self.text(&key), self.json(value)))
                    .collect(),
            ),
            other => other,
        }
    }

    /// The messages. `is_continued` puts [`HERE`] in the place of the last one's content.
    pub(super) fn messages(
        &self,
        messages: &[Message],
        is_continued: bool,
    ) -> Result<Vec<Value>, TemplateError> {
        let mut values: Vec<Value> = Vec::with_capacity(messages.len());
        for (at, message) in messages.iter().enumerate() {
            let is_last = is_continued && at + 1 == messages.len();
            let mut content = if is_last { HERE.to_owned() } else { self.content(message)? };
            let mut value = Map::new();
            let mut role = message.role;
            if role == Role::Tool && !self.dialect.results {
                role = Role::User;
                content = format!("<tool_response>\n{content}\n</tool_response>");
            }
            if role == Role::Tool {
                let id = message.tool_call_id.as_deref().unwrap_or_default();
                value.insert("tool_call_id".into(), self.id(id).into());
                if let Some(name) = called(&messages[..at], id) {
                    value.insert("name".into(), self.text(name).into());
                }
            }
            if let Some(reasoning) = message.reasoning.as_deref().filter(|r| !r.is_empty()) {
                let reasoning = self.text(reasoning);
                // Templates differ in the name.
                value.insert("reasoning_content".into(), reasoning.clone().into());
                value.insert("thinking".into(), reasoning.into());
            }
            if !message.tool_calls.is_empty() {
                if self.dialect.results {
                    let calls = message.tool_calls.iter().map(|call| self.call(call));
                    value.insert("tool_calls".into(), calls.collect());
                } else {
                    for call in &message.tool_calls {
                        content.push_str(&self.call_as_text(call, content.is_empty()));
                    }
                }
            }
            value.insert("role".into(), role.as_str().into());
            value.insert("content".into(), self.as_content(content, message));
            values.push(Value::Object(value));
        }
        Ok(values)
    }

    fn as_content(&self, content: String, message: &Message) -> Value {
        if content.is_empty() && self.dialect.none_for_empty && !message.tool_calls.is_empty() {
            Value::Null
        } else if self.dialect.typed {
            json!([{"type": "text", "text": content}])
        } else {
            content.into()
        }
    }

    fn call(&self, call: &ToolCall) -> Value {
        let arguments = match serde_json::from_str::<Value>(&call.arguments) {
            Ok(value @ Value::Object(_)) if !self.dialect.arguments_as_text => self.json(value),
            Ok(value @ Value::Object(_)) => python_json(&self.json(value)).into(),
            _ if call.arguments.trim().is_empty() && !self.dialect.arguments_as_text => json!({}),
            _ => self.text(&call.arguments).into(),
        };
        let name = self.text(&call.name);
        // Some templates read the function inside, some what is around it.
        json!({
            "id": self.id(&call.id),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        })
    }

    fn call_as_text(&self, call: &ToolCall, is_first: bool) -> String {
        let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
        let value = json!({"name": self.text(&call.name), "arguments": self.json(arguments)});
        let before = if is_first { "" } else { "\n" };
        format!("{before}<tool_call>\n{}\n</tool_call>", python_json(&value))
    }

    fn id(&self, id: &str) -> String {
        if !self.dialect.short_ids {
            return self.text(id);
        }
        // FNV-1a: digits of which nobody chooses one, the same for a call and its result.
        let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:09}", hash % 1_000_000_000)
    }
}

/// The name of the tool that the call with this id called.
fn called<'a>(before: &'a [Message], id: &str) -> Option<&'a str> {
    let mut calls = before.iter().rev().flat_map(|m| &m.tool_calls);
    calls.find(|call| call.id == id).map(|call| call.name.as_str())
}

/// Tells the model of its tools where the template cannot.
pub(super) fn tool_words(tools: &[Value], chat: &Chat, writer: &Writer<'_>) -> String {
    let lines: Vec<String> = tools.iter().map(python_json).collect();
    let must = match &chat.tool_choice {
        ToolChoice::Required => "You must call a function before you answer.\n".to_owned(),
        ToolChoice::Named(name) => format!("You must call {}.\n", writer.text(name)),
        ToolChoice::Auto | ToolChoice::None => String::new(),
    };
    let once = if chat.parallel_tool_calls { "" } else { "Call one function at a time.\n" };
    format!(
        "# Tools\n\nYou may call functions to help with what the user asks. These are the functions, \
         in JSON:\n<tools>\n{}\n</tools>\n\nTo call a function, write its name and arguments as a \
         JSON object inside <tool_call></tool_call>:\n<tool_call>\n{{\"name\": \
         \"function-name\", \"arguments\": {{\"argument\": \"value\"}}}}\n</tool_call>\n{must}{once}\
         The results come inside <tool_response></tool_response>.",
        lines.join("\n")
    )
}

/// Joins what the template cannot tell apart: system messages it does not write go to the user's
/// message that follows, and, where asked, messages of the same role become one.
pub(super) fn adapt(messages: Vec<Value>, dialect: Dialect, join: bool) -> Vec<Value> {
    let mut adapted: Vec<Value> = Vec::with_capacity(messages.len());
    let mut pending: Vec<String> = Vec::new();
    for mut message in messages {
        let is_first = adapted.is_empty();
        let role = message["role"].as_str().unwrap_or_default().to_owned();
        let is_written = if is_first { dialect.system } else { dialect.late_system && !join };
        if role == "system" && !is_written {
            if let Some(last) = adapted.last_mut().filter(|last| last["role"] == "system") {
                let joined = [content_of(last), content_of(&message)].join("\n\n");
                set_content(last, joined);
                continue;
            }
            pending.push(content_of(&message));
            continue;
        }
        if !pending.is_empty() {
            if role == "user" {
                pending.push(content_of(&message));
                set_content(&mut message, pending.join("\n\n"));
                pending.clear();
            } else {
                adapted.push(user(&std::mem::take(&mut pending), dialect));
            }
        }
        match adapted.last_mut() {
            Some(last) if (join || are_results(last, &message)) && may_join(last, &message) => {
                let joined = [content_of(last), content_of(&message)].join("\n\n");
                set_content(last, joined);
            }
            _ => adapted.push(message),
        }
    }
    if !pending.is_empty() {
        adapted.push(user(&pending, dialect));
    }
    adapted
}

fn user(texts: &[String], dialect: Dialect) -> Value {
    let mut message = json!({"role": "user", "content": ""});
    if dialect.typed {
        message["content"] = json!([{"type": "text", "text": ""}]);
    }
    set_content(&mut message, texts.join("\n\n"));
    message
}

fn may_join(last: &Value, next: &Value) -> bool {
    let is_plain = |m: &Value| m.get("tool_calls").is_none();
    last["role"] == next["role"] && last["role"] != "tool" && is_plain(last) && is_plain(next)
}

/// Whether both are results of tools in messages of the user, who speaks once for all of them.
fn are_results(last: &Value, next: &Value) -> bool {
    [last, next].iter().all(|m| content_of(m).starts_with("<tool_response>\n"))
}

fn content_of(message: &Value) -> String {
    let content = &message["content"];
    content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default().to_owned()
}

pub(super) fn set_content(message: &mut Value, text: String) {
    let content = &mut message["content"];
    if content.is_array() {
        content[0]["text"] = text.into();
    } else {
        *content = text.into();
    }
}
