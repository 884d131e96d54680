use arknet_types::{FinishReason, Refusal, Reply, ToolCallPiece, Usage};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{error::explain, request::Thoughts};
use crate::{ApiError, Gathered, arguments, dialect::Dialect, encode::Encode};

/// What stands for the signature with which Anthropic proves that thoughts are its own. Clients send
/// it back unread; some drop thoughts without one.
const SIGNATURE: &str = "YXJrbmV0";

/// What every answer to one request repeats.
#[derive(Clone, Debug)]
pub struct Head {
    /// The message's id.
    pub id: String,
    /// The model that was asked for.
    pub model: String,
    /// The texts that end the answer.
    pub stop: Vec<String>,
    /// What the client wants to see of the model's thoughts.
    pub thoughts: Thoughts,
}

impl Head {
    /// A whole answer as JSON.
    #[must_use]
    pub fn message_json(&self, gathered: &Gathered) -> Vec<u8> {
        let mut content = Vec::with_capacity(2 + gathered.tool_calls.len());
        if !gathered.reasoning.is_empty() && self.thoughts != Thoughts::None {
            let shown = self.thoughts == Thoughts::Shown;
            let thinking = if shown { gathered.reasoning.as_str() } else { "" };
            content.push(Block::Thinking { thinking, signature: SIGNATURE });
        }
        if !gathered.text.is_empty() {
            content.push(Block::Text { text: &gathered.text });
        }
        let inputs: Vec<_> =
            gathered.tool_calls.iter().map(|call| arguments::object(&call.arguments)).collect();
        for (call, input) in gathered.tool_calls.iter().zip(&inputs) {
            content.push(Block::ToolUse { id: &call.id, name: &call.name, input });
        }
        let called = !gathered.tool_calls.is_empty();
        let (stop_reason, stop_sequence) = self.stop_reason(gathered.finish, called);
        let message = Message {
            stop_reason: Some(stop_reason),
            stop_sequence,
            usage: Counts::whole(gathered.usage),
            ..self.message(&content)
        };
        let mut out = Vec::with_capacity(gathered.text.len() + gathered.text.len() / 8 + 512);
        write(&mut out, &message);
        out
    }

    const fn message<'a>(&'a self, content: &'a [Block<'a>]) -> Message<'a> {
        Message {
            id: self.id.as_str(),
            r#type: "message",
            role: "assistant",
            model: self.model.as_str(),
            content,
            stop_reason: None,
            stop_sequence: None,
            usage: Counts::unknown(),
        }
    }

    fn stop_reason(&self, finish: FinishReason, called: bool) -> (&'static str, Option<&str>) {
        match finish {
            FinishReason::Length => ("max_tokens", None),
            FinishReason::ToolCalls => ("tool_use", None),
            FinishReason::Stop if called => ("tool_use", None),
            FinishReason::Stop => ("end_turn", None),
            FinishReason::StopSequence(which) => match self.stop.get(usize::from(which)) {
                Some(stop) => ("stop_sequence", Some(stop)),
                None => ("end_turn", None),
            },
        }
    }
}

