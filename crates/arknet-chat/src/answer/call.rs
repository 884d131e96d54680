//! A tool call as it comes.

use arknet_types::{Reply, is_tool_name};

use super::{
    Found, find,
    json::{Balance, Malformed, ObjectScan},
    params::{GLM, QWEN, Tags, ToolShapes, quoted, value},
    sink::Sink,
};
use crate::{
    ToolSyntax,
    limits::HELD_BYTES_MAX,
    syntax::{deepseek, kimi},
};

/// Bytes of what stands where a name should.
const NAME_BYTES_MAX: usize = 256;

/// One call. Until its name is sure and arguments have begun, everything is kept, so that it can
/// be given back as text.
#[derive(Debug)]
pub(super) struct Call {
    opener: &'static str,
    /// White space before the opener.
    before: String,
    /// What was taken since.
    raw: String,
    name: Option<String>,
    has_started: bool,
    in_list: bool,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// After the opener.
    Begin,
    /// Before an item of a list.
    Item,
    /// In an object with name and arguments.
    Object(Box<Fields>),
    /// In front of the name, which one of these texts ends.
    Name(&'static [&'static str]),
    /// Before arguments in JSON, or between tags.
    Arguments,
    /// In arguments in JSON.
    Json(Balance),
    /// Between arguments in tags.
    Params(Tags),
    /// In the key of one.
    Key(Tags),
    /// Between key and value.
    ValueOpen(Tags, String),
    /// Where a value begins.
    ValueBegin(Tags, String),
    /// In a value that is a text.
    Text(Tags),
    /// In a value that is JSON.
    Value(Tags),
}

/// The fields of an object with name and arguments.
#[derive(Debug, Default)]
struct Fields {
    scan: ObjectScan,
    field: Field,
    /// Only fields that belong to a call may come.
    is_strict: bool,
    name: String,
    arguments: String,
    are_streamed: bool,
    are_complete: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Field {
    Name,
    Arguments,
    #[default]
    Other,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    /// More must come.
    Wait,
    /// Something was decided.
    Go,
    /// The call is complete.
    Ended,
    /// This is no call.
    Malformed,
}

impl From<Malformed> for Outcome {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl Call {
    pub(super) fn opened(opener: &'static str, before: String) -> Self {
        let step = if opener == "<function=" { Step::Name(&[">"]) } else { Step::Begin };
        let (raw, name) = (String::new(), None);
        Self { opener, before, raw, name, has_started: false, in_list: false, step }
    }

    /// An object that may be a call.
    pub(super) fn bare(before: String) -> Self {
        let fields = Fields { is_strict: true, ..Fields::default() };
        Self { step: Step::Object(Box::new(fields)), ..Self::opened("", before) }
    }

    /// The next of a list.
    pub(super) fn item() -> Self {
        let call = Self::opened("", String::new());
        Self { step: Step::Item, raw: ",".into(), in_list: true, ..call }
    }

    pub(super) fn has_started(&self) -> bool {
        self.has_started
    }

    pub(super) fn is_in_list(&self) -> bool {
        self.in_list
    }

    /// What it was made of, when it is none: what is text for sure, and what may hold a call.
    pub(super) fn give_back(self) -> (String, String) {
        (self.before + self.opener, self.raw)
    }

    /// The answer ends in the middle.
    pub(super) fn cut(&mut self, held: &mut String, sink: &mut Sink, out: &mut Vec<Reply>) {
        let rest = std::mem::take(held);
        match self.step {
            Step::Text(_) => sink.arguments(&quoted(&rest), out),
            Step::Value(_) | Step::ValueBegin(..) => sink.arguments(&rest, out),
            _ => {}
        }
    }

    /// Decides about what is held.
    pub(super) fn step(
        &mut self,
        form: ToolSyntax,
        held: &mut String,
        tools: &ToolShapes,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        if !self.has_started && self.raw.len() > HELD_BYTES_MAX {
            return Outcome::Malformed;
        }
        let step = std::mem::replace(&mut self.step, Step::Begin);
        match step {
            Step::Begin => self.begin(form, held),
            Step::Item => self.item_begin(held),
            Step::Object(fields) => self.object(fields, held, tools, sink, out),
            Step::Name(ends) => self.read_name(form, ends, held),
            Step::Arguments => self.arguments(form, held, sink, out),
            Step::Json(balance) => self.json(balance, held, sink, out),
            Step::Params(tags) => self.params(tags, held, sink, out),
            Step::Key(tags) => self.key(tags, held, sink, out),
            Step::ValueOpen(tags, key) => self.value_open(tags, key, held),
            Step::ValueBegin(tags, key) => self.value_begin(tags, &key, held, tools, sink, out),
            Step::Text(tags) => self.text(tags, held, sink, out),
            Step::Value(tags) => self.value(tags, held, sink, out),
        }
    }

