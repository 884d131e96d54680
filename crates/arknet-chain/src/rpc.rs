//! What travels between the chain RPC of a node and those who ask it: one set of shapes for server
//! and clients.
//!
//! Nothing of it has to be believed: what matters carries the bytes that are hashed or signed, as
//! hex of their Borsh, and the readable fields beside them are for people. Amounts are texts of
//! atoms, times milliseconds since the Unix epoch, hashes 64 hex digits, accounts `0x` and 40.
//! `spec/openapi-chain.json` is written from these files.

mod account;
mod action;
mod block;
mod error;
mod governance;
mod market;
mod node;
mod text;

pub use account::{
    AccountAnswer, NodeAnswer, ProofAnswer, StakeAnswer, UnbondingAnswer, ValidatorAnswer,
    ValidatorsAnswer,
};
pub use action::{ActionSummary, TransactionFields};
pub use block::{
    BlockAnswer, BlockEvent, BlockTransaction, LightAnswer, OutcomeAnswer, SubmitAnswer,
    SubmitRequest, TransactionAnswer, TransactionState,
};
pub use error::{ErrorAnswer, ErrorCode};
pub use governance::{EffectSummary, ProposalAnswer, ProposalPage, ProposalStage};
pub use market::{ChannelAnswer, ChannelPage, ModelAnswer, ModelPage};
pub use node::{ParamsAnswer, StatusAnswer};
pub use text::{HexBytes, HexKey};

/// Where the RPC of a node listens, on loopback.
pub const DEFAULT_PORT: u16 = 26_657;

/// One thing that can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path; names in braces stand for a part of it.
    pub path: &'static str,
    /// What may follow `?`: name and meaning.
    pub query: &'static [(&'static str, &'static str)],
    /// The shape of the answer; none where it is no JSON of ours.
    pub answer: Option<&'static str>,
    /// In words.
    pub summary: &'static str,
}

const fn get(path: &'static str, answer: &'static str, summary: &'static str) -> Route {
    Route { method: "GET", path, query: &[], answer: Some(answer), summary }
}

/// How a list goes on.
const PAGE: [(&str, &str); 2] = [
    ("after", "the last one of the page before"),
    ("limit", "how many at most; a node gives fewer where it likes"),
];

/// Everything that can be asked.
pub const ROUTES: &[Route] = &[
    get("/status", "StatusAnswer", "The node, its chain and how far it is."),
    Route {
        answer: None,
        ..get("/genesis", "", "The genesis document, as the chain began with it.")
    },
    get("/params", "ParamsAnswer", "The parameters, which votes change."),
    Route {
        query: &[("height", "the height they vote at; the next one where it is not given")],
        ..get("/validators", "ValidatorsAnswer", "Those who vote at a height.")
    },
    get("/accounts/{address}", "AccountAnswer", "An account, its stakes and its withdrawals."),
    get("/nodes/{role}/{operator}", "NodeAnswer", "A node that has stake."),
    Route {
        query: &[("key", "the state key, in hex")],
        ..get("/proof", "ProofAnswer", "A value of the state, or that there is none, with proof.")
    },
    get(
        "/light/{height}",
        "LightAnswer",
        "A header with all that shows it is the chain's; `latest` too.",
    ),
    Route {
        query: &[("bytes", "`true` for the whole block as bytes, too")],
        ..get("/blocks/{block}", "BlockAnswer", "A block, by height or name, or `latest`.")
    },
    get("/transactions/{id}", "TransactionAnswer", "A transaction that waits or is in a block."),
    Route {
        method: "POST",
        ..get("/transactions", "SubmitAnswer", "Lets a signed transaction wait for a block.")
    },
    Route { query: &PAGE, ..get("/proposals", "ProposalPage", "Proposals, the latest first.") },
    get("/proposals/{id}", "ProposalAnswer", "A proposal and how it stands."),
    Route {
        query: &[
            ("payer", "only of this account"),
            ("payee", "only to this account; one of the two must be given"),
            PAGE[0],
            PAGE[1],
        ],
        ..get("/channels", "ChannelPage", "The open channels of an account, by name.")
    },
    get("/channels/{id}", "ChannelAnswer", "An open channel."),
    Route { query: &PAGE, ..get("/models", "ModelPage", "Registered models, by digest.") },
    get("/models/{digest}", "ModelAnswer", "A registered model."),
    Route {
        answer: None,
        ..get(
            "/events",
            "",
            "Server-sent events named `block`, one for each from now on, or from the one after \
             `Last-Event-ID`; the id is the height, the data a BlockEvent.",
        )
    },
    Route { answer: None, ..get("/openapi.json", "", "This document.") },
];
