use std::{io, path::PathBuf};

use arknet_chain::{GenesisError, Hash, LightError, OutcomeError, ProofError, rpc::ErrorAnswer};
use arknet_types::{Atoms, NetworkId};

/// Why the ledger does not say or do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The account has less than that.
    #[error("insufficient balance: the account has {balance}, this takes {needed}")]
    Balance {
        /// What it has.
        balance: Atoms,
        /// What it would have to have: what is moved, and the least fee.
        needed: Atoms,
    },
    /// The RPC is behind what is known already, and stays there.
    #[error(
        "the RPC is at height {found}, but {known} is proved already: it is behind, or hides blocks"
    )]
    Behind {
        /// The height that is known.
        known: u64,
        /// The height it answers for.
        found: u64,
    },
    /// What validators signed is not what is shown.
    #[error("forged certificate: {0}")]
    ForgedCertificate(LightError),
    /// What is said became of a transaction is not what validators signed.
    #[error("the RPC lies about what became of a transaction: {0}")]
    ForgedOutcome(OutcomeError),
    /// The value is not the one in the state that validators signed.
    #[error("forged value: {0}")]
    ForgedValue(ProofError),
    /// The document is no genesis.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// A header that cannot follow what is known.
    #[error("the RPC shows a header that is refused: {0}")]
    Header(LightError),
    /// Not what the RPC's document says.
    #[error("the RPC's answer to {path} cannot be read: {words}")]
    Malformed {
        /// What was asked.
        path: String,
        /// What is wrong with the answer.
        words: String,
    },
    /// Nothing can be proved before the first block.
    #[error("the chain has no block yet")]
    NoBlock,
    /// Nothing is known that proofs could begin with.
    #[error("no genesis of the chain is known, so nothing the RPC says can be checked")]
    NoGenesis,
    /// The nonce it gives cannot be the account's next.
    #[error("the RPC says nonce {found} is next, but the account's is {proved} by proof")]
    Nonce {
        /// The nonce by proof.
        proved: u64,
        /// The nonce it says.
        found: u64,
    },
    /// It is in no block yet.
    #[error("transaction {id} is in no block after {seconds} s; it may still come into one")]
    NotCommitted {
        /// Its name.
        id: Hash,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The RPC refuses, with a code and perhaps numbers.
    #[error("{}", words(.0))]
    Refused(Box<ErrorAnswer>),
    /// Validators that do not follow from those that are known: forged, or long gone.
    #[error(
        "stale or foreign validators: those who signed are not those who follow from what is known"
    )]
    StaleValidators,
    /// What is known cannot be read or written.
    #[error("{}: {source}", path.display())]
    Store {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Further back than headers are asked for, one by one.
    #[error("block {height} is too far behind {known}, which is known, to be checked")]
    TooFarBack {
        /// The height that is known.
        known: u64,
        /// The height that was asked for.
        height: u64,
    },
    /// So old that those who signed it may have taken their stake and gone.
    #[error(
        "the newest header that is known is too old to build on; somebody you trust can tell you \
         the height and the name of a newer one, then: arknet chain trust HEIGHT:NAME"
    )]
    TooOld,
    /// More bytes than an answer may have.
    #[error("the RPC's answer to {path} is too large")]
    TooLarge {
        /// What was asked.
        path: String,
    },
    /// The header that was said to be good is another one there.
    #[error("block {height} is {found} there, not {expected}")]
    Trusted {
        /// The height.
        height: u64,
        /// The name that is trusted.
        expected: Hash,
        /// The name it has.
        found: Hash,
    },
    /// It says a value, or that there is none, without a proof.
    #[error("absent proof: the RPC claims something and does not prove it")]
    Unproved,
    /// Nobody answers there.
    #[error("{url} does not answer: {words}")]
    Unreachable {
        /// The RPC.
        url: String,
        /// What happened.
        words: String,
    },
    /// A proved value that cannot be read: written by a newer version.
    #[error("the value is proved but cannot be read; is there a newer version of arknet?")]
    Unreadable,
    /// Not an address of an RPC.
    #[error("{0} is not the URL of an RPC; it looks like http://127.0.0.1:26657")]
    Url(String),
    /// The RPC tells of another chain.
    #[error("the RPC tells of the chain {found}, not of {expected}")]
    WrongChain {
        /// The chain that is known.
        expected: NetworkId,
        /// The chain it tells of.
        found: NetworkId,
    },
}

impl ChainError {
    /// For a program; it never changes its meaning.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Balance { .. } => "insufficient_balance",
            Self::Behind { .. } => "rpc_behind",
            Self::ForgedCertificate(_) => "forged_certificate",
            Self::ForgedOutcome(_) => "forged_outcome",
            Self::ForgedValue(_) => "forged_value",
            Self::Genesis(_) => "invalid_genesis",
            Self::Header(_) => "invalid_header",
            Self::Malformed { .. } => "malformed_answer",
            Self::NoBlock => "no_block",
            Self::NoGenesis => "no_genesis",
            Self::Nonce { .. } => "forged_nonce",
            Self::NotCommitted { .. } => "not_committed",
            Self::Refused(answer) => &answer.code,
            Self::StaleValidators => "stale_validators",
            Self::Store { .. } => "store",
            Self::TooLarge { .. } => "answer_too_large",
            Self::TooFarBack { .. } => "too_far_back",
            Self::TooOld => "too_old",
            Self::Trusted { .. } => "not_the_trusted_block",
            Self::Unproved => "absent_proof",
            Self::Unreachable { .. } => "unreachable",
            Self::Unreadable => "unreadable_value",
            Self::Url(_) => "invalid_url",
            Self::WrongChain { .. } => "wrong_chain",
        }
    }

    /// What the account has and what it needed, where that was the trouble.
    #[must_use]
    pub fn balance(&self) -> Option<(Atoms, Atoms)> {
        match self {
            Self::Balance { balance, needed } => Some((*balance, *needed)),
            Self::Refused(answer) => answer.balance.zip(answer.needed),
            _ => None,
        }
    }

    /// Why a header is not taken.
    pub(super) fn of_header(error: LightError) -> Self {
        match error {
            LightError::Block | LightError::Certificate(_) => Self::ForgedCertificate(error),
            LightError::Validators => Self::StaleValidators,
            LightError::Old => Self::TooOld,
            other => Self::Header(other),
        }
    }

    /// Why what is said of a transaction is not taken.
    pub(super) const fn of_outcome(error: OutcomeError) -> Self {
        match error {
            OutcomeError::Absent => Self::Unproved,
            other => Self::ForgedOutcome(other),
        }
    }

    /// Why a value is not taken. One that is kept back has a proof of something else.
    pub(super) fn of_value(error: LightError, is_there: bool) -> Self {
        match error {
            LightError::Proof(proof) if is_there => Self::ForgedValue(proof),
            LightError::Proof(_) => Self::Unproved,
            LightError::Unreadable => Self::Unreadable,
            LightError::NoHeader => Self::NoBlock,
            other => Self::Header(other),
        }
    }
}

/// The RPC's words, with both numbers where they are not in them.
fn words(answer: &ErrorAnswer) -> String {
    match answer.balance.zip(answer.needed) {
        Some((balance, needed)) => {
            format!("insufficient balance: the account has {balance}, the fees are up to {needed}")
        }
        None => format!("{} ({})", answer.error, answer.code),
    }
}
