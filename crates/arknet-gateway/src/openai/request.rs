use arknet_types::{Chat, InferRequest, Input, Message, ModelName, RefusalCode, Role, Sampling};

use super::{
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
    let wire = params.messages.take().ok_or_else(|| ApiError::missing("messages"))?;
    let mut messages = Vec::with_capacity(wire.len());
    for (index, Object(message)) in wire.into_iter().enumerate() {
        message.check_supported(index, model.as_str())?;
        messages.push(into_message(message, index)?);
    }
    let max_tokens = params.max_completion_tokens.or(params.max_tokens);
    finish(params, model, Input::Chat(Chat::new(messages)), max_tokens)
}

/// Reads the body of `POST /v1/completions`.
pub fn completion(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = parse::object(body)?;
    params.check_supported(false)?;
    let model = model(&mut params)?;
    let Prompt { mut texts, length } =
        params.prompt.take().ok_or_else(|| ApiError::missing("prompt"))?;
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
        .ok_or_else(|| ApiError::missing("model"))?;
    // What cannot be a name is nobody's model.
    ModelName::new(name.as_str()).map_err(|_| ApiError::unknown_model(&name))
}

fn into_message(message: WireMessage, index: usize) -> Result<Message, ApiError> {
    let content =
        message.content.ok_or_else(|| ApiError::missing(format!("messages[{index}].content")))?;
    let role = match message.role {
        WireRole::System | WireRole::Developer => Role::System,
        WireRole::User => Role::User,
        WireRole::Assistant => Role::Assistant,
        WireRole::Tool => Role::Tool,
    };
    Ok(Message::new(role, content.text))
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
    let request = InferRequest { max_tokens, stop, sampling, ..InferRequest::new(model, input) };
    match request.check() {
        Ok(()) => Ok(Asked { request, stream, include_usage }),
        Err(refusal) => {
            let too_large = refusal.code == RefusalCode::TooLarge;
            let error = ApiError::from_refusal(refusal);
            Err(match (&request.input, error.param()) {
                (Input::Chat(_), _) if too_large => error.about("messages"),
                (Input::Text(_), _) if too_large => error.about("prompt"),
                (_, Some("max_tokens")) if newer_limit => error.about("max_completion_tokens"),
                _ => error,
            })
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
