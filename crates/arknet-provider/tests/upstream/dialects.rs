//! The three languages, spoken as the real servers speak them.

use serde_json::{Value, json};

use crate::{
    model::{CONTEXT, Said, speak, tokens, vector},
    server::{Answer, Seen},
};

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().cloned().unwrap_or_default();
    list.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

/// What a field may not be, the server says as the real ones do.
fn unknown_field(body: &Value, known: &[&str]) -> Option<String> {
    body.as_object()?.keys().find(|key| !known.contains(&key.as_str())).cloned()
}

fn wants_call(body: &Value) -> bool {
    let last = body["messages"].as_array().and_then(|list| list.last()).cloned();
    body["tools"].is_array() && last.is_some_and(|last| last["role"] == "user")
}

fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// OpenAI's, as a server of this owner speaks it.
pub(crate) fn openai(owner: &'static str) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    move |seen| match seen.path.as_str() {
        "/v1/models" => Answer::json(
            200,
            &json!({ "object": "list", "data": [
                { "id": "fish", "object": "model", "created": 1, "owned_by": owner,
                  "max_model_len": CONTEXT },
                { "id": "fish-embed", "object": "model", "created": 1, "owned_by": owner },
                { "id": "fish-rerank", "object": "model", "created": 1, "owned_by": owner },
            ]}),
        ),
        "/v1/chat/completions" => openai_chat(&seen.body, owner),
        "/v1/completions" => openai_text(&seen.body),
        "/v1/embeddings" => {
            let texts = strings(&seen.body["input"]);
            let data = texts.iter().enumerate().rev().map(|(index, text)| {
                json!({ "object": "embedding", "index": index, "embedding": vector(text) })
            });
            let data: Vec<_> = data.collect();
            Answer::json(
                200,
                &json!({ "object": "list", "data": data, "model": "fish-embed",
                    "usage": { "prompt_tokens": 9, "total_tokens": 9 } }),
            )
        }
        "/v1/rerank" => {
            let documents = strings(&seen.body["documents"]);
            let results = documents.iter().enumerate().map(|(index, text)| {
                json!({ "index": index, "document": { "text": text }, "relevance_score": 0.5 })
            });
            let results: Vec<_> = results.collect();
            Answer::json(200, &json!({ "results": results, "usage": { "total_tokens": 5 } }))
        }
        "/tokenize" if owner == "vllm" => {
            let text = seen.body["prompt"]
                .as_str()
                .map_or_else(|| seen.body["messages"].to_string(), str::to_owned);
            let tokens: Vec<u32> = text.bytes().map(u32::from).collect();
            let count = tokens.len();
            Answer::json(
                200,
                &json!({ "count": count, "max_model_len": CONTEXT, "tokens": tokens }),
            )
        }
        "/detokenize" if owner == "vllm" => {
            let tokens = seen.body["tokens"].as_array().unwrap();
            let bytes = tokens.iter().map(|t| u8::try_from(t.as_u64().unwrap()).unwrap());
            let prompt = String::from_utf8(bytes.collect()).unwrap();
            Answer::json(200, &json!({ "prompt": prompt }))
        }
        _ => Answer::json(404, &json!({ "detail": "Not Found" })),
    }
}

fn openai_error(message: &str, code: &str) -> Answer {
    let error = json!({ "message": message, "type": "invalid_request_error", "param": null,
        "code": code });
    Answer::json(400, &json!({ "error": error }))
}

fn openai_usage(said: &Said) -> Value {
    json!({ "prompt_tokens": said.prompt_tokens, "completion_tokens": said.pieces.len(),
        "total_tokens": said.prompt_tokens + said.pieces.len() as u64,
        "prompt_tokens_details": { "cached_tokens": 1 },
        "completion_tokens_details": { "reasoning_tokens": 0 } })
}

fn chunk(choice: &Value) -> String {
    event(&json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
        "model": "fish", "choices": [choice], "usage": null }))
}

fn openai_ends(said: &Said) -> &'static str {
    if said.is_cut { "length" } else { "stop" }
}

const OPENAI_FIELDS: [&str; 19] = [
    "model",
    "messages",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
];

