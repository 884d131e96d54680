//! A registry of one's own, by the command line.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::network::{Node, PATIENCE, arknet, flags, get, json_of, run, text};

/// A running registry. Killed when dropped.
pub(crate) struct Registry {
    pub(crate) report: Value,
    child: Child,
}

impl Registry {
    pub(crate) fn start(home: &Path) -> Self {
        fs::create_dir_all(home).unwrap();
        // A test asks more often than anybody else from one address.
        let config = "[registry]\nreads_per_minute = 100000\n";
        fs::write(home.join("arknet.toml"), config).unwrap();
        let mut child = arknet(home)
            .args(["--json", "registry", "serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { report: serde_json::from_str(&line).expect("the registry runs"), child }
    }

    pub(crate) fn url(&self) -> &str {
        self.report["urls"][0].as_str().unwrap()
    }

    pub(crate) fn ca(&self) -> &str {
        self.report["certificate"].as_str().unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_node_enters_a_registry_and_leaves_it() {
    let (host, node) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::start(host.path());
    let fingerprint = registry.report["fingerprint"].clone();
    let place = ["--url", registry.url(), "--ca", registry.ca()];
    let ask = |arguments: &[&str]| json_of(node.path(), &[arguments, &place[..]].concat());
    let endpoint = ["--endpoint", "192.0.2.7:26656", "--model", "b", "--model", "a"];
    let entered = ask(&[&["registry", "register"], &endpoint[..]].concat());
    assert_eq!(entered["registry"], "127.0.0.1");
    assert_eq!(entered["models"], serde_json::json!(["a", "b"]));
    let listed = ask(&["registry", "list", "--model", "a"]);
    assert_eq!(listed["entries"], serde_json::json!([entered]));
    drop(registry);
    let registry = Registry::start(host.path());
    assert_eq!(registry.report["fingerprint"], fingerprint, "the certificate stays");
    let place = ["--url", registry.url(), "--ca", registry.ca()];
    let ask = |arguments: &[&str]| json_of(node.path(), &[arguments, &place[..]].concat());
    assert_eq!(ask(&["registry", "list"])["entries"], serde_json::json!([entered]));
    assert_eq!(ask(&["registry", "unregister"])["withdrawn"], true);
    assert_eq!(ask(&["registry", "list"])["entries"], serde_json::json!([]));
}

#[test]
fn what_is_not_safe_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let plain = run(home.path(), &["registry", "list", "--url", "http://127.0.0.1:1"]);
    assert!(!plain.status.success() && text(&plain.stderr).contains("https://"), "{plain:?}");
    let secret = "postgres://u:hunter2@127.0.0.1/r";
    let shown = run(home.path(), &["registry", "serve", "--database", secret]);
    let words = text(&shown.stderr);
    assert!(!shown.status.success() && words.contains("database_file"), "{words}");
    assert!(!words.contains("hunter2"), "{words}");
}

/// What a registry lists, asked again and again until it is right.
fn until_listed(home: &Path, registry: &Registry, is_right: impl Fn(&[Value]) -> bool) {
    let begun = Instant::now();
    loop {
        let place = ["registry", "list", "--url", registry.url(), "--ca", registry.ca()];
        let listed = json_of(home, &place);
        let entries = listed["entries"].as_array().unwrap();
        if is_right(entries) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{listed}");
    }
}

/// A node that speaks to this registry, and finds nobody in any other way.
fn node(directory: &Path, name: &str, registry: &Registry, registers: bool) -> Node {
    let home = directory.join(name);
    fs::create_dir_all(&home).unwrap();
    let (url, ca) = (registry.url(), registry.ca());
    let config = format!(
        "[mesh]\nseeds = []\n[grid]\nmdns = false\nnode_id = \"{name}\"\nregistry = \"{url}\"\n\
         registry_ca = \"{ca}\"\nregistry_register = {registers}\n"
    );
    fs::write(home.join("arknet.toml"), config).unwrap();
    Node::start(&home, &flags("gateway", None))
}

#[test]
fn a_node_is_listed_while_it_runs_and_found_by_those_who_read() {
    let directory = tempfile::tempdir().unwrap();
    let registry = Registry::start(&directory.path().join("host"));
    let mut listed = node(directory.path(), "ark-listed", &registry, true);
    let key = listed.peer().to_owned();
    until_listed(directory.path(), &registry, |entries| {
        entries.iter().any(|entry| entry["public_key"] == key && entry["node_id"] == "ark-listed")
    });
    let reader = node(directory.path(), "ark-reader", &registry, false);
    let begun = Instant::now();
    let found = loop {
        let peers = get(reader.admin(), "/peers/discovered");
        let peers = peers["peers"].as_array().unwrap();
        if let Some(peer) = peers.iter().find(|peer| peer["public_key"] == key) {
            break peer.clone();
        }
        assert!(begun.elapsed() < PATIENCE, "nobody is found");
    };
    assert_eq!(found["sources"], serde_json::json!(["registry"]));
    assert_eq!(found["node_id"], "ark-listed");
    assert_eq!(found["approved"], false, "nobody is approved by being listed");
    until_listed(directory.path(), &registry, |entries| entries.len() == 1);
    listed.signal("-TERM");
    assert!(listed.wait().success());
    until_listed(directory.path(), &registry, <[Value]>::is_empty);
}
