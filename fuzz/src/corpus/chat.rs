//! Templates, forms of answers, and answers.

use super::inputs;

/// Answers, after a byte that says how they are to be read.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let object = r#"{"name": "weather", "arguments": {"city": "Rome", "days": [1, {"a": null}]}}"#;
    let (begin, end) = (
        "<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>",
        "<\u{ff5c}tool\u{2581}calls\u{2581}end\u{ff5c}>",
    );
    let (call, over) = (
        "<\u{ff5c}tool\u{2581}call\u{2581}begin\u{ff5c}>",
        "<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>",
    );
    let sep = "<\u{ff5c}tool\u{2581}sep\u{ff5c}>";
    let plain = [
        (1, format!("Let me see.\n<tool_call>\n{object}\n</tool_call>\n<tool_call>{object}</tool_call> Done.")),
        (1, r#"<tool_call>{"arguments": "{\"city\": \"\u00e9\"}", "name": "weather"}</tool_call>"#.into()),
        (2, "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>".into()),
        (3, "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>".into()),
        (4, format!("<|python_tag|>{object}; {object}<|eom_id|>")),
        (4, r#"{"name": "weather", "parameters": {"city": "Rome"}}"#.into()),
        (5, format!("[TOOL_CALLS] [{object}, {object}]")),
        (6, "[TOOL_CALLS]weather[ARGS]{\"city\": \"Rome\"}[TOOL_CALLS]time[CALL_ID]x1[ARGS]{}".into()),
        (7, format!("<|tool_call|>[{object}]<|/tool_call|>")),
        (8, format!("Hm.{begin}{call}function{sep}weather\n```json\n{{\"city\": \"Rome\"}}\n```{over}\n{call}function{sep}time\n```json\n{{}}\n```{over}{end}")),
        (9, format!("{begin}{call}weather{sep}{{\"city\": \"Rome\"}}{over}{end}")),
        (10, "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>{\"city\": \"Rome\"}<|tool_call_end|><|tool_calls_section_end|>".into()),
        (11, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Rome\"}<|call|>".into()),
    ];
    let thoughts = ["", " \n<think>\nhm hm\n</think>\n\n", "hm </think>\n", "  "];
    let all = plain.iter().flat_map(|(form, text)| {
        (0_u8..).zip(thoughts).map(move |(start, thought)| {
            let thought = if *form == 11 { "" } else { thought };
            [&[form + 12 * start][..], thought.as_bytes(), text.as_bytes()].concat()
        })
    });
    all.collect()
}

pub(crate) fn templates() -> Vec<Vec<u8>> {
    let mut all = inputs([
        "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\nanswer in <tool_call></tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.reasoning_content is defined and message.reasoning_content %}
            {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- call.name + call.arguments if call.arguments is string else call.arguments | tojson }}
        {%- endfor %}
    {%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] not in ['user', 'model'] %}\
    {{ '(' ~ message['role'] ~ ')' }}{% endif %}\
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
    {{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
        "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}\
    {% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}\
    {% endif %}<end>{% generation %}{% endgeneration %}{% endfor %}",
        "{%- macro say(m, n=3) %}{{ m.content[:n] | upper | replace('A', 'b') }}{% endmacro -%}\
    {% set ns = namespace(i=0) %}{% for m in messages %}{% set ns.i = ns.i + 1 %}{{ ns.i }}: \
    {{ say(m, ns.i * 2) }}{{ strftime_now('%Y-%m-%d') }}{% endfor %}{{ range(3) | list | tojson(indent=2) }}",
        "{% for i in range(99999) %}{{ messages | length }}{{ 'x' * 10 }}{% endfor %}",
    ]);
    all.push(arknet_chat::CHATML.as_bytes().to_vec());
    all
}

pub(crate) fn schemas() -> Vec<Vec<u8>> {
    inputs([
        r#"{"type":"object","properties":{"a":{"type":"integer","minimum":-3,"maximum":99},"evil":{"enum":["x",1,null]}},"required":["a"],"additionalProperties":false}"#,
        r##"{"$defs":{"n":{"type":["string","null"],"minLength":1,"maxLength":9},"t":{"type":"object","properties":{"next":{"$ref":"#/$defs/t"},"v":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/t"}"##,
        r#"{"anyOf":[{"type":"array","items":{"type":"number"},"minItems":1,"maxItems":3},{"oneOf":[{"const":"c"},{"type":"boolean"}]},{"allOf":[{"type":"object"},{"required":["b"]}]}]}"#,
        r#"{"type":"object","properties":{"d":{"type":"string","format":"date-time"},"p":{"type":"string","pattern":"^[a-z]{2,5}$"},"l":{"type":"array","prefixItems":[{"type":"integer"}],"items":false}},"patternProperties":{"^x":{"type":"number","multipleOf":0.5}}}"#,
        "true",
    ])
}

pub(crate) fn larks() -> Vec<Vec<u8>> {
    inputs([
        "start: \"a\" word+\nword: /[xy]/ \";\"",
        "start: item (\",\" item)* -> list\n// evil\nitem: NAME | NUMBER | \"(\" start \")\"\nNAME: /[a-z]+/\nNUMBER: /[0-9]+(\\.[0-9]+)?/\n%ignore /[ \\t]+/",
        "start: %json {\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}} t?\nt[capture, max_tokens=5]: /(?s:.{0,5})/",
        "start: a{2,5}\na: \"x\"i | [\"y\"]",
    ])
}

pub(crate) fn gbnfs() -> Vec<Vec<u8>> {
    inputs([
        "root ::= \"a\" [xy]+ | \"b\"",
        "# evil\nroot ::= ws? object\nobject ::= \"{\" ws ( pair (\",\" ws pair)* )? \"}\"\npair ::= \"\\\"\" [a-zA-Z_]{1,9} \"\\\"\" \":\" ws value\nvalue ::= object | [0-9]+ | \"true\" | \"\\u00e9\"\nws ::= [ \\t\\n]*",
        "root ::= ([^\\x00-\\x1f] | \"\\n\"){2,} \"end\"\n",
        "root ::= item{3} .\nitem ::= \"- \" [^\\n]{0,9} \"\\n\"",
    ])
}

pub(crate) fn expressions() -> Vec<Vec<u8>> {
    inputs([
        "[ab]{2}/c",
        "(?i:evil|good)+\\d{3,7}(\\.[0-9]*)?",
        "\\p{Lu}[^a-f\\s]{0,20}.*",
        "(a|ab)(c|bcd)(d*)|\\x41\\u00e9",
    ])
}

/// A form, a conversation, and what is drawn.
pub(crate) fn drawn() -> Vec<Vec<u8>> {
    let with = |which: u8, how: u8, text: &str| [&[which, how][..], text.as_bytes()].concat();
    vec![
        with(1, 0, r#"{"a": [1, null, "x"], "b": {}}"#),
        with(2, 0, r#"{"a":-12, "b": "y"}"#),
        with(3, 0, "ax;y;x;"),
        with(4, 0, "axyxy"),
        with(5, 0, "ab/c"),
        with(1, 61, "<think>hm</think>\n{\"a\": 1}"),
        with(0, 61, "<tool_call>{\"name\": \"weather\", \"arguments\": {}}</tool_call> x"),
        with(2, 49, "{\"a\": 1}"),
        with(2, 73, "hm</think>\n{\"a\": 1}"),
        with(
            0,
            97,
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>",
        ),
        with(0, 54, "[TOOL_CALLS]weather[ARGS]{\"days\": 3}"),
    ]
}
