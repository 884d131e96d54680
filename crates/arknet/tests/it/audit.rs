//! The log of what other peers ask, written by real nodes.

use std::{fs, path::Path, process::Command, time::Instant};

use serde_json::{Value, json};

use crate::network::{
    Network, Node, PATIENCE, TINY, ask, endless, flags, get, json_of, question, run, text,
};

/// The lines of a node's log.
fn lines(home: &Path) -> Vec<Value> {
    let log = fs::read_to_string(home.join("audit.log")).unwrap();
    // The last line may be half there.
    let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until the log holds what is looked for.
fn wait_for(home: &Path, event: &str, outcome: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = lines(home).into_iter().rfind(|line| {
            line["event"] == event && (outcome.is_empty() || line["outcome"] == outcome)
        });
        if let Some(line) = found {
            return line;
        }
        assert!(Instant::now() < deadline, "no {event} {outcome}: {:?}", lines(home));
        std::thread::yield_now();
    }
}

#[test]
fn what_a_peer_asks_is_written_down_and_checked_and_a_kill_is_seen() {
    let mut network = Network::start();
    let gateway = network.gateway.gateway();
    let home = network.compute.home.clone();
    assert_eq!(ask(gateway, question("a secret question", false)).status, 200);
    let done = wait_for(&home, "close", "done");
    assert_eq!((&done["peer"], &done["model"]), (&network.gateway.peer().into(), &TINY.into()));
    assert!(done["tokens_generated"].as_u64().unwrap() > 0);
    assert!(done["latency_ms"].is_u64() && done["timestamp"].is_string());
    assert_eq!(done["receipt"], Value::Null);
    assert!(!fs::read_to_string(home.join("audit.log")).unwrap().contains("secret"));

    let checked = json_of(&home, &["audit", "verify"]);
    assert_eq!(checked["sound"], true, "{checked}");
    let status = get(network.compute.admin(), "/status");
    assert!(status["audit"]["head"].as_str().unwrap().contains(':'), "{status}");

    // Killed while it streams: what was begun is there, what was not ended shows.
    let mut running = ask(gateway, endless());
    assert!(running.event().is_some());
    let opened = wait_for(&home, "open", "");
    network.compute.signal("-KILL");
    network.compute.wait();
    let checked = json_of(&home, &["audit", "verify"]);
    assert_eq!(checked["open"], json!([opened["job"]]), "{checked}");
    network.compute = Node::start(&home, &flags("compute", Some(network.seed.address())));
    let started = wait_for(&home, "start", "");
    assert_eq!((&started["unclosed"], &started["head"]), (&1.into(), &"agrees".into()));
    let checked = json_of(&home, &["audit", "verify"]);
    assert_eq!(checked["interrupted"], json!([opened["job"]]), "{checked}");
    network.compute.signal("-TERM");
    network.compute.wait();
    tampered(&home);
}

/// What the command says of a log that is not as it was.
fn tampered(home: &Path) {
    let path = home.join("audit.log");
    let whole = fs::read_to_string(&path).unwrap();
    let head = lines(home)
        .last()
        .map(|line| format!("{}:{}", line["sequence"], line["hash"].as_str().unwrap()));
    let head = head.unwrap();
    let verify = |arguments: &[&str]| {
        let output = run(home, &[&["audit", "verify"], arguments].concat());
        (output.status.success(), text(&output.stdout))
    };
    assert!(verify(&["--head", &head]).0);
    let all: Vec<&str> = whole.split_inclusive('\n').collect();
    for (changed, words) in [
        (whole.replacen("\"tokens_generated\":", "\"tokens_generated\": ", 1), "was changed"),
        ([&all[..2], &all[3..]].concat().concat(), "belongs here"),
        (all[..all.len() - 1].concat(), "the end is missing"),
    ] {
        fs::write(&path, changed).unwrap();
        let (is_sound, said) = verify(&[]);
        assert!(!is_sound && said.contains(words), "{said}");
    }
    // A copy of a part, without the file that tells of its end.
    let copy = home.join("copy");
    fs::write(&copy, all[2..].concat()).unwrap();
    let copy = copy.to_str().unwrap();
    assert!(verify(&[copy]).0);
    assert!(verify(&[copy, "--from", "2", "--head", &head]).0);
    assert!(!verify(&[copy, "--from", "0"]).0);
    fs::write(&path, &whole).unwrap();

    let tail = run(home, &["audit", "tail", "-n", "3"]);
    assert!(text(&tail.stdout).contains("the node stops"), "{}", text(&tail.stdout));
    let export = run(home, &["audit", "export"]);
    let table = text(&export.stdout);
    assert!(table.starts_with("sequence,timestamp,peer,"), "{table}");
    assert!(table.lines().any(|line| line.contains(",done,")), "{table}");
    let json = run(home, &["--json", "audit", "export", "--model", TINY, "--since", "1h"]);
    let first = text(&json.stdout).lines().next().map(ToOwned::to_owned).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&first).unwrap()["event"], "close");
    let none = run(home, &["--json", "audit", "export", "--peer", "somebody"]);
    assert!(none.status.success() && none.stdout.is_empty());
}

#[test]
fn a_log_that_cannot_be_written_stops_remote_work_until_it_can() {
    let network = Network::start();
    let gateway = network.gateway.gateway();
    let home = network.compute.home.clone();
    drop(network.compute);
    // No file may grow beyond so many blocks of 512 bytes: there is room in the log for a few
    // requests, and then a write fails as it does on a full disk.
    let log_bytes = fs::metadata(home.join("audit.log")).unwrap().len();
    let blocks = (log_bytes + 4096) / 512;
    let mut limited = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f \"$1\"; shift; exec \"$@\"";
    limited.args(["-c", script, "sh"]);
    limited.arg(blocks.to_string()).arg(env!("CARGO_BIN_EXE_arknet"));
    let mut arguments = flags("compute", Some(network.seed.address()));
    arguments.extend(["--admin", "127.0.0.1:0"]);
    let compute = Node::start_by(limited, &home, &arguments);
    crate::network::wait_for_peer(gateway, TINY, compute.peer());
    let refused = loop {
        let answer = ask(gateway, question("Hi", false));
        if answer.status != 200 {
            break answer.json().to_string();
        }
    };
    assert!(refused.contains("audit log"), "{refused}");
    let failure = get(compute.admin(), "/status")["audit"]["failure"].clone();
    assert!(failure.is_string(), "{failure}");

    let id = compute.id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).status();
    assert!(raised.unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    while ask(gateway, question("Hi", false)).status != 200 {
        assert!(Instant::now() < deadline, "it does not go on by itself");
    }
    let checked = json_of(&home, &["audit", "verify"]);
    assert_eq!(checked["sound"], true, "{checked}");
    drop(compute);
}
