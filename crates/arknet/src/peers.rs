use anyhow::{Context, bail};
use arknet_node::{
    ApproveAnswer, DataDir, DiscoveredPeer, GridStatus, PeerEntry, PeerList, PeerReport,
    PendingPeer, RevokeAnswer,
};
use arknet_types::{NodeId, PublicKey};
use serde_json::{Value, json};

use crate::{
    cli::{PeersCommand, PermissionFlags},
    node_api::NodeApi,
    out::{Out, table},
};

const ALONE: &str = "nobody is here to answer; compare the fingerprint and give --yes";

/// A number, or none: no bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Bound(Option<u64>);

pub(crate) fn parse_bound(text: &str) -> anyhow::Result<Bound> {
    match text {
        "none" => Ok(Bound(None)),
        number => Ok(Bound(Some(number.parse().context("a number, or none")?))),
    }
}

pub(crate) fn run(data: &DataDir, command: Option<PeersCommand>, out: &Out) -> anyhow::Result<()> {
    let node = NodeApi::of(data)?;
    match command.unwrap_or(PeersCommand::List) {
        PeersCommand::Approve { peer, name, permissions, yes } => {
            approve(&node, &peer, name, &permissions, yes, out)
        }
        PeersCommand::Discovered => discovered(&node, out),
        PeersCommand::Explain { peer } => explain(&node, &peer, out),
        PeersCommand::Limit { peer, permissions } => limit(&node, &peer, &permissions, out),
        PeersCommand::List => list(&node, out),
        PeersCommand::Pending => pending(&node, out),
        PeersCommand::Revoke { peer } => revoke(&node, &peer, out),
        PeersCommand::Status => status(&node, out),
    }
}

fn list(node: &NodeApi, out: &Out) -> anyhow::Result<()> {
    let peers: Vec<PeerReport> = node.get("/peers")?;
    if peers.is_empty() {
        return out.result(&peers, "no peers yet");
    }
    let heads = ["PEER", "STATE", "ROUND TRIP", "FREE SLOTS", "MODELS"];
    let rows = peers.iter().map(|peer| {
        let state = match (peer.connected, peer.relayed) {
            (true, true) => "relayed",
            (true, false) => "connected",
            (false, _) => "known",
        };
        let slots = peer.slots_free.to_string();
        vec![peer.peer.clone(), state.into(), rtt(peer.rtt_ms), slots, or_dash(&peer.models)]
    });
    out.result(&peers, &rows_below(heads, rows))
}

fn discovered(node: &NodeApi, out: &Out) -> anyhow::Result<()> {
    let list: PeerList<DiscoveredPeer> = node.get("/peers/discovered")?;
    if list.peers.is_empty() {
        return out.result(&list, "no peers seen yet");
    }
    let heads = ["NODE ID", "PEER", "FINGERPRINT", "FOUND BY", "APPROVED"];
    let rows = list.peers.iter().map(|peer| {
        let approved = if peer.approved { "yes" } else { "no" };
        let sources = or_dash(&peer.sources);
        let DiscoveredPeer { node_id, public_key, fingerprint, .. } = peer;
        vec![node_id.to_string(), public_key.clone(), fingerprint.clone(), sources, approved.into()]
    });
    out.result(&list, &rows_below(heads, rows))
}

fn pending(node: &NodeApi, out: &Out) -> anyhow::Result<()> {
    let list: PeerList<PendingPeer> = node.get("/peers/pending")?;
    if list.peers.is_empty() {
        return out.result(&list, "nobody waits to be approved");
    }
    let heads = ["NODE ID", "PEER", "FINGERPRINT", "FOUND BY", "ASKED", "LAST ASKED"];
    let rows = list.peers.iter().map(|peer| {
        let PendingPeer { node_id, public_key, fingerprint, asked, asked_at, .. } = peer;
        let asked_at = asked_at.clone().unwrap_or_else(|| "-".into());
        let (sources, asked) = (or_dash(&peer.sources), asked.to_string());
        vec![node_id.to_string(), public_key.clone(), fingerprint.clone(), sources, asked, asked_at]
    });
    out.result(&list, &rows_below(heads, rows))
}

