//! The form an answer must have, in all the ways that servers let people ask for it.

use arknet_types::Format;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;

use crate::{
    ApiError,
    json::{Object, RawObject, is_object},
};

/// `response_format` of chat completions, `text.format` of responses.
#[derive(Debug, Deserialize)]
pub(crate) struct WireFormat {
    r#type: FormatKind,
    json_schema: Option<Object<Named>>,
    /// llama-server's place for the schema of a `json_object`, and that of responses.
    schema: Option<RawObject>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormatKind {
    Text,
    JsonObject,
    JsonSchema,
}

#[derive(Debug, Deserialize)]
struct Named {
    schema: Option<RawObject>,
}

impl WireFormat {
    /// The form of responses, where nothing is nested.
    pub(crate) const fn flat(r#type: FormatKind, schema: Option<RawObject>) -> Self {
        Self { r#type, json_schema: None, schema }
    }

    pub(crate) fn into_format(self) -> Format {
        let schema = self.json_schema.and_then(|Object(named)| named.schema).or(self.schema);
        match (self.r#type, schema) {
            (FormatKind::Text, _) => Format::Text,
            (_, Some(RawObject(schema))) => Format::JsonSchema(schema),
            (_, None) => Format::JsonObject,
        }
    }
}

/// `structured_outputs` of vLLM.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Structured {
    json: Option<Schema>,
    regex: Option<String>,
    choice: Option<Vec<String>>,
    grammar: Option<String>,
    json_object: Option<bool>,
}

/// What the older names of the same say.
#[derive(Debug, Default)]
pub(crate) struct Forms {
    pub(crate) response_format: Option<WireFormat>,
    pub(crate) json_schema: Option<Schema>,
    pub(crate) grammar: Option<String>,
    pub(crate) structured_outputs: Option<Structured>,
    pub(crate) guided_json: Option<Schema>,
    pub(crate) guided_regex: Option<String>,
    pub(crate) guided_grammar: Option<String>,
    pub(crate) guided_choice: Option<Vec<String>>,
}

/// A JSON Schema as an object, or as a text that holds one.
#[derive(Debug)]
pub(crate) struct Schema(String);

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let text = if raw.get().starts_with('"') {
            serde_json::from_str(raw.get()).map_err(D::Error::custom)?
        } else {
            Box::<str>::from(raw).into_string()
        };
        if is_object(&text) {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("invalid value, expected a JSON Schema of bounded depth"))
        }
    }
}

impl Forms {
    /// The one form that is asked for.
    pub(crate) fn into_format(self) -> Result<Format, ApiError> {
        let structured = self.structured_outputs.unwrap_or_default();
        let json_object = structured.json_object.unwrap_or_default();
        let forms = [
            ("response_format", self.response_format.map(WireFormat::into_format)),
            ("json_schema", self.json_schema.map(Schema::into_format)),
            ("grammar", self.grammar.filter(|text| !text.is_empty()).map(grammar)),
            ("structured_outputs.json", structured.json.map(Schema::into_format)),
            ("structured_outputs.regex", structured.regex.map(Format::Regex)),
            ("structured_outputs.choice", structured.choice.map(|words| choice(&words))),
            ("structured_outputs.grammar", structured.grammar.map(grammar)),
            ("structured_outputs.json_object", json_object.then_some(Format::JsonObject)),
            ("guided_json", self.guided_json.map(Schema::into_format)),
            ("guided_regex", self.guided_regex.map(Format::Regex)),
            ("guided_grammar", self.guided_grammar.map(grammar)),
            ("guided_choice", self.guided_choice.map(|words| choice(&words))),
        ];
        let mut found: Option<(&'static str, Format)> = None;
        for (param, form) in forms {
            let Some(form) = form.filter(|form| *form != Format::Text) else { continue };
            if let Some((other, _)) = found {
                let message = format!("An answer has one form: send '{other}' or '{param}'.");
                return Err(ApiError::parameter(param, message));
            }
            found = Some((param, form));
        }
        Ok(found.map_or(Format::Text, |(_, form)| form))
    }
}

impl Schema {
    fn into_format(self) -> Format {
        Format::JsonSchema(self.0)
    }
}

/// llama.cpp's notation defines by `::=`, Lark's by `:`.
fn grammar(text: String) -> Format {
    if text.contains("::=") { Format::Gbnf(text) } else { Format::Lark(text) }
}

/// One of these words.
fn choice(words: &[String]) -> Format {
    let mut regex = String::new();
    for word in words {
        if !regex.is_empty() {
            regex.push('|');
        }
        for letter in word.chars() {
            if r"\.+*?()|[]{}^$".contains(letter) {
                regex.push('\\');
            }
            regex.push(letter);
        }
    }
    Format::Regex(format!("({regex})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_they_stand() {
        let words = ["a.b".to_owned(), "c|d".to_owned()];
        assert_eq!(choice(&words), Format::Regex(r"(a\.b|c\|d)".into()));
    }

    #[test]
    fn a_grammar_is_told_by_its_sign() {
        assert_eq!(grammar("root ::= \"a\"".into()), Format::Gbnf("root ::= \"a\"".into()));
        assert_eq!(grammar("start: \"a\"".into()), Format::Lark("start: \"a\"".into()));
    }
}
