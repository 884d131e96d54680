//! The file of approved peers as text: written and edited by people and by this program.

use std::{collections::BTreeSet, fmt};

use arknet_protocol::{Grant, Grants, Permissions, SharedModels};
use arknet_types::{ModelName, NodeId, PublicKey, Timestamp};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

use super::limits::{NAME_CHARS_MAX, SHARED_MODELS_MAX};
use crate::moment;

/// What stands for all models.
const ALL: &str = "*";

/// The whole file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "peers")]
    peers: Entries,
}

/// The entries, held against each other while they are read: a mistake has its line then.
#[derive(Serialize)]
#[serde(transparent)]
struct Entries(Vec<PeerEntry>);

/// One approved peer, as the file and the node API write it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PeerEntry {
    /// What the peer calls itself.
    pub node_id: NodeId,
    /// Its key: written as its peer id; read as that, base64 or hex digits.
    #[serde(serialize_with = "write_key", deserialize_with = "read_key")]
    pub public_key: PublicKey,
    /// What the owner of this node calls it.
    #[serde(default, deserialize_with = "name")]
    pub name: String,
    /// When it was approved.
    #[serde(serialize_with = "write_moment", deserialize_with = "read_moment")]
    pub approved_at: Timestamp,
    /// What it may do.
    #[serde(serialize_with = "write_permissions", deserialize_with = "read_permissions")]
    pub permissions: Permissions,
}

/// Permissions, as they are written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    can_request_inference: bool,
    can_pull_models: bool,
    #[serde(serialize_with = "write_models", deserialize_with = "read_models")]
    models_shared: SharedModels,
    max_concurrent_requests: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    requests_per_day: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_per_day: Option<u64>,
}

/// Reads the file. The error names what is wrong, with line and column.
pub(super) fn read(text: &[u8]) -> Result<Grants, serde_json::Error> {
    let document: Document = serde_json::from_slice(text)?;
    let mut grants = Grants::new();
    for entry in document.peers.0 {
        grants.insert(entry.into()).map_err(de::Error::custom)?;
    }
    Ok(grants)
}

/// Writes the file, those approved first first.
pub(super) fn write(grants: &Grants) -> Vec<u8> {
    let mut entries: Vec<PeerEntry> = grants.iter().map(PeerEntry::from).collect();
    entries.sort_by(|a, b| (a.approved_at, &a.node_id).cmp(&(b.approved_at, &b.node_id)));
    let document = Document { peers: Entries(entries) };
    let mut text = serde_json::to_vec_pretty(&document).expect("grants have a form in JSON");
    text.push(b'\n');
    text
}

impl From<PeerEntry> for Grant {
    fn from(entry: PeerEntry) -> Self {
        let PeerEntry { node_id, public_key, name, approved_at, permissions } = entry;
        Self { node_id, key: public_key, name, approved_at, permissions }
    }
}

impl From<&Grant> for PeerEntry {
    fn from(grant: &Grant) -> Self {
        let Grant { node_id, key, name, approved_at, permissions } = grant.clone();
        Self { node_id, public_key: key, name, approved_at, permissions }
    }
}

/// Reads the peers one by one and refuses the one that cannot stand beside those before it.
fn peers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
    struct Peers;

    impl<'de> Visitor<'de> for Peers {
        type Value = Entries;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of peers")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entries, A::Error> {
            let (mut entries, mut known) = (Vec::new(), Grants::new());
            while let Some(entry) = list.next_element::<PeerEntry>()? {
                let (node_id, key) = (entry.node_id.clone(), entry.public_key);
                let twice = match known.insert(entry.clone().into()) {
                    Ok(None) => None,
                    Ok(Some(_)) => Some(format!("the key {key} stands here twice")),
                    Err(error) => Some(format!("{node_id}: {error}")),
                };
                if let Some(words) = twice {
                    return Err(de::Error::custom(words));
                }
                entries.push(entry);
            }
            Ok(Entries(entries))
        }
    }

    deserializer.deserialize_seq(Peers)
}

pub(crate) fn write_key<S: Serializer>(key: &PublicKey, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(key)
}

pub(crate) fn read_key<'de, D: Deserializer<'de>>(from: D) -> Result<PublicKey, D::Error> {
    let text = String::deserialize(from)?;
    PublicKey::from_text(&text).map_err(|error| de::Error::custom(format!("public_key: {error}")))
}

pub(crate) fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.chars().count() > NAME_CHARS_MAX || text.chars().any(char::is_control) {
        let words = format!("a name has up to {NAME_CHARS_MAX} characters on one line");
        return Err(de::Error::custom(words));
    }
    Ok(text)
}

fn write_moment<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&moment::write(*at))
}

fn read_moment<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    let words = "approved_at is written as 2026-03-15T10:30:00Z";
    moment::read(&text).ok_or_else(|| de::Error::custom(words))
}

pub(crate) fn write_permissions<S: Serializer>(
    may: &Permissions,
    to: S,
) -> Result<S::Ok, S::Error> {
    let may = may.clone();
    Written {
        can_request_inference: may.can_request_inference,
        can_pull_models: may.can_pull_models,
        models_shared: may.models_shared,
        max_concurrent_requests: may.max_concurrent_requests,
        requests_per_minute: may.requests_per_minute,
        requests_per_day: may.requests_per_day,
        tokens_per_minute: may.tokens_per_minute,
        tokens_per_day: may.tokens_per_day,
    }
    .serialize(to)
}

pub(crate) fn read_permissions<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Permissions, D::Error> {
    let may = Written::deserialize(from)?;
    Ok(Permissions {
        can_request_inference: may.can_request_inference,
        can_pull_models: may.can_pull_models,
        models_shared: may.models_shared,
        max_concurrent_requests: may.max_concurrent_requests,
        requests_per_minute: may.requests_per_minute,
        requests_per_day: may.requests_per_day,
        tokens_per_minute: may.tokens_per_minute,
        tokens_per_day: may.tokens_per_day,
    })
}

fn write_models<S: Serializer>(models: &SharedModels, to: S) -> Result<S::Ok, S::Error> {
    match models {
        SharedModels::All => [ALL].serialize(to),
        SharedModels::Only(models) => to.collect_seq(models),
    }
}

fn read_models<'de, D: Deserializer<'de>>(from: D) -> Result<SharedModels, D::Error> {
    let names: Vec<ModelName> = Vec::deserialize(from)?;
    if names.len() > SHARED_MODELS_MAX {
        let words = format!("models_shared: up to {SHARED_MODELS_MAX} models, or [\"*\"] for all");
        return Err(de::Error::custom(words));
    }
    match names.iter().any(|name| name.as_str() == ALL) {
        true if names.len() > 1 => {
            Err(de::Error::custom("models_shared: \"*\" means all models and stands alone"))
        }
        true => Ok(SharedModels::All),
        false => Ok(SharedModels::Only(names.into_iter().collect::<BTreeSet<_>>())),
    }
}
