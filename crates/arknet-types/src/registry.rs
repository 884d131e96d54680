use borsh::BorshSerialize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Domain, Endpoint, KeyPair, ModelName, NetworkId, NodeId, PublicKey, RegistryName, Signature,
    Timestamp,
    limits::{
        CLOCK_SKEW_MS_MAX, MODELS_PER_OFFER_MAX, REGISTRY_ENTRIES_PER_PAGE_MAX,
        REGISTRY_ENTRY_BYTES_MAX, REGISTRY_LIFETIME_MS_MAX, REGISTRY_PAGE_BYTES_MAX,
        REGISTRY_SEQUENCE_MAX,
    },
};

/// What a node tells a registry about itself, to be signed. See `spec/registry.md`.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct EntryBody {
    /// The network the node belongs to.
    pub network: NetworkId,
    /// The registry this is for; another one must not show it.
    pub registry: RegistryName,
    /// The node, which signs.
    pub public_key: PublicKey,
    /// What the node calls itself.
    pub node_id: NodeId,
    /// Where it can be reached.
    pub endpoint: Endpoint,
    /// The models it wants to be found by.
    pub models: Vec<ModelName>,
    /// Rises with everything the node tells this registry.
    pub sequence: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Timestamp,
}

/// An entry with the node's signature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "EntryJson", into = "EntryJson")]
pub struct RegistryEntry {
    /// What is told.
    pub body: EntryBody,
    /// The node's signature in [`Domain::REGISTRY_ENTRY`].
    pub signature: Signature,
}

/// A node's word that it wants to be shown no longer, to be signed.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct WithdrawalBody {
    /// The network the node belongs to.
    pub network: NetworkId,
    /// The registry this is for.
    pub registry: RegistryName,
    /// The node, which signs.
    pub public_key: PublicKey,
    /// Rises with everything the node tells this registry.
    pub sequence: u64,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// When it stops counting.
    pub expires_at: Timestamp,
}

/// A withdrawal with the node's signature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "WithdrawalJson", into = "WithdrawalJson")]
pub struct RegistryWithdrawal {
    /// What is told.
    pub body: WithdrawalBody,
    /// The node's signature in [`Domain::REGISTRY_WITHDRAWAL`].
    pub signature: Signature,
}

/// Why an entry or a withdrawal does not count.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// The node did not sign this.
    #[error("the signature does not match")]
    Forged,
    /// Its time has not come, beyond what clocks may differ.
    #[error("it is dated in the future")]
    FutureDated,
    /// It would live longer than it may, or end before it begins.
    #[error("its lifetime is out of bounds: more than nothing, a day at most")]
    Lifetime,
    /// Not JSON of the right shape.
    #[error("malformed: {0}")]
    Malformed(#[from] serde_json::Error),
    /// More bytes than it may have.
    #[error("{found} bytes where at most {max} are allowed")]
    TooLarge {
        /// Bytes found.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// It is for another network.
    #[error("it is for another network")]
    WrongNetwork,
    /// It is for another registry.
    #[error("it is for another registry")]
    WrongRegistry,
}

impl RegistryError {
    /// The stable name of the reason, as a registry answers it.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Forged => "forged",
            Self::FutureDated => "future_dated",
            Self::Lifetime => "lifetime",
            Self::Malformed(_) => "malformed",
            Self::TooLarge { .. } => "too_large",
            Self::WrongNetwork => "wrong_network",
            Self::WrongRegistry => "wrong_registry",
        }
    }
}

impl RegistryEntry {
    /// Signs `body` with the key of the node it names.
    ///
    /// # Panics
    /// When `node` is not the node that `body` names.
    #[must_use]
    pub fn sign(body: EntryBody, node: &KeyPair) -> Self {
        assert_eq!(body.public_key, node.public(), "the node named is the one that signs");
        let signature = node.sign(Domain::REGISTRY_ENTRY, &body);
        Self { body, signature }
    }

    /// Reads an entry: its form alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistryError> {
        within(bytes, REGISTRY_ENTRY_BYTES_MAX)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Checks what can be checked without knowing others: network, registry, times, signature.
    pub fn check(
        &self,
        network: &NetworkId,
        registry: &RegistryName,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let body = &self.body;
        check_audience((network, &body.network), (registry, &body.registry))?;
        check_times(body.issued_at, body.expires_at, now)?;
        let is_signed = body.public_key.verifies(Domain::REGISTRY_ENTRY, body, &self.signature);
        if is_signed { Ok(()) } else { Err(RegistryError::Forged) }
    }
}

