//! Reads answers: bytes in, replies out, nothing waited for.

use arknet_types::{InferRequest, Refusal, Reply};
use serde_json::Value;

use super::{
    answer::{Answer, failed},
    anthropic,
    errors::{Fault, refusal_in_stream},
    limits::ANSWER_BYTES_MAX,
    lines::{Lines, event_data},
    ollama, openai,
    target::Place,
    whole::Whole,
};

/// The language of a streamed answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// Events with chunks of a chat or of a text.
    OpenAi,
    /// Events of one message.
    Anthropic,
    /// Lines of JSON.
    Ollama,
}

/// Reads one answer.
#[derive(Debug)]
pub enum Reader {
    /// One that comes in pieces.
    Stream(Box<Stream>),
    /// One that comes as a whole.
    Whole(Whole),
}

/// Reads one streamed answer.
#[derive(Debug)]
pub struct Stream {
    dialect: Dialect,
    place: Place,
    lines: Lines,
    answer: Answer,
    bytes: usize,
}

impl Stream {
    /// Of this request, asked there.
    #[must_use]
    pub fn new(dialect: Dialect, place: Place, request: &InferRequest) -> Self {
        let answer = Answer::new(request);
        Self { dialect, place, lines: Lines::default(), answer, bytes: 0 }
    }

    /// Whether the answer is complete.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.answer.is_over()
    }

    /// Takes the next bytes and adds the replies they make. After an error nothing more can be read.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Reply>) -> Result<(), Fault> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > ANSWER_BYTES_MAX {
            return Err(failed("the upstream's answer has no end").into());
        }
        let (dialect, place, answer) = (self.dialect, self.place, &mut self.answer);
        self.lines.feed(bytes, |line| read_line(dialect, place, answer, line, out))
    }

    /// Takes note that nothing more comes.
    pub fn end(&mut self, out: &mut Vec<Reply>) -> Result<(), Fault> {
        if let Some(line) = self.lines.rest() {
            read_line(self.dialect, self.place, &mut self.answer, &line, out)?;
        }
        Ok(self.answer.end(out)?)
    }
}

fn read_line(
    dialect: Dialect,
    place: Place,
    answer: &mut Answer,
    line: &[u8],
    out: &mut Vec<Reply>,
) -> Result<(), Fault> {
    let data = match dialect {
        Dialect::Ollama => line.trim_ascii(),
        // A server that answers with an error and not with a stream says so in plain JSON.
        Dialect::OpenAi | Dialect::Anthropic if line.starts_with(b"{") => line,
        Dialect::OpenAi | Dialect::Anthropic => event_data(line).unwrap_or_default(),
    };
    if data.is_empty() || answer.is_over() {
        return Ok(());
    }
    match dialect {
        Dialect::OpenAi => openai::event(place, data, answer, out),
        Dialect::Anthropic => anthropic::event(place, data, answer, out),
        Dialect::Ollama => ollama::line(place, data, answer, out),
    }
}

/// What is not in the language it should be in.
pub(super) fn garbled(_: serde_json::Error) -> Refusal {
    failed("the upstream's answer cannot be read")
}

/// An error inside of an answer, if there is one.
pub(super) fn error(place: Place, error: Option<Value>) -> Result<(), Fault> {
    match error {
        None | Some(Value::Null) => Ok(()),
        Some(error) => Err(refusal_in_stream(place, &serde_json::json!({ "error": error }))),
    }
}
