use borsh::{BorshDeserialize, BorshSerialize};

/// Why an action changed nothing. Its fee is paid and its nonce used nevertheless. The numbers never
/// change their meaning.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[borsh(use_discriminant = true)]
#[repr(u8)]
#[non_exhaustive]
pub enum Failure {
    /// The account has less than that.
    #[error("the balance does not suffice")]
    Balance = 1,
    /// No more may ever be made.
    #[error("the cap on all money is reached")]
    Cap = 2,
    /// An amount of nothing.
    #[error("the amount is zero")]
    Zero = 3,
    /// A number too large to be.
    #[error("a number is too large")]
    Overflow = 4,
    /// There is no such node.
    #[error("there is no such node in that role")]
    UnknownNode = 5,
    /// Less stake than the role asks for.
    #[error("less than the least stake for this role")]
    StakeMin = 6,
    /// The stake is smaller than that.
    #[error("there is less stake than that")]
    Stake = 7,
    /// The key belongs to another node, or the node has another key.
    #[error("the key is another node's, or missing, or not the one the node registered with")]
    NodeKey = 8,
    /// The node takes no stake: banned, retired, or without a rest.
    #[error("the node takes no stake")]
    NodeGone = 9,
    /// There is no such withdrawal.
    #[error("there is no such withdrawal in that role")]
    UnknownUnbonding = 10,
    /// Its time has not come.
    #[error("it is too early for that")]
    TooEarly = 11,
    /// A bound on how many of these there may be.
    #[error("there are as many of these as there may be")]
    TooMany = 12,
    /// The node is not jailed.
    #[error("the node is not jailed")]
    NotJailed = 13,
    /// It goes where it is.
    #[error("the source is the target")]
    Same = 14,
}
