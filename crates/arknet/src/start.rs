use std::time::Duration;

use anyhow::Context;
use arknet_node::{Config, DataDir, Node, Status};
use tokio::signal::unix::{SignalKind, signal};

use crate::out::{Out, table};

pub(crate) fn run(data: &DataDir, config: Config, out: &Out) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let node = Node::start(data, config)?;
        node.wait_listening(Duration::from_secs(2)).await;
        let status = node.status();
        out.result(&status, &welcome(&status))?;
        let asked_to_stop = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            out.note("stopping; interrupt again to stop at once");
        };
        let (mut again, mut again_term) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let run = node.run_until(asked_to_stop);
        tokio::pin!(run);
        let mut signals = 0;
        loop {
            tokio::select! {
                result = &mut run => return result.context("the node stopped"),
                _ = again.recv() => signals += 1,
                _ = again_term.recv() => signals += 1,
            }
            if signals > 1 {
                anyhow::bail!("stopped at once; running answers were cut");
            }
        }
    })
}

fn welcome(status: &Status) -> String {
    let mut rows = vec![
        vec!["peer".into(), status.peer.clone()],
        vec!["fingerprint".into(), status.fingerprint.clone()],
    ];
    for model in &status.models {
        let words = format!("{} ({} at once)", model.name, model.slots);
        rows.push(vec!["serves".into(), words]);
    }
    if let Some(gateway) = status.gateway {
        rows.push(vec![
            "for your apps".into(),
            format!("http://{gateway}/v1 (OpenAI, and without /v1 Anthropic and Ollama)"),
        ]);
    }
    if let Some(rpc) = status.rpc {
        rows.push(vec!["the chain".into(), format!("http://{rpc}")]);
    }
    if let Some(address) = status.addresses.first() {
        rows.push(vec![
            "from another machine".into(),
            format!("arknet start --role gateway --seed {address}"),
        ]);
    }
    format!("arknet {} is running ({})\n{}", status.version, status.roles.join(", "), table(&rows))
}
