//! What a request is turned into: a call of one of a few fixed paths.

use arknet_types::{
    Capabilities, Chat, InferRequest, Input, LogitBias, Refusal, RefusalCode, Sampling,
};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::{limits::ESTIMATED_BYTES_PER_TOKEN, read::Reader};

/// The language an upstream speaks.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// OpenAI's, which vLLM, SGLang, llama-server, LiteLLM and most hosts speak.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's own.
    Ollama,
}

/// Whose server speaks OpenAI's language. They differ in what they take beyond it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavor {
    /// One we know nothing of: only what all have.
    #[default]
    Generic,
    /// OpenAI itself.
    OpenAi,
    /// llama.cpp's.
    LlamaServer,
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
}

impl Flavor {
    /// Whether one can say how likely tokens are drawn in full: these read every field we send, and
    /// have defaults of their own where we send none.
    #[must_use]
    pub const fn samples_fully(self) -> bool {
        matches!(self, Self::LlamaServer | Self::Vllm | Self::Sglang)
    }

    /// By whom a listed model says it is owned.
    #[must_use]
    pub fn of_owner(owner: &str) -> Self {
        match owner {
            "llamacpp" => Self::LlamaServer,
            "vllm" => Self::Vllm,
            "sglang" => Self::Sglang,
            _ => Self::Generic,
        }
    }
}

/// How a model of Anthropic can be told to think.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Thinking {
    /// Not at all, or it is not known.
    #[default]
    Unknown,
    /// It decides itself for how long.
    Adaptive,
    /// With a number of tokens.
    Budget,
}

/// A model as the upstream knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// What the upstream calls it.
    pub id: String,
    /// Whose server it is.
    pub flavor: Flavor,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Tokens that input and answer may have together.
    pub context_tokens: u32,
    /// Tokens that its answers have at most, where that is known.
    pub answer_tokens_max: Option<u32>,
    /// How it is told to think.
    pub thinking: Thinking,
}

/// One request to the upstream, complete but for the host.
#[derive(Debug)]
pub struct Call {
    /// Where it goes.
    pub place: Place,
    /// What it says, in JSON.
    pub body: Vec<u8>,
    /// What reads the answer.
    pub reader: Reader,
}

/// Everything that is ever asked of an upstream. Nothing of a request is part of a path.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// OpenAI: answer in a conversation.
    ChatCompletions,
    /// OpenAI: continue a text.
    Completions,
    /// OpenAI: turn texts into vectors.
    Embeddings,
    /// OpenAI, as its followers have it: order documents.
    Rerank,
    /// llama-server, vLLM and SGLang: split a text.
    Tokenize,
    /// llama-server, vLLM and SGLang: join tokens.
    Detokenize,
    /// llama-server: count the tokens of a conversation.
    InputTokens,
    /// llama-server: what it can do.
    Props,
    /// OpenAI: the models.
    Models,
    /// Anthropic: the models.
    AnthropicModels,
    /// Anthropic: answer in a conversation.
    Messages,
    /// Anthropic: count the tokens of a conversation.
    CountTokens,
    /// Ollama: answer in a conversation.
    OllamaChat,
    /// Ollama: continue a text.
    OllamaGenerate,
    /// Ollama: turn texts into vectors.
    OllamaEmbed,
    /// Ollama: the models.
    OllamaTags,
    /// Ollama: one model.
    OllamaShow,
    /// Ollama: which it is.
    OllamaVersion,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Rerank,
        Self::Tokenize,
        Self::Detokenize,
        Self::InputTokens,
        Self::Props,
        Self::Models,
        Self::AnthropicModels,
        Self::Messages,
        Self::CountTokens,
        Self::OllamaChat,
        Self::OllamaGenerate,
        Self::OllamaEmbed,
        Self::OllamaTags,
        Self::OllamaShow,
        Self::OllamaVersion,
    ];

    /// Its path, and whether that follows the API's version (`/v1`) or stands beside it.
    #[must_use]
    pub const fn path(self) -> (bool, &'static str) {
        match self {
            Self::ChatCompletions => (true, "/chat/completions"),
            Self::Completions => (true, "/completions"),
            Self::Embeddings => (true, "/embeddings"),
            Self::Rerank => (true, "/rerank"),
            Self::Tokenize => (false, "/tokenize"),
            Self::Detokenize => (false, "/detokenize"),
            Self::InputTokens => (true, "/chat/completions/input_tokens"),
            Self::Props => (false, "/props"),
            Self::Models => (true, "/models"),
            Self::AnthropicModels => (true, "/models?limit=1000"),
            Self::Messages => (true, "/messages"),
            Self::CountTokens => (true, "/messages/count_tokens"),
            Self::OllamaChat => (false, "/api/chat"),
            Self::OllamaGenerate => (false, "/api/generate"),
            Self::OllamaEmbed => (false, "/api/embed"),
            Self::OllamaTags => (false, "/api/tags"),
            Self::OllamaShow => (false, "/api/show"),
            Self::OllamaVersion => (false, "/api/version"),
        }
    }

    /// Whether it is read and not written to.
    #[must_use]
    pub const fn is_get(self) -> bool {
        matches!(
            self,
            Self::Props
                | Self::Models
                | Self::AnthropicModels
                | Self::OllamaTags
                | Self::OllamaVersion
        )
    }
}

