//! The steps by which a neighbourhood begins, typed as they are written, on three hosts.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    grid::{home, until},
    namespaces::{Lan, Namespace},
    network::{Node, json_of},
};

/// The model that only peers have.
pub(crate) const MODEL: &str = "deepseek-r1:70b";
const DISCOVERED: &str = "curl -s http://localhost:8910/peers/discovered | python3 -m json.tool";
const STATUS: &str = "curl -s http://localhost:8910/peers/status | python3 -m json.tool";

/// A node that has the model and serves it to whom its owner approves.
pub(crate) fn serving(host: &Namespace, directory: &Path, name: &str) -> Node {
    let home = home(directory, name, "[compute]\nthreads = 1\nslots = 2\n");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    json_of(&home, &["model", "add", file, "--name", MODEL]);
    host.node(&home, &["--role", "compute"])
}

/// A node that has no model, and a key for the apps in front of it.
pub(crate) fn asking(host: &Namespace, directory: &Path, name: &str) -> (Node, String) {
    let home = home(directory, name, "");
    let key = json_of(&home, &["key", "create", "--name", "an app"]);
    let node = host.node(&home, &["--role", "gateway"]);
    (node, key["key"].as_str().unwrap().to_owned())
}

/// What a line, as the document has it, prints on a host.
fn typed(host: &Namespace, line: &str) -> Value {
    let printed = host.sh(line);
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{line}: {error}: {printed}"))
}

/// The peer of this name in a list of the node API.
fn named(list: &Value, name: &str) -> Option<Value> {
    list["peers"].as_array().unwrap().iter().find(|peer| peer["node_id"] == name).cloned()
}

/// Waits until a host lists the node of this name as found on the local network.
pub(crate) fn discovered(host: &Namespace, name: &str) -> Value {
    let look = || named(&typed(host, DISCOVERED), name);
    let by_mdns = |peer: &Option<Value>| {
        peer.as_ref()
            .is_some_and(|peer| peer["sources"].as_array().unwrap().contains(&json!("mdns")))
    };
    until(name, look, by_mdns);
    look().unwrap()
}

/// Approves the node of this name by `curl`, as it was discovered.
pub(crate) fn approve(host: &Namespace, name: &str, permissions: &Value) -> Value {
    let key = discovered(host, name)["public_key"].clone();
    let body = json!({ "node_id": name, "public_key": key, "permissions": permissions });
    let line = format!(
        "curl -s -X POST http://localhost:8910/peers/approve \
         -H \"Content-Type: application/json\" -d '{body}'"
    );
    let approved = typed(host, &line);
    assert_eq!(approved["approved"]["public_key"], key, "{approved}");
    approved
}

/// What the document grants in its example.
pub(crate) fn permissions() -> Value {
    json!({
        "can_request_inference": true,
        "can_pull_models": false,
        "models_shared": [MODEL],
        "max_concurrent_requests": 1
    })
}

/// An answer, or what stands in its place: status, the peer that gave it, body.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) peer: String,
    pub(crate) body: String,
}

/// Asks as the document does.
pub(crate) fn ask(host: &Namespace, key: &str, model: &str) -> Told {
    let body = json!({
        "model": model,
        "max_tokens": 8,
        "messages": [{ "role": "user", "content": "Hello from across the grid" }]
    });
    let printed = host.sh(&format!(
        "curl -s -D - http://localhost:4000/v1/chat/completions \
         -H \"Authorization: Bearer {key}\" -H \"Content-Type: application/json\" -d '{body}'"
    ));
    let (head, body) = printed.split_once("\r\n\r\n").expect("head and body");
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    let peer = head.lines().find_map(|line| line.strip_prefix("x-arknet-peer: "));
    Told { status, peer: peer.unwrap_or_default().trim().to_owned(), body: body.to_owned() }
}

/// Waits until an approved peer is connected to a host.
pub(crate) fn connected(host: &Namespace, name: &str, expected: bool) {
    let look = || named(&typed(host, STATUS), name);
    until(name, look, |peer| peer.as_ref().is_some_and(|peer| peer["connected"] == expected));
}

