//! Reading JSON that strangers wrote: once, into what is needed, with the place of a mistake.

use std::{fmt, marker::PhantomData};

use axum::http::StatusCode;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{error::Category, value::RawValue};

use crate::ApiError;

/// How deep JSON may be nested that is passed on as it stands.
pub(crate) const DEPTH_MAX: usize = 64;

/// Objects in one body. Empty ones take three bytes on the wire and a hundred times as much in memory.
pub(crate) const OBJECTS_MAX: usize = 128 * 1024;
/// Texts in one body, names of fields included.
pub(crate) const STRINGS_MAX: usize = 1024 * 1024;
/// Bytes of a body that can hold so few values that nobody counts them.
const UNCOUNTED_BYTES: usize = 256 * 1024;

/// Reads a JSON object. A body that is wrong is read a second time, with its path, to say what is
/// wrong with it: good requests do not pay for that.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    if body.len() > UNCOUNTED_BYTES {
        let (objects, strings) = count(body);
        if objects > OBJECTS_MAX || strings > STRINGS_MAX {
            let message = format!(
                "The request body may hold {OBJECTS_MAX} objects and {STRINGS_MAX} texts at most."
            );
            let error = ApiError::invalid(StatusCode::PAYLOAD_TOO_LARGE, message);
            return Err(error.code("too_large"));
        }
    }
    match serde_json::from_slice::<Object<T>>(body) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(explain::<T>(body, &error)),
    }
}

/// A JSON object. Derived code would take an array of the values in order as well.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A JSON object that is passed on as it was written, such as a schema. Its size is bounded by that
/// of the body, its depth by [`DEPTH_MAX`].
#[derive(Debug)]
pub(crate) struct RawObject(pub(crate) String);

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with('{') {
            return Err(D::Error::custom("invalid value, expected an object"));
        }
        if depth(raw.get()) > DEPTH_MAX {
            return Err(D::Error::custom("invalid value, expected an object of less depth"));
        }
        serde_json::from_str::<Sound>(raw.get()).map_err(|_| {
            D::Error::custom("invalid value, a text or number in it stands for nothing")
        })?;
        Ok(Self(Box::<str>::from(raw).into_string()))
    }
}

/// Whether a text is one JSON object, no deeper than allowed.
pub(crate) fn is_object(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text)
        .is_ok_and(|raw| raw.get().starts_with('{') && depth(raw.get()) <= DEPTH_MAX)
        && serde_json::from_str::<Sound>(text).is_ok()
}

/// JSON that others can read: what is passed on unread could hold half of a character (`"\ud800"`).
struct Sound;

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Self, A::Error> {
        while all.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// How many objects and texts begin in something like JSON.
fn count(json: &[u8]) -> (usize, usize) {
    let (mut objects, mut strings, mut in_text, mut escaped) = (0, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                in_text = !in_text;
                strings += usize::from(in_text);
            }
            b'{' if !in_text => objects += 1,
            _ => {}
        }
    }
    (objects, strings)
}

/// How deep valid JSON is nested.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn explain<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> ApiError {
    if error.classify() != Category::Data {
        return ApiError::invalid(
            StatusCode::BAD_REQUEST,
            format!(
                "The request body is not valid JSON (line {}, column {}).",
                error.line(),
                error.column()
            ),
        );
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
    let text = Object::<T>::deserialize(tracked)
        .map_or_else(|error| error.to_string(), |_| error.to_string());
    let path = track.path().to_string();
    let inside = |field: &str| match path.as_str() {
        "." => field.to_owned(),
        path => format!("{path}.{field}"),
    };
    if let Some(field) = between_backticks(&text, "missing field ") {
        return ApiError::missing(inside(field));
    }
    if let Some(field) = between_backticks(&text, "duplicate field ") {
        let param = inside(field);
        let message = format!("'{param}' is given twice.");
        return ApiError::parameter(param, message);
    }
    if path == "." {
        return ApiError::invalid(
            StatusCode::BAD_REQUEST,
            "The request body must be a JSON object.",
        );
    }
    let message = match text.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let expected = expected.split(" at line ").next().unwrap_or(expected);
            format!("Invalid value for '{path}': expected {}{}.", plain(expected), kind(found))
        }
        None => format!("Invalid value for '{path}'."),
    };
    ApiError::parameter(path, message)
}

fn between_backticks<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    text.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// The kind of what was found. Its value, which may be long, is left out.
fn kind(found: &str) -> &'static str {
    let Some(found) = found.strip_prefix("invalid type: ") else {
        return "";
    };
    let names = [
        ("boolean", ", but got a boolean"),
        ("floating", ", but got a number with a fraction"),
        ("integer", ", but got a whole number"),
        ("map", ", but got an object"),
        ("null", ", but got null"),
        ("sequence", ", but got an array"),
        ("string", ", but got a string"),
    ];
    names.iter().find(|(word, _)| found.starts_with(word)).map_or("", |(_, words)| words)
}

fn plain(expected: &str) -> &str {
    match expected {
        "f32" => "a number",
        "i64" => "a whole number",
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Holder {
        schema: RawObject,
    }

    #[test]
    fn what_is_passed_on_is_an_object_of_bounded_depth() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        for (schema, accepted) in [
            ("{}".to_owned(), true),
            (r#"{ "a": "}]{[\"{" }"#.to_owned(), true),
            (nested(DEPTH_MAX), true),
            (nested(DEPTH_MAX + 1), false),
            (nested(100_000), false),
            (r#"{"a":[true,null,-1,1.5,"\ud83d\ude00"],"\u0061b":{}}"#.to_owned(), true),
            // Half of a character, and a number beyond all.
            (r#"{"a":[{"b":"\ud800"}]}"#.to_owned(), false),
            (r#"{"\ud800":1}"#.to_owned(), false),
            (r#"{"a":1e999}"#.to_owned(), false),
            ("[]".to_owned(), false),
            ("\"{}\"".to_owned(), false),
            ("5".to_owned(), false),
        ] {
            let body = format!(r#"{{"schema": {schema} }}"#);
            match object::<Holder>(body.as_bytes()) {
                Ok(holder) => {
                    assert!(accepted);
                    assert_eq!(holder.schema.0, schema);
                }
                Err(error) => {
                    assert!(!accepted, "{}", error.message());
                    assert_eq!(error.param(), Some("schema"));
                }
            }
            assert_eq!(is_object(&schema), accepted);
        }
        assert!(!is_object("{") && !is_object("{}x") && !is_object(""));
    }

    #[test]
    fn values_are_counted_before_they_take_memory() {
        let list = |item: &str, many: usize| {
            let items = vec![item; many].join(",");
            format!(r#"{{"schema":{{"{{ \" {{":[{items}]}}}}"#)
        };
        for (body, status) in [
            (list("{}", OBJECTS_MAX - 2), None),
            (list("{}", OBJECTS_MAX - 1), Some(413)),
            (list("\"\"", STRINGS_MAX - 2), None),
            (list("\"\"", STRINGS_MAX - 1), Some(413)),
            (list("\"{{{{{{{{{{\"", OBJECTS_MAX), None),
        ] {
            let read = object::<Holder>(body.as_bytes());
            assert_eq!(read.err().map(|error| error.status().as_u16()), status);
        }
    }

    #[test]
    fn no_error_repeats_what_was_written() {
        let error = object::<Holder>(br#"{"schema":"secret"}"#).unwrap_err();
        assert!(!error.message().contains("secret"));
        let error = object::<Holder>(b"{\"schema\":{\"a\":\"\xff\"}}").unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }
}
