//! Answers of a given form: which tokens may come next.

mod calls;
mod compile;
mod gbnf;
mod mask;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use arknet_types::{Chat, Format, ToolChoice};
use llguidance::Matcher;

use crate::{ReasoningStart, ReasoningSyntax, Syntax, Vocabulary};
use calls::{Calls, Extent};
pub use mask::Mask;

/// Why an answer cannot have the form that was asked for. Never holds what a user wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConstraintError {
    /// It is not what it should be: no JSON, no grammar, no regular expression.
    #[error("{0}")]
    Invalid(String),
    /// It asks for something that is not implemented.
    #[error("{0}")]
    Unsupported(String),
    /// It would take too much time or memory.
    #[error("{0}")]
    TooComplex(String),
    /// The model's vocabulary cannot be used for constraints.
    #[error("the model's vocabulary cannot be used for answers of a given form")]
    Vocabulary,
    /// No token may follow, or one came that may not.
    #[error("the answer cannot go on in the form that was asked for")]
    Stuck,
}

/// The state of one constrained answer: which tokens may come next. It may be cloned, for instance
/// for several answers to one request.
#[derive(Clone)]
pub struct Constraint {
    vocabulary: Vocabulary,
    reasoning: Option<ReasoningSyntax>,
    /// What the answer must be, after reasoning.
    answer: Option<Matcher>,
    /// What a tool call must be, once the model begins one.
    lazy: Option<Arc<Calls>>,
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    /// At the beginning: either reasoning or the answer. Holds what was written and, unless that is
    /// no answer, the answer's state.
    Lead { written: Vec<u8>, answer: Option<Box<Matcher>> },
    /// Anything, until this text. Holds the end of what was written.
    Free { until: Until, tail: Vec<u8> },
    /// Between reasoning and answer, where so many tokens may be white space.
    Gap { answer: Box<Matcher>, tokens_left: u8 },
    /// In the answer.
    Answer(Box<Matcher>),
    /// In a tool call that the model began.
    Call(Box<Matcher>),
    /// Only the end may follow.
    Over,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Until {
    /// The end of reasoning.
    Close,
    /// The beginning of a tool call.
    Opener,
    /// The end.
    Never,
}

/// Tokens of white space between reasoning and answer.
const GAP_TOKENS_MAX: u8 = 4;
/// White space before the first marker of an answer.
const LEAD_BYTES_MAX: usize = 64;

impl Constraint {
    /// The constraint for an answer of this form in this conversation; none where anything may
    /// come. Without a conversation (a plain completion) the form applies from the first token;
    /// with one, reasoning comes before it, and tool calls instead of it or, where the tool choice
    /// asks for them, alone.
    pub fn new(
        vocabulary: &Vocabulary,
        format: &Format,
        chat: Option<(&Chat, &Syntax)>,
    ) -> Result<Option<Self>, ConstraintError> {
        let syntax = chat.map(|(_, syntax)| syntax.clone()).unwrap_or_default();
        let calls = chat.and_then(|(chat, syntax)| Calls::new(chat, syntax.tools?));
        let choice = chat.map(|(chat, _)| &chat.tool_choice);
        let must = matches!(choice, Some(ToolChoice::Required | ToolChoice::Named(_)));
        let content = if must && calls.is_some() { None } else { compile::content(format)? };
        let (answer, lazy) = match (content, calls) {
            (None, None) => return Ok(None),
            (Some(content), calls) => {
                let compiled =
                    compile::answer(vocabulary, content, calls.as_ref(), syntax.channels)?;
                (Some(compiled), None)
            }
            (None, Some(calls)) if must => {
                (Some(compile::calls(vocabulary, &calls, Extent::Whole, syntax.channels)?), None)
            }
            (None, Some(calls)) if calls.opener().is_some() => (None, Some(Arc::new(calls))),
            (None, Some(_)) => return Ok(None),
        };
        // In channels, the grammar says where reasoning is.
        let reasoning = syntax.reasoning.filter(|_| !syntax.channels);
        let mut constraint =
            Self { vocabulary: vocabulary.clone(), reasoning, answer, lazy, stage: Stage::Over };
        constraint.stage = match constraint.reasoning.as_ref().map(|r| r.start) {
            Some(ReasoningStart::Free) => {
                let answer = constraint.answer.clone().map(Box::new);
                Stage::Lead { written: vec![], answer }
            }
            Some(ReasoningStart::Open) => Stage::Free { until: Until::Close, tail: vec![] },
            Some(ReasoningStart::Closed) | None => constraint.after_reasoning(),
        };
        Ok(Some(constraint))
    }

