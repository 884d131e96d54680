use arknet_types::Input;
use axum::{
    extract::{FromRequestParts, Path},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;

use super::{Asked, Endpoint, Head, chat, chunks::Chunks, completion, model_json, models_json};
use crate::{
    ApiError, anthropic,
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
    let (stream, include_usage, echo) = (asked.stream, asked.include_usage, asked.echo);
    let echoed = |input: &Input| match input {
        Input::Text(text) if echo => Some(text.clone()),
        _ => None,
    };
    let first = asked.requests.first().ok_or_else(|| ApiError::missing("prompt"))?;
    let with_logprobs = first.logprobs.is_some();
    let head = Head {
        endpoint,
        id: Head::id(endpoint, &call.id.to_string()),
        created: unix_seconds(),
        model: first.model.clone(),
        n: asked.n as usize,
        echo: asked.requests.iter().filter_map(|request| echoed(&request.input)).collect(),
    };
    let mut asks = asked.asks();
    if stream {
        let chunks = Chunks::new(head, asks.len(), include_usage);
        return call.stream(asks, Box::new(chunks)).await;
    }
    let answers = match (asks.pop(), asks.is_empty()) {
        (Some(ask), true) => vec![call.gather(ask).await?],
        (Some(ask), false) => {
            asks.push(ask);
            call.gather_all(asks).await?
        }
        (None, _) => vec![],
    };
    Ok(json(head.answer_json(&answers, with_logprobs)))
}

async fn list_models(call: Call, _: Bytes) -> Result<Response, ApiError> {
    let (models, opened) = (call.models(), call.desk.opened);
    if anthropic::is_asked(&call.parts.headers) {
        return Ok(json(anthropic::models_json(&models, opened)));
    }
    Ok(json(models_json(&models, opened)))
}

async fn show_model(mut call: Call, _: Bytes) -> Result<Response, ApiError> {
    let id = tail(&mut call).await.ok_or_else(|| ApiError::unknown_model(""))?;
    let models = call.models();
    let found = models.iter().find(|model| model.name.as_str() == id);
    found
        .map(|model| match call.desk.opened {
            opened if anthropic::is_asked(&call.parts.headers) => {
                json(anthropic::model_json(model, opened))
            }
            opened => json(model_json(model, opened)),
        })
        .ok_or_else(|| ApiError::unknown_model(&id))
}

/// What the path ends in, where it can be read.
async fn tail(call: &mut Call) -> Option<String> {
    let path = Path::<String>::from_request_parts(&mut call.parts, &()).await;
    path.ok().map(|Path(id)| id)
}
