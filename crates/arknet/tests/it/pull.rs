//! Models that come from other peers.

use std::{fs, io::BufRead};

use serde_json::{Value, json};

use crate::network::{ANYONE, ASKING_ANYONE, Network, Node, TINY, ask, flags, json_of, question};

/// The reports of `/api/pull`.
fn pull(node: &Node, model: &str) -> Vec<Value> {
    let response = ureq::post(format!("http://{}/api/pull", node.gateway()))
        .content_type("application/json")
        .send(json!({ "model": model }).to_string())
        .unwrap();
    let lines = std::io::BufReader::new(response.into_body().into_reader()).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

#[test]
fn a_model_comes_from_a_peer_and_is_served_then() {
    let network = Network::start();
    let home = network.directory.path().join("sharing");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    json_of(&home, &["model", "add", model, "--name", "shared/tiny"]);
    let config = format!("{ANYONE}share_models = true\n");
    fs::write(home.join("arknet.toml"), config).unwrap();
    let sharing = Node::start(&home, &flags("compute", Some(network.seed.address())));
    network.wait_for_model("shared/tiny", sharing.peer());

    let fetching = network.directory.path().join("fetching");
    fs::create_dir_all(&fetching).unwrap();
    fs::write(fetching.join("arknet.toml"), ASKING_ANYONE).unwrap();
    let fetching = Node::start(&fetching, &flags("compute,gateway", Some(network.seed.address())));
    crate::network::wait_for_peer(fetching.gateway(), "shared/tiny", sharing.peer());
    let reports = pull(&fetching, "shared/tiny");
    assert_eq!(reports.last().unwrap()["status"], "success", "{reports:?}");
    let total = fs::metadata(model).unwrap().len();
    assert!(reports.iter().any(|report| report["completed"] == total), "{reports:?}");
    let mut body = question("What is arknet?", false);
    body["model"] = "shared/tiny".into();
    let answer = ask(fetching.gateway(), body);
    assert_eq!((answer.status, answer.peer.as_str()), (200, fetching.peer()));
    let again = pull(&fetching, "shared/tiny");
    assert_eq!(again.last().unwrap()["status"], "success");
}

#[test]
fn what_nobody_hands_over_is_said() {
    let network = Network::start();
    let home = network.directory.path().join("fetching");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("arknet.toml"), ASKING_ANYONE).unwrap();
    let fetching = Node::start(&home, &flags("compute,gateway", Some(network.seed.address())));
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
