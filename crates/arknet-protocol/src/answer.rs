//! Whether what a peer sends is an answer to what was asked.

use arknet_types::{
    InferRequest, Input, Refusal, RefusalCode, Reply,
    limits::{EMBEDDING_DIMENSIONS_MAX, FILE_GROUP_BYTES, TOKEN_BYTES_MAX, TOP_LOGPROBS_MAX},
};

/// Bytes of text one token can become; longer answers are a peer's lie.
const BYTES_PER_TOKEN_MAX: u64 = 512;
/// Bytes that tell how likely one token was.
const BYTES_PER_LOGPROB_MAX: u64 = (TOKEN_BYTES_MAX as u64 + 16) * (TOP_LOGPROBS_MAX as u64 + 1);
/// Bytes a tool call has beside its arguments.
const BYTES_PER_CALL: u64 = 64;

/// Which replies may come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Words { logprobs: bool },
    Embeddings { all: u32 },
    Scores { all: u32 },
    Tokens,
    File { offset: u64, length: u64, came: Option<(u64, [u8; 32])> },
    Nothing,
}

/// Holds the replies of one peer against the request, so that neither more nor something else than
/// was asked for gets through.
#[derive(Debug)]
pub struct AnswerCheck {
    kind: Kind,
    bytes_left: u64,
    came: u32,
}

impl AnswerCheck {
    /// For this request, asked of a peer whose model has this context.
    #[must_use]
    pub fn new(infer: &InferRequest, context_tokens: u32) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let tokens = u64::from(infer.max_tokens.unwrap_or(context_tokens));
        let (kind, bytes_left) = match &infer.input {
            Input::Chat(_) | Input::Text(_) => {
                let logprobs = infer.logprobs.is_some();
                let each = BYTES_PER_TOKEN_MAX + if logprobs { BYTES_PER_LOGPROB_MAX } else { 0 };
                (Kind::Words { logprobs }, tokens * each)
            }
            Input::Embed(texts) => {
                let bytes = texts.len() * EMBEDDING_DIMENSIONS_MAX * size_of::<f32>();
                (Kind::Embeddings { all: count(texts.len()) }, bytes as u64)
            }
            Input::Rerank { documents, .. } => {
                let bytes = documents.len() * size_of::<f32>();
                (Kind::Scores { all: count(documents.len()) }, bytes as u64)
            }
            // A token has a byte of the text at least; a few more mark beginning and end.
            Input::Tokenize { text, .. } => (Kind::Tokens, (text.len() as u64 + 16) * 4),
            Input::Detokenize(tokens) => {
                let kind = Kind::Words { logprobs: false };
                (kind, tokens.len() as u64 * BYTES_PER_TOKEN_MAX)
            }
            Input::Count(_) => (Kind::Nothing, 0),
            // The first piece says how much there is.
            Input::File { offset, length, .. } => {
                let kind = Kind::File { offset: *offset, length: *length, came: None };
                (kind, encoded_bytes_max(*length))
            }
        };
        Self { kind, bytes_left, came: 0 }
    }

    /// Takes a reply, or says why it is none of this answer.
    pub fn take(&mut self, reply: &Reply) -> Result<(), Refusal> {
        let lie = |words: &str| Err(Refusal::new(RefusalCode::ProviderFailed, words));
        let bytes = match (reply, self.kind) {
            (Reply::Alive | Reply::Refused(_), _) => 0,
            (Reply::Done { .. }, Kind::Embeddings { all } | Kind::Scores { all }) => {
                if self.came != all {
                    return lie("the peer ended its answer before it was complete");
                }
                0
            }
            (Reply::Done { .. }, Kind::File { came: None, .. }) => {
                return lie("the peer ended without a word on the file");
            }
            (Reply::File { total_bytes, root, bytes }, Kind::File { offset, length, came }) => {
                let says = (*total_bytes, *root);
                if came.is_some_and(|came| came != says) || offset >= *total_bytes {
                    return lie("the peer changes its mind on what the file is");
                }
                if came.is_none() {
                    self.kind = Kind::File { offset, length, came: Some(says) };
                    let there = length.min(*total_bytes - offset);
                    self.bytes_left = self.bytes_left.min(encoded_bytes_max(there));
                }
                bytes.len() as u64
            }
            (Reply::Done { .. }, _) => 0,
            (Reply::Text { text, .. } | Reply::Reasoning { text, .. }, Kind::Words { .. }) => {
                text.len() as u64
            }
            (Reply::ToolCall(piece), Kind::Words { .. }) => {
                let names = piece.id.as_ref().map_or(0, String::len)
                    + piece.name.as_ref().map_or(0, String::len);
                (piece.arguments.len() as u64)
                    .saturating_add((names as u64).saturating_sub(BYTES_PER_CALL))
            }
            (Reply::Logprobs(tokens), Kind::Words { logprobs: true }) => {
                tokens.len() as u64 * BYTES_PER_LOGPROB_MAX
            }
            (Reply::Embedding { index, values }, Kind::Embeddings { .. }) => {
                if *index != self.came {
                    return lie("the peer sends vectors out of order");
                }
                self.came += 1;
                (values.len() * size_of::<f32>()) as u64
            }
            (Reply::Scores(scores), Kind::Scores { .. }) => {
                self.came =
                    self.came.saturating_add(u32::try_from(scores.len()).unwrap_or(u32::MAX));
                (scores.len() * size_of::<f32>()) as u64
            }
            (Reply::Tokens(tokens), Kind::Tokens) => (tokens.len() * size_of::<u32>()) as u64,
            _ => return lie("the peer sends something else than was asked for"),
        };
        let Some(left) = self.bytes_left.checked_sub(bytes) else {
            return lie("the peer sends more than was asked for");
        };
        self.bytes_left = left;
        Ok(())
    }
}

