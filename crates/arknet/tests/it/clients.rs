//! The official clients, with a model of the node itself, one of another peer, and those of services
//! of each kind.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use crate::network::{Network, Node, TINY, flags, json_of, text, wait_for_model};

const SHIPPED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");

/// Needs a model that takes pictures.
const PICTURES: &str = "test_pictures.py";

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients")
}

/// Where packages are installed: kept between runs, outside the sources.
fn packages() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients")
}

pub(crate) fn check(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{out}\n{err}");
    out
}

/// The environment of Python with the clients of `requirements.txt`, made anew when that changes.
fn python() -> &'static Path {
    static VENV: OnceLock<PathBuf> = OnceLock::new();
    VENV.get_or_init(|| {
        let venv = packages().join("python");
        let wanted = fs::read(clients().join("requirements.txt")).unwrap();
        let mark = venv.join("installed.txt");
        if fs::read(&mark).ok() != Some(wanted.clone()) {
            check(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv));
            let mut pip = Command::new(venv.join("bin/pip"));
            pip.args(["install", "-q", "--no-deps", "-r"]).arg(clients().join("requirements.txt"));
            check(&mut pip);
            fs::write(mark, wanted).unwrap();
        }
        venv
    })
}

/// The directory with the packages of Node.js, made anew when they change.
fn javascript() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| node_packages(&clients(), "node"))
}

/// Copies the sources of a suite to where its packages lie, and installs those.
pub(crate) fn node_packages(sources: &Path, name: &str) -> PathBuf {
    let directory = packages().join(name);
    fs::create_dir_all(&directory).unwrap();
    let lock = fs::read(sources.join("package-lock.json")).unwrap();
    let mark = directory.join("installed.json");
    for source in fs::read_dir(sources).unwrap() {
        let source = source.unwrap();
        if source.file_type().unwrap().is_file() {
            fs::copy(source.path(), directory.join(source.file_name())).unwrap();
        }
    }
    if fs::read(&mark).ok().as_ref() != Some(&lock) {
        let mut npm = Command::new("npm");
        check(npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory));
        fs::write(mark, lock).unwrap();
    }
    directory
}

/// What the suites are told of a gateway.
pub(crate) struct Suite {
    gateway: SocketAddr,
    key: Option<String>,
    /// What is not there: the suites ask for the documented refusal.
    skip: &'static str,
    /// What is taken but not kept to by a service behind the gateway.
    loose: &'static str,
}

impl Suite {
    pub(crate) fn new(gateway: SocketAddr) -> Self {
        Self { gateway, key: None, skip: "", loose: "" }
    }

    fn environment(&self, command: &mut Command) {
        command
            .env("ARKNET_BASE_URL", format!("http://{}/v1", self.gateway))
            .env("ARKNET_MODEL", TINY)
            .env("ARKNET_SKIP", self.skip)
            .env("ARKNET_LOOSE", self.loose)
            // Both would look for a proxy and for news.
            .env("NO_PROXY", "127.0.0.1")
            .env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
        if let Some(key) = &self.key {
            command.env("ARKNET_KEYED", "1").env("ARKNET_API_KEY", key);
        }
    }

    fn in_python(&self) {
        self.pytest(&[".", "--ignore", PICTURES], &[]);
    }

    /// The suite of pictures, with a model that takes them.
    pub(crate) fn with_pictures(&self, model: &str) {
        self.pytest(&[PICTURES], &[("ARKNET_PICTURE_MODEL", model)]);
    }

    fn pytest(&self, tests: &[&str], more: &[(&str, &str)]) {
        let mut pytest = Command::new(python().join("bin/pytest"));
        pytest.args(["-q", "-p", "no:cacheprovider"]).args(tests).current_dir(clients());
        self.environment(&mut pytest);
        pytest.envs(more.iter().copied());
        let report = check(pytest.env("PYTHONDONTWRITEBYTECODE", "1"));
        assert!(report.contains(" passed"), "{report}");
    }

    fn in_javascript(&self) {
        let mut node = Command::new("node");
        node.args(["--test", "openai.test.mjs", "ai.test.mjs"]).current_dir(javascript());
        self.environment(&mut node);
        let report = check(&mut node);
        assert!(report.contains("fail 0"), "{report}");
    }
}

