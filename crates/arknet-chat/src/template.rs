//! Conversations in the form a model was trained on, by the template in its own file.

use arknet_types::Chat;

use crate::Syntax;

/// How models without a template of their own write conversations, if their vocabulary has the
/// tokens for it.
pub const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A compiled chat template.
pub struct ChatTemplate {
    source: String,
}

/// What a template can do by itself. Where it cannot, [`ChatTemplate::prompt`] finds another way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TemplateFeatures {
    /// It writes system messages.
    pub system: bool,
    /// It tells the model which tools there are.
    pub tools: bool,
    /// The model marks what it thinks before it answers.
    pub reasoning: bool,
    /// Whether it thinks can be chosen.
    pub reasoning_switch: bool,
}

/// What a prompt is made with.
#[derive(Clone, Copy)]
pub struct PromptOptions<'a> {
    /// Seconds since 1970, for templates that tell the model the date.
    pub now_unix_s: u64,
    /// Applied to everything that comes from the request, before the template sees it: marks what
    /// must not become a control token.
    pub escape: &'a dyn Fn(&str) -> String,
    /// Stands for each picture, in order. None refuses conversations with pictures.
    pub image_marker: Option<&'a str>,
}

/// A conversation as a text to continue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prompt {
    /// The text, up to where the model's answer begins. It holds what `escape` made.
    pub text: String,
    /// How the answer will be written.
    pub syntax: Syntax,
    /// Texts that end the answer and are not part of it, beside the model's own end tokens.
    pub stops: Vec<String>,
}

/// Why a conversation was not written down. Never holds what a user wrote.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// The template says so, in its own words.
    #[error("{0}")]
    Raised(String),
    /// Something in it does not work for this conversation.
    #[error("it fails in line {line}: {kind}")]
    Failed {
        /// The template's line, counted from 1.
        line: usize,
        /// What kind of error.
        kind: String,
    },
    /// It takes too many steps, or writes too much.
    #[error("it takes too long or writes too much")]
    TooCostly,
    /// The conversation holds a picture, and the model takes none.
    #[error("the model takes no pictures")]
    Image,
}

impl ChatTemplate {
    /// Compiles a template, and finds out what it can do. `bos` and `eos` are the texts of the
    /// tokens that begin and end a text.
    pub fn new(source: String, bos: String, eos: String) -> Result<Self, TemplateError> {
        let _ = (bos, eos);
        Ok(Self { source })
    }

    /// What it can do by itself.
    #[must_use]
    pub fn features(&self) -> TemplateFeatures {
        TemplateFeatures { reasoning: self.source.contains("<think>"), ..Default::default() }
    }

    /// Writes a conversation down, up to where the model's answer begins. Where the assistant spoke
    /// last, up to where its message goes on.
    pub fn prompt(
        &self,
        chat: &Chat,
        options: &PromptOptions<'_>,
    ) -> Result<Prompt, TemplateError> {
        let _ = (chat, options);
        Ok(Prompt { text: String::new(), syntax: Syntax::default(), stops: vec![] })
    }
}