/// Turns a request into a call, or says why this upstream cannot do it.
pub fn call(kind: UpstreamKind, request: &InferRequest, to: &Target) -> Result<Call, Refusal> {
    if let Some(max) = request.max_tokens
        && max > to.context_tokens
    {
        let words = format!(
            "an answer of {max} tokens does not fit the context of {} tokens",
            to.context_tokens
        );
        return Err(Refusal::new(RefusalCode::ContextOverflow, words));
    }
    match kind {
        UpstreamKind::OpenAi => super::openai::request(request, to),
        UpstreamKind::Anthropic => super::anthropic::request(request, to),
        UpstreamKind::Ollama => super::ollama::request(request, to),
    }
}

pub(super) fn unsupported(what: &str) -> Refusal {
    Refusal::new(RefusalCode::Unsupported, format!("this model's upstream does not take {what}"))
}

pub(super) fn invalid(words: impl Into<String>) -> Refusal {
    Refusal::new(RefusalCode::InvalidRequest, words)
}

/// Refuses what of `sampling` is set and not among `known`.
pub(super) fn only(sampling: &Sampling, known: &[&str]) -> Result<(), Refusal> {
    let set = [
        ("top_k", sampling.top_k != 0),
        ("min_p", sampling.min_p > 0.0),
        ("presence_penalty", sampling.presence_penalty != 0.0),
        ("frequency_penalty", sampling.frequency_penalty != 0.0),
        ("repeat_penalty", (sampling.repeat_penalty - 1.0).abs() > f32::EPSILON),
        ("seed", sampling.seed.is_some()),
        ("logit_bias", !sampling.logit_bias.is_empty()),
    ];
    match set.into_iter().find(|(name, is_set)| *is_set && !known.contains(name)) {
        Some((name, _)) => Err(unsupported(name)),
        None => Ok(()),
    }
}

/// A body in JSON.
pub(super) fn json(body: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(body).map_err(|_| invalid("the request cannot be written as JSON"))
}

/// An object in JSON, kept as it was written: the order of a schema's fields is the order in which a
/// model is made to write them. Nested no deeper than our own parser goes, so that no upstream has to.
pub(super) fn object(text: &str, what: &str) -> Result<Box<RawValue>, Refusal> {
    let text = if text.trim().is_empty() { "{}" } else { text };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(serde_json::Value::Object(_)) => RawValue::from_string(text.to_owned())
            .map_err(|_| invalid(format!("{what} must be a JSON object"))),
        _ => Err(invalid(format!("{what} must be a JSON object"))),
    }
}

/// Biases in the form of OpenAI: an object from token to bias.
pub(super) fn biases<S: Serializer>(list: &&[LogitBias], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(list.iter().map(|one| (one.token, one.bias)))
}

/// A seed that fits everywhere.
pub(super) const fn seed_31(seed: u64) -> u64 {
    (seed ^ (seed >> 31)) & 0x7fff_ffff
}

/// Fewest tokens an input is likely to have.
pub(super) fn estimated_tokens(request: &InferRequest) -> u32 {
    let bytes = match &request.input {
        Input::Chat(chat) | Input::Count(chat) => text_bytes(chat),
        _ => request.input_bytes(),
    };
    u32::try_from(bytes / ESTIMATED_BYTES_PER_TOKEN).unwrap_or(u32::MAX)
}

fn text_bytes(chat: &Chat) -> usize {
    chat.messages.iter().map(|message| message.text().len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_plain_and_lead_nowhere_else() {
        let mut seen = std::collections::HashSet::new();
        for place in Place::ALL {
            let (_, path) = place.path();
            assert!(path.starts_with('/') && !path.contains("..") && !path.contains("//"));
            let plain = path.strip_suffix("?limit=1000").unwrap_or(path);
            assert!(plain.bytes().all(|b| b.is_ascii_lowercase() || b == b'/' || b == b'_'));
            assert!(seen.insert(path));
        }
    }

    #[test]
    fn an_object_keeps_its_order_and_nothing_else_is_one() {
        let text = "{\"b\":1,\"a\":2}";
        assert_eq!(object(text, "x").unwrap().get(), text);
        assert_eq!(object(" ", "x").unwrap().get(), "{}");
        for text in ["[]", "1", "{", "{} {}", &"[".repeat(1000), "null"] {
            assert_eq!(object(text, "x").unwrap_err().code, RefusalCode::InvalidRequest);
        }
        let deep = format!("{}1{}", "{\"a\":".repeat(200), "}".repeat(200));
        assert_eq!(object(&deep, "x").unwrap_err().code, RefusalCode::InvalidRequest);
    }

    #[test]
    fn what_is_set_and_unknown_is_named() {
        let sampling = Sampling { min_p: 0.1, seed: Some(1), ..Sampling::default() };
        assert!(only(&sampling, &["min_p", "seed"]).is_ok());
        assert!(only(&sampling, &["seed"]).unwrap_err().detail.contains("min_p"));
        assert!(only(&Sampling::default(), &[]).is_ok());
    }
}
