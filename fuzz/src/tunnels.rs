//! Configurations of tunnels: invitations come from others.

use arknet_vpn::{Configuration, Network};

use crate::{Decoder, corpus, decoders::with};

/// All of them.
pub(crate) fn decoders() -> Vec<Decoder> {
    let configurations = corpus::inputs([
        "[Interface]\nPrivateKey = dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\n\
         Address = 10.77.0.2/24\nMTU = 1420\n\n[Peer]\n# Name = hub\n\
         PublicKey = hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n\
         AllowedIPs = 10.77.0.0/24, fd77::/64\nEndpoint = home.example:51820\n\
         PersistentKeepalive = 25\n",
        "[interface]\nprivatekey=dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=\naddress=fd00::1/64\n",
    ]);
    let networks = corpus::inputs(["10.77.0.0/24", "192.0.2.1", "fd00::1/64", "::/0"]);
    vec![
        with("WireGuard (conf)", configurations, configuration),
        with("WireGuard (network)", networks, network),
    ]
}

fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    Configuration::parse(text).is_ok_and(|read| {
        let again = Configuration::parse(&read.reveal()).expect("what is written can be read");
        assert_eq!(again, read, "the text changed a configuration");
        true
    })
}

fn network(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    text.parse::<Network>().is_ok_and(|network| {
        assert!(network.truncated().contains(&network), "an address lies in its network");
        let _ = network.free_address(&[]);
        true
    })
}
