use std::time::Duration;

use anyhow::Context;
use arknet_node::{DataDir, PeerReport, RunningNode, Status};
use serde::de::DeserializeOwned;

use crate::out::{Out, bytes, table};

pub(crate) fn status(data: &DataDir, out: &Out) -> anyhow::Result<()> {
    let status: Status = ask_node(&running(data)?, "/status")?;
    let mut rows = vec![
        vec!["peer".into(), status.peer.clone()],
        vec!["network".into(), status.network.clone()],
        vec!["roles".into(), status.roles.join(", ")],
        vec!["up for".into(), format!("{} s", status.uptime_s)],
    ];
    if let Some(gateway) = status.gateway {
        rows.push(vec!["gateway".into(), format!("http://{gateway}/v1")]);
    }
    rows.extend(status.addresses.iter().map(|a| vec!["reachable at".into(), a.clone()]));
    rows.push(vec!["peers connected".into(), status.connected.to_string()]);
    if let Some(resident) = status.resident_bytes {
        rows.push(vec!["memory".into(), bytes(resident)]);
    }
    for model in &status.models {
        let words = format!(
            "{}: {} of {} slots free, {} waiting, context {} tokens",
            model.name, model.slots_free, model.slots, model.waiting, model.context_tokens
        );
        rows.push(vec!["serves".into(), words]);
    }
    out.result(&status, &table(&rows))
}

pub(crate) fn peers(data: &DataDir, out: &Out) -> anyhow::Result<()> {
    let peers: Vec<PeerReport> = ask_node(&running(data)?, "/peers")?;
    if peers.is_empty() {
        return out.result(&peers, "no peers yet");
    }
    let heads = ["PEER", "STATE", "ROUND TRIP", "FREE SLOTS", "MODELS"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(peers.iter().map(|peer| {
        let state = match (peer.connected, peer.relayed) {
            (true, true) => "relayed",
            (true, false) => "connected",
            (false, _) => "known",
        };
        let rtt = peer.rtt_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"));
        let models = if peer.models.is_empty() { "-".into() } else { peer.models.join(", ") };
        vec![peer.peer.clone(), state.into(), rtt, peer.slots_free.to_string(), models]
    }));
    out.result(&peers, &table(&rows))
}

fn running(data: &DataDir) -> anyhow::Result<RunningNode> {
    data.running().with_context(|| {
        format!("no node is running on {}; start one with: arknet start", data.root().display())
    })
}

fn ask_node<T: DeserializeOwned>(node: &RunningNode, path: &str) -> anyhow::Result<T> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build().into();
    let url = format!("http://{}{path}", node.admin);
    let mut response = agent.get(&url).call().with_context(|| {
        format!("the node (process {}) does not answer at {}", node.pid, node.admin)
    })?;
    Ok(serde_json::from_str(&response.body_mut().read_to_string()?)?)
}
