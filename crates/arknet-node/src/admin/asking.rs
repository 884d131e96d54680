//! The routes about what this node has of others: how they have served it, their models, and what the
//! ledger says of these.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use arknet_gateway::Pull;
use arknet_protocol::reputation::Explanation;
use arknet_sdk::Client;
use arknet_types::{ModelDigest, ModelName, PublicKey};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Admin,
    answer::{ApiError, read},
};
use crate::pull::Puller;

/// What a node has that asks others.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) client: Client,
    pub(crate) puller: Puller,
}

/// What `GET /peers/explain` answers.
#[derive(Serialize)]
struct Explained {
    public_key: String,
    node_id: Option<String>,
    /// What is known of it; none where it has done nothing for this node yet.
    reputation: Option<Explanation>,
}

/// What `POST /models/pull` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PullOrder {
    model: String,
    from: Option<String>,
}

/// What `POST /models/accepted` and `POST /models/serve` take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Called {
    name: ModelName,
}

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/peers/explain", get(explain))
        .route("/models/accepted", post(accepted))
        .route("/models/pull", post(pull))
        .route("/models/serve", post(serve))
}

impl Admin {
    fn asking(&self) -> Result<&Asking, ApiError> {
        self.asking.as_ref().ok_or_else(|| {
            let words = "this node asks nobody: it does not play the gateway";
            ApiError::new(StatusCode::CONFLICT, "no_gateway", words)
        })
    }

    /// How good an approved peer has been, where this node asks others.
    pub(super) fn reputation(&self, peer: &PublicKey) -> Option<f64> {
        let asking = self.asking.as_ref()?;
        Some(asking.client.with_reputation(|seen| seen.score(peer, arknet_sdk::now())))
    }

    /// The key of a peer by its key or by what it is called here.
    fn peer_called(&self, whom: &str) -> Result<PublicKey, ApiError> {
        let named = || {
            let grants = self.approvals.grants();
            let grant = grants.iter().find(|grant| grant.node_id.as_str() == whom);
            grant.map(|grant| grant.key)
        };
        PublicKey::from_text(whom).ok().or_else(named).ok_or_else(|| {
            let words = format!("{whom} is neither a key nor the node_id of an approved peer");
            ApiError::new(StatusCode::NOT_FOUND, "unknown_peer", words)
        })
    }
}

async fn explain(
    State(admin): State<Arc<Admin>>,
    uri: Uri,
) -> Result<Json<serde_json::Value>, ApiError> {
    let parts = uri.query().unwrap_or_default().split('&');
    let whom = parts.filter_map(|part| part.strip_prefix("peer=")).next().ok_or_else(|| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_query", "say which peer: ?peer=...")
    })?;
    let peer = admin.peer_called(whom)?;
    let now = arknet_sdk::now();
    let client = &admin.asking()?.client;
    let explained = Explained {
        public_key: peer.to_string(),
        node_id: admin.approvals.gate().node_id(&peer),
        reputation: client.with_reputation(|seen| seen.explain(&peer, now)),
    };
    Ok(Json(json!(explained)))
}

async fn pull(State(admin): State<Arc<Admin>>, body: Body) -> Result<Response, ApiError> {
    let PullOrder { model, from } = read(body).await?;
    let puller = admin.asking()?.puller.clone();
    let from = from.map(|whom| admin.peer_called(&whom)).transpose()?;
    let lines = puller.pull(model, from).map(|step| Ok::<_, Infallible>(line(&step)));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(lines)).into_response())
}

/// Serves a model of this machine as it is now: added, changed or removed since the node started.
async fn serve(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Called { name } = read(body).await?;
    let engines = admin.scrape.engines.clone().ok_or_else(|| {
        let words = "this node runs no models: it does not play the compute role";
        ApiError::new(StatusCode::CONFLICT, "no_compute", words)
    })?;
    let taken = engines.take_changed(name).await;
    // Whoever is told asks at once.
    admin.serving.update();
    taken.map(|taken| Json(json!(taken))).map_err(|error| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "not_served", error.to_string())
    })
}

/// The digests of the files that the ledger has accepted under a name.
async fn accepted(
    State(admin): State<Arc<Admin>>,
    body: Body,
) -> Result<Json<BTreeSet<ModelDigest>>, ApiError> {
    let Called { name } = read(body).await?;
    let look = tokio::task::spawn_blocking(move || admin.serving.accepted(&name));
    let found = look.await.map_err(|error| error.to_string());
    let found = found.and_then(|found| found.map_err(|error| error.to_string()));
    found.map(Json).map_err(|words| {
        let words = format!("the ledger cannot be read: {words}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "ledger_unreadable", words)
    })
}

/// One step of a transfer as a line.
fn line(step: &Pull) -> Bytes {
    let value = match step {
        Pull::Looking => json!({ "status": "looking" }),
        Pull::Progress { digest, done_bytes, total_bytes } => json!({
            "status": "progress",
            "digest": digest.map(|digest| digest.to_string()),
            "done_bytes": done_bytes,
            "total_bytes": total_bytes,
        }),
        Pull::Dropped { peer, words } => {
            json!({ "status": "dropped", "peer": peer.to_string(), "words": words })
        }
        Pull::Verifying => json!({ "status": "verifying" }),
        Pull::Ready => json!({ "status": "ready" }),
        Pull::Failed(refusal) => json!({
            "status": "failed",
            "code": refusal.code.as_str(),
            "error": refusal.detail,
        }),
    };
    format!("{value}\n").into()
}
