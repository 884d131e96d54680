//! One node of the chain, as a state machine without clock, socket, file or entropy.
//!
//! A [`Replica`] is told what happens ([`Input`]) and what time it is, is shown the state after its
//! last block, and answers with what is to be done ([`Output`]), in order: what must be on disk
//! before what is said, what to say to whom, which block to commit. It holds consensus, proposing,
//! validating, the waiting transactions and catching up. The engine that decides
//! (Malachite's) is hidden here; what a block means is `arknet_chain`'s.
//!
//! A block is voted for only after it was executed, and committed only with the precommits of a
//! quorum. Whoever starts again with its [`Record`]s says nothing else than before.

mod api;
mod context;
mod convert;
mod engine;
pub mod limits;
mod message;
mod peers;
mod record;
mod replica;

pub use api::{
    Commit, Input, Misdeed, Options, Output, Peer, Refused, Source, Timing, Tip, Verdict,
};
pub use engine::Halt;
pub use message::{
    Decided, Message, Polka, Proposal, RoundCertificate, RoundCertificateKind, RoundVote,
    SnapshotPart, Status,
};
pub use record::{BlockVerdict, Record, Step};
pub use replica::Replica;
