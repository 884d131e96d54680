use std::{
    fmt::Write as _,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::bail;
use arknet_node::{
    Config, DataDir,
    audit::{self, AuditFiles, Event, Finding, Logged, Report},
};
use serde_json::{Value, json};

use crate::{
    cli::AuditCommand,
    out::{Out, table},
};

/// Interrupted requests that are named to a person.
const NAMED_MAX: usize = 10;
const COLUMNS: [&str; 11] = [
    "sequence",
    "timestamp",
    "peer",
    "node_id",
    "model",
    "tokens_generated",
    "latency_ms",
    "outcome",
    "job",
    "receipt",
    "uncounted",
];

pub(crate) fn run(
    data: &DataDir,
    config: &Config,
    command: AuditCommand,
    out: &Out,
) -> anyhow::Result<()> {
    let path = config.grid.audit_log.clone().unwrap_or_else(|| data.audit_log());
    let own = AuditFiles::new(path);
    match command {
        AuditCommand::Verify { files, from, head } if files.is_empty() => {
            verified(&own.parts()?, &own.verify(from.unwrap_or(0), head)?, out)
        }
        AuditCommand::Verify { files, from, head } => {
            verified(&files, &audit::verify(&files, from, head)?, out)
        }
        AuditCommand::Tail { lines } => tail(&own.tail(lines)?, out),
        AuditCommand::Export { files, since, peer, model } => {
            let files = if files.is_empty() { own.parts()? } else { files };
            export(&files, &Wanted { since, peer, model }, out)
        }
    }
}

/// A time back from now, or a date as it stands; as the log writes it.
pub(crate) fn parse_since(text: &str) -> anyhow::Result<String> {
    if let Ok(ago) = crate::key::parse_time(text) {
        let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        let then = arknet_sdk::now().0.saturating_sub(ago_ms);
        return Ok(audit::rfc3339(arknet_types::Timestamp(then)));
    }
    let is_date = text.len() >= 4
        && text.bytes().take(4).all(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.TZ".contains(&byte));
    if !is_date {
        bail!("write a time as 12h, 30d, 2026-11-30 or 2026-11-30T08:00:00Z");
    }
    Ok(text.to_owned())
}

fn verified(files: &[PathBuf], report: &Report, out: &Out) -> anyhow::Result<()> {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{}{}", place(files, finding), finding.problem);
    }
    if report.findings_more > 0 {
        let _ = writeln!(text, "and {} more", report.findings_more);
    }
    for (jobs, words) in [
        (&report.interrupted, "was begun and interrupted: the node was killed"),
        (&report.open, "was begun and has not ended: it runs, or the node was killed"),
    ] {
        for job in jobs.iter().take(NAMED_MAX) {
            let _ = writeln!(text, "request {job} {words}");
        }
        if jobs.len() > NAMED_MAX {
            let _ = writeln!(text, "and {} more like it", jobs.len() - NAMED_MAX);
        }
    }
    let head = report.head.map_or_else(|| "none".into(), |head| head.to_string());
    let state = if report.is_sound() { "sound" } else { "damaged" };
    let _ = write!(text, "{} lines, {state}; the last is {head}", report.lines);
    let mut value = serde_json::to_value(report)?;
    value["sound"] = json!(report.is_sound());
    value["files"] = json!(files);
    out.result(&value, &text)?;
    if report.is_sound() {
        return Ok(());
    }
    bail!("the audit log is not as it was written")
}

fn place(files: &[PathBuf], finding: &Finding) -> String {
    let Some(place) = finding.place else { return String::new() };
    let file = files.get(place.file).map(|path| path.display().to_string()).unwrap_or_default();
    format!("{file}:{}: ", place.line)
}

fn tail(lines: &[String], out: &Out) -> anyhow::Result<()> {
    if out.is_json() {
        return out.raw((lines.join("\n") + "\n").as_bytes());
    }
    let heads = ["TIME", "PEER", "MODEL", "TOKENS", "LATENCY", "OUTCOME"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(lines.iter().map(|line| match serde_json::from_str(line) {
        Ok(logged) => row(&logged),
        Err(_) => vec!["(not a line of an audit log)".into()],
    }));
    out.result(&(), &table(&rows))
}

fn row(Logged { timestamp, event, .. }: &Logged) -> Vec<String> {
    let called =
        |node_id: &Option<String>, peer: &str| node_id.clone().unwrap_or_else(|| peer.to_owned());
    let dash = || "-".to_owned();
    let cells = match event {
        Event::Begin { .. } => [dash(), dash(), dash(), dash(), "the log begins".into()],
        Event::Start { .. } => [dash(), dash(), dash(), dash(), "the node starts".into()],
        Event::Stop {} => [dash(), dash(), dash(), dash(), "the node stops".into()],
        Event::Open { peer, node_id, model, asks, .. } => {
            [called(node_id, peer), model.clone(), dash(), dash(), format!("begins: {asks}")]
        }
        Event::Close { peer, node_id, model, outcome, tokens_generated, latency_ms, .. } => [
            called(node_id, peer),
            model.clone(),
            tokens_generated.to_string(),
            format!("{latency_ms} ms"),
            outcome.clone(),
        ],
        Event::Refused { peer, node_id, model, outcome, uncounted } => {
            let peer = peer.as_deref().map_or_else(|| "(several)".into(), |p| called(node_id, p));
            let more = if *uncounted > 0 { format!(", {uncounted} more") } else { String::new() };
            let model = model.clone().unwrap_or_else(dash);
            [peer, model, dash(), dash(), format!("refused: {outcome}{more}")]
        }
    };
    [vec![timestamp.clone()], cells.to_vec()].concat()
}

/// Which lines are exported.
struct Wanted {
    since: Option<String>,
    peer: Option<String>,
    model: Option<String>,
}

impl Wanted {
    fn wants(&self, logged: &Logged) -> bool {
        let (peer, node_id, model) = match &logged.event {
            Event::Close { peer, node_id, model, .. } => (Some(peer), node_id, Some(model)),
            Event::Refused { peer, node_id, model, .. } => (peer.as_ref(), node_id, model.as_ref()),
            _ => return false,
        };
        self.since.as_ref().is_none_or(|since| logged.timestamp >= *since)
            && self.model.as_ref().is_none_or(|wanted| model == Some(wanted))
            && self
                .peer
                .as_ref()
                .is_none_or(|wanted| peer == Some(wanted) || node_id.as_ref() == Some(wanted))
    }
}

fn export(files: &[PathBuf], wanted: &Wanted, out: &Out) -> anyhow::Result<()> {
    let mut lines = out.lines();
    if !out.is_json() {
        writeln!(lines, "{}", COLUMNS.join(","))?;
    }
    audit::each_event(files, |logged| {
        if !wanted.wants(&logged) {
            return Ok(());
        }
        let value = serde_json::to_value(&logged).map_err(io::Error::other)?;
        if out.is_json() {
            writeln!(lines, "{value}")
        } else {
            writeln!(lines, "{}", COLUMNS.map(|column| cell(&value[column])).join(","))
        }
    })?;
    lines.flush()?;
    Ok(())
}

/// A value as a field of CSV. What could be taken for a formula is not.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
            format!("\"'{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) if text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_stays_a_field() {
        assert_eq!(cell(&json!("a,b \"c\"")), "\"a,b \"\"c\"\"\"");
        assert_eq!(cell(&json!("=1+1")), "\"'=1+1\"");
        assert_eq!((cell(&json!(7)), cell(&Value::Null)), ("7".into(), String::new()));
    }

    #[test]
    fn a_time_is_a_distance_or_a_date() {
        assert_eq!(parse_since("2026-11-30").unwrap(), "2026-11-30");
        assert!(parse_since("2d").unwrap().ends_with('Z'));
        for bad in ["yesterday", "", "12", "2026/11/30"] {
            assert!(parse_since(bad).is_err(), "{bad}");
        }
    }
}
