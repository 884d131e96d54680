//! What approved peers may do on this node.

use std::collections::{BTreeMap, BTreeSet};

use arknet_types::{ModelName, NodeId, PublicKey, Timestamp};

/// Peers that can be approved at the same time.
pub const GRANTS_MAX: usize = 1024;

/// Which models a peer may use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SharedModels {
    /// Whatever this node shares: `["*"]` in the file.
    All,
    /// These and no others.
    Only(BTreeSet<ModelName>),
}

impl SharedModels {
    /// Whether `model` is among them.
    #[must_use]
    pub fn contains(&self, model: &ModelName) -> bool {
        match self {
            Self::All => true,
            Self::Only(models) => models.contains(model),
        }
    }
}

/// The permissions of one grant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permissions {
    /// May ask the models that are shared with it.
    pub can_request_inference: bool,
    /// May fetch the files of the models that are shared with it.
    pub can_pull_models: bool,
    /// The models shared with it.
    pub models_shared: SharedModels,
    /// Requests running or waiting here at once.
    pub max_concurrent_requests: u32,
    /// Requests in a minute; no bound when none.
    pub requests_per_minute: Option<u32>,
    /// Requests in a day of UTC; no bound when none.
    pub requests_per_day: Option<u32>,
    /// Tokens, of questions and answers, in a minute; no bound when none.
    pub tokens_per_minute: Option<u64>,
    /// Tokens, of questions and answers, in a day of UTC; no bound when none.
    pub tokens_per_day: Option<u64>,
}

/// What one approved peer may do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// What the peer calls itself. A label: who it is, the key alone says.
    pub node_id: NodeId,
    /// The key the transport's handshake proves.
    pub key: PublicKey,
    /// What the owner of this node calls it.
    pub name: String,
    /// When it was approved.
    pub approved_at: Timestamp,
    /// What it may do.
    pub permissions: Permissions,
}

/// Everybody who is approved: one grant for each key, one key for each `node_id`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Grants {
    grants: BTreeMap<PublicKey, Grant>,
}

/// Why a grant cannot be added.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GrantError {
    /// Another peer has this node id.
    #[error("another peer is approved under this node_id; revoke it first")]
    NodeIdTaken,
    /// No more fit.
    #[error("{GRANTS_MAX} peers are approved already; revoke one first")]
    Full,
}

impl Grants {
    /// Nobody is approved.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The grant of the peer with this key.
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<&Grant> {
        self.grants.get(key)
    }

    /// The grant of the peer with this label.
    #[must_use]
    pub fn named(&self, node_id: &NodeId) -> Option<&Grant> {
        self.grants.values().find(|grant| grant.node_id == *node_id)
    }

    /// All grants, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.grants.len()
    }

    /// Whether nobody is approved.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    /// Adds a grant, or replaces the one of the same key.
    pub fn insert(&mut self, grant: Grant) -> Result<Option<Grant>, GrantError> {
        if self.named(&grant.node_id).is_some_and(|other| other.key != grant.key) {
            return Err(GrantError::NodeIdTaken);
        }
        if self.grants.len() >= GRANTS_MAX && !self.grants.contains_key(&grant.key) {
            return Err(GrantError::Full);
        }
        Ok(self.grants.insert(grant.key, grant))
    }

    /// Takes a grant away.
    pub fn remove(&mut self, key: &PublicKey) -> Option<Grant> {
        self.grants.remove(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(n: u16, node_id: &str) -> Grant {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        Grant {
            node_id: NodeId::new(node_id).unwrap(),
            key: PublicKey(key),
            name: String::new(),
            approved_at: Timestamp(0),
            permissions: Permissions {
                can_request_inference: true,
                can_pull_models: false,
                models_shared: SharedModels::Only([ModelName::new("m").unwrap()].into()),
                max_concurrent_requests: 1,
                requests_per_minute: None,
                requests_per_day: None,
                tokens_per_minute: None,
                tokens_per_day: None,
            },
        }
    }

    #[test]
    fn a_label_belongs_to_one_key() {
        let mut grants = Grants::new();
        assert_eq!(grants.insert(grant(1, "a")), Ok(None));
        assert_eq!(grants.insert(grant(2, "a")), Err(GrantError::NodeIdTaken));
        assert_eq!(grants.insert(grant(1, "b")), Ok(Some(grant(1, "a"))));
        assert_eq!(grants.insert(grant(2, "a")), Ok(None));
        assert_eq!(grants.named(&grant(2, "a").node_id).map(|g| g.key), Some(grant(2, "a").key));
        assert_eq!(grants.remove(&grant(2, "a").key), Some(grant(2, "a")));
        assert_eq!((grants.len(), grants.named(&grant(2, "a").node_id)), (1, None));
    }

    #[test]
    fn there_is_a_limit() {
        let mut grants = Grants::new();
        for n in 0..u16::try_from(GRANTS_MAX).unwrap() {
            grants.insert(grant(n, &n.to_string())).unwrap();
        }
        assert_eq!(grants.insert(grant(u16::MAX, "one-more")), Err(GrantError::Full));
        assert!(grants.insert(grant(0, "0")).is_ok(), "one that is there can change");
    }

    #[test]
    fn a_model_is_shared_by_name_or_by_the_star() {
        let only = SharedModels::Only([ModelName::new("m").unwrap()].into());
        let (m, n) = (ModelName::new("m").unwrap(), ModelName::new("n").unwrap());
        assert!(only.contains(&m) && !only.contains(&n) && SharedModels::All.contains(&n));
    }
}
