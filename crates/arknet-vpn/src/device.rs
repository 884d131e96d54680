//! Interfaces: by the kernel's WireGuard, or by `boringtun` over a TUN device.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{SocketAddr, ToSocketAddrs},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use boringtun::device::{DeviceConfig, DeviceHandle, Error as TunError};
use zeroize::Zeroizing;

use crate::{
    Configuration, Network,
    limits::ANSWER_TIME_MAX,
    status::{ask, socket},
};

/// Bytes of the largest packet inside, where the configuration does not say.
const MTU: u16 = 1420;
/// Threads that move packets in user space.
const THREADS: usize = 2;
/// Time between two looks at an interface that is about to go.
const LOOK: Duration = Duration::from_millis(50);

/// Why a tunnel does not come up, or cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A tunnel for everything is more than a grid needs.
    #[error(
        "{0} in AllowedIPs would lead all of this machine's traffic through the tunnel; use wg-quick for that"
    )]
    Everything(Network),
    /// An interface of this name is there.
    #[error("{0} is up already; see: arknet vpn status")]
    Exists(String),
    /// There is no such interface.
    #[error("{0} is not up; bring it up with: arknet vpn up")]
    Down(String),
    /// The host of a peer has no address.
    #[error("{endpoint}: {source}")]
    Host {
        /// The endpoint.
        endpoint: String,
        /// What the system says.
        source: io::Error,
    },
    /// No WireGuard in this kernel.
    #[error(
        "this kernel has no WireGuard; run the tunnel in user space with: arknet vpn up --foreground"
    )]
    NoKernel,
    /// A program that makes interfaces is not installed.
    #[error("{0} is not installed")]
    NoProgram(&'static str),
    /// No TUN devices.
    #[error(
        "there is no /dev/net/tun: load the kernel's module tun, or give the container this device"
    )]
    NoTun,
    /// No right to make interfaces.
    #[error("interfaces are made by root, or with the capability CAP_NET_ADMIN")]
    Permission,
    /// A program that makes interfaces failed.
    #[error("{command}: {words}")]
    Program {
        /// What was run.
        command: String,
        /// What it said.
        words: String,
    },
    /// The interface does not answer.
    #[error("the interface does not answer: {0}")]
    Silent(io::Error),
    /// The tunnel in user space does not start.
    #[error("the tunnel does not start: {0}")]
    Start(TunError),
}

/// A tunnel in user space. It ends when this is dropped.
pub struct UserSpace {
    handle: DeviceHandle,
}

impl UserSpace {
    /// Brings the tunnel up. From then on SIGINT and SIGTERM end it.
    pub fn up(interface: &str, configuration: &Configuration) -> Result<Self, DeviceError> {
        let endpoints = prepare(interface, configuration)?;
        let settings = DeviceConfig {
            n_threads: THREADS,
            // A peer may change its address at any time; sockets of their own would hold the old.
            use_connected_socket: false,
            ..DeviceConfig::default()
        };
        let handle = DeviceHandle::new(interface, settings).map_err(start_error)?;
        let this = Self { handle };
        let stream = UnixStream::connect(socket(interface)).map_err(DeviceError::Silent)?;
        ask(stream, &question(configuration, &endpoints)).map_err(DeviceError::Silent)?;
        address(interface, configuration)?;
        Ok(this)
    }

    /// Waits for the end: by a signal, or because `arknet vpn down` took its socket away.
    pub fn wait(mut self) {
        self.handle.wait();
    }
}

impl std::fmt::Debug for UserSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("UserSpace(..)")
    }
}

/// Brings the tunnel up with the kernel's WireGuard. It stays when this program ends.
pub fn kernel_up(interface: &str, configuration: &Configuration) -> Result<(), DeviceError> {
    let endpoints = prepare(interface, configuration)?;
    match run("ip", &["link", "add", "dev", interface, "type", "wireguard"], None) {
        Err(DeviceError::Program { words, .. }) if lacks_wireguard(&words) => {
            return Err(DeviceError::NoKernel);
        }
        result => result?,
    }
    let settings = kernel_settings(configuration, &endpoints);
    let done = run("wg", &["setconf", interface, "/dev/stdin"], Some(&settings))
        .and_then(|()| address(interface, configuration));
    if done.is_err() {
        // Half a tunnel is none.
        let _ = run("ip", &["link", "delete", "dev", interface], None);
    }
    done
}

