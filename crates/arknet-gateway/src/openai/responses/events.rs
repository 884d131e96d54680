use std::io::Write;

use arknet_types::{
    FinishReason, Refusal, RefusalCode, Reply, TokenLogprob, ToolCall, ToolCallPiece, Usage,
};
use serde::Serialize;

use super::{
    super::{logprobs::Likely, response::write},
    items::{Item, Piece, Shape},
    object::{Frame, Status},
};
use crate::encode::Encode;

/// What happens with an answer that is complete.
pub(crate) type Keep = Box<dyn FnOnce(&[Item], Vec<u8>) + Send>;

/// Writes an answer of `/v1/responses` as server-sent events.
pub(crate) struct Events {
    frame: Frame,
    keep: Option<Keep>,
    /// The events' number.
    sequence: u64,
    /// Those before the last are complete.
    items: Vec<Item>,
    /// Likelihoods whose text is still to come.
    likely: Vec<TokenLogprob>,
    /// Bytes held; the last events repeat the whole answer.
    held: usize,
    held_max: usize,
}

#[derive(Serialize)]
struct Of<'a, T> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize)]
struct OfItem<'a> {
    output_index: usize,
    item: Shape<'a>,
}

#[derive(Serialize)]
struct OfPart<'a> {
    item_id: String,
    output_index: usize,
    content_index: usize,
    part: Piece<'a>,
}

#[derive(Serialize)]
struct OfText<'a> {
    item_id: String,
    output_index: usize,
    content_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Likely<'a>>,
}

#[derive(Serialize)]
struct OfArguments<'a> {
    item_id: String,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a str>,
}

impl Events {
    pub(crate) fn new(frame: Frame, held_max: usize, keep: Option<Keep>) -> Self {
        Self { frame, keep, sequence: 0, items: vec![], likely: vec![], held: 0, held_max }
    }

    fn number(&mut self) -> u64 {
        let number = self.sequence;
        self.sequence += 1;
        number
    }

