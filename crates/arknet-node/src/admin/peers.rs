//! The routes about peers: who is there, who waits, who may do what.

use std::{collections::BTreeMap, sync::Arc};

use arknet_mesh::PeerStatus;
use arknet_protocol::{Grant, Known, Permissions};
use arknet_types::{NodeId, PublicKey, Timestamp};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    Admin,
    answer::{ApiError, read},
};
use crate::{
    approvals::{ApprovalError, PeerEntry, Whom, name, read_key, read_permissions},
    moment,
};

/// A peer that was seen.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DiscoveredPeer {
    /// What it calls itself, or a label made from its key.
    pub node_id: NodeId,
    /// Its peer id.
    pub public_key: String,
    /// What two people compare by voice.
    pub fingerprint: String,
    /// Where it is said to be.
    pub addresses: Vec<String>,
    /// How it was found.
    pub sources: Vec<String>,
    /// When for the first time.
    pub first_seen: String,
    /// When for the last time.
    pub last_seen: String,
    /// Whether it is approved.
    pub approved: bool,
}

/// A peer that was seen or has asked, and is not approved.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PendingPeer {
    /// What it calls itself, or a label made from its key.
    pub node_id: NodeId,
    /// Its peer id.
    pub public_key: String,
    /// What two people compare by voice.
    pub fingerprint: String,
    /// Where it is said to be.
    pub addresses: Vec<String>,
    /// How it was found.
    pub sources: Vec<String>,
    /// How often it has asked and was turned away.
    pub asked: u64,
    /// When for the last time.
    pub asked_at: Option<String>,
}

/// An approved peer and what it does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApprovedPeer {
    /// Its entry in the file.
    #[serde(flatten)]
    pub entry: PeerEntry,
    /// What two people compare by voice.
    pub fingerprint: String,
    /// Whether a connection stands.
    pub connected: bool,
    /// The other end of the connection, or the first address offered.
    pub address: Option<String>,
    /// The last round trip measured, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The models it offers to this node.
    pub models: Vec<String>,
    /// Its requests running or waiting here.
    pub running: u32,
    /// Its requests today, by UTC.
    pub requests_today: u64,
    /// Its tokens today, by UTC.
    pub tokens_today: u64,
    /// How good it has been to this node, from 0 to 1; none where this node asks nobody.
    pub reputation: Option<f64>,
}

/// All approved peers, and this node.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct GridStatus {
    /// What this node calls itself.
    pub node_id: NodeId,
    /// Its peer id.
    pub public_key: String,
    /// What two people compare by voice.
    pub fingerprint: String,
    /// Whether it serves everybody, approved or not.
    pub serves_anyone: bool,
    /// What is wrong with the file of approved peers, if something is.
    pub problem: Option<String>,
    /// The approved peers.
    pub peers: Vec<ApprovedPeer>,
}

/// What `POST /peers/approve` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    node_id: Option<NodeId>,
    #[serde(deserialize_with = "read_key")]
    public_key: PublicKey,
    #[serde(default, deserialize_with = "name")]
    name: String,
    #[serde(deserialize_with = "read_permissions")]
    permissions: Permissions,
}

/// What `POST /peers/revoke` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    node_id: Option<NodeId>,
    public_key: Option<String>,
}

/// What `POST /peers/approve` answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApproveAnswer {
    /// The peer, as it is in the file now.
    pub approved: PeerEntry,
}

/// What `POST /peers/revoke` answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RevokeAnswer {
    /// The peer, as it was in the file.
    pub revoked: PeerEntry,
    /// How many of its requests were cut.
    pub cut: usize,
}

/// A list as the API writes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerList<T> {
    /// The peers.
    pub peers: Vec<T>,
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route(
            "/peers/discovered",
            get(async |State(admin): State<Arc<Admin>>| Json(admin.discovered())),
        )
        .route("/peers/pending", get(async |State(admin): State<Arc<Admin>>| Json(admin.pending())))
        .route("/peers/status", get(async |State(admin): State<Arc<Admin>>| Json(admin.grid())))
        .route("/peers/approve", post(approve))
        .route("/peers/revoke", post(revoke))
}

async fn approve(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<ApproveAnswer>, ApiError> {
    let Approve { node_id, public_key: key, name, permissions } = read(body).await?;
    if key == admin.mesh.peer() {
        let words = "this is the key of this node itself";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "own_key", words));
    }
    let label = || admin.label(&key, admin.discovery.get(&key).and_then(|seen| seen.node_id));
    let grant = Grant {
        node_id: node_id.unwrap_or_else(label),
        key,
        name,
        approved_at: Timestamp(arknet_sdk::now().0 / 1000 * 1000),
        permissions,
    };
    let approved = admin.approvals.approve(grant).await?;
    Ok(Json(ApproveAnswer { approved: PeerEntry::from(&approved) }))
}

