//! What a peer on the same local network adds: a gateway in one network namespace, a compute node
//! in another, a bridge between them, and the same provider asked directly, in one run.
//!
//! Needs root and `ip` (iproute2). The namespaces are made here and removed at the end.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use anyhow::{Context, ensure};

use crate::{
    direct,
    load::{self, percentile},
    nodes::NodeProcess,
    provider::INSTANT,
    until_answered, us,
};

/// How often the two ways are asked in turns.
const ROUNDS: usize = 5;

/// A host of its own, with one address on the bridge.
pub(crate) struct Host {
    name: String,
    pub(crate) address: Ipv4Addr,
}

/// Two hosts that see each other.
pub(crate) struct Lan {
    pub(crate) hosts: [Host; 2],
}

impl Lan {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let host = |n: u8| Host {
            name: format!("arkbench{}-{n}", std::process::id()),
            address: Ipv4Addr::new(10, 213, 0, n),
        };
        let lan = Self { hosts: [host(1), host(2)] };
        let [a, b] = &lan.hosts;
        for host in &lan.hosts {
            ip(&["netns", "add", &host.name])?;
        }
        ip(&[
            "-n", &a.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
            &b.name,
        ])?;
        for host in &lan.hosts {
            let address = format!("{}/24", host.address);
            ip(&["-n", &host.name, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &host.name, "link", "set", "eth0", "up"])?;
            ip(&["-n", &host.name, "link", "set", "lo", "up"])?;
        }
        Ok(lan)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = ip(&["netns", "del", &host.name]);
        }
    }
}

impl Host {
    /// This program, inside the host.
    pub(crate) fn command(&self) -> anyhow::Result<Command> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(std::env::current_exe()?);
        Ok(command)
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).output().context("ip is missing: iproute2")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), words.trim());
    Ok(())
}

pub(crate) fn run() -> anyhow::Result<()> {
    let lan = Lan::new().context("two network namespaces (this needs root)")?;
    let [near, far] = &lan.hosts;
    let compute = NodeProcess::start_in(far, "compute", None)?;
    let gateway = NodeProcess::start_in(near, "gateway", Some(compute.address()))?;
    let address = gateway.status.gateway.context("the gateway has an address")?;
    println!("a peer on the local network, asked through the gateway beside the app");
    let output = near.command()?.args(["lan-load", &address.to_string()]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

/// The app beside the gateway.
pub(crate) async fn load(address: SocketAddr) -> anyhow::Result<()> {
    until_answered(address).await?;
    load::run(address, INSTANT, false, 1, 1_000).await?;
    let mut through = Vec::new();
    let mut first = Vec::new();
    let mut at_once = Vec::new();
    for _ in 0..ROUNDS {
        at_once.extend(direct(2_000).await);
        through.extend(load::run(address, INSTANT, false, 1, 1_000).await?.totals);
        first.extend(load::run(address, INSTANT, true, 1, 1_000).await?.first_bytes);
    }
    for times in [&mut through, &mut first, &mut at_once] {
        times.sort_unstable();
    }
    let added = |times, percent| {
        us(percentile(times, percent).saturating_sub(percentile(&at_once, percent)))
    };
    println!(
        "  concurrency 1        added p50 {}  p99 {}",
        added(&through, 50.0),
        added(&through, 99.0)
    );
    println!(
        "  time to first token  added p50 {}  p99 {}",
        added(&first, 50.0),
        added(&first, 99.0)
    );
    Ok(())
}
