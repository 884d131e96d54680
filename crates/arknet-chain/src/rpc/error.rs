use arknet_types::Atoms;
use serde::{Deserialize, Serialize};

use super::text::snake;
use crate::{Inapplicable, Rejected};

/// What is answered instead of what was asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ErrorAnswer {
    /// Words for a person.
    pub error: String,
    /// For a program; it never changes its meaning.
    pub code: String,
    /// Of `insufficient_balance`: what the account has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<Atoms>,
    /// Of `insufficient_balance`: what it would have to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<Atoms>,
    /// Of `wrong_nonce`: the account's next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_nonce: Option<u64>,
    /// Of `fee_too_low`: the price of one gas now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_fee: Option<Atoms>,
    /// Of `gas_limit_too_low`: what the action takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed_gas: Option<u64>,
    /// Of `too_many_requests`: when to come again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// The codes of errors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// It did not arrive in time.
    BodyLate,
    /// It has more bytes than are read.
    BodyTooLarge,
    /// Another site's page asks.
    CrossSite,
    /// It offers less than the base fee.
    FeeTooLow,
    /// Its fee is more than a number can hold.
    FeeOverflow,
    /// Its gas limit is below what its action takes.
    GasLimitTooLow,
    /// The host name is not one of this node's.
    HostNotAllowed,
    /// The account does not pay for it.
    InsufficientBalance,
    /// Not the JSON that is expected.
    InvalidBody,
    /// A header that is repeated or not plain text.
    InvalidHeader,
    /// A part of the path or of the query is not what it must be.
    InvalidParameter,
    /// The signature does not match.
    InvalidSignature,
    /// The bytes are no transaction.
    InvalidTransaction,
    /// As many wait as may, and none cheaper.
    MempoolFull,
    /// The block is not kept any more.
    Pruned,
    /// Another one with this nonce waits, and this does not pay enough more.
    ReplacementUnderpriced,
    /// The node ends.
    Stopping,
    /// It took too long.
    Timeout,
    /// More than a client may ask in a time.
    TooManyRequests,
    /// More streams of events than there may be.
    TooManyStreams,
    /// More bytes than a transaction may have.
    TransactionTooLarge,
    /// The node cannot read its store.
    Unavailable,
    /// There is no such block.
    UnknownBlock,
    /// There is no such channel.
    UnknownChannel,
    /// There is no such model.
    UnknownModel,
    /// There is no such node.
    UnknownNode,
    /// There is no such path.
    UnknownPath,
    /// There is no such proposal.
    UnknownProposal,
    /// There is no such transaction.
    UnknownTransaction,
    /// Not JSON.
    UnsupportedContentType,
    /// The path is not used with this method.
    WrongMethod,
    /// Signed for another chain.
    WrongNetwork,
    /// Another nonce is next.
    WrongNonce,
}

impl ErrorCode {
    /// As it is sent: `wrong_nonce`.
    #[must_use]
    pub fn text(self) -> String {
        snake(&format!("{self:?}"))
    }
}

impl ErrorAnswer {
    /// Words and a code.
    #[must_use]
    pub fn new(code: ErrorCode, words: impl Into<String>) -> Self {
        Self { error: words.into(), code: code.text(), ..Self::default() }
    }

    /// Whether it has this code.
    #[must_use]
    pub fn is(&self, code: ErrorCode) -> bool {
        self.code == code.text()
    }
}

impl ErrorAnswer {
    /// Why a transaction does not wait. One that waits already is no error to who sends it again.
    #[must_use]
    pub fn of_rejected(rejected: &Rejected) -> (ErrorCode, Self) {
        let code = match rejected {
            Rejected::Inapplicable(reason) => of_inapplicable(reason),
            Rejected::Balance { .. } => ErrorCode::InsufficientBalance,
            Rejected::Full | Rejected::PeerFull => ErrorCode::MempoolFull,
            Rejected::Known | Rejected::Underpriced => ErrorCode::ReplacementUnderpriced,
        };
        let mut answer = Self::new(code, rejected.to_string());
        match *rejected {
            Rejected::Balance { balance, fees: needed }
            | Rejected::Inapplicable(Inapplicable::Balance { balance, fee: needed }) => {
                answer.balance = Some(Atoms(balance));
                answer.needed = Some(Atoms(needed));
            }
            Rejected::Inapplicable(Inapplicable::BaseFee { base_fee, .. }) => {
                answer.base_fee = Some(Atoms(base_fee));
            }
            Rejected::Inapplicable(Inapplicable::GasLimit { needed, .. }) => {
                answer.needed_gas = Some(needed);
            }
            Rejected::Inapplicable(Inapplicable::Nonce { expected, .. }) => {
                answer.expected_nonce = Some(expected);
            }
            _ => {}
        }
        (code, answer)
    }
}

const fn of_inapplicable(reason: &Inapplicable) -> ErrorCode {
    match reason {
        Inapplicable::Balance { .. } => ErrorCode::InsufficientBalance,
        Inapplicable::BaseFee { .. } => ErrorCode::FeeTooLow,
        Inapplicable::Full => ErrorCode::MempoolFull,
        Inapplicable::GasLimit { .. } => ErrorCode::GasLimitTooLow,
        Inapplicable::Network => ErrorCode::WrongNetwork,
        Inapplicable::Nonce { .. } => ErrorCode::WrongNonce,
        Inapplicable::Overflow => ErrorCode::FeeOverflow,
        Inapplicable::TooLarge => ErrorCode::TransactionTooLarge,
    }
}
