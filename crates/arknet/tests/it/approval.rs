//! Two machines that approve each other, and others that do not.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::network::{
    ANYONE, Answer, Node, QWEN, TINY, add_models, ask, flags, free_port, get, json_of, question,
    run, text, wait_for_peer,
};

/// One node that serves two models, one that has none; neither knows of the other's approval.
struct Pair {
    serving: Node,
    asking: Node,
    directory: tempfile::TempDir,
}

impl Pair {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().join("serving");
        add_models(&home);
        fs::write(home.join("arknet.toml"), "[compute]\nthreads = 1\nslots = 2\n").unwrap();
        let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port());
        let at = ["--role", "compute", "--gateway", "127.0.0.1:0", "--listen", &listen];
        let serving = Node::start(&home, &at);
        let asking = start_asking(&directory.path().join("asking"), &serving);
        Self { serving, asking, directory }
    }

    /// What the document shows, with a real key: on the node that serves, by its API.
    fn approve_asking(&self, models: &[&str]) {
        let body = json!({
            "node_id": "ark-new-peer-003",
            "public_key": self.asking.peer(),
            "permissions": {
                "can_request_inference": true,
                "can_pull_models": false,
                "models_shared": models,
                "max_concurrent_requests": 1,
            },
        });
        let url = format!("http://{}/peers/approve", self.serving.admin());
        let request = ureq::post(url).content_type("application/json");
        assert_eq!(request.send(body.to_string()).unwrap().status(), 200);
    }

    /// On the node that asks, from the command line.
    fn approve_serving(&self) {
        let peer = self.serving.peer();
        let flags = ["peers", "approve", peer, "--name", "the other", "--all-models", "--yes"];
        let answer = json_of(&self.asking.home, &flags);
        assert_eq!(answer["approved"]["public_key"], peer);
    }

    fn approve_both(&self) {
        self.approve_asking(&[TINY]);
        self.approve_serving();
        wait_for_peer(self.asking.gateway(), TINY, self.serving.peer());
    }

    fn ask(&self, model: &str) -> Answer {
        let mut body = question("Hi", false);
        body["model"] = model.into();
        ask(self.asking.gateway(), body)
    }
}

fn start_asking(home: &Path, serving: &Node) -> Node {
    Node::start(home, &flags("gateway", Some(serving.address())))
}

fn models(node: &Node) -> Vec<Value> {
    let list = get(node.gateway(), "/v1/models");
    list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect()
}

fn refused(answer: Answer) -> (u16, String) {
    let status = answer.status;
    (status, answer.json().to_string())
}

/// Waits until this is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + crate::network::PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn two_machines_approve_each_other_and_one_asks_the_other() {
    let pair = Pair::start();
    // Seen is not approved: nothing is offered, nothing is asked.
    let seen = |node: &Node, peer: &str| {
        let list = get(node.admin(), "/peers/pending");
        list["peers"].as_array().unwrap().iter().any(|pending| pending["public_key"] == peer)
    };
    wait_until("both see each other", || {
        seen(&pair.serving, pair.asking.peer()) && seen(&pair.asking, pair.serving.peer())
    });
    assert_eq!(models(&pair.asking), [Value::Null; 0]);
    assert_eq!(pair.ask(TINY).status, 404);
    // One side is not enough: who does not approve asks nobody, and who is not approved learns
    // nothing.
    pair.approve_serving();
    assert_eq!((models(&pair.asking), pair.ask(TINY).status), (vec![], 404));
    pair.approve_asking(&[TINY]);
    wait_for_peer(pair.asking.gateway(), TINY, pair.serving.peer());
    let answer = pair.ask(TINY);
    let (status, peer) = (answer.status, answer.peer.clone());
    assert_eq!((status, peer.as_str()), (200, pair.serving.peer()), "{}", answer.json());
    // The other model is there, and not shared: it is not even known.
    assert_eq!(models(&pair.asking), [TINY]);
    let (status, words) = refused(pair.ask(QWEN));
    assert_eq!(status, 404, "{words}");
    // What is shared later is known at once.
    let wider = ["peers", "limit", "ark-new-peer-003", "--model", TINY, "--model", QWEN];
    json_of(&pair.serving.home, &wider);
    wait_for_peer(pair.asking.gateway(), QWEN, pair.serving.peer());
    assert_eq!(pair.ask(QWEN).status, 200);
    let status = json_of(&pair.serving.home, &["peers", "status"]);
    assert_eq!(status["peers"][0]["requests_today"], 2);
    assert_eq!(status["peers"][0]["connected"], true);
}

#[test]
fn a_restart_forgets_no_approval() {
    let Pair { serving, asking, directory } = {
        let pair = Pair::start();
        pair.approve_both();
        pair
    };
    let homes = (serving.home.clone(), asking.home.clone());
    for mut node in [asking, serving] {
        node.signal("-TERM");
        assert!(node.wait().success());
    }
    let serving = Node::start(&homes.0, &flags("compute", None));
    let asking = start_asking(&homes.1, &serving);
    wait_for_peer(asking.gateway(), TINY, serving.peer());
    let pair = Pair { serving, asking, directory };
    assert_eq!(pair.ask(TINY).status, 200);
}

