use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    FinishReason, Refusal, Usage, codec,
    limits::{
        EMBEDDING_DIMENSIONS_MAX, FILE_PIECE_BYTES_MAX, LOGPROBS_PER_REPLY_MAX, TOKEN_BYTES_MAX,
        TOP_LOGPROBS_MAX, VALUES_PER_REPLY_MAX,
    },
};

/// One frame from the serving peer. A stream carries any number of the others, then exactly one
/// `Done` or `Refused`.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
pub enum Reply {
    /// The next piece of the answer.
    Text {
        /// Whole characters only.
        text: String,
        /// Tokens it came from.
        tokens: u32,
    } = 0,
    /// Nothing yet, but the work goes on.
    Alive = 1,
    /// The answer is complete.
    Done {
        /// Why it ended.
        finish: FinishReason,
        /// What it took.
        usage: Usage,
    } = 2,
    /// The answer ends here without being complete.
    Refused(Refusal) = 3,
    /// The next piece of what the model thinks before it answers.
    Reasoning {
        /// Whole characters only.
        text: String,
        /// Tokens it came from.
        tokens: u32,
    } = 4,
    /// The next piece of a tool call.
    ToolCall(ToolCallPiece) = 5,
    /// How likely tokens were. Comes before the text they belong to, where that is not held back.
    Logprobs(
        #[borsh(deserialize_with = "codec::list::<_, _, LOGPROBS_PER_REPLY_MAX>")]
        Vec<TokenLogprob>,
    ) = 6,
    /// The vector of one text.
    Embedding {
        /// Which text, counted from 0.
        index: u32,
        /// The vector, of length one.
        #[borsh(deserialize_with = "codec::list::<_, _, EMBEDDING_DIMENSIONS_MAX>")]
        values: Vec<f32>,
    } = 7,
    /// The scores of the next documents; higher is better.
    Scores(#[borsh(deserialize_with = "codec::list::<_, _, VALUES_PER_REPLY_MAX>")] Vec<f32>) = 8,
    /// The next tokens of a text.
    Tokens(#[borsh(deserialize_with = "codec::list::<_, _, VALUES_PER_REPLY_MAX>")] Vec<u32>) = 9,
    /// The next piece of a part of a file.
    File {
        /// Bytes of the whole file.
        total_bytes: u64,
        /// The BLAKE3 hash of the whole file, against which the part is checked.
        root: [u8; 32],
        /// The piece: bytes and hashes in the order of the Bao encoding.
        #[borsh(deserialize_with = "codec::bytes::<_, FILE_PIECE_BYTES_MAX>")]
        bytes: Vec<u8>,
    } = 10,
}

/// The next piece of a tool call.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ToolCallPiece {
    /// Which call of this answer, counted from 0. The pieces of one call are not mixed with those of
    /// another.
    pub index: u16,
    /// In the call's first piece: its id.
    pub id: Option<String>,
    /// In the call's first piece: which tool.
    pub name: Option<String>,
    /// The next piece of the arguments, which together are an object in JSON.
    pub arguments: String,
    /// Tokens it came from.
    pub tokens: u32,
}

/// How likely a token was.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token's number in the model's vocabulary.
    pub token: u32,
    /// Its bytes, which may be a part of a character.
    #[borsh(deserialize_with = "token_bytes")]
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens in its place, likeliest first.
    #[borsh(deserialize_with = "alternatives")]
    pub top: Vec<Alternative>,
}

/// A token that could have come.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The token's number in the model's vocabulary.
    pub token: u32,
    /// Its bytes, which may be a part of a character.
    #[borsh(deserialize_with = "token_bytes")]
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
}

fn token_bytes<R: io::Read>(reader: &mut R) -> io::Result<Vec<u8>> {
    codec::list::<_, u8, TOKEN_BYTES_MAX>(reader)
}

fn alternatives<R: io::Read>(reader: &mut R) -> io::Result<Vec<Alternative>> {
    codec::list::<_, Alternative, { TOP_LOGPROBS_MAX as usize }>(reader)
}
