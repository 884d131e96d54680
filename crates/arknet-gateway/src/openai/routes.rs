use axum::{
    extract::{FromRequestParts, Path},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;

use super::{
    Answered, Asked, Endpoint, Head, chat, chunks::Chunks, completion, model_json, models_json,
};
use crate::{
    ApiError, Ask,
    desk::{Call, Routes, json, route, unix_seconds},
    dialect::Dialect,
};

/// The routes of OpenAI's API.
pub(crate) fn routes() -> Routes {
    Routes::new()
        .route("/v1/chat/completions", post(route(Dialect::OpenAi, "chat", answer_chat)))
        .route("/v1/completions", post(route(Dialect::OpenAi, "completion", answer_completion)))
        .route("/v1/models", get(route(Dialect::OpenAi, "models", list_models)))
        .route("/v1/models/{*id}", get(route(Dialect::OpenAi, "model", show_model)))
}

async fn answer_chat(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let asked = chat(&body)?;
    drop(body);
    answer(call, asked, Endpoint::Chat).await
}

async fn answer_completion(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let asked = completion(&body)?;
    drop(body);
    answer(call, asked, Endpoint::Completion).await
}

async fn answer(call: Call, asked: Asked, endpoint: Endpoint) -> Result<Response, ApiError> {
    let Asked { request, stream, include_usage } = asked;
    let head = Head {
        endpoint,
        id: Head::id(endpoint, &call.id.to_string()),
        created: unix_seconds(),
        model: request.model.clone(),
    };
    let ask = Ask { infer: request, keep_alive: None };
    if stream {
        return call.stream(vec![ask], Box::new(Chunks { head, include_usage })).await;
    }
    let whole = call.gather(ask).await?;
    let answered = Answered { text: &whole.text, finish: whole.finish, usage: whole.usage };
    Ok(json(head.answer_json(&answered)))
}

async fn list_models(call: Call, _: Bytes) -> Result<Response, ApiError> {
    Ok(json(models_json(&call.models(), call.desk.opened)))
}

async fn show_model(mut call: Call, _: Bytes) -> Result<Response, ApiError> {
    let Path(id) = Path::<String>::from_request_parts(&mut call.parts, &())
        .await
        .map_err(|_| ApiError::unknown_model(""))?;
    let models = call.models();
    let found = models.iter().find(|model| model.name.as_str() == id);
    found
        .map(|model| json(model_json(model, call.desk.opened)))
        .ok_or_else(|| ApiError::unknown_model(&id))
}
