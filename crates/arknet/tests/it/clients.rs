//! The official clients, against a gateway that holds no model.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::network::{Network, TINY, text};

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Where packages are installed: kept between runs, outside the sources.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

fn check(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out
}

fn environment(command: &mut Command, network: &Network) {
    command
        .env("ARKNET_BASE_URL", format!("http://{}/v1", network.gateway.gateway()))
        .env("ARKNET_MODEL", TINY);
}

#[test]
fn the_python_client_of_openai() {
    let venv = packages().join("python");
    if !venv.join("bin/pytest").exists() {
        check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
        let requirements = clients().join("requirements.txt");
        check(Command::new(venv.join("bin/pip")).args(["install", "-q", "-r"]).arg(requirements));
    }
    let network = Network::start();
    let mut pytest = Command::new(venv.join("bin/pytest"));
    pytest.args(["-q", "-p", "no:cacheprovider", "test_openai.py"]).current_dir(clients());
    environment(&mut pytest, &network);
    let report = check(pytest.env("PYTHONDONTWRITEBYTECODE", "1"));
    assert!(report.contains(" passed"), "{report}");
}

#[test]
fn the_node_client_of_openai() {
    let directory = packages().join("node");
    std::fs::create_dir_all(&directory).unwrap();
    for name in ["package.json", "package-lock.json", ".npmrc", "openai.test.mjs"] {
        std::fs::copy(clients().join(name), directory.join(name)).unwrap();
    }
    if !directory.join("node_modules/openai").exists() {
        check(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory));
    }
    let network = Network::start();
    let mut node = Command::new("node");
    node.args(["--test", "openai.test.mjs"]).current_dir(&directory);
    environment(&mut node, &network);
    let report = check(&mut node);
    assert!(report.contains("# fail 0") || report.contains("fail 0"), "{report}");
}
