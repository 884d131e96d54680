use axum::http::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::error::Category;

use super::content::Object;
use crate::ApiError;

/// Reads a JSON object. A body that is wrong is read a second time, with its path, to say what is
/// wrong with it: good requests do not pay for that.
pub(crate) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    match serde_json::from_slice::<Object<T>>(body) {
        Ok(Object(value)) => Ok(value),
        Err(error) => Err(explain::<T>(body, &error)),
    }
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
        let param = inside(field);
        let message = format!("Missing required parameter: '{param}'.");
        return ApiError::parameter(param, message);
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
        "u32" => "a whole number from 0 to 4294967295",
        other => other,
    }
}
