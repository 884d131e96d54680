use arknet_types::{Message, Role, ToolCall};
use serde::Deserialize;

use super::{
    content::{Content, unsupported},
    shape::Shape,
};
use crate::{ApiError, arguments, json::Object};

#[derive(Debug, Deserialize)]
pub(crate) struct WireMessage {
    role: WireRole,
    content: Option<Content>,
    tool_calls: Option<Vec<Object<WireCall>>>,
    tool_call_id: Option<String>,
    reasoning_content: Option<String>,
    /// The newer name of the same; where others send something else, it is no thought.
    #[serde(default)]
    reasoning: Shape,
    #[serde(default)]
    function_call: Shape,
    #[serde(default)]
    audio: Shape,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum WireRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize)]
struct WireCall {
    id: String,
    function: Object<WireFunction>,
}

#[derive(Debug, Deserialize)]
struct WireFunction {
    name: String,
    #[serde(default)]
    arguments: String,
}

/// What was said, as a model takes it.
pub(crate) fn messages(
    wire: Vec<Object<WireMessage>>,
    model: &str,
) -> Result<Vec<Message>, ApiError> {
    let each = wire.into_iter().enumerate();
    each.map(|(index, Object(message))| message.into_message(index, model)).collect()
}

impl WireMessage {
    fn into_message(self, index: usize, model: &str) -> Result<Message, ApiError> {
        if !self.function_call.is_absent() {
            return Err(ApiError::unsupported(
                format!("messages[{index}].function_call"),
                "'function_call' is not supported here: send 'tool_calls'.",
            ));
        }
        if !self.audio.is_absent() {
            return Err(unsupported(format!("messages[{index}].audio"), model, "sounds"));
        }
        let mut tool_calls = Vec::new();
        for Object(call) in self.tool_calls.into_iter().flatten() {
            let Object(function) = call.function;
            tool_calls.push(tool_call(call.id, function.name, &function.arguments));
        }
        let reasoning = self.reasoning_content.or(match self.reasoning {
            Shape::Text(text) => Some(text),
            _ => None,
        });
        let reasoning = reasoning.filter(|text| !text.is_empty());
        let parts = match self.content {
            Some(content) => content.into_parts(&format!("messages[{index}].content"), model)?,
            // Who only thinks or calls tools need not speak.
            None if !tool_calls.is_empty() || reasoning.is_some() => vec![],
            None => return Err(ApiError::missing(format!("messages[{index}].content"))),
        };
        let role = match self.role {
            WireRole::System | WireRole::Developer => Role::System,
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
            WireRole::Tool => Role::Tool,
        };
        Ok(Message { role, parts, reasoning, tool_calls, tool_call_id: self.tool_call_id })
    }
}

/// A call that an earlier answer made. What the model wrote as arguments that is no object stays in
/// sight of it, inside of one: to refuse it would end the conversation for good.
pub(crate) fn tool_call(id: String, name: String, arguments: &str) -> ToolCall {
    let arguments = Box::<str>::from(arguments::object(arguments)).into_string();
    ToolCall { id, name, arguments }
}
