use std::fs;

use arknet_protocol::{Permissions, Policy, SharedModels, Who};
use arknet_types::{KeyPair, ModelName, NetworkId, Timestamp};

use super::*;

const DOCUMENT: &str = r#"{
  "peers": [
    {
      "node_id": "ark-neighbor-001",
      "public_key": "KEY_1",
      "name": "Dave's Ark",
      "approved_at": "2026-03-15T10:30:00Z",
      "permissions": {
        "can_request_inference": true,
        "can_pull_models": true,
        "models_shared": ["qwen3.5:35b", "llama3.1:8b"],
        "max_concurrent_requests": 2
      }
    },
    {
      "node_id": "ark-family-002",
      "public_key": "KEY_2",
      "name": "Mom's Ark",
      "approved_at": "2026-03-20T14:00:00Z",
      "permissions": {
        "can_request_inference": true,
        "can_pull_models": false,
        "models_shared": ["llama3.1:8b"],
        "max_concurrent_requests": 1
      }
    }
  ]
}
"#;

fn key(n: u8) -> PublicKey {
    KeyPair::from_seed(&[n; 32]).public()
}

fn document() -> String {
    DOCUMENT.replace("KEY_1", &key(1).to_string()).replace("KEY_2", &key(2).to_string())
}

fn gate() -> Gate {
    Gate::new(Policy {
        network: NetworkId::new("test").unwrap(),
        me: key(9),
        started_at: Timestamp(0),
        who: Who::Approved,
        requests_per_peer_max: 4,
    })
}

fn grant(n: u8, node_id: &str) -> Grant {
    Grant {
        node_id: NodeId::new(node_id).unwrap(),
        key: key(n),
        name: String::new(),
        approved_at: Timestamp(1_773_570_600_000),
        permissions: Permissions {
            can_request_inference: true,
            can_pull_models: false,
            models_shared: SharedModels::All,
            max_concurrent_requests: 1,
            requests_per_minute: Some(30),
            requests_per_day: None,
            tokens_per_minute: None,
            tokens_per_day: Some(100_000),
        },
    }
}

struct Fixture {
    _directory: tempfile::TempDir,
    path: PathBuf,
    approvals: Approvals,
}

impl Fixture {
    fn new(text: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("approved_peers.json");
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        let approvals = Approvals::open(path.clone(), gate());
        Self { _directory: directory, path, approvals }
    }

    fn look(&self) {
        self.approvals.look(&mut self.approvals.lock(), false);
    }

    fn names(&self) -> Vec<String> {
        self.approvals.grants().iter().map(|grant| grant.node_id.to_string()).collect()
    }
}

#[test]
fn the_file_of_the_document_is_read_and_written_as_it_stands() {
    let grants = document::read(document().as_bytes()).unwrap();
    let dave = grants.get(&key(1)).unwrap();
    assert_eq!((dave.node_id.as_str(), dave.name.as_str()), ("ark-neighbor-001", "Dave's Ark"));
    let models = ["qwen3.5:35b", "llama3.1:8b"].map(|name| ModelName::new(name).unwrap());
    assert_eq!(dave.permissions.models_shared, SharedModels::Only(models.into()));
    assert!(dave.permissions.can_pull_models && dave.permissions.max_concurrent_requests == 2);
    let written = String::from_utf8(document::write(&grants)).unwrap();
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let mut expected = value(&document());
    expected["peers"][0]["permissions"]["models_shared"] =
        serde_json::json!(["llama3.1:8b", "qwen3.5:35b"]);
    assert_eq!(value(&written), expected);
    assert_eq!(document::read(written.as_bytes()).unwrap(), grants);
}

#[test]
fn limits_and_the_star_are_written_and_read() {
    let mut grants = Grants::new();
    grants.insert(grant(3, "three")).unwrap();
    let text = document::write(&grants);
    assert_eq!(document::read(&text).unwrap(), grants);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\"*\"") && text.contains("\"requests_per_minute\": 30"), "{text}");
    assert!(!text.contains("tokens_per_minute"), "{text}");
}

#[test]
fn mistakes_are_refused_with_their_line() {
    let good = document();
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let key_2 = key(2).to_string();
    for (text, words, line) in [
        (String::new(), "EOF", 1),
        (good[..good.len() / 2].to_owned(), "EOF", 13),
        (replaced("\"name\"", "\"nmae\""), "unknown field `nmae`", 6),
        (replaced("\"peers\"", "\"friends\""), "unknown field `friends`", 2),
        (replaced("can_pull_models\": true", "can_pull_models\": \"yes\""), "invalid type", 10),
        (replaced("\"can_pull_models\": true,", ""), "missing field `can_pull_models`", 13),
        (replaced(&key_2, "WG_PUBLIC_KEY_HERE"), "public_key", 17),
        (replaced(&key_2, &key(1).to_string()), "twice", 27),
        (replaced("ark-family-002", "ark-neighbor-001"), "another peer is approved", 27),
        (replaced("ark-family-002", "two words"), "may not contain", 16),
        (replaced("2026-03-20T14:00:00Z", "yesterday"), "approved_at", 19),
        (replaced("[\"llama3.1:8b\"]", "[\"*\", \"llama3.1:8b\"]"), "stands alone", 23),
        (replaced("requests\": 1", "requests\": -1"), "invalid value", 24),
        (replaced("\"max_con", "\"requests_per_hour\": 1, \"max_con"), "requests_per_hour", 12),
        (replaced("Mom's", "Mom\\n's"), "on one line", 18),
    ] {
        let error = document::read(text.as_bytes()).unwrap_err();
        let said = error.to_string();
        assert!(said.contains(words), "{words}: {said}");
        assert_eq!(error.line(), line, "{words}: {said}");
        assert!(line == 1 || said.contains(&format!("line {line} column")), "{said}");
    }
}

