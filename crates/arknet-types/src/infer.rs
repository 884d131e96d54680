use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Capabilities, Chat, Message, ModelDigest, ModelName, Refusal, RefusalCode, Salt, ToolChoice,
    chat::is_tool_name,
    codec,
    limits::{
        COMPLETION_TOKENS_MAX, FILE_GROUP_BYTES, FORMAT_BYTES_MAX, INPUT_BYTES_MAX,
        LOGIT_BIASES_MAX, MESSAGES_MAX, PARTS_PER_MESSAGE_MAX, STOP_BYTES_MAX, STOPS_MAX,
        TEXTS_MAX, TOKENIZE_BYTES_MAX, TOKENS_MAX, TOOL_CALLS_PER_MESSAGE_MAX, TOOLS_MAX,
        TOP_LOGPROBS_MAX,
    },
};

/// Before what is hashed for a digest of a request, so that no other hash is one.
const DIGEST_TAG: &[u8] = b"arknet/infer-digest/1\0";

/// What is asked of a model: all that a provider gets to see.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// Which model.
    pub model: ModelName,
    /// What to do, and with what.
    pub input: Input,
    /// Tokens to generate at most; none leaves it to the context length.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer and are not part of it.
    #[borsh(deserialize_with = "stops")]
    pub stop: Vec<String>,
    /// How the next token is drawn.
    pub sampling: Sampling,
    /// The form the answer must have.
    pub format: Format,
    /// Say how likely each token was, and this many others in its place (0 to 20).
    pub logprobs: Option<u8>,
    /// How the numbers are computed.
    pub profile: Profile,
}

/// What to do, and with what.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// Answer in a conversation, in the form the model was trained on. Replies: text, reasoning, tool
    /// calls.
    Chat(Chat),
    /// Continue a text as it stands. Replies: text.
    Text(String),
    /// Turn each text into a vector. Replies: one embedding for each, in order.
    Embed(#[borsh(deserialize_with = "codec::list::<_, _, TEXTS_MAX>")] Vec<String>),
    /// Say how well each document answers the query. Replies: the scores, in order.
    Rerank {
        /// What is asked.
        query: String,
        /// What may answer it.
        #[borsh(deserialize_with = "codec::list::<_, _, TEXTS_MAX>")]
        documents: Vec<String>,
    },
    /// Split a text into tokens. Replies: the tokens.
    Tokenize {
        /// The text. What looks like a control token in it is text.
        text: String,
        /// Whether to begin as the model's inputs begin.
        add_special: bool,
    },
    /// Put tokens together. Replies: text.
    Detokenize(#[borsh(deserialize_with = "codec::list::<_, _, TOKENS_MAX>")] Vec<u32>),
    /// Count the tokens of a conversation, and do nothing else. Replies: none but the end, whose
    /// usage tells.
    Count(Chat),
    /// Hand over a part of the model's file. Replies: the part with the hashes it is checked by, in
    /// pieces.
    File {
        /// The file's SHA-256.
        digest: ModelDigest,
        /// The first byte that is wanted; begins a group.
        offset: u64,
        /// How many bytes, in whole groups; what lies beyond the end is not there. With none at all
        /// the reply says what the file is.
        length: u64,
    },
}

/// The form an answer must have. What the model writes as tool calls or reasoning does not count.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub enum Format {
    /// Any.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// A value of this JSON Schema, itself in JSON.
    JsonSchema(String),
    /// A text of this grammar, in Lark's notation.
    Lark(String),
    /// A text of this grammar, in llama.cpp's notation (GBNF).
    Gbnf(String),
    /// A text that this regular expression matches from end to end.
    Regex(String),
}

impl Format {
    fn bytes(&self) -> usize {
        match self {
            Self::Text | Self::JsonObject => 0,
            Self::JsonSchema(text) | Self::Lark(text) | Self::Gbnf(text) | Self::Regex(text) => {
                text.len()
            }
        }
    }
}

/// How the numbers are computed.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Profile {
    /// As fast as can be.
    #[default]
    Default = 0,
    /// The same bits whatever else is computed at the same time, and however it is divided.
    Exact = 1,
}

