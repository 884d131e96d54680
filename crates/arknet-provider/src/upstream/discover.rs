//! What models an upstream has, and what they can do, as far as it tells.

use std::collections::HashMap;

use arknet_types::{Capabilities, ModelName};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::ModelDetails;

use super::{
    errors,
    health::Sign,
    http::{self, Http, is_well},
    limits::{
        DESCRIPTION_BYTES_MAX, ERROR_BYTES_MAX, LOOKUPS_AT_ONCE_MAX, MODEL_ID_BYTES_MAX, MODELS_MAX,
    },
    listing::{self, Listed},
    options::{Ability, MappedModel, UpstreamOptions},
    target::{Flavor, Place, Target, UpstreamKind},
};

/// A model that is served.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: ModelName,
    pub(super) target: Target,
    pub(super) details: ModelDetails,
}

/// How one model was listed and what it was found to be, by id, so that it is asked for once.
pub(super) type Known = HashMap<String, (Listed, Listed)>;

/// Asks an upstream for its models. What is known of a model already is not asked again.
pub(super) async fn discover(
    http: &Http,
    options: &UpstreamOptions,
    known: &mut Known,
) -> Result<Vec<Found>, Sign> {
    let listed = match options.kind {
        UpstreamKind::OpenAi => openai(http, options, known).await?,
        UpstreamKind::Anthropic => {
            let list = ask(http, options, Place::AnthropicModels, None).await?;
            list.map(|list| listing::anthropic(&list))
        }
        UpstreamKind::Ollama => ollama(http, options, known).await?,
    };
    Ok(served(options, listed))
}

/// The models that are served out of those that are listed. Where there is no list, those that are
/// configured are taken to be there.
fn served(options: &UpstreamOptions, listed: Option<Vec<Listed>>) -> Vec<Found> {
    let has_list = listed.is_some();
    let listed = listed.unwrap_or_default();
    let mut found: Vec<Found> = vec![];
    for mapped in &options.models {
        let id = mapped.id();
        let one = listed.iter().find(|one| one.is_called(id)).cloned();
        let one = match one {
            Some(one) => one,
            None if has_list => continue,
            None => Listed::unknown(id, options.kind),
        };
        found.push(found_model(options, mapped.name.clone(), &one, Some(mapped)));
    }
    for one in listed.iter().filter(|one| options.takes(&one.id)) {
        let Ok(name) = ModelName::new(one.id.as_str()) else { continue };
        if found.iter().all(|other| other.name != name) && found.len() < MODELS_MAX {
            found.push(found_model(options, name, one, None));
        }
    }
    found
}

fn found_model(
    options: &UpstreamOptions,
    name: ModelName,
    listed: &Listed,
    mapped: Option<&MappedModel>,
) -> Found {
    let told = match options.kind {
        // There the context is what we ask for.
        UpstreamKind::Ollama => listed.context_tokens.map(|most| most.min(options.context_tokens)),
        _ => listed.context_tokens,
    };
    let context_tokens = mapped
        .and_then(|mapped| mapped.context_tokens)
        .or(told)
        .unwrap_or(options.context_tokens)
        .max(1);
    let abilities = mapped.and_then(|mapped| mapped.capabilities.as_deref());
    let flavor = options.flavor.unwrap_or(listed.flavor);
    Found {
        name,
        target: Target {
            id: listed.id.clone(),
            flavor,
            capabilities: abilities.map_or(listed.capabilities, capabilities),
            context_tokens,
            answer_tokens_max: listed.answer_tokens_max,
            thinking: listed.thinking,
        },
        details: listed.details.clone(),
    }
}

fn capabilities(abilities: &[Ability]) -> Capabilities {
    abilities.iter().fold(Capabilities::NONE, |all, one| {
        all.with(match one {
            Ability::Generate => Capabilities::GENERATE,
            Ability::Tools => Capabilities::TOOLS,
            Ability::Vision => Capabilities::VISION,
            Ability::Reasoning => Capabilities::REASONING,
            Ability::Constrained => Capabilities::CONSTRAINED,
            Ability::Logprobs => Capabilities::LOGPROBS,
            Ability::Embed => Capabilities::EMBED,
            Ability::Rerank => Capabilities::RERANK,
            Ability::Tokenize => Capabilities::TOKENIZE,
        })
    })
}

