use arknet_types::{Capabilities, Input, ModelName};
use axum::{
    extract::{FromRequestParts, Path},
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;

use super::{
    Asked, EmbeddingsAsked, Endpoint, Head, RerankAsked, chat, chunks::Chunks, completion,
    detokenize, embeddings, embeddings_json, model_json, models_json, rerank, rerank_json,
    text_json, tokenize, tokens_json,
};
use crate::{
    ApiError, Ask, anthropic,
    desk::{Call, Routes, json, route, unix_seconds},
    dialect::Dialect,
};

/// The routes of OpenAI's API, and those that other servers put beside it.
pub(crate) fn routes() -> Routes {
    let ranks = || post(route(Dialect::OpenAi, "rerank", rank));
    Routes::new()
        .route("/v1/chat/completions", post(route(Dialect::OpenAi, "chat", answer_chat)))
        .route("/v1/completions", post(route(Dialect::OpenAi, "completion", answer_completion)))
        .route("/v1/embeddings", post(route(Dialect::OpenAi, "embeddings", embed)))
        .route("/v1/rerank", ranks())
        .route("/v1/reranking", ranks())
        .route("/v2/rerank", ranks())
        .route("/rerank", ranks())
        .route("/reranking", ranks())
        .route("/tokenize", post(route(Dialect::OpenAi, "tokenize", split)))
        .route("/detokenize", post(route(Dialect::OpenAi, "detokenize", join)))
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

async fn embed(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let EmbeddingsAsked { request, base64, dimensions } = embeddings(&body)?;
    drop(body);
    let model = request.model.clone();
    let whole = call.gather(Ask::new(request)).await?;
    embeddings_json(&model, whole, base64, dimensions).map(json)
}

async fn rank(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let RerankAsked { request, top_n, return_documents } = rerank(&body)?;
    drop(body);
    let model = request.model.clone();
    let documents = match &request.input {
        Input::Rerank { documents, .. } if return_documents => documents.clone(),
        _ => vec![],
    };
    let whole = call.gather(Ask::new(request)).await?;
    Ok(json(rerank_json(&call.id.to_string(), &model, &whole, top_n, &documents)))
}

async fn split(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let request = tokenize(&body, only(&call).as_ref())?;
    let whole = call.gather(Ask::new(request)).await?;
    Ok(json(tokens_json(&whole.tokens)))
}

async fn join(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let request = detokenize(&body, only(&call).as_ref())?;
    let whole = call.gather(Ask::new(request)).await?;
    Ok(json(text_json(&whole.text)))
}

/// The only model that knows tokens, for clients of servers that have one model.
fn only(call: &Call) -> Option<ModelName> {
    let mut models = call.models();
    models.retain(|model| model.capabilities.contains(Capabilities::TOKENIZE));
    let model = models.pop()?;
    models.is_empty().then_some(model.name)
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
