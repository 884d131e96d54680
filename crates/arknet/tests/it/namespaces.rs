//! A network of this machine alone: each host a network namespace, joined by a bridge that lies in
//! a namespace of its own. Nothing of it can be reached from outside, nor the other way round.
//!
//! It takes Linux and the right to make namespaces (root). Where that is missing,
//! [`are_possible`] says so and why; where a program is missing, the test fails and names
//! it: `make deps` installs what is needed.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::Value;

use crate::network::{Node, text};

/// The beginning of the names of all namespaces that tests make.
const PREFIX: &str = "arkt";
/// Rights that are needed, as bits of a process's capabilities: to change networks, and to make
/// namespaces.
const RIGHTS: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];
const PROGRAMS: [&str; 5] = ["ip", "unshare", "curl", "avahi-browse", "dbus-daemon"];

/// Why namespaces cannot be made here.
fn lacks() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("network namespaces are Linux's".into());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let rights = u64::from_str_radix(line.trim(), 16).unwrap();
    let missing = RIGHTS.iter().find(|(bit, _)| rights & (1 << bit) == 0);
    missing.map(|(_, name)| format!("this user lacks {name}; run the tests as root"))
}

/// Whether networks can be made here; where not, says why on standard error. Takes away what tests
/// left behind that were killed.
#[allow(clippy::print_stderr, reason = "who reads the results must see what was not tried")]
pub(crate) fn are_possible() -> bool {
    if let Some(reason) = lacks() {
        eprintln!("skipped: {reason}");
        return false;
    }
    for program in PROGRAMS {
        let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
        assert!(found.unwrap().status.success(), "{program} is missing; run: make deps");
    }
    sweep();
    true
}

/// Runs a command to its end, which must be a good one.
fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    output
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

/// A namespace. Deleted when dropped, with all that runs in it.
pub(crate) struct Namespace {
    pub(crate) name: String,
}

impl Namespace {
    /// Makes a namespace with nothing in it but its own loopback.
    pub(crate) fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{label}", std::process::id());
        delete(&name);
        ip(&["netns", "add", &name]);
        let this = Self { name };
        // An address that waits to be found free would cost the first second.
        this.sh("for all in all default; do \
             echo 0 >/proc/sys/net/ipv6/conf/$all/accept_dad; done; ip link set lo up");
        this
    }

    /// A program that runs in the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs a script in the namespace; what it prints.
    pub(crate) fn sh(&self, script: &str) -> String {
        text(&run(self.command("sh").args(["-ec", script])).stdout)
    }

    /// What `curl` gets, with these arguments; it must be JSON.
    pub(crate) fn curl(&self, arguments: &[&str]) -> Value {
        let output = run(self.command("curl").args(["-sS", "--max-time", "60"]).args(arguments));
        let body = text(&output.stdout);
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
    }

    /// Connects two namespaces by a cable: an interface in each.
    pub(crate) fn cable(&self, interface: &str, other: &Self, other_interface: &str) {
        ip(&[
            "link",
            "add",
            interface,
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            other_interface,
            "netns",
            &other.name,
        ]);
        for (namespace, interface) in [(self, interface), (other, other_interface)] {
            ip(&["-n", &namespace.name, "link", "set", interface, "up"]);
        }
    }

    /// Gives an interface an address, such as `10.77.0.1/24`.
    pub(crate) fn address(&self, interface: &str, address: &str) {
        ip(&["-n", &self.name, "addr", "add", address, "dev", interface]);
    }

    /// Starts a node, on the ports that it takes by itself. Its log goes into its directory.
    pub(crate) fn node(&self, home: &Path, arguments: &[&str]) -> Node {
        let mut program = self.command(env!("CARGO_BIN_EXE_arknet"));
        program.args(["--log", "info"]).stderr(File::create(home.join("log")).unwrap());
        Node::start_by(program, home, arguments)
    }

    /// Starts avahi's daemon, as a desktop has it.
    pub(crate) fn avahi(&self) -> Avahi {
        let script = "mount -t tmpfs none /run && mkdir -p /run/dbus /run/avahi-daemon && \
                      dbus-daemon --system --nofork --nopidfile & \
                      while ! [ -S /run/dbus/system_bus_socket ]; do sleep 0.05; done; \
                      exec avahi-daemon --no-drop-root --no-rlimits --no-chroot";
        // Its own /run, because the bus has one place; its own processes, so that all of them end
        // with the first.
        let mut command = self.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]);
        let daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Avahi { daemon }
    }
}