/// Takes the tunnel down, whoever runs it.
pub fn down(interface: &str) -> Result<(), DeviceError> {
    if !exists(interface)? {
        return Err(DeviceError::Down(interface.to_owned()));
    }
    let path = socket(interface);
    if UnixStream::connect(&path).is_err() {
        return run("ip", &["link", "delete", "dev", interface], None);
    }
    // A tunnel in user space ends with its socket.
    std::fs::remove_file(&path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => DeviceError::Permission,
        _ => DeviceError::Silent(error),
    })?;
    let began = Instant::now();
    while exists(interface)? {
        if began.elapsed() > ANSWER_TIME_MAX {
            return Err(DeviceError::Silent(io::ErrorKind::TimedOut.into()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// Whether there is an interface of this name.
pub(crate) fn exists(interface: &str) -> Result<bool, DeviceError> {
    match run("ip", &["link", "show", "dev", interface], None) {
        Ok(()) => Ok(true),
        Err(DeviceError::Program { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What can be known before anything is made: that the interface is free, what it would lead away,
/// and where the peers are.
fn prepare(
    interface: &str,
    configuration: &Configuration,
) -> Result<Vec<Option<SocketAddr>>, DeviceError> {
    let allowed = || configuration.peers.iter().flat_map(|peer| &peer.allowed);
    if let Some(everything) = allowed().find(|network| network.is_everything()) {
        return Err(DeviceError::Everything(*everything));
    }
    if exists(interface)? {
        return Err(DeviceError::Exists(interface.to_owned()));
    }
    let resolve = |endpoint: &String| {
        let failed = |source| DeviceError::Host { endpoint: endpoint.clone(), source };
        let mut found = endpoint.to_socket_addrs().map_err(failed)?;
        found.next().ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    };
    let peers = configuration.peers.iter();
    peers.map(|peer| peer.endpoint.as_ref().map(resolve).transpose()).collect()
}

/// Sets a tunnel up in the protocol that all tunnels in user space share.
fn question(configuration: &Configuration, endpoints: &[Option<SocketAddr>]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let out = &mut *text;
    let written = (|| {
        writeln!(out, "set=1\nprivate_key={}", *configuration.key.reveal_hex())?;
        if let Some(port) = configuration.listen_port {
            writeln!(out, "listen_port={port}")?;
        }
        writeln!(out, "replace_peers=true")?;
        for (peer, endpoint) in configuration.peers.iter().zip(endpoints) {
            writeln!(out, "public_key={}", hex::encode(peer.key.0))?;
            if let Some(shared) = &peer.shared {
                writeln!(out, "preshared_key={}", *shared.reveal_hex())?;
            }
            if let Some(endpoint) = endpoint {
                writeln!(out, "endpoint={endpoint}")?;
            }
            if let Some(seconds) = peer.keepalive_s {
                writeln!(out, "persistent_keepalive_interval={seconds}")?;
            }
            for network in &peer.allowed {
                writeln!(out, "allowed_ip={network}")?;
            }
        }
        writeln!(out)
    })();
    written.expect("a text takes what is written");
    text
}

/// What `wg setconf` reads: the configuration without what only `wg-quick` knows.
fn kernel_settings(
    configuration: &Configuration,
    endpoints: &[Option<SocketAddr>],
) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let out = &mut *text;
    let written = (|| {
        writeln!(out, "[Interface]\nPrivateKey = {}", *configuration.key.reveal())?;
        if let Some(port) = configuration.listen_port {
            writeln!(out, "ListenPort = {port}")?;
        }
        for (peer, endpoint) in configuration.peers.iter().zip(endpoints) {
            let mut peer = peer.clone();
            peer.name = None;
            peer.endpoint = endpoint.map(|endpoint| endpoint.to_string());
            write!(out, "{}", *peer.reveal())?;
        }
        std::fmt::Result::Ok(())
    })();
    written.expect("a text takes what is written");
    text
}

/// Gives the interface its addresses, switches it on, and leads there what lies behind its peers.
fn address(interface: &str, configuration: &Configuration) -> Result<(), DeviceError> {
    for address in &configuration.addresses {
        run("ip", &["address", "add", &address.to_string(), "dev", interface], None)?;
    }
    let mtu = configuration.mtu.unwrap_or(MTU).to_string();
    run("ip", &["link", "set", "mtu", &mtu, "up", "dev", interface], None)?;
    let is_known = |network: &Network| {
        configuration.addresses.iter().any(|own| own.truncated().contains(network))
    };
    let beyond = configuration.peers.iter().flat_map(|peer| &peer.allowed);
    for network in beyond.filter(|network| !is_known(network)) {
        let network = network.truncated().to_string();
        run("ip", &["route", "replace", &network, "dev", interface], None)?;
    }
    Ok(())
}

/// Runs a program to its end, with `input` where it wants one. No secret is among its arguments.
fn run(program: &'static str, arguments: &[&str], input: Option<&str>) -> Result<(), DeviceError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound if program == "ip" => DeviceError::NoProgram("ip (iproute2)"),
        io::ErrorKind::NotFound => DeviceError::NoProgram("wg (wireguard-tools)"),
        _ => DeviceError::Silent(error),
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if words.contains("Operation not permitted") {
        return Err(DeviceError::Permission);
    }
    Err(DeviceError::Program { command: format!("{program} {}", arguments.join(" ")), words })
}

/// Whether `ip` says that it knows no interfaces of WireGuard.
fn lacks_wireguard(words: &str) -> bool {
    ["Unknown device type", "not supported"].iter().any(|one| words.contains(one))
}

fn start_error(error: TunError) -> DeviceError {
    let kind = match &error {
        TunError::IoError(io) | TunError::Socket(io) | TunError::IOCtl(io) => Some(io.kind()),
        TunError::ApiSocket(io) => Some(io.kind()),
        _ => None,
    };
    match kind {
        Some(io::ErrorKind::PermissionDenied) => DeviceError::Permission,
        // Only the TUN device is looked for by a path.
        Some(io::ErrorKind::NotFound) if matches!(error, TunError::Socket(_)) => DeviceError::NoTun,
        _ => DeviceError::Start(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration() -> Configuration {
        let key = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
        let peer = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
        let text = format!(
            "[Interface]\nPrivateKey={key}\nAddress=10.77.0.2/24\nListenPort=9\n[Peer]\n\
             # Name = hub\nPublicKey={peer}\nPresharedKey={key}\nAllowedIPs=10.77.0.0/24\n\
             Endpoint=127.0.0.1:51820\nPersistentKeepalive=25\n"
        );
        Configuration::parse(&text).unwrap()
    }

    #[test]
    fn a_tunnel_in_user_space_is_told_all_of_its_configuration() {
        let endpoint = "127.0.0.1:51820".parse().unwrap();
        let key = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        assert_eq!(
            *question(&configuration(), &[Some(endpoint)]),
            format!(
                "set=1\nprivate_key={key}\nlisten_port=9\nreplace_peers=true\n\
                 public_key=8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a\n\
                 preshared_key={key}\nendpoint=127.0.0.1:51820\n\
                 persistent_keepalive_interval=25\nallowed_ip=10.77.0.0/24\n\n"
            )
        );
    }

    #[test]
    fn the_kernels_tool_is_told_what_it_knows() {
        let settings = kernel_settings(&configuration(), &[None]);
        assert!(settings.contains("ListenPort = 9\n[Peer]\nPublicKey = hSDw"), "{}", *settings);
        for unknown in ["Address", "MTU", "Name", "Endpoint"] {
            assert!(!settings.contains(unknown), "{}", *settings);
        }
    }

    #[test]
    fn what_stands_in_the_way_is_said() {
        assert!(lacks_wireguard("Error: Unknown device type."));
        assert!(lacks_wireguard("RTNETLINK answers: Operation not supported"));
        assert!(!lacks_wireguard("RTNETLINK answers: File exists"));
        let of = |kind: io::ErrorKind| start_error(TunError::Socket(kind.into()));
        assert!(matches!(of(io::ErrorKind::NotFound), DeviceError::NoTun));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), DeviceError::Permission));
        assert!(matches!(of(io::ErrorKind::AddrInUse), DeviceError::Start(_)));
        let mut all = configuration();
        all.peers[0].allowed = vec!["0.0.0.0/0".parse().unwrap()];
        assert!(matches!(prepare("nowhere0", &all), Err(DeviceError::Everything(_))));
        let mut lost = configuration();
        lost.peers[0].endpoint = Some("no-such-host.invalid:1".into());
        assert!(matches!(prepare("nowhere0", &lost), Err(DeviceError::Host { .. })));
    }
}
