//! How the answers of a model look.

/// How an answer is to be read: what in it is reasoning, what a tool call, what text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Syntax {
    /// How reasoning is marked; none where the model does not mark any.
    pub reasoning: Option<ReasoningSyntax>,
    /// How tools are called; none where the model may not call any.
    pub tools: Option<ToolSyntax>,
    /// Whether the answer is a sequence of messages in channels, as gpt-oss writes them.
    pub channels: bool,
}

/// The markers around what a model thinks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReasoningSyntax {
    /// Before it.
    pub open: String,
    /// After it.
    pub close: String,
    /// Where the answer begins.
    pub start: ReasoningStart,
}

/// Whether an answer begins with reasoning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReasoningStart {
    /// The model decides.
    Free,
    /// The prompt has opened it: the first token is reasoning.
    Open,
    /// The prompt has closed it: the first token is text.
    Closed,
}

/// The forms in which models call tools. An [`crate::AnswerParser`] also takes what is close to one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ToolSyntax {
    /// `<tool_call>{"name": "f", "arguments": {..}}</tool_call>`: Hermes, Qwen, and every model whose
    /// template knows no tools.
    Hermes,
    /// `<tool_call><function=f><parameter=x>1</parameter></function></tool_call>`: Qwen3-Coder.
    QwenXml,
    /// `<tool_call>f<arg_key>x</arg_key><arg_value>1</arg_value></tool_call>`: GLM.
    GlmXml,
    /// `{"name": "f", "parameters": {..}}` as the whole answer, perhaps after `<|python_tag|>`:
    /// Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": "f", "arguments": {..}}]`: Mistral.
    MistralList,
    /// `[TOOL_CALLS]f[ARGS]{..}`: newer Mistral.
    MistralArgs,
    /// `<|tool_call|>[{"name": "f", "arguments": {..}}]`: Granite, Phi.
    Granite,
    /// `function<sep>f` and the arguments in a fenced block, between markers of their own: DeepSeek
    /// V3 and R1.
    DeepSeek,
    /// `f<sep>{..}` between the same markers: DeepSeek V3.1.
    DeepSeekPlain,
    /// `functions.f:0<sep>{..}` between markers of their own: Kimi.
    Kimi,
    /// `to=functions.f` in the header of a channel: gpt-oss.
    Channels,
}

/// The markers of DeepSeek, in full-width bars and lower blocks.
pub(crate) mod deepseek {
    pub(crate) const CALLS_BEGIN: &str = "<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>";
    pub(crate) const CALLS_END: &str = "<\u{ff5c}tool\u{2581}calls\u{2581}end\u{ff5c}>";
    pub(crate) const CALL_BEGIN: &str = "<\u{ff5c}tool\u{2581}call\u{2581}begin\u{ff5c}>";
    pub(crate) const CALL_END: &str = "<\u{ff5c}tool\u{2581}call\u{2581}end\u{ff5c}>";
    pub(crate) const SEP: &str = "<\u{ff5c}tool\u{2581}sep\u{ff5c}>";
}

/// The markers of Kimi.
pub(crate) mod kimi {
    pub(crate) const CALLS_BEGIN: &str = "<|tool_calls_section_begin|>";
    pub(crate) const CALLS_END: &str = "<|tool_calls_section_end|>";
    pub(crate) const CALL_BEGIN: &str = "<|tool_call_begin|>";
    pub(crate) const CALL_END: &str = "<|tool_call_end|>";
    pub(crate) const SEP: &str = "<|tool_call_argument_begin|>";
}

/// The markers of channels.
pub(crate) mod channel {
    pub(crate) const START: &str = "<|start|>";
    pub(crate) const CHANNEL: &str = "<|channel|>";
    pub(crate) const CONSTRAIN: &str = "<|constrain|>";
    pub(crate) const MESSAGE: &str = "<|message|>";
    pub(crate) const END: &str = "<|end|>";
    pub(crate) const CALL: &str = "<|call|>";
    pub(crate) const RETURN: &str = "<|return|>";
}

/// Pairs of markers around reasoning.
const REASONING: [(&str, &str); 5] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
];

impl ToolSyntax {
    /// The texts with which a call begins.
    pub(crate) fn openers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::QwenXml | Self::GlmXml => &["<tool_call>", "<function="],
            Self::Llama => &["<|python_tag|>", "<function="],
            Self::MistralList | Self::MistralArgs => &["[TOOL_CALLS]"],
            Self::Granite => &["<|tool_call|>", "<tool_call>"],
            Self::DeepSeek | Self::DeepSeekPlain => &[deepseek::CALLS_BEGIN, deepseek::CALL_BEGIN],
            Self::Kimi => &[kimi::CALLS_BEGIN, kimi::CALL_BEGIN],
            Self::Channels => &[],
        }
    }

    /// Texts that mean nothing after a call.
    pub(crate) fn closers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::QwenXml | Self::GlmXml => &["</tool_call>", "</function>"],
            Self::Llama => &["<|eom_id|>", "</function>"],
            Self::MistralList | Self::MistralArgs | Self::Channels => &[],
            Self::Granite => &["<|/tool_call|>", "</tool_call>"],
            Self::DeepSeek | Self::DeepSeekPlain => {
                &["```", deepseek::CALL_END, deepseek::CALLS_END]
            }
            Self::Kimi => &[kimi::CALL_END, kimi::CALLS_END],
        }
    }

    /// Other texts inside a call.
    fn inner(self) -> &'static [&'static str] {
        match self {
            Self::MistralList | Self::MistralArgs => &["[ARGS]", "[CALL_ID]"],
            Self::DeepSeek | Self::DeepSeekPlain => &[deepseek::SEP],
            Self::Kimi => &[kimi::SEP],
            Self::GlmXml => &["<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"],
            _ => &[],
        }
    }
}

