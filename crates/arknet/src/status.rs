use arknet_node::{DataDir, Status};

use crate::{
    node_api::NodeApi,
    out::{Out, bytes, table},
};

pub(crate) fn status(data: &DataDir, out: &Out) -> anyhow::Result<()> {
    let status: Status = NodeApi::of(data)?.get("/status")?;
    let mut rows = vec![
        vec!["node id".into(), status.node_id.to_string()],
        vec!["peer".into(), status.peer.clone()],
        vec!["fingerprint".into(), status.fingerprint.clone()],
        vec!["network".into(), status.network.clone()],
        vec!["roles".into(), status.roles.join(", ")],
        vec!["up for".into(), format!("{} s", status.uptime_s)],
    ];
    if let Some(gateway) = status.gateway {
        rows.push(vec!["gateway".into(), format!("http://{gateway}/v1")]);
    }
    rows.extend(status.addresses.iter().map(|a| vec!["reachable at".into(), a.clone()]));
    rows.push(vec!["peers connected".into(), status.connected.to_string()]);
    rows.push(vec!["peers approved".into(), status.approved.to_string()]);
    if let Some(problem) = &status.approved_peers_problem {
        let words =
            format!("approved_peers.json cannot be read, what counted before counts: {problem}");
        rows.push(vec!["PROBLEM".into(), words]);
    }
    if let Some(resident) = status.resident_bytes {
        rows.push(vec!["memory".into(), bytes(resident)]);
    }
    if let Some(audit) = &status.audit {
        let words = match &audit.failure {
            Some(failure) => format!("cannot be written, requests are refused: {failure}"),
            None => audit.head.clone().unwrap_or_default(),
        };
        rows.push(vec!["audit log".into(), words]);
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
