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

/// What one model was found to be, by id, so that it is asked for once.
pub(super) type Known = HashMap<String, Listed>;

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
    if let Some(listed) = &listed {
        known.clear();
        known.extend(listed.iter().map(|one| (one.id.clone(), one.clone())));
    }
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
    known: &Known,
) -> Result<Option<Vec<Listed>>, Sign> {
    let Some(list) = ask(http, options, Place::Models, None).await? else { return Ok(None) };
    let mut listed = listing::openai(&list, options.flavor);
    for one in &mut listed {
        if one.flavor != Flavor::LlamaServer {
            continue;
        }
        if let Some(before) = known.get(&one.id).filter(|before| before.flavor == one.flavor) {
            *one = before.clone();
            continue;
        }
        if let Some(props) = ask(http, options, Place::Props, None).await? {
            listing::llama_props(one, &props);
        }
        // It does not say whether it embeds or ranks, so it is tried once. Ranking first: a server
        // that ranks makes vectors too, of one number each.
        let body = json!({ "model": one.id, "query": "a", "documents": ["a"] });
        if try_out(http, options, Place::Rerank, &body).await {
            one.capabilities = Capabilities::RERANK.with(Capabilities::TOKENIZE);
            continue;
        }
        let body = json!({ "model": one.id, "input": ["a"] });
        if try_out(http, options, Place::Embeddings, &body).await {
            one.capabilities = one.capabilities.with(Capabilities::EMBED);
        }
    }
    Ok(Some(listed))
}

async fn ollama(
    http: &Http,
    options: &UpstreamOptions,
    known: &Known,
) -> Result<Option<Vec<Listed>>, Sign> {
    let Some(tags) = ask(http, options, Place::OllamaTags, None).await? else { return Ok(None) };
    let version = ask(http, options, Place::OllamaVersion, None).await?.unwrap_or_default();
    let has_logprobs = listing::ollama_has_logprobs(&version);
    let wanted = |one: &Listed| {
        options.takes(&one.id) || options.models.iter().any(|mapped| one.is_called(mapped.id()))
    };
    let listed = listing::ollama(&tags);
    let lookups = listed.into_iter().filter(wanted).take(MODELS_MAX).map(|mut one| async move {
        let before = known.get(&one.id).filter(|before| before.version == one.version);
        if let Some(before) = before {
            return Ok(before.clone());
        }
        let body = json!({ "model": one.id });
        if let Some(show) = ask(http, options, Place::OllamaShow, Some(&body)).await? {
            listing::ollama_show(&mut one, &show, has_logprobs);
        }
        Ok(one)
    });
    let all: Vec<Result<Listed, Sign>> =
        stream::iter(lookups).buffered(LOOKUPS_AT_ONCE_MAX).collect().await;
    Ok(Some(all.into_iter().collect::<Result<_, _>>()?))
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

async fn try_out(http: &Http, options: &UpstreamOptions, place: Place, body: &Value) -> bool {
    matches!(ask(http, options, place, Some(body)).await, Ok(Some(_)))
}

impl Listed {
    fn is_called(&self, id: &str) -> bool {
        self.id == id || self.aliases.iter().any(|alias| alias == id)
    }

    pub(super) fn has_sane_id(&self) -> bool {
        (1..=MODEL_ID_BYTES_MAX).contains(&self.id.len())
    }
}
