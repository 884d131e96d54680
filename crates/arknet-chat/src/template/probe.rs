//! What a template can do, found out by trying.

use arknet_types::{Chat, Message, Reasoning, Role, Tool, ToolCall};

use super::{ChatTemplate, Dialect, PromptOptions, Rendering, TemplateFeatures, Writer};

// Words that no template says by itself.
const SYSTEM: &str = "qsystemq";
const USER: &str = "quserq";
const LATER: &str = "qlaterq";
const ANSWER: &str = "qanswerq";
const TOOL: &str = "qtoolq";
const ARGUMENT: &str = "qargumentq";
const RESULT: &str = "qresultq";
/// Longest text that is taken for an end mark.
const STOP_BYTES_MAX: usize = 40;

/// Fills in dialect, features and stops.
pub(super) fn explore(template: &mut ChatTemplate) {
    let everything = Dialect {
        system: true,
        late_system: true,
        tools: true,
        results: true,
        short_ids: ["length 9", "!= 9"].iter().any(|words| template.source.contains(words)),
        ..Dialect::default()
    };
    template.dialect = everything;
    let user = Message::new(Role::User, USER);
    let plain = Chat::new(vec![user.clone()]);
    if !template.says(&plain, &[USER]) {
        template.dialect.typed = true;
        // Where neither works, requests will tell why; contents are texts then.
        template.dialect.typed = template.says(&plain, &[USER]);
    }
    let system = Message::new(Role::System, SYSTEM);
    let first = Chat::new(vec![system.clone(), user.clone()]);
    let system_works = template.says(&first, &[SYSTEM, USER]);
    let answer = Message::new(Role::Assistant, ANSWER);
    let later = Message::new(Role::User, LATER);
    let late = Chat::new(vec![user.clone(), answer.clone(), system, later.clone()]);
    let late_works = template.says(&late, &[USER, SYSTEM, LATER]);
    let tools_work = template.family.tools.is_some() && tools_work(template, &user);
    let results = results(template, &user);
    let dialect = template.dialect;
    template.dialect = Dialect {
        system: system_works,
        late_system: late_works,
        tools: tools_work,
        results: results.is_some(),
        ..results.unwrap_or(dialect)
    };
    template.features = TemplateFeatures {
        system: system_works,
        tools: tools_work,
        reasoning: template.family.has_reasoning(),
        reasoning_switch: switches(template, &plain),
    };
    template.stops = stop(template, Chat::new(vec![user, answer, later])).into_iter().collect();
}

fn tools_work(template: &ChatTemplate, user: &Message) -> bool {
    let mut chat = Chat::new(vec![user.clone()]);
    chat.tools.push(Tool {
        name: TOOL.into(),
        description: Some(SYSTEM.into()),
        parameters: format!(
            "{{\"type\": \"object\", \"properties\": {{\"{ARGUMENT}\": {{\"type\": \"string\", \
             \"description\": \"x\"}}}}, \"required\": [\"{ARGUMENT}\"]}}"
        ),
    });
    template.says(&chat, &[TOOL, ARGUMENT, USER])
}

/// The way to tell of tool calls and their results, if there is one.
fn results(template: &mut ChatTemplate, user: &Message) -> Option<Dialect> {
    let mut call = Message::new(Role::Assistant, "");
    call.parts.clear();
    let id = "call00001".to_owned();
    let arguments = format!("{{\"{ARGUMENT}\": \"x\"}}");
    call.tool_calls = vec![ToolCall { id: id.clone(), name: TOOL.into(), arguments }];
    let mut result = Message::new(Role::Tool, RESULT);
    result.tool_call_id = Some(id);
    let chat = Chat::new(vec![user.clone(), call, result]);
    let before = template.dialect;
    let mut found = None;
    for (none_for_empty, arguments_as_text) in
        [(false, false), (true, false), (false, true), (true, true)]
    {
        template.dialect = Dialect { none_for_empty, arguments_as_text, ..before };
        let Some(text) = template.try_on(&chat, Reasoning::Auto) else { continue };
        // Arguments told twice as text have their quotes escaped.
        let escaped = format!("\\\"{ARGUMENT}");
        if [TOOL, ARGUMENT, RESULT].iter().all(|w| text.contains(w)) && !text.contains(&escaped) {
            found = Some(template.dialect);
            break;
        }
    }
    template.dialect = before;
    found
}

fn switches(template: &ChatTemplate, plain: &Chat) -> bool {
    let on = template.try_on(plain, Reasoning::On);
    let off = template.try_on(plain, Reasoning::Off);
    on.is_some() && off.is_some() && on != off
}

/// The mark after an assistant's message.
fn stop(template: &ChatTemplate, chat: Chat) -> Option<String> {
    let text = template.try_on(&chat, Reasoning::Auto)?;
    let after = text.split_once(ANSWER)?.1.trim_start();
    let end = after.find('>')? + 1;
    let mark = &after[..end];
    let is_mark = mark.starts_with('<')
        && mark.len() <= STOP_BYTES_MAX
        && !mark.contains(char::is_whitespace);
    is_mark.then(|| mark.to_owned())
}

impl ChatTemplate {
    fn says(&self, chat: &Chat, words: &[&str]) -> bool {
        let text = self.try_on(chat, Reasoning::Auto);
        text.is_some_and(|text| words.iter().all(|word| text.contains(word)))
    }

    fn try_on(&self, chat: &Chat, reasoning: Reasoning) -> Option<String> {
        let escape = |text: &str| text.to_owned();
        let options = PromptOptions { now_unix_s: 0, escape: &escape, image_marker: None };
        let writer = Writer { dialect: self.dialect, options: &options };
        let messages = writer.messages(&chat.messages, false).ok()?;
        let tools = writer.tools(chat);
        let rendering = Rendering {
            messages: &messages,
            tools: &tools,
            reasoning,
            is_continued: false,
            now_unix_s: 0,
        };
        self.render(&rendering).ok()
    }
}