#[test]
fn an_edit_by_hand_counts_and_a_broken_one_changes_nothing() {
    let fixture = Fixture::new(Some(&document()));
    assert_eq!(fixture.approvals.grants().len(), 2);
    let narrower =
        document().replace("\"max_concurrent_requests\": 2", "\"max_concurrent_requests\": 3");
    fs::write(&fixture.path, narrower).unwrap();
    fixture.look();
    let dave = fixture.approvals.grants().get(&key(1)).cloned().unwrap();
    assert_eq!(dave.permissions.max_concurrent_requests, 3);
    fs::write(&fixture.path, document().replace("true", "maybe")).unwrap();
    fixture.look();
    let problem = fixture.approvals.problem().unwrap();
    assert!(problem.contains("line 9 column"), "{problem}");
    assert_eq!(fixture.approvals.grants().len(), 2, "what counted before still counts");
    fs::write(&fixture.path, "{\"peers\": []}").unwrap();
    fixture.look();
    assert_eq!((fixture.approvals.grants().len(), fixture.approvals.problem()), (0, None));
}

#[test]
fn a_file_that_is_gone_for_a_moment_revokes_nobody() {
    let fixture = Fixture::new(Some(&document()));
    fs::remove_file(&fixture.path).unwrap();
    fixture.look();
    assert_eq!(fixture.approvals.grants().len(), 2, "an editor may be at work");
    fs::write(&fixture.path, document()).unwrap();
    fixture.look();
    fs::remove_file(&fixture.path).unwrap();
    fixture.look();
    fixture.look();
    assert_eq!(fixture.approvals.grants().len(), 0, "it was really taken away");
}

#[test]
fn a_node_with_a_broken_file_approves_nobody_and_says_so() {
    let fixture = Fixture::new(Some("{"));
    assert_eq!(fixture.approvals.grants().len(), 0);
    assert!(fixture.approvals.problem().is_some());
}

#[tokio::test]
async fn what_is_approved_is_in_the_file_and_what_is_revoked_is_not() {
    let fixture = Fixture::new(None);
    fixture.approvals.approve(grant(3, "three")).await.unwrap();
    assert_eq!(fixture.names(), ["three"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&fixture.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let again = Approvals::open(fixture.path.clone(), gate());
    assert_eq!(*again.grants(), *fixture.approvals.grants());
    let taken = fixture.approvals.approve(grant(4, "three")).await.unwrap_err();
    assert!(matches!(taken, ApprovalError::Grant(GrantError::NodeIdTaken)), "{taken}");
    let changed = Grant { approved_at: Timestamp(5), ..grant(3, "three") };
    let changed = fixture.approvals.approve(changed).await.unwrap();
    assert_eq!(changed.approved_at, grant(3, "three").approved_at, "it was approved then");
    let (gone, cut) = fixture.approvals.revoke(Whom::Named(changed.node_id)).await.unwrap();
    assert_eq!((gone.key, cut, fixture.names().len()), (key(3), 0, 0));
    let unknown = fixture.approvals.revoke(Whom::Key(key(3))).await.unwrap_err();
    assert!(matches!(unknown, ApprovalError::Unknown));
    let names = fs::read_dir(fixture.path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 1, "no draft stays behind");
}

#[tokio::test]
async fn a_broken_file_is_never_written_over_but_keeps_nobody_in() {
    let fixture = Fixture::new(Some(&document()));
    let broken = document().replace("true", "maybe");
    fs::write(&fixture.path, &broken).unwrap();
    let error = fixture.approvals.approve(grant(3, "three")).await.unwrap_err();
    assert!(error.to_string().contains("line 9"), "{error}");
    let error = fixture.approvals.revoke(Whom::Key(key(1))).await.unwrap_err();
    assert!(matches!(error, ApprovalError::Broken { .. }), "{error}");
    assert_eq!(fs::read_to_string(&fixture.path).unwrap(), broken);
    assert_eq!(fixture.names(), ["ark-family-002"], "revoked all the same");
}

#[test]
fn an_edit_in_the_same_moment_is_not_lost() {
    let fixture = Fixture::new(Some("{\"peers\": []}"));
    let path = &fixture.path;
    let mut edits = vec![document(), "{\"peers\": []}".into(), document()].into_iter();
    // Each edit comes after the file was read and before it is written: in place, or as a new file
    // that takes its place, as editors do.
    let (_, grants) = file::rewrite(path, |grants| {
        if let Some(edit) = edits.next() {
            if edits.len() == 1 {
                let other = path.with_extension("swp");
                fs::write(&other, edit).unwrap();
                fs::rename(other, path).unwrap();
            } else {
                fs::write(path, edit).unwrap();
            }
        }
        grants.insert(grant(3, "three")).map_err(ApprovalError::from)
    })
    .unwrap();
    let mut names: Vec<_> = grants.iter().map(|grant| grant.node_id.to_string()).collect();
    names.sort();
    assert_eq!(names, ["ark-family-002", "ark-neighbor-001", "three"]);
    assert_eq!(document::read(&fs::read(path).unwrap()).unwrap(), grants);
}

#[test]
fn an_edit_that_cannot_be_read_is_put_aside() {
    let fixture = Fixture::new(Some("{\"peers\": []}"));
    let path = &fixture.path;
    file::rewrite(path, |grants| {
        fs::write(path, "{\"peers\": [half").unwrap();
        grants.insert(grant(3, "three")).map_err(ApprovalError::from)
    })
    .unwrap();
    let aside = fs::read_to_string(path.with_extension("edited.json")).unwrap();
    assert_eq!(aside, "{\"peers\": [half");
    assert_eq!(document::read(&fs::read(path).unwrap()).unwrap().len(), 1);
}
