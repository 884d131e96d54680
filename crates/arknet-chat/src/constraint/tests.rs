use arknet_types::{Message, Role, Tool};
use proptest::prelude::*;

use super::*;
use crate::{
    ToolSyntax,
    syntax::{deepseek, kimi},
};

/// Bytes, some words and control tokens. The last one ends answers.
fn vocabulary() -> &'static Vocabulary {
    static VOCABULARY: OnceLock<Vocabulary> = OnceLock::new();
    VOCABULARY.get_or_init(|| {
        let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
        let words =
            ["<think>", "</think>", "\n\n", "<tool_call>", "{\"", "\": ", "hello", ">a", ">\n"];
        tokens.extend(words.map(|word| word.as_bytes().to_vec()));
        let first = u32::try_from(tokens.len()).unwrap();
        let specials = [
            "[TOOL_CALLS]",
            "[ARGS]",
            "<|channel|>",
            "<|message|>",
            "<|start|>",
            "<|end|>",
            "<|constrain|>",
            deepseek::SEP,
            deepseek::CALLS_BEGIN,
            kimi::CALL_BEGIN,
            "<|im_end|>",
        ];
        tokens.extend(specials.map(|word| word.as_bytes().to_vec()));
        let end = u32::try_from(tokens.len()).unwrap() - 1;
        let specials: Vec<u32> = (first..=end).collect();
        Vocabulary::new(tokens, &specials, &[end]).unwrap()
    })
}

fn constraint(format: &Format) -> Constraint {
    Constraint::new(vocabulary(), format, None).unwrap().unwrap()
}

/// Goes along a text by the longest tokens, and says how far it may go.
fn follow(constraint: &mut Constraint, text: &str) -> usize {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        let mut tokens: Vec<u32> = (0..u32::try_from(vocabulary().len()).unwrap())
            .filter(|token| {
                let text = vocabulary().text(*token);
                !text.is_empty() && rest.starts_with(text)
            })
            .collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(vocabulary().text(*token).len()));
        let Ok(mask) = constraint.mask() else { break };
        let Some(token) = tokens.into_iter().find(|token| mask.allows(*token)) else { break };
        constraint.accept(token).unwrap();
        rest = &rest[vocabulary().text(token).len()..];
    }
    text.len() - rest.len()
}

/// Whether a whole answer may be this.
fn fits(constraint: &Constraint, text: &str) -> bool {
    let mut constraint = constraint.clone();
    let end = u32::try_from(vocabulary().len()).unwrap() - 1;
    follow(&mut constraint, text) == text.len()
        && constraint.mask().is_ok_and(|mask| mask.allows(end))
        && constraint.is_complete()
}

#[test]
fn every_kind_of_format_is_followed() {
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x","y"]}},
        "required":["a"],"additionalProperties":false}"#;
    let lark = "start: \"a\" word+\nword: /[xy]/ \";\"";
    let cases: [(Format, &[&str], &[&str]); 6] = [
        (
            Format::JsonObject,
            &["{}", "{\"a\": [1, null]}", "{\"a\":\"\u{e9}\"}"],
            &["[]", "{", "1"],
        ),
        (
            Format::JsonSchema(schema.into()),
            &["{\"a\":1}", "{\"a\": -2, \"b\": \"y\"}"],
            &["{}", "{\"a\":\"1\"}", "{\"a\":1,\"c\":1}"],
        ),
        (Format::JsonSchema("true".into()), &["1", "null", "[{}]"], &["x"]),
        (Format::Lark(lark.into()), &["ax;", "ax;y;"], &["a", "x;"]),
        (
            Format::Gbnf("root ::= \"a\" [xy]+ | \"b\"".into()),
            &["ax", "axyy", "b"],
            &["a", "bx", ""],
        ),
        (Format::Regex("[ab]{2}/c".into()), &["ab/c"], &["a/c", "ab/cc", "xab/c"]),
    ];
    for (format, good, bad) in cases {
        let constraint = constraint(&format);
        for text in good {
            assert!(fits(&constraint, text), "{format:?} {text}");
        }
        for text in bad {
            assert!(!fits(&constraint, text), "{format:?} {text}");
        }
        assert_eq!(check_format(&format), Ok(()));
    }
    assert!(Constraint::new(vocabulary(), &Format::Text, None).unwrap().is_none());
    assert_eq!(check_format(&Format::Text), Ok(()));
}

