use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::network::{Network, Node, TINY, ask, flags, question, start_compute};

/// A question whose answer goes on for as long as the context allows.
fn endless() -> Value {
    json!({
        "model": TINY,
        "prompt": "x",
        "messages": [{ "role": "user", "content": "Tell me a story." }],
        "temperature": 2,
        "seed": 1,
        "stream": true,
    })
}

#[test]
fn a_killed_compute_node_is_an_error_event_and_comes_back() {
    let mut network = Network::start();
    let gateway = network.gateway.gateway();
    // Its answer is held back at the first event, so that it is running when its node dies.
    let mut running = endless_stream(gateway);
    assert!(running.event().is_some());
    let killed = Instant::now();
    network.compute.signal("-KILL");
    let last = std::iter::from_fn(|| running.event()).last().expect("an end");
    let noticed = killed.elapsed();
    assert!(last.get("error").is_some(), "an error event ends the stream: {last}");
    assert!(noticed < Duration::from_secs(2), "noticed after {noticed:?}");
    network.compute.wait();

    let refused = ask(gateway, question("Hi", false));
    assert!(refused.status >= 400, "nobody serves the model now");

    let home = network.compute.home.clone();
    network.compute = Node::start(&home, &flags("compute", Some(network.seed.address())));
    let restarted = Instant::now();
    network.wait_for_model(TINY, network.compute.peer());
    let answer = ask(gateway, question("Hi", false));
    let status = answer.status;
    assert_eq!(status, 200, "{}", answer.json());
    let back = restarted.elapsed();
    assert!(back < Duration::from_secs(5), "back in routing after {back:?}");
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
    let refused = ask(network.gateway.gateway(), question("Hi", false));
    assert_eq!(refused.status, 404, "its offer is gone with it, so no request is tried on it");
}