fn openai_chat(body: &Value, owner: &str) -> Answer {
    if owner == "someone"
        && let Some(field) = unknown_field(body, &OPENAI_FIELDS)
    {
        return openai_error(&format!("Unrecognized request argument supplied: {field}"), "x");
    }
    let choice = |delta: Value, finish: Value| json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
    let done = "data: [DONE]\n\n".to_owned();
    let role = chunk(&choice(json!({ "role": "assistant", "content": "" }), Value::Null));
    if wants_call(body) {
        let call = |index: u32, id: &str, part: &str| {
            let mut call = json!({ "index": index, "function": { "arguments": part } });
            if !id.is_empty() {
                call["id"] = json!(id);
                call["type"] = json!("function");
                call["function"]["name"] = json!("weather");
            }
            chunk(&choice(json!({ "tool_calls": [call] }), Value::Null))
        };
        return Answer::pieces(vec![
            role,
            call(0, "call_x", ""),
            call(0, "", "{\"city\":"),
            call(0, "", "\"Rome\"}"),
            call(1, "call_y", "{\"city\":\"Oslo\"}"),
            chunk(&choice(json!({}), json!("tool_calls"))),
            done,
        ]);
    }
    let stops = strings(&body["stop"]);
    let max = body["max_tokens"].as_u64();
    let is_json = body["response_format"].is_object();
    let Some(said) = speak(&body["messages"].to_string(), max, &stops, is_json) else {
        let words = format!(
            "This model's maximum context length is {CONTEXT} tokens. However, you requested {} \
             tokens (1 in the messages, 1 in the completion).",
            tokens(&body["messages"].to_string())
        );
        return openai_error(&words, "context_length_exceeded");
    };
    let mut pieces = vec![": keep-alive\n\n".into(), role];
    for piece in &said.pieces {
        let mut choice = choice(json!({ "content": piece }), Value::Null);
        if body["logprobs"] == true {
            let bytes = piece.as_bytes();
            let top = json!({ "token": piece, "logprob": -0.1, "bytes": bytes });
            let top = vec![top; usize::try_from(body["top_logprobs"].as_u64().unwrap()).unwrap()];
            choice["logprobs"] = json!({ "content": [
                { "token": piece, "logprob": -0.1, "bytes": bytes, "top_logprobs": top }]});
        }
        pieces.push(chunk(&choice));
    }
    let mut last = choice(json!({}), json!(openai_ends(&said)));
    if let (Some(stop), "vllm") = (&said.stopped_at, owner) {
        last["stop_reason"] = json!(stop);
    }
    pieces.push(chunk(&last));
    pieces.push(event(&json!({ "object": "chat.completion.chunk", "choices": [],
        "usage": openai_usage(&said) })));
    pieces.push(done);
    Answer::pieces(pieces)
}

fn openai_text(body: &Value) -> Answer {
    let prompt = body["prompt"].as_str().unwrap();
    let stops = strings(&body["stop"]);
    let Some(said) = speak(prompt, body["max_tokens"].as_u64().or(Some(16)), &stops, false) else {
        return openai_error("maximum context length is 2048 tokens", "context_length_exceeded");
    };
    let chunk = |text: &str, finish: Value| {
        event(&json!({ "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "fish",
            "choices": [{ "index": 0, "text": text, "logprobs": null, "finish_reason": finish }] }))
    };
    let mut pieces: Vec<_> = said.pieces.iter().map(|p| chunk(p, Value::Null)).collect();
    pieces.push(chunk("", json!(openai_ends(&said))));
    pieces.push(event(&json!({ "choices": [], "usage": openai_usage(&said) })));
    pieces.push("data: [DONE]\n\n".into());
    Answer::pieces(pieces)
}

const ANTHROPIC_FIELDS: [&str; 13] = [
    "model",
    "messages",
    "max_tokens",
    "stream",
    "system",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
];

fn anthropic_error(status: u16, kind: &str, message: &str) -> Answer {
    let error = json!({ "type": kind, "message": message });
    Answer::json(status, &json!({ "type": "error", "error": error, "request_id": "req_1" }))
}

/// Anthropic's.
pub(crate) fn anthropic(seen: &Seen) -> Answer {
    let has = |name: &str, value: &str| seen.headers.get(name).is_some_and(|found| found == value);
    if !has("x-api-key", "sk-test") || !has("anthropic-version", "2023-06-01") {
        return anthropic_error(401, "authentication_error", "invalid x-api-key");
    }
    let yes = json!({ "supported": true });
    match seen.path.as_str() {
        "/v1/models?limit=1000" => Answer::json(
            200,
            &json!({ "data": [{ "type": "model", "id": "fish", "display_name": "Fish",
                "created_at": "2026-01-01T00:00:00Z", "max_input_tokens": CONTEXT,
                "max_tokens": 1500, "capabilities": { "structured_outputs": yes,
                    "thinking": { "supported": true, "types": { "enabled": yes } } } }],
                "has_more": false, "first_id": "fish", "last_id": "fish" }),
        ),
        "/v1/messages" => anthropic_message(&seen.body),
        "/v1/messages/count_tokens" => {
            let count = tokens(&seen.body["messages"].to_string());
            Answer::json(200, &json!({ "input_tokens": count }))
        }
        _ => anthropic_error(404, "not_found_error", "Not found"),
    }
}