    fn go(&mut self, step: Step) -> Outcome {
        self.step = step;
        Outcome::Go
    }

    fn wait(&mut self, step: Step) -> Outcome {
        self.step = step;
        Outcome::Wait
    }

    /// Takes bytes off what is held, and keeps them as long as they may have to be given back.
    fn take(&mut self, held: &mut String, bytes: usize) -> String {
        let taken: String = held.drain(..bytes).collect();
        if !self.has_started {
            self.raw.push_str(&taken);
        }
        taken
    }

    fn take_space(&mut self, held: &mut String) {
        self.take(held, held.len() - held.trim_ascii_start().len());
    }

    fn start(&mut self, sink: &mut Sink, out: &mut Vec<Reply>) {
        sink.begin_call(self.name.as_deref().unwrap_or_default(), out);
        self.has_started = true;
        self.raw = String::new();
    }

    fn begin(&mut self, form: ToolSyntax, held: &mut String) -> Outcome {
        self.take_space(held);
        let Some(first) = held.chars().next() else { return self.wait(Step::Begin) };
        let section = match self.opener {
            deepseek::CALLS_BEGIN => Some(deepseek::CALL_BEGIN),
            kimi::CALLS_BEGIN => Some(kimi::CALL_BEGIN),
            _ if first == '<' => Some("<function="),
            _ => None,
        };
        let names: &[&str] = match form {
            ToolSyntax::DeepSeek | ToolSyntax::DeepSeekPlain => &[deepseek::SEP],
            ToolSyntax::Kimi => &[kimi::SEP],
            ToolSyntax::MistralList | ToolSyntax::MistralArgs => &["[ARGS]", "{"],
            _ => &["\n", "<"],
        };
        match (section, first) {
            (Some(next), _) if held.starts_with(next) => {
                self.take(held, next.len());
                self.go(Step::Name(if next == "<function=" { &[">"] } else { names }))
            }
            (Some(next), _) if next.starts_with(held.as_str()) => self.wait(Step::Begin),
            (Some(_), _) => Outcome::Malformed,
            (None, '{') if !matches!(self.opener, deepseek::CALL_BEGIN | kimi::CALL_BEGIN) => {
                self.go(Step::Object(Box::default()))
            }
            (None, '[') => {
                self.in_list = true;
                self.take(held, 1);
                self.go(Step::Item)
            }
            (None, _) if names != ["\n", "<"] || form == ToolSyntax::GlmXml => {
                self.go(Step::Name(names))
            }
            (None, _) => Outcome::Malformed,
        }
    }

    fn item_begin(&mut self, held: &mut String) -> Outcome {
        self.take_space(held);
        match held.chars().next() {
            None => self.wait(Step::Item),
            Some('{') => self.go(Step::Object(Box::default())),
            Some(_) => Outcome::Malformed,
        }
    }

    fn read_name(
        &mut self,
        form: ToolSyntax,
        ends: &'static [&'static str],
        held: &mut String,
    ) -> Outcome {
        let Found::At(at, end) = find(held, ends) else {
            if held.len() > NAME_BYTES_MAX {
                return Outcome::Malformed;
            }
            return self.wait(Step::Name(ends));
        };
        if at > NAME_BYTES_MAX {
            return Outcome::Malformed;
        }
        // Some ends are where the next thing begins.
        let taken = if matches!(end, "{" | "<") { at } else { at + end.len() };
        let text = self.take(held, taken);
        let name = text[..at].trim();
        if end == deepseek::SEP && name == "function" {
            return self.go(Step::Name(&["\n"]));
        }
        let name = match form {
            ToolSyntax::Kimi => {
                let name = name.strip_prefix("functions.").unwrap_or(name);
                name.rsplit_once(':').map_or(name, |(name, _)| name)
            }
            ToolSyntax::MistralArgs | ToolSyntax::MistralList => {
                name.split_once('[').map_or(name, |(name, _)| name)
            }
            _ => name,
        };
        if !is_tool_name(name) {
            return Outcome::Malformed;
        }
        self.name = Some(name.to_owned());
        self.go(Step::Arguments)
    }

