//! Validators on hosts of their own, whose network breaks.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    grid::until,
    namespaces::{Lan, Namespace},
    network::{Node, json_of, text, with_home},
    validators::{Home, validator},
};

/// How long nothing is decided before it is believed.
const STILL: Duration = Duration::from_secs(3);

struct Village {
    lan: Lan,
    homes: Vec<Home>,
    rich: Home,
    _nodes: Vec<Node>,
    _directory: tempfile::TempDir,
}

impl Village {
    /// Four validators that find each other by multicast alone.
    fn start() -> Option<Self> {
        let lan = Lan::new(4)?;
        let directory = tempfile::tempdir().unwrap();
        let rich = Home::new(directory.path(), "rich");
        let homes: Vec<_> =
            (1..=4).map(|n| Home::new(directory.path(), &format!("validator-{n}"))).collect();
        let genesis = rich.path.join("genesis.json");
        let mut arguments = vec!["genesis", "new", "--network", "test-chain", "--file"];
        arguments.push(genesis.to_str().unwrap());
        let voters: Vec<String> = homes.iter().map(validator).collect();
        for voter in &voters {
            arguments.extend(["--validator", voter]);
        }
        let money = format!("{}=1000ark", rich.address);
        arguments.extend(["--danger-allocation", &money]);
        json_of(&rich.path, &arguments);
        let start = |(home, host): (&Home, &Namespace)| {
            fs::copy(&genesis, home.path.join("genesis.json")).unwrap();
            let config = "[mesh]\nseeds = []\n[ledger]\nblock_interval_ms = 200\n";
            fs::write(home.path.join("arknet.toml"), config).unwrap();
            host.node(&home.path, &["--role", "validator"])
        };
        let hosts = lan.hosts.iter().map(|host| &host.namespace);
        let nodes = homes.iter().zip(hosts).map(start).collect();
        Some(Self { lan, homes, rich, _nodes: nodes, _directory: directory })
    }

    fn status(&self, host: usize) -> Value {
        self.lan.hosts[host].namespace.curl(&["http://127.0.0.1:26657/status"])
    }

    fn height(&self, host: usize) -> u64 {
        self.status(host)["height"].as_u64().unwrap()
    }

    fn reaches(&self, host: usize, height: u64) {
        until("the height", || self.height(host), |found| *found >= height);
    }

    /// A command of whoever has the money, given on a host.
    fn order(&self, host: usize, arguments: &[&str]) -> Value {
        let program = self.lan.hosts[host].namespace.command(env!("CARGO_BIN_EXE_arknet"));
        let output = with_home(program, &self.rich.path).arg("--json").args(arguments).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Nothing is decided at any of these hosts but what was on its way.
    fn rest(&self, hosts: &[usize]) {
        let before: Vec<u64> = hosts.iter().map(|host| self.height(*host)).collect();
        let began = Instant::now();
        while began.elapsed() < STILL {
            for (host, before) in hosts.iter().zip(&before) {
                assert!(self.height(*host) <= before + 1, "half of the voters decide nothing");
            }
            thread::yield_now();
        }
    }
}

#[test]
fn no_half_of_a_broken_network_decides_and_the_whole_goes_on() {
    let Some(village) = Village::start() else { return };
    village.reaches(0, 5);
    // Two and two: neither side can go on, and what it is given is kept.
    village.lan.unplug(2);
    village.lan.unplug(3);
    village.rest(&[0, 1, 2, 3]);
    let to = &village.homes[3].address;
    let send = ["wallet", "send", "--to", to, "--amount", "3ark", "--yes", "--no-wait"];
    let sent = village.order(0, &send);
    let id = sent["transaction"].as_str().unwrap();
    let height = village.height(0);
    village.lan.plug(2);
    village.reaches(0, height + 3);
    village.lan.plug(3);
    let url = format!("http://127.0.0.1:26657/transactions/{id}");
    let host = &village.lan.hosts[3].namespace;
    until("the payment", || host.curl(&[&url])["state"].clone(), |state| state == "committed");
    // All have the same chain.
    let top = village.height(0);
    for host in 1..4 {
        village.reaches(host, top);
    }
    let block = |host: usize, height: u64| {
        let url = format!("http://127.0.0.1:26657/blocks/{height}");
        let block = village.lan.hosts[host].namespace.curl(&[&url]);
        (block["id"].clone(), block["state_root"].clone())
    };
    for height in 1..=top {
        let first = block(0, height);
        assert!(first.0.is_string(), "{first:?}");
        for host in 1..4 {
            assert_eq!(block(host, height), first, "height {height}");
        }
    }
}
