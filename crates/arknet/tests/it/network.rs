//! Nodes in processes of their own.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

pub(crate) const TINY: &str = "arknet/tiny";
/// How long anything that should come may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with a data directory.
pub(crate) fn arknet(home: &Path) -> Command {
    with_home(Command::new(env!("CARGO_BIN_EXE_arknet")), home)
}

/// The program, however it is run, with a data directory.
pub(crate) fn with_home(mut program: Command, home: &Path) -> Command {
    program.arg("--data-dir").arg(home).env_remove("ARKNET_HOME").env_remove("ARKNET_LOG");
    program
}

/// Runs the program to its end; its standard output must be JSON.
pub(crate) fn json_of(home: &Path, arguments: &[&str]) -> Value {
    let output = arknet(home).arg("--json").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs the program to its end, whatever that is.
pub(crate) fn run(home: &Path, arguments: &[&str]) -> Output {
    arknet(home).args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A port that nobody has, and that no connection is given while the node that has it is down: the
/// kernel takes those for connections from 32768 on.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of the tests at the same time begins elsewhere.
    let first = (std::process::id() % 12_000) as u16;
    loop {
        let nth = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + nth;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running node. Killed when dropped.
pub(crate) struct Node {
    pub(crate) home: PathBuf,
    pub(crate) status: Value,
    child: Child,
}

impl Node {
    pub(crate) fn start(home: &Path, arguments: &[&str]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_arknet"));
        Self::start_by(program, home, &[&["--admin", "127.0.0.1:0"], arguments].concat())
    }

    /// Starts a node by a command that runs the program.
    pub(crate) fn start_by(program: Command, home: &Path, arguments: &[&str]) -> Self {
        let mut child = with_home(program, home)
            .args(["--json", "start"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let status = serde_json::from_str(&line).expect("the node says that it runs");
        Self { home: home.to_owned(), status, child }
    }

    pub(crate) fn peer(&self) -> &str {
        self.status["peer"].as_str().unwrap()
    }

    pub(crate) fn address(&self) -> &str {
        self.status["addresses"][0].as_str().unwrap()
    }

    pub(crate) fn gateway(&self) -> SocketAddr {
        self.status["gateway"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn admin(&self) -> SocketAddr {
        let node = fs::read_to_string(self.home.join("node.json")).unwrap();
        let node: Value = serde_json::from_str(&node).unwrap();
        node["admin"].as_str().unwrap().parse().unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status =
            Command::new("kill").arg(signal).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A seed, a compute node with the shipped model, a gateway without any.
pub(crate) struct Network {
    pub(crate) seed: Node,
    pub(crate) compute: Node,
    pub(crate) gateway: Node,
    pub(crate) directory: tempfile::TempDir,
}

impl Network {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let seed = Node::start(&directory.path().join("seed"), &flags("validator", None));
        let compute = start_compute(&directory.path().join("compute"), &seed);
        let gateway_home = directory.path().join("gateway");
        fs::create_dir_all(&gateway_home).unwrap();
        fs::write(gateway_home.join("arknet.toml"), ASKING_ANYONE).unwrap();
        let gateway = Node::start(&gateway_home, &flags("gateway", Some(seed.address())));
        let network = Self { seed, compute, gateway, directory };
        network.wait_for_model(TINY, network.compute.peer());
        network
    }

    /// Waits until the gateway has heard that `peer` serves `model`.
    pub(crate) fn wait_for_model(&self, model: &str, peer: &str) {
        wait_for_peer(self.gateway.gateway(), model, peer);
    }

    /// A directory in which only the network's seed is configured.
    pub(crate) fn application_home(&self, name: &str) -> PathBuf {
        let home = self.directory.path().join(name);
        fs::create_dir_all(&home).unwrap();
        let seeds = json!({
            "version": 1,
            "chain_id": "arknet-1",
            "seeds": [{ "multiaddr": self.seed.address(), "operator": "test" }],
        });
        fs::write(home.join("seeds.json"), seeds.to_string()).unwrap();
        home
    }
}

/// Waits until a gateway lists `model`, whoever serves it.
pub(crate) fn wait_for_model(gateway: SocketAddr, model: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = get(gateway, "/v1/models");
        if list["data"].as_array().unwrap().iter().any(|entry| entry["id"] == model) {
            return;
        }
        assert!(Instant::now() < deadline, "{model} is not served: {list}");
        std::thread::yield_now();
    }
}

/// Waits until a gateway has heard that `peer` serves `model`.
pub(crate) fn wait_for_peer(gateway: SocketAddr, model: &str, peer: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let list = get(gateway, "/v1/models");
        let models = list["data"].as_array().unwrap();
        let found = models.iter().find(|entry| entry["id"] == model);
        let peers = found.and_then(|entry| entry["arknet"]["peers"].as_array());
        if peers.is_some_and(|peers| peers.iter().any(|known| known == peer)) {
            return;
        }
        assert!(Instant::now() < deadline, "{peer} is not known to serve {model}: {list}");
        std::thread::yield_now();
    }
}

/// Serves whoever asks: where it is not the approval that is tested.
pub(crate) const ANYONE: &str = "[compute]\nthreads = 1\nslots = 4\ndanger_serve_anyone = true\n";

/// Asks whoever offers: where it is not the approval that is tested.
pub(crate) const ASKING_ANYONE: &str = "[gateway]\nask = \"anyone\"\n";
/// The second name under which compute nodes serve the shipped model.
pub(crate) const QWEN: &str = "Qwen/Qwen3-0.6B-Q8_0";

/// Adds the shipped model under two names.
pub(crate) fn add_models(home: &Path) {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../arknet-engine/assets/arknet-tiny.gguf");
    for name in [TINY, QWEN] {
        json_of(home, &["model", "add", model, "--name", name]);
    }
}

/// A compute node that serves the shipped model under two names.
pub(crate) fn start_compute(home: &Path, seed: &Node) -> Node {
    add_models(home);
    fs::write(home.join("arknet.toml"), ANYONE).unwrap();
    Node::start(home, &flags("compute", Some(seed.address())))
}

pub(crate) fn flags<'a>(role: &'a str, seed: Option<&'a str>) -> Vec<&'a str> {
    let mut flags = vec!["--role", role, "--gateway", "127.0.0.1:0"];
    flags.extend(["--listen", "/ip4/127.0.0.1/tcp/0"]);
    flags.extend(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    if let Some(seed) = seed {
        flags.extend(["--seed", seed]);
    }
    flags
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Value {
    let mut response = agent().get(format!("http://{address}{path}")).call().unwrap();
    serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap()
}

/// Sends JSON; the status and the JSON that comes back.
pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    let request = agent().post(format!("http://{address}{path}")).content_type("application/json");
    let mut response = request.send(body.to_string()).unwrap();
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().unwrap();
    (status, serde_json::from_str(&text).unwrap_or_else(|_| text.into()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).build().into()
}

/// An answer to a chat question.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) peer: String,
    body: Box<dyn BufRead + Send>,
}

impl Answer {
    /// The next event of a stream.
    pub(crate) fn event(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.body.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some(event) = line.trim_end().strip_prefix("data: ") {
                return Some(serde_json::from_str(event).unwrap_or_else(|_| event.into()));
            }
        }
    }

    /// The body of an answer that is no stream.
    pub(crate) fn json(mut self) -> Value {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// Asks a gateway.
pub(crate) fn ask(gateway: SocketAddr, body: Value) -> Answer {
    let request = agent()
        .post(format!("http://{gateway}/v1/chat/completions"))
        .content_type("application/json");
    let response = request.send(body.to_string()).unwrap();
    let peer = response.headers().get("x-arknet-peer").map(|value| value.to_str().unwrap());
    Answer {
        status: response.status().as_u16(),
        peer: peer.unwrap_or_default().to_owned(),
        body: Box::new(BufReader::new(response.into_body().into_reader())),
    }
}

/// A question whose answer is as long as its pattern wants, and so wide that whoever does not read it
/// holds it.
pub(crate) fn endless() -> Value {
    let mut endless = question("Tell me a story.", true);
    endless["guided_regex"] = "[ab]{2000}".into();
    endless["logprobs"] = true.into();
    endless["top_logprobs"] = 20.into();
    endless["max_tokens"] = Value::Null;
    endless
}

/// A question of one line.
pub(crate) fn question(text: &str, stream: bool) -> Value {
    json!({
        "model": TINY,
        "messages": [{ "role": "user", "content": text }],
        "temperature": 0,
        "max_tokens": 60,
        "stream": stream,
    })
}