/// How the next token is drawn. Neutral values switch a step off.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the likeliest token; higher is more varied. 0 to 2.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability; 1 is off.
    pub top_p: f32,
    /// Keep this many likeliest tokens; 0 is off.
    pub top_k: u32,
    /// Keep tokens at least this likely relative to the likeliest; 0 is off.
    pub min_p: f32,
    /// Subtracted from the logit of every token already used; -2 to 2, 0 is off.
    pub presence_penalty: f32,
    /// Subtracted once per use; -2 to 2, 0 is off.
    pub frequency_penalty: f32,
    /// Divides the logit of every token already used; above 0, 1 is off.
    pub repeat_penalty: f32,
    /// Same seed, same request, same node: same answer. None draws one.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens.
    #[borsh(deserialize_with = "codec::list::<_, _, LOGIT_BIASES_MAX>")]
    pub logit_bias: Vec<LogitBias>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_penalty: 1.0,
            seed: None,
            logit_bias: Vec::new(),
        }
    }
}

/// An addition to one token's logit.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, PartialEq)]
pub struct LogitBias {
    /// The token's number in the model's vocabulary.
    pub token: u32,
    /// -100 (never) to 100 (always).
    pub bias: f32,
}

/// Why an answer ended.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum FinishReason {
    /// The model ended it.
    Stop = 0,
    /// The token limit or the context was reached.
    Length = 1,
    /// The model called tools and waits for their results.
    ToolCalls = 2,
    /// This one of the request's stop sequences came, counted from 0.
    StopSequence(u8) = 3,
}

/// What an answer took.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Tokens of the input, after the chat template.
    pub prompt_tokens: u32,
    /// Tokens generated, those of reasoning and tool calls included.
    pub completion_tokens: u32,
    /// Of the input's tokens, those that did not have to be computed again.
    pub cached_tokens: u32,
    /// Of the tokens generated, those of reasoning.
    pub reasoning_tokens: u32,
}

impl InferRequest {
    /// Holds every parameter against its bounds. Decoding checks sizes; this checks sense, and both
    /// the sender and the receiver call it.
    pub fn check(&self) -> Result<(), Refusal> {
        let bad = |detail: String| Err(Refusal::new(RefusalCode::InvalidRequest, detail));
        let Sampling { temperature, top_p, min_p, repeat_penalty, .. } = self.sampling;
        let Sampling { presence_penalty, frequency_penalty, .. } = self.sampling;
        for (name, value, low, high) in [
            ("temperature", temperature, 0.0, 2.0),
            ("top_p", top_p, 0.0, 1.0),
            ("min_p", min_p, 0.0, 1.0),
            ("presence_penalty", presence_penalty, -2.0, 2.0),
            ("frequency_penalty", frequency_penalty, -2.0, 2.0),
            ("repeat_penalty", repeat_penalty, 0.01, 10.0),
        ] {
            // Written so that a value that is no number fails too.
            if !(low..=high).contains(&value) {
                return bad(format!("{name} must lie between {low} and {high}"));
            }
        }
        if self.sampling.logit_bias.len() > LOGIT_BIASES_MAX {
            return bad(format!("logit_bias may name {LOGIT_BIASES_MAX} tokens at most"));
        }
        if self.sampling.logit_bias.iter().any(|b| !(-100.0..=100.0).contains(&b.bias)) {
            return bad("logit_bias must lie between -100 and 100".into());
        }
        if self.max_tokens.is_some_and(|n| n == 0 || n > COMPLETION_TOKENS_MAX) {
            return bad(format!("max_tokens must lie between 1 and {COMPLETION_TOKENS_MAX}"));
        }
        if self.stop.len() > STOPS_MAX {
            return bad(format!("stop may hold {STOPS_MAX} sequences at most"));
        }
        if self.stop.iter().any(|s| s.is_empty() || s.len() > STOP_BYTES_MAX) {
            return bad(format!("a stop sequence must have 1 to {STOP_BYTES_MAX} bytes"));
        }
        if self.logprobs.is_some_and(|n| n > TOP_LOGPROBS_MAX) {
            return bad(format!("logprobs may ask for {TOP_LOGPROBS_MAX} alternatives at most"));
        }
        if self.format.bytes() > FORMAT_BYTES_MAX {
            let words = format!("a schema or grammar may have {FORMAT_BYTES_MAX} bytes at most");
            return Err(Refusal::new(RefusalCode::TooLarge, words));
        }
        self.check_input()
    }

