use serde::{Deserialize, Serialize};

use super::deed::Deed;

/// The form this version writes.
pub(super) const VERSION: u32 = 1;

/// All that is remembered, as it is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoredReputation {
    /// The form: 1.
    pub version: u32,
    /// The peers.
    pub peers: Vec<StoredPeer>,
}

/// One peer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoredPeer {
    /// Its peer id.
    pub peer: String,
    /// What it did, by kind.
    pub tallies: Vec<StoredTally>,
    /// The last things it did, oldest first.
    pub recent: Vec<StoredRecent>,
}

/// All deeds of one kind.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct StoredTally {
    /// The kind.
    pub deed: Deed,
    /// How often.
    pub seen: f64,
    /// What it counted at that time.
    pub weight: f64,
    /// That time, in milliseconds since the epoch.
    pub at_ms: u64,
}

/// One deed: when, in milliseconds since the epoch, and what.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StoredRecent(pub u64, pub Deed);
