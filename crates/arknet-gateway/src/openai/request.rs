use arknet_types::{InferRequest, Input, Message, ModelName, RefusalCode, Role, Sampling};

use super::{
    at_fault,
    content::{Object, Prompt},
    params::{Params, WireMessage, WireRole},
    parse,
};
use crate::ApiError;

/// What OpenAI's completions endpoint generates when nothing is said.
const COMPLETION_TOKENS_DEFAULT: u32 = 16;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What goes to the model.
    pub request: InferRequest,
    /// Whether the answer is sent token by token.
    pub stream: bool,
    /// Whether a stream ends with the token counts.
    pub include_usage: bool,
}

/// Reads the body of `POST /v1/chat/completions`.
pub fn chat(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = parse::object(body)?;
    params.check_supported(true)?;
    let model = model(&mut params)?;
    let wire = params.messages.take().ok_or_else(|| missing("messages".into()))?;
    let mut messages = Vec::with_capacity(wire.len());
    for (index, Object(message)) in wire.into_iter().enumerate() {
        message.check_supported(index, model.as_str())?;
        messages.push(into_message(message, index)?);
    }
    let max_tokens = params.max_completion_tokens.or(params.max_tokens);
    finish(params, model, Input::Chat(messages), max_tokens)
}

/// Reads the body of `POST /v1/completions`.
pub fn completion(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = parse::object(body)?;
    params.check_supported(false)?;
    let model = model(&mut params)?;
    let Prompt { mut texts, length } =
        params.prompt.take().ok_or_else(|| missing("prompt".into()))?;
    let (1, Some(text)) = (length, texts.pop()) else {
        return Err(ApiError::parameter(
            "prompt",
            "Send one prompt per request: a string, or an array of one string.",
        ));
    };
    let max_tokens = params.max_tokens.or(Some(COMPLETION_TOKENS_DEFAULT));
    finish(params, model, Input::Text(text), max_tokens)
}

fn model(params: &mut Params) -> Result<ModelName, ApiError> {
    let name = params
        .model
        .take()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| missing("model".into()))?;
    // What cannot be a name is nobody's model.
    ModelName::new(name.as_str()).map_err(|_| ApiError::unknown_model(&name))
}

fn into_message(message: WireMessage, index: usize) -> Result<Message, ApiError> {
    let content = message.content.ok_or_else(|| missing(format!("messages[{index}].content")))?;
    Ok(Message {
        role: match message.role {
            WireRole::System | WireRole::Developer => Role::System,
            WireRole::User => Role::User,
            WireRole::Assistant => Role::Assistant,
            WireRole::Tool => Role::Tool,
        },
        content: content.text,
    })
}

fn finish(
    params: Params,
    model: ModelName,
    input: Input,
    max_tokens: Option<u32>,
) -> Result<Asked, ApiError> {
    let newer_limit = params.max_completion_tokens.is_some();
    let include_usage = params
        .stream_options
        .as_ref()
        .and_then(|Object(options)| options.include_usage)
        .unwrap_or_default();
    let stream = params.stream.unwrap_or_default();
    let (stop, sampling) = sampling(params);
    let request = InferRequest { model, input, max_tokens, stop, sampling };
    match request.check() {
        Ok(()) => Ok(Asked { request, stream, include_usage }),
        Err(refusal) => {
            let param = match (refusal.code, &request.input) {
                (RefusalCode::TooLarge, Input::Chat(_)) => Some("messages"),
                (RefusalCode::TooLarge, Input::Text(_)) => Some("prompt"),
                _ => at_fault(&refusal.detail),
            };
            let mut error = ApiError::from_refusal(refusal);
            error.param = match param {
                Some("max_tokens") if newer_limit => Some("max_completion_tokens".into()),
                other => other.map(Into::into),
            };
            Err(error)
        }
    }
}

fn sampling(params: Params) -> (Vec<String>, Sampling) {
    let neutral = Sampling::default();
    let sampling = Sampling {
        temperature: params.temperature.unwrap_or(neutral.temperature),
        top_p: params.top_p.unwrap_or(neutral.top_p),
        // Other servers write -1 for off.
        top_k: params.top_k.map_or(neutral.top_k, |k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
        min_p: params.min_p.unwrap_or(neutral.min_p),
        presence_penalty: params.presence_penalty.unwrap_or(neutral.presence_penalty),
        frequency_penalty: params.frequency_penalty.unwrap_or(neutral.frequency_penalty),
        repeat_penalty: params.repeat_penalty.unwrap_or(neutral.repeat_penalty),
        // The same bits: a bijection, so that different seeds stay different.
        seed: params.seed.map(i64::cast_unsigned),
        logit_bias: params.logit_bias.unwrap_or_default().0,
    };
    (params.stop.unwrap_or_default().texts, sampling)
}

fn missing(param: String) -> ApiError {
    let message = format!("Missing required parameter: '{param}'.");
    ApiError::parameter(param, message).code("missing_required_parameter")
}