/// Waits until an answer comes across the grid.
pub(crate) fn answered(host: &Namespace, key: &str) -> Told {
    let last = std::cell::RefCell::new(None);
    until(
        "an answer",
        || last.replace(Some(ask(host, key, MODEL))),
        |_| last.borrow().as_ref().is_some_and(|told: &Told| told.status == 200),
    );
    last.into_inner().unwrap()
}

#[test]
fn the_documented_steps_lead_to_an_answer_and_another_answers_when_a_cable_is_pulled() {
    let Some(lan) = Lan::new(3) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let avahi = hosts[2].avahi();
    let (ours, key) = asking(hosts[0], directory.path(), "ark-ours");
    let attic = serving(hosts[1], directory.path(), "ark-attic");
    let cellar = serving(hosts[2], directory.path(), "ark-cellar");

    // 1. It is running. 2. Who was discovered, here by multicast.
    assert_eq!(typed(hosts[0], "curl -s http://localhost:8910/health"), json!({ "status": "ok" }));
    for (name, node) in [("ark-attic", &attic), ("ark-cellar", &cellar)] {
        let peer = discovered(hosts[0], name);
        assert_eq!(
            (peer["public_key"].as_str(), &peer["approved"]),
            (Some(node.peer()), &json!(false))
        );
    }
    let names = ["ark-ours", "ark-attic", "ark-cellar"];
    until("avahi", || avahi.browse(), |seen| names.iter().all(|name| seen.contains(name)));
    let before = ask(hosts[0], &key, MODEL);
    assert_ne!(before.status, 200, "nobody is approved by being found: {before:?}");

    // 3. Approve, on both sides. 4. Connected.
    for (number, name) in [(1, "ark-attic"), (2, "ark-cellar")] {
        approve(hosts[0], name, &permissions());
        approve(hosts[number], "ark-ours", &permissions());
        connected(hosts[0], name, true);
        connected(hosts[number], "ark-ours", true);
    }
    let file = fs::read_to_string(ours.home.join("approved_peers.json")).unwrap();
    assert!(file.contains("ark-attic") && file.contains("ark-cellar"), "{file}");

    // 5. A model that only peers have.
    let first = answered(hosts[0], &key);
    assert!(first.body.contains("\"chat.completion\""), "{first:?}");
    assert_ne!(ask(hosts[0], "sk-ark-YOUR_KEY", MODEL).status, 200, "not a key of this gateway");

    // The one that served is unplugged: the next request goes to the other.
    let (number, name, other) = match first.peer == attic.peer() {
        true => (1, "ark-attic", &cellar),
        false => (2, "ark-cellar", &attic),
    };
    lan.unplug(number);
    let second = ask(hosts[0], &key, MODEL);
    assert_eq!((second.status, second.peer.as_str()), (200, other.peer()), "{second:?}");
    connected(hosts[0], name, false);
    lan.plug(number);
    connected(hosts[0], name, true);
}

#[test]
fn who_says_goodbye_leaves_the_list_at_once_and_who_dies_leaves_it_soon() {
    let Some(lan) = Lan::new(3) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let start = |n: usize, name| asking(hosts[n], directory.path(), name).0;
    let _ours = start(0, "ark-ours");
    let mut polite = start(1, "ark-polite");
    let mut killed = start(2, "ark-killed");
    for name in ["ark-polite", "ark-killed"] {
        discovered(hosts[0], name);
    }
    let is_announced = |name: &str| {
        named(&typed(hosts[0], DISCOVERED), name)
            .is_some_and(|peer| peer["sources"].as_array().unwrap().contains(&json!("mdns")))
    };
    polite.signal("-TERM");
    // Long before its announcement would have run out, after two minutes.
    until("goodbye", || is_announced("ark-polite"), |announced| !announced);
    assert!(polite.wait().success());
    killed.signal("-KILL");
    killed.wait();
    // Its connection broke, so it is asked for, and nobody answers.
    until("death", || is_announced("ark-killed"), |announced| !announced);
}
