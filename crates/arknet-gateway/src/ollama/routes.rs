use std::{
    future::{Ready, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arknet_types::ModelName;
use axum::{
    http::StatusCode,
    response::Response,
    routing::{any, get, post},
};
use bytes::Bytes;

use super::{
    Asked, Embed, Named, Task,
    answer::{Endpoint, Head, Lines},
    catalog::{embed_json, embedding_json, find, ps_json, show_json, tags_json, version_json},
    chat, embed, embeddings,
    error::{in_words, unknown_model},
    generate,
    moment::Watch,
    named, pull, truncate,
};
use crate::{
    ApiError, Gathered, KeepAlive,
    desk::{Call, Routes, json, route},
    dialect::Dialect,
};

/// The routes of Ollama's API.
pub(crate) fn routes() -> Routes {
    let ollama = Dialect::Ollama;
    let mut routes = Routes::new()
        .route("/", get(|| async { "Ollama is running" }))
        .route("/api/chat", post(route(ollama, "chat", answer_chat)))
        .route("/api/generate", post(route(ollama, "generate", answer_prompt)))
        .route("/api/embed", post(route(ollama, "embed", answer_embed)))
        .route("/api/embeddings", post(route(ollama, "embeddings", answer_embeddings)))
        .route("/api/tags", get(route(ollama, "tags", tags)))
        .route("/api/show", post(route(ollama, "show", show)))
        .route("/api/ps", get(route(ollama, "ps", ps)))
        .route("/api/version", get(route(ollama, "version", version)))
        .route("/api/pull", post(route(ollama, "pull", answer_pull)));
    for path in ["/api/copy", "/api/create", "/api/delete", "/api/push", "/api/blobs/{digest}"] {
        routes = routes.route(path, any(route(ollama, "not_here", not_here)));
    }
    routes
}

async fn answer_chat(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let asked = chat(&body)?;
    drop(body);
    answer(call, asked, Endpoint::Chat, watch).await
}

async fn answer_prompt(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let asked = generate(&body)?;
    drop(body);
    answer(call, asked, Endpoint::Generate, watch).await
}

async fn answer(
    call: Call,
    asked: Asked,
    endpoint: Endpoint,
    watch: Watch,
) -> Result<Response, ApiError> {
    let stream = asked.stream;
    match asked.task {
        Task::Keep(name, keep) => {
            keep_model(&call, &name, keep).await?;
            let head = Head { endpoint, model: name.to_string(), watch };
            let reason = if keep == KeepAlive::None { "unload" } else { "load" };
            Ok(json(head.kept_json(reason)))
        }
        Task::Infer(mut ask) => {
            let name = ask.infer.model.clone();
            ask.infer.model = resolve(&call, &name);
            let head = Head { endpoint, model: name.to_string(), watch };
            let answered = if stream {
                call.stream(vec![*ask], Box::new(Lines::new(head))).await
            } else {
                let gathered = call.gather(*ask).await;
                gathered.map(|gathered| {
                    let first = call
                        .first_piece()
                        .map_or_else(Duration::default, |at| head.watch.until(at));
                    json(head.whole_json(&gathered, first))
                })
            };
            answered.map_err(|error| in_words(error, name.as_str()))
        }
    }
}

async fn answer_embed(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let watch = Watch::start();
    let Embed { task, dimensions, truncate } = embed(&body)?;
    let name = model_of(&task).clone();
    let gathered = vectors(&call, task, truncate).await?;
    Ok(json(embed_json(&name, gathered.as_ref(), dimensions, &watch)))
}

async fn answer_embeddings(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let Embed { task, truncate, .. } = embeddings(&body)?;
    let gathered = vectors(&call, task, truncate).await?;
    Ok(json(embedding_json(gathered.as_ref())))
}

/// None where there was nothing to embed.
async fn vectors(call: &Call, task: Task, truncate: bool) -> Result<Option<Gathered>, ApiError> {
    match task {
        Task::Keep(name, keep) => {
            keep_model(call, &name, keep).await?;
            Ok(None)
        }
        Task::Infer(mut ask) => {
            let name = ask.infer.model.clone();
            ask.infer.model = resolve(call, &name);
            let again = truncate.then(|| ask.clone());
            let mut gathered = call.gather(*ask).await;
            if let Err(error) = &gathered
                && error.stable_code() == Some("context_length_exceeded")
                && let Some(ask) = again
            {
                gathered = call.gather(truncate::cut(call, *ask).await?).await;
            }
            gathered.map(Some).map_err(|error| in_words(error, name.as_str()))
        }
    }
}

async fn keep_model(call: &Call, name: &ModelName, keep: KeepAlive) -> Result<(), ApiError> {
    let model = resolve(call, name);
    call.allow(&model)?;
    let kept = call.desk.dispatch.keep(model, keep).await;
    kept.map_err(|refusal| in_words(ApiError::from_refusal(refusal), name.as_str()))
}

fn tags(call: Call, _: Bytes) -> Ready<Result<Response, ApiError>> {
    ready(Ok(json(tags_json(&call.models(), call.desk.opened))))
}

fn show(call: Call, body: Bytes) -> Ready<Result<Response, ApiError>> {
    ready(named(&body).and_then(|Named { name, .. }| {
        let models = call.models();
        let model = find(&models, &name).ok_or_else(|| unknown_model(&name))?;
        Ok(json(show_json(model, call.desk.opened)))
    }))
}

fn ps(call: Call, _: Bytes) -> Ready<Result<Response, ApiError>> {
    let models = call.models();
    let mut loaded = call.desk.dispatch.loaded();
    loaded.retain(|one| call.allow(&one.name).is_ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    ready(Ok(json(ps_json(&loaded, &models, now))))
}

fn version(_: Call, _: Bytes) -> Ready<Result<Response, ApiError>> {
    ready(Ok(json(version_json())))
}

async fn answer_pull(call: Call, body: Bytes) -> Result<Response, ApiError> {
    let asked = named(&body)?;
    let models = call.models();
    let wanted = match find(&models, &asked.name) {
        Some(model) => model.name.to_string(),
        None => asked.name.strip_suffix(":latest").unwrap_or(&asked.name).to_owned(),
    };
    match ModelName::new(wanted.as_str()) {
        Ok(name) => call.allow(&name)?,
        // An address that is too long for a name is no model that a key could be for.
        Err(_) => call.allow_all()?,
    }
    let steps = call.desk.dispatch.pull(wanted);
    if asked.stream {
        return Ok(pull::stream(steps, asked.name));
    }
    pull::whole(steps, &asked.name).await
}

fn not_here(_: Call, _: Bytes) -> Ready<Result<Response, ApiError>> {
    ready(Err(ApiError::invalid(
        StatusCode::NOT_IMPLEMENTED,
        "this node does not make, copy, push or delete models over this API: use the arknet command",
    )))
}

/// The name under which a model is known here; the one that came where it is not.
fn resolve(call: &Call, name: &ModelName) -> ModelName {
    find(&call.models(), name.as_str()).map_or_else(|| name.clone(), |model| model.name.clone())
}

const fn model_of(task: &Task) -> &ModelName {
    match task {
        Task::Infer(ask) => &ask.infer.model,
        Task::Keep(name, _) => name,
    }
}
