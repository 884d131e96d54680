//! Answers in channels: what gpt-oss thinks, says and calls comes in messages with headers.

use arknet_types::{Reply, is_tool_name};

use super::{AnswerParser, Found, State, find};
use crate::syntax::channel::{CALL, CHANNEL, END, MESSAGE, RETURN, START};

/// What the current message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    Text,
    Reasoning,
    /// Arguments of a tool call, and whether any have come.
    Call(bool),
}

/// Bytes of a header.
const HEADER_BYTES_MAX: usize = 256;

impl AnswerParser {
    pub(super) fn header(&mut self, is_first: bool, at_end: bool, out: &mut Vec<Reply>) -> bool {
        let begins = [CHANNEL, START, " to=", "to="];
        let may_begin = |text: &str| {
            begins.iter().any(|begin| text.starts_with(begin) || begin.starts_with(text))
        };
        let found = find(&self.held, &[MESSAGE]);
        match found {
            // A model that does not begin with a header says what it has to say.
            _ if is_first && !may_begin(&self.held) => self.go(State::Body(Body::Text)),
            Found::At(at, _) if at <= HEADER_BYTES_MAX => {
                let header: String = self.held.drain(..at + MESSAGE.len()).collect();
                let body = self.read_header(&header[..at], out);
                self.go(State::Body(body))
            }
            Found::Maybe(_)
                if self.held.len() <= HEADER_BYTES_MAX + MESSAGE.len()
                    && (!at_end || self.held.is_empty()) =>
            {
                self.wait(State::Header { is_first })
            }
            _ => {
                // No header: text, with the marker it began with.
                if let Some(marker) = [START, CHANNEL].iter().find(|m| self.held.starts_with(**m)) {
                    self.sink.text(marker, out);
                    self.held.drain(..marker.len());
                }
                self.go(State::Body(Body::Text))
            }
        }
    }

    fn read_header(&mut self, header: &str, out: &mut Vec<Reply>) -> Body {
        let to = header.split_once("to=").map(|(_, to)| {
            let end = to.find(|c: char| c.is_whitespace() || c == '<').unwrap_or(to.len());
            let to = &to[..end];
            to.strip_prefix("functions.").unwrap_or(to)
        });
        match to {
            Some(name) if is_tool_name(name) && self.may_call() => {
                self.sink.begin_call(name, out);
                Body::Call(false)
            }
            _ if header.split_once(CHANNEL).is_some_and(|(_, c)| c.starts_with("analysis")) => {
                Body::Reasoning
            }
            _ => Body::Text,
        }
    }

    pub(super) fn body(&mut self, body: Body, at_end: bool, out: &mut Vec<Reply>) -> bool {
        let found = find(&self.held, &[END, CALL, RETURN, START, CHANNEL]);
        let end = match found {
            Found::Maybe(_) if at_end => self.held.len(),
            Found::At(at, _) | Found::Maybe(at) => at,
        };
        let piece: String = self.held.drain(..end).collect();
        let mut body = body;
        match body {
            Body::Text => self.sink.text(&piece, out),
            Body::Reasoning => self.sink.reasoning(&piece, out),
            Body::Call(has_some) => {
                self.sink.arguments(&piece, out);
                body = Body::Call(has_some || !piece.is_empty());
            }
        }
        let Found::At(_, marker) = found else { return self.wait(State::Body(body)) };
        if body == Body::Call(false) {
            self.sink.arguments("{}", out);
        }
        // The other markers are the beginning of the next header.
        if [END, CALL, RETURN].contains(&marker) {
            self.held.drain(..marker.len());
        }
        self.go(State::Header { is_first: false })
    }
}
