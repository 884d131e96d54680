use std::io::Write;

use arknet_types::{FinishReason, Refusal, Reply, TokenLogprob, ToolCallPiece, Usage};

use super::{
    logprobs::{ChatLogprobs, TextLogprobs},
    response::{Counts, Endpoint, Head, finish_reason, total, write, write_error},
};
use crate::{ApiError, encode::Encode};

/// Likelihoods that may wait for their text.
const LIKELY_WAITING_MAX: usize = 256;

/// Writes chat completions and completions as server-sent events. What all chunks of an answer have
/// in common is written once.
pub(crate) struct Chunks {
    head: Head,
    include_usage: bool,
    /// From `data: ` to the first choice.
    before: Vec<u8>,
    /// From behind the choices to the end of the event.
    after: &'static [u8],
    /// Whose turn it is.
    current: usize,
    answers: Vec<State>,
    running: usize,
}

#[derive(Default)]
struct State {
    /// Likelihoods whose text is still to come.
    likely: Vec<TokenLogprob>,
    /// Characters of the text so far.
    characters: usize,
    usage: Usage,
}

const NO_DETAILS: &[u8] = br#","logprobs":null,"finish_reason":null}"#;

impl Chunks {
    pub(crate) fn new(head: Head, answers: usize, include_usage: bool) -> Self {
        let object = match head.endpoint {
            Endpoint::Chat => "chat.completion.chunk",
            Endpoint::Completion => "text_completion",
        };
        let mut before = Vec::with_capacity(192);
        before.extend_from_slice(br#"data: {"id":"#);
        write(&mut before, &head.id);
        put(&mut before, format_args!(r#","object":"{object}","created":{}"#, head.created));
        before.extend_from_slice(br#","model":"#);
        write(&mut before, &head.model.as_str());
        before.extend_from_slice(br#","choices":["#);
        Self {
            head,
            include_usage,
            before,
            after: if include_usage {
                b"],\"usage\":null,\"system_fingerprint\":null}\n\n"
            } else {
                b"],\"system_fingerprint\":null}\n\n"
            },
            current: 0,
            answers: (0..answers).map(|_| State::default()).collect(),
            running: answers,
        }
    }

    fn delta(&mut self, out: &mut Vec<u8>, fields: impl FnOnce(&mut Vec<u8>)) {
        out.extend_from_slice(&self.before);
        put(out, format_args!(r#"{{"index":{},"delta":{{"#, self.current));
        fields(out);
        out.push(b'}');
        self.likely(out);
        out.extend_from_slice(self.after);
    }

    fn text(&mut self, out: &mut Vec<u8>, text: &str) {
        if self.head.endpoint == Endpoint::Chat {
            self.delta(out, |out| {
                out.extend_from_slice(br#""content":"#);
                write(out, &text);
            });
            return;
        }
        out.extend_from_slice(&self.before);
        out.extend_from_slice(br#"{"text":"#);
        write(out, &text);
        put(out, format_args!(r#","index":{}"#, self.current));
        self.likely(out);
        out.extend_from_slice(self.after);
    }

    /// What is known of how likely the tokens were.
    fn likely(&mut self, out: &mut Vec<u8>) {
        let state = &mut self.answers[self.current];
        if state.likely.is_empty() {
            out.extend_from_slice(NO_DETAILS);
            return;
        }
        let list = std::mem::take(&mut state.likely);
        out.extend_from_slice(br#","logprobs":"#);
        match self.head.endpoint {
            Endpoint::Chat => write(out, &ChatLogprobs::new(&list)),
            Endpoint::Completion => write(out, &TextLogprobs::new(&list, &mut state.characters)),
        }
        out.extend_from_slice(br#","finish_reason":null}"#);
    }

    fn call(&mut self, out: &mut Vec<u8>, piece: &ToolCallPiece) {
        self.delta(out, |out| {
            put(out, format_args!(r#""tool_calls":[{{"index":{},"#, piece.index));
            if let Some(id) = &piece.id {
                out.extend_from_slice(br#""id":"#);
                write(out, id);
                out.extend_from_slice(br#","type":"function","#);
            }
            out.extend_from_slice(br#""function":{"#);
            if let Some(name) = &piece.name {
                out.extend_from_slice(br#""name":"#);
                write(out, name);
                out.push(b',');
            }
            out.extend_from_slice(br#""arguments":"#);
            write(out, &piece.arguments);
            out.extend_from_slice(b"}}]");
        });
    }

    fn end(&mut self, out: &mut Vec<u8>, finish: FinishReason, usage: Usage) {
        if !self.answers[self.current].likely.is_empty() {
            self.text(out, "");
        }
        self.answers[self.current].usage = usage;
        let (index, reason) = (self.current, finish_reason(finish));
        out.extend_from_slice(&self.before);
        match self.head.endpoint {
            Endpoint::Chat => put(out, format_args!(r#"{{"index":{index},"delta":{{}}"#)),
            Endpoint::Completion => put(out, format_args!(r#"{{"text":"","index":{index}"#)),
        }
        put(out, format_args!(r#","logprobs":null,"finish_reason":"{reason}"}}"#));
        out.extend_from_slice(self.after);
        self.running = self.running.saturating_sub(1);
        if self.running > 0 {
            return;
        }
        if self.include_usage {
            let usages: Vec<Usage> = self.answers.iter().map(|state| state.usage).collect();
            out.extend_from_slice(&self.before);
            out.extend_from_slice(br#"],"usage":"#);
            write(out, &Counts::from(total(&usages, self.head.n)));
            out.extend_from_slice(b",\"system_fingerprint\":null}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes every byte");
}

impl Encode for Chunks {
    fn content_type(&self) -> &'static str {
        "text/event-stream; charset=utf-8"
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        for index in 0..self.answers.len() {
            self.current = index;
            if self.head.endpoint == Endpoint::Chat {
                self.delta(out, |out| {
                    out.extend_from_slice(br#""role":"assistant","content":"""#);
                });
            } else if !self.head.echo.is_empty() {
                let echoed = self.head.echoed(index).to_owned();
                self.answers[index].characters = echoed.chars().count();
                self.text(out, &echoed);
            }
        }
        self.current = 0;
    }

    fn choose(&mut self, index: usize) {
        self.current = index;
    }

    fn reply(&mut self, reply: Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Text { text, .. } if !text.is_empty() => self.text(out, &text),
            Reply::Reasoning { text, .. }
                if !text.is_empty() && self.head.endpoint == Endpoint::Chat =>
            {
                self.delta(out, |out| {
                    out.extend_from_slice(br#""reasoning_content":"#);
                    write(out, &text);
                });
            }
            Reply::ToolCall(piece) if self.head.endpoint == Endpoint::Chat => {
                self.call(out, &piece)
            }
            Reply::Logprobs(list) => {
                self.answers[self.current].likely.extend(list);
                if self.answers[self.current].likely.len() > LIKELY_WAITING_MAX {
                    self.text(out, "");
                }
            }
            Reply::Done { finish, usage } => self.end(out, finish, usage),
            _ => {}
        }
    }

    fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        write_error(out, &ApiError::from_refusal(refusal.clone()));
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }
}