fn anthropic_complaint(body: &Value) -> Option<String> {
    if let Some(field) = unknown_field(body, &ANTHROPIC_FIELDS) {
        return Some(format!("{field}: Extra inputs are not permitted"));
    }
    if body["max_tokens"].as_u64().is_none() {
        return Some("max_tokens: Field required".into());
    }
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let is_plain = |block: &Value| block["type"] != "text" || block["text"] != "";
    let empty = messages.iter().any(|m| !m["content"].as_array().unwrap().iter().all(is_plain));
    if empty {
        return Some("messages: text content blocks must be non-empty".into());
    }
    for pair in messages.windows(2) {
        let uses = |m: &Value, kind: &str| {
            let blocks = m["content"].as_array().cloned().unwrap_or_default();
            blocks.iter().filter(|block| block["type"] == kind).count()
        };
        if uses(&pair[0], "tool_use") != uses(&pair[1], "tool_result") {
            return Some("tool_use ids were found without tool_result blocks".into());
        }
    }
    let budget = body["thinking"]["budget_tokens"].as_u64();
    if budget.is_some_and(|budget| budget < 1024 || budget >= body["max_tokens"].as_u64().unwrap())
    {
        return Some("max_tokens must be greater than thinking.budget_tokens".into());
    }
    None
}

fn anthropic_message(body: &Value) -> Answer {
    if let Some(words) = anthropic_complaint(body) {
        return anthropic_error(400, "invalid_request_error", &words);
    }
    let named =
        |value: &Value| format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap());
    let stops = strings(&body["stop_sequences"]);
    let is_json = body["output_config"]["format"]["type"] == "json_schema";
    let prompt = body["messages"].to_string();
    let Some(said) = speak(&prompt, body["max_tokens"].as_u64(), &stops, is_json) else {
        let words = format!("prompt is too long: {} tokens > {CONTEXT} maximum", tokens(&prompt));
        return anthropic_error(400, "invalid_request_error", &words);
    };
    let mut pieces = vec![
        named(&json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message",
            "role": "assistant", "content": [], "model": "fish", "stop_reason": null,
            "usage": { "input_tokens": said.prompt_tokens - 2, "cache_read_input_tokens": 1,
                "cache_creation_input_tokens": 1, "output_tokens": 1 } } })),
        named(&json!({ "type": "ping" })),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>| {
        pieces.push(named(
            &json!({ "type": "content_block_start", "index": index, "content_block": start }),
        ));
        for delta in deltas {
            pieces.push(named(
                &json!({ "type": "content_block_delta", "index": index, "delta": delta }),
            ));
        }
        pieces.push(named(&json!({ "type": "content_block_stop", "index": index })));
        index += 1;
    };
    if body["thinking"]["type"] == "enabled" {
        let thought = json!({ "type": "thinking_delta", "thinking": "Fish?" });
        let signature = json!({ "type": "signature_delta", "signature": "EqQB" });
        let start = json!({ "type": "thinking", "thinking": "", "signature": "" });
        block(start, vec![thought, signature]);
    }
    let (reason, at) = if wants_call(body) && body["tool_choice"]["type"] != "none" {
        let part = |text: &str| json!({ "type": "input_json_delta", "partial_json": text });
        block(
            json!({ "type": "tool_use", "id": "toolu_1", "name": "weather", "input": {} }),
            vec![part(""), part("{\"city\": "), part("\"Rome\"}")],
        );
        ("tool_use", Value::Null)
    } else {
        let deltas = said.pieces.iter().map(|text| json!({ "type": "text_delta", "text": text }));
        block(json!({ "type": "text", "text": "" }), deltas.collect());
        match (&said.stopped_at, said.is_cut) {
            (Some(stop), _) => ("stop_sequence", json!(stop)),
            (None, true) => ("max_tokens", Value::Null),
            (None, false) => ("end_turn", Value::Null),
        }
    };
    pieces.push(named(&json!({ "type": "message_delta",
        "delta": { "stop_reason": reason, "stop_sequence": at },
        "usage": { "output_tokens": said.pieces.len() } })));
    pieces.push(named(&json!({ "type": "message_stop" })));
    Answer::pieces(pieces)
}

