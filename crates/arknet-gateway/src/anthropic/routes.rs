use arknet_types::ModelName;
use axum::{response::Response, routing::post};
use bytes::Bytes;

use super::{
    Head,
    answer::{Events, count_json},
    count_tokens,
    error::explain,
    messages,
};
use crate::{
    ApiError,
    desk::{Call, Routes, json, route},
    dialect::Dialect,
};

/// The routes of Anthropic's API.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .route("/v1/messages", post(route(Dialect::Anthropic, "messages", answer)))
        .route("/v1/messages/count_tokens", post(route(Dialect::Anthropic, "count_tokens", count)))
}

async fn answer(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let asked = messages(&body)?;
    drop(body);
    let model = asked.ask.infer.model.clone();
    let head = Head {
        id: format!("msg_{}", call.id),
        model: model.to_string(),
        stop: asked.ask.infer.stop.clone(),
        thoughts: asked.thoughts,
    };
    let answered = if asked.stream {
        call.stream(vec![asked.ask], Box::new(Events::new(head))).await
    } else {
        call.gather(asked.ask).await.map(|gathered| json(head.message_json(&gathered)))
    };
    answered.map_err(|error| in_words(&call, error, &model))
}

async fn count(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let ask = count_tokens(&body)?;
    let model = ask.infer.model.clone();
    match call.gather(ask).await {
        Ok(gathered) => Ok(json(count_json(gathered.usage))),
        Err(error) => Err(in_words(&call, error, &model)),
    }
}

fn in_words(call: &Call, error: ApiError, model: &ModelName) -> ApiError {
    let is_unknown = error.stable_code() == Some("model_not_found");
    let models = if is_unknown { call.models() } else { vec![] };
    let models: Vec<_> = models.into_iter().map(|model| model.name).collect();
    explain(error, model.as_str(), &models)
}