    /// The whole answer as an event.
    fn whole(&mut self, out: &mut Vec<u8>, name: &str, status: Status<'_>) {
        let number = self.number();
        let head = format_args!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},\"response\":"
        );
        out.write_fmt(head).expect("memory takes every byte");
        let items = if matches!(status, Status::InProgress) { &[][..] } else { &self.items };
        self.frame.write(out, items, status);
        out.extend_from_slice(b"}\n\n");
    }

    fn item(&mut self, out: &mut Vec<u8>, name: &str, status: &str) {
        let sequence_number = self.number();
        let output_index = self.items.len() - 1;
        let item = self.items[output_index].shape(
            (&self.frame.number, &self.frame.grouped),
            output_index,
            status,
        );
        event(out, &Of { r#type: name, sequence_number, rest: OfItem { output_index, item } });
    }

    fn place(&self) -> (String, usize) {
        let index = self.items.len() - 1;
        (self.items[index].id(&self.frame.number, index), index)
    }

    /// Begins an item.
    fn begin(&mut self, out: &mut Vec<u8>, item: Item) {
        self.end(out, "completed");
        self.items.push(item);
        self.item(out, "response.output_item.added", "in_progress");
        self.part(out, "response.content_part.added");
    }

    /// A text's place in its item, as it begins and as it ends.
    fn part(&mut self, out: &mut Vec<u8>, name: &str) {
        if matches!(self.items.last(), Some(Item::Called(_)) | None) {
            return;
        }
        let sequence_number = self.number();
        let (item_id, output_index) = self.place();
        let part = match &self.items[output_index] {
            Item::Thought(text) => Piece::Thought { r#type: "reasoning_text", text },
            Item::Said(text, logprobs) => Piece::text(text, logprobs),
            Item::Called(_) => return,
        };
        let rest = OfPart { item_id, output_index, content_index: 0, part };
        event(out, &Of { r#type: name, sequence_number, rest });
    }

    /// Ends the item under way.
    fn end(&mut self, out: &mut Vec<u8>, status: &str) {
        if self.items.is_empty() {
            return;
        }
        self.flush(out);
        let sequence_number = self.number();
        let (item_id, output_index) = self.place();
        match &self.items[output_index] {
            Item::Thought(text) => {
                let rest = OfText {
                    item_id,
                    output_index,
                    content_index: 0,
                    delta: None,
                    text: Some(text),
                    logprobs: None,
                };
                event(out, &Of { r#type: "response.reasoning_text.done", sequence_number, rest });
            }
            Item::Said(text, logprobs) => {
                let rest = OfText {
                    item_id,
                    output_index,
                    content_index: 0,
                    delta: None,
                    text: Some(text),
                    logprobs: Some(Likely(logprobs)),
                };
                event(out, &Of { r#type: "response.output_text.done", sequence_number, rest });
            }
            Item::Called(call) => {
                let rest = OfArguments {
                    item_id,
                    output_index,
                    delta: None,
                    name: Some(&call.name),
                    arguments: Some(&call.arguments),
                };
                let r#type = "response.function_call_arguments.done";
                event(out, &Of { r#type, sequence_number, rest });
            }
        }
        self.part(out, "response.content_part.done");
        self.item(out, "response.output_item.done", status);
    }

    fn said(&mut self, out: &mut Vec<u8>, text: &str) {
        if !matches!(self.items.last(), Some(Item::Said(..))) {
            // What waits belongs to what comes now.
            let likely = std::mem::take(&mut self.likely);
            self.begin(out, Item::Said(String::new(), vec![]));
            self.likely = likely;
        }
        self.delta(out, text);
    }

    /// The next piece of what is said, with what is known of how likely it was.
    fn delta(&mut self, out: &mut Vec<u8>, text: &str) {
        let likely = std::mem::take(&mut self.likely);
        let sequence_number = self.number();
        let (item_id, output_index) = self.place();
        let rest = OfText {
            item_id,
            output_index,
            content_index: 0,
            delta: Some(text),
            text: None,
            logprobs: Some(Likely(&likely)),
        };
        event(out, &Of { r#type: "response.output_text.delta", sequence_number, rest });
        if let Some(Item::Said(whole, logprobs)) = self.items.last_mut() {
            whole.push_str(text);
            logprobs.extend(likely);
        }
    }

    /// Likelihoods that came without a text of their own.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if self.likely.is_empty() {
            return;
        }
        if matches!(self.items.last(), Some(Item::Said(..))) {
            self.delta(out, "");
        } else {
            self.likely.clear();
        }
    }

    fn thought(&mut self, out: &mut Vec<u8>, text: &str) {
        self.likely.clear();
        if !matches!(self.items.last(), Some(Item::Thought(_))) {
            self.begin(out, Item::Thought(String::new()));
        }
        let sequence_number = self.number();
        let (item_id, output_index) = self.place();
        let rest = OfText {
            item_id,
            output_index,
            content_index: 0,
            delta: Some(text),
            text: None,
            logprobs: None,
        };
        event(out, &Of { r#type: "response.reasoning_text.delta", sequence_number, rest });
        if let Some(Item::Thought(whole)) = self.items.last_mut() {
            whole.push_str(text);
        }
    }

    fn called(&mut self, out: &mut Vec<u8>, piece: ToolCallPiece) {
        self.likely.clear();
        if let (Some(id), Some(name)) = (piece.id, piece.name) {
            self.begin(out, Item::Called(ToolCall { id, name, arguments: String::new() }));
        }
        if piece.arguments.is_empty() || !matches!(self.items.last(), Some(Item::Called(_))) {
            return;
        }
        let sequence_number = self.number();
        let (item_id, output_index) = self.place();
        let delta = Some(piece.arguments.as_str());
        let rest = OfArguments { item_id, output_index, delta, name: None, arguments: None };
        let r#type = "response.function_call_arguments.delta";
        event(out, &Of { r#type, sequence_number, rest });
        if let Some(Item::Called(call)) = self.items.last_mut() {
            call.arguments.push_str(&piece.arguments);
        }
    }

    fn done(&mut self, out: &mut Vec<u8>, finish: FinishReason, usage: Usage) {
        // An answer of nothing is a message of nothing.
        if self.items.is_empty() {
            self.begin(out, Item::Said(String::new(), vec![]));
        }
        let (name, status, item) = match finish {
            FinishReason::Length => {
                ("response.incomplete", Status::Incomplete(usage), "incomplete")
            }
            _ => ("response.completed", Status::Completed(usage), "completed"),
        };
        self.end(out, item);
        self.whole(out, name, status);
        if let Some(keep) = self.keep.take() {
            let mut json = Vec::with_capacity(self.held + 1024);
            self.frame.write(&mut json, &self.items, status);
            keep(&self.items, json);
        }
    }
}

fn event<T: Serialize>(out: &mut Vec<u8>, of: &Of<'_, T>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(of.r#type.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write(out, of);
    out.extend_from_slice(b"\n\n");
}

impl Encode for Events {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        self.whole(out, "response.created", Status::InProgress);
        self.whole(out, "response.in_progress", Status::InProgress);
    }

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        self.held += crate::gather::size(&reply);
        if self.is_full() {
            let words = "the answer has more bytes than this node keeps";
            return self.fail(&Refusal::new(RefusalCode::ProviderFailed, words), out);
        }
        match reply {
            Reply::Text { text, .. } if !text.is_empty() => self.said(out, &text),
            Reply::Reasoning { text, .. } if !text.is_empty() => self.thought(out, &text),
            Reply::ToolCall(piece) => self.called(out, piece),
            Reply::Logprobs(list) => self.likely.extend(list),
            Reply::Done { finish, usage } => self.done(out, finish, usage),
            _ => {}
        }
    }

    fn is_full(&self) -> bool {
        self.held > self.held_max
    }

    /// Codex makes room in its conversation where this event says that there is none, and nowhere
    /// else.
    fn tells(&self, refusal: &Refusal) -> bool {
        refusal.code == RefusalCode::ContextOverflow
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.whole(out, "response.failed", Status::Failed(refusal));
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }
}
