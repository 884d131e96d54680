//! The ledger by the command line, against the real chain RPC over a real store.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Output,
};

use arknet_chain::{Channel, Genesis, Hash, Key, Model, Param, Params};
use arknet_sdk::keyfile;
use arknet_types::{Atoms, ModelDigest};
use serde_json::{Value, json};

use crate::{
    network::{arknet, text},
    world::{ARK, HOUR, World, address, consensus_key, genesis, wallet},
};

/// A chain, and directories of people who use it.
struct People {
    world: World,
    homes: tempfile::TempDir,
}

impl People {
    fn new() -> Self {
        Self { world: World::new(), homes: tempfile::tempdir().unwrap() }
    }

    /// The directory of account `n`: its wallet, and what the chain began with.
    fn home(&self, n: u8) -> PathBuf {
        let home = self.homes.path().join(n.to_string());
        if !home.exists() {
            keyfile::create(&home.join("wallet.key"), &wallet(n)).unwrap();
            fs::write(home.join("genesis.json"), self.world.genesis.to_json()).unwrap();
        }
        home
    }

    fn run(&self, n: u8, arguments: &[&str]) -> Output {
        let mut program = arknet(&self.home(n));
        program.env("ARKNET_RPC", self.world.url()).args(arguments).output().unwrap()
    }

