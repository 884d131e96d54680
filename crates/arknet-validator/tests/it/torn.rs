//! Whatever moment the power goes at, and whatever the disk then has of what was not synced: the
//! store is there with the last height that it said is kept, or the one after, and goes on.

use std::{io::ErrorKind, num::NonZeroU64, sync::OnceLock};

use arknet_chain::{MemoryState, StateView, state_root};
use arknet_validator::{Reader, Store, StoreError, StoreOptions};
use proptest::prelude::*;

use crate::{
    chain::{Chain, Decided, genesis},
    disk::Disk,
};

const BLOCKS: usize = 6;

/// Some blocks, and the state after each, the first before any.
fn story() -> &'static (Vec<Decided>, Vec<MemoryState>) {
    static STORY: OnceLock<(Vec<Decided>, Vec<MemoryState>)> = OnceLock::new();
    STORY.get_or_init(tell)
}

fn tell() -> (Vec<Decided>, Vec<MemoryState>) {
    let mut chain = Chain::new(&genesis(2));
    let mut states = vec![chain.state.clone()];
    let blocks = (0..BLOCKS).map(|n| {
        let decided = chain.busy_block(u8::try_from(n * 3).unwrap());
        states.push(chain.state.clone());
        decided
    });
    (blocks.collect(), states)
}

fn options() -> StoreOptions {
    let keep_blocks = NonZeroU64::new(3);
    StoreOptions { cache_bytes: 1024 * 1024, keep_blocks, ..StoreOptions::default() }
}

fn open(disk: &Disk) -> Result<Store, StoreError> {
    Store::open_on(disk.clone(), genesis(2), options())
}

/// Holds a store against what it must hold at its height.
fn check(reader: &Reader, blocks: &[Decided], states: &[MemoryState]) {
    let height = reader.height();
    let at = usize::try_from(height).unwrap();
    assert_eq!(reader.range(&[], &[u8::MAX], usize::MAX), all(&states[at]), "at {height}");
    assert_eq!(state_root(reader), state_root(&states[at]));
    for (n, decided) in blocks.iter().enumerate() {
        let (its, n) = (decided.height(), n as u64 + 1);
        assert_eq!(its, n);
        let is_there = its <= height && its + 3 > height;
        let block = reader.block(its).unwrap();
        assert_eq!(block.map(|block| block.header), is_there.then(|| decided.block.header.clone()));
        assert_eq!(reader.certificate(its).unwrap().is_some(), is_there);
        for (index, outcome) in (0..).zip(&decided.executed.outcomes) {
            let found = reader.transaction(&outcome.id).unwrap();
            assert_eq!(
                found.map(|found| (found.height, found.proof.index)),
                is_there.then_some((its, index))
            );
        }
    }
}

fn all(state: &MemoryState) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut from = Vec::new();
    while let Some((key, value)) = state.first(&from, &[u8::MAX]) {
        from.clone_from(&key);
        from.push(0);
        found.push((key, value));
    }
    found
}

/// Commits blocks until the disk fails; the last height that was said to be kept.
fn run(disk: &Disk, blocks: &[Decided]) -> Option<u64> {
    let store = open(disk).ok()?;
    let mut kept = store.read().ok()?.height();
    for decided in &blocks[usize::try_from(kept).unwrap()..] {
        match decided.keep(&store) {
            Ok(()) => kept = decided.height(),
            Err(_) => break,
        }
    }
    Some(kept)
}

fn operations_in_all(blocks: &[Decided]) -> u64 {
    let disk = Disk::default();
    assert_eq!(run(&disk, blocks), Some(BLOCKS as u64));
    disk.operations()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_write_loses_nothing_that_was_kept(
        part in 0_u64..1_000_000, seed in any::<u64>(), again in 0_u64..60,
    ) {
        let (blocks, states) = story();
        let total = operations_in_all(blocks);
        let disk = Disk::default();
        disk.fail_after(part * (total + 1) / 1_000_000, ErrorKind::Other);
        let kept = run(&disk, blocks);
        let mut coin = seed | 1;
        let mut keeps = || {
            coin ^= coin << 13;
            coin ^= coin >> 7;
            coin ^= coin << 17;
            coin % 3 > 0
        };
        // Coming back may be cut off, too.
        let mut disk = disk.after_crash(&mut keeps);
        if kept.is_none() {
            disk = Disk::default();
        }
        disk.fail_after(again, ErrorKind::Other);
        let second = run(&disk, blocks);
        let mut disk = disk.after_crash(&mut keeps);
        if kept.max(second).is_none() {
            // A file that was never whole never had the store's name.
            disk = Disk::default();
        }
        let store = open(&disk).unwrap();
        let reader = store.read().unwrap();
        let kept = kept.max(second).unwrap_or_default();
        prop_assert!((kept..=kept + 1).contains(&reader.height()), "{} of {kept}", reader.height());
        check(&reader, blocks, states);
        drop((reader, store));
        prop_assert_eq!(run(&disk, blocks), Some(BLOCKS as u64));
        check(&open(&disk).unwrap().read().unwrap(), blocks, states);
    }
}

#[test]
fn a_full_disk_is_said_to_be_full_and_costs_nothing_that_was_kept() {
    let (blocks, states) = story();
    let disk = Disk::default();
    let store = open(&disk).unwrap();
    blocks[0].keep(&store).unwrap();
    disk.fail_after(2, ErrorKind::StorageFull);
    let error = blocks[1].keep(&store).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull), "{error}");
    assert!(error.to_string().contains("full"));
    drop(store);
    disk.repair();
    let store = open(&disk).unwrap();
    check(&store.read().unwrap(), blocks, states);
    for decided in &blocks[1..] {
        decided.keep(&store).unwrap();
    }
    check(&store.read().unwrap(), blocks, states);
}
