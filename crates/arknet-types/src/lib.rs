//! Identity, wire types, codec and limits of arknet.
//!
//! Nothing here reads a clock, a socket, a file or a source of entropy: time and seeds are
//! arguments. Every type that crosses the wire is checked while it is decoded, so a value of such a
//! type is valid wherever it appears. The bytes are specified in `spec/wire.md` and pinned by the
//! vectors in `spec/vectors`.

mod capability;
mod chat;
mod codec;
mod delegation;
mod endpoint;
mod free_use;
mod hosts;
mod identity;
mod infer;
pub mod limits;
mod money;
mod names;
mod offer;
mod refusal;
mod registry;
mod reply;
mod request;
mod seeds;
mod time;

pub use capability::Capabilities;
pub use chat::{
    Chat, Image, ImageFormat, Message, Part, Reasoning, Role, Tool, ToolCall, ToolChoice,
    is_tool_name,
};
pub use codec::{
    DecodeError, FrameHeader, decode, encode, frame, list as decode_list, text as decode_text,
};
pub use delegation::{Delegation, DelegationBody, DelegationError};
pub use endpoint::{Endpoint, EndpointError, Reach};
pub use free_use::{FreeUse, FreeUseError};
pub use hosts::Hosts;
pub use identity::{Address, Domain, KeyError, KeyPair, PublicKey, Signature};
pub use infer::{FinishReason, Format, InferRequest, Input, LogitBias, Profile, Sampling, Usage};
pub use money::Atoms;
pub use names::{ModelDigest, ModelName, NameError, NetworkId, NodeId, RegistryName};
pub use offer::{ModelOffer, Offer, OfferBody, OfferError};
pub use refusal::{Refusal, RefusalCode};
pub use registry::{
    EntryBody, RegistryEntry, RegistryError, RegistryPage, RegistryWithdrawal, WithdrawalBody,
};
pub use reply::{Alternative, Reply, TokenLogprob, ToolCallPiece};
pub use request::{Request, RequestBody, Salt};
pub use seeds::{Seed, SeedFile, SeedsError};
pub use time::Timestamp;
