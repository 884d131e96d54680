//! A registry of one's own, by the command line.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
};

use serde_json::Value;

use crate::network::{arknet, json_of, run, text};

/// A running registry. Killed when dropped.
pub(crate) struct Registry {
    pub(crate) report: Value,
    child: Child,
}

impl Registry {
    pub(crate) fn start(home: &Path) -> Self {
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
