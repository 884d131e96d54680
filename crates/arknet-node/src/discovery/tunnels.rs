//! Where WireGuard's tunnels lead: multicast does not pass them, so nodes behind them are searched
//! for one address at a time.

use std::{fs, io::Read, path::Path, process::Command};

use super::{
    limits::{TUNNEL_BYTES_MAX, TUNNELS_MAX},
    places::Network,
};

/// The networks that the tunnels of this machine allow, as the system tells: WireGuard's own tool
/// knows it exactly but needs rights; the configurations in the data directory are of tunnels that
/// this program made; the routes can be read by everybody, but may name a whole network.
pub(super) fn networks(vpn: &Path) -> Vec<Network> {
    let mut found = configured(vpn);
    let devices = devices();
    let exact = if has_wireguard(&devices) { allowed() } else { vec![] };
    if exact.is_empty() && !devices.is_empty() {
        found.extend(routes(&read(Path::new("/proc/net/route")), &devices));
    }
    found.extend(exact);
    found.sort_unstable();
    found.dedup();
    found
}

/// Reads a file, as much of it as is looked at; nothing where there is none.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let limit = u64::try_from(TUNNEL_BYTES_MAX).unwrap_or(u64::MAX);
        let _ = file.take(limit).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn configured(vpn: &Path) -> Vec<Network> {
    let files = fs::read_dir(vpn).into_iter().flatten().flatten().map(|entry| entry.path());
    let configurations = files.filter(|path| path.extension().is_some_and(|e| e == "conf"));
    configurations.take(TUNNELS_MAX).flat_map(|path| in_configuration(&read(&path))).collect()
}

/// The interfaces that the kernel's WireGuard made.
fn devices() -> Vec<String> {
    let all = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let ours = all.filter(|entry| {
        read(&entry.path().join("uevent")).lines().any(|line| line == "DEVTYPE=wireguard")
    });
    ours.take(TUNNELS_MAX).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether there is something that the tool could tell of: an interface of the kernel, or the
/// socket of an implementation in user space.
fn has_wireguard(devices: &[String]) -> bool {
    let sockets = || fs::read_dir("/var/run/wireguard").is_ok_and(|mut all| all.next().is_some());
    !devices.is_empty() || sockets()
}

fn allowed() -> Vec<Network> {
    let output = Command::new("wg").args(["show", "all", "allowed-ips"]).output();
    output.map_or_else(|_| vec![], |output| in_tool(&String::from_utf8_lossy(&output.stdout)))
}

/// The allowed addresses in what `wg show all allowed-ips` prints: interface, key, networks.
fn in_tool(text: &str) -> Vec<Network> {
    let networks = text.lines().flat_map(|line| line.split_whitespace().skip(2));
    networks.filter_map(|network| network.parse().ok()).collect()
}

/// The allowed addresses in a configuration as `wg-quick` reads it.
fn in_configuration(text: &str) -> Vec<Network> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let values = lines.filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        key.trim().eq_ignore_ascii_case("AllowedIPs").then_some(value)
    });
    values.flat_map(|value| value.split(',')).filter_map(|one| one.trim().parse().ok()).collect()
}

/// The networks that the kernel routes to these interfaces, in the form of `/proc/net/route`:
/// interface, destination, .., mask as the eighth, numbers in hex with the first byte last.
fn routes(text: &str, devices: &[String]) -> Vec<Network> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::swap_bytes);
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (device, destination, mask) = (fields.first()?, fields.get(1)?, fields.get(7)?);
        if !devices.iter().any(|known| known == device) {
            return None;
        }
        let ip = std::net::Ipv4Addr::from(number(destination)?);
        format!("{ip}/{}", number(mask)?.leading_ones()).parse().ok()
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(networks: &[Network]) -> Vec<String> {
        networks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_tool_tells_the_networks_of_every_peer() {
        let text =
            "wg0\tAAAA=\t10.0.0.5/32 fd00::5/128\nwg0\tBBBB=\t(none)\nwg1\tCCCC=\t10.1.0.0/24\n";
        assert_eq!(texts(&in_tool(text)), ["10.0.0.5/32", "fd00::5/128", "10.1.0.0/24"]);
        assert_eq!(in_tool("Unable to access interface: Operation not permitted"), []);
    }

    #[test]
    fn a_configuration_names_them_too() {
        let text = "[Interface]\nAddress = 10.0.0.1/24\n[Peer]\nPublicKey = AAAA=\n\
                    allowedips=10.0.0.5/32, fd00::5/128 # a friend\n#AllowedIPs = 10.0.0.9/32\n";
        assert_eq!(texts(&in_configuration(text)), ["10.0.0.5/32", "fd00::5/128"]);
    }

    #[test]
    fn routes_stand_for_what_they_lead_to() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n\
                    eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\n\
                    wg0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n\
                    wg0\t0500010A\t00000000\t0001\t0\t0\t0\tFFFFFFFF\t0\n\
                    wg0\tnonsense\n";
        let found = routes(text, &["wg0".into()]);
        assert_eq!(texts(&found), ["10.0.0.0/24", "10.1.0.5/32"]);
    }

    #[test]
    fn configurations_are_read_from_their_directory_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("home.conf", "AllowedIPs = 10.0.0.5/32");
        write("home.key", "AllowedIPs = 10.0.0.6/32");
        write("broken.conf", "AllowedIPs = nonsense");
        assert_eq!(texts(&configured(directory.path())), ["10.0.0.5/32"]);
        assert_eq!(configured(&directory.path().join("nowhere")), []);
    }
}
