//! The ledger of arknet: where money, stake, models and receipts are agreed on.
//!
//! [`execute_block`] is all of it: the state a parent left and a block go in; what changes, what
//! became of each transaction and who votes next come out. Proposer, voter, committer, replay and
//! tests call this one function. Nothing here reads a clock, a socket, a file or a source of
//! entropy, no number is a fraction and no map has an order of its own, so the same block gives the
//! same bytes everywhere. What decides which block is next is elsewhere, and so is where the state
//! is kept: it is shown as a [`StateView`].
//!
//! All of the state stands under one root in a tree ([`Proof`]), of which a header tells. The rules
//! and the bytes are specified in `spec/chain.md`.

// Money is not to be lost in an overflow, nor a validator to one.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod block;
mod channel;
mod duties;
mod emission;
mod execute;
mod failure;
mod genesis;
mod governance;
mod hash;
mod keys;
mod ledger;
mod light;
pub mod limits;
mod mempool;
mod models;
mod outcomes;
mod params;
mod payments;
mod quota;
mod records;
pub mod rpc;
mod signing;
mod snapshot;
mod stake;
mod transaction;
mod tree;
mod validators;
mod view;
mod vote;

pub use block::{Block, Body, Header, VerifiedBlock};
pub use channel::{
    Authority, Channel, CloseAgreement, Payment, Voucher, VoucherBody, VoucherError,
};
pub use emission::{SignedReceipt, WorkReceipt};
pub use execute::{BlockError, Executed, Ingredients, Outcome, Parent, build_block, execute_block};
pub use failure::Failure;
pub use genesis::{Genesis, GenesisError, GenesisValidator};
pub use governance::{
    Ballot, Choice, Decision, Effect, Proposal, ProposalBody, StakeHistory, Version,
};
pub use hash::{Hash, NotAHash, Purpose};
pub use keys::Key;
pub use light::{LightBlock, LightClient, LightError};
pub use mempool::{Best, Mempool, Rejected};
pub use models::{
    Model, ModelFacts, NoQuotes, QuoteFacts, QuoteVerifier, TcbStatus, Tee, TeeClaim, TeePlatform,
};
pub use outcomes::{OutcomeError, OutcomeProof, outcomes_root};
pub use params::{Param, ParamError, Params};
pub use payments::{ChannelOp, Escrow, EscrowOp};
pub use quota::FreeQuota;
pub use records::{Account, Due, Meta, Node, Pool, Role, Settled, Spending, Stake, Unbonding};
pub use signing::{CheckedKey, Claim, which_hold, which_hold_after, which_hold_by};
pub use snapshot::{Manifest, Part, PartBuilder, SnapshotError};
pub use stake::StakeOp;
pub use transaction::{
    Action, Inapplicable, SignedTransaction, TransactionBody, VerifiedTransaction,
};
pub use tree::{Leaf, Proof, ProofError};
pub use validators::{Attendance, Presence, Validator, ValidatorSet};
pub use view::{Changes, MemoryState, StateView, grow, leaf, prove, prove_bytes, read, state_root};
pub use vote::{
    CertificateError, CommitCertificate, CommitSignature, Evidence, Proposed, SignedProposed,
    SignedVote, Vote, VoteKind,
};
