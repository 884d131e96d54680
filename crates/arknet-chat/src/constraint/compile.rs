//! From what is asked for to what the library takes, within limits.

use std::{collections::BTreeSet, thread};

use arknet_types::Format;
use llguidance::{
    Matcher,
    api::{GrammarWithLexer, TopLevelGrammar},
};
use serde_json::{Value, json};

use super::{
    ConstraintError,
    calls::{Calls, Extent, literal},
    gbnf,
};
use crate::{
    Vocabulary,
    limits::{
        CONSTRAINT_STACK_BYTES, SCHEMA_CHAIN_MAX, SCHEMA_DEPTH_MAX, SCHEMA_PROPERTIES_MAX,
        SCHEMA_VALUES_MAX,
    },
    syntax::channel,
};

/// The name under which an answer's own grammar is referred to.
const CONTENT: &str = "content";

/// Keywords of JSON Schema that are not implemented, and may be named in an error.
const KEYWORDS: [&str; 15] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "uniqueItems",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
];

/// The grammar of an answer's form; none where it has none.
pub(super) fn content(format: &Format) -> Result<Option<GrammarWithLexer>, ConstraintError> {
    Ok(Some(match format {
        Format::Text => return Ok(None),
        Format::JsonObject => schema(json!({"type": "object"}))?,
        Format::JsonSchema(text) => {
            let words = "the JSON Schema is not valid JSON";
            let value =
                serde_json::from_str(text).map_err(|_| ConstraintError::Invalid(words.into()))?;
            schema(value)?
        }
        Format::Lark(text) => {
            let mut grammar = GrammarWithLexer::from_lark(text.clone());
            grammar.name = Some(CONTENT.into());
            grammar
        }
        Format::Gbnf(text) => GrammarWithLexer::from_lark(gbnf::to_lark(text)?),
        Format::Regex(text) => GrammarWithLexer::from_regex(text),
    }))
}

fn schema(value: Value) -> Result<GrammarWithLexer, ConstraintError> {
    let value = checked(value)?;
    Ok(GrammarWithLexer::from_json_schema(with_options(value, false)))
}

/// Holds a schema against the limits before anything is made of it.
fn checked(value: Value) -> Result<Value, ConstraintError> {
    let mut size = Size::default();
    let depth = measure(&value, 0, &mut size);
    if depth > SCHEMA_DEPTH_MAX {
        let words = format!("the JSON Schema is nested deeper than {SCHEMA_DEPTH_MAX}");
        return Err(ConstraintError::TooComplex(words));
    }
    if size.values > SCHEMA_VALUES_MAX {
        let words = format!("the JSON Schema has more than {SCHEMA_VALUES_MAX} values");
        return Err(ConstraintError::TooComplex(words));
    }
    if size.properties > SCHEMA_PROPERTIES_MAX {
        let words = format!("the JSON Schema has more than {SCHEMA_PROPERTIES_MAX} properties");
        return Err(ConstraintError::TooComplex(words + " in one object"));
    }
    // The library follows references as it goes, each deeper in its stack than the one before.
    let targets = size.references.iter().filter_map(|r| value.pointer(r.strip_prefix('#')?));
    let chain: usize = targets.map(|target| measure(target, 0, &mut Size::default()) + 1).sum();
    if chain > SCHEMA_CHAIN_MAX {
        let words = "the JSON Schema has too many definitions that refer to each other";
        return Err(ConstraintError::TooComplex(words.into()));
    }
    match value {
        Value::Object(_) => Ok(value),
        Value::Bool(true) => Ok(json!({})),
        _ => Err(ConstraintError::Invalid("the JSON Schema is not an object".into())),
    }
}

/// The schema of a tool's arguments, or none where it is beyond the limits. `budget` is for all
/// tools together.
pub(super) fn tool_schema(text: &str, budget: &mut usize) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    let mut size = Size::default();
    measure(&value, 0, &mut size);
    *budget = budget.checked_sub(size.values)?;
    checked(value).ok()
}

/// What a schema holds.
#[derive(Default)]
struct Size<'a> {
    values: usize,
    /// The most of one object.
    properties: usize,
    references: BTreeSet<&'a str>,
}

/// How deep a value is nested.
fn measure<'a>(value: &'a Value, depth: usize, size: &mut Size<'a>) -> usize {
    size.values += 1;
    if depth > SCHEMA_DEPTH_MAX || size.values > SCHEMA_VALUES_MAX {
        return depth;
    }
    match value {
        Value::Array(items) => {
            items.iter().map(|item| measure(item, depth + 1, size)).max().unwrap_or(depth)
        }
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                size.references.insert(reference);
            }
            let properties = fields.get("properties").and_then(Value::as_object);
            size.properties = size.properties.max(properties.map_or(0, |all| all.len()));
            fields.values().map(|field| measure(field, depth + 1, size)).max().unwrap_or(depth)
        }
        _ => depth,
    }
}

/// The options of the library stand in the schema: ours, not a user's.
pub(super) fn with_options(mut value: Value, is_lenient: bool) -> Value {
    if let Some(fields) = value.as_object_mut() {
        let options = json!({
            // On one line: where white space is free, a weak model writes it until its tokens end.
            "whitespace_flexible": false,
            "item_separator": ", ?",
            "key_separator": ": ?",
            // One of several is near enough to any of several to be of use.
            "coerce_one_of": true,
            "lenient": is_lenient,
        });
        fields.insert("x-guidance".into(), options);
    }
    value
}

