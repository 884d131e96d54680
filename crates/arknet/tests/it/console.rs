//! The console in a real browser, in front of real nodes.

use std::{fs, path::Path, process::Command};

use crate::{
    clients::{check, node_packages},
    network::{Node, TINY, flags, json_of, run},
};

/// A node with a model and its console, and another that is connected to it.
fn nodes(directory: &Path) -> (Node, Node) {
    let own = directory.join("own");
    let node = Node::start(&own, &flags("compute,gateway", None));
    let peer = Node::start(&directory.join("peer"), &flags("gateway", Some(node.address())));
    (node, peer)
}

/// One file of the suite in `tests/console`, to be run.
fn suite(file: &str) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = node_packages(&root.join("tests/console"), file);
    let mut node = Command::new("node");
    node.args(["--test", file]).current_dir(directory);
    node.env("ARKNET_WEB", root.join("crates/arknet-node/web").canonicalize().unwrap());
    node
}

fn passes(mut suite: Command) {
    let report = check(&mut suite);
    assert!(report.contains("fail 0") && !report.contains("pass 0"), "{report}");
}

/// Runs one file in front of two nodes.
fn in_a_browser(file: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (own, peer) = nodes(directory.path());
    let mut node = suite(file);
    let token = fs::read_to_string(own.home.join("admin.token")).unwrap();
    node.env("ARKNET_OWN_ADMIN", format!("http://localhost:{}", own.admin().port()))
        .env("ARKNET_OWN_GATEWAY", format!("http://{}", own.gateway()))
        .env("ARKNET_OWN_TOKEN", token.trim())
        .env("ARKNET_PEER_ADMIN", format!("http://{}", peer.admin()))
        .env("ARKNET_PEER_GATEWAY", format!("http://{}", peer.gateway()))
        .env("ARKNET_MODEL", TINY);
    passes(node);
}

#[test]
fn a_person_approves_watches_and_revokes_a_node_in_a_browser() {
    in_a_browser("console.test.mjs");
}

#[test]
fn pages_of_others_can_neither_read_nor_approve_nor_infer() {
    in_a_browser("strangers.test.mjs");
}

#[test]
fn the_page_says_what_it_is_told_in_words() {
    passes(suite("words.test.mjs"));
}

#[test]
fn the_command_prints_the_address_of_the_page_with_the_token() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    assert!(!run(home, &["console"]).status.success(), "no node runs yet");
    let node = Node::start(home, &flags("gateway", None));
    let token = fs::read_to_string(home.join("admin.token")).unwrap();
    let url = format!("http://localhost:{}/#token={}", node.admin().port(), token.trim());
    let said = json_of(home, &["console"]);
    assert_eq!((said["url"].as_str(), said["opened"].as_bool()), (Some(url.as_str()), Some(false)));
}
