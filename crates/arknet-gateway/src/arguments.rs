use serde_json::value::RawValue;

use crate::json;

/// A tool's arguments as an object. What a model wrote that is none is handed on as it is, inside of
/// one, so that the client can tell the model.
pub(crate) fn object(arguments: &str) -> Box<RawValue> {
    if json::is_object(arguments)
        && let Ok(value) = serde_json::from_str::<Box<RawValue>>(arguments)
    {
        return value;
    }
    let object = if arguments.trim().is_empty() {
        "{}".to_owned()
    } else {
        serde_json::json!({ "arguments": arguments }).to_string()
    };
    RawValue::from_string(object).expect("it was just written as JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_model_writes_becomes_an_object() {
        for (written, object_) in [
            (r#"{"b":1, "a":2}"#, r#"{"b":1, "a":2}"#),
            (r#" {"b":1}"#, r#"{"b":1}"#),
            ("", "{}"),
            (" \n", "{}"),
            ("[1]", r#"{"arguments":"[1]"}"#),
            (r#"{"b":"#, r#"{"arguments":"{\"b\":"}"#),
            (r#"{} {}"#, r#"{"arguments":"{} {}"}"#),
        ] {
            assert_eq!(object(written).get(), object_);
        }
    }
}