fn status(node: &NodeApi, out: &Out) -> anyhow::Result<()> {
    let status: GridStatus = node.get("/peers/status")?;
    let own = format!(
        "this node    {}\npeer         {}\nfingerprint  {}\n",
        status.node_id, status.public_key, status.fingerprint
    );
    let problem = status.problem.as_ref().map(|words| {
        format!(
            "PROBLEM      approved_peers.json cannot be read, what counted before counts: {words}\n"
        )
    });
    let own = own + &problem.unwrap_or_default();
    if status.peers.is_empty() {
        let words = "nobody is approved; see who is there with: arknet peers discovered";
        return out.result(&status, &format!("{own}{words}"));
    }
    let heads = ["NODE ID", "NAME", "STATE", "ROUND TRIP", "MAY USE", "RUNNING", "TODAY", "OFFERS"];
    let rows = status.peers.iter().map(|peer| {
        let entry = &peer.entry;
        let name = if entry.name.is_empty() { "-" } else { &entry.name };
        let state = if peer.connected { "connected" } else { "away" };
        let today = format!("{} requests, {} tokens", peer.requests_today, peer.tokens_today);
        vec![
            entry.node_id.to_string(),
            name.to_owned(),
            state.into(),
            rtt(peer.rtt_ms),
            may_use(entry),
            peer.running.to_string(),
            today,
            or_dash(&peer.models),
        ]
    });
    out.result(&status, &(own + &rows_below(heads, rows)))
}

fn approve(
    node: &NodeApi,
    whom: &str,
    name: Option<String>,
    flags: &PermissionFlags,
    yes: bool,
    out: &Out,
) -> anyhow::Result<()> {
    if flags.models.is_none() && !flags.all_models {
        bail!("say which models it may use: --model NAME, or --all-models");
    }
    let (key, node_id) = look_up(node, whom)?;
    let mut permissions = json!({
        "can_request_inference": true,
        "can_pull_models": false,
        "models_shared": [],
        "max_concurrent_requests": 1,
    });
    lay_over(&mut permissions, flags);
    let mut body = json!({ "public_key": key.to_string(), "permissions": permissions });
    if let Some(node_id) = &node_id {
        body["node_id"] = json!(node_id);
    }
    if let Some(name) = name {
        body["name"] = json!(name);
    }
    if !yes {
        let label = node_id.map_or_else(|| "-".into(), |id| id.to_string());
        let question = format!(
            "node id      {label}\npeer         {key}\nfingerprint  {}\n\
             The same fingerprint is shown there by: arknet status\nApprove it?",
            key.fingerprint()
        );
        if !out.confirm(&question, ALONE)? {
            bail!("not approved");
        }
    }
    let answer: ApproveAnswer = node.post("/peers/approve", &body)?;
    let text = format!("{} may use {}", answer.approved.node_id, may_use(&answer.approved));
    out.result(&answer, &text)
}

fn limit(node: &NodeApi, whom: &str, flags: &PermissionFlags, out: &Out) -> anyhow::Result<()> {
    let entry = approved(node, whom)?;
    let mut permissions = serde_json::to_value(&entry)?["permissions"].take();
    lay_over(&mut permissions, flags);
    let body = json!({
        "node_id": entry.node_id,
        "public_key": entry.public_key.to_string(),
        "permissions": permissions,
    });
    let answer: ApproveAnswer = node.post("/peers/approve", &body)?;
    let text = format!("{} may use {}", answer.approved.node_id, may_use(&answer.approved));
    out.result(&answer, &text)
}

fn revoke(node: &NodeApi, whom: &str, out: &Out) -> anyhow::Result<()> {
    let entry = approved(node, whom)?;
    let body = json!({ "public_key": entry.public_key.to_string() });
    let answer: RevokeAnswer = node.post("/peers/revoke", &body)?;
    let cut = match answer.cut {
        0 => String::new(),
        cut => format!("; {cut} of its requests were cut"),
    };
    out.result(&answer, &format!("{} may do nothing here any more{cut}", answer.revoked.node_id))
}

