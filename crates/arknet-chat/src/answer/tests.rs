use arknet_types::{Message, Role, Tool};
use proptest::prelude::*;

use super::*;
use crate::{
    ReasoningSyntax,
    syntax::{deepseek, kimi},
};

fn chat() -> Chat {
    let tool = |name: &str| Tool {
        name: name.into(),
        description: None,
        parameters:
            r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#
                .into(),
    };
    let mut chat = Chat::new(vec![Message::new(Role::User, "x")]);
    chat.tools = vec![tool("weather"), tool("time")];
    chat
}

fn syntax(tools: Option<ToolSyntax>, start: Option<ReasoningStart>) -> Syntax {
    let (open, close) = ("<think>", "</think>");
    let reasoning =
        start.map(|start| ReasoningSyntax { open: open.into(), close: close.into(), start });
    Syntax { reasoning, tools, channels: tools == Some(ToolSyntax::Channels) }
}

/// An answer put together again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Parts {
    text: String,
    reasoning: String,
    calls: Vec<(String, String)>,
    tokens: u32,
    hint: FinishHint,
}

fn parse(syntax: &Syntax, chat: &Chat, pushes: &[&str]) -> Parts {
    let mut parser = AnswerParser::new(syntax, chat, 1);
    let mut out = vec![];
    for text in pushes {
        parser.push(text, 1, &mut out);
    }
    let mut parts = Parts { hint: parser.finish(&mut out), ..Parts::default() };
    for reply in out {
        match reply {
            Reply::Text { text, tokens } => {
                parts.text.push_str(&text);
                parts.tokens += tokens;
            }
            Reply::Reasoning { text, tokens } => {
                parts.reasoning.push_str(&text);
                parts.tokens += tokens;
            }
            Reply::ToolCall(piece) => {
                if let Some(name) = piece.name {
                    assert!(piece.id.is_some());
                    parts.calls.push((name, String::new()));
                }
                assert_eq!(usize::from(piece.index) + 1, parts.calls.len());
                parts.calls.last_mut().unwrap().1.push_str(&piece.arguments);
                parts.tokens += piece.tokens;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(usize::from(parts.hint.tool_calls), parts.calls.len());
    parts
}

/// Parses in one piece, character by character and in threes, which must all give the same.
fn read(syntax: &Syntax, answer: &str) -> Parts {
    let whole = parse(syntax, &chat(), &[answer]);
    let all: Vec<String> = answer.chars().map(String::from).collect();
    let single: Vec<&str> = all.iter().map(String::as_str).collect();
    let parts = parse(syntax, &chat(), &single);
    assert_eq!(u32::try_from(single.len()).unwrap(), parts.tokens);
    assert_eq!(Parts { tokens: 1, ..parts }, Parts { tokens: 1, ..whole.clone() }, "{answer}");
    whole
}

fn calls(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// Form, answer, text around, calls.
type Case<'a> = (ToolSyntax, String, &'a str, Vec<(&'a str, &'a str)>);

#[test]
fn every_form_of_tool_calls_is_understood() {
    use ToolSyntax as T;
    let rome = ("weather", "{\"city\": \"Rome\"}");
    let now = ("time", "{}");
    let (db, de, dc, dx, ds) = (
        deepseek::CALLS_BEGIN,
        deepseek::CALLS_END,
        deepseek::CALL_BEGIN,
        deepseek::CALL_END,
        deepseek::SEP,
    );
    let (kb, ke, kc, kx, ks) =
        (kimi::CALLS_BEGIN, kimi::CALLS_END, kimi::CALL_BEGIN, kimi::CALL_END, kimi::SEP);
    let object = "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}";
    let hermes = format!("Let me see.\n<tool_call>\n{object}\n</tool_call>");
    let two =
        format!("{hermes}\n<tool_call>{{\"name\":\"time\",\"arguments\":{{}}}}</tool_call>\n");
    let cases: Vec<Case<'_>> = vec![
        (T::Hermes, hermes.clone(), "Let me see.", vec![rome]),
        (T::Hermes, two, "Let me see.", vec![rome, now]),
        (T::Hermes, format!("{hermes} Done."), "Let me see.Done.", vec![rome]),
        // The same with the arguments first, as text, and missing.
        (T::Hermes, "<tool_call>{\"arguments\": {\"city\": \"Rome\"}, \"name\": \"weather\"}".into(), "", vec![rome]),
        (T::Hermes, "<tool_call>{\"name\": \"weather\", \"arguments\": \"{\\\"city\\\": \\\"Rome\\\"}\"}".into(), "", vec![rome]),
        (T::Hermes, "<tool_call>{\"name\": \"time\"}</tool_call>".into(), "", vec![now]),
        (T::QwenXml, "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>".into(), "", vec![("weather", "{\"city\": \"Rome\", \"days\": 3}")]),
        (T::QwenXml, "<function=weather>\n<parameter=city>\na \"b\"\n\nc</parameter>\n</function>".into(), "", vec![("weather", "{\"city\": \"a \\\"b\\\"\\n\\nc\"}")]),
        (T::QwenXml, "<tool_call>\n<function=time>\n</function>\n</tool_call>".into(), "", vec![now]),
        (T::GlmXml, "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>".into(), "", vec![("weather", "{\"city\": \"Rome\", \"days\": 2}")]),
        (T::Llama, "{\"name\": \"weather\", \"parameters\": {\"city\": \"Rome\"}}".into(), "", vec![rome]),
        (T::Llama, format!("<|python_tag|>{object}; {object}"), "", vec![rome, rome]),
        (T::Llama, "<function=weather>{\"city\": \"Rome\"}</function>".into(), "", vec![rome]),
        (T::MistralList, format!("[TOOL_CALLS] [{object}, {object}]"), "", vec![rome, rome]),
        (T::MistralArgs, "[TOOL_CALLS]weather[ARGS]{\"city\": \"Rome\"}[TOOL_CALLS]time[CALL_ID]x1[ARGS]{}".into(), "", vec![rome, now]),
        (T::Granite, format!("<|tool_call|>[{object}]"), "", vec![rome]),
        (T::DeepSeek, format!("Hm.{db}{dc}function{ds}weather\n```json\n{{\"city\": \"Rome\"}}\n```{dx}\n{dc}function{ds}time\n```json\n{{}}\n```{dx}{de}"), "Hm.", vec![rome, now]),
        (T::DeepSeekPlain, format!("{db}{dc}weather{ds}{{\"city\": \"Rome\"}}{dx}{de}"), "", vec![rome]),
        (T::Kimi, format!("{kb}{kc}functions.weather:0{ks}{{\"city\": \"Rome\"}}{kx}{ke}"), "", vec![rome]),
        (T::Channels, "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Rome\"}<|call|>".into(), "", vec![rome]),
        (T::Channels, " to=functions.time<|channel|>commentary json<|message|><|call|>".into(), "", vec![now]),
    ];
    for (form, answer, text, expected) in cases {
        let parts = read(&syntax(Some(form), None), &answer);
        assert_eq!(parts.calls, calls(&expected), "{answer}");
        assert_eq!((parts.text.as_str(), parts.reasoning.as_str()), (text, ""), "{answer}");
        for (_, arguments) in &parts.calls {
            assert!(serde_json::from_str::<serde_json::Value>(arguments).is_ok(), "{arguments}");
        }
    }
}

#[test]
fn what_is_no_call_comes_out_as_it_was_written() {
    use ToolSyntax as T;
    for (form, answer) in [
        (T::Hermes, "a <tool_call> b"),
        (T::Hermes, "a\n<tool_call>{\"name\": 1}</tool_call>"),
        (T::Hermes, "<tool_call>{\"name\": \"a b\", \"arguments\": {}}"),
        (T::Hermes, "<tool_call>{\"name\": \"weather\", \"argu"),
        (T::Hermes, "<tool_ca"),
        (T::Hermes, "x <b>{\"name\": \"weather\"}</b> "),
        (T::QwenXml, "<tool_call>\n<function=weather>\nno"),
        (T::QwenXml, "<function=a b>"),
        (T::GlmXml, "<tool_call>a b\n"),
        (T::Llama, " {\"answer\": {\"name\": 1}}"),
        (T::Llama, "{\"name\": \"unknown\", \"parameters\": {}}"),
        (T::Llama, "text {\"name\": \"weather\", \"parameters\": {}}"),
        (T::Llama, "<|python_tag|>print(1)"),
        (T::MistralList, "[TOOL_CALLS]]"),
        (T::MistralArgs, "[TOOL_CALLS]not a name[ARGS]{}"),
        (T::Granite, "<|tool_call|>none"),
        (T::Channels, "plain"),
    ] {
        let parts = read(&syntax(Some(form), None), answer);
        assert_eq!((parts.text.as_str(), parts.calls.len()), (answer, 0), "{form:?}");
    }
}

#[test]
fn a_call_inside_what_is_none_is_found() {
    let answer = "<tool_call> <tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
    let parts = read(&syntax(Some(ToolSyntax::Hermes), None), answer);
    assert_eq!((parts.text.as_str(), parts.calls), ("<tool_call>", calls(&[("time", "{}")])));
}

#[test]
fn reasoning_is_told_apart() {
    use ReasoningStart::{Closed, Free, Open};
    for (start, answer, reasoning, text) in [
        (Free, "<think>\na b\n</think>\n\nYes.", "a b", "Yes."),
        (Free, "Yes. <think>", "", "Yes. <think>"),
        (Free, " \n <think>a</think>b", "a", "b"),
        (Free, "<thin", "", "<thin"),
        (Open, "\na < b </thin </think> c", "a < b </thin", "c"),
        (Open, "a ", "a ", ""),
        (Closed, "\n\nb<think>", "", "b<think>"),
    ] {
        let parts = read(&syntax(None, Some(start)), answer);
        assert_eq!((parts.reasoning.as_str(), parts.text.as_str()), (reasoning, text), "{answer}");
    }
    let both = "<think>x</think>\n<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
    let parts = read(&syntax(Some(ToolSyntax::Hermes), Some(Free)), both);
    assert_eq!((parts.text.as_str(), parts.reasoning.as_str(), parts.calls.len()), ("", "x", 1));
    assert!(!parts.hint.is_cut);
    assert!(read(&syntax(None, Some(Open)), "a").hint.is_cut);
}

#[test]
fn channels_are_told_apart() {
    let answer = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary\
        <|message|>Let me see.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>";
    let channels = Syntax { channels: true, ..Syntax::default() };
    let parts = read(&channels, answer);
    assert_eq!((parts.reasoning.as_str(), parts.text.as_str()), ("Hm.", "Let me see.Yes."));
    // Without tools there are no calls.
    let answer = "<|channel|>commentary to=functions.f<|message|>{}<|call|>";
    assert_eq!(read(&channels, answer).text, "{}");
    let lost = format!("<|channel|>{}", "x".repeat(600));
    assert_eq!(read(&channels, &lost).text, lost);
    assert_eq!(read(&channels, "<|channel|>final").text, "<|channel|>final");
}

#[test]
fn pieces_leave_as_soon_as_they_are_sure() {
    let mut out = vec![];
    let tools = syntax(Some(ToolSyntax::Hermes), None);
    let mut parser = AnswerParser::new(&tools, &chat(), 1);
    for (text, leaves) in [
        ("Hel", 1),
        ("lo <", 1),
        ("b", 1),
        (" <tool_call>{\"name\": \"weather\",", 0),
        (" \"arguments\": {", 2),
        ("\"city\": \"Ro", 1),
        ("me\"", 1),
        ("}", 1),
        ("}\n</tool_call>", 0),
    ] {
        out.clear();
        parser.push(text, 1, &mut out);
        assert_eq!(out.len(), leaves, "{text}: {out:?}");
    }
}

#[test]
fn one_call_is_enough_where_only_one_is_wanted() {
    let mut chat = chat();
    chat.parallel_tool_calls = false;
    let call = "<tool_call>{\"name\": \"time\", \"arguments\": {}}</tool_call>";
    let mut parser = AnswerParser::new(&syntax(Some(ToolSyntax::Hermes), None), &chat, 1);
    let mut out = vec![];
    parser.push(&call[..30], 1, &mut out);
    assert!(!parser.is_done());
    parser.push(&call[30..], 1, &mut out);
    assert!(parser.is_done());
    let parts = parse(&syntax(Some(ToolSyntax::Hermes), None), &chat, &[call, call]);
    assert_eq!((parts.calls.len(), parts.text.as_str()), (1, call));
}

#[test]
fn what_is_held_back_is_bounded() {
    for (form, begin) in [
        (ToolSyntax::Hermes, "<tool_call>{\"arguments\": {\"x\": \""),
        (ToolSyntax::Hermes, "<tool_call>"),
        (ToolSyntax::Llama, "{\"parameters\": {\"x\": \""),
        (ToolSyntax::MistralArgs, "[TOOL_CALLS]"),
        (ToolSyntax::Channels, "<|channel|>"),
    ] {
        let mut parser = AnswerParser::new(&syntax(Some(form), None), &chat(), 1);
        let mut out = vec![];
        parser.push(begin, 1, &mut out);
        let filler = if begin == "<tool_call>" { " ".repeat(997) } else { "y".repeat(997) };
        let mut kept = 0;
        for _ in 0..100 {
            parser.push(&filler, 1, &mut out);
            kept = kept.max(parser.held.len());
            if let State::Call(call) = &parser.state {
                kept = kept.max(format!("{call:?}").len() / 2);
            }
        }
        assert!(kept <= 2 * HELD_BYTES_MAX, "{form:?} {kept}");
        parser.finish(&mut out);
        let text: usize =
            out.iter().map(|r| if let Reply::Text { text, .. } = r { text.len() } else { 0 }).sum();
        assert_eq!(text, begin.len() + 100 * 997, "{form:?}");
    }
}

fn any_syntax() -> impl Strategy<Value = Syntax> {
    use ToolSyntax as T;
    let forms = [
        T::Hermes,
        T::QwenXml,
        T::GlmXml,
        T::Llama,
        T::MistralList,
        T::MistralArgs,
        T::Granite,
        T::DeepSeek,
        T::DeepSeekPlain,
        T::Kimi,
        T::Channels,
    ];
    let starts = [ReasoningStart::Free, ReasoningStart::Open, ReasoningStart::Closed];
    let form = prop::option::of(prop::sample::select(forms.to_vec()));
    let start = prop::option::of(prop::sample::select(starts.to_vec()));
    (form, start).prop_map(|(form, start)| syntax(form, start))
}

/// Pieces of everything that means something, in any order.
fn any_answer() -> impl Strategy<Value = String> {
    let words = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<function=",
        "weather",
        ">",
        "<parameter=",
        "city",
        "</parameter>",
        "</function>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[",
        "]",
        ",",
        "{",
        "}",
        "\"name\"",
        ":",
        "\"weather\"",
        "\"arguments\"",
        "\"parameters\"",
        "{\"city\": \"x\"}",
        "<|python_tag|>",
        ";",
        "<|tool_call|>",
        deepseek::CALLS_BEGIN,
        deepseek::CALL_BEGIN,
        deepseek::SEP,
        deepseek::CALL_END,
        deepseek::CALLS_END,
        "```json",
        "```",
        "\n",
        " ",
        kimi::CALL_BEGIN,
        kimi::SEP,
        "functions.weather:0",
        "<|channel|>",
        "analysis",
        "final",
        "commentary",
        " to=functions.weather",
        "<|message|>",
        "<|end|>",
        "<|start|>",
        "<|call|>",
        "\u{e9}",
        "\\",
        "\"",
        "{\"name\": \"weather\", \"arguments\": ",
        "<",
        "1",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..16).prop_map(|w| w.concat())
}

fn split(text: &str, cuts: &[usize]) -> Vec<String> {
    let mut at: Vec<usize> =
        cuts.iter().map(|c| text.floor_char_boundary(c % (text.len() + 1))).collect();
    at.extend([0, text.len()]);
    at.sort_unstable();
    at.windows(2).map(|w| text[w[0]..w[1]].to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_split_of_any_answer_gives_what_the_whole_gives(
        syntax in any_syntax(),
        answer in any_answer(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = parse(&syntax, &chat(), &[&answer]);
        let pieces = split(&answer, &cuts);
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        let parts = parse(&syntax, &chat(), &pieces);
        prop_assert_eq!(usize::try_from(parts.tokens).unwrap(), pieces.len());
        prop_assert_eq!(Parts { tokens: 0, ..parts }, Parts { tokens: 0, ..whole });
    }

    #[test]
    fn text_without_markers_stays_as_it_is(syntax in any_syntax(), text in "[a-z \n.{}\\[\\]\":]{0,40}") {
        let syntax = Syntax { reasoning: None, ..syntax };
        let parts = parse(&syntax, &chat(), &[&text]);
        prop_assert_eq!(parts.text, text);
    }
}