    /// The tokens that may come next. Takes about 50 microseconds where something is constrained.
    pub fn mask(&mut self) -> Result<Mask, ConstraintError> {
        let needs_answer = self.answer.is_some();
        match &mut self.stage {
            Stage::Over => Ok(Mask::some(self.vocabulary.trie().eos_token_set())),
            Stage::Answer(matcher) | Stage::Call(matcher) => allowed(matcher),
            Stage::Gap { answer, tokens_left } => {
                let mut mask = allowed(answer)?;
                if *tokens_left > 0 {
                    mask.add(&self.vocabulary, is_space);
                }
                Ok(mask)
            }
            Stage::Lead { answer: None, .. } if !needs_answer => Ok(Mask::all()),
            Stage::Lead { written, answer } => {
                let mut mask = match answer {
                    Some(answer) => allowed(answer)?,
                    None => Mask::some(self.vocabulary.trie().alloc_token_set()),
                };
                let open = self.reasoning.as_ref().map_or("", |r| r.open.as_str()).as_bytes();
                let room = LEAD_BYTES_MAX.saturating_sub(written.len());
                let before = written.trim_ascii_start();
                let rest = open.strip_prefix(before).unwrap_or_default();
                mask.add(&self.vocabulary, |text| {
                    let begun = if before.is_empty() { text.trim_ascii_start() } else { text };
                    let fits = text.len() <= room;
                    (fits && rest.starts_with(begun))
                        || (!rest.is_empty()
                            && begun.starts_with(rest)
                            && begun.len() == text.len())
                });
                Ok(mask)
            }
            Stage::Free { until, tail } => {
                let marker = marker(*until, self.reasoning.as_ref(), self.lazy.as_deref());
                let begun = mask::begun(tail, marker);
                if begun == 0 && !needs_answer {
                    return Ok(Mask::all());
                }
                let mut mask = Mask::some(self.vocabulary.all_but_ends());
                if !needs_answer {
                    mask.add_ends(&self.vocabulary);
                }
                if begun > 0 {
                    // What comes in the same token after the marker is not yet constrained.
                    mask.remove(&self.vocabulary, |text| {
                        text.strip_prefix(&marker[begun..])
                            .is_some_and(|rest| !rest.is_empty() && !is_space(rest))
                    });
                }
                Ok(mask)
            }
        }
    }

