use arknet_types::{Image, ImageFormat, Message, Part, Tool, ToolCall};

use super::*;
use crate::{ReasoningStart, ToolSyntax};

/// Short equivalents of what model files hold, in the style of their families.
const QWEN: &str = "{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{%- endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
    {{- '\\n</tools>\\nanswer in <tool_call></tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if message.reasoning_content is defined and message.reasoning_content %}
            {{- '<think>\\n' + message.reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- message.content }}
        {%- for call in message.tool_calls or [] %}
            {%- if call.function %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{\"name\": \"' + call.name + '\", \"arguments\": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}";

const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
    {{ raise_exception('System role not supported') }}{% endif %}\
    {% for message in messages %}\
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}\
    {% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
    {{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}";

const MISTRAL: &str = "{{- bos_token }}{%- for message in messages %}
    {%- if message.role == 'user' %}
        {%- if tools is defined and loop.last %}{{- '[AVAILABLE_TOOLS]' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}
        {{- '[INST]' + message.content + '[/INST]' }}
    {%- elif message.role == 'system' %}{{- '[SYSTEM_PROMPT]' + message.content + '[/SYSTEM_PROMPT]' }}
    {%- elif message.role == 'assistant' and message.tool_calls is defined %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in message.tool_calls %}
            {%- if call.id | length != 9 %}{{- raise_exception('Tool call IDs should have length 9!') }}{%- endif %}
            {{- call.function | tojson }}
        {%- endfor %}
        {{- ']' + eos_token }}
    {%- elif message.role == 'assistant' %}{{- message.content + eos_token }}
    {%- elif message.role == 'tool' %}{{- '[TOOL_RESULTS]{\"content\": ' + message.content + ', \"call_id\": \"' + message.tool_call_id + '\"}[/TOOL_RESULTS]' }}
    {%- endif %}
{%- endfor %}";

const DEEPSEEK: &str = "{{ bos_token }}{% for message in messages %}
    {%- if message['role'] == 'system' %}{{ message['content'] }}{%- endif %}
    {%- if message['role'] == 'user' %}{{ '<\u{ff5c}User\u{ff5c}>' + message['content'] }}{%- endif %}
    {%- if message['role'] == 'assistant' and message['content'] is none %}
        {%- for tool in message['tool_calls'] %}{{ '<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>' + tool['function']['name'] + '```json\\n' + tool['function']['arguments'] + '\\n```' }}{%- endfor %}
    {%- elif message['role'] == 'assistant' %}{{ '<\u{ff5c}Assistant\u{ff5c}>' + message['content'].split('</think>')[-1] + '<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>' }}{%- endif %}
    {%- if message['role'] == 'tool' %}{{ '<out>' + message['content'] }}{%- endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<\u{ff5c}Assistant\u{ff5c}><think>\\n' }}{% endif %}";

const TYPED: &str = "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}\
    {% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}<end>{% endfor %}";

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source.into(), "<s>".into(), "</s>".into()).unwrap()
}

fn same(text: &str) -> String {
    text.to_owned()
}

fn plain() -> PromptOptions<'static> {
    PromptOptions { now_unix_s: 0, escape: &same, image_marker: None }
}

fn message(role: Role, text: &str) -> Message {
    Message::new(role, text)
}

fn tool() -> Tool {
    let parameters = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#;
    Tool {
        name: "weather".into(),
        description: Some("Tells.".into()),
        parameters: parameters.into(),
    }
}

const TOOL_JSON: &str = "{\"type\": \"function\", \"function\": {\"name\": \"weather\", \
    \"description\": \"Tells.\", \"parameters\": {\"type\": \"object\", \"properties\": {\"city\": \
    {\"type\": \"string\"}}}}}";

/// A question, a call, its result.
fn called() -> Chat {
    let mut call = message(Role::Assistant, "");
    call.parts.clear();
    call.tool_calls.push(ToolCall {
        id: "call_abcdefghijkl".into(),
        name: "weather".into(),
        arguments: "{\"city\":\"Rome\"}".into(),
    });
    let mut result = message(Role::Tool, "sunny");
    result.tool_call_id = Some("call_abcdefghijkl".into());
    let mut chat = Chat::new(vec![message(Role::User, "How is it?"), call, result]);
    chat.tools.push(tool());
    chat
}

fn text(source: &str, chat: &Chat) -> String {
    template(source).prompt(chat, &plain()).unwrap().text
}

#[test]
fn chatml_and_the_model_that_ships() {
    let chat = Chat::new(vec![message(Role::System, "Be brief."), message(Role::User, "Hi")]);
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
        <|im_start|>assistant\n";
    // As it stands in arknet-tiny.gguf.
    let tiny = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + \
        message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}\
        {{ '<|im_start|>assistant\\n' }}{% endif %}";
    for source in [CHATML, tiny] {
        let prompt = template(source).prompt(&chat, &plain()).unwrap();
        assert_eq!(prompt.text, expected);
        assert_eq!(prompt.syntax, Syntax::default());
        assert_eq!(prompt.stops, ["<|im_end|>"]);
        let features = TemplateFeatures { system: true, ..TemplateFeatures::default() };
        assert_eq!(template(source).features(), features);
    }
}

#[test]
fn tools_work_without_a_template_that_knows_them() {
    let prompt = template(CHATML).prompt(&called(), &plain()).unwrap();
    assert_eq!(prompt.syntax.tools, Some(ToolSyntax::Hermes));
    let (system, rest) = prompt.text.split_once("<|im_end|>\n").unwrap();
    assert!(system.starts_with("<|im_start|>system\n# Tools") && system.contains(TOOL_JSON));
    assert_eq!(
        rest,
        "<|im_start|>user\nHow is it?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n\
         {\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call><|im_end|>\n\
         <|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n\
         <|im_start|>assistant\n"
    );
    let mut chat = called();
    chat.messages.push(chat.messages[2].clone());
    let joined = text(CHATML, &chat);
    assert!(joined.contains("</tool_response>\n\n<tool_response>"), "{joined}");
    chat.tool_choice = ToolChoice::None;
    let prompt = template(CHATML).prompt(&chat, &plain()).unwrap();
    assert!(!prompt.text.contains("# Tools") && prompt.syntax.tools.is_none());
}

#[test]
fn a_template_that_knows_tools_and_thinking_is_asked_for_them() {
    let qwen = template(QWEN);
    let all =
        TemplateFeatures { system: true, tools: true, reasoning: true, reasoning_switch: true };
    assert_eq!(qwen.features(), all);
    let prompt = qwen.prompt(&called(), &plain()).unwrap();
    assert_eq!(
        prompt.text,
        format!(
            "<|im_start|>system\n# Tools\n<tools>\n{TOOL_JSON}\n</tools>\nanswer in \
             <tool_call></tool_call><|im_end|>\n<|im_start|>user\nHow is it?<|im_end|>\n\
             <|im_start|>assistant\n\n<tool_call>\n{{\"name\": \"weather\", \"arguments\": \
             {{\"city\": \"Rome\"}}}}\n</tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n\
             sunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
        )
    );
    assert_eq!(prompt.syntax.reasoning.unwrap().start, ReasoningStart::Free);
    let mut chat = Chat::new(vec![message(Role::User, "a"), message(Role::Assistant, "b")]);
    chat.messages[1].reasoning = Some("r".into());
    chat.messages.push(message(Role::User, "c"));
    chat.reasoning = Reasoning::Off;
    let prompt = qwen.prompt(&chat, &plain()).unwrap();
    assert!(prompt.text.contains("<think>\nr\n</think>\n\nb"), "{}", prompt.text);
    assert_eq!(prompt.syntax.reasoning.unwrap().start, ReasoningStart::Closed);
}

#[test]
fn roles_that_a_template_refuses_are_put_where_it_takes_them() {
    let chat = Chat::new(vec![
        message(Role::System, "Be brief."),
        message(Role::User, "a"),
        message(Role::User, "b"),
        message(Role::Assistant, "c"),
        message(Role::System, "Now."),
        message(Role::User, "d"),
    ]);
    assert_eq!(
        text(GEMMA, &chat),
        "<s><start_of_turn>user\nBe brief.\n\na\n\nb<end_of_turn>\n<start_of_turn>model\n\
         c<end_of_turn>\n<start_of_turn>user\nNow.\n\nd<end_of_turn>\n<start_of_turn>model\n"
    );
    let gemma = template(GEMMA);
    assert!(!gemma.features().system);
    let wrong = Chat::new(vec![message(Role::Assistant, "a"), message(Role::User, "b")]);
    let error = gemma.prompt(&wrong, &plain()).unwrap_err();
    let words = "Conversation roles must alternate user/assistant";
    assert_eq!(error, TemplateError::Raised(words.into()));
    assert_eq!(gemma.prompt(&chat, &plain()).unwrap().stops, ["<end_of_turn>"]);
}

#[test]
fn short_ids_arguments_as_text_and_missing_contents_are_found_out() {
    let mistral = text(MISTRAL, &called());
    assert_eq!(
        mistral,
        "<s>[INST]How is it?[/INST][TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \
         \"Rome\"}}]</s>[TOOL_RESULTS]{\"content\": sunny, \"call_id\": \"074335478\"}[/TOOL_RESULTS]"
    );
    let deepseek = template(DEEPSEEK);
    let mut chat = called();
    chat.tools.clear();
    let prompt = deepseek.prompt(&chat, &plain()).unwrap();
    assert!(
        prompt.text.contains("weather```json\n{\"city\": \"Rome\"}\n```<out>sunny"),
        "{}",
        prompt.text
    );
    assert_eq!(prompt.syntax.reasoning.unwrap().start, ReasoningStart::Open);
    assert_eq!(prompt.stops, ["<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>"]);
    // It does not tell of tools by itself.
    let prompt = deepseek.prompt(&called(), &plain()).unwrap();
    assert!(prompt.text.starts_with("<s># Tools"));
    assert_eq!(prompt.syntax.tools, Some(ToolSyntax::Hermes));
}

#[test]
fn contents_as_lists_of_parts() {
    let chat = Chat::new(vec![message(Role::System, "s"), message(Role::User, "u")]);
    assert_eq!(text(TYPED, &chat), "<system>s<end><user>u<end>");
    assert!(text(TYPED, &called()).contains("<tool_response>\nsunny"));
}

#[test]
fn an_answer_that_has_begun_goes_on() {
    let chat = Chat::new(vec![message(Role::User, "a"), message(Role::Assistant, "One, ")]);
    let prompt = template(QWEN).prompt(&chat, &plain()).unwrap();
    assert_eq!(prompt.text, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nOne, ");
    assert_eq!(prompt.syntax.reasoning.unwrap().start, ReasoningStart::Closed);
    assert!(text(GEMMA, &chat).ends_with("<start_of_turn>model\nOne, "));
}

#[test]
fn everything_a_user_wrote_is_escaped() {
    let mark = |text: &str| text.replace("EVIL", "<escaped>");
    let options = PromptOptions { escape: &mark, ..plain() };
    let mut chat = called();
    chat.messages.insert(0, message(Role::System, "EVIL"));
    chat.messages[2].reasoning = Some("EVIL".into());
    let call = &mut chat.messages[2].tool_calls[0];
    (call.id, call.name) = ("EVILEVIL".into(), "EVIL".into());
    call.arguments = "{\"EVIL\": [\"EVIL\"]}".into();
    chat.messages[3].tool_call_id = Some("EVILEVIL".into());
    chat.tools[0] = Tool {
        name: "EVIL".into(),
        description: Some("EVIL".into()),
        parameters: "{\"EVIL\": {\"EVIL\": \"EVIL\"}}".into(),
    };
    chat.tools.push(Tool { parameters: "EVIL".into(), ..chat.tools[0].clone() });
    chat.tool_choice = ToolChoice::Named("EVIL".into());
    let mut begun = chat.clone();
    begun.messages.push(message(Role::Assistant, "EVIL"));
    for source in [CHATML, QWEN, GEMMA, MISTRAL, DEEPSEEK, TYPED] {
        for chat in [&chat, &begun] {
            if let Ok(prompt) = template(source).prompt(chat, &options) {
                assert!(!prompt.text.contains("EVIL"), "{}", prompt.text);
                assert!(prompt.text.contains("<escaped>"));
            }
        }
    }
}

#[test]
fn pictures_stand_where_they_were_and_nobody_writes_their_marker() {
    let mut user = message(Role::User, "a<im");
    let image = Image { format: ImageFormat::Png, bytes: vec![] };
    user.parts.push(Part::Image(image));
    user.parts.push(Part::Text("b<img>".into()));
    let chat = Chat::new(vec![user]);
    assert_eq!(template(CHATML).prompt(&chat, &plain()), Err(TemplateError::Image));
    let options = PromptOptions { image_marker: Some("<img>"), ..plain() };
    let text = template(CHATML).prompt(&chat, &options).unwrap().text;
    assert!(text.contains("user\na<im<img>b\u{fffd}<|im_end|>"), "{text}");
}

#[test]
fn what_templates_in_the_wild_use_works() {
    let source = "{{ bos_token }}\n{%- set ns = namespace(last='') %}
        {%- for m in messages[::-1] %}
            {%- if m.role == 'user' and loop.first and m.content is string %}
                {%- set ns.last = m['content'].strip().split(' ')[-1] %}
            {%- endif %}
            {%- if not loop.last %}{% continue %}{% endif %}
        {%- endfor %}
        {%- for key, value in {'b': '<b>', 'a': 1}.items() %}{{ key }}{{ {'v': value} | tojson }}{% endfor %}
        {%- if tools %}never{% endif %}
        {%- generation -%} g {%- endgeneration %}
        {{- ns.last }}{{ eos_token }}{{ strftime_now('%Y') }}{{ {'x': [1]} | tojson(indent=2) }}";
    let chat = Chat::new(vec![message(Role::User, " one two ")]);
    assert_eq!(
        text(source, &chat),
        "<s>b{\"v\": \"<b>\"}a{\"v\": 1}gtwo</s>1970{\n  \"x\": [\n    1\n  ]\n}"
    );
}

#[test]
fn blocks_leave_no_white_space() {
    let source = "{% for m in messages %}\n    {% if true %}\nx\n    {% endif %}\n{% endfor %}\n";
    assert_eq!(text(source, &Chat::new(vec![message(Role::User, "")])), "x\n");
}

#[test]
fn a_template_may_refuse_in_its_own_words_only() {
    let error = |source: &str| {
        let chat = Chat::new(vec![message(Role::User, "secret")]);
        let template = ChatTemplate::new(source.into(), String::new(), String::new());
        template.and_then(|template| template.prompt(&chat, &plain())).unwrap_err()
    };
    assert_eq!(
        error("{{ raise_exception('Roles must alternate') }}"),
        TemplateError::Raised("Roles must alternate".into())
    );
    for source in [
        "{{ raise_exception('no ' + messages[0].content) }}",
        "{{ messages[0].content.nothing.at_all }}",
        "{{ messages[0].content | nofilter }}",
        "{% if %}",
    ] {
        let error = error(source);
        assert!(matches!(error, TemplateError::Failed { .. }), "{source}");
        assert!(!error.to_string().contains("secret"), "{source}");
    }
}

#[test]
fn a_hostile_template_ends() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(100000) %}{{ messages[0].content * 1000 }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 1000000000000 }}",
    ] {
        let chat = Chat::new(vec![message(Role::User, "hi")]);
        assert!(template(source).prompt(&chat, &plain()).is_err(), "{source}");
    }
    let long = " ".repeat(TEMPLATE_BYTES_MAX + 1);
    assert_eq!(
        ChatTemplate::new(long, String::new(), String::new()).unwrap_err(),
        TemplateError::TooCostly
    );
}

#[test]
fn garbage_in_requests_does_no_harm() {
    let mut chat = called();
    chat.tools[0].parameters = "[".repeat(10_000);
    chat.messages[1].tool_calls[0].arguments = "not json".into();
    chat.messages[2].tool_call_id = None;
    for source in [CHATML, QWEN, GEMMA, MISTRAL, DEEPSEEK, TYPED] {
        let _ = template(source).prompt(&chat, &plain());
    }
    let here = Chat::new(vec![message(Role::User, HERE), message(Role::Assistant, HERE)]);
    let text = text(CHATML, &here);
    assert!(text.ends_with("<|im_start|>assistant\n\u{fffd}\u{fffd}"), "{text}");
}