    fn arguments(
        &mut self,
        form: ToolSyntax,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        self.take_space(held);
        let tags =
            if form == ToolSyntax::GlmXml && self.opener != "<function=" { GLM } else { QWEN };
        for fence in ["```json", "```"] {
            if held.starts_with(fence) {
                self.take(held, fence.len());
                return self.go(Step::Arguments);
            }
            if fence.starts_with(held.as_str()) {
                return self.wait(Step::Arguments);
            }
        }
        if held.starts_with('{') {
            self.start(sink, out);
            return self.go(Step::Json(Balance::default()));
        }
        let mut next = std::iter::once(&tags.open).chain(tags.end);
        if next.any(|n| n.starts_with(held.as_str()) || held.starts_with(n)) {
            return self.params_or_wait(tags, held);
        }
        Outcome::Malformed
    }

    fn params_or_wait(&mut self, tags: Tags, held: &str) -> Outcome {
        let mut next = std::iter::once(&tags.open).chain(tags.end);
        if next.any(|n| held.starts_with(n)) {
            self.go(Step::Params(tags))
        } else {
            self.wait(Step::Arguments)
        }
    }

    fn json(
        &mut self,
        mut balance: Balance,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        for (at, c) in held.char_indices() {
            match balance.step(c) {
                Ok(false) => {}
                Ok(true) => {
                    let piece: String = held.drain(..at + c.len_utf8()).collect();
                    sink.arguments(&piece, out);
                    return Outcome::Ended;
                }
                // What is wrong comes out as text after it.
                Err(Malformed) => {
                    let piece: String = held.drain(..at).collect();
                    sink.arguments(&piece, out);
                    return Outcome::Ended;
                }
            }
        }
        sink.arguments(&std::mem::take(held), out);
        self.wait(Step::Json(balance))
    }

    fn object(
        &mut self,
        mut fields: Box<Fields>,
        held: &mut String,
        tools: &ToolShapes,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        let text = std::mem::take(held);
        let mut piece = String::new();
        for (at, c) in text.char_indices() {
            let kept = !self.has_started;
            let result = self.character(c, &mut fields, tools, &mut piece, sink, out);
            if result == Outcome::Malformed {
                sink.arguments(&piece, out);
                text[at..].clone_into(held);
                return if self.has_started { Outcome::Ended } else { Outcome::Malformed };
            }
            if kept && !self.has_started {
                self.raw.push(c);
            }
            if result == Outcome::Ended {
                sink.arguments(&piece, out);
                text[at + c.len_utf8()..].clone_into(held);
                return Outcome::Ended;
            }
        }
        sink.arguments(&piece, out);
        self.wait(Step::Object(fields))
    }

    fn character(
        &mut self,
        c: char,
        fields: &mut Fields,
        tools: &ToolShapes,
        piece: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        let Ok(seen) = fields.scan.step(c) else { return Outcome::Malformed };
        if seen.begins && !self.begin_field(c, fields, sink, out) {
            return Outcome::Malformed;
        }
        if seen.in_value {
            match fields.field {
                Field::Name => fields.name.push(c),
                Field::Arguments if fields.are_streamed => piece.push(c),
                Field::Arguments => fields.arguments.push(c),
                Field::Other => {}
            }
        }
        if fields.name.len() > NAME_BYTES_MAX
            || (!self.has_started && self.raw.len() >= HELD_BYTES_MAX)
        {
            return Outcome::Malformed;
        }
        if seen.ends && fields.field == Field::Name && !self.has_started {
            let name: String = serde_json::from_str(&fields.name).unwrap_or_default();
            if !is_tool_name(&name) || (fields.is_strict && !tools.has(&name)) {
                return Outcome::Malformed;
            }
            self.name = Some(name);
        }
        if seen.ends && fields.field == Field::Arguments {
            fields.are_complete = true;
        }
        if !seen.is_done {
            return Outcome::Go;
        }
        if !self.has_started {
            let Some(arguments) = whole_arguments(&fields.arguments) else {
                return Outcome::Malformed;
            };
            if self.name.is_none() {
                return Outcome::Malformed;
            }
            self.start(sink, out);
            piece.push_str(&arguments);
        }
        Outcome::Ended
    }

