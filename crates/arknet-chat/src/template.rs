//! Conversations in the form a model was trained on, by the template in its own file.

mod functions;
mod messages;
mod probe;
#[cfg(test)]
mod tests;

use std::{io, sync::OnceLock};

use arknet_types::{Chat, Reasoning, Role, ToolChoice};
use minijinja::{Environment, Error, ErrorKind, context};
use serde_json::Value;

use crate::{
    Syntax,
    limits::{
        PROBE_FUEL, TEMPLATE_BYTES_MAX, TEMPLATE_COPIES_MAX, TEMPLATE_EXTRA_BYTES_MAX,
        TEMPLATE_FUEL,
    },
    syntax::Family,
};
use functions::environment;
use messages::{Dialect, HERE, Writer, adapt, set_content, tool_words};

/// How models without a template of their own write conversations, if their vocabulary has the
/// tokens for it.
pub const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

const NAME: &str = "chat";

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
    family: Family,
    dialect: Dialect,
    features: TemplateFeatures,
    stops: Vec<String>,
}

/// What a template can do by itself. Where it cannot, [`ChatTemplate::prompt`] finds another way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TemplateFeatures {
    /// It writes system messages.
    pub system: bool,
    /// It tells the model which tools there are, in a form whose calls are understood.
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

/// What is rendered at once.
struct Rendering<'a> {
    messages: &'a [Value],
    tools: &'a [Value],
    reasoning: Reasoning,
    is_continued: bool,
    now_unix_s: u64,
}

impl ChatTemplate {
    /// Compiles a template, and finds out what it can do. `bos` and `eos` are the texts of the
    /// tokens that begin and end a text.
    pub fn new(source: String, bos: String, eos: String) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError::TooCostly);
        }
        let mut environment = environment();
        let compiled = without_generation_marks(&source);
        environment.add_template_owned(NAME, compiled).map_err(|error| failed(&error))?;
        environment.set_fuel(Some(PROBE_FUEL));
        let family = Family::of(&source);
        let mut template = Self {
            environment,
            source,
            bos,
            eos,
            family,
            dialect: Dialect::default(),
            features: TemplateFeatures::default(),
            stops: vec![],
        };
        probe::explore(&mut template);
        template.environment.set_fuel(Some(TEMPLATE_FUEL));
        Ok(template)
    }

    /// What it can do by itself.
    #[must_use]
    pub fn features(&self) -> TemplateFeatures {
        self.features
    }

    /// Writes a conversation down, up to where the model's answer begins. Where the assistant spoke
    /// last, up to where its message goes on.
    pub fn prompt(
        &self,
        chat: &Chat,
        options: &PromptOptions<'_>,
    ) -> Result<Prompt, TemplateError> {
        let dialect = self.dialect;
        let writer = Writer { dialect, options };
        let has_tools = !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None;
        let mut tools = if has_tools { writer.tools(chat) } else { vec![] };
        let last = chat.messages.last().filter(|m| m.role == Role::Assistant);
        let continued = last.filter(|m| m.tool_calls.is_empty());
        let mut messages = writer.messages(&chat.messages, continued.is_some())?;
        if has_tools && !dialect.tools {
            let words = tool_words(&tools, chat, &writer);
            add_system(&mut messages, words, dialect);
            tools.clear();
        }
        let render = |messages: &[Value]| {
            self.render(&Rendering {
                messages,
                tools: &tools,
                reasoning: chat.reasoning,
                is_continued: continued.is_some(),
                now_unix_s: options.now_unix_s,
            })
        };
        let plain = adapt(messages.clone(), dialect, false);
        let text = match render(&plain) {
            // Many templates insist on user and assistant taking turns.
            Err(error) if error != TemplateError::TooCostly => {
                let joined = adapt(messages, dialect, true);
                if joined == plain {
                    return Err(error);
                }
                render(&joined).map_err(|_| error)?
            }
            text => text?,
        };
        let prefix = continued.map(|m| writer.content(m)).transpose()?;
        let text = match &prefix {
            None => text,
            Some(prefix) => {
                let end = text.rfind(HERE).ok_or_else(|| TemplateError::Failed {
                    line: 0,
                    kind: "it cannot go on with a message of the assistant".into(),
                })?;
                format!("{}{prefix}", &text[..end])
            }
        };
        let has_begun = prefix.is_some_and(|prefix| !prefix.trim().is_empty());
        let syntax = self.family.syntax(has_tools, dialect.tools, &text, has_begun);
        Ok(Prompt { text, syntax, stops: self.stops.clone() })
    }

    fn render(&self, rendering: &Rendering<'_>) -> Result<String, TemplateError> {
        let Rendering { messages, tools, reasoning, is_continued, now_unix_s } = *rendering;
        let (thinks, effort) = match reasoning {
            Reasoning::Auto => (None, None),
            Reasoning::Off => (Some(false), Some("low")),
            Reasoning::On => (Some(true), Some("medium")),
        };
        let mut values = std::collections::BTreeMap::from([
            ("messages", minijinja::Value::from_serialize(messages)),
            ("add_generation_prompt", (!is_continued).into()),
            ("bos_token", self.bos.as_str().into()),
            ("eos_token", self.eos.as_str().into()),
            (functions::NOW, now_unix_s.into()),
        ]);
        // What is not asked for is left undefined: templates have defaults.
        if !tools.is_empty() {
            values.insert("tools", minijinja::Value::from_serialize(tools));
        }
        if let Some(thinks) = thinks {
            values.insert("enable_thinking", thinks.into());
            values.insert("thinking", thinks.into());
        }
        if let Some(effort) = effort {
            values.insert("reasoning_effort", effort.into());
        }
        let bytes: usize = messages.iter().chain(tools).map(size).sum();
        let mut writer = BoundedWriter {
            bytes: Vec::new(),
            bytes_max: bytes * TEMPLATE_COPIES_MAX + TEMPLATE_EXTRA_BYTES_MAX,
        };
        let template = self.environment.get_template(NAME).expect("added in new");
        let context = context! { ..minijinja::Value::from_iter(values) };
        template.render_captured_to(context, &mut writer).map_err(|error| self.explain(&error))?;
        String::from_utf8(writer.bytes).map_err(|_| TemplateError::TooCostly)
    }

    fn explain(&self, error: &Error) -> TemplateError {
        match error.detail() {
            _ if matches!(error.kind(), ErrorKind::OutOfFuel | ErrorKind::WriteFailure) => {
                TemplateError::TooCostly
            }
            // A template may put together a message from what a user wrote; only its own words
            // leave this place.
            Some(words)
                if error.kind() == ErrorKind::InvalidOperation && self.source.contains(words) =>
            {
                TemplateError::Raised(words.to_owned())
            }
            _ => failed(error),
        }
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("features", &self.features).finish_non_exhaustive()
    }
}