#[test]
fn an_answer_that_can_only_end_must() {
    let mut regex = constraint(&Format::Regex("ab".into()));
    assert_eq!(follow(&mut regex, "a"), 1);
    assert!(!regex.must_stop() && !regex.is_complete());
    assert_eq!(regex.mask().unwrap().only(), Some(u32::from(b'b')));
    assert_eq!(follow(&mut regex, "b"), 1);
    assert!(regex.must_stop() && regex.is_complete());
    let end = u32::try_from(vocabulary().len()).unwrap() - 1;
    assert_eq!(regex.mask().unwrap().only(), Some(end));
    assert_eq!(regex.accept(end), Ok(()));
    assert_eq!(regex.accept(0), Err(ConstraintError::Stuck));
}

/// Tools `weather` (a city, perhaps days) and `time`.
fn chat(choice: ToolChoice) -> Chat {
    let tool = |name: &str, parameters: &str| Tool {
        name: name.into(),
        description: None,
        parameters: parameters.into(),
    };
    let mut chat = Chat::new(vec![Message::new(Role::User, "x")]);
    let weather = r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"],"additionalProperties":false}"#;
    chat.tools = vec![
        tool("weather", weather),
        tool("time", "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}"),
    ];
    chat.tool_choice = choice;
    chat
}

fn syntax(tools: ToolSyntax, start: Option<ReasoningStart>) -> Syntax {
    let (open, close) = ("<think>".to_owned(), "</think>".to_owned());
    let reasoning = start.map(|start| ReasoningSyntax { open, close, start });
    Syntax { reasoning, tools: Some(tools), channels: tools == ToolSyntax::Channels }
}

fn with_tools(chat: &Chat, syntax: &Syntax, format: &Format) -> Constraint {
    Constraint::new(vocabulary(), format, Some((chat, syntax))).unwrap().unwrap()
}

/// Two calls in each form: what stands before, between and after them, and the calls themselves.
fn forms() -> Vec<(ToolSyntax, [String; 2], [String; 3])> {
    use ToolSyntax as T;
    let object = |key: &str| {
        [
            format!("{{\"name\": \"weather\", \"{key}\": {{\"city\": \"Rome\"}}}}"),
            format!("{{\"name\": \"time\", \"{key}\": {{}}}}"),
        ]
    };
    let around = |[a, b]: [String; 2], before: &str, after: &str| {
        [format!("{before}{a}{after}"), format!("{before}{b}{after}")]
    };
    let texts = |list: [&str; 3]| list.map(String::from);
    let rome = "{\"city\": \"Rome\"}";
    let (db, dx, ds) = (deepseek::CALL_BEGIN, deepseek::CALL_END, deepseek::SEP);
    let (dcb, dce) = (deepseek::CALLS_BEGIN, deepseek::CALLS_END);
    let (kb, kx, ks) = (kimi::CALL_BEGIN, kimi::CALL_END, kimi::SEP);
    let xml = "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n</tool_call>";
    let glm =
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>";
    vec![
        (
            T::Hermes,
            around(object("arguments"), "<tool_call>\n", "\n</tool_call>"),
            texts(["", "\n", ""]),
        ),
        (
            T::QwenXml,
            [xml.into(), "<tool_call>\n<function=time>\n</function>\n</tool_call>".into()],
            texts(["", "\n", ""]),
        ),
        (T::GlmXml, [glm.into(), "<tool_call>time\n</tool_call>".into()], texts(["", "\n", ""])),
        (T::MistralList, object("arguments"), texts(["[TOOL_CALLS][", ", ", "]"])),
        (
            T::MistralArgs,
            [format!("[TOOL_CALLS]weather[ARGS]{rome}"), "[TOOL_CALLS]time[ARGS]{}".into()],
            texts(["", "", ""]),
        ),
        (T::Granite, object("arguments"), texts(["<|tool_call|>[", ", ", "]"])),
        (
            T::DeepSeek,
            [
                format!("{db}function{ds}weather\n```json\n{rome}\n```{dx}"),
                format!("{db}function{ds}time\n```json\n{{}}\n```{dx}"),
            ],
            [dcb.into(), "\n".into(), dce.into()],
        ),
        (
            T::DeepSeekPlain,
            [format!("{db}weather{ds}{rome}{dx}"), format!("{db}time{ds}{{}}{dx}")],
            [dcb.into(), String::new(), dce.into()],
        ),
        (
            T::Kimi,
            [
                format!("{kb}functions.weather:0{ks}{rome}{kx}"),
                format!("{kb}functions.time:1{ks}{{}}{kx}"),
            ],
            [kimi::CALLS_BEGIN.into(), String::new(), kimi::CALLS_END.into()],
        ),
    ]
}

