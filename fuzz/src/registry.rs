//! What nodes tell a registry, and what a registry tells nodes.

use std::fmt::Debug;

use arknet_types::{
    Endpoint, NetworkId, RegistryEntry, RegistryName, RegistryPage, RegistryWithdrawal, Timestamp,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Decoder, corpus, decoders::with};

/// All of them.
pub(crate) fn decoders() -> anyhow::Result<Vec<Decoder>> {
    let entries = corpus::jsons("registry.json", "entries")?;
    let withdrawals = corpus::jsons("registry.json", "withdrawals")?;
    let pages = entries.iter().map(|entry| {
        let entry = String::from_utf8_lossy(entry);
        format!("{{\"entries\":[{entry}],\"next\":null}}").into_bytes()
    });
    let pages = pages.collect();
    let endpoints = corpus::inputs([
        "192.0.2.7:26656",
        "[2001:db8::7]:26656",
        "/ip6/2001:db8::7/udp/26656/quic-v1",
        "/dns/ark.example/tcp/1",
        "/ip4/192.0.2.7/tcp/1/p2p/12D3KooWQCkBm1BYtkHpocxCwMgR8yjitEeHGx8spzcDLGt2gkBm/p2p-circuit",
    ]);
    Ok(vec![
        with("RegistryEntry", entries, entry),
        with("Registry (withdrawal)", withdrawals, withdrawal),
        with("RegistryPage", pages, page),
        with("Endpoint", endpoints, endpoint),
    ])
}

fn entry(bytes: &[u8]) -> bool {
    RegistryEntry::parse(bytes).is_ok_and(|entry| {
        returns(&entry);
        // Whatever it says, checking it is quick and quiet.
        let _ = entry.check(&network(), &registry(), NOW);
        true
    })
}

fn withdrawal(bytes: &[u8]) -> bool {
    RegistryWithdrawal::parse(bytes).is_ok_and(|withdrawal| {
        returns(&withdrawal);
        let _ = withdrawal.check(&network(), &registry(), NOW);
        true
    })
}

fn page(bytes: &[u8]) -> bool {
    RegistryPage::parse(bytes, &network(), &registry(), NOW).is_ok_and(|page| {
        for entry in &page.entries {
            assert!(entry.check(&network(), &registry(), NOW).is_ok(), "unchecked words");
        }
        true
    })
}

fn endpoint(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    Endpoint::new(text).is_ok_and(|endpoint| {
        let again = Endpoint::new(endpoint.multiaddr()).expect("a multiaddr is an endpoint");
        assert_eq!(again.reach(), endpoint.reach(), "the same place");
        true
    })
}

fn returns<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("a value has a text");
    let again: T = serde_json::from_slice(&text).expect("what is written can be read");
    assert_eq!(again, *value, "the text changed a value");
}

/// The network, the registry and the time of the vectors.
const NOW: Timestamp = Timestamp(1_735_689_600_000);

fn network() -> NetworkId {
    NetworkId::new("arknet-test-1").expect("a good name")
}

fn registry() -> RegistryName {
    RegistryName::new("registry.example").expect("a good name")
}
