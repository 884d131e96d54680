use std::{fs, path::Path};

use arknet_chain::{Action, Genesis, LightClient, Manifest, SnapshotError, StateView, state_root};
use arknet_types::{Address, Atoms};
use arknet_validator::{Import, ImportError, Store, StoreError, StoreOptions};

use crate::chain::{Chain, address, genesis};

/// An account of nobody's.
fn other(n: u32) -> Address {
    let mut other = [9; 20];
    other[..4].copy_from_slice(&n.to_le_bytes());
    Address(other)
}

/// A genesis whose state nearly fills a part.
fn large() -> Genesis {
    let mut genesis = genesis(2);
    genesis.allocations.extend((0..16_000).map(|n| (other(n), Atoms(1))));
    genesis
}

struct Source {
    _home: tempfile::TempDir,
    store: Store,
    chain: Chain,
    manifest: Manifest,
    parts: Vec<Vec<u8>>,
}

fn source() -> Source {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path(), large(), StoreOptions::default()).unwrap();
    let mut chain = Chain::new(&large());
    let none = store.read().unwrap().export::<StoreError>(|_, _| Ok(())).unwrap();
    assert_eq!(none, None, "nothing proves the genesis' state but the genesis");
    for n in 1..=3_u32 {
        let pay = |m: u32| {
            let (to, amount) = (other(n * 100_000 + m), Atoms(1));
            chain.sign(3, m.into(), Action::Transfer { to, amount })
        };
        let payments = (0..1_500).map(pay).collect();
        chain.block(payments).keep(&store).unwrap();
    }
    let mut parts = Vec::new();
    let keep = |index, bytes: &[u8]| {
        assert_eq!(index, parts.len());
        parts.push(bytes.to_vec());
        Ok::<(), StoreError>(())
    };
    let manifest = store.read().unwrap().export(keep).unwrap().unwrap();
    let manifest = Manifest::parse(&arknet_types::encode(&manifest)).unwrap();
    assert!(parts.len() > 1);
    Source { _home: home, store, chain, manifest, parts }
}

/// A client that has come to the snapshot's block.
fn client(source: &Source) -> LightClient {
    let mut client = LightClient::from_genesis(&large()).unwrap();
    client.advance(source.manifest.block.clone(), source.chain.now()).unwrap();
    client
}

fn finish(import: Import) -> Result<(), ImportError> {
    import.finish(&large(), StoreOptions::default())
}

#[test]
fn a_store_from_a_snapshot_is_the_same_and_goes_on() {
    let mut source = source();
    let home = tempfile::tempdir().unwrap();
    let begin = || Import::begin(home.path(), source.manifest.clone(), &client(&source)).unwrap();
    let mut import = begin();
    import.add(1, &source.parts[1]).unwrap();
    assert!(matches!(import.add(0, &source.parts[1]), Err(ImportError::Snapshot(_))));
    let error = finish(import).unwrap_err();
    assert!(matches!(error, ImportError::Incomplete { .. }), "{error}");
    // Another process goes on, and finds that one part has rotted.
    let mut import = begin();
    assert!(!import.missing().any(|index| index == 1) && import.missing().any(|index| index == 0));
    let file = fs::read_dir(home.path().join("snapshot-parts")).unwrap().next().unwrap().unwrap();
    fs::write(file.path(), b"rot").unwrap();
    import = begin_again(import, &begin);
    for index in import.missing().collect::<Vec<_>>() {
        import.add(index, &source.parts[index]).unwrap();
    }
    finish(import).unwrap();
    let store = Store::open(home.path(), large(), StoreOptions::default()).unwrap();
    let (new, old) = (store.read().unwrap(), source.store.read().unwrap());
    assert_eq!(new.height(), 3);
    let all = |reader: &arknet_validator::Reader| reader.range(&[], &[u8::MAX], usize::MAX);
    assert_eq!(all(&new), all(&old));
    assert_eq!(state_root(&new), state_root(&old));
    assert_eq!(new.light_block(3).unwrap(), old.light_block(3).unwrap());
    assert_eq!(new.page(&[3]), old.page(&[3]));
    assert_eq!((new.block(3).unwrap(), new.first_block().unwrap()), (None, None));
    assert!(matches!(
        Import::begin(home.path(), source.manifest.clone(), &client(&source)),
        Err(ImportError::Exists(_))
    ));
    assert!(!home.path().join("snapshot-parts").exists());
    drop((new, old));
    let next = source.chain.busy_block(9);
    next.keep(&store).unwrap();
    assert_eq!(state_root(&store.read().unwrap()), next.block.header.state_root);
}

fn begin_again(import: Import, begin: &dyn Fn() -> Import) -> Import {
    let before = import.missing().count();
    let import = begin();
    assert_eq!(import.missing().count(), before + 1, "what has rotted is fetched again");
    import
}

#[test]
fn values_that_were_made_up_never_become_a_store() {
    let source = source();
    let home = tempfile::tempdir().unwrap();
    let mut part = source.manifest.part(0, &source.parts[0]).unwrap();
    let key = arknet_chain::Key::Account(address(5)).bytes();
    let rich = arknet_chain::Account { balance: Atoms(u64::MAX), ..Default::default() };
    let entry = part.0.iter_mut().find(|(found, _)| *found == key).unwrap();
    entry.1 = arknet_types::encode(&rich);
    let forged = arknet_types::encode(&part);
    let mut manifest = source.manifest.clone();
    manifest.parts[0] = arknet_chain::Part::hash(&forged);
    let mut import = Import::begin(home.path(), manifest, &client(&source)).unwrap();
    import.add(0, &forged).unwrap();
    for index in import.missing().collect::<Vec<_>>() {
        import.add(index, &source.parts[index]).unwrap();
    }
    let error = finish(import).unwrap_err();
    assert!(matches!(error, ImportError::Root), "{error}");
    assert!(names(home.path()).iter().all(|name| !name.starts_with("chain.redb")));
    // Parts in another order are no state, either.
    let mut manifest = source.manifest.clone();
    manifest.parts.reverse();
    let home = tempfile::tempdir().unwrap();
    let mut import = Import::begin(home.path(), manifest, &client(&source)).unwrap();
    for (index, part) in source.parts.iter().rev().enumerate() {
        import.add(index, part).unwrap();
    }
    let error = finish(import).unwrap_err();
    assert!(matches!(error, ImportError::Snapshot(SnapshotError::Order)), "{error}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_snapshot_of_a_block_that_is_not_known_is_not_begun() {
    let source = source();
    let home = tempfile::tempdir().unwrap();
    let early = LightClient::from_genesis(&large()).unwrap();
    let refused = Import::begin(home.path(), source.manifest.clone(), &early).unwrap_err();
    assert!(matches!(refused, ImportError::NotTrusted), "{refused}");
    let mut forged = source.manifest.clone();
    forged.block.header.state_root = arknet_chain::Hash::ZERO;
    let refused = Import::begin(home.path(), forged, &client(&source)).unwrap_err();
    assert!(matches!(refused, ImportError::NotTrusted), "{refused}");
    let mut forged = source.manifest.clone();
    forged.block.next_validators =
        arknet_chain::ValidatorSet::new(vec![forged.block.validators.members()[0]]).unwrap();
    let refused = Import::begin(home.path(), forged, &client(&source)).unwrap_err();
    assert!(matches!(refused, ImportError::NotTrusted), "{refused}");
}
