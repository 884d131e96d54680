//! Tool calls as grammars, in the form each family of models writes them.

use arknet_types::{Chat, Tool, ToolChoice};
use serde_json::{Value, json};

use super::compile::{tool_schema, with_options};
use crate::{
    ToolSyntax, Vocabulary,
    limits::SCHEMA_VALUES_MAX,
    syntax::{channel, deepseek, kimi},
};

/// How much of a call the grammar holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// What comes after the marker with which it begins.
    AfterOpener,
}

/// The calls that may be made.
#[derive(Debug)]
pub(super) struct Calls {
    form: ToolSyntax,
    tools: Vec<(String, Value)>,
    is_single: bool,
}

impl Calls {
    pub(super) fn new(chat: &Chat, form: ToolSyntax) -> Option<Self> {
        let may = |tool: &&Tool| match &chat.tool_choice {
            ToolChoice::Named(name) => tool.name == *name,
            ToolChoice::None => false,
            ToolChoice::Auto | ToolChoice::Required => true,
        };
        // Schemas of tools are advice: what cannot be followed is left to the model.
        let mut budget = SCHEMA_VALUES_MAX;
        let mut schema =
            |tool: &Tool| tool_schema(&tool.parameters, &mut budget).unwrap_or_else(any_object);
        let tools: Vec<_> =
            chat.tools.iter().filter(may).map(|t| (t.name.clone(), schema(t))).collect();
        let is_single = !chat.parallel_tool_calls || form == ToolSyntax::Llama;
        (!tools.is_empty()).then_some(Self { form, tools, is_single })
    }

    pub(super) fn is_single(&self) -> bool {
        self.is_single
    }

    /// The text with which a call certainly begins.
    pub(super) fn opener(&self) -> Option<&'static str> {
        match self.form {
            // Theirs is no text, or may mean something else.
            ToolSyntax::Llama | ToolSyntax::Channels => None,
            form => form.openers().first().copied(),
        }
    }

    /// Rules in Lark's notation, of which `calls` is the first. Without knowing the schemas, any
    /// object may be the arguments.
    pub(super) fn rules(
        &self,
        vocabulary: &Vocabulary,
        extent: Extent,
        knows_schemas: bool,
    ) -> String {
        let writer = Writer { vocabulary, rules: String::new(), values: 0, knows_schemas };
        self.write(writer, extent)
    }

    fn write(&self, mut w: Writer<'_>, extent: Extent) -> String {
        use ToolSyntax as T;
        let opener = match (extent, self.opener()) {
            (Extent::Whole, Some(opener)) => w.lit(opener),
            _ => String::new(),
        };
        // After the marker, a model may go on in its line or in the next one.
        let gap = match (self.form, extent) {
            (T::Hermes | T::QwenXml, Extent::Whole) => w.lit("\n"),
            (T::Hermes | T::QwenXml | T::MistralList | T::Granite, _) => "/[ \\n]?/".to_owned(),
            (T::DeepSeek, Extent::AfterOpener) => "/\\n?/".to_owned(),
            _ => String::new(),
        };
        let (tail, again, end) = match self.form {
            T::Hermes => ("\n</tool_call>", "\n", ""),
            T::QwenXml => ("</function>\n</tool_call>", "\n", ""),
            T::GlmXml => ("</tool_call>", "\n", ""),
            T::MistralList | T::Granite => ("", ", ", "]"),
            T::DeepSeek => (deepseek::CALL_END, "\n", deepseek::CALLS_END),
            T::DeepSeekPlain => (deepseek::CALL_END, "", deepseek::CALLS_END),
            T::Kimi => (kimi::CALL_END, "", kimi::CALLS_END),
            T::Llama | T::MistralArgs | T::Channels => ("", "", ""),
        };
        let mut names = Vec::new();
        for (at, (name, schema)) in self.tools.iter().enumerate() {
            let body = self.body(&mut w, name, schema);
            let tail = w.lit_all(tail);
            w.rule(&format!("call_{at}"), &format!("{body} {tail}"));
            names.push(format!("call_{at}"));
        }
        w.rule("call", &names.join(" | "));
        let end = w.lit_all(end);
        let again = w.lit_all(again);
        // Forms in which each call has the opener, and forms in which all calls share it.
        let is_shared = !end.is_empty();
        let list = if matches!(self.form, T::MistralList | T::Granite) {
            w.lit("[")
        } else {
            String::new()
        };
        let calls = match (self.is_single, is_shared) {
            (true, _) => format!("{opener} {gap} {list} call {end}"),
            (false, true) => format!("{opener} {gap} {list} call ({again} call)* {end}"),
            // After the opener, one call: the next begins with its own.
            (false, false) if extent == Extent::AfterOpener => format!("{gap} call"),
            (false, false) if self.form == T::Channels => "call".to_owned(),
            (false, false) => format!("{opener} {gap} call ({again} {opener} {gap} call)*"),
        };
        format!("calls: {calls}\n{}", w.rules)
    }

    /// One call, without what is the same for all.
    fn body(&self, w: &mut Writer<'_>, name: &str, schema: &Value) -> String {
        use ToolSyntax as T;
        let quoted = Value::from(name).to_string();
        let mut parts: Vec<String> = Vec::new();
        match self.form {
            T::Hermes | T::MistralList | T::Granite => {
                parts.push(w.lit(&format!("{{\"name\": {quoted}, \"arguments\": ")));
                parts.extend([w.json(schema), w.lit("}")]);
            }
            T::Llama => {
                parts.push(w.lit(&format!("{{\"name\": {quoted}, \"parameters\": ")));
                parts.extend([w.json(schema), w.lit("}")]);
            }
            T::MistralArgs => parts.extend([w.lit(name), w.lit("[ARGS]"), w.json(schema)]),
            T::DeepSeek => {
                parts.extend([w.lit(deepseek::CALL_BEGIN), w.lit("function")]);
                parts.extend([w.lit(deepseek::SEP), w.lit(&format!("{name}\n```json\n"))]);
                parts.extend([w.json(schema), w.lit("\n```")]);
            }
            T::DeepSeekPlain => {
                parts.extend([w.lit(deepseek::CALL_BEGIN), w.lit(name), w.lit(deepseek::SEP)]);
                parts.push(w.json(schema));
            }
            T::Kimi => {
                parts.extend([w.lit(kimi::CALL_BEGIN), w.lit(&format!("functions.{name}:"))]);
                parts.extend(["/[0-9]{1,3}/".into(), w.lit(kimi::SEP), w.json(schema)]);
            }
            T::Channels => {
                parts.extend([w.lit(channel::CHANNEL)]);
                parts.push(w.lit(&format!("commentary to=functions.{name} ")));
                parts.extend([w.lit(channel::CONSTRAIN), w.lit("json"), w.lit(channel::MESSAGE)]);
                parts.push(w.json(schema));
            }
            T::QwenXml => {
                parts.push(w.lit(&format!("<function={name}>\n")));
                parts.extend(params(w, schema, ["<parameter=", ">\n", "\n</parameter>\n"]));
            }
            T::GlmXml => {
                parts.push(w.lit(&format!("{name}\n")));
                let tags = ["<arg_key>", "</arg_key>\n<arg_value>", "</arg_value>\n"];
                parts.extend(params(w, schema, tags));
            }
        }
        parts.join(" ")
    }
}

