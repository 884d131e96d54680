use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    ModelName, Refusal, RefusalCode, codec,
    limits::{
        COMPLETION_TOKENS_MAX, LOGIT_BIASES_MAX, MESSAGES_MAX, REQUEST_FRAME_BYTES_MAX,
        STOP_BYTES_MAX, STOPS_MAX,
    },
};

/// What is asked of a model: all that a provider gets to see.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct InferRequest {
    /// Which model.
    pub model: ModelName,
    /// What to answer or continue.
    pub input: Input,
    /// Tokens to generate at most; none leaves it to the context length.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer and are not part of it.
    #[borsh(deserialize_with = "stops")]
    pub stop: Vec<String>,
    /// How the next token is drawn.
    pub sampling: Sampling,
}

/// A conversation or a bare text.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// Messages, put into the form the model was trained on by the model's own template.
    Chat(#[borsh(deserialize_with = "codec::list::<_, _, MESSAGES_MAX>")] Vec<Message>),
    /// A text to continue as it stands.
    Text(String),
}

/// One message of a conversation.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Role {
    /// Sets the scene.
    System = 0,
    /// The person.
    User = 1,
    /// The model.
    Assistant = 2,
    /// The result of a tool.
    Tool = 3,
}

impl Role {
    /// The name chat templates use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
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
    /// The model ended it, or a stop sequence did.
    Stop = 0,
    /// The token limit or the context was reached.
    Length = 1,
}

/// What an answer took.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Tokens of the input, after the chat template.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
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
        match &self.input {
            Input::Chat(messages) if messages.is_empty() => bad("messages may not be empty".into()),
            Input::Chat(messages) if messages.len() > MESSAGES_MAX => {
                bad(format!("a request may hold {MESSAGES_MAX} messages at most"))
            }
            _ if self.input_bytes() > REQUEST_FRAME_BYTES_MAX / 2 => {
                let max = REQUEST_FRAME_BYTES_MAX / 2;
                Err(Refusal::new(
                    RefusalCode::TooLarge,
                    format!(
                        "the input has {} bytes, {max} at most are allowed",
                        self.input_bytes()
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Bytes of text in the input.
    #[must_use]
    pub fn input_bytes(&self) -> usize {
        match &self.input {
            Input::Chat(messages) => messages.iter().map(|m| m.content.len()).sum(),
            Input::Text(text) => text.len(),
        }
    }

    /// The BLAKE3 hash of the canonical bytes, which the session signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&crate::encode(self)).as_bytes()
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

    type Change = fn(&mut InferRequest);

    fn request() -> InferRequest {
        InferRequest {
            model: ModelName::new("m").unwrap(),
            input: Input::Chat(vec![Message { role: Role::User, content: "hi".into() }]),
            max_tokens: Some(1),
            stop: vec!["x".into()],
            sampling: Sampling::default(),
        }
    }

    #[test]
    fn bounds_are_inclusive_and_enforced() {
        assert_eq!(request().check(), Ok(()));
        let good: [Change; 5] = [
            |r| r.sampling.temperature = 2.0,
            |r| r.sampling.presence_penalty = -2.0,
            |r| r.max_tokens = Some(COMPLETION_TOKENS_MAX),
            |r| r.stop = vec!["s".repeat(STOP_BYTES_MAX); STOPS_MAX],
            |r| r.input = Input::Text("t".repeat(REQUEST_FRAME_BYTES_MAX / 2)),
        ];
        for change in good {
            let mut r = request();
            change(&mut r);
            assert_eq!(r.check(), Ok(()));
            assert_eq!(crate::decode::<InferRequest>(&crate::encode(&r)).unwrap(), r);
        }
        let bad: [(Change, RefusalCode); 9] = [
            (|r| r.sampling.temperature = 2.1, RefusalCode::InvalidRequest),
            (|r| r.sampling.temperature = f32::INFINITY, RefusalCode::InvalidRequest),
            (|r| r.sampling.top_p = -0.1, RefusalCode::InvalidRequest),
            (|r| r.max_tokens = Some(0), RefusalCode::InvalidRequest),
            (|r| r.max_tokens = Some(COMPLETION_TOKENS_MAX + 1), RefusalCode::InvalidRequest),
            (|r| r.stop = vec!["s".into(); STOPS_MAX + 1], RefusalCode::InvalidRequest),
            (|r| r.stop = vec![String::new()], RefusalCode::InvalidRequest),
            (|r| r.input = Input::Chat(vec![]), RefusalCode::InvalidRequest),
            (
                |r| r.input = Input::Text("t".repeat(REQUEST_FRAME_BYTES_MAX / 2 + 1)),
                RefusalCode::TooLarge,
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
