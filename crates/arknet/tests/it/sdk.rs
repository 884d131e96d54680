//! The programs of the SDK's document, as they stand in its examples.

use std::{path::Path, process::Command};

use crate::network::{Network, text};

fn example(name: &str) -> Command {
    let directory = Path::new(env!("CARGO_BIN_EXE_arknet")).parent().unwrap().join("examples");
    let program = directory.join(name);
    assert!(program.exists(), "{name} is built by: cargo build -p arknet-sdk --examples");
    Command::new(program)
}

#[test]
fn the_programs_of_the_document_run_with_only_a_seed_configured() {
    let network = Network::start();
    let home = network.application_home("sdk");
    for round in 0..2 {
        let connected = example("connect").env("ARKNET_HOME", &home).output().unwrap();
        assert!(connected.status.success(), "{round}: {}", text(&connected.stderr));
        assert!(text(&connected.stdout).starts_with("wallet 0x"));
    }
    let wallets = std::fs::read_dir(&home).unwrap();
    let names = wallets.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.ends_with(".key")).count(), 2, "no wallet was lost");

    let answered = example("infer").env("ARKNET_HOME", &home).output().unwrap();
    assert!(answered.status.success(), "{}", text(&answered.stderr));
    assert!(!text(&answered.stdout).trim().is_empty());
    assert!(text(&answered.stderr).contains(network.compute.peer()));

    let streamed = example("stream").env("ARKNET_HOME", &home).output().unwrap();
    assert!(streamed.status.success(), "{}", text(&streamed.stderr));
    assert!(!text(&streamed.stdout).trim().is_empty());

    let nowhere = tempfile::tempdir().unwrap();
    let lost = example("infer").env("ARKNET_HOME", nowhere.path()).output().unwrap();
    assert!(!lost.status.success() && text(&lost.stderr).contains("NoSeeds"));
}
