//! What a model file, a request or a model itself writes: templates, forms of answers, answers.

use std::{cell::RefCell, collections::BTreeMap};

use arknet_chat::{
    AnswerParser, ChatTemplate, Constraint, ConstraintError, FinishHint, PromptOptions,
    ReasoningStart, ReasoningSyntax, Syntax, ToolSyntax, Vocabulary, check_format,
    limits::{PIECE_BYTES_MAX, TEMPLATE_COPIES_MAX, TEMPLATE_EXTRA_BYTES_MAX},
};
use arknet_types::{Chat, Format, Message, Reply, Role, Tool, ToolCall, ToolChoice};
use serde::de::IgnoredAny;

use crate::{
    Decoder,
    corpus::chat as corpus,
    decoders::{costly, with},
    pieces::text_pieces,
};

/// Stands in the conversation for what must not become a control token.
const RAW: &str = "evil";

pub(crate) fn decoders() -> Vec<Decoder> {
    vec![
        with("answers", corpus::answers(), answer),
        costly("chat templates", corpus::templates(), 50, template),
        costly("JSON schemas", corpus::schemas(), 20, |bytes| form(Format::JsonSchema, bytes)),
        costly("Lark grammars", corpus::larks(), 50, |bytes| form(Format::Lark, bytes)),
        costly("GBNF grammars", corpus::gbnfs(), 20, |bytes| form(Format::Gbnf, bytes)),
        costly("expressions", corpus::expressions(), 50, |bytes| form(Format::Regex, bytes)),
        costly("constrained text", corpus::drawn(), 20, constrained),
    ]
}

const TOOLS: [Option<ToolSyntax>; 12] = [
    None,
    Some(ToolSyntax::Hermes),
    Some(ToolSyntax::QwenXml),
    Some(ToolSyntax::GlmXml),
    Some(ToolSyntax::Llama),
    Some(ToolSyntax::MistralList),
    Some(ToolSyntax::MistralArgs),
    Some(ToolSyntax::Granite),
    Some(ToolSyntax::DeepSeek),
    Some(ToolSyntax::DeepSeekPlain),
    Some(ToolSyntax::Kimi),
    Some(ToolSyntax::Channels),
];

const STARTS: [Option<ReasoningStart>; 4] =
    [None, Some(ReasoningStart::Free), Some(ReasoningStart::Open), Some(ReasoningStart::Closed)];

/// How answers look, by a byte: twelve forms of calls, with four beginnings of thoughts each.
fn syntax(byte: u8) -> Syntax {
    let byte = usize::from(byte);
    let tools = TOOLS[byte % 12];
    let channels = tools == Some(ToolSyntax::Channels);
    let (open, close) = match channels {
        true => ("<|channel|>analysis<|message|>", "<|end|>"),
        false => ("<think>", "</think>"),
    };
    let reasoning = STARTS[byte / 12 % 4];
    let reasoning =
        reasoning.map(|start| ReasoningSyntax { open: open.into(), close: close.into(), start });
    Syntax { reasoning, tools, channels }
}

fn conversation() -> Chat {
    let tool = |name: &str| Tool {
        name: name.into(),
        description: Some(format!("{RAW} Tells.")),
        parameters:
            r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#
                .into(),
    };
    let mut call = Message::new(Role::Assistant, "");
    call.parts.clear();
    call.reasoning = Some(format!("hm {RAW}"));
    call.tool_calls.push(ToolCall {
        id: "call_abcdefghijkl".into(),
        name: "weather".into(),
        arguments: r#"{"city":"evil"}"#.into(),
    });
    let mut result = Message::new(Role::Tool, format!("sunny {RAW}"));
    result.tool_call_id = Some("call_abcdefghijkl".into());
    let asked = Message::new(Role::User, format!("How is it? {RAW}"));
    let mut chat = Chat::new(vec![Message::new(Role::System, RAW), asked, call, result]);
    chat.tools = vec![tool("weather"), tool("time")];
    chat
}

/// An answer put together again.
#[derive(Debug, Default, Eq, PartialEq)]
struct Parts {
    text: String,
    reasoning: String,
    calls: Vec<(String, String, String)>,
    hint: FinishHint,
}

