use super::*;

const KEY: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PEER: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

fn text() -> String {
    format!(
        "# of a person\n[Interface]\nPrivateKey = {KEY}\nAddress = 10.77.0.1/24, fd77::1/64\n\
         ListenPort = 51820\nMTU = 1420\n\n[Peer]\n# Name = dave\nPublicKey = {PEER}\n\
         PresharedKey = {KEY}\nAllowedIPs = 10.77.0.2/32\nEndpoint = dave.example:51820 # home\n\
         PersistentKeepalive = 25\n"
    )
}

fn refused(text: &str) -> String {
    Configuration::parse(text).unwrap_err().to_string()
}

#[test]
fn a_configuration_returns_from_its_text() {
    let read = Configuration::parse(&text()).unwrap();
    assert_eq!(read.addresses.len(), 2);
    assert_eq!((read.listen_port, read.mtu), (Some(51820), Some(1420)));
    let peer = &read.peers[0];
    assert_eq!(peer.name.as_deref(), Some("dave"));
    assert_eq!(peer.key.to_string(), PEER);
    assert_eq!(peer.endpoint.as_deref(), Some("dave.example:51820"));
    assert_eq!(peer.keepalive_s, Some(25));
    assert_eq!(Configuration::parse(&read.reveal()).unwrap(), read);
    assert!(!format!("{read:?}").contains(KEY));
}

#[test]
fn keys_are_read_in_any_case_and_lists_may_go_on() {
    let text = format!(
        "[INTERFACE]\nprivatekey={KEY}\naddress=10.77.0.1/24\nAddress=10.78.0.1/24\n\
         [peer]\nPUBLICKEY={PEER}\nallowedips=\nAllowedIPs=10.77.0.2,\nPersistentKeepalive=off\n"
    );
    let read = Configuration::parse(&text).unwrap();
    assert_eq!(read.addresses.len(), 2);
    assert_eq!(read.peers[0].allowed, ["10.77.0.2/32".parse().unwrap()]);
    assert_eq!(read.peers[0].keepalive_s, None);
}

#[test]
fn nothing_of_somebody_elses_file_is_run() {
    for line in [
        "PostUp = rm -rf /",
        "preup=x",
        "PreDown = x",
        "POSTDOWN = x",
        "DNS = 192.0.2.1",
        "Table = off",
        "SaveConfig = true",
        "FwMark = 1",
    ] {
        let hostile = text().replace("MTU = 1420", line);
        assert!(refused(&hostile).starts_with("line 6: "), "{}", refused(&hostile));
        assert!(refused(&hostile).contains("not followed"));
        assert!(refused(&format!("{}{line}\n", text())).contains("not followed"));
    }
}

#[test]
fn garbage_is_refused_with_its_line() {
    for (from, to, words) in [
        ("MTU = 1420", "MTU = 10", "line 6: MTU is 576 at least"),
        ("MTU = 1420", "MTU = 1420\nMTU = 1420", "line 7: mtu stands there twice"),
        ("MTU = 1420", "Color = red", "line 6: [Interface] has no color"),
        ("MTU = 1420", "nonsense", "line 6: neither a section nor KEY = VALUE"),
        ("ListenPort = 51820", "ListenPort = 65536", "line 5: not a number from 0 to 65535"),
        ("10.77.0.1/24", "10.77.0.1/33", "line 4: a network is written as"),
        ("10.77.0.2/32", "x", "line 12: a network is written as"),
        ("dave.example:51820", "dave.example", "line 13: an endpoint is written as HOST:PORT"),
        ("dave.example:51820", "dave.example:0", "line 13: an endpoint is written as HOST:PORT"),
        ("dave.example:51820", "-x:1", "line 13: an endpoint is written as HOST:PORT"),
        ("[Interface]", "", "line 3: a value before any section"),
        (PEER, "short", "line 10: a key of WireGuard has 44 characters"),
    ] {
        let found = refused(&text().replacen(from, to, 1));
        assert!(found.starts_with(words), "{found} / {words}");
    }
    assert_eq!(refused(""), "PrivateKey is missing");
    assert_eq!(refused(&format!("[Interface]\nPrivateKey={KEY}")), "Address is missing");
    assert_eq!(refused(&format!("{}[Peer]\n", text())), "PublicKey of a [Peer] is missing");
    let twice = format!("{}[Peer]\nPublicKey = {PEER}\n", text());
    assert_eq!(refused(&twice), format!("two [Peer] sections have the key {PEER}"));
}

#[test]
fn what_it_holds_is_bounded() {
    let head = format!("[Interface]\nPrivateKey = {KEY}\nAddress = 10.77.0.1/24\n");
    let many = |count: usize| format!("{head}{}", "[Peer]\n".repeat(count));
    assert_eq!(refused(&many(PEERS_MAX)), "PublicKey of a [Peer] is missing");
    assert_eq!(refused(&many(PEERS_MAX + 1)), format!("more than {PEERS_MAX} peers"));
    let addresses = "10.0.0.1,".repeat(NETWORKS_MAX);
    assert!(refused(&format!("{head}Address = {addresses}")).contains("networks"));
    assert!(refused(&format!("#{}", "x".repeat(LINE_BYTES_MAX))).contains("bytes"));
    let one = "Address = ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128\n";
    let longest = one.repeat(NETWORKS_MAX);
    let head_only = format!("[Interface]\nPrivateKey={KEY}\n{longest}");
    let read = Configuration::parse(&head_only).unwrap();
    assert_eq!(Configuration::parse(&read.reveal()).unwrap(), read, "the longest list returns");
    let long = "\n".repeat(CONFIGURATION_BYTES_MAX + 1);
    assert_eq!(refused(&long), format!("more than {CONFIGURATION_BYTES_MAX} bytes"));
}

#[test]
fn names_become_files_and_endpoints_become_addresses_and_nothing_else() {
    for good in ["dave", "Mom-2", "a.b_c"] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", "a b", "../x", ".x", "-x", "a/b", &"a".repeat(64)] {
        assert!(!is_name(bad), "{bad:?}");
    }
    for good in ["h:1", "192.0.2.1:51820", "[2001:db8::1]:51820", "a-b.example:65535"] {
        assert!(is_endpoint(good), "{good}");
    }
    for bad in ["", "h", ":1", "h:", "h:x", "h h:1", "[::1:1", "2001:db8::1:1", "[x]:1", "[]:1"] {
        assert!(!is_endpoint(bad), "{bad:?}");
    }
}
