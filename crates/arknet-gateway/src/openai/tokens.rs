//! `/tokenize` and `/detokenize`, in the shapes of llama-server and of vLLM at once.

use arknet_types::{InferRequest, Input, ModelName, limits::TOKENS_MAX};
use serde::{Deserialize, Serialize};

use super::{request::model, response::write, shape::Shape};
use crate::{ApiError, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Params {
    model: Option<String>,
    content: Option<String>,
    prompt: Option<String>,
    tokens: Option<Vec<u32>>,
    add_special: Option<bool>,
    add_special_tokens: Option<bool>,
    with_pieces: Shape,
    messages: Shape,
}

impl Params {
    /// The model; where none is named, the only one there is.
    fn model(&mut self, only: Option<&ModelName>) -> Result<ModelName, ApiError> {
        match (self.model.take(), only) {
            (None, Some(only)) => Ok(only.clone()),
            (name, _) => model(name),
        }
    }
}

/// Reads the body of `POST /tokenize`. `only` is the only model there is.
pub fn tokenize(body: &[u8], only: Option<&ModelName>) -> Result<InferRequest, ApiError> {
    let mut params: Params = json::object(body)?;
    for (name, value) in [("with_pieces", &params.with_pieces), ("messages", &params.messages)] {
        if !value.is_false() {
            let message = format!("'{name}' is not supported here.");
            return Err(ApiError::unsupported(name, message));
        }
    }
    let model = params.model(only)?;
    // vLLM, whose name for the text is `prompt`, adds them unless told not to.
    let special = params.content.is_none();
    let text = params.content.or(params.prompt).ok_or_else(|| ApiError::missing("content"))?;
    let add_special = params.add_special.or(params.add_special_tokens).unwrap_or(special);
    let request = InferRequest::new(model, Input::Tokenize { text, add_special });
    request.check().map_err(|refusal| ApiError::from_refusal(refusal).about("content"))?;
    Ok(request)
}

/// Reads the body of `POST /detokenize`.
pub fn detokenize(body: &[u8], only: Option<&ModelName>) -> Result<InferRequest, ApiError> {
    let mut params: Params = json::object(body)?;
    let model = params.model(only)?;
    let tokens = params.tokens.ok_or_else(|| ApiError::missing("tokens"))?;
    if tokens.len() > TOKENS_MAX {
        let message = format!("Send {TOKENS_MAX} tokens at most.");
        return Err(ApiError::parameter("tokens", message));
    }
    let request = InferRequest::new(model, Input::Detokenize(tokens));
    request.check().map_err(|refusal| ApiError::from_refusal(refusal).about("tokens"))?;
    Ok(request)
}

/// The answer to `/tokenize`.
#[must_use]
pub fn tokens_json(tokens: &[u32]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 7 * tokens.len());
    write(&mut out, &Tokens { tokens, count: tokens.len() });
    out
}

/// The answer to `/detokenize`.
#[must_use]
pub fn text_json(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 2 * text.len());
    write(&mut out, &Text { content: text, prompt: text });
    out
}

#[derive(Serialize)]
struct Tokens<'a> {
    tokens: &'a [u32],
    count: usize,
}

#[derive(Serialize)]
struct Text<'a> {
    content: &'a str,
    prompt: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_servers_requests_are_read() {
        let only = ModelName::new("only").unwrap();
        for (json, name, text, special) in [
            (r#"{"content":"a"}"#, "only", "a", false),
            (r#"{"content":"a","add_special":true,"with_pieces":false}"#, "only", "a", true),
            (r#"{"model":"m","prompt":"a"}"#, "m", "a", true),
            (r#"{"model":"m","prompt":"a","add_special_tokens":false}"#, "m", "a", false),
        ] {
            let request = tokenize(json.as_bytes(), Some(&only)).unwrap();
            assert_eq!(request.model.as_str(), name, "{json}");
            let expected = Input::Tokenize { text: text.into(), add_special: special };
            assert_eq!(request.input, expected, "{json}");
        }
        let request = detokenize(br#"{"tokens":[1,2]}"#, Some(&only)).unwrap();
        assert_eq!(request.input, Input::Detokenize(vec![1, 2]));
    }

    #[test]
    fn mistakes_are_named() {
        for (json, param) in [
            (r#"{"content":"a"}"#, "model"),
            (r#"{"model":"m"}"#, "content"),
            (r#"{"model":"m","content":5}"#, "content"),
            (r#"{"model":"m","content":"a","with_pieces":true}"#, "with_pieces"),
            (r#"{"model":"m","messages":[{}]}"#, "messages"),
        ] {
            assert_eq!(tokenize(json.as_bytes(), None).unwrap_err().param(), Some(param), "{json}");
        }
        for (json, param) in [
            (r#"{"tokens":[1]}"#, "model"),
            (r#"{"model":"m"}"#, "tokens"),
            (r#"{"model":"m","tokens":[-1]}"#, "tokens[0]"),
            (r#"{"model":"m","tokens":"a"}"#, "tokens"),
        ] {
            assert_eq!(
                detokenize(json.as_bytes(), None).unwrap_err().param(),
                Some(param),
                "{json}"
            );
        }
        let most = format!(r#"{{"model":"m","tokens":[{}]}}"#, vec!["1"; TOKENS_MAX + 1].join(","));
        assert_eq!(detokenize(most.as_bytes(), None).unwrap_err().param(), Some("tokens"));
    }

    #[test]
    fn both_servers_answers_are_written() {
        assert_eq!(tokens_json(&[1, 2]), br#"{"tokens":[1,2],"count":2}"#);
        assert_eq!(text_json("a\""), br#"{"content":"a\"","prompt":"a\""}"#);
    }
}
