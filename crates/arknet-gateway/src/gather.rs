use arknet_types::{
    FinishReason, Input, PublicKey, Refusal, RefusalCode, Reply, TokenLogprob, ToolCall,
    ToolCallPiece, Usage, limits::TOOL_CALLS_PER_MESSAGE_MAX,
};
use axum::http::StatusCode;
use futures::StreamExt;

use crate::{Answer, ApiError, trail::Trail};

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    /// Who answered.
    pub peer: PublicKey,
    /// All of the text.
    pub text: String,
    /// All that was thought before.
    pub reasoning: String,
    /// Tools that were called.
    pub tool_calls: Vec<ToolCall>,
    /// How likely its tokens were.
    pub logprobs: Vec<TokenLogprob>,
    /// One vector for each text.
    pub embeddings: Vec<Vec<f32>>,
    /// One score for each document.
    pub scores: Vec<f32>,
    /// The tokens of a text.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: FinishReason,
    /// What it took.
    pub usage: Usage,
}

impl Gathered {
    /// Nothing yet.
    #[must_use]
    pub const fn new(peer: PublicKey) -> Self {
        Self {
            peer,
            text: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            logprobs: Vec::new(),
            embeddings: Vec::new(),
            scores: Vec::new(),
            tokens: Vec::new(),
            finish: FinishReason::Stop,
            usage: Usage {
                prompt_tokens: 0,
                completion_tokens: 0,
                cached_tokens: 0,
                reasoning_tokens: 0,
            },
        }
    }

    /// Adds a reply that is not an end.
    pub(crate) fn add(&mut self, reply: Reply) -> Result<(), Refusal> {
        match reply {
            // Most answers are one piece.
            Reply::Text { text, .. } if self.text.is_empty() => self.text = text,
            Reply::Text { text, .. } => self.text.push_str(&text),
            Reply::Reasoning { text, .. } => self.reasoning.push_str(&text),
            Reply::ToolCall(piece) => self.call(piece)?,
            Reply::Logprobs(logprobs) => self.logprobs.extend(logprobs),
            Reply::Embedding { index, values } => {
                if index as usize != self.embeddings.len() || values.is_empty() {
                    return Err(senseless());
                }
                self.embeddings.push(values);
            }
            Reply::Scores(scores) => self.scores.extend(scores),
            Reply::Tokens(tokens) => self.tokens.extend(tokens),
            Reply::File { .. } => return Err(senseless()),
            Reply::Alive | Reply::Done { .. } | Reply::Refused(_) => {}
        }
        Ok(())
    }

    fn call(&mut self, piece: ToolCallPiece) -> Result<(), Refusal> {
        let index = usize::from(piece.index);
        if index == self.tool_calls.len() && index < TOOL_CALLS_PER_MESSAGE_MAX {
            let (Some(id), Some(name)) = (piece.id, piece.name) else {
                return Err(senseless());
            };
            self.tool_calls.push(ToolCall { id, name, arguments: piece.arguments });
            return Ok(());
        }
        match self.tool_calls.get_mut(index) {
            Some(call) => {
                call.arguments.push_str(&piece.arguments);
                Ok(())
            }
            None => Err(senseless()),
        }
    }
}

/// How many vectors or scores an answer must have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    Any,
    Embeddings(usize),
    Scores(usize),
}

impl Expected {
    pub(crate) const fn of(input: &Input) -> Self {
        match input {
            Input::Embed(texts) => Self::Embeddings(texts.len()),
            Input::Rerank { documents, .. } => Self::Scores(documents.len()),
            _ => Self::Any,
        }
    }

    const fn met(self, gathered: &Gathered) -> bool {
        match self {
            Self::Any => true,
            Self::Embeddings(count) => gathered.embeddings.len() == count,
            Self::Scores(count) => gathered.scores.len() == count,
        }
    }
}

