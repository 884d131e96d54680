use std::time::Duration;

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::{ListedModel, rfc3339::rfc3339};

/// Whether a request to a path that several APIs share is one of Anthropic's clients.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version")
}

/// The body of `GET /v1/models`. `opened`: what is said of models whose age nobody knows.
#[must_use]
pub fn models_json(models: &[ListedModel], opened: u64) -> Vec<u8> {
    let data: Vec<_> = models.iter().map(|model| entry(model, opened)).collect();
    let list = json!({
        "data": data,
        "has_more": false,
        "first_id": models.first().map(|model| &model.name),
        "last_id": models.last().map(|model| &model.name),
    });
    list.to_string().into_bytes()
}

/// The body of `GET /v1/models/{id}`.
#[must_use]
pub fn model_json(model: &ListedModel, opened: u64) -> Vec<u8> {
    entry(model, opened).to_string().into_bytes()
}

fn entry(model: &ListedModel, opened: u64) -> Value {
    let added = Duration::from_secs(model.about.added_unix_s.unwrap_or(opened));
    json!({
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": rfc3339(added),
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.context_tokens,
    })
}
