use std::{sync::Arc, time::Instant};

use arknet_types::{Capabilities, FinishReason, InferRequest, Input, Message, ModelName};
use axum::{
    extract::{FromRequestParts, Path},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;

use super::{
    Asked, EmbeddingsAsked, Endpoint, Head, RerankAsked, ResponseAsked, chat,
    chunks::Chunks,
    completion, detokenize, embeddings, embeddings_json, model_json, models_json, rerank,
    rerank_json,
    responses::{
        Events, Frame, Item, Keep, Kept, Status, deleted_json, input_tokens_json, response_after,
    },
    text_json, tokenize, tokens_json,
};
use crate::{
    ApiError, Ask, ListedModel, anthropic,
    desk::{Call, Routes, json, route, unix_seconds},
    dialect::Dialect,
};

/// The routes of OpenAI's API, and those that other servers put beside it.
pub(crate) fn routes() -> Routes {
    let ranks = || post(route(Dialect::OpenAi, "rerank", rank));
    Routes::new()
        .route("/v1/chat/completions", post(route(Dialect::OpenAi, "chat", answer_chat)))
        .route("/v1/completions", post(route(Dialect::OpenAi, "completion", answer_completion)))
        .route("/v1/responses", post(route(Dialect::OpenAi, "responses", respond)))
        .route("/v1/responses/input_tokens", post(route(Dialect::OpenAi, "count", count)))
        .route(
            "/v1/responses/{id}",
            get(route(Dialect::OpenAi, "response", show_response)).delete(route(
                Dialect::OpenAi,
                "delete_response",
                delete_response,
            )),
        )
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

async fn respond(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let mut asked = response_after(&body, &|id| recall(&call, id))?;
    drop(body);
    check_pictures(&call, &asked)?;
    let owner = call.owner();
    let before = before(&call, &asked)?;
    asked.after(&before)?;
    let number = format!("{}{owner:016x}", call.id);
    let frame = Frame::new(number, unix_seconds(), &asked);
    let keep = asked.store.then(|| keep(&call, owner, &frame, &asked));
    let stream = asked.stream;
    let ask = Ask::new(asked.request);
    if stream {
        let held_max = call.desk.limits.answer_bytes_max;
        return call.stream(vec![ask], Box::new(Events::new(frame, held_max, keep))).await;
    }
    let whole = call.gather(ask).await?;
    let status = match whole.finish {
        FinishReason::Length => Status::Incomplete(whole.usage),
        _ => Status::Completed(whole.usage),
    };
    let items = Item::of(whole);
    let mut out = Vec::with_capacity(2048);
    frame.write(&mut out, &items, status);
    if let Some(keep) = keep {
        keep(&items, out.clone());
    }
    Ok(json(out))
}

/// Refuses pictures for a model that takes none by the place of the first. Codex leaves them out then,
/// and goes on; they would come again with every turn.
fn check_pictures(call: &Call, asked: &ResponseAsked) -> Result<(), ApiError> {
    let Some(place) = &asked.picture else {
        return Ok(());
    };
    let name = &asked.request.model;
    let models = call.models();
    let mut of_name = models.iter().filter(|model| model.name == *name).peekable();
    let looks = |model: &ListedModel| model.capabilities.contains(Capabilities::VISION);
    if of_name.peek().is_none() || of_name.any(looks) {
        return Ok(());
    }
    let words = format!("The model `{name}` takes no pictures.");
    Err(ApiError::parameter(place.clone(), words).code("invalid_value"))
}

/// An item of an earlier answer, by its id: its kind, the answer's number and its place in that.
fn recall(call: &Call, id: &str) -> Option<Item> {
    let (kind, rest) = id.split_once('_')?;
    let (number, place) = rest.split_at_checked(rest.len().checked_sub(2)?)?;
    let place = usize::from_str_radix(place, 16).ok()?;
    let answer = format!("resp_{number}");
    let kept = call.desk.shelf.find(Instant::now(), call.owner(), &answer)?;
    kept.items.get(place).filter(|item| item.kind() == kind).cloned()
}

/// What was said before.
fn before(call: &Call, asked: &ResponseAsked) -> Result<Arc<[Message]>, ApiError> {
    let Some(id) = &asked.previous else {
        return Ok(Arc::from([]));
    };
    let kept = call.desk.shelf.find(Instant::now(), call.owner(), id);
    let error = || ApiError {
        status: StatusCode::BAD_REQUEST,
        ..no_response(id).about("previous_response_id").code("previous_response_not_found")
    };
    kept.map(|kept| kept.messages).ok_or_else(error)
}

fn no_response(id: &str) -> ApiError {
    let message = format!(
        "Response with id '{id}' not found. Answers are kept in the memory of the node that gave \
         them, for a while, and only for the key they were given to."
    );
    ApiError::invalid(StatusCode::NOT_FOUND, message).code("response_not_found")
}

/// Puts an answer on the shelf once it is complete.
fn keep(call: &Call, owner: u64, frame: &Frame, asked: &ResponseAsked) -> Keep {
    let (shelf, id) = (Arc::clone(&call.desk.shelf), frame.id());
    let mut messages = match &asked.request.input {
        Input::Chat(chat) => chat.messages.clone(),
        _ => vec![],
    };
    asked.forget_instructions(&mut messages);
    Box::new(move |items, json| {
        messages.push(Item::message(items));
        // How likely its tokens were is in the text that is kept, and of no use to a model.
        let bare = items.iter().map(|item| match item {
            Item::Said(text, _) => Item::Said(text.clone(), vec![]),
            other => other.clone(),
        });
        let kept = Kept { messages: messages.into(), items: bare.collect(), json: json.into() };
        shelf.put(Instant::now(), owner, id, kept);
    })
}

async fn count(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let mut asked = response_after(&body, &|id| recall(&call, id))?;
    let before = before(&call, &asked)?;
    asked.after(&before)?;
    let InferRequest { model, input, .. } = asked.request;
    let Input::Chat(chat) = input else {
        return Err(ApiError::missing("input"));
    };
    let whole = call.gather(Ask::new(InferRequest::new(model, Input::Count(chat)))).await?;
    Ok(json(input_tokens_json(whole.usage)))
}

async fn show_response(mut call: Call, _: Bytes) -> Result<Response, ApiError> {
    let id = tail(&mut call).await.unwrap_or_default();
    let kept = call.desk.shelf.find(Instant::now(), call.owner(), &id);
    kept.map(|kept| json(kept.json.into())).ok_or_else(|| no_response(&id))
}

async fn delete_response(mut call: Call, _: Bytes) -> Result<Response, ApiError> {
    let id = tail(&mut call).await.unwrap_or_default();
    if call.desk.shelf.forget(Instant::now(), call.owner(), &id) {
        Ok(json(deleted_json(&id)))
    } else {
        Err(no_response(&id))
    }
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
