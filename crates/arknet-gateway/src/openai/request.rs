use arknet_types::{Chat, InferRequest, Input, ModelName, RefusalCode};

use super::{
    message,
    params::{Params, answer_limit},
    tools,
};
use crate::{
    ApiError, Ask, CHOICES_MAX,
    json::{self, Object},
    openai::params::PROMPTS_MAX,
};

/// What OpenAI's completions endpoint generates when nothing is said.
const COMPLETION_TOKENS_DEFAULT: i64 = 16;

/// Bytes of all inputs of a request that asks for several answers: each needs its own copy.
const COPIES_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// What goes to the model: one request, or one for each prompt.
    pub requests: Vec<InferRequest>,
    /// How many answers to each.
    pub n: u32,
    /// Whether the answer is sent token by token.
    pub stream: bool,
    /// Whether a stream ends with the token counts.
    pub include_usage: bool,
    /// Whether the answer begins with the prompt.
    pub echo: bool,
}

impl Asked {
    /// One dispatch for each answer: `n` to the first request, then `n` to the next.
    pub(crate) fn asks(self) -> Vec<Ask> {
        let n = self.n;
        if n == 1 {
            return self.requests.into_iter().map(Ask::new).collect();
        }
        let answers = self.requests.into_iter().flat_map(|request| {
            (0..n).map(move |index| {
                let mut infer = request.clone();
                // Each is a different answer, and the same one each time.
                infer.sampling.seed =
                    infer.sampling.seed.map(|seed| seed.wrapping_add(u64::from(index)));
                Ask::new(infer)
            })
        });
        answers.collect()
    }
}

/// Reads the body of `POST /v1/chat/completions`.
pub fn chat(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = json::object(body)?;
    params.check_supported(true)?;
    let model = model(params.model.take())?;
    let wire = params.messages.take().ok_or_else(|| ApiError::missing("messages"))?;
    let messages = message::messages(wire, model.as_str())?;
    let mut tools = tools::tools(params.tools.take().unwrap_or_default())?;
    let tool_choice = tools::choose(params.tool_choice.take(), &mut tools)?;
    let parallel_tool_calls = params.parallel_tool_calls.unwrap_or(true);
    let reasoning = params.thinking()?;
    let chat = Chat { messages, tools, tool_choice, parallel_tool_calls, reasoning };
    let max_tokens = params.max_completion_tokens.or(params.max_tokens);
    let logprobs = params.chat_logprobs()?;
    finish(params, model, vec![Input::Chat(chat)], max_tokens, logprobs)
}

/// Reads the body of `POST /v1/completions`.
pub fn completion(body: &[u8]) -> Result<Asked, ApiError> {
    let mut params: Params = json::object(body)?;
    params.check_supported(false)?;
    let model = model(params.model.take())?;
    let prompt = params.prompt.take().ok_or_else(|| ApiError::missing("prompt"))?;
    if !(1..=PROMPTS_MAX).contains(&prompt.length) {
        let message = format!("Send 1 to {PROMPTS_MAX} prompts in one request.");
        return Err(ApiError::parameter("prompt", message));
    }
    let inputs = prompt.texts.into_iter().map(Input::Text).collect();
    let max_tokens = Some(params.max_tokens.unwrap_or(COMPLETION_TOKENS_DEFAULT));
    let logprobs = params.completion_logprobs()?;
    if logprobs.is_some() && params.echo.unwrap_or_default() {
        return Err(ApiError::unsupported(
            "logprobs",
            "The likelihood of the prompt is not known here: leave out 'echo' or 'logprobs'.",
        ));
    }
    finish(params, model, inputs, max_tokens, logprobs)
}

/// The model that a body names.
pub(crate) fn model(name: Option<String>) -> Result<ModelName, ApiError> {
    let name = name.filter(|name| !name.is_empty()).ok_or_else(|| ApiError::missing("model"))?;
    // What cannot be a name is nobody's model.
    ModelName::new(name.as_str()).map_err(|_| ApiError::unknown_model(&name))
}

fn finish(
    mut params: Params,
    model: ModelName,
    inputs: Vec<Input>,
    max_tokens: Option<i64>,
    logprobs: Option<u8>,
) -> Result<Asked, ApiError> {
    let newer_limit = params.max_completion_tokens.is_some();
    let n = params.n.unwrap_or(1);
    let answers = u32::try_from(inputs.len()).unwrap_or(u32::MAX).saturating_mul(n);
    // Prompts may be more than choices, but not times each other.
    if !(1..=CHOICES_MAX).contains(&n) || (n > 1 && answers > CHOICES_MAX) {
        let message = format!("'n' may ask for 1 to {CHOICES_MAX} answers in one request.");
        return Err(ApiError::parameter("n", message));
    }
    let mut template = InferRequest {
        max_tokens: answer_limit(max_tokens),
        stop: params.stop.take().unwrap_or_default().texts,
        sampling: params.sampling(),
        format: params.forms().into_format()?,
        logprobs,
        profile: params.profile.map(Into::into).unwrap_or_default(),
        ..InferRequest::new(model, Input::Text(String::new()))
    };
    let mut inputs = inputs;
    let mut requests = Vec::with_capacity(inputs.len());
    let last = inputs.pop();
    for input in inputs {
        requests.push(InferRequest { input, ..template.clone() });
    }
    if let Some(input) = last {
        template.input = input;
        requests.push(template);
    }
    for request in &requests {
        check(request, newer_limit)?;
    }
    if n > 1
        && requests.iter().map(InferRequest::input_bytes).sum::<usize>() * n as usize
            > COPIES_BYTES_MAX
    {
        let message = "The input is too large to be answered several times at once.";
        return Err(ApiError::parameter("n", message).code("too_large"));
    }
    let options = params.stream_options.take();
    Ok(Asked {
        requests,
        n,
        stream: params.stream.unwrap_or_default(),
        include_usage: options.and_then(|Object(o)| o.include_usage).unwrap_or_default(),
        echo: params.echo.unwrap_or_default(),
    })
}

fn check(request: &InferRequest, newer_limit: bool) -> Result<(), ApiError> {
    let Err(refusal) = request.check() else {
        return Ok(());
    };
    let too_large = refusal.code == RefusalCode::TooLarge;
    let format = too_large && request.input_bytes() <= arknet_types::limits::INPUT_BYTES_MAX;
    let error = ApiError::from_refusal(refusal);
    Err(match (&request.input, error.param()) {
        _ if format => error.about("response_format"),
        (Input::Chat(_), _) if too_large => error.about("messages"),
        (Input::Text(_), _) if too_large => error.about("prompt"),
        (_, Some("max_tokens")) if newer_limit => error.about("max_completion_tokens"),
        (Input::Chat(_), Some("logprobs")) => error.about("top_logprobs"),
        _ => error,
    })
}
