use crate::network::{Network, TINY, ask, get, json_of, question, run, text};

#[test]
fn an_app_gets_its_answer_from_the_other_process() {
    let network = Network::start();
    let gateway = network.gateway.gateway();
    let whole = ask(gateway, question("What is arknet?", false));
    let (status, peer) = (whole.status, whole.peer.clone());
    let whole = whole.json();
    assert_eq!((status, peer.as_str()), (200, network.compute.peer()), "{whole}");
    let sentence = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(sentence.to_lowercase().contains("arknet"), "{sentence}");
    assert!(whole["usage"]["completion_tokens"].as_u64().unwrap() > 3);

    let mut stream = ask(gateway, question("What is arknet?", true));
    assert_eq!((stream.status, stream.peer.as_str()), (200, network.compute.peer()));
    let mut streamed = String::new();
    let mut pieces = 0;
    loop {
        let event = stream.event().expect("a stream ends with DONE");
        if event == "[DONE]" {
            break;
        }
        if let Some(piece) = event["choices"][0]["delta"]["content"].as_str() {
            streamed.push_str(piece);
            pieces += usize::from(!piece.is_empty());
        }
    }
    assert_eq!(streamed, sentence, "greedy answers are the same, streamed or not");
    assert!(pieces > 3, "tokens come one by one, not at once");

    let models = get(gateway, "/v1/models");
    let entry = models["data"].as_array().unwrap().iter().find(|m| m["id"] == TINY).unwrap();
    assert_eq!(entry["arknet"]["local"], false);
    assert_eq!(entry["arknet"]["peers"][0], network.compute.peer());

    let mut unknown = question("Hi", false);
    unknown["model"] = "no/such".into();
    let refused = ask(gateway, unknown);
    assert_eq!(refused.status, 404);
    assert_eq!(refused.json()["error"]["code"], "model_not_found");
    the_command_line_sees_the_same(&network, &sentence);
}

fn the_command_line_sees_the_same(network: &Network, sentence: &str) {
    let home = &network.gateway.home;
    let arguments = ["ask", "--model", TINY, "--temperature", "0", "--max-tokens", "60"];
    let question = |more: &[&'static str]| [&arguments[..], more].concat();
    let answer = run(home, &question(&["What is arknet?"]));
    assert_eq!(text(&answer.stdout).trim_end(), sentence.trim_end(), "over the gateway");

    let application = network.application_home("application");
    let answer = json_of(&application, &question(&["What is arknet?"]));
    assert_eq!(answer["peer"], network.compute.peer(), "as a light peer");
    assert_eq!(answer["text"].as_str().unwrap().trim_end(), sentence.trim_end());

    let alone = network.directory.path().join("alone");
    let answer = json_of(&alone, &question(&["What is arknet?"]));
    assert_eq!(answer["peer"], "this machine", "without any mesh");
    assert_eq!(answer["text"].as_str().unwrap().trim_end(), sentence.trim_end());

    let peers = json_of(home, &["peers"]);
    let peers = peers.as_array().unwrap();
    let compute = peers.iter().find(|peer| peer["peer"] == network.compute.peer()).unwrap();
    assert_eq!(compute["connected"], true);
    assert!(compute["models"].as_array().unwrap().iter().any(|model| model == TINY));
    let status = json_of(home, &["status"]);
    assert_eq!(status["peer"], network.gateway.peer());
    assert!(status["connected"].as_u64().unwrap() >= 2);

    let refused = run(home, &["--json", "ask", "--model", "no/such", "Hi"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("unknown_model"), "{}", text(&refused.stderr));
}
