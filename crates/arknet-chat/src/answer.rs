//! From the text of an answer to its parts: reasoning, text, tool calls.

mod call;
mod channels;
mod json;
mod params;
mod sink;
#[cfg(test)]
mod tests;

use arknet_types::{Chat, Reply, limits::TOOL_CALLS_PER_MESSAGE_MAX};

use crate::{
    ReasoningStart, Syntax, ToolSyntax,
    limits::{HELD_BYTES_MAX, SPACE_BYTES_MAX},
};
use call::{Call, Outcome};
use channels::Body;
use params::ToolShapes;
use sink::Sink;

/// Takes an answer apart as it comes.
///
/// What leaves is `Reply::Text`, `Reply::Reasoning` and `Reply::ToolCall`; their token counts add
/// up to what was put in. The memory it takes is bounded, and any text is an answer: what looks like
/// a tool call and is none comes out as text.
#[derive(Debug)]
pub struct AnswerParser {
    syntax: Syntax,
    tools: ToolShapes,
    is_single: bool,
    state: State,
    /// What came and is not decided yet.
    held: String,
    /// Whether white space is to be dropped, because a marker came before it.
    skip_space: bool,
    sink: Sink,
}

/// What an answer turned out to be.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FinishHint {
    /// How many tools it called. An answer that ended by itself after calling some ends with
    /// `FinishReason::ToolCalls`.
    pub tool_calls: u16,
    /// Whether it ended inside a tool call or inside reasoning.
    pub is_cut: bool,
}

#[derive(Debug)]
enum State {
    /// At the very beginning, where reasoning may begin.
    Lead,
    Reasoning,
    /// Where text begins.
    Begin,
    Text,
    Call(Box<Call>),
    /// After a tool call.
    After {
        in_list: bool,
    },
    /// In the header of a channel.
    Header {
        is_first: bool,
    },
    /// In a channel.
    Body(Body),
}

impl AnswerParser {
    /// For one answer in `chat`. The ids of tool calls follow from the seed, which should differ
    /// from answer to answer.
    #[must_use]
    pub fn new(syntax: &Syntax, chat: &Chat, seed: u64) -> Self {
        let start = syntax.reasoning.as_ref().map(|reasoning| reasoning.start);
        let state = match start {
            Some(ReasoningStart::Closed) if syntax.channels => State::Body(Body::Text),
            Some(ReasoningStart::Open) if syntax.channels => State::Body(Body::Reasoning),
            _ if syntax.channels => State::Header { is_first: true },
            Some(ReasoningStart::Free) => State::Lead,
            Some(ReasoningStart::Open) => State::Reasoning,
            Some(ReasoningStart::Closed) | None => State::Begin,
        };
        Self {
            syntax: syntax.clone(),
            tools: ToolShapes::of(chat),
            is_single: !chat.parallel_tool_calls,
            state,
            held: String::new(),
            skip_space: start.is_some_and(|start| start != ReasoningStart::Free),
            sink: Sink::new(seed),
        }
    }

    /// Takes the next piece of the answer, whole characters that came from this many tokens.
    pub fn push(&mut self, text: &str, tokens: u32, out: &mut Vec<Reply>) {
        self.sink.owe(tokens);
        self.held.push_str(text);
        while self.step(false, out) {}
    }

