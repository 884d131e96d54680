//! Bodies that apps send.

use super::inputs;

/// Of `POST /v1/chat/completions`.
pub(crate) fn chats() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"arknet/tiny","messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[
            {"role":"system","content":"Be brief."},
            {"role":"user","content":[{"type":"text","text":"caf\u00e9 \ud83d\udc4b"}]},
            {"role":"assistant","content":"Yes?"},{"role":"tool","tool_call_id":"t","content":"1"}]}"#,
        r#"{"model":"m","temperature":0.7,"top_p":0.9,"max_tokens":16,"stop":["a","b"],"seed":7,
            "presence_penalty":-2,"frequency_penalty":1.5,"logit_bias":{"50256":-100},"n":3,
            "min_p":0.1,"top_k":40,"repetition_penalty":1.1,"messages":[{"role":"user","content":"x"}]}"#,
        r#"{"model":"m","stop":"x","max_completion_tokens":1,"user":"u","logprobs":true,"top_logprobs":2,
            "messages":[{"role":"user","content":"x","name":"n"}]}"#,
        r#"{"model":"m","tools":[{"type":"function","function":{"name":"f","description":"d",
            "parameters":{"type":"object","properties":{"a":{"type":"string"}}}}}],
            "tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,
            "messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,
            "reasoning_content":"hm","tool_calls":[{"id":"c","type":"function",
            "function":{"name":"f","arguments":"{\"a\":\"b\"}"}}]},
            {"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"1"}]}]}"#,
        r#"{"model":"m","response_format":{"type":"json_schema","json_schema":{"name":"s","strict":true,
            "schema":{"type":"object"}}},"reasoning_effort":"low","profile":"exact",
            "messages":[{"role":"user","content":[{"type":"image_url",
            "image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}}]}]}"#,
        r#"{"model":"m","grammar":"root ::= \"a\"","chat_template_kwargs":{"enable_thinking":false},
            "messages":[{"role":"developer","content":"x"},{"role":"user","content":"x"}]}"#,
        r#"{"model":"m","response_format":{"type":"json_object"},"thinking":{"type":"enabled"},
            "messages":[{"role":"user","content":"x"}],"guided_json":null}"#,
    ])
}

/// Of `POST /v1/completions`.
pub(crate) fn completions() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"arknet/tiny","prompt":"Once upon a time"}"#,
        r#"{"model":"m","prompt":["one","two"],"max_tokens":3,"stream":true,"temperature":0,"n":2}"#,
        r#"{"model":"m","prompt":"x","stop":["\n"],"logit_bias":{"1":1.5},"echo":true}"#,
        r#"{"model":"m","prompt":"x","logprobs":3,"grammar":"root ::= [a-z]+","seed":-1}"#,
        r#"{"model":"m","prompt":"x","guided_regex":"[a-z]{2}","logit_bias":{"5":-1.5,"6":100}}"#,
    ])
}

/// Of `POST /v1/responses`.
pub(crate) fn responses() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","input":"hi"}"#,
        r#"{"model":"m","input":[{"role":"user","content":"a"},{"type":"message","role":"assistant",
            "content":[{"type":"output_text","text":"b"}]}],"instructions":"Be brief.","stream":true,
            "store":false,"metadata":{"a":"b"},"max_output_tokens":9,"temperature":0.5,"top_p":0.9}"#,
        r#"{"model":"m","previous_response_id":"resp_1","input":[{"type":"reasoning","summary":[
            {"type":"summary_text","text":"hm"}]},{"type":"function_call","call_id":"c","name":"f",
            "arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"}],
            "tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],
            "tool_choice":"required","parallel_tool_calls":true}"#,
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x"},
            {"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}],
            "text":{"format":{"type":"json_schema","name":"s","schema":{"type":"object"}}},
            "reasoning":{"effort":"high"},"top_logprobs":2,"include":["message.output_text.logprobs"]}"#,
    ])
}

/// Of `POST /v1/embeddings`.
pub(crate) fn embeddings() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","input":"a text"}"#,
        r#"{"model":"m","input":["a","b","c\u00e9"],"encoding_format":"base64","dimensions":64}"#,
        r#"{"model":"m","input":["a"],"encoding_format":"float","user":"u"}"#,
    ])
}

