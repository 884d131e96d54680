//! Entries and withdrawals of a registry: JSON, the bytes that are signed, and what is refused.

use arknet_types::{
    Domain, Endpoint, EntryBody, ModelName, NodeId, RegistryEntry, RegistryName,
    RegistryWithdrawal, Timestamp, WithdrawalBody, encode,
    limits::{CLOCK_SKEW_MS_MAX, REGISTRY_LIFETIME_MS_MAX, REGISTRY_SEQUENCE_MAX},
};
use serde_json::{Value, json};

use crate::{golden, samples};

pub(crate) fn name() -> RegistryName {
    RegistryName::new("registry.example").unwrap()
}

fn entry() -> EntryBody {
    EntryBody {
        network: samples::network(),
        registry: name(),
        public_key: samples::peer().public(),
        node_id: NodeId::new("ark-kitchen-x7k2p9").unwrap(),
        endpoint: Endpoint::new("192.0.2.7:26656").unwrap(),
        models: vec![],
        sequence: samples::NOW.0,
        issued_at: samples::NOW,
        expires_at: samples::NOW.plus_ms(REGISTRY_LIFETIME_MS_MAX),
    }
}

fn entries() -> [(&'static str, EntryBody); 3] {
    let models = ["Qwen/Qwen3-0.6B-Q8_0", "llama3.1:8b"];
    let models = models.map(|name| ModelName::new(name).unwrap()).to_vec();
    let endpoint = Endpoint::new("/ip6/2001:db8::7/udp/26656/quic-v1").unwrap();
    let registry = RegistryName::new("[::1]").unwrap();
    [
        ("no models", entry()),
        ("two models over QUIC", EntryBody { models, endpoint, ..entry() }),
        (
            "the largest number, for a registry without a name",
            EntryBody { sequence: REGISTRY_SEQUENCE_MAX, registry, ..entry() },
        ),
    ]
}

fn withdrawal() -> WithdrawalBody {
    WithdrawalBody {
        network: samples::network(),
        registry: name(),
        public_key: samples::peer().public(),
        sequence: samples::NOW.0 + 1,
        issued_at: samples::NOW,
        expires_at: samples::NOW.plus_ms(1),
    }
}

/// What stands in `spec/vectors/registry.json`.
pub(crate) fn document() -> Value {
    let peer = samples::peer();
    let entries = entries().map(|(name, body)| {
        let entry = RegistryEntry::sign(body, &peer);
        json!({
            "name": name,
            "signer_seed": hex::encode(&peer.seed()[..]),
            "json": serde_json::to_string(&entry).unwrap(),
            "body_bytes": hex::encode(encode(&entry.body)),
            "signing_message": hex::encode(Domain::REGISTRY_ENTRY.message(&entry.body)),
        })
    });
    let withdrawal = RegistryWithdrawal::sign(withdrawal(), &peer);
    let withdrawals = [json!({
        "name": "a withdrawal",
        "signer_seed": hex::encode(&peer.seed()[..]),
        "json": serde_json::to_string(&withdrawal).unwrap(),
        "body_bytes": hex::encode(encode(&withdrawal.body)),
        "signing_message": hex::encode(Domain::REGISTRY_WITHDRAWAL.message(&withdrawal.body)),
    })];
    json!({
        "what": "Registry: spec/registry.md",
        "network": samples::network(),
        "registry": name(),
        "now": samples::NOW.0.to_string(),
        "entries": entries,
        "withdrawals": withdrawals,
        "rejected": rejected(),
    })
}

/// Texts of entries that must be refused, each with the code of the refusal.
fn rejected() -> Vec<Value> {
    let signed = |body: EntryBody| RegistryEntry::sign(body, &samples::peer());
    let good = serde_json::to_value(signed(entry())).unwrap();
    // In the text, for the order of a `Value`'s fields depends on what else is built.
    let with = |field: &str, value: Value| {
        let text = serde_json::to_string(&signed(entry())).unwrap();
        let Some(old) = good.get(field) else {
            let fields = text.strip_suffix('}').unwrap();
            return format!("{fields},\"{field}\":{value}}}");
        };
        let [old, new] = [old, &value].map(|value| format!("\"{field}\":{value}"));
        assert_eq!(text.matches(&old).count(), 1);
        text.replace(&old, &new)
    };
    let later = samples::NOW.plus_ms(CLOCK_SKEW_MS_MAX + 1);
    let future = EntryBody { issued_at: later, expires_at: later.plus_ms(1), ..entry() };
    let past = Timestamp(samples::NOW.0 - 1);
    let expired = EntryBody { issued_at: past, expires_at: samples::NOW, ..entry() };
    let long = entry().expires_at.plus_ms(1);
    let lifetime = EntryBody { expires_at: long, ..entry() };
    let text = |body: EntryBody| serde_json::to_string(&signed(body)).unwrap();
    let key = samples::wallet().public();
    let capitals = good["signature"].as_str().unwrap().to_uppercase();
    let cases = [
        ("no JSON", "malformed", String::new()),
        ("an unknown field", "malformed", with("approved", json!(true))),
        ("a node id with a space", "malformed", with("node_id", json!("a b"))),
        ("an endpoint without a port", "malformed", with("endpoint", json!("192.0.2.7"))),
        ("port 0", "malformed", with("endpoint", json!("192.0.2.7:0"))),
        ("models out of order", "malformed", with("models", json!(["b", "a"]))),
        ("a model twice", "malformed", with("models", json!(["a", "a"]))),
        ("a number of 2^53", "malformed", with("sequence", json!(REGISTRY_SEQUENCE_MAX + 1))),
        ("a number below zero", "malformed", with("sequence", json!(-1))),
        ("a signature in capitals", "malformed", with("signature", json!(capitals))),
        ("a key in hex", "malformed", with("public_key", json!(hex::encode(key.0)))),
        ("another network", "wrong_network", with("network", json!("other"))),
        ("another registry", "wrong_registry", with("registry", json!("other.example"))),
        ("it would live a millisecond too long", "lifetime", text(lifetime)),
        ("it ended now", "expired", text(expired)),
        ("30001 ms in the future", "future_dated", text(future)),
        ("another key", "forged", with("public_key", json!(key.peer_id()))),
        ("another endpoint", "forged", with("endpoint", json!("192.0.2.8:26656"))),
        ("another sequence", "forged", with("sequence", json!(1))),
    ];
    let check = |(reason, code, json): (&str, &str, String)| {
        assert_eq!(outcome(&json), Err(code), "{reason}");
        json!({ "reason": reason, "result": code, "json": json })
    };
    cases.map(check).to_vec()
}

fn outcome(json: &str) -> Result<RegistryEntry, &'static str> {
    let entry = RegistryEntry::parse(json.as_bytes()).map_err(|error| error.code())?;
    let checked = entry.check(&samples::network(), &name(), samples::NOW);
    checked.map(|()| entry).map_err(|error| error.code())
}

#[test]
fn entries_of_a_registry_read_as_their_vectors_say() {
    let file = golden::read("registry.json");
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap()).unwrap();
    for case in file["entries"].as_array().unwrap() {
        let text = case["json"].as_str().unwrap();
        let entry = RegistryEntry::parse(text.as_bytes()).unwrap();
        entry.check(&samples::network(), &entry.body.registry, samples::NOW).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(encode(&entry.body), bytes(&case["body_bytes"]));
    }
    for case in file["withdrawals"].as_array().unwrap() {
        let text = case["json"].as_str().unwrap();
        let withdrawal = RegistryWithdrawal::parse(text.as_bytes()).unwrap();
        withdrawal.check(&samples::network(), &name(), samples::NOW).unwrap();
        assert_eq!(serde_json::to_string(&withdrawal).unwrap(), text);
        assert_eq!(encode(&withdrawal.body), bytes(&case["body_bytes"]));
    }
    for case in file["rejected"].as_array().unwrap() {
        let found = outcome(case["json"].as_str().unwrap());
        assert_eq!(found.unwrap_err(), case["result"], "{}", case["reason"]);
    }
}