    fn check_input(&self) -> Result<(), Refusal> {
        let bad = |detail: String| Err(Refusal::new(RefusalCode::InvalidRequest, detail));
        let bytes = self.input_bytes();
        if bytes > INPUT_BYTES_MAX {
            let words =
                format!("the input has {bytes} bytes, {INPUT_BYTES_MAX} at most are allowed");
            return Err(Refusal::new(RefusalCode::TooLarge, words));
        }
        match &self.input {
            Input::Chat(chat) | Input::Count(chat) => check_chat(chat),
            Input::Embed(texts) if texts.is_empty() => bad("there is no text to embed".into()),
            Input::Rerank { documents, .. } if documents.is_empty() => {
                bad("there is no document to rank".into())
            }
            Input::Embed(texts) | Input::Rerank { documents: texts, .. }
                if texts.len() > TEXTS_MAX =>
            {
                bad(format!("a request may hold {TEXTS_MAX} texts at most"))
            }
            Input::File { offset, length, .. }
                if offset % FILE_GROUP_BYTES != 0 || length % FILE_GROUP_BYTES != 0 =>
            {
                bad(format!("a file is handed over in groups of {FILE_GROUP_BYTES} bytes"))
            }
            Input::Tokenize { text, .. } if text.len() > TOKENIZE_BYTES_MAX => Err(Refusal::new(
                RefusalCode::TooLarge,
                format!("a text to split into tokens may have {TOKENIZE_BYTES_MAX} bytes at most"),
            )),
            Input::Detokenize(tokens) if tokens.len() > TOKENS_MAX => {
                bad(format!("a request may hold {TOKENS_MAX} tokens at most"))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of everything in the input.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        match &self.input {
            Input::Chat(chat) | Input::Count(chat) => chat_bytes(chat),
            Input::Text(text) | Input::Tokenize { text, .. } => text.len(),
            Input::Embed(texts) => texts.iter().map(String::len).sum(),
            Input::Rerank { query, documents } => {
                query.len() + documents.iter().map(String::len).sum::<usize>()
            }
            Input::Detokenize(tokens) => tokens.len() * size_of::<u32>(),
            Input::File { .. } => 0,
        }
    }

    /// A plain request for this.
    #[must_use]
    pub fn new(model: ModelName, input: Input) -> Self {
        Self {
            model,
            input,
            max_tokens: None,
            stop: vec![],
            sampling: Sampling::default(),
            format: Format::default(),
            logprobs: None,
            profile: Profile::default(),
        }
    }

    /// What a model must be able to do for this.
    #[must_use]
    pub fn needs(&self) -> Capabilities {
        let mut needs = match &self.input {
            Input::Chat(_) | Input::Text(_) => Capabilities::GENERATE,
            Input::Embed(_) => Capabilities::EMBED,
            Input::Rerank { .. } => Capabilities::RERANK,
            Input::Tokenize { .. } | Input::Detokenize(_) | Input::Count(_) => {
                Capabilities::TOKENIZE
            }
            Input::File { .. } => Capabilities::FILE,
        };
        if let Input::Chat(chat) = &self.input {
            if !chat.tools.is_empty() && chat.tool_choice != ToolChoice::None {
                needs = needs.with(Capabilities::TOOLS);
            }
            if chat.has_images() {
                needs = needs.with(Capabilities::VISION);
            }
        }
        if self.format != Format::Text {
            needs = needs.with(Capabilities::CONSTRAINED);
        }
        if self.logprobs.is_some() {
            needs = needs.with(Capabilities::LOGPROBS);
        }
        if self.profile == Profile::Exact {
            needs = needs.with(Capabilities::EXACT);
        }
        needs
    }

    /// What stands for this in what the session signs: a BLAKE3 hash that tells nothing of it to who
    /// has not the salt.
    #[must_use]
    pub fn digest(&self, salt: &Salt) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(DIGEST_TAG).update(&salt.0).update(&crate::encode(self));
        *hasher.finalize().as_bytes()
    }
}

fn chat_bytes(chat: &Chat) -> usize {
    let tools = chat.tools.iter().map(|tool| {
        tool.name.len() + tool.parameters.len() + tool.description.as_ref().map_or(0, String::len)
    });
    chat.messages.iter().map(Message::bytes).sum::<usize>() + tools.sum::<usize>()
}

fn check_chat(chat: &Chat) -> Result<(), Refusal> {
    let bad = |detail: String| Err(Refusal::new(RefusalCode::InvalidRequest, detail));
    if chat.messages.is_empty() {
        return bad("messages may not be empty".into());
    }
    if chat.messages.len() > MESSAGES_MAX {
        return bad(format!("a request may hold {MESSAGES_MAX} messages at most"));
    }
    if chat.tools.len() > TOOLS_MAX {
        return bad(format!("a request may name {TOOLS_MAX} tools at most"));
    }
    let too_many = |m: &Message| {
        m.parts.len() > PARTS_PER_MESSAGE_MAX || m.tool_calls.len() > TOOL_CALLS_PER_MESSAGE_MAX
    };
    if chat.messages.iter().any(too_many) {
        return bad(format!(
            "a message may hold {PARTS_PER_MESSAGE_MAX} parts and {TOOL_CALLS_PER_MESSAGE_MAX} tool calls at most"
        ));
    }
    let called = chat.messages.iter().flat_map(|m| m.tool_calls.iter().map(|c| &c.name));
    if !chat.tools.iter().map(|tool| &tool.name).chain(called).all(|name| is_tool_name(name)) {
        return bad("a tool's name has 1 to 128 of a-z, A-Z, 0-9, _, - and .".into());
    }
    match &chat.tool_choice {
        ToolChoice::Named(name) if !chat.tools.iter().any(|tool| &tool.name == name) => {
            bad("tool_choice names a tool that is not among the tools".into())
        }
        ToolChoice::Required if chat.tools.is_empty() => {
            bad("tool_choice asks for a tool where there is none".into())
        }
        _ => Ok(()),
    }
}

fn stops<R: io::Read>(reader: &mut R) -> io::Result<Vec<String>> {
    let length = u32::deserialize_reader(reader)? as usize;
    if length > STOPS_MAX {
        return Err(codec::invalid(format!("{length} stop sequences, at most {STOPS_MAX}")));
    }
    (0..length).map(|_| codec::text::<_, STOP_BYTES_MAX>(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Role, Tool};

    type Change = fn(&mut InferRequest);

    fn request() -> InferRequest {
        let chat = Chat::new(vec![Message::new(Role::User, "hi")]);
        InferRequest {
            max_tokens: Some(1),
            stop: vec!["x".into()],
            ..InferRequest::new(ModelName::new("m").unwrap(), Input::Chat(chat))
        }
    }

    fn tool(name: &str) -> Tool {
        Tool { name: name.into(), description: None, parameters: "{}".into() }
    }

    fn chat(request: &mut InferRequest) -> &mut Chat {
        match &mut request.input {
            Input::Chat(chat) => chat,
            _ => panic!("no chat"),
        }
    }

    #[test]
    fn what_is_asked_says_what_it_needs() {
        let mut r = request();
        assert_eq!(r.needs(), Capabilities::GENERATE);
        chat(&mut r).tools = vec![tool("a")];
        r.format = Format::JsonObject;
        assert!(r.needs().contains(Capabilities::TOOLS.with(Capabilities::CONSTRAINED)));
        chat(&mut r).tool_choice = ToolChoice::None;
        assert!(!r.needs().contains(Capabilities::TOOLS));
        r.input = Input::Embed(vec!["a".into()]);
        r.format = Format::Text;
        assert_eq!(r.needs(), Capabilities::EMBED);
    }

    fn tokenize(bytes: usize) -> Input {
        Input::Tokenize { text: "t".repeat(bytes), add_special: false }
    }

    #[test]
    fn bounds_are_inclusive_and_enforced() {
        assert_eq!(request().check(), Ok(()));
        let good: [Change; 9] = [
            |r| r.sampling.temperature = 2.0,
            |r| r.sampling.presence_penalty = -2.0,
            |r| r.max_tokens = Some(COMPLETION_TOKENS_MAX),
            |r| r.stop = vec!["s".repeat(STOP_BYTES_MAX); STOPS_MAX],
            |r| r.input = Input::Text("t".repeat(INPUT_BYTES_MAX)),
            |r| r.logprobs = Some(TOP_LOGPROBS_MAX),
            |r| r.format = Format::Regex("a".repeat(FORMAT_BYTES_MAX)),
            |r| r.input = Input::Embed(vec!["t".into(); TEXTS_MAX]),
            |r| r.input = tokenize(TOKENIZE_BYTES_MAX),
        ];
        for change in good {
            let mut r = request();
            change(&mut r);
            assert_eq!(r.check(), Ok(()));
            assert_eq!(crate::decode::<InferRequest>(&crate::encode(&r)).unwrap(), r);
        }
        let bad: [(Change, RefusalCode); 18] = [
            (|r| r.sampling.temperature = 2.1, RefusalCode::InvalidRequest),
            (|r| r.sampling.temperature = f32::INFINITY, RefusalCode::InvalidRequest),
            (|r| r.sampling.top_p = -0.1, RefusalCode::InvalidRequest),
            (|r| r.max_tokens = Some(0), RefusalCode::InvalidRequest),
            (|r| r.max_tokens = Some(COMPLETION_TOKENS_MAX + 1), RefusalCode::InvalidRequest),
            (|r| r.stop = vec!["s".into(); STOPS_MAX + 1], RefusalCode::InvalidRequest),
            (|r| r.stop = vec![String::new()], RefusalCode::InvalidRequest),
            (|r| r.input = Input::Chat(Chat::default()), RefusalCode::InvalidRequest),
            (|r| r.input = Input::Text("t".repeat(INPUT_BYTES_MAX + 1)), RefusalCode::TooLarge),
            (|r| r.logprobs = Some(TOP_LOGPROBS_MAX + 1), RefusalCode::InvalidRequest),
            (|r| r.format = Format::Lark("a".repeat(FORMAT_BYTES_MAX + 1)), RefusalCode::TooLarge),
            (|r| r.input = Input::Embed(vec![]), RefusalCode::InvalidRequest),
            (|r| r.input = tokenize(TOKENIZE_BYTES_MAX + 1), RefusalCode::TooLarge),
            (
                |r| r.input = Input::Embed(vec![String::new(); TEXTS_MAX + 1]),
                RefusalCode::InvalidRequest,
            ),
            (|r| chat(r).tools = vec![tool("a b")], RefusalCode::InvalidRequest),
            (|r| chat(r).tools = vec![tool("a"); TOOLS_MAX + 1], RefusalCode::InvalidRequest),
            (|r| chat(r).tool_choice = ToolChoice::Required, RefusalCode::InvalidRequest),
            (
                |r| {
                    chat(r).tools = vec![tool("a")];
                    chat(r).tool_choice = ToolChoice::Named("b".into());
                },
                RefusalCode::InvalidRequest,
            ),
        ];
        for (change, code) in bad {
            let mut r = request();
            change(&mut r);
            assert_eq!(r.check().unwrap_err().code, code);
        }
    }

    #[test]
    fn oversized_lists_do_not_decode() {
        let mut r = request();
        r.stop = vec!["s".into(); STOPS_MAX + 1];
        assert!(crate::decode::<InferRequest>(&crate::encode(&r)).is_err());
        let mut r = request();
        r.sampling.logit_bias = vec![LogitBias { token: 1, bias: 1.0 }; LOGIT_BIASES_MAX + 1];
        assert!(crate::decode::<InferRequest>(&crate::encode(&r)).is_err());
    }
}
