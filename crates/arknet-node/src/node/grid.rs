//! What a node does about the peers of its grid: whom it trusts, for whom it looks, what it tells
//! them, and whom it asks.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use arknet_mesh::Mesh;
use arknet_sdk::Circle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::spawn;
use crate::{
    Config, DataDir, DataError, approvals::Approvals, config::AskWhom, free_uses, gate::Gate,
    grant_usage, offering::Offering, publisher::Publisher,
};

/// Approved peers looked for at the same time.
const SOUGHT_AT_ONCE: usize = 8;
/// How often they are looked for.
const SEEK_INTERVAL: Duration = Duration::from_secs(5);

/// This node among the peers of its grid.
pub(super) struct Grid {
    mesh: Mesh,
    approvals: Approvals,
}

impl Grid {
    pub(super) const fn new(mesh: Mesh, approvals: Approvals) -> Self {
        Self { mesh, approvals }
    }

    /// Starts what goes on as long as the node runs.
    pub(super) fn spawn(
        &self,
        parts: &mut JoinSet<&'static str>,
        data: &DataDir,
        stop: &CancellationToken,
    ) {
        let Self { mesh, approvals } = self;
        let gate = approvals.gate().clone();
        let usage = grant_usage::keep(data.grant_usage(), gate.clone(), stop.clone());
        spawn(parts, "usage of peers", usage);
        let quotas = free_uses::keep(data.free_quota(), gate, stop.clone());
        spawn(parts, "free quotas", quotas);
        spawn(parts, "approved peers", approvals.clone().follow(stop.clone()));
        let seeking = seek(mesh.clone(), approvals.clone());
        spawn(parts, "search for peers", until(stop.clone(), seeking));
    }

    /// Starts to tell others what this node offers.
    pub(super) fn spawn_publisher(
        &self,
        parts: &mut JoinSet<&'static str>,
        offering: Offering,
        is_compute: bool,
        stop: &CancellationToken,
    ) {
        let (mesh, offering) = (self.mesh.clone(), Arc::new(offering));
        if is_compute {
            let offering = Arc::clone(&offering);
            mesh.offer_to_each(Arc::new(move |peer| offering.for_peer(peer)));
        }
        let publisher = Publisher { mesh, offering, is_compute };
        spawn(parts, "publisher", publisher.run(stop.clone()));
    }

    /// Whom the gateway may ask.
    pub(super) fn circle(&self, ask: AskWhom) -> Circle {
        let approvals = self.approvals.clone();
        match ask {
            AskWhom::Approved => Arc::new(move |peer| approvals.grants().get(peer).is_some()),
            AskWhom::Anyone => Arc::new(|_| true),
        }
    }
}

/// The approved peers, what they have used today, and what wallets had for free.
pub(super) fn open_approvals(
    data: &DataDir,
    config: &Config,
    gate: &Gate,
) -> Result<Approvals, DataError> {
    if config.compute.danger_serve_anyone {
        tracing::warn!("danger_serve_anyone: everybody who asks is served");
    }
    let path = config.grid.approved_peers.clone().unwrap_or_else(|| data.approved_peers());
    grant_usage::load(&data.grant_usage(), gate)?;
    free_uses::load(&data.free_quota(), gate)?;
    Ok(Approvals::open(path, gate.clone()))
}

/// Does the work until told to stop.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    let _ = stop.run_until_cancelled(work).await;
}

/// Looks for approved peers that are not there, a few at a time.
async fn seek(mesh: Mesh, approvals: Approvals) {
    let mut grants = approvals.changes();
    let mut round = 0_usize;
    loop {
        let there: BTreeSet<_> = mesh.connected().into_iter().map(|status| status.peer).collect();
        let approved: Vec<_> = grants.borrow_and_update().iter().map(|grant| grant.key).collect();
        let mut missing: Vec<_> =
            approved.into_iter().filter(|peer| !there.contains(peer)).collect();
        if !missing.is_empty() && !there.is_empty() {
            let first = round % missing.len();
            missing.rotate_left(first);
            missing.truncate(SOUGHT_AT_ONCE);
            round = round.wrapping_add(SOUGHT_AT_ONCE);
            mesh.seek(missing).await;
        }
        // Whoever has just been approved is looked for at once.
        let _ = tokio::time::timeout(SEEK_INTERVAL, grants.changed()).await;
    }
}