/// Takes an answer to its end.
pub(crate) async fn gather(
    mut answer: Answer,
    expected: Expected,
    bytes_max: usize,
    trail: &Trail,
) -> Result<Gathered, ApiError> {
    let mut gathered = Gathered::new(answer.peer);
    let mut bytes = 0;
    while let Some(reply) = answer.replies.next().await {
        trail.see(&reply);
        match reply {
            Reply::Alive => continue,
            Reply::Refused(refusal) => return Err(ApiError::from_refusal(refusal)),
            Reply::Done { finish, usage } => {
                if !expected.met(&gathered) {
                    return Err(ApiError::from_refusal(senseless()));
                }
                return Ok(Gathered { finish, usage, ..gathered });
            }
            _ => {}
        }
        bytes += size(&reply);
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        gathered.add(reply).map_err(ApiError::from_refusal)?;
    }
    Err(ApiError::from_refusal(broken_off()))
}

/// Bytes that a reply makes this node keep.
pub(crate) fn size(reply: &Reply) -> usize {
    match reply {
        Reply::Text { text, .. } | Reply::Reasoning { text, .. } => text.len(),
        Reply::ToolCall(piece) => {
            let first = piece.id.as_ref().map_or(0, String::len)
                + piece.name.as_ref().map_or(0, String::len);
            first + piece.arguments.len()
        }
        Reply::Logprobs(list) => list
            .iter()
            .map(|one| {
                let top = one.top.iter().map(|top| size_of_val(top) + top.bytes.len());
                size_of_val(one) + one.bytes.len() + top.sum::<usize>()
            })
            .sum(),
        Reply::Embedding { values, .. } => size_of_val(values.as_slice()),
        Reply::Scores(scores) => size_of_val(scores.as_slice()),
        Reply::Tokens(tokens) => size_of_val(tokens.as_slice()),
        Reply::Alive | Reply::Done { .. } | Reply::File { .. } | Reply::Refused(_) => 0,
    }
}

/// What an answer is that ends without `Done` or `Refused`.
pub(crate) fn broken_off() -> Refusal {
    Refusal::new(RefusalCode::PeerLost, "the peer went away during the answer")
}

fn senseless() -> Refusal {
    Refusal::new(
        RefusalCode::ProviderFailed,
        "the answer does not have the form that was asked for",
    )
}

fn too_large(max: usize) -> ApiError {
    let message = format!("The answer has more than {max} bytes. Ask for a stream, or for less.");
    ApiError::server(StatusCode::BAD_GATEWAY, "answer_too_large", message)
}

pub(crate) fn too_late() -> ApiError {
    ApiError::server(
        StatusCode::GATEWAY_TIMEOUT,
        "answer_too_late",
        "The answer took longer than this node waits. Ask for fewer tokens.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: u16, first: bool) -> Reply {
        Reply::ToolCall(ToolCallPiece {
            index,
            id: first.then(|| "i".into()),
            name: first.then(|| "n".into()),
            arguments: "x".into(),
            tokens: 1,
        })
    }

    #[test]
    fn pieces_become_calls() {
        let mut whole = Gathered::new(PublicKey([0; 32]));
        for reply in [piece(0, true), piece(0, false), piece(1, true), piece(0, false)] {
            whole.add(reply).unwrap();
        }
        let arguments: Vec<_> = whole.tool_calls.iter().map(|c| c.arguments.as_str()).collect();
        assert_eq!(arguments, ["xxx", "x"]);
        // A call that skips others, or begins without a name.
        assert!(whole.add(piece(3, true)).is_err());
        assert!(whole.add(piece(2, false)).is_err());
    }

    #[test]
    fn calls_are_bounded() {
        let mut whole = Gathered::new(PublicKey([0; 32]));
        let max = u16::try_from(TOOL_CALLS_PER_MESSAGE_MAX).unwrap();
        for index in 0..max {
            whole.add(piece(index, true)).unwrap();
        }
        assert!(whole.add(piece(max, true)).is_err());
    }

    #[test]
    fn vectors_come_in_order_and_complete() {
        let mut whole = Gathered::new(PublicKey([0; 32]));
        whole.add(Reply::Embedding { index: 0, values: vec![1.0] }).unwrap();
        assert!(whole.add(Reply::Embedding { index: 0, values: vec![1.0] }).is_err());
        assert!(whole.add(Reply::Embedding { index: 2, values: vec![1.0] }).is_err());
        assert!(whole.add(Reply::Embedding { index: 1, values: vec![] }).is_err());
        assert!(Expected::Embeddings(1).met(&whole));
        assert!(!Expected::Embeddings(2).met(&whole));
        assert!(!Expected::Scores(1).met(&whole));
    }
}
