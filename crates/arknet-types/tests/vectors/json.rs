//! How the vectors write values: bytes as hex, 64-bit numbers as text (JavaScript cannot hold them
//! as numbers), names and texts as they are.

use arknet_types::{
    Chat, DelegationBody, FinishReason, Format, InferRequest, Input, Message, OfferBody, Part,
    Profile, Reasoning, Refusal, Reply, RequestBody, Sampling, Tool, ToolChoice,
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
            "digest": model.digest.map(|digest| hex::encode(digest.0)),
            "projector": model.projector.map(|digest| hex::encode(digest.0)),
            "capabilities": model.capabilities.names().collect::<Vec<_>>(),
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
    json!({
        "model": infer.model,
        "input": input(&infer.input),
        "max_tokens": infer.max_tokens,
        "stop": infer.stop,
        "sampling": sampling(&infer.sampling),
        "format": format(&infer.format),
        "logprobs": infer.logprobs,
        "profile": match infer.profile {
            Profile::Default => "default",
            Profile::Exact => "exact",
        },
    })
}

fn input(input: &Input) -> Value {
    match input {
        Input::Chat(inner) => json!({ "chat": chat(inner) }),
        Input::Text(text) => json!({ "text": text }),
        Input::Embed(texts) => json!({ "embed": texts }),
        Input::Rerank { query, documents } => {
            json!({ "rerank": { "query": query, "documents": documents } })
        }
        Input::Tokenize { text, add_special } => {
            json!({ "tokenize": { "text": text, "add_special": add_special } })
        }
        Input::Detokenize(tokens) => json!({ "detokenize": tokens }),
        Input::Count(inner) => json!({ "count": chat(inner) }),
        Input::File { digest, offset, length } => json!({ "file": {
            "digest": hex::encode(digest.0),
            "offset": offset.to_string(),
            "length": length.to_string(),
        } }),
    }
}

fn chat(chat: &Chat) -> Value {
    let tool = |tool: &Tool| {
        json!({
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        })
    };
    json!({
        "messages": chat.messages.iter().map(message).collect::<Vec<_>>(),
        "tools": chat.tools.iter().map(tool).collect::<Vec<_>>(),
        "tool_choice": match &chat.tool_choice {
            ToolChoice::Auto => json!("auto"),
            ToolChoice::None => json!("none"),
            ToolChoice::Required => json!("required"),
            ToolChoice::Named(name) => json!({ "named": name }),
        },
        "parallel_tool_calls": chat.parallel_tool_calls,
        "reasoning": match chat.reasoning {
            Reasoning::Auto => "auto",
            Reasoning::Off => "off",
            Reasoning::On => "on",
        },
    })
}

fn message(message: &Message) -> Value {
    let parts = message.parts.iter().map(|part| match part {
        Part::Text(text) => json!({ "text": text }),
        Part::Image(image) => json!({ "image": {
            "format": image.format.media_type(),
            "bytes": hex::encode(&image.bytes),
        } }),
    });
    let calls = message
        .tool_calls
        .iter()
        .map(|call| json!({ "id": call.id, "name": call.name, "arguments": call.arguments }));
    json!({
        "role": message.role.as_str(),
        "parts": parts.collect::<Vec<_>>(),
        "reasoning": message.reasoning,
        "tool_calls": calls.collect::<Vec<_>>(),
        "tool_call_id": message.tool_call_id,
    })
}

fn format(format: &Format) -> Value {
    match format {
        Format::Text => json!("text"),
        Format::JsonObject => json!("json_object"),
        Format::JsonSchema(schema) => json!({ "json_schema": schema }),
        Format::Lark(grammar) => json!({ "lark": grammar }),
        Format::Gbnf(grammar) => json!({ "gbnf": grammar }),
        Format::Regex(expression) => json!({ "regex": expression }),
    }
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
                FinishReason::Stop => json!("stop"),
                FinishReason::Length => json!("length"),
                FinishReason::ToolCalls => json!("tool_calls"),
                FinishReason::StopSequence(index) => json!({ "stop_sequence": index }),
            };
            json!({ "done": {
                "finish": finish,
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "cached_tokens": usage.cached_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
            } })
        }
        Reply::Refused(inner) => json!({ "refused": refusal(inner) }),
        Reply::Reasoning { text, tokens } => {
            json!({ "reasoning": { "text": text, "tokens": tokens } })
        }
        Reply::ToolCall(piece) => json!({ "tool_call": {
            "index": piece.index,
            "id": piece.id,
            "name": piece.name,
            "arguments": piece.arguments,
            "tokens": piece.tokens,
        } }),
        Reply::Logprobs(tokens) => {
            let tokens = tokens.iter().map(|token| {
                let top = token.top.iter().map(|other| {
                    json!({
                        "token": other.token,
                        "bytes": hex::encode(&other.bytes),
                        "logprob": float(other.logprob),
                    })
                });
                json!({
                    "token": token.token,
                    "bytes": hex::encode(&token.bytes),
                    "logprob": float(token.logprob),
                    "top": top.collect::<Vec<_>>(),
                })
            });
            json!({ "logprobs": tokens.collect::<Vec<_>>() })
        }
        Reply::Embedding { index, values } => {
            json!({ "embedding": { "index": index, "values": floats(values) } })
        }
        Reply::Scores(scores) => json!({ "scores": floats(scores) }),
        Reply::Tokens(tokens) => json!({ "tokens": tokens }),
        Reply::File { total_bytes, root, bytes } => json!({ "file": {
            "total_bytes": total_bytes.to_string(),
            "root": hex::encode(root),
            "bytes": hex::encode(bytes),
        } }),
    }
}

fn floats(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| float(*value)).collect()
}
