//! Peers that are approved, held to it, and revoked, over the node API and the file.

use std::net::SocketAddr;

use arknet_mesh::RequestStream;
use arknet_sdk::{RefusalCode, keyfile};
use arknet_types::{PublicKey, Reply};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::fixture::{ENDLESS, MODEL, PATIENCE, Stranger, TestNode, entry, read};

/// One request to the node API with these lines in its head.
async fn http(to: SocketAddr, line: &str, head: &[&str], body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let mut request = format!("{line} HTTP/1.1\r\nconnection: close\r\n");
    let has_host = head.iter().any(|line| line.to_ascii_lowercase().starts_with("host:"));
    if !has_host {
        request += "Host: localhost:8910\r\n";
    }
    for line in head {
        request += &format!("{line}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    // A refused body is not read to its end.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    assert!(!head.to_ascii_lowercase().contains("access-control"), "{head}");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

const JSON: &str = "Content-Type: application/json";

async fn post(node: &TestNode, path: &str, body: &Value) -> (u16, Value) {
    http(node.admin, &format!("POST {path}"), &[JSON], &body.to_string()).await
}

async fn get(node: &TestNode, path: &str) -> Value {
    let (status, answer) = http(node.admin, &format!("GET {path}"), &[], "").await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// The body of the document, for this peer.
fn approval(peer: &Stranger, models: &[&str], at_once: u32) -> Value {
    json!({
        "node_id": "ark-new-peer-003",
        "public_key": peer.mesh.peer().to_string(),
        "permissions": {
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": models,
            "max_concurrent_requests": at_once,
        },
    })
}

async fn start(peer: &mut Stranger, model: &str) -> RequestStream {
    let request = peer.request(model);
    let mut stream = peer.open().await;
    stream.write_frame(&request).await.unwrap();
    stream
}

async fn code(peer: &mut Stranger, model: &str) -> RefusalCode {
    let request = peer.request(model);
    peer.refusal(&request).await.code
}

/// Reads until the answer ends in a refusal.
async fn refused(stream: &mut RequestStream) -> RefusalCode {
    loop {
        match read(stream).await {
            Reply::Refused(refusal) => return refusal.code,
            Reply::Done { .. } => panic!("it ended well"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_peer_is_pending_then_approved_then_revoked_in_the_middle_of_an_answer() {
    let node = TestNode::start_approving(&[]).await;
    let mut peer = Stranger::new(&node);
    assert_eq!(code(&mut peer, MODEL).await, RefusalCode::NotPermitted);
    let id = peer.mesh.peer().to_string();
    let pending = get(&node, "/peers/pending").await;
    let entry = pending["peers"].as_array().unwrap().iter().find(|p| p["public_key"] == id);
    let entry = entry.unwrap_or_else(|| panic!("{pending}"));
    assert_eq!(entry["asked"], 1);
    assert_eq!(entry["fingerprint"], peer.mesh.peer().fingerprint());
    assert!(entry["asked_at"].as_str().unwrap().ends_with('Z'), "{entry}");
    let discovered = get(&node, "/peers/discovered").await;
    let seen = discovered["peers"].as_array().unwrap().iter().find(|p| p["public_key"] == id);
    assert_eq!(seen.unwrap()["approved"], false);
    assert_eq!(seen.unwrap()["sources"], json!(["connected"]));

    let (status, answer) = post(&node, "/peers/approve", &approval(&peer, &[ENDLESS], 2)).await;
    assert_eq!((status, answer["approved"]["node_id"].as_str()), (200, Some("ark-new-peer-003")));
    let pending = get(&node, "/peers/pending").await;
    assert!(!pending.to_string().contains(&id), "{pending}");

    // One runs, one waits for the only slot; a third is one too many.
    let mut running = start(&mut peer, ENDLESS).await;
    assert!(matches!(read(&mut running).await, Reply::Text { .. }));
    let mut waiting = start(&mut peer, ENDLESS).await;
    assert_eq!(read(&mut waiting).await, Reply::Alive);
    assert_eq!(code(&mut peer, ENDLESS).await, RefusalCode::RateLimited);
    let status = get(&node, "/peers/status").await;
    let approved = &status["peers"][0];
    assert_eq!((&approved["running"], &approved["connected"]), (&json!(2), &json!(true)));
    assert_eq!(approved["permissions"]["models_shared"], json!([ENDLESS]));
    assert_eq!(approved["requests_today"], 2);

    let (status, answer) = post(&node, "/peers/revoke", &json!({ "public_key": id })).await;
    assert_eq!((status, &answer["cut"]), (200, &json!(2)), "{answer}");
    assert_eq!(refused(&mut running).await, RefusalCode::NotPermitted);
    assert_eq!(refused(&mut waiting).await, RefusalCode::NotPermitted);
    let mut count = node.running.clone();
    tokio::time::timeout(PATIENCE, count.wait_for(|count| *count == 0)).await.unwrap().unwrap();
    assert_eq!(code(&mut peer, ENDLESS).await, RefusalCode::NotPermitted);
    let (status, answer) = post(&node, "/peers/revoke", &json!({ "public_key": id })).await;
    assert_eq!((status, &answer["code"]), (404, &json!("not_approved")));
    let file = node.data.audit_log();
    let _directory = node.stop().await;
    // The stranger, the third at once, the one that waited and the one after the revocation.
    let refused = audited(&file, "refused", peer.mesh.peer(), 4).await;
    assert_eq!(refused, ["not_permitted", "rate_limited", "not_permitted", "not_permitted"]);
    assert_eq!(audited(&file, "close", peer.mesh.peer(), 1).await, ["not_permitted"]);
}

/// What the audit log says became of the requests of `peer`, when so many are written: a refusal is
/// sent before its line is.
async fn audited(
    file: &std::path::Path,
    event: &str,
    peer: PublicKey,
    count: usize,
) -> Vec<String> {
    let written = async {
        loop {
            let text = std::fs::read_to_string(file).unwrap();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mine =
                lines.filter(|line| line["event"] == event && line["peer"] == peer.to_string());
            let found: Vec<String> =
                mine.map(|line| line["outcome"].as_str().unwrap().to_owned()).collect();
            if found.len() >= count {
                break found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("they are written down")
}

#[tokio::test]
async fn a_grant_says_which_models_and_how_much() {
    let node = TestNode::start_approving(&[]).await;
    let mut peer = Stranger::new(&node);
    let mut body = approval(&peer, &[MODEL], 2);
    body["permissions"]["requests_per_minute"] = json!(1000);
    body["permissions"]["tokens_per_day"] = json!(200);
    assert_eq!(post(&node, "/peers/approve", &body).await.0, 200);
    // Served here or not: what is not shared is refused in the same words.
    let mut words = vec![];
    for model in [ENDLESS, "no/such"] {
        let request = peer.request(model);
        words.push(peer.refusal(&request).await);
    }
    assert_eq!(words[0], words[1]);
    assert_eq!(words[0].code, RefusalCode::NotPermitted);
    // Each may take 67 tokens by its bound, takes 2, and is counted as 2.
    let mut answered = 0;
    let refusal = loop {
        let request = peer.request(MODEL);
        let mut stream = peer.open().await;
        stream.write_frame(&request).await.unwrap();
        match read(&mut stream).await {
            Reply::Refused(refusal) => break refusal,
            _ => while !matches!(read(&mut stream).await, Reply::Done { .. }) {},
        }
        answered += 1;
    };
    assert_eq!(refusal.code, RefusalCode::RateLimited, "{refusal}");
    assert_eq!(answered, (200 - 67) / 2 + 1);
    let status = get(&node, "/peers/status").await;
    assert_eq!(status["peers"][0]["tokens_today"], 2 * answered);
    let refused = audited(&node.data.audit_log(), "refused", peer.mesh.peer(), 3).await;
    assert_eq!(refused, ["not_permitted", "not_permitted", "rate_limited"]);
    // It is remembered over a restart, and so is the approval.
    let directory = node.stop().await;
    let node = TestNode::start_in(directory, |_| {}).await;
    let status = get(&node, "/peers/status").await;
    assert_eq!(status["peers"][0]["tokens_today"], 2 * answered);
    node.stop().await;
}

#[tokio::test]
async fn an_edit_of_the_file_counts_and_cuts() {
    let key = keyfile::generate().unwrap();
    let node = TestNode::start_approving(&[entry(key.public(), &["*"])]).await;
    let mut peer = Stranger::with_key(&node, key);
    let mut running = start(&mut peer, ENDLESS).await;
    assert!(matches!(read(&mut running).await, Reply::Text { .. }));
    let file = node.data.approved_peers();
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("node_id", "node_di")).unwrap();
    let problem = loop {
        let status = get(&node, "/status").await;
        if let Some(problem) = status["approved_peers_problem"].as_str() {
            break problem.to_owned();
        }
    };
    assert!(problem.contains("node_di") && problem.contains("line 1 column"), "{problem}");
    assert!(matches!(read(&mut running).await, Reply::Text { .. }), "nobody was cut by that");
    let body = approval(&Stranger::new(&node), &["*"], 1);
    let (status, answer) = post(&node, "/peers/approve", &body).await;
    assert_eq!((status, &answer["code"]), (409, &json!("approved_peers_broken")), "{answer}");
    std::fs::write(&file, "{\"peers\": []}").unwrap();
    assert_eq!(refused(&mut running).await, RefusalCode::NotPermitted);
    node.stop().await;
}

#[tokio::test]
async fn a_large_request_of_a_stranger_is_refused_before_it_is_there() {
    let node = TestNode::start_approving(&[]).await;
    let mut peer = Stranger::new(&node);
    // The length alone, and not one byte of a request: the answer comes all the same.
    let mut stream = peer.open().await;
    stream.write_raw(&8_000_000_u32.to_le_bytes()).await.unwrap();
    assert_eq!(refused(&mut stream).await, RefusalCode::NotPermitted);
    let request = peer.request(MODEL);
    assert_eq!(peer.refusal(&request).await.code, RefusalCode::NotPermitted);
    node.stop().await;
}

#[tokio::test]
async fn only_who_may_gets_through_to_the_node_api() {
    let node = TestNode::start_approving(&[]).await;
    let peer = Stranger::new(&node);
    let body = approval(&peer, &["*"], 1).to_string();
    let token = std::fs::read_to_string(node.data.admin_token()).unwrap();
    let token = format!("Authorization: Bearer {}", token.trim());
    let approve = "POST /peers/approve";
    for (head, code) in [
        (vec![JSON, "Host: evil.example"], "host_not_allowed"),
        (vec![JSON, "Host: evil.example", &token], "host_not_allowed"),
        (vec![JSON, "Origin: http://evil.example"], "origin_not_allowed"),
        (vec![JSON, "Origin: http://evil.example", &token], "origin_not_allowed"),
        (vec![JSON, "Sec-Fetch-Site: cross-site", &token], "cross_site"),
        (vec![JSON, "Origin: http://localhost:8910"], "token_missing"),
        (vec![JSON, "Sec-Fetch-Site: same-origin"], "token_missing"),
        (vec![JSON, "X-Forwarded-For: 10.0.0.1"], "token_missing"),
        (vec![JSON, "Forwarded: for=10.0.0.1"], "token_missing"),
        (vec![JSON, "X-Real-IP: 10.0.0.1"], "token_missing"),
        (vec![JSON, "Authorization: Bearer 00"], "token_wrong"),
        (vec!["Content-Type: text/plain"], "unsupported_content_type"),
        (vec![], "unsupported_content_type"),
    ] {
        let (status, answer) = http(node.admin, approve, &head, &body).await;
        assert!((400..500).contains(&status), "{head:?}: {status}");
        assert_eq!(answer["code"], code, "{head:?}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|words| !words.is_empty()), "{answer}");
    }
    let status = get(&node, "/peers/status").await;
    assert_eq!(status["peers"], json!([]), "nobody was approved by any of these");
    for path in ["/peers/status", "/peers/pending", "/metrics", "/status"] {
        let line = format!("GET {path}");
        let (status, answer) = http(node.admin, &line, &["X-Forwarded-For: 10.0.0.1"], "").await;
        assert_eq!((status, &answer["code"]), (401, &json!("token_missing")), "{path}");
    }
    let (status, answer) = http(node.admin, "GET /health", &["X-Real-IP: 10.0.0.1"], "").await;
    assert_eq!((status, answer), (200, json!({ "status": "ok" })));
    let head = [JSON, "Origin: http://localhost:8910", "Sec-Fetch-Site: same-origin", &token];
    assert_eq!(http(node.admin, approve, &head, &body).await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn what_is_sent_wrongly_is_said() {
    let node = TestNode::start_approving(&[]).await;
    let peer = Stranger::new(&node);
    let good = approval(&peer, &["*"], 1);
    let with = |path: &str, value: Value| {
        let mut body = good.clone();
        *body.pointer_mut(path).unwrap() = value;
        body
    };
    let mut unknown = good.clone();
    unknown["permissions"]["can_fly"] = json!(true);
    let mut incomplete = good.clone();
    incomplete["permissions"].as_object_mut().unwrap().remove("can_pull_models");
    let own = node.peer.to_string();
    for (body, status, words) in [
        (json!([]), 400, "invalid"),
        (json!({}), 400, "public_key"),
        (unknown, 400, "can_fly"),
        (incomplete, 400, "can_pull_models"),
        (with("/public_key", json!("PEER_PUBLIC_KEY")), 400, "peer id"),
        (with("/public_key", json!(7)), 400, "string"),
        (with("/public_key", json!(own)), 400, "this node itself"),
        (with("/node_id", json!("<b>")), 400, "may not contain"),
        (with("/permissions/models_shared", json!("*")), 400, "sequence"),
        (with("/permissions/max_concurrent_requests", json!(-1)), 400, "u32"),
        (with("/node_id", json!("x".repeat(70_000))), 413, "bytes at most"),
    ] {
        let (found, answer) = post(&node, "/peers/approve", &body).await;
        assert_eq!(found, status, "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(words), "{words}: {answer}");
    }
    assert_eq!(post(&node, "/peers/approve", &good).await.0, 200);
    let other = approval(&Stranger::new(&node), &["*"], 1);
    let (status, answer) = post(&node, "/peers/approve", &other).await;
    assert_eq!((status, &answer["code"]), (409, &json!("node_id_taken")));
    for (body, status, code) in [
        (json!({}), 400, "invalid_body"),
        (json!({ "public_key": "x" }), 400, "invalid_body"),
        (json!({ "node_id": "nobody" }), 404, "not_approved"),
        (json!({ "node_id": "nobody", "public_key": good["public_key"] }), 404, "not_approved"),
    ] {
        let (found, answer) = post(&node, "/peers/revoke", &body).await;
        assert_eq!((found, &answer["code"]), (status, &json!(code)), "{body}");
    }
    let (status, answer) = http(node.admin, "GET /peers/approve", &[], "").await;
    assert_eq!((status, &answer["code"]), (405, &json!("wrong_method")));
    let (status, answer) = http(node.admin, "GET /no/such", &[], "").await;
    assert_eq!((status, &answer["code"]), (404, &json!("unknown_path")));
    node.stop().await;
}