    /// Whether nothing more can follow: the model called a tool where it may call only one. The
    /// answer should be ended as if the model had done so.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.is_single
            && self.sink.calls() > 0
            && !matches!(self.state, State::Call(_) | State::Body(Body::Call(_)))
    }

    /// Ends the answer.
    pub fn finish(&mut self, out: &mut Vec<Reply>) -> FinishHint {
        while self.step(true, out) {}
        let is_cut = matches!(&self.state, State::Call(call) if call.has_started())
            || matches!(
                self.state,
                State::Reasoning | State::Body(Body::Call(_) | Body::Reasoning)
            );
        self.sink.settle(out);
        FinishHint { tool_calls: self.sink.calls(), is_cut }
    }

    /// Decides about what is held. False when nothing more can be decided now.
    fn step(&mut self, at_end: bool, out: &mut Vec<Reply>) -> bool {
        match std::mem::replace(&mut self.state, State::Text) {
            State::Lead => self.lead(at_end),
            State::Reasoning => self.reasoning(at_end, out),
            State::Begin => self.begin(at_end),
            State::Text => self.text(at_end, out),
            State::Call(call) => self.call(call, at_end, out),
            State::After { in_list } => self.after(in_list, at_end),
            State::Header { is_first } => self.header(is_first, at_end, out),
            State::Body(body) => self.body(body, at_end, out),
        }
    }

    /// Stays where it is until more has come.
    fn wait(&mut self, state: State) -> bool {
        self.state = state;
        false
    }

    fn go(&mut self, state: State) -> bool {
        self.state = state;
        true
    }

    fn lead(&mut self, at_end: bool) -> bool {
        let Some(reasoning) = &self.syntax.reasoning else { return self.go(State::Begin) };
        let rest = self.held.trim_ascii_start();
        let space = self.held.len() - rest.len();
        if space > SPACE_BYTES_MAX {
            return self.go(State::Begin);
        }
        if rest.starts_with(&reasoning.open) {
            self.held.drain(..space + reasoning.open.len());
            self.skip_space = true;
            return self.go(State::Reasoning);
        }
        if !at_end && reasoning.open.starts_with(rest) {
            return self.wait(State::Lead);
        }
        self.go(State::Begin)
    }

    fn reasoning(&mut self, at_end: bool, out: &mut Vec<Reply>) -> bool {
        let close = self.syntax.reasoning.as_ref().map_or("", |r| r.close.as_str()).to_owned();
        if self.drop_space() {
            return self.wait(State::Reasoning);
        }
        match find(&self.held, &[&close]) {
            Found::At(at, marker) => {
                let end = without_space(&self.held[..at]);
                self.sink.reasoning(&self.held[..end], out);
                self.held.drain(..at + marker.len());
                self.skip_space = true;
                self.go(State::Begin)
            }
            Found::Maybe(at) => {
                let end = if at_end { self.held.len() } else { without_space(&self.held[..at]) };
                self.sink.reasoning(&self.held[..end], out);
                self.held.drain(..end);
                self.wait(State::Reasoning)
            }
        }
    }

    fn begin(&mut self, at_end: bool) -> bool {
        if self.drop_space() {
            return self.wait(State::Begin);
        }
        if self.syntax.tools == Some(ToolSyntax::Llama) && self.may_call() {
            let rest = self.held.trim_ascii_start();
            let space = self.held.len() - rest.len();
            if rest.starts_with('{') && space <= SPACE_BYTES_MAX {
                let before = self.held[..space].to_owned();
                self.held.drain(..space);
                return self.go(State::Call(Box::new(Call::bare(before))));
            }
            if rest.is_empty() && space <= SPACE_BYTES_MAX && !at_end {
                return self.wait(State::Begin);
            }
        }
        self.go(State::Text)
    }

    fn text(&mut self, at_end: bool, out: &mut Vec<Reply>) -> bool {
        let openers = self.openers();
        match find(&self.held, openers) {
            Found::At(at, opener) => {
                let end = without_space(&self.held[..at]);
                self.sink.text(&self.held[..end], out);
                let before = self.held[end..at].to_owned();
                self.held.drain(..at + opener.len());
                self.go(State::Call(Box::new(Call::opened(opener, before))))
            }
            Found::Maybe(at) => {
                let keeps = !at_end && !openers.is_empty();
                let end = if keeps { without_space(&self.held[..at]) } else { self.held.len() };
                self.sink.text(&self.held[..end], out);
                self.held.drain(..end);
                self.wait(State::Text)
            }
        }
    }

    fn call(&mut self, mut call: Box<Call>, at_end: bool, out: &mut Vec<Reply>) -> bool {
        let form = self.syntax.tools.unwrap_or(ToolSyntax::Hermes);
        let outcome = call.step(form, &mut self.held, &self.tools, &mut self.sink, out);
        match outcome {
            Outcome::Go => self.go(State::Call(call)),
            Outcome::Wait if !at_end => self.wait(State::Call(call)),
            Outcome::Wait if call.has_started() => {
                call.cut(&mut self.held, &mut self.sink, out);
                self.wait(State::Call(call))
            }
            Outcome::Ended => self.go(State::After { in_list: call.is_in_list() }),
            Outcome::Malformed | Outcome::Wait => {
                let (opener, rest) = call.give_back();
                self.sink.text(&opener, out);
                // What is inside may be a call itself.
                self.held.insert_str(0, &rest);
                self.go(State::Text)
            }
        }
    }

    fn after(&mut self, in_list: bool, at_end: bool) -> bool {
        let space = self.held.len() - self.held.trim_ascii_start().len();
        self.held.drain(..space);
        let Some(first) = self.held.chars().next() else {
            return self.wait(State::After { in_list });
        };
        let form = self.syntax.tools.unwrap_or(ToolSyntax::Hermes);
        if in_list && matches!(first, ',' | ']') {
            self.held.drain(..1);
            return match first {
                ',' if self.may_call() => self.go(State::Call(Box::new(Call::item()))),
                _ => self.go(State::After { in_list: false }),
            };
        }
        if form == ToolSyntax::Llama && first == ';' {
            self.held.drain(..1);
            return self.go(State::Begin);
        }
        if form == ToolSyntax::Llama && first == '{' {
            return self.go(State::Begin);
        }
        for closer in form.closers() {
            if self.held.starts_with(closer) {
                self.held.drain(..closer.len());
                return self.go(State::After { in_list: false });
            }
            if closer.starts_with(&self.held) && !at_end {
                return self.wait(State::After { in_list });
            }
        }
        self.go(State::Text)
    }

    /// Whether the model may call (another) tool.
    fn may_call(&self) -> bool {
        let calls = usize::from(self.sink.calls());
        self.syntax.tools.is_some()
            && calls < if self.is_single { 1 } else { TOOL_CALLS_PER_MESSAGE_MAX }
    }

    fn openers(&self) -> &'static [&'static str] {
        match self.syntax.tools {
            Some(tools) if self.may_call() => tools.openers(),
            _ => &[],
        }
    }

    /// Drops white space after a marker. True when all that is held was such.
    fn drop_space(&mut self) -> bool {
        if self.skip_space {
            let space = self.held.len() - self.held.trim_ascii_start().len();
            self.held.drain(..space);
            self.skip_space = self.held.is_empty();
        }
        self.held.is_empty()
    }
}