    /// What a command says to a program.
    fn ask(&self, n: u8, arguments: &[&str]) -> Value {
        let output = self.run(n, &[&["--json"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command orders without asking.
    fn order(&self, n: u8, arguments: &[&str]) -> Value {
        let done = self.ask(n, &[arguments, &["--yes"]].concat());
        assert_eq!(done["state"], "committed", "{done}");
        done
    }

    /// The exit status of a command that is refused, and what it says to a program.
    fn refused(&self, n: u8, arguments: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(n, &[&["--json"], arguments].concat());
        let error: Value = serde_json::from_slice(&output.stderr).unwrap();
        (output.status.code(), error["error"].clone())
    }

    fn channel(&self, id: &Value) -> Option<Channel> {
        let id: Hash = serde_json::from_value(id.clone()).unwrap();
        self.world.read(&Key::Channel(id))
    }
}

fn on_home(home: &Path, url: &str, arguments: &[&str]) -> Output {
    arknet(home).env("ARKNET_RPC", url).args(arguments).output().unwrap()
}

#[test]
fn money_is_sent_and_shown_and_what_is_missing_is_said() {
    let people = People::new();
    let to = address(6).to_string();
    let send = ["wallet", "send", "--to", &to, "--amount", "1.5ark"];
    let alone = people.run(5, &send);
    assert_eq!(alone.status.code(), Some(1));
    assert!(text(&alone.stderr).contains("give --yes"), "{}", text(&alone.stderr));
    let sent = people.order(5, &send);
    assert_eq!((&sent["fee"], &sent["amount"]), (&json!("21000"), &json!("1500000000")));
    let has = people.ask(6, &["wallet", "balance"]);
    assert_eq!((&has["balance"], &has["verified"]), (&json!("1000001500000000"), &json!(true)));
    // Another's, by a person.
    let shown = people.run(6, &["wallet", "balance", &address(5).to_string()]);
    assert_eq!(text(&shown.stdout), format!("{}\n999998.499979 ARK\n", address(5)));
    let tx = people.ask(6, &["chain", "tx", sent["transaction"].as_str().unwrap()]);
    assert_eq!((&tx["state"], &tx["verified"]), (&json!("committed"), &json!(true)));
    assert_eq!((&tx["outcome"]["fee"], &tx["outcome"]["done"]), (&json!("21000"), &json!(true)));
    let id = sent["transaction"].as_str().unwrap();
    let shown = text(&people.run(6, &["chain", "tx", id]).stdout);
    assert!(
        shown.contains("\nproved       yes\n") || shown.ends_with("proved       yes\n"),
        "{shown}"
    );
    let believed = people.ask(6, &["chain", "tx", id, "--danger-trust-rpc"]);
    assert_eq!(believed["verified"], false);
    let all = ["wallet", "send", "--to", &to, "--amount", "999998.499979ark", "--yes"];
    let (status, error) = people.refused(5, &all);
    assert_eq!((status, &error["code"]), (Some(3), &json!("insufficient_balance")));
    assert_eq!(error["balance"], "999998499979000");
    assert_eq!(error["needed"], "999998500000000");
    let words = text(&people.run(5, &all).stderr);
    assert!(words.contains("999998499979000") && words.contains("999998500000000"), "{words}");
    let more = ["wallet", "send", "--to", &to, "--amount", "1", "--yes", "--no-wait"];
    assert_eq!(people.ask(5, &more)["state"], "waiting");
    assert_eq!(people.ask(5, &["wallet", "balance"])["nonce"], 2);
    for bad in ["0", "1.5", "-1", "1btc"] {
        let amount = ["wallet", "send", "--to", &to, "--amount", bad, "--yes"];
        assert_eq!(people.run(5, &amount).status.code(), Some(2), "{bad}");
    }
}

#[test]
fn who_sits_at_a_terminal_is_asked_first() {
    let people = People::new();
    let answer = |word: &str| {
        let spawn =
            "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
        let mut child = std::process::Command::new("python3")
            .args(["-c", spawn, env!("CARGO_BIN_EXE_arknet"), "--data-dir"])
            .arg(people.home(5))
            .args(["wallet", "send", "--to", &address(6).to_string(), "--amount", "2ark"])
            .env("ARKNET_RPC", people.world.url())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(word.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), text(&output.stdout))
    };
    let (done, said) = answer("n\n");
    assert!(!done && said.contains("nothing was sent"), "{said}");
    let question =
        format!("Send 2 ARK to {}. The fee is 0.000021 ARK to 0.000063 ARK; ", address(6));
    assert!(said.contains(&question) && said.contains("has 1000000 ARK. Go on? [y/N]"), "{said}");
    assert_eq!(people.world.account(5).nonce, 0);
    let (done, said) = answer("y\n");
    assert!(done && said.contains("sent 2 ARK"), "{said}");
    assert_eq!(people.world.account(5).nonce, 1);
}

#[test]
fn stake_goes_in_moves_and_comes_back_as_the_document_shows_it() {
    let people = People::new();
    let (role, amount) = (["--role", "compute"], ["--amount", "50000000000000"]);
    let with = |command: &'static str, more: &[&str]| {
        [&["wallet", command], &role[..], &amount[..], more].concat().join(" ")
    };
    let order = |n: u8, line: String| people.order(n, &line.split(' ').collect::<Vec<_>>());
    order(5, with("stake", &[]));
    order(6, with("stake", &[]));
    let has = people.ask(5, &["wallet", "balance"]);
    assert_eq!(has["stakes"][0]["amount"], "50000000000000");
    let other = address(6).to_string();
    let moved = order(5, with("redelegate", &["--to-node", &other]));
    assert_eq!(moved["number"], 1);
    let shown = text(&people.run(5, &["wallet", "balance"]).stdout);
    assert!(shown.contains(&format!("then behind {other}")), "{shown}");
    people.world.later(HOUR);
    let has = people.ask(5, &["wallet", "balance"]);
    assert_eq!(has["stakes"][0]["node"], json!(other));
    let taken = order(6, with("unstake", &[]));
    let fetch = ["wallet", "complete-unbond", "--role", "compute", "--unbond-id", "1"];
    assert_eq!(taken["number"], 1);
    let (status, early) = people.refused(6, &fetch);
    assert_eq!((status, &early["code"]), (Some(3), &json!("too_early")));
    assert_eq!((&early["fee"], early["height"].is_u64()), (&json!("100000"), true));
    people.world.later(HOUR);
    people.order(6, &fetch);
    let fees = 2 * 21_000;
    assert!(people.world.account(6).balance.0 > 1_000_000 * ARK - 10 * fees);
    let (_, unknown) = people.refused(6, &["wallet", "unjail", "--role", "worker"]);
    assert_eq!(unknown["code"], "unknown_node");
}

#[test]
fn a_validator_joins_by_stake_and_another_leaves() {
    let people = People::new();
    let count = || {
        let set = people.ask(9, &["chain", "validators"]);
        assert_eq!(set["verified"], true);
        set["validators"].as_array().unwrap().len()
    };
    let stake = ["wallet", "stake", "--role", "validator", "--amount", "200000ark"];
    let early = people.run(5, &[&stake[..], &["--yes"]].concat());
    assert!(text(&early.stderr).contains("arknet validator key"), "{}", text(&early.stderr));
    // The chain in this test signs with keys that it knows.
    keyfile::create(&people.home(5).join("consensus.key"), &consensus_key(5)).unwrap();
    let shown = people.ask(5, &["validator", "key"]);
    assert_eq!(shown["operator"], json!(address(5)));
    people.order(5, &stake);
    assert_eq!(count(), 5);
    people.order(4, &["wallet", "unstake", "--role", "validator", "--amount", "200000ark"]);
    assert_eq!(count(), 4);
    people.order(3, &["wallet", "retire", "--role", "validator"]);
    assert_eq!(count(), 3);
    people.order(3, &["wallet", "stake", "--role", "validator", "--amount", "1ark"]);
    assert_eq!(count(), 4);
    let old = people.ask(9, &["chain", "validators", "--height", "2"]);
    assert_eq!((&old["verified"], old["validators"].as_array().unwrap().len()), (&json!(true), 4));
}

#[test]
fn a_vote_changes_a_parameter() {
    let people = People::new();
    let body = people.homes.path().join("proposal.md");
    fs::write(&body, "because").unwrap();
    let body = format!("@{}", body.display());
    let propose = ["governance", "propose", "--title", "More", "--body", &body];
    let made = people.order(5, &[&propose[..], &["--param", "validators_max=7"]].concat());
    assert_eq!(made["number"], 1);
    let text_only = people.order(5, &propose);
    assert_eq!(text_only["number"], 2);
    let vote =
        |n, choice| people.ask(n, &["governance", "vote", "--proposal", "1", "--choice", choice]);
    people.world.later(2_000);
    for n in 1..=3 {
        vote(n, "no");
        assert_eq!(vote(n, "yes")["choice"], "yes");
    }
    people.world.later(HOUR);
    people.world.block();
    let shown = people.ask(9, &["governance", "show", "--proposal", "1"]);
    assert_eq!((&shown["stage"], &shown["text"]), (&json!("passed"), &json!("because")));
    let params = people.ask(9, &["chain", "params", "validators_max"]);
    assert_eq!(params["params"], json!({ "validators_max": 7 }));
    let line = people.run(9, &["chain", "params", "validators_max"]);
    assert_eq!(text(&line.stdout), "validators_max  7\n");
    let list = people.ask(9, &["governance", "list"]);
    let ids: Vec<&Value> = list.as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, [2, 1]);
    let late = ["governance", "vote", "--proposal", "1", "--choice", "no"];
    assert_eq!(people.refused(1, &late).1["code"], "over");
    let digest = "1".repeat(64);
    let two = [&propose[..], &["--validators-max", "9", "--reject-model", &digest]].concat();
    let both = people.run(5, &[&two[..], &["--yes"]].concat());
    assert!(text(&both.stderr).contains("one thing"), "{}", text(&both.stderr));
    let params: Params = people.world.read(&Key::Params).unwrap();
    assert_eq!(params.of(Param::ValidatorsMax), 7);
}

#[test]
fn a_channel_is_opened_paid_from_and_closed_in_every_way() {
    let people = People::new();
    let payee = address(6).to_string();
    let open = || {
        let open =
            ["channel", "open", "--payee", &payee, "--deposit", "10ark", "--challenge", "1h"];
        people.order(5, &open)["channel"].clone()
    };
    let before = people.world.account(6).balance;
    let first = open();
    let id = first.as_str().unwrap();
    people.order(5, &["channel", "top-up", "--channel", id, "--amount", "1ark"]);
    let list = people.ask(6, &["channel", "list"]);
    assert_eq!((&list[0]["id"], &list[0]["deposit"]), (&first, &json!("11000000000")));
    let voucher = |total: &str| {
        let made = people.ask(5, &["channel", "pay", "--channel", id, "--total", total]);
        made["voucher"].as_str().unwrap().to_owned()
    };
    // What is fetched and leaves the channel open need not be asked for.
    people.ask(6, &["channel", "settle", "--voucher", &voucher("2ark")]);
    assert_eq!(people.channel(&first).unwrap().settled, Atoms(2 * ARK));
    let too_much = people.run(5, &["channel", "pay", "--channel", id, "--total", "12ark"]);
    assert!(!too_much.status.success());
    let stranger = people.run(7, &["channel", "settle", "--voucher", &voucher("3ark")]);
    assert!(text(&stranger.stderr).contains("alone can settle"), "{}", text(&stranger.stderr));
    people.order(6, &["channel", "settle", "--voucher", &voucher("4ark"), "--close"]);
    assert_eq!(people.channel(&first), None);
    let earned = people.world.account(6).balance.0 - before.0;
    assert!((3 * ARK..4 * ARK).contains(&earned), "less what is burned and fees: {earned}");
    // Together.
    let second = open();
    let id = second.as_str().unwrap();
    let agreed = people.ask(6, &["channel", "agree", "--channel", id, "--total", "1ark"]);
    let agreement = agreed["agreement"].as_str().unwrap();
    people.order(5, &["channel", "close", "--channel", id, "--agreement", agreement]);
    assert_eq!(people.channel(&second), None);
    // Alone.
    let third = open();
    let close = ["channel", "close", "--channel", third.as_str().unwrap()];
    people.order(5, &close);
    let early = people.run(5, &[&close[..], &["--yes"]].concat());
    assert!(text(&early.stderr).contains("call this again"), "{}", text(&early.stderr));
    people.world.later(HOUR);
    people.order(5, &close);
    assert_eq!(people.channel(&third), None);
    let none = people.run(5, &["channel", "list"]);
    assert_eq!(text(&none.stdout), "no open channels\n");
}

#[test]
fn money_for_a_job_is_released_claimed_or_taken_back() {
    let people = People::new();
    let (payer, payee) = (address(5).to_string(), address(6).to_string());
    let lock = || {
        let lock = ["escrow", "lock", "--payee", &payee, "--amount", "10ark", "--timeout", "1h"];
        people.order(5, &lock)["job"].as_str().unwrap().to_owned()
    };
    let balance = |n| people.world.account(n).balance.0;
    let fails = |n, arguments: &[&str], words: &str| {
        let said = people.run(n, &[arguments, &["--yes"]].concat());
        assert!(text(&said.stderr).contains(words), "{arguments:?}: {}", text(&said.stderr));
    };
    // Released by who pays.
    let (first, before) = (lock(), balance(6));
    let shown = people.ask(6, &["escrow", "show", "--payer", &payer, "--job", &first]);
    assert_eq!((&shown["payee"], &shown["amount"]), (&json!(payee), &json!("10000000000")));
    fails(5, &["escrow", "release", "--job", &first, "--amount", "11ark"], "more than the 10 ARK");
    fails(5, &["escrow", "refund", "--job", &first], "it can be taken back");
    people.order(5, &["escrow", "release", "--job", &first, "--amount", "2ark"]);
    assert_eq!(balance(6) - before, 1_940_000_000, "less what is burned");
    fails(5, &["escrow", "release", "--job", &first, "--amount", "2ark"], "has locked nothing");
    // Claimed by who is paid.
    let (second, before) = (lock(), balance(6));
    let signed = people.ask(5, &["escrow", "pay", "--job", &second, "--amount", "4ark"]);
    let voucher = signed["voucher"].as_str().unwrap();
    let claim = ["escrow", "claim", "--payer", &payer, "--job", &second, "--voucher", voucher];
    fails(7, &claim, "who alone can claim it");
    let other = lock();
    let wrong = ["escrow", "claim", "--payer", &payer, "--job", &other, "--voucher", voucher];
    fails(6, &wrong, "about something else");
    people.order(6, &claim);
    let earned = balance(6) - before;
    assert!((3 * ARK..4 * ARK).contains(&earned), "less what is burned and the fee: {earned}");
    // Taken back when its time is over.
    people.world.later(HOUR);
    let before = balance(5);
    people.order(5, &["escrow", "refund", "--job", &other]);
    assert!(balance(5) - before > 9 * ARK);
    let gone = people.run(5, &["escrow", "show", "--job", &other]);
    assert!(text(&gone.stderr).contains("has locked nothing"), "{}", text(&gone.stderr));
}

#[test]
fn models_and_enclaves_are_registered() {
    let people = People::new();
    let digest = ModelDigest([7; 32]);
    let named = digest.to_string();
    let facts = ["--licence", "Apache-2.0", "--digest", &named, "--size", "9"];
    people.order(
        5,
        &[&["model", "register", "a/b"], &facts[..], &["--mirror", "https://x"]].concat(),
    );
    let model: Model = people.world.read(&Key::Model(digest)).unwrap();
    assert_eq!(
        (model.deposit, model.facts.mirrors),
        (Atoms(10_000 * ARK), vec!["https://x".into()])
    );
    people.order(5, &["model", "deregister", &named]);
    assert!(people.world.read::<Model>(&Key::Model(digest)).is_none());
    let missing = people.run(5, &["model", "register", "c/d", "--licence", "MIT", "--yes"]);
    assert!(text(&missing.stderr).contains("--digest"), "{}", text(&missing.stderr));

    let made = people.ask(5, &["tee", "keygen"]);
    let expected = format!(
        "{}{}{}",
        made["key"].as_str().unwrap(),
        &address(5).to_string()[2..],
        "00".repeat(12)
    );
    assert_eq!(made["report_data"], json!(expected));
    let again = people.run(5, &["tee", "keygen"]);
    assert!(text(&again.stderr).contains("never overwritten"));
    let file = people.homes.path().join("quote");
    fs::write(&file, "no quote").unwrap();
    let file = file.display().to_string();
    let register =
        ["tee", "register", "--platform", "tdx", "--quote", &file, "--collateral", &file];
    assert_eq!(people.refused(5, &register).1["code"], "quote");
}

#[test]
fn the_chain_is_shown_and_checked() {
    let people = People::new();
    let status = people.ask(5, &["chain", "status"]);
    assert_eq!((&status["height"], &status["verified"]["height"]), (&json!(1), &json!(1)));
    assert_eq!(status["verified"]["id"], status["block"]);
    people.world.block();
    let latest = people.ask(5, &["chain", "block"]);
    assert_eq!((&latest["height"], &latest["verified"]), (&json!(2), &json!(true)));
    let parent = people.ask(5, &["chain", "block", latest["parent"].as_str().unwrap()]);
    assert_eq!((&parent["height"], &parent["verified"]), (&json!(1), &json!(true)));
    let shown = text(&people.run(5, &["chain", "block", "2"]).stdout);
    let first = format!("block      2:{}\n", latest["id"].as_str().unwrap());
    assert!(shown.starts_with(&first) && shown.contains("\nchecked    yes\n"), "{shown}");
    assert_eq!(
        people.refused(5, &["chain", "block", "9"]),
        (
            Some(3),
            json!({
                "code": "unknown_block",
                "message": "there is no block 9; the last one is 2 (unknown_block)",
            })
        )
    );
    let trusted = format!("2:{}", latest["id"].as_str().unwrap());
    assert_eq!(people.ask(5, &["chain", "trust", &trusted])["height"], 2);
    let wrong = format!("1:{}", latest["id"].as_str().unwrap());
    assert_eq!(people.refused(5, &["chain", "trust", &wrong]).1["code"], "not_the_trusted_block");
}

#[test]
fn nothing_is_believed_without_the_chains_beginning_unless_that_is_said() {
    let people = People::new();
    let (home, url) = (tempfile::tempdir().unwrap(), people.world.url());
    keyfile::create(&home.path().join("wallet.key"), &wallet(5)).unwrap();
    let balance = ["--json", "wallet", "balance"];
    let bare = on_home(home.path(), &url, &balance);
    assert!(text(&bare.stderr).contains("genesis.json"), "{}", text(&bare.stderr));
    let believed = on_home(home.path(), &url, &[&balance[..], &["--danger-trust-rpc"]].concat());
    let believed: Value = serde_json::from_slice(&believed.stdout).unwrap();
    assert_eq!(believed["verified"], false);
    // Another chain's beginning, with validators of its own.
    let mut other = genesis(6);
    other.validators[0].key = consensus_key(9).public();
    let file = home.path().join("other.json");
    fs::write(&file, other.to_json()).unwrap();
    let other = ["--genesis", file.to_str().unwrap()];
    let refused = on_home(home.path(), &url, &[&balance[..], &other[..]].concat());
    let error: Value = serde_json::from_slice(&refused.stderr).unwrap();
    assert_eq!(error["error"]["code"], "stale_validators");
    let nobody = on_home(
        home.path(),
        "http://127.0.0.1:1",
        &[&balance[..], &["--danger-trust-rpc"]].concat(),
    );
    assert!(text(&nobody.stderr).contains("does not answer"), "{}", text(&nobody.stderr));
}

#[test]
fn a_chain_of_ones_own_begins_with_a_file() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| on_home(home.path(), "http://127.0.0.1:1", arguments);
    let new = ["genesis", "new", "--network", "my-chain-1"];
    assert!(text(&run(&new).stderr).contains("arknet wallet create"));
    assert!(run(&["wallet", "create"]).status.success());
    let key = text(&run(&["validator", "key"]).stdout);
    let other = format!(
        "{}:{}:7",
        address(2),
        "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"
    );
    let rich = format!("{}=5ark", address(3));
    let more = [
        "--validator",
        key.trim(),
        "--validator",
        &other,
        "--param",
        "validators_max=7",
        "--danger-allocation",
        &rich,
    ];
    let made = run(&[&["--json"], &new[..], &more[..]].concat());
    assert!(made.status.success(), "{}", text(&made.stderr));
    let genesis =
        Genesis::parse(&fs::read_to_string(home.path().join("genesis.json")).unwrap()).unwrap();
    assert_eq!((genesis.validators.len(), genesis.validators[1].weight), (2, 7));
    assert_eq!(genesis.params.of(Param::ValidatorsMax), 7);
    assert_eq!(genesis.allocations[&address(3)], Atoms(5 * ARK));
    let report: Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(report["id"], json!(genesis.id()));
    assert!(text(&run(&new).stderr).contains("never overwritten"));
    let twice = ["--validator", key.trim(), "--validator", key.trim(), "--file", "/nowhere"];
    assert!(!run(&[&new[..], &twice[..]].concat()).status.success());
}
