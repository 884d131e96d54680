//! The node API: what the node is doing, for the command line and for people.
//!
//! It listens on loopback only and answers nothing that changes state yet. A page of another origin
//! or a rebound host name gets no answer at all.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use arknet_mesh::Mesh;
use arknet_types::PublicKey;
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Config, scrape::Scrape, serving::Serving};

/// What a node says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its peer id.
    pub peer: String,
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
    /// Peers connected.
    pub connected: usize,
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
}

/// A model a node serves.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ServedModel {
    /// What it is called.
    pub name: String,
    /// SHA-256 of its file; none where the file is not known, as behind a hosted service.
    pub digest: Option<String>,
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
    pub(crate) config: Config,
    pub(crate) network: String,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) mesh: Mesh,
    pub(crate) serving: Serving,
    pub(crate) scrape: Arc<Scrape>,
}

impl Admin {
    pub(crate) fn status(&self) -> Status {
        let served = self.serving.models();
        let models = served.values().map(|served| ServedModel {
            name: served.info.name.to_string(),
            digest: served.info.digest.map(|digest| digest.to_string()),
            capabilities: served.info.capabilities.names().map(Into::into).collect(),
            context_tokens: served.info.context_tokens,
            slots: served.info.slots,
            slots_free: *served.slots_free().borrow(),
            waiting: served.waiting(),
        });
        let streams = self.mesh.stream_stats();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            peer: self.mesh.peer().to_string(),
            network: self.network.clone(),
            roles: self.config.roles.iter().map(ToString::to_string).collect(),
            uptime_s: self.started.elapsed().as_secs(),
            addresses: addresses(&self.mesh),
            gateway: self.gateway,
            connected: self.mesh.connected().len(),
            models: models.collect(),
            remote_requests: self.serving.remote_requests(),
            streams_held: streams.held,
            streams_refused: streams.refused,
            resident_bytes: resident_bytes(),
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
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/health", get(async || Json(serde_json::json!({ "status": "ok" }))))
        .route("/status", get(async |State(admin): State<Arc<Admin>>| Json(admin.status())))
        .route("/metrics", get(metrics))
        .route("/peers", get(async |State(admin): State<Arc<Admin>>| Json(admin.peers())))
        .layer(middleware::from_fn(guard))
        .with_state(admin);
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, arknet_gateway::METRICS_CONTENT_TYPE)], admin.scrape.text().await)
}

/// Lets pass only what a program on this machine asks under a loopback name.
async fn guard(request: Request, next: Next) -> Response {
    if is_local(request.headers()) {
        next.run(request).await
    } else {
        let words = "this address answers programs on this machine only";
        (StatusCode::FORBIDDEN, Json(serde_json::json!({ "error": words }))).into_response()
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
    });
    let is_loopback = matches!(name, "localhost" | "127.0.0.1" | "[::1]");
    is_loopback && text(header::ORIGIN).is_none_or(|origin| origin == format!("http://{host}"))
}

/// Resident memory of this process.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_and_the_own_origin_pass() {
        let check = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_local(&headers)
        };
        for host in ["localhost", "localhost:8910", "127.0.0.1:8910", "[::1]:8910"] {
            assert!(check(host, None), "{host}");
        }
        assert!(check("localhost:8910", Some("http://localhost:8910")));
        for host in ["evil.example", "evil.example:8910", "", "127.0.0.1.evil.example"] {
            assert!(!check(host, None), "{host}");
        }
        assert!(!check("localhost:8910", Some("http://evil.example")));
        assert!(!check("localhost:8910", Some("null")));
        assert!(!is_local(&HeaderMap::new()));
    }
}
