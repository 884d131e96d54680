//! What is told about models.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use arknet_types::{Capabilities, ModelName, Usage};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::moment::{Watch, nanos};
use crate::{Gathered, ListedModel, LoadedModel, rfc3339::rfc3339};

/// The release of Ollama whose API this door follows. Clients compare it with what they need.
const VERSION: &str = "0.13.5";

/// What Ollama says instead of "for ever": the longest time its clock can count.
const FOREVER: Duration = Duration::from_secs(9_223_372_036);

/// The model of this name. `name` and `name:latest` are the same.
pub(super) fn find<'a>(models: &'a [ListedModel], name: &str) -> Option<&'a ListedModel> {
    let bare = |name: &'_ str| -> String { name.strip_suffix(":latest").unwrap_or(name).into() };
    let wanted = bare(name);
    let exact = models.iter().find(|model| model.name.as_str() == name);
    exact.or_else(|| models.iter().find(|model| bare(model.name.as_str()) == wanted))
}

/// The body of `GET /api/version`.
pub(super) fn version_json() -> Vec<u8> {
    let ours = env!("CARGO_PKG_VERSION");
    format!(r#"{{"version":"{VERSION}","arknet":"{ours}"}}"#).into_bytes()
}

/// The body of `GET /api/tags`. `opened`: what is said of models whose age nobody knows.
pub(super) fn tags_json(models: &[ListedModel], opened: u64) -> Vec<u8> {
    let models: Vec<_> = models
        .iter()
        .map(|model| {
            json!({
                "name": model.name,
                "model": model.name,
                "modified_at": modified_at(model, opened),
                "size": model.about.file_bytes.unwrap_or_default(),
                "digest": digest(model),
                "details": details(model),
            })
        })
        .collect();
    bytes(&json!({ "models": models }))
}

/// The body of an answer to `POST /api/show`.
pub(super) fn show_json(model: &ListedModel, opened: u64) -> Vec<u8> {
    let about = &model.about;
    let architecture = about.architecture.as_deref().unwrap_or("unknown");
    let mut info = Map::new();
    info.insert("general.architecture".into(), architecture.into());
    if let Some(parameters) = about.parameters {
        info.insert("general.parameter_count".into(), parameters.into());
    }
    info.insert(format!("{architecture}.context_length"), model.context_tokens.into());
    if let Some(dimensions) = about.embedding_dimensions {
        info.insert(format!("{architecture}.embedding_length"), dimensions.into());
    }
    bytes(&json!({
        "modelfile": format!("FROM {}\n", model.name),
        "parameters": "",
        "template": about.template.as_deref().unwrap_or_default(),
        "license": "",
        "details": details(model),
        "model_info": info,
        "capabilities": capabilities(model.capabilities),
        "modified_at": modified_at(model, opened),
    }))
}

/// The body of `GET /api/ps`.
pub(super) fn ps_json(loaded: &[LoadedModel], models: &[ListedModel], now: Duration) -> Vec<u8> {
    let models: Vec<_> = loaded
        .iter()
        .map(|one| {
            let model = models.iter().find(|model| model.name == one.name);
            let expires = one.expires_unix_s.map_or(now + FOREVER, Duration::from_secs);
            json!({
                "name": one.name,
                "model": one.name,
                "size": one.memory_bytes,
                "digest": model.map(digest).unwrap_or_default(),
                "details": model.map(details),
                "expires_at": rfc3339(expires),
                "size_vram": one.gpu_memory_bytes,
                "context_length": model.map_or(0, |model| model.context_tokens),
            })
        })
        .collect();
    bytes(&json!({ "models": models }))
}

/// The body of an answer to `POST /api/embed`.
pub(super) fn embed_json(
    model: &ModelName,
    gathered: Option<&Gathered>,
    dimensions: Option<usize>,
    watch: &Watch,
) -> Vec<u8> {
    let vectors = gathered.map_or(&[][..], |gathered| &gathered.embeddings);
    let usage = gathered.map_or_else(Usage::default, |gathered| gathered.usage);
    let body = Embedded {
        model: model.as_str(),
        embeddings: vectors.iter().map(|vector| shortened(vector, dimensions)).collect(),
        total_duration: nanos(watch.elapsed()),
        load_duration: 0,
        prompt_eval_count: usage.prompt_tokens,
    };
    bytes(&body)
}

/// The body of an answer to `POST /api/embeddings`.
pub(super) fn embedding_json(gathered: Option<&Gathered>) -> Vec<u8> {
    let vector = gathered.and_then(|gathered| gathered.embeddings.first());
    bytes(&Embedding { embedding: vector.map_or(&[][..], Vec::as_slice) })
}

/// The first numbers of a vector, made a vector of length one again.
fn shortened(vector: &[f32], dimensions: Option<usize>) -> Vec<f32> {
    let Some(dimensions) = dimensions.filter(|dimensions| *dimensions < vector.len()) else {
        return vector.to_vec();
    };
    let head = &vector[..dimensions];
    let length = head.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 { head.iter().map(|x| x / length).collect() } else { head.to_vec() }
}

fn modified_at(model: &ListedModel, opened: u64) -> String {
    rfc3339(Duration::from_secs(model.about.added_unix_s.unwrap_or(opened)))
}

/// In hexadecimal, without the name of the hash.
fn digest(model: &ListedModel) -> String {
    if let Some(digest) = model.digest {
        return digest.to_string().trim_start_matches("sha256:").to_owned();
    }
    // Nobody knows the file of a hosted model. Ollama's own client cuts the first letters off without
    // looking whether they are there, so its name has to do.
    let quarter = |nth: u8| {
        let mut hasher = DefaultHasher::new();
        (nth, model.name.as_str()).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    };
    (0..4).map(quarter).collect()
}

fn details(model: &ListedModel) -> Value {
    let about = &model.about;
    let family = about.architecture.as_deref().unwrap_or_default();
    let families: Vec<_> = about.architecture.iter().collect();
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": families,
        "parameter_size": about.parameters.map(people_write).unwrap_or_default(),
        "quantization_level": about.quantization.as_deref().unwrap_or_default(),
    })
}

fn capabilities(can: Capabilities) -> Vec<&'static str> {
    let names = [
        (Capabilities::GENERATE, "completion"),
        (Capabilities::TOOLS, "tools"),
        (Capabilities::VISION, "vision"),
        (Capabilities::REASONING, "thinking"),
        (Capabilities::EMBED, "embedding"),
    ];
    names.into_iter().filter(|(one, _)| can.contains(*one)).map(|(_, name)| name).collect()
}

/// `751.63M`, `8.0B`.
fn people_write(number: u64) -> String {
    let number_ = number as f64;
    match number {
        1_000_000_000.. => format!("{:.1}B", number_ / 1e9),
        1_000_000.. => format!("{:.2}M", number_ / 1e6),
        1_000.. => format!("{:.1}K", number_ / 1e3),
        _ => number.to_string(),
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers are always JSON")
}

#[derive(Serialize)]
struct Embedded<'a> {
    model: &'a str,
    embeddings: Vec<Vec<f32>>,
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: u32,
}

#[derive(Serialize)]
struct Embedding<'a> {
    embedding: &'a [f32],
}
