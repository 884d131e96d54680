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

/// The forms in which models call tools.
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

impl Syntax {
    /// Texts of special tokens that the [`crate::AnswerParser`] must see in the answer's text. All
    /// other special tokens may be left out of it.
    #[must_use]
    pub fn special_texts(&self) -> Vec<String> {
        let mut texts = Vec::new();
        if let Some(reasoning) = &self.reasoning {
            texts.extend([reasoning.open.clone(), reasoning.close.clone()]);
        }
        texts
    }
}
