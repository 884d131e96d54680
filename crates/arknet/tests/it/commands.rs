use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use crate::network::{arknet, json_of, run, text};

#[test]
fn a_wallet_is_made_once_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let missing = run(home, &["wallet", "address"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("arknet wallet create"));
    let made = json_of(home, &["wallet", "create"]);
    let path = home.join("wallet.key");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (64, 0o600));
    let address = text(&run(home, &["wallet", "address"]).stdout);
    assert_eq!(address.trim(), made["address"].as_str().unwrap());
    assert_eq!((address.trim().len(), &address[..2]), (42, "0x"));
    let again = run(home, &["wallet", "create"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("never overwritten"));

    let mut known = [0x42_u8; 64];
    let public = "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12";
    for (at, byte) in known[32..].iter_mut().enumerate() {
        *byte = u8::from_str_radix(&public[2 * at..2 * at + 2], 16).unwrap();
    }
    fs::write(&path, known).unwrap();
    let address = text(&run(home, &["wallet", "address"]).stdout);
    assert_eq!(address.trim(), "0xfef6dfa48b073924c436539010d7812fbe50096a");
}

#[test]
fn models_are_added_listed_verified_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    let added = json_of(home, &["model", "add", file, "--name", "a/b"]);
    assert_eq!(added["name"], "a/b");
    assert_eq!(json_of(home, &["model", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(json_of(home, &["model", "verify"])[0]["digest"], added["digest"]);
    let blob = fs::read_dir(home.join("models/blobs")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&blob).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let damaged = run(home, &["model", "verify", "a/b"]);
    assert!(!damaged.status.success() && text(&damaged.stderr).contains("damaged"));
    json_of(home, &["model", "remove", "a/b"]);
    let unknown = run(home, &["model", "remove", "a/b"]);
    assert!(text(&unknown.stderr).contains("no model is called a/b"));
    let garbage = home.join("garbage.gguf");
    fs::write(&garbage, "GGUF").unwrap();
    let refused = run(home, &["model", "add", garbage.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn the_configuration_is_checked_and_shown_with_origins() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    json_of(home, &["init"]);
    assert_eq!(json_of(home, &["config", "check"])["valid"], true);
    fs::write(home.join("arknet.toml"), "shutdown_grace_ms = 5\n").unwrap();
    let shown = json_of(home, &["config", "show"]);
    let value = |key: &str| {
        let rows = shown.as_array().unwrap();
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        (row["value"].clone(), row["origin"].clone())
    };
    assert_eq!(value("shutdown_grace_ms"), (5.into(), "file".into()));
    assert_eq!(value("gateway.listen"), ("127.0.0.1:4000".into(), "default".into()));
    fs::write(home.join("arknet.toml"), "[compute]\nallow_peers = []\n").unwrap();
    let refused = run(home, &["config", "check"]);
    assert!(text(&refused.stderr).contains("arknet peers approve"), "{}", text(&refused.stderr));
    fs::write(home.join("arknet.toml"), "colour = \"red\"\n").unwrap();
    let refused = run(home, &["start"]);
    assert!(text(&refused.stderr).contains("unknown field `colour`"), "{}", text(&refused.stderr));
}

#[test]
fn what_is_wrong_on_the_command_line_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    assert_eq!(run(home, &["dance"]).status.code(), Some(2));
    assert_eq!(run(home, &["start", "--role", "king"]).status.code(), Some(2));
    let none = run(home, &["status"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("arknet start"));
    let start = ["start", "--role", "gateway", "--admin", "127.0.0.1:0"];
    let bad_seed = run(home, &[&start[..], &["--seed", "nonsense"]].concat());
    assert!(text(&bad_seed.stderr).contains("nonsense"), "{}", text(&bad_seed.stderr));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(home, &["completions", shell]);
        assert!(text(&script.stdout).contains("arknet"), "{shell}");
    }
    let help = text(&arknet(Path::new("/")).arg("--help").output().unwrap().stdout);
    for command in [
        "ask",
        "start",
        "wallet",
        "model",
        "key",
        "upstream",
        "bench",
        "peers",
        "status",
        "config",
        "completions",
        "chain",
        "channel",
        "escrow",
        "governance",
        "genesis",
        "tee",
        "validator",
    ] {
        assert!(help.contains(command), "{command}");
    }
}
