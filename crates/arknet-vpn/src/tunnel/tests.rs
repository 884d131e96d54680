use std::os::unix::fs::PermissionsExt;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn hub(folder: &Path) -> Tunnel {
    let tunnel = Tunnel::new(&folder.join("vpn"), "arknet").unwrap();
    tunnel.init("10.77.0.0/24".parse().unwrap(), 51820).unwrap();
    tunnel
}

#[test]
fn an_invitation_opens_the_tunnel_that_made_it() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub(home.path());
    assert_eq!(mode(hub.path()), 0o600);
    let own = hub.read().unwrap();
    assert_eq!(own.addresses, ["10.77.0.1/24".parse().unwrap()]);
    let invited = hub.invite("dave", "home.example").unwrap();
    assert_eq!(invited.address.to_string(), "10.77.0.2/24");
    assert_eq!(invited.endpoint, "home.example:51820");
    let file = home.path().join("dave.invitation");
    invited.write(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    let other = Tunnel::new(&home.path().join("other"), "arknet").unwrap();
    let joined = other.join(&file).unwrap();
    assert_eq!(mode(other.path()), 0o600);
    assert_eq!(joined, other.read().unwrap());
    let peers = hub.read().unwrap().peers;
    assert_eq!(peers[0].key, joined.key.public());
    assert_eq!(peers[0].shared, joined.peers[0].shared);
    assert_eq!(peers[0].allowed, ["10.77.0.2/32".parse().unwrap()]);
    assert_eq!(joined.peers[0].key, own.key.public());
    assert_eq!(joined.peers[0].allowed, ["10.77.0.0/24".parse().unwrap()]);
    let next = hub.invite("mum", "192.0.2.1:4500").unwrap();
    assert_eq!(next.address.to_string(), "10.77.0.3/24");
    assert_eq!(next.endpoint, "192.0.2.1:4500");
}

#[test]
fn what_is_there_is_not_overwritten_and_the_owners_remarks_stay() {
    let home = tempfile::tempdir().unwrap();
    let hub = hub(home.path());
    let before = fs::read_to_string(hub.path()).unwrap();
    let again = hub.init("10.78.0.0/24".parse().unwrap(), 1);
    assert!(matches!(again, Err(TunnelError::Exists { .. })));
    assert_eq!(fs::read_to_string(hub.path()).unwrap(), before);
    fs::write(hub.path(), format!("# mine\n{before}\n# end\n")).unwrap();
    let invited = hub.invite("dave", "h").unwrap();
    let after = fs::read_to_string(hub.path()).unwrap();
    assert!(after.starts_with("# mine\n") && after.contains("# end\n\n[Peer]\n# Name = dave\n"));
    assert_eq!(mode(hub.path()), 0o600);
    assert!(matches!(hub.invite("dave", "h"), Err(TunnelError::NameTaken { .. })));
    let file = home.path().join("x");
    invited.write(&file).unwrap();
    assert!(matches!(invited.write(&file), Err(TunnelError::Exists { .. })));
    assert!(matches!(hub.join(&file), Err(TunnelError::Exists { .. })));
}

#[test]
fn an_invitation_that_wants_more_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let invited = hub(home.path()).invite("dave", "h").unwrap();
    let good = invited.configuration.reveal().to_string();
    let file = home.path().join("invitation");
    let other = Tunnel::new(&home.path().join("other"), "arknet").unwrap();
    for (from, to, words) in [
        ("AllowedIPs = 10.77.0.0/24", "AllowedIPs = 0.0.0.0/0", "lead 0.0.0.0/0 through"),
        ("AllowedIPs = 10.77.0.0/24", "AllowedIPs = 10.77.0.0/16", "lead 10.77.0.0/16 through"),
        ("AllowedIPs = 10.77.0.0/24", "AllowedIPs = 192.168.1.1/32", "lead 192.168.1.1/32"),
        ("Address = 10.77.0.2/24", "Address = 10.77.0.2/8", "is private"),
        ("Endpoint = h:51820\n", "", "does not say where"),
        ("[Interface]", "[Interface]\nPostUp = touch /tmp/x", "not followed"),
        ("PrivateKey", "Private", "has no private"),
        ("[Peer]", "", "has no publickey"),
    ] {
        fs::write(&file, good.replacen(from, to, 1)).unwrap();
        let error = other.join(&file).unwrap_err().to_string();
        assert!(error.contains(words), "{error} / {words}");
        assert!(!other.path().exists(), "nothing is kept of it");
    }
    fs::write(&file, [0xff, 0xfe, 0]).unwrap();
    assert!(matches!(other.join(&file), Err(TunnelError::Io { .. })));
    fs::write(&file, "").unwrap();
    assert!(matches!(other.join(&file), Err(TunnelError::Configuration { .. })));
    fs::write(&file, &good).unwrap();
    other.join(&file).unwrap();
}

#[test]
fn names_ports_and_rights_are_checked() {
    let home = tempfile::tempdir().unwrap();
    for bad in ["", "7", "a/b", "..", "sixteen-letters-"] {
        assert!(
            matches!(Tunnel::new(home.path(), bad), Err(TunnelError::Interface { .. })),
            "{bad}"
        );
    }
    let none = Tunnel::new(home.path(), "none").unwrap();
    assert!(matches!(none.read(), Err(TunnelError::NoTunnel { .. })));
    let hub = hub(home.path());
    for bad in ["", "../dave", "a b"] {
        assert!(matches!(hub.invite(bad, "h"), Err(TunnelError::Name { .. })), "{bad}");
    }
    for bad in ["", "h h", "h:0", "h:x", "http://h"] {
        assert!(matches!(hub.invite("dave", bad), Err(TunnelError::Endpoint { .. })), "{bad}");
    }
    fs::set_permissions(hub.path(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(hub.read().unwrap_err().to_string().contains("chmod 600"));
    fs::set_permissions(hub.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let text = fs::read_to_string(hub.path()).unwrap();
    fs::write(hub.path(), text.replace("ListenPort = 51820\n", "")).unwrap();
    assert!(matches!(hub.invite("dave", "h"), Err(TunnelError::NoPort { .. })));
    fs::write(hub.path(), text.replace("10.77.0.1/24", "10.77.0.1/30")).unwrap();
    hub.invite("one", "h").unwrap();
    assert!(matches!(hub.invite("two", "h"), Err(TunnelError::Network(NetworkError::Full))));
}
