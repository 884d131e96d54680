//! The node API: what the node is doing and whom it trusts, for the command line and for people.
//!
//! Who may use it, and for what, is decided in `guard`.

mod answer;
mod asking;
mod guard;
mod peers;
mod token;

use std::{net::SocketAddr, sync::Arc, time::Instant};

use arknet_mesh::Mesh;
use arknet_types::{NodeId, PublicKey};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use answer::ApiError;
pub(crate) use asking::Asking;
pub(crate) use guard::Guard;
pub use peers::{
    ApproveAnswer, ApprovedPeer, DiscoveredPeer, GridStatus, PeerList, PendingPeer, RevokeAnswer,
};
pub(crate) use token::Token;

use crate::{
    Config, approvals::Approvals, audit::AuditStatus, discovery::Discovery, scrape::Scrape,
    serving::Serving,
};

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// What it calls itself.
    pub node_id: NodeId,
    /// Its peer id.
    pub peer: String,
    /// What two people compare by voice to be sure of its peer id.
    pub fingerprint: String,
    /// Its network.
    pub network: String,
    /// The parts it plays.
    pub roles: Vec<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where others can reach it.
    pub addresses: Vec<String>,
    /// Its gateway, where it has one.
    pub gateway: Option<SocketAddr>,
    /// The chain RPC, where it follows a chain.
    pub rpc: Option<SocketAddr>,
    /// Peers connected.
    pub connected: usize,
    /// Peers approved.
    pub approved: usize,
    /// What is wrong with the file of approved peers, if something is.
    pub approved_peers_problem: Option<String>,
    /// Models it serves.
    pub models: Vec<ServedModel>,
    /// Requests of other peers running or waiting.
    pub remote_requests: u32,
    /// Streams other peers hold open here, idle ones included.
    pub streams_held: usize,
    /// Streams reset because a limit was reached.
    pub streams_refused: u64,
    /// Resident memory in bytes, where the system tells.
    pub resident_bytes: Option<u64>,
    /// The log of what other peers ask; none where they cannot ask.
    pub audit: Option<AuditStatus>,
}

/// A model a node serves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServedModel {
    /// What it is called.
    pub name: String,
    /// SHA-256 of its file; none where the file is not known, as behind a hosted service.
    pub digest: Option<String>,
    /// Whether the ledger that this node follows has accepted this file under this name.
    pub vouched_for: bool,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// Tokens of input and answer together.
    pub context_tokens: u32,
    /// Requests served at once.
    pub slots: u16,
    /// Of these, free.
    pub slots_free: u32,
    /// Requests that wait.
    pub waiting: u32,
}

/// What is known of a peer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerReport {
    /// Its peer id.
    pub peer: String,
    /// Whether a connection stands.
    pub connected: bool,
    /// Whether that goes through a relay.
    pub relayed: bool,
    /// The other end of the connection, or the first address offered.
    pub address: Option<String>,
    /// The last round trip measured, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The models it offers.
    pub models: Vec<String>,
    /// Slots it last said to be free, over all models.
    pub slots_free: u32,
}

/// What the API looks at.
pub(crate) struct Admin {
    pub(crate) started: Instant,
    pub(crate) node_id: NodeId,
    pub(crate) approvals: Approvals,
    pub(crate) discovery: Discovery,
    pub(crate) config: Config,
    pub(crate) network: String,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) rpc: Option<SocketAddr>,
    pub(crate) mesh: Mesh,
    pub(crate) serving: Serving,
    pub(crate) scrape: Arc<Scrape>,
    /// Where it asks others.
    pub(crate) asking: Option<Asking>,
}

