//! OpenAI's language, and what its followers add to it.

mod body;

use arknet_types::{FinishReason, Refusal, RefusalCode, Reply};
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::{Answer, Told, ToldLogprob, failed},
    errors::{Fault, refusal_in_stream},
    read::{error, garbled},
    target::Place,
};

pub(super) use body::request;

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<ToldUsage>,
    error: Option<Value>,
    object: Option<String>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<Delta>,
    /// Where the answer comes in one piece, whatever was asked for.
    message: Option<Delta>,
    text: Option<String>,
    finish_reason: Option<String>,
    /// vLLM: the stop sequence, or the number of a token.
    #[serde(alias = "matched_stop")]
    stop_reason: Option<Value>,
    logprobs: Option<Logprobs>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallPiece>>,
}

impl Delta {
    /// With the numbers of its calls, which a whole message does not have.
    fn numbered(mut self) -> Self {
        for (call, index) in self.tool_calls.iter_mut().flatten().zip(0..) {
            call.index = index;
        }
        self
    }
}

#[derive(Deserialize)]
struct CallPiece {
    #[serde(default)]
    index: u64,
    id: Option<String>,
    function: Option<FunctionPiece>,
}

#[derive(Deserialize)]
struct FunctionPiece {
    name: Option<String>,
    arguments: Option<String>,
}

/// Of a chat: `content`. Of a text in the old form: the other three, side by side.
#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<OneLogprob>>,
    tokens: Option<Vec<String>>,
    token_logprobs: Option<Vec<Option<f32>>>,
    top_logprobs: Option<Vec<Option<serde_json::Map<String, Value>>>>,
}

#[derive(Deserialize)]
pub(super) struct OneLogprob {
    id: Option<u32>,
    #[serde(default)]
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: Option<f32>,
    #[serde(default)]
    top_logprobs: Option<Vec<Self>>,
}

impl From<OneLogprob> for ToldLogprob {
    fn from(one: OneLogprob) -> Self {
        Self {
            token: one.id,
            bytes: one.bytes.unwrap_or_else(|| one.token.into_bytes()),
            logprob: one.logprob.unwrap_or(f32::NAN),
            top: one.top_logprobs.unwrap_or_default().into_iter().map(Self::from).collect(),
        }
    }
}

impl Logprobs {
    fn told(self) -> Vec<ToldLogprob> {
        if let Some(content) = self.content {
            return content.into_iter().map(ToldLogprob::from).collect();
        }
        let mut logprobs = self.token_logprobs.unwrap_or_default().into_iter();
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        let told = |text: String, logprob: Option<f32>| ToldLogprob {
            token: None,
            bytes: text.into_bytes(),
            logprob: logprob.unwrap_or(f32::NAN),
            top: vec![],
        };
        let tokens =
            self.tokens.unwrap_or_default().into_iter().map(|token| {
                let mut one = told(token, logprobs.next().flatten());
                #[expect(clippy::cast_possible_truncation, reason = "what is lost does not matter")]
                let top =
                    tops.next().flatten().unwrap_or_default().into_iter().map(|(token, value)| {
                        told(token, value.as_f64().map(|value| value as f32))
                    });
                one.top = top.collect();
                one.top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
                one
            });
        tokens.collect()
    }
}

#[derive(Deserialize)]
struct ToldUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
    /// DeepSeek.
    prompt_cache_hit_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

pub(super) fn small(tokens: Option<u64>) -> Option<u32> {
    tokens.map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
}

impl ToldUsage {
    fn told(&self) -> Told {
        let cached = self.prompt_tokens_details.as_ref().and_then(|d| d.cached_tokens);
        let reasoning = self.completion_tokens_details.as_ref().and_then(|d| d.reasoning_tokens);
        Told {
            prompt: small(self.prompt_tokens),
            completion: small(self.completion_tokens),
            cached: small(cached.or(self.prompt_cache_hit_tokens)),
            reasoning: small(reasoning),
        }
    }
}

/// Takes one event of a streamed answer.
pub(super) fn event(
    place: Place,
    data: &[u8],
    answer: &mut Answer,
    out: &mut Vec<Reply>,
) -> Result<(), Fault> {
    if data == b"[DONE]" {
        return Ok(answer.end(out)?);
    }
    let chunk: Chunk = serde_json::from_slice(data).map_err(garbled)?;
    error(place, chunk.error)?;
    if chunk.object.as_deref() == Some("error") {
        let whole = serde_json::from_slice(data).map_err(garbled)?;
        return Err(refusal_in_stream(place, &whole));
    }
    for choice in chunk.choices.into_iter().filter(|choice| choice.index == 0) {
        take(choice, answer, out)?;
    }
    if let Some(usage) = chunk.usage {
        answer.usage(usage.told());
    }
    Ok(())
}

fn take(choice: Choice, answer: &mut Answer, out: &mut Vec<Reply>) -> Result<(), Refusal> {
    let logprobs = choice.logprobs.map(Logprobs::told).unwrap_or_default();
    let tokens = u32::try_from(logprobs.len()).unwrap_or(u32::MAX).max(1);
    answer.logprobs(logprobs, out);
    let delta = match (choice.delta, choice.message) {
        (None, Some(message)) if answer.is_empty() => message.numbered(),
        (delta, _) => delta.unwrap_or_default(),
    };
    if let Some(text) = delta.reasoning_content.or(delta.reasoning) {
        answer.reasoning(&text, tokens, out);
    }
    for text in [delta.content, delta.refusal, choice.text].into_iter().flatten() {
        answer.text(&text, tokens, out);
    }
    for call in delta.tool_calls.unwrap_or_default() {
        let function = call.function.as_ref();
        let name = function.and_then(|f| f.name.as_deref()).filter(|name| !name.is_empty());
        let arguments = function.and_then(|f| f.arguments.as_deref()).unwrap_or_default();
        answer.tool(call.index, call.id.as_deref(), name, arguments, out)?;
    }
    match choice.finish_reason.as_deref() {
        None | Some("") => {}
        Some("length") => answer.finish(FinishReason::Length),
        Some("tool_calls" | "function_call") => answer.finish(FinishReason::ToolCalls),
        Some("content_filter") => return Err(filtered()),
        Some("abort" | "error") => return Err(failed("the upstream gave up its answer")),
        Some(_) => match &choice.stop_reason {
            Some(Value::String(sequence)) => answer.finish_at(sequence),
            _ => answer.finish(FinishReason::Stop),
        },
    }
    Ok(())
}

/// The upstream does not want to answer further.
pub(super) fn filtered() -> Refusal {
    Refusal::new(RefusalCode::NotPermitted, "the upstream's filter ended the answer")
}
