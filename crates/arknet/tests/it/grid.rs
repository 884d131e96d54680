//! Nodes of one neighbourhood, each on a host of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{
    namespaces::{self, Lan, Namespace},
    network::{self, Node, PATIENCE},
};

/// From when it runs until a node has found the others. Two seconds are promised; a machine that is
/// busy with other tests is granted more.
const FOUND_WITHIN: Duration = Duration::from_secs(20);

/// A node of this name on a host, with this in its section `[grid]`.
pub(crate) fn start_in(host: &Namespace, directory: &Path, name: &str, grid: &str) -> Node {
    host.node(&home(directory, name, grid), &["--role", "gateway"])
}

/// The directory of a node of this name.
pub(crate) fn home(directory: &Path, name: &str, grid: &str) -> PathBuf {
    let home = directory.join(name);
    fs::create_dir_all(&home).unwrap();
    let config = format!("[mesh]\nseeds = []\n[grid]\nnode_id = \"{name}\"\n{grid}");
    fs::write(home.join("arknet.toml"), config).unwrap();
    home
}

/// The peers that the node of a host is connected to.
fn connected(host: &Namespace) -> Vec<String> {
    let peers = host.curl(&["http://localhost:8910/peers"]);
    let peers = peers.as_array().unwrap().iter().filter(|peer| peer["connected"] == true);
    peers.map(|peer| peer["peer"].as_str().unwrap().to_owned()).collect()
}

/// Looks again and again until it sees what it should; how long that took.
pub(crate) fn until<T>(what: &str, look: impl Fn() -> T, is_right: impl Fn(&T) -> bool) -> Duration
where
    T: std::fmt::Debug,
{
    let begun = Instant::now();
    loop {
        let seen = look();
        if is_right(&seen) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {seen:?}");
        // What looks runs a program, which takes its time.
        thread::yield_now();
    }
}

#[test]
fn nodes_on_one_network_find_each_other_and_a_system_without_arknet_sees_them() {
    let Some(lan) = Lan::new(3) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let avahi = hosts[0].avahi();
    let start = |n: usize, name| start_in(hosts[n], directory.path(), name, "");
    let mut nodes = vec![start(0, "ark-one"), start(1, "ark-two")];
    nodes.push(start(2, "ark-three"));
    let begun = Instant::now();
    let peers: Vec<_> = nodes.iter().map(|node| node.peer().to_owned()).collect();
    until("the newcomer", || connected(hosts[2]), |seen| seen.len() == 2);
    let took = begun.elapsed();
    assert!(took < FOUND_WITHIN, "{took:?}");
    until("the others", || connected(hosts[0]), |seen| seen.contains(&peers[2]));
    let names = ["ark-one", "ark-two", "ark-three"];
    let lists = |seen: &String| names.iter().all(|name| seen.contains(name));
    until("avahi", || avahi.browse(), lists);

    nodes[2].signal("-TERM");
    until("goodbye", || avahi.browse(), |seen| !seen.contains("ark-three"));
    assert!(nodes[2].wait().success());
    assert_eq!(connected(hosts[0]), [peers[1].as_str()]);
}

#[test]
fn a_node_that_is_plugged_in_later_is_found() {
    let Some(lan) = Lan::new(2) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    lan.unplug(1);
    let first = start_in(hosts[0], directory.path(), "ark-first", "");
    let second = start_in(hosts[1], directory.path(), "ark-second", "");
    assert!(connected(hosts[0]).is_empty() && connected(hosts[1]).is_empty());
    lan.plug(1);
    until("the one plugged in", || connected(hosts[0]), |seen| *seen == [second.peer()]);
    until("the one that was there", || connected(hosts[1]), |seen| *seen == [first.peer()]);
}

#[test]
fn two_nodes_on_one_host_find_each_other_and_are_two_to_others() {
    let Some(lan) = Lan::new(2) else { return };
    let directory = tempfile::tempdir().unwrap();
    let hosts: Vec<_> = lan.hosts.iter().map(|host| &host.namespace).collect();
    let first = start_in(hosts[0], directory.path(), "ark-first", "");
    let other = home(directory.path(), "ark-second", "");
    let same_port = ["--role", "gateway", "--gateway", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let refused = hosts[0].command(env!("CARGO_BIN_EXE_arknet"));
    let refused =
        network::with_home(refused, &other).arg("start").args(same_port).output().unwrap();
    assert!(!refused.status.success());
    assert!(network::text(&refused.stderr).contains("--listen"), "the port is taken");
    let own_port = ["--listen", "/ip4/0.0.0.0/tcp/26700", "--listen", "/ip6/::/tcp/26700"];
    let second = hosts[0].node(&other, &[&same_port[..], &own_port].concat());
    until("its neighbour", || connected(hosts[0]), |seen| *seen == [second.peer()]);
    let _third = start_in(hosts[1], directory.path(), "ark-third", "");
    let both = |seen: &Vec<String>| {
        [first.peer(), second.peer()].iter().all(|peer| seen.iter().any(|one| one == peer))
    };
    until("both of them", || connected(hosts[1]), both);
}

/// Two hosts with a router between them, which multicast does not pass.
struct Routed {
    hosts: [Namespace; 2],
    _router: Namespace,
}

impl Routed {
    const ADDRESSES: [&str; 2] = ["10.88.0.2", "10.88.1.2"];

    fn new() -> Option<Self> {
        if !namespaces::are_possible() {
            return None;
        }
        let router = Namespace::new("router");
        router.sh("echo 1 >/proc/sys/net/ipv4/ip_forward");
        let hosts = [0, 1].map(|n| {
            let host = Namespace::new(&format!("host{n}"));
            host.cable("eth0", &router, &format!("port{n}"));
            router.address(&format!("port{n}"), &format!("10.88.{n}.1/24"));
            host.address("eth0", &format!("{}/24", Self::ADDRESSES[n]));
            host.sh(&format!("ip route add default via 10.88.{n}.1"));
            host
        });
        Some(Self { hosts, _router: router })
    }
}

#[test]
fn a_node_behind_a_tunnel_is_found_when_the_tunnel_comes_up() {
    let Some(net) = Routed::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let there = start_in(&net.hosts[1], directory.path(), "ark-there", "");
    let home = directory.path().join("ark-here");
    fs::create_dir_all(home.join("vpn")).unwrap();
    // As if the interface of the tunnel were not up yet.
    net.hosts[0].sh("ip link set eth0 down");
    fs::write(home.join("vpn/hub.conf"), "[Peer]\nAllowedIPs = 10.88.1.0/24\n").unwrap();
    let here = start_in(&net.hosts[0], directory.path(), "ark-here", "");
    net.hosts[0].sh("ip link set eth0 up; ip route add default via 10.88.0.1");
    until("the node there", || connected(&net.hosts[0]), |seen| *seen == [there.peer()]);
    until("the node here", || connected(&net.hosts[1]), |seen| *seen == [here.peer()]);
}

#[test]
fn a_node_is_found_where_its_friend_was_told_to_look() {
    let Some(net) = Routed::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    let there = start_in(&net.hosts[1], directory.path(), "ark-there", "");
    // One address of a small network, and one's own network, where nobody else is.
    let probe = "probe = [\"10.88.1.0/29\", \"10.88.0.0/30\"]\n";
    let _here = start_in(&net.hosts[0], directory.path(), "ark-here", probe);
    until("the node there", || connected(&net.hosts[0]), |seen| *seen == [there.peer()]);
}