fn parts<'a>(
    syntax: &Syntax,
    chat: &Chat,
    pieces: impl Iterator<Item = &'a str>,
) -> (Parts, String) {
    let mut parser = AnswerParser::new(syntax, chat, 7);
    let (mut out, mut pushed, mut told) = (vec![], 0, 0);
    for piece in pieces {
        pushed += 1;
        parser.push(piece, 1, &mut out);
    }
    let mut parts = Parts { hint: parser.finish(&mut out), ..Parts::default() };
    // What was said in the order in which it was said.
    let mut said = String::new();
    for reply in out {
        match reply {
            Reply::Text { text, tokens } => {
                assert!(text.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", text.len());
                (parts.text, told) = (parts.text + &text, told + tokens);
                said += &text;
            }
            Reply::Reasoning { text, tokens } => {
                assert!(text.len() <= PIECE_BYTES_MAX, "a piece of {} bytes", text.len());
                (parts.reasoning, told) = (parts.reasoning + &text, told + tokens);
                said += &text;
            }
            Reply::ToolCall(piece) => {
                assert_eq!(piece.id.is_some(), piece.name.is_some(), "half a beginning");
                if let (Some(id), Some(name)) = (piece.id, piece.name) {
                    assert!(arknet_types::is_tool_name(&name), "a tool called {name:?}");
                    parts.calls.push((id, name, String::new()));
                }
                assert_eq!(usize::from(piece.index) + 1, parts.calls.len(), "calls are mixed");
                let (_, _, arguments) = parts.calls.last_mut().expect("one has begun");
                arguments.push_str(&piece.arguments);
                told += piece.tokens;
            }
            other => panic!("an answer is no {other:?}"),
        }
    }
    assert_eq!(told, pushed, "tokens were lost");
    assert_eq!(usize::from(parts.hint.tool_calls), parts.calls.len(), "calls were lost");
    (parts, said)
}

/// Any text is an answer; what comes of it does not depend on how it is cut, and nothing is said
/// that was not written. Accepted is what calls a tool.
fn answer(bytes: &[u8]) -> bool {
    let Some((first, text)) = bytes.split_first() else { return false };
    let text = String::from_utf8_lossy(text);
    let syntax = syntax(*first);
    let mut chat = conversation();
    chat.parallel_tool_calls = *first < 96;
    let (whole, said) = parts(&syntax, &chat, std::iter::once(&*text));
    assert_eq!(parts(&syntax, &chat, text_pieces(&text)).0, whole, "a cut made a difference");
    let mut written = text.chars();
    assert!(said.chars().all(|c| written.any(|w| w == c)), "said but not written: {said:?}");
    if syntax.tools.is_none() && syntax.reasoning.is_none() {
        assert_eq!(whole.text, text, "text was lost");
    }
    let complete = whole.calls.len() - usize::from(whole.hint.is_cut && !whole.calls.is_empty());
    // Where the model wrote tags and no object of its own, it was put together here.
    let is_made = matches!(syntax.tools, Some(ToolSyntax::QwenXml | ToolSyntax::GlmXml));
    let made = &whole.calls[..if is_made && !text.contains('{') { complete } else { 0 }];
    for (_, _, arguments) in made {
        assert!(is_object(arguments.as_bytes()), "arguments that are no object: {arguments:?}");
    }
    complete > 0
}

/// Whether this is an object in JSON, however large its numbers are.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(json).is_ok()
}

/// A template writes no more than it may, the same each time, and nothing that was not escaped.
fn template(bytes: &[u8]) -> bool {
    let source = String::from_utf8_lossy(bytes).into_owned();
    let Ok(template) = ChatTemplate::new(source, "<s>".into(), "</s>".into()) else {
        return false;
    };
    let escape = |text: &str| text.replace(RAW, "safe");
    let options = PromptOptions { now_unix_s: 1, escape: &escape, image_marker: None };
    let mut chat = conversation();
    let first = template.prompt(&chat, &options);
    assert_eq!(template.prompt(&chat, &options), first, "two prompts for one conversation");
    chat.messages.push(Message::new(Role::Assistant, "Well"));
    chat.tools.clear();
    let second = template.prompt(&chat, &options);
    for prompt in [&first, &second].into_iter().flatten() {
        let bytes_max = TEMPLATE_EXTRA_BYTES_MAX + TEMPLATE_COPIES_MAX * 16 * 1024;
        assert!(prompt.text.len() <= bytes_max, "a prompt of {} bytes", prompt.text.len());
        assert!(!prompt.text.contains(RAW), "not escaped");
    }
    first.is_ok()
}