fn explain(node: &NodeApi, whom: &str, out: &Out) -> anyhow::Result<()> {
    let explained: Value = node.get(&format!("/peers/explain?peer={whom}"))?;
    let reputation = &explained["reputation"];
    let name = explained["node_id"].as_str().or_else(|| explained["public_key"].as_str());
    let name = name.unwrap_or(whom);
    if reputation.is_null() {
        return out.result(&explained, &format!("{name} has done nothing for this node yet"));
    }
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let now = arknet_sdk::now().0;
    let ago = |at: &Value| {
        let seconds = now.saturating_sub(at.as_u64().unwrap_or(now)) / 1000;
        match seconds {
            0..120 => format!("{seconds} s ago"),
            120..7200 => format!("{} min ago", seconds / 60),
            _ => format!("{} h ago", seconds / 3600),
        }
    };
    let list = |key: &str| reputation[key].as_array().cloned().unwrap_or_default();
    let rows = list("counts").into_iter().map(|count| {
        vec![
            count["words"].as_str().unwrap_or_default().to_owned(),
            format!("{:.0}", number(&count["seen"])),
            ago(&count["last_ms"]),
            format!("{:+.2}", number(&count["weight"])),
            format!("{:+.3}", number(&count["effect"])),
            format!("{} h", count["half_life_h"]),
        ]
    });
    let heads = ["IT", "TIMES", "LAST", "COUNTS NOW", "MOVES THE SCORE BY", "HALVES IN"];
    let counts = rows_below(heads, rows);
    let recent = list("recent").into_iter().map(|deed| {
        format!("\n{:>10}  {}", ago(&deed["at_ms"]), deed["deed"].as_str().unwrap_or_default())
    });
    let text = format!(
        "{name}: {:.2} (0 bad, 1 good; {:.2} where nothing is known)\n{counts}\nlast:{}",
        number(&reputation["score"]),
        number(&reputation["neutral"]),
        recent.collect::<String>()
    );
    out.result(&explained, &text)
}

/// The key of a peer, and what it calls itself. A name alone must mean one peer.
fn look_up(node: &NodeApi, whom: &str) -> anyhow::Result<(PublicKey, Option<NodeId>)> {
    let seen: PeerList<DiscoveredPeer> = node.get("/peers/discovered")?;
    let waiting: PeerList<PendingPeer> = node.get("/peers/pending")?;
    let seen = seen.peers.into_iter().map(|peer| (peer.public_key, peer.node_id));
    let waiting = waiting.peers.into_iter().map(|peer| (peer.public_key, peer.node_id));
    let known: std::collections::BTreeMap<_, _> = seen.chain(waiting).collect();
    if let Ok(key) = PublicKey::from_text(whom) {
        return Ok((key, known.get(&key.to_string()).cloned()));
    }
    let mut named = known.into_iter().filter(|(_, node_id)| node_id.as_str() == whom);
    match (named.next(), named.next()) {
        (Some((key, node_id)), None) => Ok((key.parse()?, Some(node_id))),
        (Some(_), Some(_)) => {
            bail!("several peers call themselves {whom}; say its peer id instead")
        }
        (None, _) => {
            bail!(
                "no peer called {whom} was seen; see: arknet peers discovered, or say its peer id"
            )
        }
    }
}

/// The entry of an approved peer, by its label, its name here, or its key.
fn approved(node: &NodeApi, whom: &str) -> anyhow::Result<PeerEntry> {
    let status: GridStatus = node.get("/peers/status")?;
    let key = PublicKey::from_text(whom).ok();
    let entries: Vec<PeerEntry> = status.peers.into_iter().map(|peer| peer.entry).collect();
    let by_id =
        |entry: &&PeerEntry| key == Some(entry.public_key) || entry.node_id.as_str() == whom;
    if let Some(entry) = entries.iter().find(by_id) {
        return Ok(entry.clone());
    }
    let mut named = entries.into_iter().filter(|entry| entry.name == whom);
    match (named.next(), named.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => bail!("several approved peers are called {whom}; say the node_id"),
        (None, _) => bail!("{whom} is not approved; see: arknet peers status"),
    }
}