impl RegistryWithdrawal {
    /// Signs `body` with the key of the node it names.
    ///
    /// # Panics
    /// When `node` is not the node that `body` names.
    #[must_use]
    pub fn sign(body: WithdrawalBody, node: &KeyPair) -> Self {
        assert_eq!(body.public_key, node.public(), "the node named is the one that signs");
        let signature = node.sign(Domain::REGISTRY_WITHDRAWAL, &body);
        Self { body, signature }
    }

    /// Reads a withdrawal: its form alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, RegistryError> {
        within(bytes, REGISTRY_ENTRY_BYTES_MAX)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    /// Checks what can be checked without knowing others: network, registry, times, signature.
    pub fn check(
        &self,
        network: &NetworkId,
        registry: &RegistryName,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let body = &self.body;
        check_audience((network, &body.network), (registry, &body.registry))?;
        check_times(body.issued_at, body.expires_at, now)?;
        let is_signed =
            body.public_key.verifies(Domain::REGISTRY_WITHDRAWAL, body, &self.signature);
        if is_signed { Ok(()) } else { Err(RegistryError::Forged) }
    }
}

/// What a registry answers to a question for entries.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RegistryPage {
    /// Entries that count.
    pub entries: Vec<RegistryEntry>,
    /// How many there were that do not count: another's words, another registry's, out of time.
    pub refused: usize,
    /// Where the next page begins, after this key; none where this page is the last.
    pub next: Option<PublicKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageJson {
    entries: Vec<serde_json::Value>,
    next: Option<PeerIdText>,
}

impl RegistryPage {
    /// Reads what a registry says and keeps what the nodes themselves have signed, for this network
    /// and this registry, now. A registry that lies spoils its own lies only.
    pub fn parse(
        bytes: &[u8],
        network: &NetworkId,
        registry: &RegistryName,
        now: Timestamp,
    ) -> Result<Self, RegistryError> {
        within(bytes, REGISTRY_PAGE_BYTES_MAX)?;
        let page: PageJson = serde_json::from_slice(bytes)?;
        if page.entries.len() > REGISTRY_ENTRIES_PER_PAGE_MAX {
            let max = REGISTRY_ENTRIES_PER_PAGE_MAX;
            let words = format!("{} entries where at most {max} are allowed", page.entries.len());
            return Err(RegistryError::Malformed(de::Error::custom(words)));
        }
        let all = page.entries.len();
        let counts = |entry: serde_json::Value| {
            let entry: RegistryEntry = serde_json::from_value(entry).ok()?;
            entry.check(network, registry, now).is_ok().then_some(entry)
        };
        let entries: Vec<_> = page.entries.into_iter().filter_map(counts).collect();
        let refused = all - entries.len();
        Ok(Self { entries, refused, next: page.next.map(|key| key.0) })
    }
}

fn within(bytes: &[u8], max: usize) -> Result<(), RegistryError> {
    match bytes.len() {
        found if found > max => Err(RegistryError::TooLarge { found, max }),
        _ => Ok(()),
    }
}

fn check_audience(
    (network, named): (&NetworkId, &NetworkId),
    (registry, meant): (&RegistryName, &RegistryName),
) -> Result<(), RegistryError> {
    if network != named {
        return Err(RegistryError::WrongNetwork);
    }
    if registry != meant {
        return Err(RegistryError::WrongRegistry);
    }
    Ok(())
}

fn check_times(
    issued_at: Timestamp,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<(), RegistryError> {
    if expires_at <= issued_at || expires_at.since_ms(issued_at) > REGISTRY_LIFETIME_MS_MAX {
        return Err(RegistryError::Lifetime);
    }
    if now >= expires_at {
        return Err(RegistryError::Expired);
    }
    if issued_at.since_ms(now) > CLOCK_SKEW_MS_MAX {
        return Err(RegistryError::FutureDated);
    }
    Ok(())
}

/// A key as its peer id in text: the only form that is read, so that one entry has one text.
#[derive(Clone, Copy)]
struct PeerIdText(PublicKey);

impl Serialize for PeerIdText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.peer_id())
    }
}