#[test]
fn calls_that_are_asked_for_come_in_every_form() {
    for (form, [rome, now], [before, between, after]) in forms() {
        let syntax = syntax(form, None);
        let mut chat = chat(ToolChoice::Required);
        let both = format!("{before}{rome}{between}{now}{after}");
        let required = with_tools(&chat, &syntax, &Format::JsonObject);
        for text in [&both, &format!("{before}{rome}{after}"), &format!("{before}{now}{after}")] {
            assert!(fits(&required, text), "{form:?} {text}");
        }
        for text in [
            "",
            "{}",
            "hello",
            both.replace("weather", "other").as_str(),
            both.replace("city", "town").as_str(),
        ] {
            assert!(!fits(&required, text), "{form:?} {text}");
        }
        chat.parallel_tool_calls = false;
        let single = with_tools(&chat, &syntax, &Format::Text);
        assert!(
            fits(&single, &format!("{before}{rome}{after}")) && !fits(&single, &both),
            "{form:?}"
        );
        chat.tool_choice = ToolChoice::Named("time".into());
        let named = with_tools(&chat, &syntax, &Format::Text);
        assert!(fits(&named, &format!("{before}{now}{after}")), "{form:?}");
        assert!(!fits(&named, &format!("{before}{rome}{after}")), "{form:?}");
        // What the constraint lets pass, the parser understands.
        let mut out = vec![];
        let mut parser = crate::AnswerParser::new(&syntax, &self::chat(ToolChoice::Auto), 1);
        parser.push(&both, 1, &mut out);
        assert_eq!(parser.finish(&mut out).tool_calls, 2, "{form:?} {out:?}");
    }
}

#[test]
fn llama_and_channels_call_when_asked() {
    let chat = chat(ToolChoice::Required);
    let llama = with_tools(&chat, &syntax(ToolSyntax::Llama, None), &Format::Text);
    assert!(fits(&llama, "{\"name\": \"time\", \"parameters\": {}}"));
    assert!(!fits(&llama, "{\"name\": \"time\"}"));
    let channels = with_tools(&chat, &syntax(ToolSyntax::Channels, None), &Format::Text);
    let call = "<|channel|>commentary to=functions.time <|constrain|>json<|message|>{}";
    let thought = "<|channel|>analysis<|message|>Hm. {<|end|><|start|>assistant";
    assert!(fits(&channels, call) && fits(&channels, &format!("{thought}{call}")));
    assert!(!fits(&channels, thought) && !fits(&channels, "<|channel|>final<|message|>hello"));
    let auto = self::chat(ToolChoice::Auto);
    let object = with_tools(&auto, &syntax(ToolSyntax::Channels, None), &Format::JsonObject);
    assert!(
        fits(&object, call) && fits(&object, &format!("{thought}<|channel|>final<|message|>{{}}"))
    );
    assert!(!fits(&object, "<|channel|>final<|message|>hello"));
}

#[test]
fn a_call_that_the_model_begins_by_itself_is_held_to_its_schema() {
    for (form, [rome, now], [before, between, after]) in forms() {
        let auto = with_tools(&chat(ToolChoice::Auto), &syntax(form, None), &Format::Text);
        let both = format!("hello <b> {before}{rome}{between}{now}{after}");
        let texts = [
            both.clone(),
            both.clone() + "\nhello",
            "hello".into(),
            format!("{before}{rome}{after}"),
        ];
        for text in &texts {
            assert!(fits(&auto, text), "{form:?} {text}");
        }
        let other = both.replace("time", "emit");
        assert!(follow(&mut auto.clone(), &other) < other.len(), "{form:?}");
        let mut single = chat(ToolChoice::Auto);
        single.parallel_tool_calls = false;
        let mut single = with_tools(&single, &syntax(form, None), &Format::Text);
        let one = format!("{before}{rome}{after}");
        assert_eq!(follow(&mut single, &one), one.len(), "{form:?}");
        assert!(single.is_complete(), "{form:?}");
        assert_eq!(follow(&mut single, "hello"), 0, "{form:?}");
    }
    for form in [ToolSyntax::Llama, ToolSyntax::Channels] {
        let chat = chat(ToolChoice::Auto);
        let none = Constraint::new(vocabulary(), &Format::Text, Some((&chat, &syntax(form, None))));
        assert!(none.unwrap().is_none());
    }
}

