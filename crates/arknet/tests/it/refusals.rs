//! Who may not ask is refused, on hosts of their own, and the log of the node that refuses says so.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::{
    getting_started::{
        MODEL, Told, answered, approve, ask, asking, connected, discovered, permissions, serving,
    },
    grid::{home, until},
    namespaces::{Lan, Namespace},
    network::{Node, json_of},
};

const JSON: &str = "Content-Type: application/json";

/// Changes what a host has granted.
fn regrant(host: &Namespace, name: &str, change: impl FnOnce(&mut Value)) {
    let mut granted = permissions();
    change(&mut granted);
    approve(host, name, &granted);
}

fn revoke(host: &Namespace, name: &str) {
    let body = json!({ "node_id": name }).to_string();
    let url = "http://localhost:8910/peers/revoke";
    let answer = host.curl(&["-X", "POST", url, "-H", JSON, "-d", &body]);
    assert_eq!(answer["revoked"]["node_id"], name, "{answer}");
}

/// What a node has logged that its peer was refused for.
fn log(home: &Path) -> String {
    fs::read_to_string(home.join("log")).unwrap()
}

fn is_refused(told: &Told) {
    assert!((400..600).contains(&told.status), "{told:?}");
    assert!(!told.body.contains("chat.completion"), "{told:?}");
}

#[test]
fn a_peer_has_what_it_was_granted_and_nothing_else() {
    let Some(lan) = Lan::new(2) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let (ours, key) = asking(hosts[0], directory.path(), "ark-ours");
    let theirs = serving(hosts[1], directory.path(), "ark-theirs");
    approve(hosts[0], "ark-theirs", &permissions());
    connected(hosts[0], "ark-theirs", true);

    // Not approved there, whatever it approved itself.
    discovered(hosts[1], "ark-ours");
    is_refused(&ask(hosts[0], &key, MODEL));

    approve(hosts[1], "ark-ours", &permissions());
    let answer = answered(hosts[0], &key);
    assert_eq!(answer.peer, theirs.peer());

    // More than it may in a minute.
    regrant(hosts[1], "ark-ours", |granted| granted["requests_per_minute"] = json!(1));
    // The minute may turn between two.
    let told: Vec<_> = (0..3).map(|_| ask(hosts[0], &key, MODEL)).collect();
    is_refused(told.iter().rfind(|answer| answer.status != 200).unwrap());
    let refused = |code: &str| {
        log(&theirs.home).lines().any(|line| {
            line.contains("refused") && line.contains(code) && line.contains(ours.peer())
        })
    };
    until("the log", || refused("rate_limited"), |said| *said);
    let audited = |code: &str| {
        let log = fs::read_to_string(theirs.home.join("audit.log")).unwrap();
        // The last line may be half there.
        log.rsplit_once('\n').map_or("", |(whole, _)| whole).lines().any(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let is_ours = line["peer"] == ours.peer() && line["node_id"] == "ark-ours";
            line["event"] == "refused" && line["outcome"] == code && is_ours
        })
    };
    until("the audit log", || audited("rate_limited"), |said| *said);
    let told = || {
        log(&ours.home).lines().any(|line| {
            line.contains("a peer refused")
                && line.contains("rate_limited")
                && line.contains(theirs.peer())
        })
    };
    until("the log of who was refused", told, |said| *said);

    // A model that is not shared with it.
    regrant(hosts[1], "ark-ours", |granted| granted["models_shared"] = json!(["another"]));
    is_refused(&ask(hosts[0], &key, MODEL));

    // Nothing at all any more.
    regrant(hosts[1], "ark-ours", |_| {});
    answered(hosts[0], &key);
    revoke(hosts[1], "ark-ours");
    is_refused(&ask(hosts[0], &key, MODEL));
}

#[test]
fn another_identity_behind_a_right_address_is_neither_asked_nor_served() {
    let Some(lan) = Lan::new(2) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let impostor = serving(hosts[1], directory.path(), "ark-friend");
    // The friend's key is one that nobody here holds.
    let absent = directory.path().join("absent");
    let friend = json_of(&absent, &["init"])["peer"].as_str().unwrap().to_owned();
    let address = format!("/ip4/10.77.0.2/tcp/26656/p2p/{friend}");
    let grid = format!("peers = [\"{address}\"]\n");
    let ours = home(directory.path(), "ark-ours", &grid);
    let key = json_of(&ours, &["key", "create", "--name", "an app"]);
    let _ours = hosts[0].node(&ours, &["--role", "gateway"]);
    let body = json!({
        "node_id": "ark-friend", "public_key": friend, "permissions": permissions()
    });
    let url = "http://localhost:8910/peers/approve";
    hosts[0].curl(&["-X", "POST", url, "-H", JSON, "-d", &body.to_string()]);
    // Found by multicast, so it is connected, but as who it is.
    let found = || hosts[0].curl(&["http://localhost:8910/peers/discovered"]);
    let is_there = |list: &Value| {
        list["peers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|peer| peer["public_key"] == impostor.peer() && peer["approved"] == false)
    };
    until("the impostor", found, is_there);
    is_refused(&ask(hosts[0], key["key"].as_str().unwrap(), MODEL));
    connected(hosts[0], "ark-friend", false);
}

#[test]
fn a_web_page_or_a_rebound_name_can_neither_approve_nor_ask() {
    let Some(lan) = Lan::new(1) else { return };
    let directory = tempfile::tempdir().unwrap();
    let host = &lan.hosts[0].namespace;
    let (node, key): (Node, _) = asking(host, directory.path(), "ark-ours");
    let body = json!({
        "node_id": "evil", "public_key": node.peer(), "permissions": permissions()
    });
    let status = |arguments: &[&str]| {
        let mut curl = host.command("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", JSON]);
        curl.args(["-d", &body.to_string()]);
        let output = curl.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (approve, infer) =
        ("http://localhost:8910/peers/approve", "http://localhost:4000/v1/chat/completions");
    let bearer = format!("Authorization: Bearer {key}");
    for head in ["Origin: http://evil.example", "Host: evil.example", "Sec-Fetch-Site: cross-site"]
    {
        let told = status(&["-H", head, approve]);
        assert!(["401", "403"].contains(&told.as_str()), "{head}: {told}");
    }
    for head in ["Origin: http://evil.example", "Host: evil.example"] {
        assert_eq!(status(&["-H", head, "-H", &bearer, infer]), "403", "{head}");
    }
}