/// Arguments between tags, in the order of the schema; those that are not required may be left out.
fn params(w: &mut Writer<'_>, schema: &Value, [open, middle, end]: [&str; 3]) -> Vec<String> {
    let no_fields = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&no_fields);
    let required = schema["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    let param = |(key, property): (&String, &Value)| {
        let begin = w.lit(&format!("{open}{key}{middle}"));
        let value = if property["type"] == "string" || !w.knows_schemas {
            w.text_until(end)
        } else {
            // What the value refers to stands in the tool's schema.
            let mut property = property.clone();
            for shared in ["$defs", "definitions"] {
                if let (Some(fields), Some(all)) = (property.as_object_mut(), schema.get(shared)) {
                    fields.insert(shared.into(), all.clone());
                }
            }
            format!("{} {}", w.json(&property), w.lit(end))
        };
        let is_required = required.iter().any(|name| name == key);
        if is_required { format!("{begin} {value}") } else { format!("({begin} {value})?") }
    };
    properties.iter().map(param).collect()
}

fn any_object() -> Value {
    json!({"type": "object"})
}

/// Writes a grammar.
struct Writer<'a> {
    vocabulary: &'a Vocabulary,
    rules: String,
    values: usize,
    knows_schemas: bool,
}

impl Writer<'_> {
    fn rule(&mut self, name: &str, body: &str) {
        self.rules.push_str(&format!("{name}: {body}\n"));
    }

    fn lit(&self, text: &str) -> String {
        literal(Some(self.vocabulary), text)
    }

    /// The same, nothing for nothing.
    fn lit_all(&self, text: &str) -> String {
        if text.is_empty() { String::new() } else { self.lit(text) }
    }

    fn json(&mut self, schema: &Value) -> String {
        let schema = if self.knows_schemas { schema.clone() } else { any_object() };
        let schema = if schema.is_object() { schema } else { json!({}) };
        let name = format!("value_{}", self.values);
        self.values += 1;
        // A line break in the schema's texts is written as two characters, so this is one line.
        let body = format!("%json {}", with_options(schema, true));
        self.rule(&name, &body);
        name
    }

    fn text_until(&mut self, end: &str) -> String {
        let name = format!("value_{}", self.values);
        self.values += 1;
        let end = quoted(end);
        self.rule(&format!("{name}[suffix={end}]"), "/(?s:.*)/");
        name
    }
}

/// A text in Lark's notation: a special token where the vocabulary has one.
pub(super) fn literal(vocabulary: Option<&Vocabulary>, text: &str) -> String {
    match vocabulary.and_then(|vocabulary| vocabulary.special(text)) {
        Some(token) => format!("<[{token}]>"),
        None => quoted(text),
    }
}

/// A text between quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
