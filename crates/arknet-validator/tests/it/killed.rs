//! Four validators in four processes that are killed at random instants: nobody ever says two
//! things, and nothing that was promised is lost.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use arknet_chain::{
    Genesis, Hash, SignedTransaction,
    rpc::{AccountAnswer, BlockAnswer, StatusAnswer},
};
use arknet_types::{Timestamp, encode};
use arknet_validator::{RpcOptions, RpcServer, Validator};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{address, genesis_at},
    driver::{in_time, pay},
    http::{self, Answer},
    network::{now, options},
    wire::TcpWire,
};

const NODE: &str = "ARKNET_TEST_NODE";

/// What a process of this test is: node, time of the genesis, its directory, ports of all.
#[derive(Clone)]
struct Role {
    n: u8,
    time: u64,
    directory: String,
    ports: Vec<u16>,
}

impl Role {
    fn text(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        format!("{} {} {} {}", self.n, self.time, ports.join(","), self.directory)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let n = words.next()?.parse().ok()?;
        let time = words.next()?.parse().ok()?;
        let ports =
            words.next()?.split(',').map(|port| port.parse().ok()).collect::<Option<_>>()?;
        Some(Self { n, time, directory: words.next()?.to_owned(), ports })
    }

    fn genesis(&self) -> Genesis {
        genesis_at(4, Timestamp(self.time))
    }
}

/// Not a test by itself: what the processes of the test run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_the_test_below() {
    let Some(role) = std::env::var_os(NODE) else { return };
    let role = Role::parse(role.to_str().unwrap()).unwrap();
    let (wire, events) = TcpWire::start(role.n, &role.ports).await;
    let options = options(role.n, Path::new(&role.directory), &role.genesis());
    let mut node = Validator::start(options, Arc::new(wire), events).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = RpcOptions::new(Arc::new(now));
    let (store, link) = (node.store().clone(), node.link().clone());
    let server = RpcServer::new(listener, options, store, link).unwrap();
    println!("\nlistening {}", server.address());
    tokio::spawn(server.run(CancellationToken::new()));
    panic!("{}", node.ended().await);
}

struct Node {
    role: Role,
    child: Child,
    at: SocketAddr,
}

impl Node {
    fn start(role: Role) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::a_node_of_the_test_below", "--nocapture"])
            .env(NODE, role.text())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let at = lines.find_map(|line| line.unwrap().strip_prefix("listening ")?.parse().ok());
        let at = at.expect("the node starts");
        // Whoever does not read lets the other wait.
        std::thread::spawn(move || lines.for_each(drop));
        Self { role, child, at }
    }

    /// SIGKILL: it has no say in it.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn get(&self, path: &str) -> Option<Answer> {
        http::try_get(self.at, path).await
    }

    async fn status(&self) -> Option<StatusAnswer> {
        self.get("/status").await.map(|answer| answer.read())
    }

    /// Whether it promised.
    async fn submit(&self, transaction: &SignedTransaction) -> bool {
        let body = json!({ "transaction": hex::encode(encode(transaction)) }).to_string();
        http::try_post(self.at, "/transactions", &body).await.is_some_and(|a| a.status == 200)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A coin that falls the same way every time.
pub(crate) struct Coin(pub(crate) u64);

impl Coin {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_comes_back_and_nothing_promised_is_lost() {
    in_time(run(30)).await;
}

async fn run(kills: u64) {
    let home = tempfile::tempdir().unwrap();
    let ports = crate::wire::free_ports(4);
    let role = |n: u8| {
        let directory = home.path().join(n.to_string());
        std::fs::create_dir_all(&directory).unwrap();
        let directory = directory.to_str().unwrap().to_owned();
        Role { n, time: now().0 - 1_000, directory, ports: ports.clone() }
    };
    let time = now().0 - 1_000;
    let mut nodes: Vec<Node> = (1..=4).map(|n| Node::start(Role { time, ..role(n) })).collect();
    let mut coin = Coin(0x9e37_79b9_7f4a_7c15);
    let mut promised: BTreeMap<u8, Vec<Hash>> = BTreeMap::new();
    let mut nonces: BTreeMap<u8, u64> = BTreeMap::new();
    for _ in 0..kills {
        // Some load, at an account of its own for each node, so that nonces do not depend on luck.
        for node in &nodes {
            let from = 10 + node.role.n;
            let nonce = nonces.entry(from).or_default();
            for _ in 0..coin.below(6) {
                let payment = pay(from, *nonce, 4);
                if !node.submit(&payment).await {
                    break;
                }
                promised.entry(from).or_default().push(payment.id());
                *nonce += 1;
            }
        }
        let which = usize::try_from(coin.below(4)).unwrap();
        // Not to wait for something: the instant is the point.
        tokio::time::sleep(Duration::from_micros(coin.below(40_000))).await;
        nodes[which].kill();
        nodes[which] = Node::start(nodes[which].role.clone());
    }
    let count = promised.values().map(Vec::len).sum::<usize>();
    assert!(count as u64 > kills, "only {count} were promised: no load worth the name");
    for (from, ids) in &promised {
        for id in ids {
            until_committed(&nodes, *id, *from).await;
        }
    }
    agree(&mut nodes, &nonces).await;
}

async fn until_committed(nodes: &[Node], id: Hash, from: u8) {
    let node = &nodes[usize::from(from - 11)];
    let mut events = http::Events::open(node.at, None).await;
    loop {
        let answer = node.get(&format!("/transactions/{id}")).await.unwrap();
        assert_eq!(answer.status, 200, "a transaction of {from} is lost");
        if answer.body["state"] == "committed" {
            return;
        }
        events.next().await.expect("the chain goes on");
    }
}

/// All have the same blocks, each one has come back to the tip, and each promise was kept once.
async fn agree(nodes: &mut [Node], nonces: &BTreeMap<u8, u64>) {
    let mut tips = Vec::new();
    for node in nodes.iter() {
        tips.push(node.status().await.unwrap().height);
    }
    let tip = *tips.iter().max().unwrap();
    for node in nodes.iter() {
        let mut events = http::Events::open(node.at, None).await;
        while node.status().await.unwrap().height < tip {
            events.next().await.expect("the chain goes on");
        }
    }
    for height in 1..=tip {
        let mut ids = Vec::new();
        for node in nodes.iter() {
            let answer = node.get(&format!("/blocks/{height}")).await.unwrap();
            ids.push(answer.read::<BlockAnswer>().id);
        }
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "at {height}: {ids:?}");
    }
    for node in nodes.iter_mut() {
        for (from, nonce) in nonces {
            let path = format!("/accounts/{}", address(*from));
            let account: AccountAnswer = node.get(&path).await.unwrap().read();
            assert!(account.nonce >= *nonce, "{from}: {} of {nonce}", account.nonce);
        }
        assert!(node.child.try_wait().unwrap().is_none(), "it still runs");
    }
}
