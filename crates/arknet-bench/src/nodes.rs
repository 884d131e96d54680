//! Nodes in processes of their own: this program, started again.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::Context;
use arknet_node::{Config, DataDir, Node, Role, Status, config::AskWhom};
use arknet_provider::{
    Provider,
    upstream::{UpstreamKind, UpstreamOptions},
};

use crate::{lan::Host, provider::BenchProvider};

/// In place of a transport: the URL of a service for the node to stand before.
pub(crate) const UPSTREAM: &str = "upstream:";
/// The same, with processors that are kept awake for requests.
pub(crate) const AWAKE_UPSTREAM: &str = "awake-upstream:";
/// In place of a transport: the address to listen at.
const LAN: &str = "lan:";

/// A node in a process of its own. Killed when dropped.
pub(crate) struct NodeProcess {
    pub(crate) status: Status,
    child: Child,
    _directory: tempfile::TempDir,
}

impl NodeProcess {
    pub(crate) fn start(role: &str, seed: Option<&str>, transport: &str) -> anyhow::Result<Self> {
        Self::spawn(Command::new(std::env::current_exe()?), role, seed, transport)
    }

    /// Inside a host of its own, listening at that host's address.
    pub(crate) fn start_in(host: &Host, role: &str, seed: Option<&str>) -> anyhow::Result<Self> {
        Self::spawn(host.command()?, role, seed, &format!("{LAN}{}", host.address))
    }

    fn spawn(
        mut command: Command,
        role: &str,
        seed: Option<&str>,
        transport: &str,
    ) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        command.arg("node").arg(role).arg(directory.path()).arg(transport).args(seed);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().context("the child has an output")?;
        BufReader::new(output).read_line(&mut line)?;
        let status = serde_json::from_str(&line).context("the node did not start")?;
        Ok(Self { status, child, _directory: directory })
    }

    /// The first address of its mesh.
    pub(crate) fn address(&self) -> &str {
        self.status.addresses.first().map_or("", String::as_str)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.child.id())
    }

    /// Processor time used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.child.id())
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.context("no VmRSS")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// Processor time a process has used so far, in seconds.
pub(crate) fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side of [`NodeProcess::start`].
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let [role, directory, transport, seed @ ..] = arguments else {
        anyhow::bail!("node ROLE DIRECTORY TRANSPORT [SEED]");
    };
    let data = DataDir::open(Some(PathBuf::from(directory)))?;
    let config = config(role.parse()?, transport, seed);
    let providers: Vec<Arc<dyn Provider>> =
        if config.plays(Role::Compute) { vec![Arc::new(BenchProvider::new())] } else { vec![] };
    tokio::runtime::Runtime::new()?.block_on(async {
        let node = if service_of(transport).is_some() {
            Node::start(&data, config)?
        } else {
            Node::start_with(&data, config, providers)?
        };
        node.wait_listening(std::time::Duration::from_secs(5)).await;
        println_status(&node.status())?;
        Ok(node.run_until(std::future::pending()).await?)
    })
}

fn println_status(status: &Status) -> anyhow::Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(status)?)?;
    Ok(stdout.flush()?)
}

/// The URL of the service, where the node is to stand before one.
fn service_of(transport: &str) -> Option<&str> {
    transport.strip_prefix(UPSTREAM).or_else(|| transport.strip_prefix(AWAKE_UPSTREAM))
}

fn config(role: Role, transport: &str, seed: &[String]) -> Config {
    let mut config = Config { roles: [role].into(), ..Config::default() };
    if let Some(url) = service_of(transport) {
        if transport.starts_with(AWAKE_UPSTREAM) {
            config.gateway.wake_latency_us_max = Some(0);
        }
        let mut upstream = UpstreamOptions::new("bench", UpstreamKind::OpenAi, url);
        upstream.slots = 1024;
        config.upstreams.0.push(upstream);
    }
    config.mesh.listen = match transport {
        _ if transport.starts_with(LAN) => {
            let address = &transport[LAN.len()..];
            vec![format!("/ip4/{address}/tcp/0"), format!("/ip4/{address}/udp/0/quic-v1")]
        }
        "quic" => vec!["/ip4/127.0.0.1/udp/0/quic-v1".into()],
        "tcp" => vec!["/ip4/127.0.0.1/tcp/0".into()],
        _ => vec!["/ip4/127.0.0.1/tcp/0".into(), "/ip4/127.0.0.1/udp/0/quic-v1".into()],
    };
    config.mesh.seeds = Some(seed.to_vec());
    config.gateway.listen.set_port(0);
    config.admin.listen.set_port(0);
    config.compute.requests_per_peer_max = 1024;
    config.compute.danger_serve_anyone = true;
    // What is measured is the program. The provider answers at once, so the disk would be all that
    // the numbers show; how long it takes stands in docs/audit.md.
    config.grid.audit_waits_for_disk = false;
    config.gateway.ask = AskWhom::Anyone;
    config
}

/// The binary of the product beside this one, where it was built.
pub(crate) fn product() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("arknet");
    Path::exists(&path).then_some(path)
}