/// The body of an answer to `count_tokens`.
#[must_use]
pub fn count_json(usage: Usage) -> Vec<u8> {
    format!(r#"{{"input_tokens":{}}}"#, usage.prompt_tokens).into_bytes()
}

/// An answer as a stream of events.
pub(super) struct Events {
    head: Head,
    /// The block that is being written.
    open: Open,
    /// The number of the next block.
    next: u32,
    /// Whether a tool was called.
    called: bool,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Open {
    Nothing,
    Text,
    Thinking,
    /// Which call.
    ToolUse(u16),
}

impl Events {
    pub(super) const fn new(head: Head) -> Self {
        Self { head, open: Open::Nothing, next: 0, called: false, ended: false }
    }

    /// The number of the block that is being written.
    const fn index(&self) -> u32 {
        self.next.saturating_sub(1)
    }

    fn delta(&self, delta: Delta<'_>, out: &mut Vec<u8>) {
        event(
            out,
            "content_block_delta",
            &BlockDelta { r#type: "content_block_delta", index: self.index(), delta },
        );
    }

    fn start(&mut self, open: Open, block: Block<'_>, out: &mut Vec<u8>) {
        self.close(out);
        self.open = open;
        self.next += 1;
        event(
            out,
            "content_block_start",
            &BlockStart {
                r#type: "content_block_start",
                index: self.index(),
                content_block: block,
            },
        );
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        match self.open {
            Open::Nothing => return,
            Open::Thinking => self.delta(Delta::Signature { signature: SIGNATURE }, out),
            Open::Text | Open::ToolUse(_) => {}
        }
        self.open = Open::Nothing;
        let stop = BlockStop { r#type: "content_block_stop", index: self.index() };
        event(out, "content_block_stop", &stop);
    }

    fn text(&mut self, text: &str, out: &mut Vec<u8>) {
        if text.is_empty() {
            return;
        }
        if self.open != Open::Text {
            self.start(Open::Text, Block::Text { text: "" }, out);
        }
        self.delta(Delta::Text { text }, out);
    }

    fn thought(&mut self, thinking: &str, out: &mut Vec<u8>) {
        if thinking.is_empty() || self.head.thoughts == Thoughts::None {
            return;
        }
        if self.open != Open::Thinking {
            self.start(Open::Thinking, Block::Thinking { thinking: "", signature: "" }, out);
        }
        if self.head.thoughts == Thoughts::Shown {
            self.delta(Delta::Thinking { thinking }, out);
        }
    }

    fn call(&mut self, piece: &ToolCallPiece, out: &mut Vec<u8>) {
        if self.open != Open::ToolUse(piece.index) {
            let id = piece.id.clone().unwrap_or_else(|| format!("toolu_{}", piece.index));
            let name = piece.name.as_deref().unwrap_or_default();
            let input = arguments::object("");
            let block = Block::ToolUse { id: &id, name, input: &input };
            self.start(Open::ToolUse(piece.index), block, out);
            self.called = true;
        }
        if !piece.arguments.is_empty() {
            self.delta(Delta::InputJson { partial_json: &piece.arguments }, out);
        }
    }

    fn end(&mut self, finish: FinishReason, usage: Usage, out: &mut Vec<u8>) {
        self.close(out);
        let (stop_reason, stop_sequence) = self.head.stop_reason(finish, self.called);
        event(
            out,
            "message_delta",
            &MessageDelta {
                r#type: "message_delta",
                delta: Ending { stop_reason, stop_sequence },
                usage: Counts::whole(usage),
            },
        );
        out.extend_from_slice(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        self.ended = true;
    }
}

impl Encode for Events {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        let message = self.head.message(&[]);
        event(out, "message_start", &MessageStart { r#type: "message_start", message });
        self.keep_alive(out);
    }

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        if self.ended {
            return;
        }
        match reply {
            Reply::Text { text, .. } => self.text(&text, out),
            Reply::Reasoning { text, .. } => self.thought(&text, out),
            Reply::ToolCall(piece) => self.call(&piece, out),
            Reply::Done { finish, usage } => self.end(finish, usage, out),
            Reply::Refused(refusal) => self.fail(&refusal, out),
            // Nothing that a message has a place for.
            _ => {}
        }
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let error = explain(ApiError::from_refusal(refusal.clone()), &self.head.model, &[]);
        out.extend_from_slice(b"event: error\ndata: ");
        Dialect::Anthropic.write_error(&error, out);
        out.extend_from_slice(b"\n\n");
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: ping\ndata: {\"type\":\"ping\"}\n\n");
    }
}

fn event(out: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write(out, data);
    out.extend_from_slice(b"\n\n");
}

fn write(out: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(out, value).expect("strings and numbers are always JSON");
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [Block<'a>],
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: Counts,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Text { text: &'a str },
    Thinking { thinking: &'a str, signature: &'a str },
    ToolUse { id: &'a str, name: &'a str, input: &'a RawValue },
}

/// Tokens. Those found in a cache are not among the input tokens.
#[derive(Serialize)]
struct Counts {
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
    output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<Details>,
}

#[derive(Serialize)]
struct Details {
    thinking_tokens: u32,
}

impl Counts {
    /// Known when the answer has ended.
    const fn unknown() -> Self {
        Self {
            input_tokens: 0,
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: 0,
            output_tokens: 0,
            output_tokens_details: None,
        }
    }

    fn whole(usage: Usage) -> Self {
        let thinking_tokens = usage.reasoning_tokens;
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            output_tokens_details: (thinking_tokens > 0).then_some(Details { thinking_tokens }),
        }
    }
}

#[derive(Serialize)]
struct MessageStart<'a> {
    r#type: &'static str,
    message: Message<'a>,
}

#[derive(Serialize)]
struct BlockStart<'a> {
    r#type: &'static str,
    index: u32,
    content_block: Block<'a>,
}

#[derive(Serialize)]
struct BlockDelta<'a> {
    r#type: &'static str,
    index: u32,
    delta: Delta<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'a str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
}

#[derive(Serialize)]
struct BlockStop {
    r#type: &'static str,
    index: u32,
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    r#type: &'static str,
    delta: Ending<'a>,
    usage: Counts,
}

#[derive(Serialize)]
struct Ending<'a> {
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}
