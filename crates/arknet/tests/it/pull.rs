//! Models that come from other peers.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    grid::until,
    network::{
        ANYONE, ASKING_ANYONE, Network, Node, TINY, ask, flags, free_port, get, json_of, question,
        run, text,
    },
};

const MODEL: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
/// Bytes that are marked as here together.
const STRETCH_BYTES: u64 = 8 << 20;

/// A transfer as it goes on, by its reports.
struct Pull(Box<dyn BufRead>);

impl Pull {
    fn begin(node: &Node, model: &str) -> Self {
        let response = ureq::post(format!("http://{}/api/pull", node.gateway()))
            .content_type("application/json")
            .send(json!({ "model": model }).to_string())
            .unwrap();
        Self(Box::new(BufReader::new(response.into_body().into_reader())))
    }
}

impl Iterator for Pull {
    type Item = Value;

    /// The next report; none when the node has gone.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).unwrap_or(0);
        (read > 0).then(|| serde_json::from_str(&line).unwrap())
    }
}

fn pull(node: &Node, model: &str) -> Vec<Value> {
    Pull::begin(node, model).collect()
}

/// A node that hands over this file under the name `shared/model`.
fn sharing(network: &Network, name: &str, file: &str, more: &str) -> Node {
    let home = network.directory.path().join(name);
    json_of(&home, &["model", "add", file, "--name", "shared/model"]);
    let config = format!("{ANYONE}share_models = true\n{more}");
    fs::write(home.join("arknet.toml"), config).unwrap();
    Node::start(&home, &flags("compute", Some(network.seed.address())))
}

fn fetching(network: &Network, name: &str) -> Node {
    let home = network.directory.path().join(name);
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("arknet.toml"), ASKING_ANYONE).unwrap();
    Node::start(&home, &flags("compute,gateway", Some(network.seed.address())))
}

#[test]
fn a_model_comes_from_a_peer_and_is_served_then() {
    let network = Network::start();
    let source = sharing(&network, "sharing", MODEL, "");
    let fetching = fetching(&network, "fetching");
    crate::network::wait_for_peer(fetching.gateway(), "shared/model", source.peer());
    let reports = pull(&fetching, "shared/model");
    assert_eq!(reports.last().unwrap()["status"], "success", "{reports:?}");
    let total = fs::metadata(MODEL).unwrap().len();
    assert!(reports.iter().any(|report| report["completed"] == total), "{reports:?}");
    let mut body = question("What is arknet?", false);
    body["model"] = "shared/model".into();
    let answer = ask(fetching.gateway(), body);
    assert_eq!((answer.status, answer.peer.as_str()), (200, fetching.peer()));
    let again = pull(&fetching, "shared/model");
    assert_eq!(again.last().unwrap()["status"], "success");
}

#[test]
fn a_model_is_pulled_by_command_from_one_peer() {
    let network = Network::start();
    let source = sharing(&network, "sharing", MODEL, "");
    let fetching = fetching(&network, "fetching");
    crate::network::wait_for_peer(fetching.gateway(), "shared/model", source.peer());
    let pull = |from: &str| run(&fetching.home, &["model", "pull", "shared/model", "--from", from]);
    let wrong = pull(network.compute.peer());
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("nobody hands over"));
    let pulled = pull(source.peer());
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    assert!(text(&pulled.stdout).contains("is here and served"));
    let explained = json_of(&fetching.home, &["peers", "explain", source.peer()]);
    assert!(explained["reputation"]["score"].as_f64().unwrap() > 0.75, "{explained}");
}

#[test]
fn a_name_that_the_ledger_knows_is_pulled_as_the_file_that_it_accepted() {
    let network = Network::start();
    let source = sharing(&network, "sharing", MODEL, "");
    let home = network.directory.path().join("fetching");
    json_of(&home, &["init"]);
    let genesis = ["genesis", "new", "--network", "arknet-1"];
    let params = ["--param", "model_deposit=0", "--param", "model_review_ms=1000"];
    json_of(&home, &[&genesis[..], &params].concat());
    let rpc: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let ledger = format!("[ledger]\nrpc = \"{rpc}\"\nblock_interval_ms = 200\n");
    fs::write(home.join("arknet.toml"), format!("{ASKING_ANYONE}{ledger}")).unwrap();
    let roles = "validator,compute,gateway";
    let fetching = Node::start(&home, &flags(roles, Some(network.seed.address())));
    crate::network::wait_for_peer(fetching.gateway(), "shared/model", source.peer());
    until("a block", || get(rpc, "/status"), |status| status["height"].as_u64() > Some(0));
    let accept = |name: &str, digest: &str| {
        let facts = ["--licence", "MIT", "--size", "9", "--digest", digest];
        json_of(&home, &[&["model", "register", name, "--yes"], &facts[..]].concat());
        let model = || get(rpc, &format!("/models/{digest}"));
        until("its acceptance", model, |model| model["accepted"] == true);
    };
    let listed = |home: &Path| json_of(home, &["model", "list"])[0].clone();
    let entry = listed(&source.home);
    let (offered, other) =
        (entry["digest"].as_str().unwrap(), format!("sha256:{}", "07".repeat(32)));

    accept("shared/model", &other);
    let refused = run(&home, &["model", "pull", "shared/model"]);
    let words = text(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    assert!(words.contains(offered) && words.contains(&other), "{words}");

    accept("shared/model", offered);
    let pulled = run(&home, &["model", "pull", "shared/model"]);
    assert!(pulled.status.success(), "{}", text(&pulled.stderr));
    assert_eq!(listed(&home)["vouched_for"], true);
    let table = text(&run(&home, &["model", "list"]).stdout);
    assert!(table.contains("vouches"), "{table}");
    assert_eq!(listed(&source.home)["vouched_for"], false, "it follows no ledger");
    let verified = json_of(&home, &["model", "verify"]);
    assert_eq!((&verified[0]["vouched_for"], &verified[1]), (&json!(true), &Value::Null));

    let third = format!("sha256:{}", "08".repeat(32));
    accept("kept/model", &third);
    json_of(&home, &["model", "add", MODEL, "--name", "kept/model"]);
    let refused = run(&home, &["model", "verify", "kept/model"]);
    let words = text(&refused.stderr);
    assert!(!refused.status.success(), "{words}");
    assert!(words.contains(offered) && words.contains(&third), "{words}");
}

/// The shipped model with so many bytes behind it, which do not matter to it.
fn large_model(directory: &Path, bytes: u64) -> PathBuf {
    let path = directory.join("large.gguf");
    let mut content = fs::read(MODEL).unwrap();
    let mut state = 1_u64;
    while (content.len() as u64) < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        content.extend(state.to_le_bytes());
    }
    fs::write(&path, content).unwrap();
    path
}

