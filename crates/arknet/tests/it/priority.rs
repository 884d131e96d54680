//! The owner of a machine goes first on it.

use std::fs;

use crate::network::{Network, Node, ask, endless, flags, json_of, question};

#[test]
fn the_owners_question_ends_the_youngest_answer_of_a_peer_where_that_is_configured() {
    let network = Network::start();
    let home = network.directory.path().join("own");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    json_of(&home, &["model", "add", model, "--name", "own/tiny"]);
    let config = "[compute]\nthreads = 1\nslots = 1\ndanger_serve_anyone = true\nqueue_max = 0\npreempt = \"cut\"\n";
    fs::write(home.join("arknet.toml"), config).unwrap();
    let own = Node::start(&home, &flags("compute,gateway", Some(network.seed.address())));
    network.wait_for_model("own/tiny", own.peer());
    let mut endless = endless();
    endless["model"] = "own/tiny".into();
    let mut guest = ask(network.gateway.gateway(), endless);
    assert_eq!((guest.status, guest.peer.as_str()), (200, own.peer()));
    assert!(guest.event().is_some());

    let mut body = question("Hi", false);
    body["model"] = "own/tiny".into();
    let answer = ask(own.gateway(), body);
    assert_eq!((answer.status, answer.peer.as_str()), (200, own.peer()));
    let last = std::iter::from_fn(|| guest.event()).last().expect("an end");
    let words = last["error"]["message"].as_str().unwrap_or_default();
    assert!(words.contains("owner"), "{last}");
}
