//! How the vectors write values: bytes as hex, 64-bit numbers as text (JavaScript cannot hold them
//! as numbers), names and texts as they are.

use arknet_types::{
    DelegationBody, FinishReason, InferRequest, Input, OfferBody, Refusal, Reply, RequestBody,
    Sampling,
};
use serde_json::{Value, json};

pub(crate) fn delegation(body: &DelegationBody) -> Value {
    json!({
        "network": body.network,
        "wallet": hex::encode(body.wallet.0),
        "session": hex::encode(body.session.0),
        "spending_cap": body.spending_cap.0.to_string(),
        "issued_at": body.issued_at.0.to_string(),
        "expires_at": body.expires_at.0.to_string(),
        "peer_scope": body.peer_scope.map(|peer| hex::encode(peer.0)),
        "model_scope": body.model_scope,
    })
}

pub(crate) fn offer(body: &OfferBody) -> Value {
    let models = body.models.iter().map(|model| {
        json!({
            "name": model.name,
            "digest": hex::encode(model.digest.0),
            "context_tokens": model.context_tokens,
            "slots_total": model.slots_total,
            "slots_free": model.slots_free,
            "input_price": model.input_price.0.to_string(),
            "output_price": model.output_price.0.to_string(),
        })
    });
    json!({
        "network": body.network,
        "peer": hex::encode(body.peer.0),
        "sequence": body.sequence.to_string(),
        "issued_at": body.issued_at.0.to_string(),
        "expires_at": body.expires_at.0.to_string(),
        "addresses": body.addresses,
        "models": models.collect::<Vec<_>>(),
    })
}

pub(crate) fn request(body: &RequestBody) -> Value {
    json!({
        "network": body.network,
        "audience": hex::encode(body.audience.0),
        "nonce": body.nonce.to_string(),
        "sent_at": body.sent_at.0.to_string(),
        "cost_max": body.cost_max.0.to_string(),
        "delegation_digest": hex::encode(body.delegation_digest),
        "infer_digest": hex::encode(body.infer_digest),
    })
}

pub(crate) fn infer(infer: &InferRequest) -> Value {
    let input = match &infer.input {
        Input::Chat(messages) => {
            let messages = messages.iter().map(
                |message| json!({ "role": message.role.as_str(), "content": message.content }),
            );
            json!({ "chat": messages.collect::<Vec<_>>() })
        }
        Input::Text(text) => json!({ "text": text }),
    };
    json!({
        "model": infer.model,
        "input": input,
        "max_tokens": infer.max_tokens,
        "stop": infer.stop,
        "sampling": sampling(&infer.sampling),
    })
}

fn sampling(sampling: &Sampling) -> Value {
    let biases = sampling
        .logit_bias
        .iter()
        .map(|bias| json!({ "token": bias.token, "bias": float(bias.bias) }));
    json!({
        "temperature": float(sampling.temperature),
        "top_p": float(sampling.top_p),
        "top_k": sampling.top_k,
        "min_p": float(sampling.min_p),
        "presence_penalty": float(sampling.presence_penalty),
        "frequency_penalty": float(sampling.frequency_penalty),
        "repeat_penalty": float(sampling.repeat_penalty),
        "seed": sampling.seed.map(|seed| seed.to_string()),
        "logit_bias": biases.collect::<Vec<_>>(),
    })
}

/// The shortest decimal that rounds to `value`, not the long one of the nearest f64.
fn float(value: f32) -> f64 {
    value.to_string().parse().unwrap()
}

pub(crate) fn refusal(refusal: &Refusal) -> Value {
    json!({
        "code": refusal.code as u8,
        "code_name": refusal.code.as_str(),
        "detail": refusal.detail,
        "retry_after_ms": refusal.retry_after_ms,
    })
}

pub(crate) fn reply(reply: &Reply) -> Value {
    match reply {
        Reply::Text { text, tokens } => json!({ "text": { "text": text, "tokens": tokens } }),
        Reply::Alive => json!("alive"),
        Reply::Done { finish, usage } => {
            let finish = match finish {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
            };
            json!({ "done": {
                "finish": finish,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
            } })
        }
        Reply::Refused(inner) => json!({ "refused": refusal(inner) }),
    }
}
