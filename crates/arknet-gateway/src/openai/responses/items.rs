use arknet_types::{Message, Part, Role, TokenLogprob, ToolCall};
use serde::{Deserialize, Serialize};

use super::super::{content::Content, logprobs::Likely, message::tool_call};
use crate::{ApiError, Gathered, json::Object};

/// An item of a request. Which fields count is decided by `type`.
#[derive(Debug, Deserialize)]
pub(super) struct WireItem {
    r#type: Option<String>,
    role: Option<WireRole>,
    content: Option<Content>,
    summary: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum WireRole {
    System,
    Developer,
    User,
    Assistant,
}

/// What was said, as a model takes it. The items of one turn of the assistant become one message.
pub(super) fn messages(wire: Vec<Object<WireItem>>, model: &str) -> Result<Vec<Message>, ApiError> {
    let mut messages: Vec<Message> = Vec::with_capacity(wire.len());
    for (index, Object(item)) in wire.into_iter().enumerate() {
        item.add(&mut messages, index, model)?;
    }
    Ok(messages)
}

impl WireItem {
    fn add(self, messages: &mut Vec<Message>, index: usize, model: &str) -> Result<(), ApiError> {
        let missing = |field: &str| ApiError::missing(format!("input[{index}].{field}"));
        let at = |field: &str| format!("input[{index}].{field}");
        match self.r#type.as_deref().unwrap_or("message") {
            "message" => {
                let role = self.role.ok_or_else(|| missing("role"))?;
                let content = self.content.ok_or_else(|| missing("content"))?;
                let parts = content.into_parts(&at("content"), model)?;
                say(messages, role, parts);
            }
            "function_call" => {
                let id = self.call_id.ok_or_else(|| missing("call_id"))?;
                let name = self.name.ok_or_else(|| missing("name"))?;
                let arguments = self.arguments.unwrap_or_default();
                turn(messages).tool_calls.push(tool_call(id, name, &arguments));
            }
            "function_call_output" => {
                let output = self.output.ok_or_else(|| missing("output"))?;
                let parts = output.into_parts(&at("output"), model)?;
                messages.push(Message {
                    parts,
                    tool_call_id: self.call_id,
                    ..Message::new(Role::Tool, "")
                });
            }
            "reasoning" => {
                let thought = self.content.or(self.summary).unwrap_or_default();
                let thought = thought.into_text(&at("content"), model)?;
                if !thought.is_empty() {
                    // Thoughts come before what is said: they begin a turn.
                    let reasoning = Some(thought);
                    messages.push(Message {
                        parts: vec![],
                        reasoning,
                        ..Message::new(Role::Assistant, "")
                    });
                }
            }
            _ => {
                return Err(ApiError::unsupported(
                    at("type"),
                    "Only the items 'message', 'function_call', 'function_call_output' and \
                     'reasoning' are supported here.",
                ));
            }
        }
        Ok(())
    }
}

fn say(messages: &mut Vec<Message>, role: WireRole, parts: Vec<Part>) {
    let role = match role {
        WireRole::System | WireRole::Developer => Role::System,
        WireRole::User => Role::User,
        WireRole::Assistant => {
            let silent = |m: &&mut Message| {
                m.role == Role::Assistant && m.parts.is_empty() && m.tool_calls.is_empty()
            };
            if let Some(thinking) = messages.last_mut().filter(silent) {
                thinking.parts = parts;
                return;
            }
            Role::Assistant
        }
    };
    messages.push(Message { parts, ..Message::new(role, "") });
}

/// The turn of the assistant that is under way.
fn turn(messages: &mut Vec<Message>) -> &mut Message {
    if messages.last().is_none_or(|last| last.role != Role::Assistant) {
        messages.push(Message { parts: vec![], ..Message::new(Role::Assistant, "") });
    }
    messages.last_mut().expect("there is one now")
}

/// An item of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    Thought(String),
    Said(String, Vec<TokenLogprob>),
    Called(ToolCall),
}

impl Item {
    /// The items of a whole answer.
    pub(crate) fn of(answer: Gathered) -> Vec<Self> {
        let mut items = Vec::with_capacity(1 + answer.tool_calls.len());
        if !answer.reasoning.is_empty() {
            items.push(Self::Thought(answer.reasoning));
        }
        if !answer.text.is_empty() || answer.tool_calls.is_empty() {
            items.push(Self::Said(answer.text, answer.logprobs));
        }
        items.extend(answer.tool_calls.into_iter().map(Self::Called));
        items
    }

    /// The turn of the assistant that these items are.
    pub(crate) fn message(items: &[Self]) -> Message {
        let mut message = Message { parts: vec![], ..Message::new(Role::Assistant, "") };
        for item in items {
            match item {
                Self::Thought(text) => message.reasoning = Some(text.clone()),
                Self::Said(text, _) => message.parts.push(Part::Text(text.clone())),
                Self::Called(call) => message.tool_calls.push(call.clone()),
            }
        }
        message
    }

    /// The item in OpenAI's shape. `number` is that of the answer, `index` the item's place in it.
    pub(super) fn shape<'a>(&'a self, number: &str, index: usize, status: &'a str) -> Shape<'a> {
        let id = self.id(number, index);
        match self {
            Self::Thought(text) => Shape::Reasoning {
                id,
                r#type: "reasoning",
                summary: [],
                content: (!text.is_empty())
                    .then_some(Piece::Thought { r#type: "reasoning_text", text })
                    .into_iter()
                    .collect(),
                status,
            },
            Self::Said(text, logprobs) => Shape::Message {
                id,
                r#type: "message",
                status,
                role: "assistant",
                content: (status != "in_progress")
                    .then(|| Piece::text(text, logprobs))
                    .into_iter()
                    .collect(),
            },
            Self::Called(call) => Shape::Call {
                id,
                r#type: "function_call",
                status,
                call_id: &call.id,
                name: &call.name,
                arguments: &call.arguments,
            },
        }
    }

    pub(super) fn id(&self, number: &str, index: usize) -> String {
        let kind = match self {
            Self::Thought(_) => "rs",
            Self::Said(..) => "msg",
            Self::Called(_) => "fc",
        };
        format!("{kind}_{number}{index:02x}")
    }
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Shape<'a> {
    Reasoning {
        id: String,
        r#type: &'static str,
        summary: [(); 0],
        content: Vec<Piece<'a>>,
        status: &'a str,
    },
    Message {
        id: String,
        r#type: &'static str,
        status: &'a str,
        role: &'static str,
        content: Vec<Piece<'a>>,
    },
    Call {
        id: String,
        r#type: &'static str,
        status: &'a str,
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Piece<'a> {
    Text { r#type: &'static str, text: &'a str, annotations: [(); 0], logprobs: Likely<'a> },
    Thought { r#type: &'static str, text: &'a str },
}

impl<'a> Piece<'a> {
    pub(super) const fn text(text: &'a str, logprobs: &'a [TokenLogprob]) -> Self {
        Self::Text { r#type: "output_text", text, annotations: [], logprobs: Likely(logprobs) }
    }
}
