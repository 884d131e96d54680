//! Tunnels in user space, between namespaces whose inner addresses nothing else joins.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{
    namespaces::{Namespace, are_possible},
    network::{Node, PATIENCE, TINY, json_of, run, text},
};

/// Where packets of the tunnel travel, and what is inside.
const OUTER: [&str; 2] = ["192.168.50.1", "192.168.50.2"];
const INNER: [&str; 2] = ["10.99.0.1", "10.99.0.2"];

/// A machine with a data directory and a tunnel.
pub(crate) struct Machine {
    pub(crate) namespace: Namespace,
    pub(crate) home: tempfile::TempDir,
    /// Sockets of tunnels lie in one place for the whole system, so names must differ.
    interface: String,
}

impl Machine {
    fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let interface = format!("a{}n{number}", std::process::id());
        Self { namespace: Namespace::new(label), home: tempfile::tempdir().unwrap(), interface }
    }

    fn arguments<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["vpn", "--interface", &self.interface], rest].concat()
    }

    fn json(&self, rest: &[&str]) -> Value {
        json_of(self.home.path(), &self.arguments(rest))
    }

    /// The program in the namespace of this machine.
    fn program(&self, rest: &[&str]) -> Command {
        let mut command = self.namespace.command(env!("CARGO_BIN_EXE_arknet"));
        command.arg("--data-dir").arg(self.home.path()).arg("--json").args(self.arguments(rest));
        command.env_remove("ARKNET_HOME").env_remove("ARKNET_LOG");
        command
    }

    fn refused(&self, rest: &[&str]) -> String {
        let output = self.program(rest).output().unwrap();
        assert!(!output.status.success(), "{rest:?}");
        text(&output.stderr)
    }

    /// Brings the tunnel up, in a process of its own.
    pub(crate) fn up(&self) -> Running {
        let mut child =
            self.program(&["up", "--foreground"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let report: Value = serde_json::from_str(&line).expect("the tunnel is up");
        assert_eq!(report["run_by"], "user space");
        Running(child)
    }

    fn status(&self) -> Value {
        let output = self.program(&["status"]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn configuration(&self) -> PathBuf {
        self.home.path().join("vpn").join(format!("{}.conf", self.interface))
    }
}

/// A tunnel that is up, or another program. Ended when dropped.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = Command::new("kill").arg(self.0.id().to_string()).status();
            let _ = self.0.wait();
        }
    }
}

/// Two machines on one cable, of which the first has invited the second; none where namespaces
/// cannot be made.
pub(crate) fn invited() -> Option<[Machine; 2]> {
    if !are_possible() {
        return None;
    }
    let machines = ["hub", "guest"].map(Machine::new);
    let [hub, guest] = &machines;
    hub.namespace.cable("eth0", &guest.namespace, "eth0");
    for (machine, address) in machines.iter().zip(OUTER) {
        machine.namespace.address("eth0", &format!("{address}/24"));
    }
    hub.json(&["init", "--subnet", "10.99.0.0/24"]);
    let invitation = hub.json(&["invite", "guest", "--endpoint", OUTER[0]]);
    let file = invitation["file"].as_str().unwrap();
    let joined = guest.json(&["join", file]);
    assert_eq!(joined["addresses"], serde_json::json!([format!("{}/24", INNER[1])]));
    assert_eq!(joined["public_key"], invitation["public_key"]);
    Some(machines)
}

/// A server of files on the inner address of a machine.
fn serve_files(machine: &Machine, folder: &Path) -> Running {
    let port = ["-m", "http.server", "--bind", INNER[0], "7000", "--directory"];
    let mut server = machine.namespace.command("python3");
    server.args(port).arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
    Running(server.spawn().unwrap())
}