async fn revoke(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<RevokeAnswer>, ApiError> {
    let Revoke { node_id, public_key } = read(body).await?;
    let key = public_key.map(|text| PublicKey::from_text(&text)).transpose().map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", format!("public_key: {error}"))
    })?;
    let whom = match (key, node_id) {
        (Some(key), None) => Whom::Key(key),
        (None, Some(node_id)) => Whom::Named(node_id),
        (Some(key), Some(node_id)) => {
            // Both must mean the same peer, or the wrong one goes.
            let grants = admin.approvals.grants();
            if grants.get(&key).is_none_or(|grant| grant.node_id != node_id) {
                return Err(ApprovalError::Unknown.into());
            }
            Whom::Key(key)
        }
        (None, None) => {
            let words = "say whom: node_id or public_key";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_body", words));
        }
    };
    let (grant, cut) = admin.approvals.revoke(whom).await?;
    Ok(Json(RevokeAnswer { revoked: PeerEntry::from(&grant), cut }))
}

impl From<ApprovalError> for ApiError {
    fn from(error: ApprovalError) -> Self {
        let (status, code) = match &error {
            ApprovalError::Unknown => (StatusCode::NOT_FOUND, "not_approved"),
            ApprovalError::Grant(arknet_protocol::GrantError::Full) => {
                (StatusCode::CONFLICT, "too_many_peers")
            }
            ApprovalError::Grant(_) => (StatusCode::CONFLICT, "node_id_taken"),
            ApprovalError::Broken { .. } => (StatusCode::CONFLICT, "approved_peers_broken"),
            ApprovalError::Contended { .. } => (StatusCode::CONFLICT, "approved_peers_contended"),
            ApprovalError::Io { .. } => {
                (StatusCode::INTERNAL_SERVER_ERROR, "approved_peers_unwritable")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

fn sources(seen: &Known) -> Vec<String> {
    seen.sources.iter().map(|source| source.as_str().to_owned()).collect()
}

impl Admin {
    /// What a peer is called: as it is approved, as it says, or after its key.
    fn label(&self, key: &PublicKey, said: Option<NodeId>) -> NodeId {
        let approved = self.approvals.grants().get(key).map(|grant| grant.node_id.clone());
        approved.or(said).unwrap_or_else(|| NodeId::of("", key))
    }

    fn discovered(&self) -> PeerList<DiscoveredPeer> {
        let grants = self.approvals.grants();
        let peers = self.discovery.list().into_iter().map(|seen| DiscoveredPeer {
            sources: sources(&seen),
            node_id: self.label(&seen.peer, seen.node_id),
            public_key: seen.peer.to_string(),
            fingerprint: seen.peer.fingerprint(),
            addresses: seen.addresses,
            first_seen: moment::write(seen.first_seen),
            last_seen: moment::write(seen.last_seen),
            approved: grants.get(&seen.peer).is_some(),
        });
        PeerList { peers: peers.collect() }
    }

    fn pending(&self) -> PeerList<PendingPeer> {
        let grants = self.approvals.grants();
        let mut peers = BTreeMap::<PublicKey, PendingPeer>::new();
        let pending = |peer: PublicKey, seen: Option<Known>| {
            let sources = seen.as_ref().map(sources).unwrap_or_default();
            let (node_id, addresses) =
                seen.map_or_else(|| (None, vec![]), |seen| (seen.node_id, seen.addresses));
            PendingPeer {
                node_id: self.label(&peer, node_id),
                public_key: peer.to_string(),
                fingerprint: peer.fingerprint(),
                addresses,
                sources,
                asked: 0,
                asked_at: None,
            }
        };
        for seen in self.discovery.list() {
            peers.insert(seen.peer, pending(seen.peer, Some(seen)));
        }
        for (peer, knock) in self.approvals.gate().knocks() {
            let entry = peers.entry(peer).or_insert_with(|| pending(peer, None));
            (entry.asked, entry.asked_at) = (knock.count, Some(moment::write(knock.last_at)));
        }
        let waiting = peers.into_iter().filter(|(peer, _)| grants.get(peer).is_none());
        PeerList { peers: waiting.map(|(_, entry)| entry).collect() }
    }

    fn grid(&self) -> GridStatus {
        let connected: BTreeMap<PublicKey, PeerStatus> =
            self.mesh.connected().into_iter().map(|status| (status.peer, status)).collect();
        let now = arknet_sdk::now();
        let grants = self.approvals.grants();
        let peers = grants.iter().map(|grant| {
            let status = connected.get(&grant.key);
            let (models, offered) = self.mesh.offers().with(|offers| {
                let offer = offers.get(&grant.key).filter(|offer| offer.body.expires_at > now);
                let models = offer.iter().flat_map(|offer| &offer.body.models);
                let models: Vec<_> = models.map(|model| model.name.to_string()).collect();
                (models, offer.and_then(|offer| offer.body.addresses.first().cloned()))
            });
            let used = self.approvals.gate().peer_use(&grant.key);
            ApprovedPeer {
                entry: PeerEntry::from(grant),
                fingerprint: grant.key.fingerprint(),
                connected: status.is_some(),
                address: status.map(|status| status.address.to_string()).or(offered),
                rtt_ms: status.and_then(|status| status.rtt_ms),
                models,
                running: used.running,
                requests_today: used.requests_today,
                tokens_today: used.tokens_today,
                reputation: self.reputation(&grant.key),
            }
        });
        let me = self.mesh.peer();
        GridStatus {
            node_id: self.node_id.clone(),
            public_key: me.to_string(),
            fingerprint: me.fingerprint(),
            serves_anyone: self.config.compute.danger_serve_anyone,
            problem: self.approvals.problem(),
            peers: peers.collect(),
        }
    }
}
