//! Answers of upstreams, with a secret wherever words stand.

use super::inputs;

pub(crate) fn lines() -> Vec<Vec<u8>> {
    inputs([
        "data: {}\n\n",
        ": ping\r\n\r\nevent: message\r\ndata:{\"a\":1}  \r\n\r\n",
        "retry: 10\n\ndata: [DONE]",
        "{\"done\":true}\n\n\ndata:\n",
    ])
}

pub(crate) fn openai_streams() -> Vec<Vec<u8>> {
    inputs([
        r#"data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":"caf\u00e9"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":" sk-1"}}]}

data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}

data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":1}}}

data: [DONE]

"#,
        r#": ping

data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}

data: {"choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"id":5,"token":"x","bytes":[120],"logprob":-0.5,"top_logprobs":[{"token":"y","logprob":-1.5},{"token":"z","logprob":-9}]}]},"finish_reason":"stop","stop_reason":"END"}]}
data: [DONE]
"#,
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}}]}

data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}},{"index":1,"id":"c2","function":{"name":"g"}}]}}]}

data: {"choices":[{"index":0,"finish_reason":"tool_calls","delta":{}}]}

data: [DONE]

"#,
        r#"data: {"choices":[{"index":0,"text":"ab","logprobs":{"tokens":["a","b"],"token_logprobs":[null,-1],"top_logprobs":[null,{"b":-1,"c":-2}]},"finish_reason":"length"}]}

data: [DONE]
"#,
    ])
}

pub(crate) fn anthropic_streams() -> Vec<Vec<u8>> {
    inputs([
        r#"event: message_start
data: {"type":"message_start","message":{"id":"msg","role":"assistant","content":[],"usage":{"input_tokens":9,"cache_read_input_tokens":4,"cache_creation_input_tokens":1,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"sk-1 caf\u00e9"}}

data: {"type":"content_block_stop","index":0}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":12}}

data: {"type":"message_stop"}

"#,
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"h"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"m"}}
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t1","name":"f","input":{}}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"1}"}}
data: {"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"t2","name":"g","input":{}}}
data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":3,"output_tokens_details":{"thinking_tokens":2}}}
data: {"type":"message_stop"}
"#,
        r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}
data: {"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}}
data: {"type":"message_stop"}
"#,
    ])
}

pub(crate) fn ollama_streams() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","message":{"role":"assistant","content":"sk-1"},"done":false}
{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}
{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":2}
"#,
        r#"{"message":{"content":"","tool_calls":[{"id":"c","function":{"name":"f","arguments":{"a":1}}},{"function":{"name":"g"}}]},"done":false}
{"message":{"content":"a"},"logprobs":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2}]}],"done":true,"done_reason":"length","eval_count":5}
"#,
        r#"{"response":"a","thinking":"b","done":false}
{"response":"","done":true}"#,
    ])
}

pub(crate) fn vectors() -> Vec<Vec<u8>> {
    inputs([
        r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":[0.6,-0.8]}],"usage":{"prompt_tokens":5,"total_tokens":5}}"#,
        r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0,0]},{"index":1,"embedding":[1e-30,1e30,-0.0]}]}"#,
    ])
}

pub(crate) fn ollama_vectors() -> Vec<Vec<u8>> {
    inputs([
        r#"{"model":"m","embeddings":[[1.0,2.0],[0.1,-0.1]],"prompt_eval_count":2}"#,
        r#"{"embeddings":[[0],[3e38,3e38]]}"#,
    ])
}

pub(crate) fn scores() -> Vec<Vec<u8>> {
    inputs([
        r#"{"results":[{"index":2,"relevance_score":0.5},{"index":0,"score":-2},{"index":1,"relevance_score":1e9}],"usage":{"total_tokens":7}}"#,
    ])
}

pub(crate) fn tokens() -> Vec<Vec<u8>> {
    inputs([r#"{"tokens":[1,2,4294967295]}"#, r#"{"count":0,"tokens":[]}"#])
}

pub(crate) fn texts() -> Vec<Vec<u8>> {
    inputs([r#"{"content":"caf\u00e9"}"#, r#"{"prompt":"sk-1"}"#, r#"{"text":""}"#])
}

pub(crate) fn counts() -> Vec<Vec<u8>> {
    inputs([r#"{"input_tokens":12}"#, r#"{"object":"x","count":99999999999}"#])
}

pub(crate) fn listings() -> Vec<Vec<u8>> {
    inputs([
        r#"{"object":"list","data":[{"id":"a","owned_by":"vllm","max_model_len":4096},{"id":"b.gguf","owned_by":"llamacpp","aliases":["b"],"meta":{"n_ctx":2048,"n_params":7,"n_embd":3,"size":9,"ftype":"Q8_0"}}]}"#,
        r#"{"data":[{"id":"claude","max_input_tokens":200000,"max_tokens":64000,"capabilities":{"image_input":{"supported":true},"thinking":{"supported":true,"types":{"adaptive":{"supported":true},"enabled":{"supported":true}}},"structured_outputs":{"supported":true}}}]}"#,
        r#"{"models":[{"name":"m:latest","model":"m:latest","size":9,"digest":"d","details":{"family":"qwen3","quantization_level":"Q4_K_M"}}],"version":"0.12.11"}"#,
        r#"{"models":[{"name":"m"}],"capabilities":["completion","tools","vision","thinking","embedding"],"template":"{{ .Prompt }}","model_info":{"general.architecture":"qwen3","qwen3.context_length":4096,"qwen3.embedding_length":64,"general.parameter_count":7},"version":"0.13.0-rc1+x"}"#,
        r#"{"data":[{"id":"x"}],"default_generation_settings":{"n_ctx":4096},"modalities":{"vision":true},"chat_template":"{{ messages }}","chat_template_caps":{"supports_tools":true},"model_ftype":"Q8_0","build_info":"b1"}"#,
    ])
}

pub(crate) fn errors() -> Vec<Vec<u8>> {
    inputs([
        r#"{"error":{"code":400,"message":"request (9 tokens) exceeds the available context size (8 tokens), sk-1","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
        r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, 500 in the completion).","type":"BadRequestError","code":400}"#,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 210000 tokens > 200000 maximum sk-1"}}"#,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"sk-1"}}"#,
        r#"{"error":"model 'sk-1' not found"}"#,
        r#"{"error":{"message":"Incorrect API key provided: sk-1","code":"invalid_api_key"}}"#,
        r#"{"error":{"code":"insufficient_quota","message":"sk-1 flagged by moderation"}}"#,
    ])
}

pub(crate) fn waits() -> Vec<Vec<u8>> {
    inputs(["1500", " 2 ", "0.25", "1e3", "99999999"])
}
