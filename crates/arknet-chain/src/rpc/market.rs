use arknet_types::{Address, Atoms, ModelDigest, ModelName, PublicKey};
use serde::{Deserialize, Serialize};

use super::HexKey;
use crate::{Channel, Hash, Model};

/// An open channel.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChannelAnswer {
    /// Its name.
    pub id: Hash,
    /// Whose money it is.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// The key of the peer that works for the payee, where it was named.
    pub payee_peer: Option<HexKey>,
    /// All that was ever locked.
    pub deposit: Atoms,
    /// What of it has been paid.
    pub settled: Atoms,
    /// Time in which the payee may answer when the payer closes alone.
    pub challenge_ms: u64,
    /// When the payer may take the rest, once it is closing.
    pub closes_at_ms: Option<u64>,
}

impl ChannelAnswer {
    /// From the record.
    #[must_use]
    pub fn new(id: Hash, channel: &Channel) -> Self {
        Self {
            id,
            payer: channel.payer,
            payee: channel.payee,
            payee_peer: channel.payee_peer.map(|key: PublicKey| HexKey(key)),
            deposit: channel.deposit,
            settled: channel.settled,
            challenge_ms: channel.challenge_ms,
            closes_at_ms: channel.closes_at.map(|at| at.0),
        }
    }
}

/// Some channels.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ChannelPage {
    /// The height after which this stands.
    pub height: u64,
    /// By name.
    pub channels: Vec<ChannelAnswer>,
    /// What to ask for `after`, where there are more.
    pub next: Option<Hash>,
}

/// A registered model.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ModelAnswer {
    /// SHA-256 of its file.
    pub digest: ModelDigest,
    /// What people call it.
    pub name: ModelName,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Where it can be had.
    pub mirrors: Vec<String>,
    /// Under which licence.
    pub licence: String,
    /// Who says so.
    pub registrant: Address,
    /// What is at stake for that; nothing once it is accepted.
    pub deposit: Atoms,
    /// Since when.
    pub registered_at_ms: u64,
    /// Whether nobody threw it out in its time.
    pub accepted: bool,
}

impl From<&Model> for ModelAnswer {
    fn from(model: &Model) -> Self {
        Self {
            digest: model.facts.digest,
            name: model.facts.name.clone(),
            size_bytes: model.facts.size_bytes,
            mirrors: model.facts.mirrors.clone(),
            licence: model.facts.licence.clone(),
            registrant: model.registrant,
            deposit: model.deposit,
            registered_at_ms: model.registered_at.0,
            accepted: model.accepted,
        }
    }
}

/// Some models.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ModelPage {
    /// The height after which this stands.
    pub height: u64,
    /// By digest.
    pub models: Vec<ModelAnswer>,
    /// What to ask for `after`, where there are more.
    pub next: Option<ModelDigest>,
}