/// What an answer must be: of this form, or tool calls.
pub(super) fn answer(
    vocabulary: &Vocabulary,
    mut content: GrammarWithLexer,
    calls: Option<&Calls>,
    channels: bool,
) -> Result<Matcher, ConstraintError> {
    let kind = if content.json_schema.is_some() { "JSON Schema" } else { "grammar" };
    if calls.is_none() && !channels {
        return compile(vocabulary, TopLevelGrammar::from_grammar(content), kind);
    }
    content.name = Some(CONTENT.into());
    let text = if channels {
        let begin = [channel::CHANNEL, "final", channel::MESSAGE];
        let begin = begin.map(|part| literal(Some(vocabulary), part)).join(" ");
        format!("{begin} @{CONTENT}")
    } else {
        format!("@{CONTENT}")
    };
    let with = |is_lenient: bool| {
        let rules = calls.map(|calls| calls.rules(vocabulary, Extent::Whole, is_lenient));
        let either = if rules.is_some() { " | calls" } else { "" };
        let before = before(vocabulary, channels);
        let rules = rules.unwrap_or_default();
        let lark = format!("start: {}({text}{either})\n{}{rules}", before.0, before.1);
        let main = GrammarWithLexer::from_lark(lark);
        TopLevelGrammar { grammars: vec![main, content.clone()], max_tokens: None }
    };
    match compile(vocabulary, with(true), kind) {
        // Perhaps it is the tools: their schemas are advice.
        Err(error) if calls.is_some() => compile(vocabulary, with(false), kind).map_err(|_| error),
        result => result,
    }
}

/// Tool calls, and nothing else.
pub(super) fn calls(
    vocabulary: &Vocabulary,
    calls: &Calls,
    extent: Extent,
    channels: bool,
) -> Result<Matcher, ConstraintError> {
    let with = |knows_schemas: bool| {
        let rules = calls.rules(vocabulary, extent, knows_schemas);
        let before = before(vocabulary, channels);
        let lark = format!("start: {}calls\n{}{rules}", before.0, before.1);
        TopLevelGrammar::from_grammar(GrammarWithLexer::from_lark(lark))
    };
    let kind = "schema of the tools";
    compile(vocabulary, with(true), kind).or_else(|_| compile(vocabulary, with(false), kind))
}

/// What may come before the answer in channels: a reference and its rules.
fn before(vocabulary: &Vocabulary, channels: bool) -> (&'static str, String) {
    if !channels {
        return ("", String::new());
    }
    let join = |parts: &[&str]| {
        parts.iter().map(|part| literal(Some(vocabulary), part)).collect::<Vec<_>>().join(" ")
    };
    let begin = join(&[channel::CHANNEL, "analysis", channel::MESSAGE]);
    let end = join(&[channel::END, channel::START, "assistant"]);
    ("thought? ", format!("thought: {begin} /(?s:.*)/ {end}\n"))
}

fn compile(
    vocabulary: &Vocabulary,
    grammar: TopLevelGrammar,
    kind: &str,
) -> Result<Matcher, ConstraintError> {
    let build = || {
        let parser = vocabulary.factory().create_parser(grammar);
        let mut matcher = Matcher::new(Ok(parser.map_err(|error| format!("{error:#}"))?));
        // A form that nothing can have is told before any work.
        matcher.compute_mask_or_eos().map_err(|error| format!("{error:#}"))?;
        Ok::<_, String>(matcher)
    };
    // On a stack of its own: how deep the library goes depends on what a user wrote, and a stack
    // that overflows ends the process.
    let result = thread::scope(|scope| {
        let builder = thread::Builder::new().stack_size(CONSTRAINT_STACK_BYTES);
        let thread = builder.spawn_scoped(scope, build).ok()?;
        thread.join().ok()
    });
    match result {
        Some(Ok(matcher)) => Ok(matcher),
        Some(Err(error)) => Err(explain(&error, kind)),
        None => Err(ConstraintError::TooComplex(format!("the {kind} could not be read"))),
    }
}

/// What is wrong, in our own words: those of the library quote what a user wrote.
fn explain(text: &str, kind: &str) -> ConstraintError {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["too large", "fuel", "too complex", "too many", "exceeded", "TooComplex", "limit"]) {
        return ConstraintError::TooComplex(format!("the {kind} is too large or too complex"));
    }
    if has(&["Unimplemented keys"]) {
        let named: Vec<&str> =
            KEYWORDS.into_iter().filter(|word| has(&[&format!("\"{word}\"")])).collect();
        let words =
            format!("the {kind} uses keywords that are not supported: {}", named.join(", "));
        return ConstraintError::Unsupported(words);
    }
    if has(&["Only absolute $ref"]) {
        let words = "only references that begin with #/ are supported";
        return ConstraintError::Unsupported(words.into());
    }
    if has(&["Unknown format", "unknown format"]) {
        let words = format!("the {kind} uses a string format that is not supported");
        return ConstraintError::Unsupported(words);
    }
    if has(&["not supported", "unsupported", "look-around", "backreference"]) {
        return ConstraintError::Unsupported(format!("the {kind} uses what is not supported"));
    }
    if has(&["nsatisfiable"]) {
        return ConstraintError::Invalid(format!("no answer can satisfy the {kind}"));
    }
    ConstraintError::Invalid(match line(text) {
        Some(line) if kind == "grammar" => format!("the {kind} is not valid in line {line}"),
        _ => format!("the {kind} is not valid"),
    })
}

/// The line in an error that begins with `at 3(4):` or `3(4):`.
fn line(text: &str) -> Option<u32> {
    let text = text.strip_prefix("at ").unwrap_or(text);
    text.split_once('(').and_then(|(line, _)| line.parse().ok())
}