#[test]
fn a_form_and_tools_together_leave_the_choice() {
    let auto =
        with_tools(&chat(ToolChoice::Auto), &syntax(ToolSyntax::Hermes, None), &Format::JsonObject);
    let call = "<tool_call>\n{\"name\": \"time\", \"arguments\": {}}\n</tool_call>";
    assert!(fits(&auto, "{\"a\": 1}") && fits(&auto, call) && !fits(&auto, "hello"));
    let none =
        with_tools(&chat(ToolChoice::None), &syntax(ToolSyntax::Hermes, None), &Format::JsonObject);
    assert!(fits(&none, "{}") && !fits(&none, call));
}

#[test]
fn schemas_of_tools_that_cannot_be_followed_are_left_to_the_model() {
    let deep = format!("{{\"type\": \"object\", \"x\": {}1{}}}", "[".repeat(100), "]".repeat(100));
    for parameters in
        ["", "[]", "{\"type\": \"nothing\"}", "{\"not\": {}}", "{\"$ref\": \"x\"}", &deep]
    {
        let mut chat = chat(ToolChoice::Required);
        chat.tools[1].parameters = parameters.into();
        let required = with_tools(&chat, &syntax(ToolSyntax::Hermes, None), &Format::Text);
        let call = "<tool_call>\n{\"name\": \"time\", \"arguments\": {\"a\": [1]}}\n</tool_call>";
        assert!(fits(&required, call), "{parameters}");
    }
}

#[test]
fn a_form_begins_after_reasoning() {
    let chat = Chat::new(vec![]);
    let with = |start, format: &Format| {
        let syntax = Syntax { tools: None, ..syntax(ToolSyntax::Hermes, Some(start)) };
        Constraint::new(vocabulary(), format, Some((&chat, &syntax))).unwrap().unwrap()
    };
    let free = with(ReasoningStart::Free, &Format::JsonObject);
    for text in [
        "{}",
        "<think>a { b</think>{}",
        "\n<think>\n</think>\n\n{\"a\": 1}",
        "<think>a </thin</think>\n{}",
    ] {
        assert!(fits(&free, text), "{text}");
    }
    for text in
        ["hello", "<think>", "<think>{}", "<think></think>hello", "<thi{}", "<think></think>"]
    {
        assert!(!fits(&free, text), "{text}");
    }
    let open = with(ReasoningStart::Open, &Format::JsonObject);
    assert!(fits(&open, "hm <think> {\n</think>\n\n{}") && !fits(&open, "{}"));
    let closed = with(ReasoningStart::Closed, &Format::JsonObject);
    assert!(fits(&closed, "{}") && !fits(&closed, "<think></think>{}"));
    // Thinking of a tool call is not one, and a form may begin as reasoning does.
    let mut auto = with_tools(
        &self::chat(ToolChoice::Auto),
        &syntax(ToolSyntax::Hermes, Some(ReasoningStart::Free)),
        &Format::Text,
    );
    let text = "<think>a <tool_call> b</think>hello <tool_call>";
    assert_eq!(follow(&mut auto, text), text.len());
    assert_eq!(follow(&mut auto, "hello"), 0);
    let tag = with(ReasoningStart::Free, &Format::Regex("<th>".into()));
    assert!(fits(&tag, "<th>") && fits(&tag, "<think>x</think><th>") && !fits(&tag, "<thi>"));
}

/// The grammars people use with llama.cpp, in their style.
const JSON_GBNF: &str = r#"# a JSON object
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# no endless white space
ws ::= | " " | "\n" [ \t]{0,20}
"#;

const ARITHMETIC_GBNF: &str = r#"root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;