/// Changes what the flags say, and leaves the rest.
fn lay_over(permissions: &mut Value, flags: &PermissionFlags) {
    let mut set = |key: &str, value: Option<Value>| {
        if let (Some(value), Some(fields)) = (value, permissions.as_object_mut()) {
            match value {
                Value::Null => drop(fields.remove(key)),
                value => drop(fields.insert(key.into(), value)),
            }
        }
    };
    let either = |yes: bool, no: bool| (yes || no).then(|| json!(yes));
    let bound = |bound: Option<Bound>| bound.map(|Bound(number)| json!(number));
    let models = flags.models.as_ref().map(|models| json!(models));
    set("models_shared", if flags.all_models { Some(json!(["*"])) } else { models });
    set("can_request_inference", either(flags.inference, flags.no_inference));
    set("can_pull_models", either(flags.can_pull, flags.no_pull));
    set("max_concurrent_requests", flags.max_concurrent.map(|number| json!(number)));
    set("requests_per_minute", bound(flags.requests_per_minute));
    set("requests_per_day", bound(flags.requests_per_day));
    set("tokens_per_minute", bound(flags.tokens_per_minute));
    set("tokens_per_day", bound(flags.tokens_per_day));
}

/// What an entry lets its peer do, in words.
fn may_use(entry: &PeerEntry) -> String {
    let value = serde_json::to_value(entry).unwrap_or_default();
    let may = &value["permissions"];
    let models = may["models_shared"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let models = match models.collect::<Vec<_>>()[..] {
        [] => "no models".into(),
        ["*"] => "all models".into(),
        ref names => names.join(", "),
    };
    let mut words = vec![models, format!("{} at once", may["max_concurrent_requests"])];
    if may["can_request_inference"] == false {
        words.push("no questions".into());
    }
    if may["can_pull_models"] == true {
        words.push("and fetch them".into());
    }
    for (key, unit) in [
        ("requests_per_minute", "requests a minute"),
        ("requests_per_day", "requests a day"),
        ("tokens_per_minute", "tokens a minute"),
        ("tokens_per_day", "tokens a day"),
    ] {
        if let Some(number) = may[key].as_u64() {
            words.push(format!("{number} {unit}"));
        }
    }
    words.join(", ")
}

fn rtt(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms"))
}

fn or_dash(names: &[String]) -> String {
    if names.is_empty() { "-".into() } else { names.join(", ") }
}

fn rows_below<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heads = heads.map(String::from).to_vec();
    table(&std::iter::once(heads).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags() -> PermissionFlags {
        PermissionFlags {
            models: None,
            all_models: false,
            inference: false,
            no_inference: false,
            can_pull: false,
            no_pull: false,
            max_concurrent: None,
            requests_per_minute: None,
            requests_per_day: None,
            tokens_per_minute: None,
            tokens_per_day: None,
        }
    }

    #[test]
    fn flags_change_what_they_say_and_nothing_else() {
        let before = json!({
            "can_request_inference": true,
            "can_pull_models": true,
            "models_shared": ["a"],
            "max_concurrent_requests": 2,
            "tokens_per_day": 100,
        });
        let mut permissions = before.clone();
        lay_over(&mut permissions, &flags());
        assert_eq!(permissions, before);
        let change = PermissionFlags {
            all_models: true,
            no_pull: true,
            requests_per_minute: parse_bound("7").ok(),
            tokens_per_day: parse_bound("none").ok(),
            ..flags()
        };
        lay_over(&mut permissions, &change);
        let after = json!({
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": ["*"],
            "max_concurrent_requests": 2,
            "requests_per_minute": 7,
        });
        assert_eq!(permissions, after);
        assert!(parse_bound("many").is_err() && parse_bound("-1").is_err());
    }
}
