//! Validators in processes of their own, used by the command line alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    grid::until,
    network::{Node, arknet, free_port, get, json_of, run, text},
};

/// Money that there is at first, with the one account that has any.
const RICH: &str = "1000000ark";

/// A home with a wallet.
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) address: String,
}

impl Home {
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let path = directory.join(name);
        json_of(&path, &["init"]);
        let address =
            json_of(&path, &["wallet", "address"])["address"].as_str().unwrap().to_owned();
        Self { path, address }
    }
}

/// A node of the chain, which keeps its ports over restarts.
struct Member {
    home: Home,
    mesh: u16,
    rpc: u16,
    role: &'static str,
    node: Option<Node>,
}

impl Member {
    fn new(directory: &Path, name: &str, role: &'static str) -> Self {
        let home = Home::new(directory, name);
        let (mesh, rpc) = (free_port(), free_port());
        let config = format!(
            "[ledger]\nrpc = \"127.0.0.1:{rpc}\"\nblock_interval_ms = 200\n[grid]\nmdns = false\n"
        );
        fs::write(home.path.join("arknet.toml"), config).unwrap();
        Self { home, mesh, rpc, role, node: None }
    }

    fn seed(&self) -> String {
        let peer = json_of(&self.home.path, &["init"])["peer"].as_str().unwrap().to_owned();
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{peer}", self.mesh)
    }

    fn start(&mut self, seeds: &[String]) {
        let listen = format!("/ip4/127.0.0.1/tcp/{}", self.mesh);
        let mut flags = vec!["--role", self.role, "--listen", &listen, "--gateway", "127.0.0.1:0"];
        for seed in seeds {
            flags.extend(["--seed", seed]);
        }
        self.node = Some(Node::start(&self.home.path, &flags));
    }

    fn kill(&mut self) {
        let mut node = self.node.take().expect("it runs");
        node.signal("-KILL");
        node.wait();
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.rpc))
    }

    fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    fn height(&self) -> u64 {
        get(self.address(), "/status")["height"].as_u64().unwrap()
    }

    fn reaches(&self, height: u64) {
        until("the height", || self.height(), |found| *found >= height);
    }
}

/// Four validators and a node that only follows.
struct Chain {
    members: Vec<Member>,
    rich: Home,
    directory: tempfile::TempDir,
}

impl Chain {
    fn start(params: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rich = Home::new(directory.path(), "rich");
        let mut members: Vec<_> = (1..=4)
            .map(|n| Member::new(directory.path(), &format!("validator-{n}"), "validator"))
            .collect();
        let genesis = directory.path().join("genesis.json");
        let mut arguments = vec!["genesis", "new", "--network", "test-chain", "--file"];
        arguments.push(genesis.to_str().unwrap());
        let voters: Vec<String> = members.iter().map(|one| validator(&one.home)).collect();
        for voter in &voters {
            arguments.extend(["--validator", voter]);
        }
        for param in params {
            arguments.extend(["--param", param]);
        }
        let money = format!("{}={RICH}", rich.address);
        arguments.extend(["--danger-allocation", &money]);
        json_of(&rich.path, &arguments);
        members.push(Member::new(directory.path(), "follower", "gateway"));
        for home in members.iter().map(|one| &one.home).chain([&rich]) {
            fs::copy(&genesis, home.path.join("genesis.json")).unwrap();
        }
        let mut chain = Self { members, rich, directory };
        for n in 0..chain.members.len() {
            chain.start_one(n);
        }
        for member in &chain.members {
            member.reaches(1);
        }
        chain
    }

    fn start_one(&mut self, n: usize) {
        let others = self.members.iter().enumerate().filter(|(other, _)| *other != n);
        let seeds: Vec<String> = others.map(|(_, other)| other.seed()).collect();
        self.members[n].start(&seeds);
    }

    /// One that is new, with what the chain began with.
    fn join(&mut self, name: &str) -> usize {
        let member = Member::new(self.directory.path(), name, "validator");
        let genesis = self.rich.path.join("genesis.json");
        fs::copy(genesis, member.home.path.join("genesis.json")).unwrap();
        self.members.push(member);
        let n = self.members.len() - 1;
        self.start_one(n);
        n
    }

    /// A command of somebody, asked of member `at`.
    fn try_order(&self, home: &Home, at: usize, arguments: &[&str]) -> Output {
        let mut program = arknet(&home.path);
        program.arg("--json").args(arguments).args(["--rpc", &self.members[at].url()]);
        program.output().unwrap()
    }