/// Where markers are in a text.
#[derive(Debug, Eq, PartialEq)]
enum Found<'a> {
    /// The first one.
    At(usize, &'a str),
    /// None, but from here on may be the beginning of one. Often the end of the text.
    Maybe(usize),
}

fn find<'a>(text: &str, markers: &[&'a str]) -> Found<'a> {
    let all = markers.iter().filter_map(|marker| Some((text.find(marker)?, *marker)));
    if let Some((at, marker)) = all.min_by_key(|(at, _)| *at) {
        return Found::At(at, marker);
    }
    let longest = markers.iter().map(|marker| partial(text, marker)).max().unwrap_or(0);
    Found::Maybe(text.len() - longest)
}

/// Bytes at the end of a text with which the marker begins, but which are not all of it.
fn partial(text: &str, marker: &str) -> usize {
    let most = text.len().min(marker.len().saturating_sub(1));
    let fits = |n: &usize| marker.is_char_boundary(*n) && text.ends_with(&marker[..*n]);
    (1..=most).rev().find(fits).unwrap_or(0)
}

/// Where a text ends without the white space at its end, of which only so much can be held back.
fn without_space(text: &str) -> usize {
    let space = text.len() - text.trim_ascii_end().len();
    text.len() - space.min(SPACE_BYTES_MAX)
}

const _: () = assert!(SPACE_BYTES_MAX < HELD_BYTES_MAX);