const LIST_GBNF: &str = "root ::= item+\n\n# bullets\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n";

#[test]
fn grammars_of_llama_cpp_are_followed() {
    let cases: [(&str, &[&str], &[&str]); 6] = [
        (
            JSON_GBNF,
            &["{}", "{\"a\": [1, {\"b\": \"x\\n\\u00e9\"}, -1.5e3, true]}", "{ \"a\":null}"],
            &["[]", "{\"a\"}", "{\"a\":1,}", "{\"\n\":1}"],
        ),
        (ARITHMETIC_GBNF, &["a+1=b\n", "(x1 *2)/y = 3\n"], &["a+=b\n", "1\n", "(a=b\n"]),
        (LIST_GBNF, &["- a\n", "- a\n- b\u{e9}\n"], &["a\n", "- \n", "- a"]),
        (
            "root ::= a b\na ::= \"x\"?\nb ::= [a-c]{2,3} | [^a-z] .",
            &["xab", "abc", "xA!", "A\n"],
            &["x", "a", "abcd"],
        ),
        (
            "root ::= \"(\" root? \")\"\n  | \"\\\\[\\x41\\U0001F600\"",
            &["()", "((()))", "(\\[A\u{1f600})"],
            &["(", "())"],
        ),
        ("root ::= ws \"a\"\nws ::= ([ \\t] ws)?\n", &["a", "  a"], &["b"]),
    ];
    for (grammar, good, bad) in cases {
        let constraint = constraint(&Format::Gbnf(grammar.into()));
        for text in good {
            assert!(fits(&constraint, text), "{grammar} {text}");
        }
        for text in bad {
            assert!(!fits(&constraint, text), "{grammar} {text}");
        }
    }
}

#[test]
fn grammars_are_read_in_words_where_that_is_right() {
    let greedy = "root ::= [a-z]+ root? \"b\"";
    for (grammar, in_words) in [(JSON_GBNF, true), (ARITHMETIC_GBNF, true), (greedy, false)] {
        let lark = gbnf::to_lark(grammar).unwrap();
        assert_eq!(lark.contains("W0: "), in_words, "{lark}");
    }
    assert!(fits(&constraint(&Format::Gbnf(greedy.into())), "xbb"));
}

