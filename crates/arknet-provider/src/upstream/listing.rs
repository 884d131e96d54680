//! What upstreams say of their models, read without input or output.

use arknet_types::Capabilities;
use serde_json::Value;

use crate::ModelDetails;

use super::{
    limits::{MODELS_MAX, TEMPLATE_BYTES_MAX},
    target::{Flavor, Thinking, UpstreamKind},
};

/// A model as its upstream describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// What the upstream calls it.
    pub id: String,
    /// What else it answers to.
    pub aliases: Vec<String>,
    /// What changes when the model does, where that is told.
    pub version: String,
    /// Whose server it is.
    pub flavor: Flavor,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Its context, where told.
    pub context_tokens: Option<u32>,
    /// Tokens of its answers, where told.
    pub answer_tokens_max: Option<u32>,
    /// How it is told to think.
    pub thinking: Thinking,
    /// What else is known of it.
    pub details: ModelDetails,
}

impl Listed {
    /// A model of which nothing but the name is known.
    #[must_use]
    pub fn unknown(id: &str, kind: UpstreamKind) -> Self {
        let (flavor, capabilities) = match kind {
            UpstreamKind::OpenAi => (Flavor::Generic, openai_abilities(id, Flavor::Generic)),
            UpstreamKind::Anthropic => (Flavor::Generic, ANTHROPIC_ABILITIES),
            UpstreamKind::Ollama => (Flavor::Generic, Capabilities::GENERATE),
        };
        Self {
            id: id.to_owned(),
            aliases: vec![],
            version: String::new(),
            flavor,
            capabilities,
            context_tokens: None,
            answer_tokens_max: None,
            thinking: Thinking::Unknown,
            details: ModelDetails::default(),
        }
    }
}

/// All its models that have no list of abilities. Counting is among them, though it splits no texts.
const ANTHROPIC_ABILITIES: Capabilities =
    Capabilities::GENERATE.with(Capabilities::TOOLS).with(Capabilities::TOKENIZE);

