use super::*;
use crate::MemoryState;

fn document(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut document = serde_json::json!({
        "network": "arknet-test-1",
        "time_ms": 1_700_000_000_000_u64,
        "params": { "validators_max": 7 },
        "validators": [{
            "operator": "0xfef6dfa48b073924c436539010d7812fbe50096a",
            "key": "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12",
            "weight": 100,
        }],
    });
    change(&mut document);
    document.to_string()
}

#[test]
fn a_genesis_makes_no_money() {
    let genesis = Genesis::parse(&document(|_| {})).unwrap();
    let (changes, root) = genesis.state().unwrap();
    let mut state = MemoryState::default();
    state.apply(changes);
    assert_eq!(crate::state_root(&state), root);
    let meta: crate::Meta = crate::read(&state, &Key::Meta).unwrap();
    assert_eq!((meta.minted, meta.height, meta.bootstrap), (Atoms::ZERO, 0, true));
    assert_eq!(genesis.params.of(Param::ValidatorsMax), 7);
    let set: ValidatorSet = crate::read(&state, &Key::Validators).unwrap();
    assert_eq!(set.total_power(), 100);
}

#[test]
fn every_field_has_its_part_in_the_name() {
    let id = |change: fn(&mut serde_json::Value)| Genesis::parse(&document(change)).unwrap().id();
    let names = [
        id(|_| {}),
        id(|d| d["time_ms"] = 1.into()),
        id(|d| d["network"] = "other".into()),
        id(|d| d["params"]["validators_max"] = 8.into()),
        id(|d| d["validators"][0]["weight"] = 8.into()),
    ];
    let unique: std::collections::BTreeSet<Hash> = names.into_iter().collect();
    assert_eq!(unique.len(), names.len());
}

#[test]
fn what_is_no_genesis_is_refused() {
    let refused =
        |change: fn(&mut serde_json::Value)| Genesis::parse(&document(change)).unwrap_err();
    assert!(matches!(refused(|d| d["more"] = 1.into()), GenesisError::Malformed(_)));
    assert!(matches!(
        refused(|d| d["validators"][0]["key"] = "12".into()),
        GenesisError::Malformed(_)
    ));
    assert!(matches!(
        refused(|d| d["params"]["validators_max"] = 0.into()),
        GenesisError::Param(_)
    ));
    assert!(matches!(refused(|d| d["params"]["x"] = 0.into()), GenesisError::Param(_)));
    assert!(matches!(refused(|d| d["validators"] = [0; 0].into()), GenesisError::Validators));
    assert!(matches!(refused(|d| d["validators"][0]["weight"] = 0.into()), GenesisError::Weight));
    let twice: fn(&mut serde_json::Value) = |d| {
        let one = d["validators"][0].clone();
        d["validators"] = vec![one.clone(), one].into();
    };
    assert!(matches!(refused(twice), GenesisError::Validators));
    let rich: fn(&mut serde_json::Value) = |d| {
        let owner = "0xfef6dfa48b073924c436539010d7812fbe50096a";
        d["danger_allocations"] = serde_json::json!({ owner: "1000000000000000001" });
    };
    assert!(matches!(refused(rich), GenesisError::Money));
    assert!(matches!(
        Genesis::parse(&" ".repeat(GENESIS_BYTES_MAX + 1)),
        Err(GenesisError::TooLarge)
    ));
    assert!(matches!(Genesis::parse("{"), Err(GenesisError::Malformed(_))));
}

#[test]
fn a_document_that_is_written_is_the_one_that_was_read() {
    let genesis = Genesis::parse(&document(|d| {
        d["validators"][0]["danger_stake"] = "7".into();
        d["danger_allocations"] = serde_json::json!({
            "0x00000000000000000000000000000000000000aa": "18446744073",
        });
    }));
    let genesis = genesis.unwrap();
    assert_eq!(Genesis::parse(&genesis.to_json()).unwrap(), genesis);
}
