//! API keys, from the command line to every door.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::{Value, json};

use crate::network::{Node, TINY, flags, json_of, question, run, text};

/// A node alone, whose gateway needs a key.
fn keyed(home: &Path) -> Node {
    fs::create_dir_all(home).unwrap();
    let config = "[gateway]\nrequire_key = true\n[compute]\nthreads = 1\nslots = 2\n";
    fs::write(home.join("arknet.toml"), config).unwrap();
    Node::start(home, &flags("compute,gateway", None))
}

/// Status, `Retry-After` and body.
fn send(
    gateway: SocketAddr,
    path: &str,
    header: Option<(&str, &str)>,
    body: &Value,
) -> (u16, Option<u64>, Value) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request =
        agent.post(format!("http://{gateway}{path}")).content_type("application/json");
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    let mut response = request.send(body.to_string()).unwrap();
    let retry = response.headers().get("retry-after");
    let retry = retry.and_then(|value| value.to_str().ok()?.parse().ok());
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    (status, retry, serde_json::from_str(&text).unwrap())
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

#[test]
fn every_door_asks_for_a_key_in_its_own_words() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let created = json_of(home, &["key", "create", "--name", "laptop"]);
    let key = created["key"].as_str().unwrap().to_owned();
    assert!(key.starts_with("sk-ark-") && key.len() >= 40);
    let node = keyed(home);
    let gateway = node.gateway();
    let chat = question("Hi", false);
    let anthropic = json!({ "model": TINY, "max_tokens": 4, "messages": chat["messages"] });
    let ollama = json!({ "model": TINY, "stream": false, "messages": chat["messages"] });
    let (status, _, error) = send(gateway, "/v1/chat/completions", None, &chat);
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")), "{error}");
    let (status, _, error) = send(gateway, "/v1/messages", None, &anthropic);
    let kind = &error["error"]["type"];
    assert_eq!((status, kind), (401, &json!("authentication_error")), "{error}");
    let (status, _, error) = send(gateway, "/api/chat", None, &ollama);
    assert!(status == 401 && error["error"].is_string(), "{error}");
    let wrong = bearer("sk-ark-wrong");
    let header = Some(("authorization", wrong.as_str()));
    assert_eq!(send(gateway, "/v1/chat/completions", header, &chat).0, 401);

    let good = bearer(&key);
    let header = Some(("authorization", good.as_str()));
    assert_eq!(send(gateway, "/v1/chat/completions", header, &chat).0, 200);
    assert_eq!(send(gateway, "/api/chat", header, &ollama).0, 200);
    assert_eq!(send(gateway, "/v1/messages", Some(("x-api-key", &key)), &anthropic).0, 200);

    let listed = run(home, &["key", "list"]);
    let listed = text(&listed.stdout);
    assert!(listed.contains("laptop") && !listed.contains(&key), "{listed}");
    json_of(home, &["key", "revoke", "laptop"]);
    assert_eq!(send(gateway, "/v1/chat/completions", header, &chat).0, 401, "at once");
    let stored = fs::read_to_string(home.join("keys.json")).unwrap();
    assert!(!stored.contains(&key));
}

#[test]
fn a_key_has_models_a_rate_and_a_daily_sum() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let create = |name: &str, flags: &[&str]| {
        let mut arguments = vec!["key", "create", "--name", name];
        arguments.extend(flags);
        bearer(json_of(home, &arguments)["key"].as_str().unwrap())
    };
    let scoped = create("scoped", &["--models", "a/b,c/d"]);
    let slow = create("slow", &["--requests-per-minute", "1"]);
    let small = create("small", &["--tokens-per-day", "1", "--expires", "30d"]);
    let node = keyed(home);
    let chat = question("Hi", false);
    let path = "/v1/chat/completions";
    let ask = |key: &str| send(node.gateway(), path, Some(("authorization", key)), &chat);

    let (status, _, error) = ask(&scoped);
    assert_eq!(status, 403, "{error}");
    // The minute may turn between two requests, but not between each of these.
    let answers: Vec<_> = (0..3).map(|_| ask(&slow)).collect();
    let (_, retry, error) = answers.iter().find(|(status, ..)| *status == 429).unwrap();
    assert!(retry.is_some_and(|seconds| (1..=60).contains(&seconds)), "{error}");
    assert_eq!(error["error"]["code"], "rate_limit_exceeded", "{error}");
    assert_eq!(ask(&small).0, 200, "what an answer takes is known at its end");
    let (status, retry, _) = ask(&small);
    assert_eq!(status, 429);
    assert!(retry.is_some_and(|seconds| seconds <= 24 * 3600));
}

#[test]
fn an_open_address_needs_a_key_or_a_dangerous_setting() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let start = ["start", "--role", "gateway", "--gateway", "0.0.0.0:0", "--admin", "127.0.0.1:0"];
    let refused = run(home, &start);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("arknet key create"), "{}", text(&refused.stderr));
    fs::write(home.join("arknet.toml"), "[gateway]\ndanger_no_keys = true\n").unwrap();
    let mut flags = flags("gateway", None);
    flags[3] = "0.0.0.0:0";
    let node = Node::start(home, &flags);
    assert!(node.gateway().ip().is_unspecified());
}