#[test]
fn a_limit_is_said_and_a_revocation_ends_what_runs() {
    let pair = Pair::start();
    pair.approve_both();
    // A story that is over too soon shows nothing; another one is longer.
    let (mut running, began) = (1..20)
        .find_map(|seed| {
            let body = json!({
                "model": TINY,
                "messages": [{ "role": "user", "content": "Tell me a story." }],
                "temperature": 2,
                "seed": seed,
                "stream": true,
            });
            let mut running = ask(pair.asking.gateway(), body);
            assert!(running.event().is_some());
            let (status, words) = refused(pair.ask(TINY));
            let revoked = json_of(&pair.serving.home, &["peers", "revoke", "ark-new-peer-003"]);
            if revoked["cut"] == 1 {
                assert_eq!(status, 429, "one at once is what it may: {words}");
                return Some((running, Instant::now()));
            }
            pair.approve_asking(&[TINY]);
            wait_for_peer(pair.asking.gateway(), TINY, pair.serving.peer());
            None
        })
        .expect("a story that is long enough");
    let last = std::iter::from_fn(|| running.event()).last().expect("an end");
    assert!(last.get("error").is_some(), "a clear error ends the stream: {last}");
    assert!(last.to_string().contains("taken this right away"), "{last}");
    assert!(began.elapsed() < Duration::from_secs(20), "after {:?}", began.elapsed());
    // It is told that nothing is offered to it any more, and would be refused.
    wait_until("it hears that nothing is offered", || models(&pair.asking).is_empty());
    assert_eq!(pair.ask(TINY).status, 404);
    pair.approve_asking(&[TINY]);
    let bound = ["--requests-per-minute", "1", "--max-concurrent", "4"];
    let limit = [&["peers", "limit", "ark-new-peer-003"], &bound[..]].concat();
    json_of(&pair.serving.home, &limit);
    wait_for_peer(pair.asking.gateway(), TINY, pair.serving.peer());
    let statuses: Vec<u16> = (0..3).map(|_| pair.ask(TINY).status).collect();
    assert!(
        statuses.contains(&429) && statuses.iter().all(|s| [200, 429].contains(s)),
        "{statuses:?}"
    );
}

#[test]
fn another_key_at_the_right_address_is_not_the_peer_that_was_approved() {
    let mut pair = Pair::start();
    pair.approve_both();
    let address = pair.serving.address().split("/p2p/").next().unwrap().to_owned();
    pair.serving.signal("-KILL");
    pair.serving.wait();
    let home = pair.directory.path().join("impostor");
    add_models(&home);
    fs::write(home.join("arknet.toml"), ANYONE).unwrap();
    let impostor = Node::start(&home, &["--role", "compute", "--listen", &address]);
    assert!(impostor.address().starts_with(&address));
    wait_until("the connection is lost", || {
        get(pair.asking.admin(), "/peers/status")["peers"][0]["connected"] == false
    });
    let (status, words) = refused(pair.ask(TINY));
    assert!(status >= 400, "{words}");
    let served = get(impostor.admin(), "/status");
    assert_eq!(served["remote_requests"], 0);
    let metrics = ureq::get(format!("http://{}/metrics", impostor.admin())).call().unwrap();
    let metrics = metrics.into_body().read_to_string().unwrap();
    assert!(!metrics.contains("arknet_served_requests_total{"), "it was asked nothing: {metrics}");
}

#[test]
fn who_is_approved_is_named_by_key_or_by_a_name_that_means_one() {
    let pair = Pair::start();
    let fails = |arguments: &[&str], words: &str| {
        let output = run(&pair.serving.home, arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
    };
    let peer = pair.asking.peer();
    fails(&["peers", "approve", peer], "--all-models");
    fails(&["peers", "approve", peer, "--all-models"], "--yes");
    fails(&["peers", "approve", "nobody", "--all-models", "--yes"], "no peer called nobody");
    fails(&["peers", "approve", pair.serving.peer(), "--all-models", "--yes"], "this node itself");
    fails(&["peers", "revoke", peer], "is not approved");
    fails(&["peers", "limit", peer, "--max-concurrent", "2"], "is not approved");
    let named = ["peers", "approve", peer, "--model", TINY, "--name", "lap top", "--yes"];
    let approved = json_of(&pair.serving.home, &named)["approved"].clone();
    assert_eq!(approved["permissions"]["models_shared"], json!([TINY]));
    let file = fs::read_to_string(pair.serving.home.join("approved_peers.json")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(file["peers"], json!([approved]));
    let status = text(&run(&pair.serving.home, &["peers", "status"]).stdout);
    assert!(status.contains("lap top") && status.contains("fingerprint"), "{status}");
    let limited = json_of(&pair.serving.home, &["peers", "limit", "lap top", "--no-inference"]);
    assert_eq!(limited["approved"]["permissions"]["can_request_inference"], false);
    assert_eq!(limited["approved"]["approved_at"], approved["approved_at"]);
    json_of(&pair.serving.home, &["peers", "revoke", "lap top"]);
    for list in ["discovered", "pending", "list"] {
        let listed = text(&run(&pair.serving.home, &["peers", list]).stdout);
        assert!(listed.contains(peer), "{list}: {listed}");
    }
}