/// Fetches a file from the first machine's inner address.
fn fetch(machine: &Machine, into: &Path) -> bool {
    let url = format!("http://{}:7000/file", INNER[0]);
    let mut curl = machine.namespace.command("curl");
    // The server may need a moment; a tunnel that does not stand fails by the time.
    curl.args(["-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"]);
    curl.args(["--connect-timeout", "3", "--max-time", "60", "--retry-max-time", "30", "-o"]);
    curl.arg(into).arg(url).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn what_nothing_else_joins_is_joined_by_a_tunnel() {
    let Some([hub, guest]) = invited() else { return };
    let folder = tempfile::tempdir().unwrap();
    let content: Vec<u8> =
        (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(folder.path().join("file"), &content).unwrap();
    let into = folder.path().join("fetched");
    let _hub = hub.up();
    let _server = serve_files(&hub, folder.path());
    let mut before = guest.namespace.command("curl");
    before.args(["-sS", "-m", "2", "http://10.99.0.1:7000/"]).stderr(Stdio::null());
    assert!(!before.status().unwrap().success(), "no way but the tunnel");
    let mut up = guest.up();
    assert!(fetch(&guest, &into), "through the tunnel");
    assert_eq!(fs::read(&into).unwrap(), content);
    let status = hub.status();
    let peer = &status["peers"][0];
    assert_eq!((&status["run_by"], &peer["name"]), (&"user space".into(), &"guest".into()));
    assert!(peer["endpoint"].as_str().unwrap().starts_with(OUTER[1]), "{peer}");
    assert!(peer["handshake_age_s"].as_u64().unwrap() < 60, "{peer}");
    assert!(peer["sent_bytes"].as_u64().unwrap() > content.len() as u64, "{peer}");
    let words = guest.refused(&["up", "--foreground"]);
    assert!(words.contains("is up already"), "{words}");
    // It comes back after a crash, too: a new process, another port.
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    let mut again = guest.up();
    assert!(fetch(&guest, &into), "through the tunnel again");
    let down = guest.program(&["down"]).output().unwrap();
    assert!(down.status.success(), "{}", text(&down.stderr));
    assert!(again.0.wait().unwrap().success(), "the process ends in order");
    assert!(guest.refused(&["status"]).contains("is not up"));
    assert!(guest.refused(&["down"]).contains("is not up"));
}

#[test]
fn who_has_another_key_is_not_let_in() {
    let Some([hub, guest]) = invited() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "secret").unwrap();
    let _hub = hub.up();
    let _server = serve_files(&hub, folder.path());
    // The place in the tunnel is known, the key that goes with it is not.
    let text = fs::read_to_string(guest.configuration()).unwrap();
    let stranger = Machine::new("x");
    stranger.json(&["init"]);
    let other = fs::read_to_string(stranger.configuration()).unwrap();
    let key = |text: &str| text.lines().nth(1).unwrap().to_owned();
    fs::write(guest.configuration(), text.replace(&key(&text), &key(&other))).unwrap();
    let _guest = guest.up();
    let mut curl = guest.namespace.command("curl");
    curl.args(["-sS", "-m", "4", "http://10.99.0.1:7000/file"]).stderr(Stdio::null());
    assert!(!curl.status().unwrap().success());
    for machine in [&hub, &guest] {
        let peer = &machine.status()["peers"][0];
        assert_eq!(peer["handshake_age_s"], Value::Null, "{peer}");
    }
}

#[test]
fn an_invitation_that_is_none_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("invitation");
    for garbage in ["", "hello", "[Interface]\nPostUp = touch /tmp/x\n", "\u{0}\u{1}\u{2}"] {
        fs::write(&file, garbage).unwrap();
        let output = run(home.path(), &["vpn", "join", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{garbage:?}");
        assert!(text(&output.stderr).contains("invitation"), "{}", text(&output.stderr));
        assert!(!home.path().join("vpn/arknet.conf").exists());
    }
}

#[test]
fn a_kernel_without_wireguard_says_what_to_do() {
    let Some([hub, _guest]) = invited() else { return };
    let probe = ["link", "add", "probe0", "type", "wireguard"];
    let has = hub.namespace.command("ip").args(probe).output().unwrap().status.success();
    let output = hub.program(&["up"]).output().unwrap();
    match has {
        false => assert!(text(&output.stderr).contains("--foreground"), "{output:?}"),
        // With the kernel's, and its tool, it just comes up.
        true => assert!(
            output.status.success() || text(&output.stderr).contains("wireguard-tools"),
            "{output:?}"
        ),
    }
}

#[test]
fn an_invitation_is_shown_only_when_asked() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    json_of(home.path(), &["vpn", "init"]);
    let invite = ["vpn", "invite", "dave", "--endpoint", "home.example"];
    let written = run(home.path(), &invite);
    assert!(written.status.success(), "{}", text(&written.stderr));
    assert!(!text(&written.stdout).contains("PrivateKey"));
    let file = home.path().join("vpn/dave.invitation");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let invite = ["vpn", "invite", "mum", "--endpoint", "home.example", "--show"];
    let shown = run(home.path(), &invite);
    assert!(text(&shown.stdout).starts_with("[Interface]\nPrivateKey = "));
}

/// Looks again and again until it sees what it should.
fn until(what: &str, look: impl Fn() -> Value, is_right: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = look();
        if is_right(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {seen}");
        thread::yield_now();
    }
}

/// A node that listens inside the tunnel and nowhere else.
fn node(machine: &Machine, name: &str, inner: &str, role: &str) -> Node {
    let config = format!(
        "[mesh]\nseeds = []\nlisten = [\"/ip4/{inner}/tcp/26656\"]\n\
         [grid]\nmdns = false\nnode_id = \"{name}\"\n"
    );
    fs::write(machine.home.path().join("arknet.toml"), config).unwrap();
    machine.namespace.node(machine.home.path(), &["--role", role])
}

/// Approves a peer as the document does, with the key that its node shows.
fn approve(machine: &Machine, name: &str, key: &str) {
    let body = serde_json::json!({
        "node_id": name,
        "public_key": key,
        "permissions": {
            "can_request_inference": true,
            "can_pull_models": false,
            "models_shared": [TINY],
            "max_concurrent_requests": 2,
        },
    });
    let url = "http://localhost:8910/peers/approve";
    let json = "content-type: application/json";
    let answer = machine.namespace.curl(&["-X", "POST", url, "-H", json, "-d", &body.to_string()]);
    assert_eq!(answer["approved"]["node_id"], name, "{answer}");
}

#[test]
fn nodes_at_both_ends_of_a_tunnel_are_discovered_approved_and_served() {
    let Some([hub, guest]) = invited() else { return };
    let _tunnels = (hub.up(), guest.up());
    let serving = node(&hub, "ark-hub", INNER[0], "compute");
    let asking = node(&guest, "ark-guest", INNER[1], "gateway");
    let mut sources = String::new();
    for (machine, peer) in [(&hub, &asking), (&guest, &serving)] {
        let discovered = || machine.namespace.curl(&["http://localhost:8910/peers/discovered"]);
        let found = until("discovered", discovered, |seen| {
            let mut peers = seen["peers"].as_array().unwrap().iter();
            peers.any(|seen| seen["public_key"] == peer.peer() && seen["approved"] == false)
        });
        assert!(!found.to_string().contains(OUTER[0]), "nothing but the tunnel: {found}");
        sources += &found.to_string();
    }
    // Whoever is found first is connected already when it would look itself.
    assert!(sources.contains("\"tunnel\""), "{sources}");
    approve(&hub, "ark-guest", asking.peer());
    approve(&guest, "ark-hub", serving.peer());
    let models = || guest.namespace.curl(&["http://localhost:4000/v1/models"]);
    until("the approved peer's model", models, |seen| seen.to_string().contains(TINY));
    let question = serde_json::json!({
        "model": TINY,
        "messages": [{ "role": "user", "content": "Hello from across the grid" }],
        "max_tokens": 8,
    });
    let url = "http://localhost:4000/v1/chat/completions";
    let json = "content-type: application/json";
    let answer = guest.namespace.curl(&[url, "-H", json, "-d", &question.to_string()]);
    assert!(answer["choices"][0]["message"]["content"].is_string(), "{answer}");
}
