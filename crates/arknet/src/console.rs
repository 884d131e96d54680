//! The console in a browser.

use std::process::{Command, Stdio};

use anyhow::Context;
use arknet_node::DataDir;

use crate::{cli::Console, node_api, out::Out};

/// What opens an address in the browser that a person has chosen.
const OPENER: &str = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };

pub(crate) fn run(data: &DataDir, flags: &Console, out: &Out) -> anyhow::Result<()> {
    let node = node_api::running(data)?;
    let path = data.admin_token();
    let token = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let ip = node.admin.ip();
    let local = ip.is_loopback() || ip.is_unspecified();
    let host =
        if local { format!("localhost:{}", node.admin.port()) } else { node.admin.to_string() };
    // Behind the # it reaches the page and no server, log or proxy.
    let url = format!("http://{host}/#token={}", token.trim());
    if flags.open {
        Command::new(OPENER)
            .arg(&url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{OPENER} does not start; open this yourself: {url}"))?;
    }
    out.result(&serde_json::json!({ "url": url, "opened": flags.open }), &url)
}