    fn ask(&self, home: &Home, at: usize, arguments: &[&str]) -> Value {
        let output = self.try_order(home, at, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn order(&self, home: &Home, at: usize, arguments: &[&str]) -> Value {
        let done = self.ask(home, at, &[arguments, &["--yes"]].concat());
        assert_eq!(done["state"], "committed", "{done}");
        done
    }

    /// Who votes, as member `at` proves it.
    fn validators(&self, at: usize) -> Vec<String> {
        let told = self.ask(&self.rich, at, &["chain", "validators"]);
        let list = told["validators"].as_array().unwrap();
        list.iter().map(|one| one["operator"].as_str().unwrap().to_owned()).collect()
    }

    /// All that run have the same block and the same state at every height.
    fn agree(&self) {
        let running: Vec<_> = self.members.iter().filter(|one| one.node.is_some()).collect();
        let top = running.iter().map(|one| one.height()).max().unwrap();
        let mut blocks: BTreeMap<u64, Value> = BTreeMap::new();
        for member in running {
            member.reaches(top);
            for height in 1..=top {
                let block = get(member.address(), &format!("/blocks/{height}"));
                let said = json!([block["id"], block["state_root"]]);
                assert!(said[0].is_string() && said[1].is_string(), "{block}");
                let known = blocks.entry(height).or_insert_with(|| said.clone());
                assert_eq!(*known, said, "height {height}");
            }
        }
    }
}

/// How a genesis names the validator of this home.
pub(crate) fn validator(home: &Home) -> String {
    let key = json_of(&home.path, &["validator", "key"]);
    format!("{}:{}", home.address, key["key"].as_str().unwrap())
}

fn amount(told: &Value) -> u64 {
    told.as_str().unwrap().parse().unwrap()
}

#[test]
fn four_validators_and_a_follower_do_all_that_the_command_line_orders() {
    let mut chain =
        Chain::start(&["discussion_ms=1000", "voting_ms=20000", "challenge_ms_min=1000"]);
    let rich = Home { path: chain.rich.path.clone(), address: chain.rich.address.clone() };
    // Money, by way of the one that only follows.
    let operators: Vec<String> =
        chain.members[..4].iter().map(|one| one.home.address.clone()).collect();
    for operator in &operators {
        chain.order(&rich, 4, &["wallet", "send", "--to", operator, "--amount", "1000ark"]);
    }
    let has = chain.ask(&chain.members[2].home, 2, &["wallet", "balance"]);
    assert_eq!((amount(&has["balance"]), &has["verified"]), (1_000_000_000_000, &json!(true)));

    // Stake, its own and somebody else's.
    for n in 0..4 {
        let home = &chain.members[n].home;
        chain.order(home, n, &["wallet", "stake", "--role", "validator", "--amount", "500ark"]);
    }
    chain.order(
        &rich,
        4,
        &["wallet", "stake", "--role", "validator", "--node", &operators[0], "--amount", "100ark"],
    );

    // A channel is opened, paid from, and closed by the one who is paid.
    let payee = &chain.members[1].home;
    let open = ["channel", "open", "--payee", &payee.address, "--deposit", "10ark"];
    let opened = chain.order(&rich, 4, &open);
    let channel = opened["channel"].as_str().unwrap();
    let paid = chain.ask(&rich, 4, &["channel", "pay", "--channel", channel, "--total", "3ark"]);
    let before = amount(&chain.ask(payee, 1, &["wallet", "balance"])["balance"]);
    let voucher = paid["voucher"].as_str().unwrap();
    chain.order(payee, 1, &["channel", "settle", "--voucher", voucher, "--close"]);
    let after = amount(&chain.ask(payee, 1, &["wallet", "balance"])["balance"]);
    // Three per cent are burned, and there is no fee while the chain is young.
    assert_eq!(after - before, 2_910_000_000);

    a_vote_changes_a_parameter(&chain);

    // One comes by stake, and one goes.
    let new = chain.join("validator-5");
    let name = chain.members[new].home.address.clone();
    chain.order(&rich, 4, &["wallet", "send", "--to", &name, "--amount", "1000ark"]);
    json_of(&chain.members[new].home.path, &["validator", "key"]);
    let height = chain.members[0].height();
    chain.members[new].reaches(height);
    let home = &chain.members[new].home;
    chain.order(home, new, &["wallet", "stake", "--role", "validator", "--amount", "500ark"]);
    until("the fifth", || chain.validators(0), |found| found.contains(&name));
    let home = &chain.members[3].home;
    chain.order(home, 3, &["wallet", "retire", "--role", "validator"]);
    until("the fourth", || chain.validators(0), |found| !found.contains(&operators[3]));
    chain.members[3].kill();
    let height = chain.members[0].height();
    chain.members[new].reaches(height + 5);
    assert_eq!(chain.validators(new).len(), 4);
    chain.agree();
}

#[test]
fn what_is_acknowledged_survives_whoever_is_killed() {
    let mut chain = Chain::start(&[]);
    let to = chain.members[3].home.address.clone();
    // Two of four down: nothing is decided. One is back: it goes on.
    chain.members[0].reaches(3);
    chain.members[0].kill();
    chain.members[1].kill();
    let send = ["wallet", "send", "--to", &to, "--amount", "1ark", "--yes", "--no-wait"];
    let waiting = chain.ask(&chain.rich, 4, &send);
    let before = chain.members[2].height();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert!(chain.members[2].height() <= before + 1, "two of four decide nothing");
        thread::yield_now();
    }
    chain.start_one(0);
    let id = waiting["transaction"].as_str().unwrap();
    let committed = || chain.ask(&chain.rich, 4, &["chain", "tx", id]);
    until("the payment", committed, |told| told["state"] == "committed");
    chain.start_one(1);

    // Whoever is killed while money moves, what was acknowledged is done once.
    // Who asks two nodes that have not heard of each other's gives both the same one.
    let mut acknowledged = BTreeSet::from([id.to_owned()]);
    // `make soak` kills more often.
    let kills = std::env::var_os("ARKNET_KILLS");
    let kills = kills.map_or(8_usize, |kills| kills.to_str().unwrap().parse().unwrap());
    for round in 0..kills {
        let victim = round * 3 % 5;
        let asked = (victim + 1) % 5;
        let order = ["wallet", "send", "--to", &to, "--amount", "1ark", "--yes", "--no-wait"];
        for _ in 0..3 {
            let output = chain.try_order(&chain.rich, asked, &order);
            if output.status.success() {
                let told: Value = serde_json::from_slice(&output.stdout).unwrap();
                acknowledged.insert(told["transaction"].as_str().unwrap().to_owned());
            }
        }
        chain.members[victim].kill();
        chain.start_one(victim);
    }
    assert!(acknowledged.len() > kills, "many are taken: {}", acknowledged.len());
    let balance = || {
        let has = chain.ask(&chain.rich, 2, &["wallet", "balance", &to]);
        amount(&has["balance"]) / 1_000_000_000
    };
    for id in &acknowledged {
        let told = || chain.ask(&chain.rich, 2, &["chain", "tx", id])["state"].clone();
        until("an acknowledged payment", told, |state| state == "committed");
    }
    // What was sent and not acknowledged may be done too.
    let (least, most) = (acknowledged.len() as u64, 1 + 3 * kills as u64);
    let found = balance();
    assert!((least..=most).contains(&found), "each once: {found} of {least} to {most}");
    chain.agree();
    let said = run(&chain.rich.path, &["chain", "status", "--rpc", &chain.members[0].url()]);
    assert!(text(&said.stdout).contains("test-chain"), "{}", text(&said.stdout));
}

fn a_vote_changes_a_parameter(chain: &Chain) {
    let rich = &chain.rich;
    let body = chain.directory.path().join("proposal.md");
    fs::write(&body, "Shorter times to answer.").unwrap();
    let body = format!("@{}", body.display());
    let propose = ["governance", "propose", "--title", "Answer sooner", "--body", &body];
    let propose = [&propose[..], &["--param", "challenge_ms_min=2000"]].concat();
    let proposed = chain.order(rich, 4, &propose);
    let number = proposed["number"].to_string();
    let stage = || {
        let told = chain.ask(rich, 4, &["governance", "show", "--proposal", &number]);
        told["stage"].as_str().unwrap().to_owned()
    };
    until("the vote", stage, |stage| stage == "voting");
    for n in 0..3 {
        let vote = ["governance", "vote", "--proposal", &number, "--choice", "yes"];
        chain.order(&chain.members[n].home, n, &vote);
    }
    until("the decision", stage, |stage| stage == "passed");
    let params = chain.ask(rich, 0, &["chain", "params", "challenge_ms_min"]);
    assert!(params.to_string().contains("2000"), "{params}");
}