async fn openai(
    http: &Http,
    options: &UpstreamOptions,
    known: &mut Known,
) -> Result<Option<Vec<Listed>>, Sign> {
    let Some(list) = ask(http, options, Place::Models, None).await? else { return Ok(None) };
    let mut listed = listing::openai(&list, options.flavor);
    // One that has several loads a model when it is asked for: what they can do stands in their names.
    let [one] = &mut listed[..] else {
        for one in listed.iter_mut().filter(|one| one.flavor == Flavor::LlamaServer) {
            if one.capabilities.contains(Capabilities::GENERATE) {
                one.capabilities = one.capabilities.with(Capabilities::TOOLS);
            }
        }
        return Ok(Some(listed));
    };
    if one.flavor != Flavor::LlamaServer || !is_wanted(options, one) {
        return Ok(Some(listed));
    }
    if let Some((_, before)) = known.get(&one.id).filter(|(listed, _)| listed == one) {
        *one = before.clone();
        return Ok(Some(listed));
    }
    let as_listed = one.clone();
    if let Some(props) = ask(http, options, Place::Props, None).await? {
        listing::llama_props(one, &props);
    }
    // It does not say whether it embeds or ranks, so it is tried once. Ranking first: a server
    // that ranks makes vectors too, of one number each.
    let body = json!({ "model": one.id, "query": "a", "documents": ["a"] });
    let ranks = try_out(http, options, Place::Rerank, &body).await;
    let body = json!({ "model": one.id, "input": ["a"] });
    let embeds = match ranks {
        Some(true) => Some(false),
        _ => try_out(http, options, Place::Embeddings, &body).await,
    };
    match (ranks, embeds) {
        (Some(true), _) => {
            one.capabilities = Capabilities::RERANK.with(Capabilities::TOKENIZE);
        }
        (_, Some(true)) => one.capabilities = one.capabilities.with(Capabilities::EMBED),
        _ => {}
    }
    known.clear();
    // What was too busy to say is asked again.
    if ranks.is_some() && embeds.is_some() {
        known.insert(one.id.clone(), (as_listed, one.clone()));
    }
    Ok(Some(listed))
}

fn is_wanted(options: &UpstreamOptions, one: &Listed) -> bool {
    options.takes(&one.id) || options.models.iter().any(|mapped| one.is_called(mapped.id()))
}

async fn ollama(
    http: &Http,
    options: &UpstreamOptions,
    known: &mut Known,
) -> Result<Option<Vec<Listed>>, Sign> {
    let Some(tags) = ask(http, options, Place::OllamaTags, None).await? else { return Ok(None) };
    let version = ask(http, options, Place::OllamaVersion, None).await?.unwrap_or_default();
    let has_logprobs = listing::ollama_has_logprobs(&version);
    let listed = listing::ollama(&tags).into_iter().filter(|one| is_wanted(options, one));
    let before = &*known;
    let lookups = listed.take(MODELS_MAX).map(|mut one| async move {
        let as_listed = one.clone();
        if let Some(same) = before.get(&one.id).filter(|(listed, _)| *listed == one) {
            return Ok(same.clone());
        }
        let body = json!({ "model": one.id });
        if let Some(show) = ask(http, options, Place::OllamaShow, Some(&body)).await? {
            listing::ollama_show(&mut one, &show, has_logprobs);
        }
        Ok((as_listed, one))
    });
    let all: Vec<Result<(Listed, Listed), Sign>> =
        stream::iter(lookups).buffered(LOOKUPS_AT_ONCE_MAX).collect().await;
    let all: Vec<_> = all.into_iter().collect::<Result<_, _>>()?;
    known.clear();
    known.extend(all.iter().map(|both| (both.0.id.clone(), both.clone())));
    Ok(Some(all.into_iter().map(|(_, one)| one).collect()))
}

/// Asks for a description. None where the upstream has no such thing.
async fn ask(
    http: &Http,
    options: &UpstreamOptions,
    place: Place,
    body: Option<&Value>,
) -> Result<Option<Value>, Sign> {
    let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
    let talk = async {
        let response = http.ask(place, body).await.map_err(|_| Sign::Failed)?;
        if is_well(&response) {
            let body = http::whole(response.into_body(), DESCRIPTION_BYTES_MAX).await;
            let body = body.map_err(|_| Sign::Failed)?;
            return serde_json::from_slice(&body).map(Some).map_err(|_| Sign::Failed);
        }
        let status = response.status().as_u16();
        let body = http::beginning(response.into_body(), ERROR_BYTES_MAX).await;
        match (status, errors::refusal(place, status, None, &body).sign) {
            (404 | 405 | 501, _) => Ok(None),
            (_, Some(sign)) => Err(sign),
            // Loading a model, or too busy to say: not well, whatever it means to a request.
            (_, None) => Err(Sign::Failed),
        }
    };
    let time = std::time::Duration::from_secs(options.timeouts.health_s);
    timeout(time, talk).await.unwrap_or(Err(Sign::Failed))
}

/// Whether it can do this; none where it does not say.
async fn try_out(
    http: &Http,
    options: &UpstreamOptions,
    place: Place,
    body: &Value,
) -> Option<bool> {
    let time = std::time::Duration::from_secs(options.timeouts.health_s);
    let asked = timeout(time, http.ask(place, Bytes::from(body.to_string()))).await;
    let response = asked.ok()?.ok()?;
    let is_busy = matches!(response.status().as_u16(), 408 | 429 | 503 | 529);
    (!is_busy).then(|| is_well(&response))
}

impl Listed {
    fn is_called(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }

    pub(super) fn has_sane_id(&self) -> bool {
        (1..=MODEL_ID_BYTES_MAX).contains(&self.id.len())
    }
}
