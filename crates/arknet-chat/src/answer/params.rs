//! Arguments that are written between tags, one by one: Qwen3-Coder, GLM.

use std::collections::BTreeMap;

use arknet_types::Chat;
use serde_json::Value;

/// Which arguments of which tools are texts.
#[derive(Debug, Default)]
pub(super) struct ToolShapes(BTreeMap<String, BTreeMap<String, bool>>);

impl ToolShapes {
    pub(super) fn of(chat: &Chat) -> Self {
        let shape = |parameters: &str| {
            let schema: Value = serde_json::from_str(parameters).unwrap_or_default();
            let properties = schema.get("properties").and_then(Value::as_object).cloned();
            let is_text = |schema: &Value| schema.get("type").is_some_and(|t| t == "string");
            let all = properties.unwrap_or_default().into_iter();
            all.map(|(key, schema)| (key, is_text(&schema))).collect()
        };
        Self(chat.tools.iter().map(|tool| (tool.name.clone(), shape(&tool.parameters))).collect())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether what stands between tags is a text as it is, not JSON.
    pub(super) fn is_text(&self, tool: &str, key: &str) -> bool {
        self.0.get(tool).and_then(|shape| shape.get(key)).copied().unwrap_or(true)
    }
}

/// The tags around arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tags {
    pub open: &'static str,
    pub key_end: &'static str,
    /// Between key and value, where there is more than the end of the key.
    pub value_open: Option<&'static str>,
    pub value_end: &'static str,
    /// After the last one. Not part of it.
    pub end: &'static [&'static str],
}

/// `<parameter=x>1</parameter>`
pub(super) const QWEN: Tags = Tags {
    open: "<parameter=",
    key_end: ">",
    value_open: None,
    value_end: "</parameter>",
    end: &["</function>", "</tool_call>"],
};

/// `<arg_key>x</arg_key><arg_value>1</arg_value>`
pub(super) const GLM: Tags = Tags {
    open: "<arg_key>",
    key_end: "</arg_key>",
    value_open: Some("<arg_value>"),
    value_end: "</arg_value>",
    end: &["</tool_call>"],
};

/// A text as the inside of a JSON string.
pub(super) fn quoted(text: &str) -> String {
    let json = serde_json::to_string(text).unwrap_or_default();
    json.get(1..json.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

/// What stands between tags as JSON: a value where it is one, also as Python writes it; else a text.
pub(super) fn value(text: &str) -> String {
    let trimmed = text.trim();
    let python = match trimmed {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    };
    match serde_json::from_str::<serde::de::IgnoredAny>(python) {
        Ok(_) => python.to_owned(),
        Err(_) => format!("\"{}\"", quoted(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_texts() {
        for (text, json) in [
            ("1", "1"),
            (" [1, 2]\n", "[1, 2]"),
            ("True", "true"),
            ("None", "null"),
            ("a\"b", "\"a\\\"b\""),
            ("", "\"\""),
        ] {
            assert_eq!(value(text), json);
        }
    }
}