/// Of `POST /v1/rerank`.
pub(crate) fn reranks() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","query":"q","documents":["a","b"]}"#,
        r#"{"model":"m","query":"q","documents":[{"text":"a"},"b"],"top_n":1,"return_documents":true}"#,
    ])
}

/// Of `POST /tokenize`.
pub(crate) fn tokenizes() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","content":"a text","add_special":true}"#,
        r#"{"model":"m","prompt":"a text","add_special_tokens":false,"with_pieces":false}"#,
    ])
}

/// Of `POST /detokenize`.
pub(crate) fn detokenizes() -> Vec<Vec<u8>> {
    inputs([r#"{"model":"m","tokens":[1,2,3,4294967295]}"#, r#"{"model":"m","tokens":[]}"#])
}

/// Of `POST /v1/messages`, and of `/v1/messages/count_tokens`.
pub(crate) fn messages() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","max_tokens":16,"messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"model":"m","max_tokens":2048,"stream":true,"system":[{"type":"text","text":"Be brief.",
            "cache_control":{"type":"ephemeral"}}],"stop_sequences":["a","b"],"temperature":0.5,
            "top_p":0.9,"top_k":40,"thinking":{"type":"enabled","budget_tokens":1024},"messages":[
            {"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{
            "type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}]},
            {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},
            {"type":"text","text":"Well"},{"type":"tool_use","id":"t","name":"f","input":{"z":1}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[
            {"type":"text","text":"1"}],"is_error":true}]}],
            "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],
            "tool_choice":{"type":"any","disable_parallel_tool_use":true}}"#,
        r#"{"model":"m","max_tokens":1,"system":"s","metadata":{"user_id":"u"},"output_config":{
            "format":{"type":"json_schema","schema":{"type":"object"}}},"messages":[
            {"role":"user","content":[{"type":"document","title":"t","source":{"type":"text",
            "media_type":"text/plain","data":"words"}}]}]}"#,
        r#"{"model":"m","max_tokens":9,"thinking":{"type":"adaptive","display":"omitted"},"messages":[
            {"role":"user","content":"x"},{"role":"assistant","content":"{\"a\":"}]}"#,
    ])
}

/// Of `POST /api/chat`.
pub(crate) fn ollama_chats() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"model":"m:latest","stream":false,"think":true,"keep_alive":"5m","format":"json","options":{
            "temperature":0.5,"num_predict":9,"num_ctx":2048,"stop":["a"],"seed":1,"top_k":3,"top_p":0.9,
            "min_p":0.1,"repeat_penalty":1.1},"messages":[{"role":"system","content":"s"},
            {"role":"user","content":"q","images":["iVBORw0KGgo="]},{"role":"assistant","content":"",
            "thinking":"hm","tool_calls":[{"function":{"name":"f","arguments":{"z":1}}}]},
            {"role":"tool","tool_name":"f","content":"1"}],"tools":[{"type":"function","function":{
            "name":"f","description":"d","parameters":{"type":"object"}}}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"format":{"type":"object"},
            "think":"high","keep_alive":-1,"logprobs":true,"top_logprobs":2}"#,
        r#"{"model":"m","messages":[],"keep_alive":0}"#,
        r#"{"model":"m","messages":[],"keep_alive":"1h30m10.5s"}"#,
    ])
}

/// Of `POST /api/generate`.
pub(crate) fn ollama_generates() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","prompt":"hi"}"#,
        r#"{"model":"m","prompt":"x","raw":true,"stream":false,"options":{"num_predict":-1,"stop":["a"]}}"#,
        r#"{"model":"m","prompt":"x","system":"s","images":["iVBORw0KGgo="],"format":{"type":"object"},
            "think":false,"context":[1,2,3],"keep_alive":30}"#,
        r#"{"model":"m","keep_alive":"0s"}"#,
    ])
}

/// Of `POST /api/embed` and of the older `/api/embeddings`.
pub(crate) fn ollama_embeds() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","input":"a","prompt":"a"}"#,
        r#"{"model":"m","input":["a","b"],"dimensions":64,"truncate":false,"keep_alive":"10s"}"#,
        r#"{"model":"m","prompt":"a","options":{"num_ctx":9}}"#,
    ])
}

/// Of `POST /api/show` and `/api/pull`.
pub(crate) fn named() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m"}"#,
        r#"{"name":" m ","stream":false}"#,
        r#"{"model":"","name":"https://example.org/m.gguf","insecure":true,"verbose":true}"#,
    ])
}