/// The file of the one model of a node that shares it.
fn blob(node: &Node) -> PathBuf {
    let blobs = fs::read_dir(node.home.join("models/blobs")).unwrap().flatten();
    let mut files = blobs.map(|entry| entry.path());
    let is_model = |path: &PathBuf| {
        path.extension().is_some_and(|ending| ending == "gguf")
            && fs::metadata(path).unwrap().len() > STRETCH_BYTES
    };
    files.find(is_model).expect("its file")
}

#[test]
fn a_pull_from_two_peers_survives_two_kills_and_one_that_lies() {
    let network = Network::start();
    let bytes = 9 * STRETCH_BYTES + 12_345;
    let file = large_model(network.directory.path(), bytes);
    let file = file.to_str().unwrap();
    let pace = "share_bytes_per_second = 16000000\n";
    let honest = sharing(&network, "honest", file, pace);
    let liar = sharing(&network, "liar", file, "");
    // Who has fetched it once has had both make their hashes. What the liar sends from now on is not
    // what these say.
    let first = fetching(&network, "first");
    for source in [&honest, &liar] {
        crate::network::wait_for_peer(first.gateway(), "shared/model", source.peer());
    }
    let reports = pull(&first, "shared/model");
    assert_eq!(reports.last().unwrap()["status"], "success", "{reports:?}");
    drop(first);
    let damaged = fs::OpenOptions::new().write(true).open(blob(&liar)).unwrap();
    for stretch in 0..9 {
        damaged.write_all_at(b"!", stretch * STRETCH_BYTES + 300_000).unwrap();
    }

    let mut node = fetching(&network, "fetching");
    let home = node.home.clone();
    let mut named = false;
    let mut kept = 0;
    for _ in 0..2 {
        for source in [&honest, &liar] {
            crate::network::wait_for_peer(node.gateway(), "shared/model", source.peer());
        }
        let mut reports = Pull::begin(&node, "shared/model");
        let begun = reports.find_map(|report| report["completed"].as_u64()).unwrap();
        assert!(begun >= kept, "what was checked is not fetched again: {begun} of {kept}");
        for report in reports.by_ref() {
            let status = report["status"].as_str().unwrap_or_default();
            named |= status.contains("dropped") && status.contains(liar.peer());
            let done = report["completed"].as_u64().unwrap_or(0);
            if done >= begun + STRETCH_BYTES {
                kept = done;
                break;
            }
        }
        node.signal("-KILL");
        node.wait();
        node = Node::start(&home, &flags("compute,gateway", Some(network.seed.address())));
    }
    assert!(kept >= 2 * STRETCH_BYTES, "{kept}");
    crate::network::wait_for_peer(node.gateway(), "shared/model", honest.peer());
    let reports: Vec<_> = pull(&node, "shared/model");
    assert_eq!(reports.last().unwrap()["status"], "success", "{reports:?}");
    let begun = reports.iter().find_map(|report| report["completed"].as_u64()).unwrap();
    assert!(begun >= kept, "{begun} of {kept}");
    let all = reports.iter().map(Value::to_string).collect::<String>();
    named |= all.contains("dropped") && all.contains(liar.peer());
    assert!(named, "the liar is named");
    assert!(!all.contains(&format!("dropped {}", honest.peer())), "{all}");
    let listed = json_of(&home, &["model", "verify", "shared/model"]);
    assert_eq!(listed[0]["bytes"], fs::metadata(file).unwrap().len());
    let said = run(&home, &["peers", "explain", honest.peer()]);
    assert!(text(&said.stdout).contains("answered to the end"), "{}", text(&said.stdout));
    let left = fs::read_dir(home.join("models/partial")).unwrap().count();
    assert_eq!(left, 0, "nothing is left over");
}

#[test]
fn what_nobody_hands_over_is_said() {
    let network = Network::start();
    let fetching = fetching(&network, "fetching");
    // Served by a peer, but not to be had.
    crate::network::wait_for_peer(
        fetching.gateway(),
        "Qwen/Qwen3-0.6B-Q8_0",
        network.compute.peer(),
    );
    for model in ["Qwen/Qwen3-0.6B-Q8_0", "no/such"] {
        let last = pull(&fetching, model).pop().unwrap();
        assert!(last["error"].as_str().is_some_and(|words| words.contains("not found")), "{last}");
    }
    let present = pull(&fetching, TINY).pop().unwrap();
    assert_eq!(present["status"], "success", "it is here already");
}