    /// Goes on by the token that was drawn. Those that end the answer need not be told.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.vocabulary.is_end(token) {
            return Ok(());
        }
        let text = self.vocabulary.text(token).to_vec();
        self.stage = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return Err(ConstraintError::Stuck),
            Stage::Answer(mut matcher) => {
                matcher.consume_token(token).map_err(|_| ConstraintError::Stuck)?;
                Stage::Answer(matcher)
            }
            Stage::Call(mut matcher) => {
                matcher.consume_token(token).map_err(|_| ConstraintError::Stuck)?;
                self.after_call(matcher)
            }
            Stage::Gap { mut answer, tokens_left } => {
                if takes(&mut answer, &[token]) {
                    Stage::Answer(answer)
                } else if tokens_left > 0 && is_space(&text) {
                    Stage::Gap { answer, tokens_left: tokens_left - 1 }
                } else {
                    return Err(ConstraintError::Stuck);
                }
            }
            Stage::Lead { mut written, answer } => {
                written.extend_from_slice(&text);
                let answer = answer.and_then(|mut m| takes(&mut m, &[token]).then_some(m));
                self.lead(written, answer)?
            }
            Stage::Free { until, mut tail } => {
                tail.extend_from_slice(&text);
                self.free(until, tail)?
            }
        };
        Ok(())
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        match &mut self.stage {
            Stage::Over => true,
            Stage::Free { .. } => self.answer.is_none(),
            Stage::Lead { answer: None, .. } => self.answer.is_none(),
            Stage::Lead { answer: Some(matcher), .. }
            | Stage::Gap { answer: matcher, .. }
            | Stage::Answer(matcher)
            | Stage::Call(matcher) => matcher.is_accepting().unwrap_or(false),
        }
    }

    /// Whether the answer must end here: nothing may follow but the end. Asked after `accept`.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        match &self.stage {
            Stage::Over => true,
            Stage::Answer(matcher) => matcher.is_stopped(),
            _ => false,
        }
    }

    fn lead(
        &mut self,
        written: Vec<u8>,
        answer: Option<Box<Matcher>>,
    ) -> Result<Stage, ConstraintError> {
        let open = self.reasoning.as_ref().map_or("", |r| r.open.as_str()).as_bytes();
        let begun = written.trim_ascii_start();
        if let Some(rest) = begun.strip_prefix(open) {
            let rest = rest.to_vec();
            return self.free(Until::Close, rest);
        }
        if open.starts_with(begun) && written.len() <= LEAD_BYTES_MAX {
            return Ok(Stage::Lead { written, answer });
        }
        match answer {
            Some(answer) => Ok(Stage::Answer(answer)),
            None if self.answer.is_some() => Err(ConstraintError::Stuck),
            None => self.free(Until::Opener, written),
        }
    }

    fn free(&mut self, until: Until, mut tail: Vec<u8>) -> Result<Stage, ConstraintError> {
        let marker = marker(until, self.reasoning.as_ref(), self.lazy.as_deref());
        let found = (!marker.is_empty())
            .then(|| tail.windows(marker.len()).position(|window| window == marker))
            .flatten();
        let Some(at) = found else {
            let kept = tail.len().min(marker.len().saturating_sub(1));
            tail.drain(..tail.len() - kept);
            return Ok(Stage::Free { until, tail });
        };
        let rest = tail[at + marker.len()..].to_vec();
        match (until, self.after_reasoning()) {
            (Until::Close, Stage::Answer(mut answer)) => {
                let rest = rest.trim_ascii_start();
                if rest.is_empty() {
                    return Ok(Stage::Gap { answer, tokens_left: GAP_TOKENS_MAX });
                }
                let tokens = self.vocabulary.trie().greedy_tokenize(rest);
                if takes(&mut answer, &tokens) {
                    Ok(Stage::Answer(answer))
                } else {
                    Err(ConstraintError::Stuck)
                }
            }
            (Until::Close, Stage::Free { until, .. }) => self.free(until, rest),
            (Until::Close, other) => Ok(other),
            (Until::Opener | Until::Never, _) => Ok(self.call(&rest)),
        }
    }

    /// Where the answer proper begins.
    fn after_reasoning(&self) -> Stage {
        match &self.answer {
            Some(answer) => Stage::Answer(Box::new(answer.clone())),
            None => Stage::Free { until: Until::Opener, tail: vec![] },
        }
    }

    /// The model has begun to call a tool, and written this of it.
    fn call(&self, begun: &[u8]) -> Stage {
        // A constraint that cannot be made, or that the model has left already, is no reason to
        // end an answer for which nobody asked for a form.
        let free = Stage::Free { until: Until::Never, tail: vec![] };
        let Some(calls) = &self.lazy else { return free };
        let compiled = compile::calls(&self.vocabulary, calls, Extent::AfterOpener, false);
        let Ok(mut matcher) = compiled else { return free };
        let tokens = self.vocabulary.trie().greedy_tokenize(begun);
        if takes(&mut matcher, &tokens) { self.after_call(Box::new(matcher)) } else { free }
    }

    fn after_call(&self, matcher: Box<Matcher>) -> Stage {
        let is_single = self.lazy.as_ref().is_some_and(|calls| calls.is_single());
        if !matcher.is_stopped() {
            Stage::Call(matcher)
        } else if is_single {
            Stage::Over
        } else {
            Stage::Free { until: Until::Opener, tail: vec![] }
        }
    }
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

/// Whether answers of this form can be constrained, as far as that can be said without the model's
/// vocabulary. For doors, which then need not bother an engine.
pub fn check_format(format: &Format) -> Result<(), ConstraintError> {
    static BYTES: OnceLock<Result<Vocabulary, ConstraintError>> = OnceLock::new();
    if *format == Format::Text {
        return Ok(());
    }
    let vocabulary = BYTES.get_or_init(Vocabulary::of_bytes).as_ref().map_err(Clone::clone)?;
    Constraint::new(vocabulary, format, None).map(|_| ())
}

fn marker<'a>(
    until: Until,
    reasoning: Option<&'a ReasoningSyntax>,
    lazy: Option<&'a Calls>,
) -> &'a [u8] {
    let text = match until {
        Until::Close => reasoning.map_or("", |r| r.close.as_str()),
        Until::Opener => lazy.and_then(Calls::opener).unwrap_or_default(),
        Until::Never => "",
    };
    text.as_bytes()
}

fn allowed(matcher: &mut Matcher) -> Result<Mask, ConstraintError> {
    matcher.compute_mask_or_eos().map(Mask::some).map_err(|_| ConstraintError::Stuck)
}

/// Whether these tokens may come, which they then have.
fn takes(matcher: &mut Matcher, tokens: &[u32]) -> bool {
    matcher.validate_tokens(tokens).is_ok_and(|valid| valid == tokens.len())
        && matcher.consume_tokens(tokens).is_ok()
}

fn is_space(text: &[u8]) -> bool {
    !text.is_empty() && text.trim_ascii().is_empty()
}
