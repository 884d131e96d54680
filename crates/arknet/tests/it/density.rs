//! The neighbourhood of the GRID document's table: five nodes, each with models of its own, and all
//! models for everybody.

use std::{
    fs,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::network::{Node, PATIENCE, ask, flags, get, json_of, post, wait_for_peer};

/// Who has what, in the document's order.
const TABLE: [&[&str]; 5] = [
    &["qwen3.5:35b", "nomic-embed"],
    &["llama3.1:70b"],
    &["devstral", "flux-dev"],
    &["llama3.1:8b", "phi-3"],
    &["qwen3.5:35b", "deepseek-r1"],
];
/// The model that two of them have.
const SHARED: &str = "qwen3.5:35b";

struct Neighbourhood {
    nodes: Vec<Node>,
    _directory: tempfile::TempDir,
}

impl Neighbourhood {
    /// Five nodes that have approved each other and know each other's models.
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut nodes: Vec<Node> = Vec::new();
        for (number, models) in TABLE.iter().enumerate() {
            let home = directory.path().join(format!("ark-{}", number + 1));
            let node = start(&home, models, &nodes);
            nodes.push(node);
        }
        for node in &nodes {
            for other in nodes.iter().filter(|other| other.peer() != node.peer()) {
                approve(node, other);
            }
        }
        let neighbourhood = Self { nodes, _directory: directory };
        for node in &neighbourhood.nodes {
            let others = neighbourhood.nodes.iter().zip(TABLE);
            for (other, models) in others.filter(|(other, _)| other.peer() != node.peer()) {
                for model in models {
                    wait_for_peer(node.gateway(), model, other.peer());
                }
            }
        }
        neighbourhood
    }

    /// The node of this number in the table.
    fn ark(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }
}

fn start(home: &Path, models: &[&str], earlier: &[Node]) -> Node {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    for model in models {
        json_of(home, &["model", "add", file, "--name", model]);
    }
    fs::write(
        home.join("arknet.toml"),
        "[compute]\nthreads = 1\nslots = 4\n[grid]\nmdns = false\n",
    )
    .unwrap();
    let mut flags = flags("compute,gateway", None);
    for node in earlier {
        flags.extend(["--seed", node.address()]);
    }
    Node::start(home, &flags)
}

fn approve(node: &Node, other: &Node) {
    let grant = json!({
        "node_id": other.home.file_name().unwrap().to_str().unwrap(),
        "public_key": other.peer(),
        "permissions": {
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": ["*"],
            "max_concurrent_requests": 64,
        },
    });
    let (status, answer) = post(node.admin(), "/peers/approve", &grant);
    assert_eq!(status, 200, "{answer}");
}

fn question(model: &str, max_tokens: u32, stream: bool) -> Value {
    json!({
        "model": model,
        "messages": [{ "role": "user", "content": "What is arknet?" }],
        "max_tokens": max_tokens,
        "stream": stream,
    })
}

/// Who answers so many questions, asked a few at a time.
fn answered_by(gateway: SocketAddr, count: u32) -> Vec<String> {
    let left = AtomicU32::new(count);
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    let work = || {
        let mut peers = Vec::new();
        while take().is_ok() {
            let answer = ask(gateway, question(SHARED, 4, false));
            let (status, peer) = (answer.status, answer.peer.clone());
            assert_eq!(status, 200, "{}", answer.json());
            peers.push(peer);
        }
        peers
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    })
}

#[test]
fn five_neighbours_share_all_their_models() {
    let grid = Neighbourhood::start();
    for node in &grid.nodes {
        for model in TABLE.concat() {
            let answer = ask(node.gateway(), question(model, 2, false));
            let (status, peer) = (answer.status, answer.peer.clone());
            assert_eq!(status, 200, "{model} from {}: {}", node.home.display(), answer.json());
            let owner = grid.nodes.iter().position(|node| node.peer() == peer).unwrap();
            assert!(TABLE[owner].contains(&model), "{model} came from ark-{}", owner + 1);
        }
    }
    load_spreads_over_both(&grid);
    a_busy_one_is_avoided(&grid);
    killing_one_loses_nothing_that_had_not_begun(grid);
}

fn load_spreads_over_both(grid: &Neighbourhood) {
    const COUNT: usize = 300;
    let peers = answered_by(grid.ark(3).gateway(), u32::try_from(COUNT).unwrap());
    let first = peers.iter().filter(|peer| *peer == grid.ark(1).peer()).count();
    let fifth = peers.iter().filter(|peer| *peer == grid.ark(5).peer()).count();
    assert_eq!(first + fifth, COUNT);
    let most = COUNT / 2 + COUNT / 20;
    assert!(first <= most && fifth <= most, "{first} and {fifth} of {COUNT}");
}

/// Keeps all slots of the first busy with its owner's questions, more than fit, and asks from the
/// third.
fn a_busy_one_is_avoided(grid: &Neighbourhood) {
    let (owner, is_over) = (grid.ark(1).gateway(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let _ = ask(owner, question(SHARED, 200, false)).json();
                }
            });
        }
        let asked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            wait_until_full(grid.ark(3), grid.ark(1));
            answered_by(grid.ark(3).gateway(), 12)
        }));
        is_over.store(true, Ordering::SeqCst);
        for peer in asked.unwrap() {
            assert_eq!(peer, grid.ark(5).peer(), "the busy one is not asked");
        }
    });
}

/// Waits until `node` has heard that the model at `full` has no slot left. Its other model has four.
fn wait_until_full(node: &Node, full: &Node) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let peers = get(node.admin(), "/peers");
        let peers = peers.as_array().unwrap();
        let told = peers.iter().find(|peer| peer["peer"] == full.peer());
        if told.is_some_and(|told| told["slots_free"] == 4) {
            return;
        }
        assert!(Instant::now() < deadline, "it is never full: {peers:?}");
        thread::yield_now();
    }
}

fn killing_one_loses_nothing_that_had_not_begun(mut grid: Neighbourhood) {
    let gateway = grid.ark(3).gateway();
    let asked: Vec<_> = (0..24)
        .map(|_| {
            thread::spawn(move || {
                let mut answer = ask(gateway, question(SHARED, 12, true));
                if answer.status != 200 {
                    return Err(answer.json());
                }
                let mut has_begun = false;
                while let Some(event) = answer.event() {
                    if event.get("error").is_some() && !has_begun {
                        return Err(event);
                    }
                    has_begun |= event["choices"][0]["delta"]["content"]
                        .as_str()
                        .is_some_and(|text| !text.is_empty());
                }
                Ok(())
            })
        })
        .collect();
    let victim = grid.nodes.remove(4);
    victim.signal("-KILL");
    for answer in asked {
        let result = answer.join().unwrap();
        assert!(result.is_ok(), "lost before it began: {result:?}");
    }
    let answer = ask(gateway, question(SHARED, 2, false));
    assert_eq!((answer.status, answer.peer.as_str()), (200, grid.ark(1).peer()));
}