/// Ollama's.
pub(crate) fn ollama(seen: &Seen) -> Answer {
    match seen.path.as_str() {
        "/api/version" => Answer::json(200, &json!({ "version": "0.13.5" })),
        "/api/tags" => Answer::json(
            200,
            &json!({ "models": [
                { "name": "fish:latest", "model": "fish:latest", "size": 9, "digest": "d1",
                  "details": { "family": "qwen3", "quantization_level": "Q8_0" } },
                { "name": "fish-embed", "model": "fish-embed", "size": 9, "digest": "d2" },
            ]}),
        ),
        "/api/show" => {
            let can = if seen.body["model"] == "fish-embed" {
                json!(["embedding"])
            } else {
                json!(["completion", "tools", "thinking"])
            };
            Answer::json(
                200,
                &json!({ "capabilities": can, "template": "{{ .Prompt }}", "model_info": {
                    "general.architecture": "qwen3", "general.parameter_count": 5,
                    "qwen3.context_length": CONTEXT, "qwen3.embedding_length": 8 } }),
            )
        }
        "/api/chat" => ollama_answer(&seen.body, true),
        "/api/generate" => ollama_answer(&seen.body, false),
        "/api/embed" => {
            let vectors: Vec<_> = strings(&seen.body["input"]).iter().map(|t| vector(t)).collect();
            Answer::json(200, &json!({ "embeddings": vectors, "prompt_eval_count": 4 }))
        }
        _ => Answer { pieces: vec!["404 page not found".into()], ..Answer::json(404, &json!({})) },
    }
}

const OLLAMA_FIELDS: [&str; 12] = [
    "model", "messages", "prompt", "raw", "stream", "truncate", "shift", "tools", "think",
    "format", "logprobs", "options",
];

fn ollama_answer(body: &Value, is_chat: bool) -> Answer {
    let known: Vec<_> = OLLAMA_FIELDS.into_iter().chain(["top_logprobs"]).collect();
    if let Some(field) = unknown_field(body, &known) {
        return Answer::json(400, &json!({ "error": format!("unknown field {field}") }));
    }
    assert_eq!((&body["truncate"], &body["options"]["num_ctx"]), (&json!(false), &json!(CONTEXT)));
    let line = |mut value: Value| {
        value["model"] = json!("fish");
        value["created_at"] = json!("2026-01-01T00:00:00Z");
        format!("{value}\n")
    };
    let text = |text: &str| {
        if is_chat {
            json!({ "message": { "role": "assistant", "content": text }, "done": false })
        } else {
            json!({ "response": text, "done": false })
        }
    };
    let options = &body["options"];
    let max = options["num_predict"].as_u64();
    let prompt = if is_chat { body["messages"].to_string() } else { body["prompt"].to_string() };
    let is_json = body["format"].is_object();
    let Some(said) = speak(&prompt, max, &strings(&options["stop"]), is_json) else {
        let words = "the input length exceeds the context length";
        return Answer::json(400, &json!({ "error": words }));
    };
    let mut pieces = vec![];
    if body["think"] == true {
        let message = json!({ "role": "assistant", "content": "", "thinking": "Fish?" });
        pieces.push(line(json!({ "message": message, "done": false })));
    }
    if wants_call(body) {
        let call = |city: &str| json!({ "function": { "name": "weather", "arguments": { "city": city } } });
        let calls = json!([call("Rome"), call("Oslo")]);
        let message = json!({ "role": "assistant", "content": "", "tool_calls": calls });
        pieces.push(line(json!({ "message": message, "done": false })));
    } else {
        for piece in &said.pieces {
            let mut one = text(piece);
            if body["logprobs"] == true {
                let count = usize::try_from(body["top_logprobs"].as_u64().unwrap()).unwrap();
                let top = vec![json!({ "token": piece, "logprob": -0.2 }); count];
                one["logprobs"] = json!([{ "token": piece, "logprob": -0.2, "top_logprobs": top }]);
            }
            pieces.push(line(one));
        }
    }
    let mut last = text("");
    last["done"] = json!(true);
    last["done_reason"] = json!(if said.is_cut { "length" } else { "stop" });
    last["prompt_eval_count"] = json!(said.prompt_tokens);
    last["eval_count"] = json!(said.pieces.len());
    last["total_duration"] = json!(1);
    pieces.push(line(last));
    Answer::pieces(pieces)
}
