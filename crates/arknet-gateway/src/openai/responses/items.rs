use arknet_types::{
    Message, Part, Refusal, RefusalCode, Role, TokenLogprob, ToolCall, limits::INPUT_BYTES_MAX,
};
use serde::{Deserialize, Serialize};

use super::super::{
    content::Content,
    logprobs::Likely,
    message::tool_call,
    tools::{Grouped, flat},
};
use crate::{ApiError, Gathered, json::Object};

/// An item of a request. Which fields count is decided by `type`.
#[derive(Debug, Deserialize)]
pub(super) struct WireItem {
    r#type: Option<String>,
    role: Option<WireRole>,
    content: Option<Content>,
    summary: Option<Content>,
    call_id: Option<String>,
    id: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
}

/// The item of an earlier answer that has this id, where it is still known.
pub(super) type Recall<'a> = &'a dyn Fn(&str) -> Option<Item>;

/// What the items of one request are read with.
struct Reader<'a> {
    messages: Vec<Message>,
    model: &'a str,
    grouped: &'a Grouped,
    recall: Recall<'a>,
    recalled_bytes: usize,
    /// Where the first picture stands.
    picture: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
enum WireRole {
    System,
    Developer,
    User,
    Assistant,
}

/// What was said, as a model takes it, and where the first picture stands. The items of one turn of
/// the assistant become one message.
pub(super) fn messages(
    wire: Vec<Object<WireItem>>,
    model: &str,
    grouped: &Grouped,
    recall: Recall<'_>,
) -> Result<(Vec<Message>, Option<String>), ApiError> {
    let messages = Vec::with_capacity(wire.len());
    let mut reader = Reader { messages, model, grouped, recall, recalled_bytes: 0, picture: None };
    for (index, Object(item)) in wire.into_iter().enumerate() {
        reader.take(item, index)?;
    }
    Ok((reader.messages, reader.picture))
}

impl WireItem {
    /// What it is; one that only names another need not say so.
    fn kind(&self) -> &str {
        let only_names = self.id.is_some() && self.role.is_none() && self.content.is_none();
        let unsaid = if only_names { "item_reference" } else { "message" };
        self.r#type.as_deref().unwrap_or(unsaid)
    }
}

impl Reader<'_> {
    fn parts(&mut self, content: Content, param: &str) -> Result<Vec<Part>, ApiError> {
        if self.picture.is_none() {
            let place = content.first_picture();
            self.picture = place.map(|place| format!("{param}[{place}].image_url"));
        }
        content.into_parts(param, self.model)
    }

    fn take(&mut self, item: WireItem, index: usize) -> Result<(), ApiError> {
        let missing = |field: &str| ApiError::missing(format!("input[{index}].{field}"));
        let at = |field: &str| format!("input[{index}].{field}");
        let Self { messages, model, .. } = self;
        match item.kind() {
            "message" => {
                let role = item.role.ok_or_else(|| missing("role"))?;
                let content = item.content.ok_or_else(|| missing("content"))?;
                let parts = self.parts(content, &at("content"))?;
                say(&mut self.messages, role, parts);
            }
            "function_call" => {
                let id = item.call_id.ok_or_else(|| missing("call_id"))?;
                let name = item.name.ok_or_else(|| missing("name"))?;
                let name = match item.namespace {
                    Some(group) => flat(self.grouped, &group, name),
                    None => name,
                };
                let arguments = item.arguments.unwrap_or_default();
                turn(&mut self.messages).tool_calls.push(tool_call(id, name, &arguments));
            }
            "item_reference" => {
                let id = item.id.ok_or_else(|| missing("id"))?;
                let item = (self.recall)(&id).ok_or_else(|| forgotten(at("id"), &id))?;
                self.recalled_bytes = self.recalled_bytes.saturating_add(item.bytes());
                // A few letters name as much as an answer may hold.
                if self.recalled_bytes > INPUT_BYTES_MAX {
                    let words = format!("the items named take more than {INPUT_BYTES_MAX} bytes");
                    let refusal = Refusal::new(RefusalCode::TooLarge, words);
                    return Err(ApiError::from_refusal(refusal).about("input"));
                }
                match item {
                    Item::Thought(text) => think(messages, text),
                    Item::Said(text, _) => {
                        say(messages, WireRole::Assistant, vec![Part::Text(text)])
                    }
                    Item::Called(call) => turn(messages).tool_calls.push(call),
                }
            }
            "function_call_output" => {
                let output = item.output.ok_or_else(|| missing("output"))?;
                let parts = self.parts(output, &at("output"))?;
                self.messages.push(Message {
                    parts,
                    tool_call_id: item.call_id,
                    ..Message::new(Role::Tool, "")
                });
            }
            "reasoning" => {
                let thought = item.content.or(item.summary).unwrap_or_default();
                think(messages, thought.into_text(&at("content"), model)?);
            }
            // What tools did that ran elsewhere says nothing to another model without its result.
            "web_search_call"
            | "file_search_call"
            | "image_generation_call"
            | "code_interpreter_call"
            | "mcp_list_tools" => {}
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

/// Thoughts come before what is said: they begin a turn.
fn think(messages: &mut Vec<Message>, thought: String) {
    if !thought.is_empty() {
        let reasoning = Some(thought);
        messages.push(Message { parts: vec![], reasoning, ..Message::new(Role::Assistant, "") });
    }
}

fn forgotten(place: String, id: &str) -> ApiError {
    let message = format!(
        "Item with id '{id}' not found. Answers are kept in the memory of the node that gave them, for \
         a while: send the item itself."
    );
    ApiError::parameter(place, message).code("item_not_found")
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
                Self::Thought(text) => message.reasoning.get_or_insert_default().push_str(text),
                Self::Said(text, _) => message.parts.push(Part::Text(text.clone())),
                Self::Called(call) => message.tool_calls.push(call.clone()),
            }
        }
        message
    }

    /// The item in OpenAI's shape. `number` is that of the answer, `index` the item's place in it.
    pub(super) fn shape<'a>(
        &'a self,
        (number, grouped): (&str, &'a Grouped),
        index: usize,
        status: &'a str,
    ) -> Shape<'a> {
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
            Self::Called(call) => {
                let group = grouped.get(&call.name);
                Shape::Call {
                    id,
                    r#type: "function_call",
                    status,
                    call_id: &call.id,
                    name: group.map_or(&call.name, |(_, alone)| alone),
                    namespace: group.map(|(group, _)| group.as_str()),
                    arguments: &call.arguments,
                }
            }
        }
    }

    /// What its id begins with.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Thought(_) => "rs",
            Self::Said(..) => "msg",
            Self::Called(_) => "fc",
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Thought(text) | Self::Said(text, _) => text.len(),
            Self::Called(call) => call.id.len() + call.name.len() + call.arguments.len(),
        }
    }

    pub(super) fn id(&self, number: &str, index: usize) -> String {
        format!("{}_{number}{index:02x}", self.kind())
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
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'a str>,
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
