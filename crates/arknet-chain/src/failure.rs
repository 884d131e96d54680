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
    /// There is no such channel.
    #[error("there is no such channel")]
    UnknownChannel = 15,
    /// There is no such escrow.
    #[error("there is no such escrow")]
    UnknownEscrow = 16,
    /// There is one already.
    #[error("there is one of that name already")]
    Exists = 17,
    /// Only another account may do that.
    #[error("only another account may do that")]
    NotYours = 18,
    /// A time out of its range.
    #[error("the time is out of its range")]
    Time = 19,
    /// The channel is closing.
    #[error("the channel is closing already")]
    Closing = 20,
    /// More than is locked.
    #[error("more than is locked")]
    Overdrawn = 21,
    /// Not signed by who pays, for this channel and chain.
    #[error("not signed by the other side for this channel")]
    VoucherSignature = 22,
    /// No more than is settled.
    #[error("no more than is settled already")]
    VoucherStale = 23,
    /// The session would spend more than it may.
    #[error("the session may not spend that much")]
    SessionCap = 24,
    /// The session may not pay this peer, or not for this model.
    #[error("the session may not pay this peer or for this model")]
    SessionScope = 25,
    /// The session's time is over or has not come.
    #[error("the session's time is over or has not come")]
    SessionTime = 26,
    /// There is no such proposal.
    #[error("there is no such proposal")]
    UnknownProposal = 27,
    /// Its time is over.
    #[error("its time is over")]
    Over = 28,
    /// There is no such model.
    #[error("there is no such model")]
    UnknownModel = 29,
    /// A parameter out of its range.
    #[error("a parameter may not be set to that")]
    Param = 30,
    /// The quote does not lead to its vendor, has ended, or is about another key or account.
    #[error("the quote does not prove this key of this account")]
    Quote = 31,
    /// The receipt is not signed by both, or too old.
    #[error("the receipt is not signed by both sides, or too old")]
    Receipt = 32,
    /// More than was paid on the ledger.
    #[error("more than was paid on the ledger")]
    NotSettled = 33,
    /// The wallet's free jobs are used up.
    #[error("the wallet's free jobs are used up")]
    Quota = 34,
    /// The day's new money is used up.
    #[error("there is no more new money today")]
    Budget = 35,
    /// No stake that counts.
    #[error("no stake that was there before the vote began")]
    NoWeight = 36,
}