#[test]
fn what_is_wrong_is_said_without_what_was_written() {
    let gbnf = |text: &str| Format::Gbnf(text.into());
    let schema = |text: &str| Format::JsonSchema(text.into());
    let deep = format!("{}1{}", "{\"not\":".repeat(100), "}".repeat(100));
    let cases: [(Format, &str); 20] = [
        (schema("{secret"), "the JSON Schema is not valid JSON"),
        (schema("[]"), "the JSON Schema is not an object"),
        (schema("{\"type\":\"secret\"}"), "the JSON Schema is not valid"),
        (schema("{\"not\":{}}"), "the JSON Schema uses keywords that are not supported: not"),
        (
            schema("{\"$ref\":\"https://secret\"}"),
            "only references that begin with #/ are supported",
        ),
        (
            schema("{\"type\":\"string\",\"format\":\"secret\"}"),
            "the JSON Schema uses a string format that is not supported",
        ),
        (
            schema("{\"type\":\"integer\",\"minimum\":3,\"maximum\":1}"),
            "no answer can satisfy the JSON Schema",
        ),
        (schema(&deep), "the JSON Schema is nested deeper than 64"),
        (Format::Lark("secret".into()), "the grammar is not valid in line 1"),
        (Format::Lark("start: secret".into()), "the grammar is not valid in line 1"),
        (Format::Regex("(".into()), "the grammar is not valid"),
        (Format::Regex("(?=secret)".into()), "the grammar uses what is not supported"),
        (gbnf(""), "the grammar has no rule named root"),
        (gbnf("root ::= secret"), "the grammar names a rule that it does not define"),
        (gbnf("root = secret"), "the grammar is not valid in line 1: ::= is missing"),
        (gbnf("root ::= \"a\n"), "the grammar is not valid in line 1: a text is not closed"),
        (
            gbnf("root ::= x\n\nx ::= [z-a]"),
            "the grammar is not valid in line 3: a range of characters is the wrong way round",
        ),
        (gbnf("root ::= (\"a\""), "the grammar is not valid in line 1: a bracket is not closed"),
        (gbnf("root ::= \"a\"{99999}"), "the grammar repeats something more than 10000 times"),
        (gbnf("root ::= <[12]>"), "tokens in grammars are not supported"),
    ];
    for (format, words) in cases {
        let error = check_format(&format).unwrap_err();
        assert!(error.to_string().starts_with(words), "{format:?}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

/// Whether it is refused, or else can be begun: what must not happen is a hang or an abort.
fn survives(format: &Format) -> Result<(), ConstraintError> {
    let mut constraint = Constraint::new(vocabulary(), format, None)?.unwrap();
    for _ in 0..20 {
        let mask = constraint.mask()?;
        let token = (0..u32::try_from(vocabulary().len()).unwrap() - 1).find(|t| mask.allows(*t));
        let Some(token) = token else { return Ok(()) };
        constraint.accept(token)?;
    }
    Ok(())
}

#[test]
fn bombs_are_refused_or_harmless() {
    let json = |value: serde_json::Value| Format::JsonSchema(value.to_string());
    let mut doubling = serde_json::json!({"$defs": {"d0": {"type": "string"}}});
    for n in 1..60 {
        let inner = format!("#/$defs/d{}", n - 1);
        doubling["$defs"][format!("d{n}")] = serde_json::json!({"anyOf": [{"$ref": inner}, {"type": "array", "items": {"$ref": inner}}], "allOf": [{"$ref": inner}, {"$ref": inner}]});
    }
    doubling["$ref"] = "#/$defs/d59".into();
    let words: Vec<String> = (0..20_000).map(|n| format!("word{n}")).collect();
    let many: serde_json::Map<String, serde_json::Value> = (0..5_000)
        .map(|n| (format!("p{n}"), serde_json::json!({"type": ["integer", "null"]})))
        .collect();
    let gbnf: String = (0..60).fold("root ::= a0\n".to_owned(), |text, n| {
        text + &format!("a{n} ::= a{} a{}\n", n + 1, n + 1)
    }) + "a60 ::= \"x\"\n";
    let mut chain = serde_json::json!({"$defs": {"d5000": {}}, "$ref": "#/$defs/d0"});
    for n in 0..5_000 {
        chain["$defs"][format!("d{n}")] =
            serde_json::json!({"$ref": format!("#/$defs/d{}", n + 1)});
    }
    let mut long = chain.clone();
    long["$ref"] = "#/$defs/d3002".into();
    long["$defs"]
        .as_object_mut()
        .unwrap()
        .retain(|name, _| name[1..].parse::<u32>().unwrap() > 3001);
    for (format, is_refused) in [
        (json(chain), true),
        (json(long), false),
        (json(doubling), false),
        (json(serde_json::json!({"enum": words})), false),
        (json(serde_json::json!({"type": "object", "properties": many})), true),
        (json(serde_json::json!({"type": "string", "pattern": "^(a+)+$"})), false),
        (
            json(serde_json::json!({"type": "string", "pattern": "((a{0,100}){0,100}){0,100}b"})),
            false,
        ),
        (
            json(
                serde_json::json!({"type": "array", "minItems": 1_000_000, "items": {"type": "array", "minItems": 1_000_000}}),
            ),
            false,
        ),
        (json(serde_json::json!({"$ref": "#"})), true),
        (json(serde_json::json!({"type": "number", "multipleOf": 1e-300})), true),
        (json(serde_json::json!({"type": "string", "maxLength": 4_000_000_000_u64})), false),
        (Format::Regex("(x+x+)+y".into()), false),
        (Format::Regex("(.*a){40}".into()), false),
        (Format::Regex("[ab]*a[ab]{5000}".into()), false),
        (Format::Gbnf(gbnf), true),
        (Format::Gbnf("root ::= root root | \"a\"".into()), false),
        (Format::Gbnf(format!("root ::= {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000))), true),
        (Format::Lark(format!("start: {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000))), true),
        (Format::Lark("start: \"a\"{1000000} start?".into()), false),
    ] {
        let result = survives(&format);
        let is_named =
            matches!(result, Err(ConstraintError::TooComplex(_) | ConstraintError::Invalid(_)));
        assert_eq!(is_named, is_refused, "{result:?} {:.80}", format!("{format:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is drawn from what may come: there is always something, and where it may end the
    /// answer is what was asked for.
    #[test]
    fn what_may_be_written_is_what_was_asked_for(choices in prop::collection::vec(any::<u16>(), 60)) {
        let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"array",
            "items":{"enum":["x",null]}}},"required":["a"],"additionalProperties":false}"#;
        let mut constraint = constraint(&Format::JsonSchema(schema.into()));
        let mut text = Vec::new();
        for choice in choices {
            let mask = constraint.mask().unwrap();
            let all = u32::try_from(vocabulary().len()).unwrap() - 1;
            let may: Vec<u32> = (0..all).filter(|token| mask.allows(*token)).collect();
            if may.is_empty() {
                prop_assert!(constraint.is_complete());
                break;
            }
            let token = may[usize::from(choice) % may.len()];
            constraint.accept(token).unwrap();
            text.extend_from_slice(vocabulary().text(token));
            if constraint.is_complete() {
                let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
                prop_assert!(value["a"].is_number());
            }
        }
    }

    #[test]
    fn no_text_is_a_grammar_that_does_harm(text in "[rot:=|\\[\\]()\"a-c*+?{}0-9,.# \n\\\\^-]{0,60}") {
        let _ = gbnf::to_lark(&text);
        let _ = gbnf::to_lark(&format!("root ::= {text}")).map(|lark| check_format(&Format::Lark(lark)));
    }
}

#[test]
fn a_large_vocabulary_is_built_and_used() {
    let mut tokens: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    let mut state = 1_u64;
    while tokens.len() < 151_936 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let letters = b" etaoinshrdlucmfwypvbgkjqxz";
        let length = 2 + (state >> 60) % 9;
        let mut word = Vec::new();
        for n in 0..length {
            let at = (state >> (7 * n)) % 27;
            word.push(letters[usize::try_from(at).unwrap()]);
        }
        tokens.push(word);
    }
    let end = u32::try_from(tokens.len()).unwrap();
    tokens.push(b"<end>".to_vec());
    let large = Vocabulary::new(tokens, &[end], &[end]).unwrap();
    let format = Format::JsonSchema(
        r#"{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}"#.into(),
    );
    let mut constraint = Constraint::new(&large, &format, None).unwrap().unwrap();
    for byte in b"{\"a\":\"hello" {
        assert!(constraint.mask().unwrap().allows(u32::from(*byte)));
        constraint.accept(u32::from(*byte)).unwrap();
    }
    let mask = constraint.mask().unwrap();
    let mut logits = vec![0.0; large.len()];
    mask.apply(&mut logits);
    assert!(logits.iter().filter(|l| **l == 0.0).count() > 150_000);
    assert!(!mask.allows(end));
}

#[test]
fn a_vocabulary_that_makes_no_sense_is_refused() {
    let build = |tokens: Vec<Vec<u8>>, special: &[u32], ends: &[u32]| {
        Vocabulary::new(tokens, special, ends).map(|_| ())
    };
    let words = || vec![b"a".to_vec(), b"b".to_vec()];
    assert_eq!(build(words(), &[1], &[1]), Ok(()));
    assert_eq!(build(words(), &[], &[]), Err(ConstraintError::Vocabulary));
    assert_eq!(build(words(), &[2], &[1]), Err(ConstraintError::Vocabulary));
    assert_eq!(build(words(), &[], &[2]), Err(ConstraintError::Vocabulary));
    assert_eq!(build(vec![], &[], &[0]), Err(ConstraintError::Vocabulary));
    let long = vec![vec![b'x'; crate::limits::VOCABULARY_BYTES_MAX + 1]];
    assert_eq!(build(long, &[], &[0]), Err(ConstraintError::Vocabulary));
    let odd =
        vec![vec![0xff, b'[', b'1', b']'], vec![b'x'; 2000], vec![], b"a".to_vec(), b"a".to_vec()];
    assert_eq!(build(odd, &[2, 3, 4], &[4]), Ok(()));
}

#[test]
fn everything_may_go_to_another_thread() {
    fn check<T: Send>() {}
    fn check_shared<T: Send + Sync>() {}
    check::<Constraint>();
    check::<crate::AnswerParser>();
    check_shared::<Vocabulary>();
    check_shared::<crate::ChatTemplate>();
}