/// Ends what runs in a namespace and takes it away, if it is there.
fn delete(name: &str) {
    if !Path::new("/run/netns").join(name).exists() {
        return;
    }
    let output = Command::new("ip").args(["netns", "pids", name]).output();
    let pids = output.map(|output| text(&output.stdout)).unwrap_or_default();
    for pid in pids.split_whitespace() {
        let _ = Command::new("kill").args(["-KILL", pid]).status();
    }
    let _ = Command::new("ip").args(["netns", "delete", name]).status();
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Takes away what tests left behind that were killed.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        let is_ours = parts.next() == Some(PREFIX);
        let pid = parts.next().unwrap_or_default();
        if is_ours && !Path::new("/proc").join(pid).exists() {
            delete(&name);
        }
    }
}

/// A host of a [`Lan`].
pub(crate) struct Host {
    pub(crate) namespace: Namespace,
    /// Its end of the cable at the bridge.
    port: String,
}

/// Hosts that a bridge joins: multicast passes, and nothing else is there.
pub(crate) struct Lan {
    /// In the order of their names. Dropped before the bridge.
    pub(crate) hosts: Vec<Host>,
    bridge: Namespace,
}

impl Lan {
    /// A network of so many hosts, `10.77.0.1` and on; none, with the reason on standard error,
    /// where namespaces cannot be made.
    pub(crate) fn new(hosts: u8) -> Option<Self> {
        if !are_possible() {
            return None;
        }
        let bridge = Namespace::new("bridge");
        // Without its own filter of multicast, as the simplest switch is.
        bridge.sh("ip link add br0 type bridge mcast_snooping 0; ip link set br0 up");
        let mut lan = Self { hosts: vec![], bridge };
        for number in 1..=hosts {
            lan.add(number);
        }
        Some(lan)
    }

    fn add(&mut self, number: u8) {
        let namespace = Namespace::new(&format!("host{number}"));
        let port = format!("port{number}");
        namespace.cable("eth0", &self.bridge, &port);
        self.bridge.sh(&format!("ip link set {port} master br0"));
        namespace.address("eth0", &format!("10.77.0.{number}/24"));
        namespace.address("eth0", &format!("fd77::{number:x}/64"));
        self.hosts.push(Host { namespace, port });
    }

    /// Pulls the cable of a host.
    pub(crate) fn unplug(&self, host: usize) {
        self.bridge.sh(&format!("ip link set {} down", self.hosts[host].port));
    }

    /// Puts the cable of a host back.
    pub(crate) fn plug(&self, host: usize) {
        self.bridge.sh(&format!("ip link set {} up", self.hosts[host].port));
    }
}

/// A running avahi daemon. Ended when dropped.
pub(crate) struct Avahi {
    daemon: Child,
}

impl Avahi {
    /// What `avahi-browse -t _arknet._tcp` prints.
    pub(crate) fn browse(&self) -> String {
        let pid = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.daemon.id()));
        let pid = pid.unwrap_or_default();
        let Some(inside) = pid.split_whitespace().next() else { return String::new() };
        let mut browse = Command::new("nsenter");
        browse.args(["--target", inside, "--mount", "--net", "avahi-browse"]);
        // Until the daemon is up it answers with an error.
        let output = browse.args(["-t", "_arknet._tcp"]).output().unwrap();
        text(&output.stdout)
    }
}

impl Drop for Avahi {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
