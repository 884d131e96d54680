//! Chat templates, tool calls, reasoning and constrained answers: everything between a request and
//! a model that continues text. Nothing here reads a clock, a file or entropy.
//!
//! A conversation becomes a [`Prompt`] by the [`ChatTemplate`] of the model. The prompt says in
//! which [`Syntax`] the answer will be written: how the model marks what it thinks and which tools
//! it calls. An [`AnswerParser`] takes the answer's text apart as it comes. A [`Constraint`] says
//! which tokens may come next, where the answer must have a form.

mod answer;
mod constraint;
pub mod limits;
mod syntax;
mod template;
mod vocabulary;

pub use answer::{AnswerParser, FinishHint};
pub use constraint::{Constraint, ConstraintError, Mask, check_format};
pub use syntax::{ReasoningStart, ReasoningSyntax, Syntax, ToolSyntax};
pub use template::{CHATML, ChatTemplate, Prompt, PromptOptions, TemplateError, TemplateFeatures};
pub use vocabulary::Vocabulary;