/// The most bytes that so many bytes of a file have with their hashes: two for each group, and those
/// on the way from the root.
const fn encoded_bytes_max(bytes: u64) -> u64 {
    const PAIR_BYTES: u64 = 64;
    const DEPTH_MAX: u64 = 64;
    if bytes == 0 {
        return 0;
    }
    let pairs = bytes.div_ceil(FILE_GROUP_BYTES).saturating_add(2 * DEPTH_MAX);
    bytes.saturating_add(pairs.saturating_mul(PAIR_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arknet_types::{Chat, FinishReason, Message, ModelName, Role, Usage};

    fn check(input: Input) -> AnswerCheck {
        let infer = InferRequest {
            max_tokens: Some(2),
            ..InferRequest::new(ModelName::new("m").unwrap(), input)
        };
        AnswerCheck::new(&infer, 8)
    }

    fn done() -> Reply {
        Reply::Done { finish: FinishReason::Stop, usage: Usage::default() }
    }

    fn text(bytes: usize) -> Reply {
        Reply::Text { text: "a".repeat(bytes), tokens: 1 }
    }

    #[test]
    fn an_answer_in_words_has_a_bound_and_no_vectors() {
        let chat = || Input::Chat(Chat::new(vec![Message::new(Role::User, "hi")]));
        let mut answer = check(chat());
        assert!(answer.take(&text(1000)).is_ok() && answer.take(&text(24)).is_ok());
        assert!(answer.take(&text(1)).is_err(), "1024 bytes for two tokens are enough");
        let mut answer = check(chat());
        for reply in [Reply::Scores(vec![1.0]), Reply::Tokens(vec![1]), Reply::Logprobs(vec![])] {
            assert!(answer.take(&reply).is_err(), "{reply:?}");
        }
        assert!(answer.take(&done()).is_ok());
    }

    #[test]
    fn vectors_come_in_order_and_all_of_them() {
        let texts = || Input::Embed(vec!["a".into(), "b".into()]);
        let vector = |index| Reply::Embedding { index, values: vec![1.0] };
        let mut answer = check(texts());
        assert!(answer.take(&vector(0)).is_ok());
        assert!(answer.take(&done()).is_err(), "one is missing");
        assert!(answer.take(&vector(0)).is_err(), "the same again");
        assert!(answer.take(&vector(1)).is_ok());
        assert!(answer.take(&done()).is_ok());
        assert!(answer.take(&vector(2)).is_ok() && answer.take(&done()).is_err(), "one too many");
    }

    #[test]
    fn as_many_scores_as_documents() {
        let documents = vec!["a".into(), "b".into(), "c".into()];
        let mut answer = check(Input::Rerank { query: "q".into(), documents });
        assert!(answer.take(&Reply::Scores(vec![0.1, 0.2])).is_ok());
        assert!(answer.take(&done()).is_err());
        assert!(answer.take(&Reply::Scores(vec![0.3])).is_ok());
        assert!(answer.take(&done()).is_ok());
        assert!(answer.take(&Reply::Scores(vec![0.4])).is_err());
    }

    #[test]
    fn a_part_of_a_file_has_a_bound_and_one_root() {
        let digest = arknet_types::ModelDigest([0; 32]);
        let file = |length| check(Input::File { digest, offset: FILE_GROUP_BYTES, length });
        let piece = |total_bytes, n| Reply::File { total_bytes, root: [1; 32], bytes: vec![0; n] };
        let mut answer = file(0);
        assert!(answer.take(&done()).is_err(), "nothing came");
        assert!(answer.take(&piece(1 << 20, 1)).is_err(), "nothing was asked for");
        assert!(answer.take(&piece(1 << 20, 0)).is_ok() && answer.take(&done()).is_ok());
        let mut answer = file(1 << 20);
        assert!(answer.take(&piece(FILE_GROUP_BYTES, 0)).is_err(), "there is no such part");
        assert!(answer.take(&piece(FILE_GROUP_BYTES + 1_000, 1_000)).is_ok());
        assert!(answer.take(&piece(FILE_GROUP_BYTES + 1_001, 0)).is_err(), "another size");
        let other =
            Reply::File { total_bytes: FILE_GROUP_BYTES + 1_000, root: [2; 32], bytes: vec![] };
        assert!(answer.take(&other).is_err(), "another root");
        assert!(answer.take(&piece(FILE_GROUP_BYTES + 1_000, 20_000)).is_err(), "far too much");
        assert!(answer.take(&done()).is_ok());
    }

    #[test]
    fn a_text_has_no_more_tokens_than_bytes() {
        let mut answer = check(Input::Tokenize { text: "ab".into(), add_special: true });
        assert!(answer.take(&Reply::Tokens(vec![1; 18])).is_ok());
        assert!(answer.take(&Reply::Tokens(vec![1])).is_err());
        assert!(check(Input::Detokenize(vec![1])).take(&text(512)).is_ok());
    }
}