    /// A value begins. False where it has no place in a call.
    fn begin_field(
        &mut self,
        c: char,
        fields: &mut Fields,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> bool {
        fields.field = match fields.scan.key.as_str() {
            "name" if self.name.is_none() => Field::Name,
            "arguments" | "parameters" if !fields.are_complete => Field::Arguments,
            "type" | "id" | "name" | "arguments" | "parameters" => Field::Other,
            _ if fields.is_strict => return false,
            _ => Field::Other,
        };
        if fields.field == Field::Arguments && self.name.is_some() && c == '{' {
            fields.are_streamed = true;
            self.start(sink, out);
        }
        true
    }

    fn params(
        &mut self,
        tags: Tags,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        self.take_space(held);
        if held.starts_with(tags.open) {
            self.take(held, tags.open.len());
            return self.go(Step::Key(tags));
        }
        let is_end = tags.end.iter().any(|end| held.starts_with(end));
        let mut next = std::iter::once(&tags.open).chain(tags.end);
        if !is_end && next.any(|n| n.starts_with(held.as_str())) {
            return self.wait(Step::Params(tags));
        }
        if self.has_started {
            // What is no argument comes out as text after the call.
            sink.arguments("}", out);
            return Outcome::Ended;
        }
        if is_end {
            self.start(sink, out);
            sink.arguments("{}", out);
            return Outcome::Ended;
        }
        Outcome::Malformed
    }

    fn key(
        &mut self,
        tags: Tags,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        let found = find(held, &[tags.key_end]);
        match found {
            Found::At(at, end) if at <= NAME_BYTES_MAX => {
                let text = self.take(held, at + end.len());
                let key = text[..at].trim().to_owned();
                self.go(match tags.value_open {
                    Some(_) => Step::ValueOpen(tags, key),
                    None => Step::ValueBegin(tags, key),
                })
            }
            Found::Maybe(_) if held.len() <= NAME_BYTES_MAX => self.wait(Step::Key(tags)),
            _ if self.has_started => {
                sink.arguments("}", out);
                Outcome::Ended
            }
            _ => Outcome::Malformed,
        }
    }

    fn value_open(&mut self, tags: Tags, key: String, held: &mut String) -> Outcome {
        self.take_space(held);
        let open = tags.value_open.unwrap_or_default();
        if held.starts_with(open) {
            self.take(held, open.len());
        } else if open.starts_with(held.as_str()) {
            return self.wait(Step::ValueOpen(tags, key));
        }
        self.go(Step::ValueBegin(tags, key))
    }

    fn value_begin(
        &mut self,
        tags: Tags,
        key: &str,
        held: &mut String,
        tools: &ToolShapes,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        if held.is_empty() {
            return self.wait(Step::ValueBegin(tags, key.to_owned()));
        }
        let is_text = tools.is_text(self.name.as_deref().unwrap_or_default(), key);
        let before = if self.has_started { ", " } else { "{" };
        if !self.has_started {
            self.start(sink, out);
        }
        if held.starts_with('\n') {
            held.drain(..1);
        }
        let quote = if is_text { "\"" } else { "" };
        sink.arguments(&format!("{before}\"{}\": {quote}", quoted(key)), out);
        self.go(if is_text { Step::Text(tags) } else { Step::Value(tags) })
    }

    fn text(
        &mut self,
        tags: Tags,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        let (at, is_end) = match find(held, &[tags.value_end]) {
            Found::At(at, _) => (at, true),
            Found::Maybe(at) => (at, false),
        };
        let text = &held[..at];
        let text = text.strip_suffix('\n').unwrap_or(text);
        sink.arguments(&quoted(text), out);
        if is_end {
            sink.arguments("\"", out);
            held.drain(..at + tags.value_end.len());
            return self.go(Step::Params(tags));
        }
        held.drain(..text.len());
        self.wait(Step::Text(tags))
    }

    fn value(
        &mut self,
        tags: Tags,
        held: &mut String,
        sink: &mut Sink,
        out: &mut Vec<Reply>,
    ) -> Outcome {
        match find(held, &[tags.value_end]) {
            Found::At(at, end) if at <= HELD_BYTES_MAX => {
                let text = &held[..at];
                sink.arguments(&value(text.strip_suffix('\n').unwrap_or(text)), out);
                held.drain(..at + end.len());
                self.go(Step::Params(tags))
            }
            Found::Maybe(_) if held.len() <= HELD_BYTES_MAX => self.wait(Step::Value(tags)),
            // Too long to look at as a whole.
            _ => {
                sink.arguments("\"", out);
                self.go(Step::Text(tags))
            }
        }
    }
}

/// Arguments that were not sent as they came: the object itself, or a text that holds it.
fn whole_arguments(json: &str) -> Option<String> {
    match json.chars().next() {
        None => Some("{}".into()),
        Some('{') => Some(json.to_owned()),
        Some('"') => {
            let text: String = serde_json::from_str(json).ok()?;
            let is_object =
                serde_json::from_str::<serde_json::Value>(&text).is_ok_and(|v| v.is_object());
            is_object.then_some(text)
        }
        Some(_) => (json == "null").then(|| "{}".into()),
    }
}