impl Admin {
    pub(crate) fn status(&self) -> Status {
        let served = self.serving.models();
        let models = served.values().map(|served| ServedModel {
            name: served.info.name.to_string(),
            digest: served.info.digest.map(|digest| digest.to_string()),
            vouched_for: served
                .info
                .digest
                .is_some_and(|digest| self.serving.is_vouched_for(&served.info.name, digest)),
            capabilities: served.info.capabilities.names().map(Into::into).collect(),
            context_tokens: served.info.context_tokens,
            slots: served.info.slots,
            slots_free: *served.slots_free().borrow(),
            waiting: served.waiting(),
        });
        let streams = self.mesh.stream_stats();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            node_id: self.node_id.clone(),
            peer: self.mesh.peer().to_string(),
            fingerprint: self.mesh.peer().fingerprint(),
            network: self.network.clone(),
            roles: self.config.roles.iter().map(ToString::to_string).collect(),
            uptime_s: self.started.elapsed().as_secs(),
            addresses: addresses(&self.mesh),
            gateway: self.gateway,
            rpc: self.rpc,
            connected: self.mesh.connected().len(),
            approved: self.approvals.grants().len(),
            approved_peers_problem: self.approvals.problem(),
            models: models.collect(),
            remote_requests: self.serving.remote_requests(),
            streams_held: streams.held,
            streams_refused: streams.refused,
            resident_bytes: resident_bytes(),
            audit: self.serving.audit(),
        }
    }

    fn peers(&self) -> Vec<PeerReport> {
        let mut peers: std::collections::BTreeMap<PublicKey, PeerReport> =
            std::collections::BTreeMap::new();
        for status in self.mesh.connected() {
            let report = PeerReport {
                peer: status.peer.to_string(),
                connected: true,
                relayed: status.relayed,
                address: Some(status.address.to_string()),
                rtt_ms: status.rtt_ms,
                models: vec![],
                slots_free: 0,
            };
            peers.insert(status.peer, report);
        }
        self.mesh.offers().with(|offers| {
            for offer in offers.living(arknet_sdk::now()) {
                let body = &offer.body;
                let report = peers.entry(body.peer).or_insert_with(|| PeerReport {
                    peer: body.peer.to_string(),
                    connected: false,
                    relayed: false,
                    address: body.addresses.first().cloned(),
                    rtt_ms: None,
                    models: vec![],
                    slots_free: 0,
                });
                report.models = body.models.iter().map(|model| model.name.to_string()).collect();
                report.slots_free = body.models.iter().map(|m| u32::from(m.slots_free)).sum();
            }
        });
        peers.into_values().collect()
    }
}

/// Where a mesh can be reached, each address with its peer id.
pub(crate) fn addresses(mesh: &Mesh) -> Vec<String> {
    let peer = mesh.peer();
    mesh.listen_addresses().iter().map(|address| format!("{address}/p2p/{peer}")).collect()
}

/// Serves the API until told to stop.
pub(crate) async fn serve(
    listener: TcpListener,
    admin: Arc<Admin>,
    guard: Guard,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let unknown = async || ApiError::new(StatusCode::NOT_FOUND, "unknown_path", "no such path");
    let not_so = async || {
        let words = "this path is not used with this method";
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", words)
    };
    let router = Router::new()
        .route("/health", get(async || Json(serde_json::json!({ "status": "ok" }))))
        .route("/status", get(async |State(admin): State<Arc<Admin>>| Json(admin.status())))
        .route("/metrics", get(metrics))
        .route("/peers", get(async |State(admin): State<Arc<Admin>>| Json(admin.peers())))
        .merge(peers::routes())
        .merge(crate::console::routes())
        .merge(asking::routes())
        .fallback(unknown)
        .method_not_allowed_fallback(not_so)
        .layer(middleware::from_fn_with_state(guard, check))
        .with_state(admin)
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, arknet_gateway::METRICS_CONTENT_TYPE)], admin.scrape.text().await)
}

/// Lets pass what the guard lets pass.
async fn check(
    State(guard): State<Guard>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    match guard.check(from, request.method(), request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            tracing::info!(%from, code = error.code, path = request.uri().path(), "refused at the node API");
            error.into_response()
        }
    }
}

/// Resident memory of this process.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