impl Syntax {
    /// Texts of special tokens that the [`crate::AnswerParser`] must see in the answer's text, if
    /// the vocabulary has such tokens. All other special tokens may be left out of it.
    #[must_use]
    pub fn special_texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        if self.channels {
            use channel::{CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START};
            let all = [START, CHANNEL, CONSTRAIN, MESSAGE, END, CALL, RETURN];
            texts.extend(all.map(String::from));
        } else if let Some(reasoning) = &self.reasoning {
            texts.extend([reasoning.open.clone(), reasoning.close.clone()]);
        }
        if let Some(tools) = self.tools {
            let all = [tools.openers(), tools.closers(), tools.inner()].concat();
            texts.extend(all.into_iter().map(String::from));
        }
        texts
    }
}

/// What the source of a template says of the model's answers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Family {
    pub reasoning: Option<(&'static str, &'static str)>,
    pub tools: Option<ToolSyntax>,
    pub channels: bool,
}

impl Family {
    pub(crate) fn of(source: &str) -> Self {
        let has = |text: &str| source.contains(text);
        let channels = has(channel::CHANNEL) && has(channel::MESSAGE);
        let reasoning = REASONING.into_iter().find(|(open, close)| has(open) || has(close));
        let tools = if channels {
            Some(ToolSyntax::Channels)
        } else if has(deepseek::CALLS_BEGIN) {
            Some(if has("```") { ToolSyntax::DeepSeek } else { ToolSyntax::DeepSeekPlain })
        } else if has(kimi::CALL_BEGIN) {
            Some(ToolSyntax::Kimi)
        } else if has("[TOOL_CALLS]") {
            Some(if has("[ARGS]") { ToolSyntax::MistralArgs } else { ToolSyntax::MistralList })
        } else if has("<arg_key>") {
            Some(ToolSyntax::GlmXml)
        } else if has("<function=") && has("<parameter=") {
            Some(ToolSyntax::QwenXml)
        } else if has("<|tool_call|>") {
            Some(ToolSyntax::Granite)
        } else if has("<tool_call>") {
            Some(ToolSyntax::Hermes)
        } else if has("<|python_tag|>") || (has("\"parameters\"") && has("<|eot_id|>")) {
            Some(ToolSyntax::Llama)
        } else {
            None
        };
        Self { reasoning: reasoning.filter(|_| !channels), tools, channels }
    }

    pub(crate) fn has_reasoning(&self) -> bool {
        self.channels || self.reasoning.is_some()
    }

    /// How the answer to this prompt will look. `has_begun`: the prompt holds its beginning.
    pub(crate) fn syntax(
        &self,
        has_tools: bool,
        are_native: bool,
        prompt: &str,
        has_begun: bool,
    ) -> Syntax {
        let tools = match self.tools {
            _ if !has_tools => None,
            Some(form) if are_native => Some(form),
            _ => Some(ToolSyntax::Hermes),
        };
        let pair = if self.channels {
            Some(("<|channel|>analysis<|message|>", channel::END))
        } else {
            self.reasoning
        };
        let prompt = prompt.trim_end();
        let reasoning = pair.map(|(open, close)| ReasoningSyntax {
            open: open.into(),
            close: close.into(),
            start: if prompt.ends_with(open) {
                ReasoningStart::Open
            } else if has_begun || prompt.ends_with(close) {
                ReasoningStart::Closed
            } else {
                ReasoningStart::Free
            },
        });
        Syntax { reasoning, tools, channels: self.channels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_known_by_their_markers() {
        let cases: [(&str, Option<ToolSyntax>); 12] = [
            ("<|im_start|>", None),
            ("<tool_call>", Some(ToolSyntax::Hermes)),
            ("<tool_call><function=x><parameter=y>", Some(ToolSyntax::QwenXml)),
            ("<tool_call><arg_key>", Some(ToolSyntax::GlmXml)),
            ("<|python_tag|>", Some(ToolSyntax::Llama)),
            ("[TOOL_CALLS]", Some(ToolSyntax::MistralList)),
            ("[TOOL_CALLS][ARGS]", Some(ToolSyntax::MistralArgs)),
            ("<|tool_call|>", Some(ToolSyntax::Granite)),
            ("<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>```json", Some(ToolSyntax::DeepSeek)),
            ("<\u{ff5c}tool\u{2581}calls\u{2581}begin\u{ff5c}>", Some(ToolSyntax::DeepSeekPlain)),
            ("<|tool_call_begin|>", Some(ToolSyntax::Kimi)),
            ("<|channel|><|message|>", Some(ToolSyntax::Channels)),
        ];
        for (source, tools) in cases {
            assert_eq!(Family::of(source).tools, tools, "{source}");
        }
    }

    #[test]
    fn the_end_of_the_prompt_says_whether_the_model_is_thinking() {
        let family = Family::of("{{ '<think>' }}");
        let start =
            |prompt, begun| family.syntax(false, true, prompt, begun).reasoning.unwrap().start;
        assert_eq!(start("<a>\n<think>\n", false), ReasoningStart::Open);
        assert_eq!(start("<a>\n<think>\n\n</think>\n\n", false), ReasoningStart::Closed);
        assert_eq!(start("<a>\n", false), ReasoningStart::Free);
        assert_eq!(start("<a>\nWell", true), ReasoningStart::Closed);
    }
}
