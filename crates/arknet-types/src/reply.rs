use borsh::{BorshDeserialize, BorshSerialize};

use crate::{FinishReason, Refusal, Usage};

/// One frame from the serving peer. A stream carries any number of `Text` and `Alive`, then exactly
/// one `Done` or `Refused`.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
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
}