/// Hosts do not say what their models can do. Those that embed or rank have it in their names; all
/// others are taken to talk. Who knows better says so in the configuration.
fn openai_abilities(id: &str, flavor: Flavor) -> Capabilities {
    let name = id.to_ascii_lowercase();
    let more = if flavor.samples_fully() { Capabilities::TOKENIZE } else { Capabilities::NONE };
    if name.contains("rerank") {
        return Capabilities::RERANK.with(more);
    }
    if name.contains("embed") {
        return Capabilities::EMBED.with(more);
    }
    let talks = Capabilities::GENERATE.with(Capabilities::CONSTRAINED).with(Capabilities::LOGPROBS);
    match flavor {
        // Its properties tell about tools.
        Flavor::LlamaServer => talks.with(more),
        _ => talks.with(Capabilities::TOOLS).with(more),
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn tokens(value: &Value, names: &[&str]) -> Option<u32> {
    let number = names.iter().find_map(|name| value.get(name)?.as_u64())?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

fn is_supported(value: &Value, path: &str) -> bool {
    value.pointer(path).and_then(|one| one.get("supported")).and_then(Value::as_bool) == Some(true)
}

fn entries<'a>(list: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    list.get(name).and_then(Value::as_array).into_iter().flatten().take(MODELS_MAX * 16)
}

/// `GET /v1/models`. `flavor` is what the operator says it is.
#[must_use]
pub fn openai(list: &Value, flavor: Option<Flavor>) -> Vec<Listed> {
    let models = entries(list, "data").filter_map(|model| {
        let id = text(model, "id")?;
        let owner = text(model, "owned_by").unwrap_or_default();
        let flavor = flavor.unwrap_or_else(|| Flavor::of_owner(&owner));
        let mut one = Listed::unknown(&id, UpstreamKind::OpenAi);
        one.flavor = flavor;
        one.capabilities = openai_abilities(&id, flavor);
        // vLLM and SGLang; OpenRouter; Groq.
        one.context_tokens = tokens(model, &["max_model_len", "context_length", "context_window"]);
        one.aliases = entries(model, "aliases")
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .take(MODELS_MAX)
            .collect();
        if let Some(meta) = model.get("meta") {
            one.context_tokens =
                one.context_tokens.or_else(|| tokens(meta, &["n_ctx", "n_ctx_train"]));
            one.details.parameters = meta.get("n_params").and_then(Value::as_u64);
            one.details.file_bytes = meta.get("size").and_then(Value::as_u64);
            one.details.embedding_dimensions = tokens(meta, &["n_embd"]);
            one.details.quantization = text(meta, "ftype");
        }
        Some(one).filter(Listed::has_sane_id)
    });
    models.collect()
}

/// llama-server's `GET /props`.
pub fn llama_props(one: &mut Listed, props: &Value) {
    let settings = props.get("default_generation_settings").unwrap_or(&Value::Null);
    // What one request may have, which is less than what the model was trained for.
    one.context_tokens = tokens(settings, &["n_ctx"]).or(one.context_tokens);
    let is = |path: &str| props.pointer(path).and_then(Value::as_bool) == Some(true);
    if is("/modalities/vision") {
        one.capabilities = one.capabilities.with(Capabilities::VISION);
    }
    // Older ones do not tell; their generic way of calling tools serves every template.
    if props.get("chat_template_caps").is_none() || is("/chat_template_caps/supports_tools") {
        one.capabilities = one.capabilities.with(Capabilities::TOOLS);
    }
    one.details.template =
        text(props, "chat_template").filter(|text| text.len() <= TEMPLATE_BYTES_MAX);
    one.details.quantization =
        text(props, "model_ftype").or_else(|| one.details.quantization.take());
    one.details.build_class = text(props, "build_info");
}

/// Anthropic's `GET /v1/models`.
#[must_use]
pub fn anthropic(list: &Value) -> Vec<Listed> {
    let models = entries(list, "data").filter_map(|model| {
        let mut one = Listed::unknown(&text(model, "id")?, UpstreamKind::Anthropic);
        one.context_tokens = tokens(model, &["max_input_tokens"]);
        one.answer_tokens_max = tokens(model, &["max_tokens"]);
        match model.get("capabilities").filter(|told| told.is_object()) {
            None => one.capabilities = one.capabilities.with(Capabilities::VISION),
            Some(told) => {
                for (path, can) in [
                    ("/image_input", Capabilities::VISION),
                    ("/structured_outputs", Capabilities::CONSTRAINED),
                    ("/thinking", Capabilities::REASONING),
                ] {
                    if is_supported(told, path) {
                        one.capabilities = one.capabilities.with(can);
                    }
                }
                if is_supported(told, "/thinking/types/adaptive") {
                    one.thinking = Thinking::Adaptive;
                } else if is_supported(told, "/thinking/types/enabled") {
                    one.thinking = Thinking::Budget;
                }
            }
        }
        Some(one).filter(Listed::has_sane_id)
    });
    models.collect()
}

/// Ollama's `GET /api/tags`.
#[must_use]
pub fn ollama(tags: &Value) -> Vec<Listed> {
    let models = entries(tags, "models").filter_map(|model| {
        let id = text(model, "model").or_else(|| text(model, "name"))?;
        let mut one = Listed::unknown(&id, UpstreamKind::Ollama);
        one.aliases = id.strip_suffix(":latest").map(str::to_owned).into_iter().collect();
        one.version = text(model, "digest").unwrap_or_default();
        one.details.file_bytes = model.get("size").and_then(Value::as_u64);
        let details = model.get("details").unwrap_or(&Value::Null);
        one.details.architecture = text(details, "family");
        one.details.quantization = text(details, "quantization_level");
        Some(one).filter(Listed::has_sane_id)
    });
    models.collect()
}

/// Ollama's `POST /api/show`.
pub fn ollama_show(one: &mut Listed, show: &Value, has_logprobs: bool) {
    let names: Vec<_> = entries(show, "capabilities").filter_map(Value::as_str).collect();
    let mut can = Capabilities::NONE;
    for (name, ability) in [
        ("completion", Capabilities::GENERATE.with(Capabilities::CONSTRAINED)),
        ("tools", Capabilities::TOOLS),
        ("vision", Capabilities::VISION),
        ("thinking", Capabilities::REASONING),
        ("embedding", Capabilities::EMBED),
    ] {
        if names.contains(&name) {
            can = can.with(ability);
        }
    }
    if has_logprobs && can.contains(Capabilities::GENERATE) {
        can = can.with(Capabilities::LOGPROBS);
    }
    if can != Capabilities::NONE {
        one.capabilities = can;
    }
    let info = show.get("model_info").unwrap_or(&Value::Null);
    if let Some(architecture) = text(info, "general.architecture") {
        one.context_tokens = tokens(info, &[&format!("{architecture}.context_length")]);
        one.details.embedding_dimensions =
            tokens(info, &[&format!("{architecture}.embedding_length")]);
        one.details.architecture = Some(architecture);
    }
    one.details.parameters = info.get("general.parameter_count").and_then(Value::as_u64);
    one.details.template = text(show, "template").filter(|text| text.len() <= TEMPLATE_BYTES_MAX);
}

/// Whether an Ollama of this version (`GET /api/version`) tells how likely tokens were. Older ones
/// leave the wish unread.
#[must_use]
pub fn ollama_has_logprobs(version: &Value) -> bool {
    let text = text(version, "version").unwrap_or_default();
    let numbers: Vec<u32> =
        text.split(['.', '-', '+']).map_while(|part| part.parse().ok()).take(3).collect();
    numbers.as_slice() >= &[0, 12, 11][..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn models_of_openai_servers() {
        let list = json!({ "object": "list", "data": [
            { "id": "a", "owned_by": "vllm", "max_model_len": 4096 },
            { "id": "b.gguf", "owned_by": "llamacpp", "aliases": ["b"],
              "meta": { "n_ctx_train": 2048, "n_params": 7, "n_embd": 3, "size": 9 } },
            { "id": "openai/gpt", "context_length": 128_000 },
            { "id": "text-embedding-3", "owned_by": "system" },
            { "id": "" }, { "id": 3 }, 4,
        ]});
        let found = openai(&list, None);
        let flavors: Vec<_> = found.iter().map(|one| (one.flavor, one.context_tokens)).collect();
        assert_eq!(
            flavors,
            [
                (Flavor::Vllm, Some(4096)),
                (Flavor::LlamaServer, Some(2048)),
                (Flavor::Generic, Some(128_000)),
                (Flavor::Generic, None),
            ]
        );
        assert_eq!(found[1].aliases, ["b"]);
        assert_eq!(found[3].capabilities, Capabilities::EMBED);
        assert!(found[0].capabilities.contains(Capabilities::TOKENIZE));
        assert!(!found[2].capabilities.contains(Capabilities::TOKENIZE));
        assert_eq!(openai(&list, Some(Flavor::Sglang))[0].flavor, Flavor::Sglang);
        assert!(openai(&json!(null), None).is_empty());
    }

    #[test]
    fn properties_of_llama_server() {
        let mut one = Listed::unknown("m", UpstreamKind::OpenAi);
        llama_props(
            &mut one,
            &json!({ "default_generation_settings": { "n_ctx": 512 }, "build_info": "b1",
                "modalities": { "vision": true }, "chat_template_caps": { "supports_tools": true } }),
        );
        assert_eq!(one.context_tokens, Some(512));
        assert!(one.capabilities.contains(Capabilities::VISION.with(Capabilities::TOOLS)));
        llama_props(&mut one, &json!([]));
        assert_eq!(one.context_tokens, Some(512));
    }

    #[test]
    fn models_of_anthropic() {
        let yes = json!({ "supported": true });
        let list = json!({ "data": [
            { "id": "old", "type": "model" },
            { "id": "new", "max_input_tokens": 200_000, "max_tokens": 64_000, "capabilities": {
                "image_input": yes, "structured_outputs": yes,
                "thinking": { "supported": true, "types": { "adaptive": yes, "enabled": yes } } } },
        ]});
        let found = anthropic(&list);
        assert!(found[0].capabilities.contains(Capabilities::VISION));
        assert_eq!(found[0].thinking, Thinking::Unknown);
        assert_eq!(
            (found[1].context_tokens, found[1].answer_tokens_max),
            (Some(200_000), Some(64_000))
        );
        assert_eq!(found[1].thinking, Thinking::Adaptive);
        assert!(found[1].capabilities.contains(Capabilities::CONSTRAINED));
    }

    #[test]
    fn models_of_ollama() {
        let tags = json!({ "models": [{ "model": "q:latest", "digest": "d", "size": 5,
            "details": { "family": "qwen3", "quantization_level": "Q8_0" } }]});
        let mut found = ollama(&tags);
        assert_eq!(found[0].aliases, ["q"]);
        let show = json!({ "capabilities": ["completion", "tools", "thinking"],
            "model_info": { "general.architecture": "qwen3", "general.parameter_count": 6,
                "qwen3.context_length": 40_960, "qwen3.embedding_length": 8 }});
        ollama_show(&mut found[0], &show, true);
        assert_eq!(found[0].context_tokens, Some(40_960));
        let names: Vec<_> = found[0].capabilities.names().collect();
        assert_eq!(names, ["generate", "tools", "reasoning", "constrained", "logprobs"]);
    }

    #[test]
    fn versions_of_ollama() {
        for (version, has) in [
            ("0.12.11", true),
            ("0.13.0-rc1", true),
            ("1.0", true),
            ("0.12.10", false),
            ("0.9.0", false),
            ("", false),
            ("x", false),
        ] {
            assert_eq!(ollama_has_logprobs(&json!({ "version": version })), has, "{version}");
        }
    }
}