/// A form is taken or refused, in words that hold nothing of it.
fn form(format: fn(String) -> Format, bytes: &[u8]) -> bool {
    let result = check_format(&format(String::from_utf8_lossy(bytes).into_owned()));
    if let Err(error) = &result {
        let words = error.to_string();
        assert!(words.len() <= 300 && words.is_ascii() && !words.contains("evil"), "{words}");
        assert!(!words.contains("could not be read"), "the library panicked");
        assert!(*error != ConstraintError::Vocabulary && *error != ConstraintError::Stuck);
    }
    result.is_ok()
}

/// Bytes, some words, and control tokens, the last of which ends answers.
fn vocabulary() -> (Vocabulary, u32) {
    let words = ["<think>", "</think>", "<tool_call>", "{\"", "\": ", ">a", ">\n", "ab"];
    let special = [
        "[TOOL_CALLS]",
        "[ARGS]",
        "<|channel|>",
        "<|message|>",
        "<|end|>",
        "<|start|>",
        "<|im_end|>",
    ];
    let bytes = (0..=255).map(|byte| vec![byte]);
    let tokens: Vec<Vec<u8>> = bytes
        .chain(words.into_iter().chain(special).map(|word| word.as_bytes().to_vec()))
        .collect();
    let count = u32::try_from(tokens.len()).expect("few");
    let specials: Vec<u32> = (count - 7..count).collect();
    (Vocabulary::new(tokens, &specials, &[count - 1]).expect("a good vocabulary"), count)
}

fn forms() -> [Format; 6] {
    let schema = r#"{"type":"object","properties":{"a":{"type":"integer"},"b":{"enum":["x","y"]}},
        "required":["a"],"additionalProperties":false}"#;
    [
        Format::Text,
        Format::JsonObject,
        Format::JsonSchema(schema.into()),
        Format::Lark("start: \"a\" word+\nword: /[xy]/ \";\"".into()),
        Format::Gbnf("root ::= \"a\" [xy]+ | \"b\"".into()),
        Format::Regex("[ab]{2,9}/c?".into()),
    ]
}

thread_local! {
    /// What was compiled before, by the first two bytes of an input.
    static MADE: RefCell<BTreeMap<(u8, u8), Option<Constraint>>> = const { RefCell::new(BTreeMap::new()) };
    static WORDS: (Vocabulary, u32) = vocabulary();
}

/// Tokens drawn as the input says, from those that may come: there always is one, it is always
/// taken, and an answer that ends well has its form. Accepted is what may end where it does.
fn constrained(bytes: &[u8]) -> bool {
    let [which, how, draws @ ..] = bytes else { return false };
    let (which, how) = (which % 6, how % 192);
    let Some(mut constraint) = made(which, how) else { return false };
    let count = WORDS.with(|(_, count)| *count);
    let (mut text, mut is_over) = (vec![], false);
    for draw in draws {
        let mask = constraint.mask().expect("an answer that goes on");
        if constraint.is_complete() {
            assert!(mask.allows(count - 1), "complete, but may not end");
        }
        if constraint.must_stop() {
            assert!(constraint.is_complete(), "must stop, but is not complete");
        }
        // The byte itself where it may come, and else the next token that may.
        let all = (u32::from(*draw)..count).chain(0..u32::from(*draw));
        let token = all.into_iter().find(|token| mask.allows(*token)).expect("a token may come");
        assert!(mask.only().is_none_or(|only| only == token), "another is the only one");
        if token == count - 1 {
            is_over = true;
            break;
        }
        constraint.accept(token).expect("what may come is taken");
        text.push(token);
    }
    let is_complete = constraint.is_complete();
    assert!(is_complete || !is_over, "it ended and is not complete");
    if is_complete && how == 0 {
        let written: Option<Vec<u8>> = text.iter().map(|token| u8::try_from(*token).ok()).collect();
        if let (Some(written), 1 | 2) = (written, which) {
            assert!(is_object(&written), "no object: {}", String::from_utf8_lossy(&written));
        }
    }
    is_complete
}

/// The constraint of a form: without a conversation, or in one of which the second byte tells.
fn made(which: u8, how: u8) -> Option<Constraint> {
    MADE.with_borrow_mut(|made| {
        let make = || {
            let mut chat = conversation();
            let syntax = syntax(how);
            chat.tool_choice = match how / 48 {
                1 => ToolChoice::Auto,
                2 => ToolChoice::Required,
                _ => ToolChoice::Named("weather".into()),
            };
            let about = (how >= 48).then_some((&chat, &syntax));
            let format = &forms()[usize::from(which)];
            WORDS.with(|(words, _)| Constraint::new(words, format, about)).expect("a good form")
        };
        made.entry((which, how)).or_insert_with(make).clone()
    })
}