impl<'de> Deserialize<'de> for PeerIdText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        PublicKey::from_peer_id(&text).map(Self).map_err(de::Error::custom)
    }
}

/// A signature as 128 hex digits.
struct SignatureText(Signature);

impl Serialize for SignatureText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0.0))
    }
}

impl<'de> Deserialize<'de> for SignatureText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        let is_lower = !text.bytes().any(|b| b.is_ascii_uppercase());
        if !is_lower || hex::decode_to_slice(&text, &mut bytes).is_err() {
            return Err(de::Error::custom("a signature is written as 128 hex digits"));
        }
        Ok(Self(Signature(bytes)))
    }
}

/// An entry as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    network: NetworkId,
    registry: RegistryName,
    node_id: NodeId,
    public_key: PeerIdText,
    endpoint: Endpoint,
    models: Vec<ModelName>,
    sequence: u64,
    issued_at_ms: u64,
    expires_at_ms: u64,
    signature: SignatureText,
}

impl From<RegistryEntry> for EntryJson {
    fn from(RegistryEntry { body, signature }: RegistryEntry) -> Self {
        Self {
            network: body.network,
            registry: body.registry,
            node_id: body.node_id,
            public_key: PeerIdText(body.public_key),
            endpoint: body.endpoint,
            models: body.models,
            sequence: body.sequence,
            issued_at_ms: body.issued_at.0,
            expires_at_ms: body.expires_at.0,
            signature: SignatureText(signature),
        }
    }
}

impl TryFrom<EntryJson> for RegistryEntry {
    type Error = String;

    fn try_from(json: EntryJson) -> Result<Self, String> {
        let body = EntryBody {
            network: json.network,
            registry: json.registry,
            public_key: json.public_key.0,
            node_id: json.node_id,
            endpoint: json.endpoint,
            models: json.models,
            sequence: json.sequence,
            issued_at: Timestamp(json.issued_at_ms),
            expires_at: Timestamp(json.expires_at_ms),
        };
        check_numbers(body.sequence, body.expires_at)?;
        if body.models.len() > MODELS_PER_OFFER_MAX {
            return Err(format!("at most {MODELS_PER_OFFER_MAX} models"));
        }
        // Two orders of the same models would be two entries that say the same.
        if !body.models.is_sorted_by(|one, next| one < next) {
            return Err("models stand in the order of their bytes, each once".into());
        }
        Ok(Self { body, signature: json.signature.0 })
    }
}

/// A withdrawal as it is written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WithdrawalJson {
    network: NetworkId,
    registry: RegistryName,
    public_key: PeerIdText,
    sequence: u64,
    issued_at_ms: u64,
    expires_at_ms: u64,
    signature: SignatureText,
}

impl From<RegistryWithdrawal> for WithdrawalJson {
    fn from(RegistryWithdrawal { body, signature }: RegistryWithdrawal) -> Self {
        Self {
            network: body.network,
            registry: body.registry,
            public_key: PeerIdText(body.public_key),
            sequence: body.sequence,
            issued_at_ms: body.issued_at.0,
            expires_at_ms: body.expires_at.0,
            signature: SignatureText(signature),
        }
    }
}

impl TryFrom<WithdrawalJson> for RegistryWithdrawal {
    type Error = String;

    fn try_from(json: WithdrawalJson) -> Result<Self, String> {
        let body = WithdrawalBody {
            network: json.network,
            registry: json.registry,
            public_key: json.public_key.0,
            sequence: json.sequence,
            issued_at: Timestamp(json.issued_at_ms),
            expires_at: Timestamp(json.expires_at_ms),
        };
        check_numbers(body.sequence, body.expires_at)?;
        Ok(Self { body, signature: json.signature.0 })
    }
}

/// Numbers that some languages cannot read exactly are not written.
fn check_numbers(sequence: u64, expires_at: Timestamp) -> Result<(), String> {
    if sequence > REGISTRY_SEQUENCE_MAX || expires_at.0 > REGISTRY_SEQUENCE_MAX {
        return Err(format!("numbers go up to {REGISTRY_SEQUENCE_MAX}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
