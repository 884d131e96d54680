use std::thread;

use crate::grid::until;
use crate::network::{Network, Node, TINY, ask, endless, flags, get, question, start_compute};

#[test]
fn a_killed_compute_node_is_an_error_event_and_comes_back() {
    let mut network = Network::start();
    let gateway = network.gateway.gateway();
    // Its answer is held back at the first event, so that it is running when its node dies.
    let mut running = endless_stream(gateway);
    assert!(running.event().is_some());
    network.compute.signal("-KILL");
    let last = std::iter::from_fn(|| running.event()).last().expect("an end");
    assert!(last.get("error").is_some(), "an error event ends the stream: {last}");
    network.compute.wait();

    let refused = ask(gateway, question("Hi", false));
    assert!(refused.status >= 400, "nobody serves the model now");

    let home = network.compute.home.clone();
    network.compute = Node::start(&home, &flags("compute", Some(network.seed.address())));
    network.wait_for_model(TINY, network.compute.peer());
    let answer = ask(gateway, question("Hi", false));
    let status = answer.status;
    assert_eq!(status, 200, "{}", answer.json());
}

fn endless_stream(gateway: std::net::SocketAddr) -> crate::network::Answer {
    let answer = ask(gateway, endless());
    assert_eq!(answer.status, 200);
    answer
}

#[test]
fn a_request_whose_peer_dies_before_the_first_token_is_answered_by_another() {
    let network = Network::start();
    let gateway = network.gateway.gateway();
    let second = start_compute(&network.directory.path().join("second"), &network.seed);
    network.wait_for_model(TINY, second.peer());
    // A stopped process takes requests and says nothing: the worst way to die.
    network.compute.signal("-STOP");
    let ask_one = move |_| thread::spawn(move || ask(gateway, question("Hi", false)));
    let asked: Vec<_> = (0..4).map(ask_one).collect();
    network.compute.signal("-KILL");
    for answer in asked {
        let answer = answer.join().unwrap();
        let (status, peer) = (answer.status, answer.peer.clone());
        assert_eq!((status, peer.as_str()), (200, second.peer()), "{}", answer.json());
    }
}

#[test]
fn a_node_that_is_asked_to_stop_says_goodbye() {
    let mut network = Network::start();
    network.compute.signal("-TERM");
    assert!(network.compute.wait().success());
    let gateway = network.gateway.gateway();
    let listed = || get(gateway, "/v1/models").to_string();
    until("its goodbye", listed, |models| !models.contains(TINY));
    let refused = ask(gateway, question("Hi", false));
    assert_eq!(refused.status, 404, "its offer is gone with it, so no request is tried on it");
}
