use std::io::{IsTerminal, Read, Write};

use arknet_node::{Config, DataDir};
use serde_json::json;

use crate::{cli::UpstreamCommand, out::Out};

/// Bytes of a key read from standard input.
const KEY_BYTES_MAX: u64 = 8192;

pub(crate) fn run(
    data: &DataDir,
    config: &Config,
    command: UpstreamCommand,
    out: &Out,
) -> anyhow::Result<()> {
    let secrets = data.secrets();
    match command {
        UpstreamCommand::List => {
            let mut reports = Vec::new();
            let mut lines = Vec::new();
            for upstream in &config.upstreams.0 {
                let has_key = secrets.get(&upstream.name)?.is_some();
                let key = if has_key { "with a key" } else { "without a key" };
                lines.push(format!("{}  {}  {key}", upstream.name, upstream.url));
                reports.push(json!({
                    "name": upstream.name,
                    "kind": upstream.kind,
                    "url": upstream.url,
                    "has_key": has_key,
                }));
            }
            if lines.is_empty() {
                lines.push("no upstreams; add a section [[upstreams]] to the configuration".into());
            }
            out.result(&reports, &lines.join("\n"))
        }
        UpstreamCommand::SetKey { name } => {
            if std::io::stdin().is_terminal() {
                let mut stderr = std::io::stderr().lock();
                write!(stderr, "The key of {name}, then Enter and Ctrl-D: ")?;
                stderr.flush()?;
            }
            let mut key = String::new();
            std::io::stdin().lock().take(KEY_BYTES_MAX).read_to_string(&mut key)?;
            secrets.set(&name, &key)?;
            let text = format!("the key of {name} is kept; it counts from the node's next start");
            out.result(&json!({ "name": name, "has_key": true }), &text)
        }
        UpstreamCommand::RemoveKey { name } => {
            let removed = secrets.remove(&name)?;
            let text = if removed { "the key is gone" } else { "there was no key" };
            out.result(&json!({ "name": name, "has_key": false, "removed": removed }), text)
        }
    }
}