/// A node alone, which asks for a key and computes exactly.
fn at_home(home: &Path) -> (Node, String) {
    let config = "[gateway]\nrequire_key = true\n[compute]\nslots = 4\nprofile = \"exact\"\n";
    let created = json_of(home, &["key", "create", "--name", "suite"]);
    fs::write(home.join("arknet.toml"), config).unwrap();
    let node = Node::start(home, &flags("compute,gateway", None));
    (node, created["key"].as_str().unwrap().to_owned())
}

#[test]
fn clients_of_a_model_at_home() {
    let directory = tempfile::tempdir().unwrap();
    let (node, key) = at_home(directory.path());
    let suite = Suite { key: Some(key), ..Suite::new(node.gateway()) };
    suite.in_python();
    suite.in_javascript();
}

#[test]
fn clients_of_a_model_of_another_peer() {
    let network = Network::start();
    let suite = Suite { skip: "exact", ..Suite::new(network.gateway.gateway()) };
    suite.in_python();
    suite.in_javascript();
}

/// A node without models of its own, in front of a service.
fn before(home: &Path, kind: &str, url: &str) -> Node {
    fs::create_dir_all(home).unwrap();
    let config = format!("[[upstreams]]\nname = \"service\"\nkind = \"{kind}\"\nurl = \"{url}\"\n");
    // A model that the node has itself would be asked first; this one stays out of the way.
    json_of(home, &["model", "add", SHIPPED, "--name", "not/asked"]);
    fs::write(home.join("arknet.toml"), config).unwrap();
    let node = Node::start(home, &flags("compute,gateway", None));
    wait_for_model(node.gateway(), TINY);
    node
}

/// A real llama.cpp server. Ends with its standard input.
struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    fn start() -> Self {
        let mut command = Command::new(python().join("bin/python"));
        command.arg(clients().join("llama_server.py")).args([SHIPPED, "--alias", TINY]);
        command.args(["--embeddings", "--pooling", "mean"]);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn clients_of_a_llama_server_behind_a_node() {
    let server = LlamaServer::start();
    let directory = tempfile::tempdir().unwrap();
    let node = before(directory.path(), "openai", &server.url);
    let suite = Suite {
        skip: "exact,regex,rerank,tools,tool_choice",
        loose: "drawn_forms,which_stop",
        ..Suite::new(node.gateway())
    };
    suite.in_python();
    suite.in_javascript();
}

/// A node whose doors play the service of another.
fn service(home: &Path) -> Node {
    fs::create_dir_all(home).unwrap();
    fs::write(home.join("arknet.toml"), "[compute]\nslots = 8\n").unwrap();
    Node::start(home, &flags("compute,gateway", None))
}

#[test]
fn clients_of_an_anthropic_service_behind_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(&directory.path().join("service"));
    let url = format!("http://{}", service.gateway());
    let node = before(&directory.path().join("node"), "anthropic", &url);
    let skip =
        "completions,constrained,embeddings,exact,grammar,logit_bias,logprobs,regex,rerank,seed";
    let suite = Suite { skip, ..Suite::new(node.gateway()) };
    suite.in_python();
    suite.in_javascript();
}

#[test]
fn clients_of_an_ollama_service_behind_a_node() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(&directory.path().join("service"));
    let url = format!("http://{}", service.gateway());
    let node = before(&directory.path().join("node"), "ollama", &url);
    let skip = "count_tokens,exact,grammar,logit_bias,regex,rerank,tool_choice";
    let suite = Suite { skip, loose: "which_stop", ..Suite::new(node.gateway()) };
    suite.in_python();
    suite.in_javascript();
}

#[test]
fn what_is_behind_a_node_is_said_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let service = service(&directory.path().join("service"));
    let url = format!("http://{}", service.gateway());
    let node = before(&directory.path().join("node"), "openai", &url);
    let list: Value = crate::network::get(node.gateway(), "/v1/models");
    let names: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert!(names.contains(&TINY.into()) && names.contains(&"not/asked".into()), "{names:?}");
}