fn failed(error: &Error) -> TemplateError {
    TemplateError::Failed { line: error.line().unwrap_or(0), kind: error.kind().to_string() }
}

/// Puts words before everything else.
fn add_system(messages: &mut Vec<Value>, words: String, dialect: Dialect) {
    if let Some(first) = messages.first_mut().filter(|m| m["role"] == "system") {
        let content = &first["content"];
        let text = content.as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default();
        let joined = format!("{text}\n\n{words}");
        set_content(first, joined);
        return;
    }
    let mut message = serde_json::json!({"role": "system", "content": ""});
    if dialect.typed {
        message["content"] = serde_json::json!([{"type": "text", "text": ""}]);
    }
    set_content(&mut message, words);
    messages.insert(0, message);
}

/// Marks for training, which mean nothing here and which the template engine does not know.
fn without_generation_marks(source: &str) -> String {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let names = ["generation", "endgeneration"];
        let marks = ["", "-"];
        let all = names.iter().flat_map(|name| {
            marks.iter().flat_map(move |a| marks.map(|b| format!("{{%{a} {name} {b}%}}")))
        });
        all.collect()
    });
    let mut text = source.to_owned();
    for tag in tags.iter().filter(|_| source.contains("generation")) {
        // An empty comment keeps the white space marks in force.
        let comment = tag.replace("{%", "{#").replace("%}", "#}").replace("endgeneration", "");
        text = text.replace(tag, &comment.replace("generation", ""));
    }
    text
}

/// Bytes of all texts in a value.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 0,
    }
}

/// Holds what is written, up to a limit.
struct BoundedWriter {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for BoundedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
