//! A validator whose power goes, again and again, at any write of its store: what anybody saw
//! committed stays what it was, and what it promised it keeps, though the store's file has the last
//! heights only now and then.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{ErrorKind, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use arknet_chain::{Genesis, Hash, Key, read};
use arknet_consensus::{Message, Misdeed, Peer, Timing, Verdict};
use arknet_validator::{
    Event, Reader, Store, StoreOptions, Transport, Validator, ValidatorOptions,
};
use tokio::sync::mpsc;

use crate::{
    chain::{address, genesis_at},
    disk::Disk,
    driver::{in_time, pay},
    killed::Coin,
    network::{now, options},
};

/// Nobody is there.
struct Silence;

impl Transport for Silence {
    fn broadcast(&self, _: Message) {}
    fn send(&self, _: &Peer, _: Message) {}
    fn forward(&self, _: &Peer, _: Message) {}
    fn judge(&self, _: u64, _: Verdict) {}
    fn misbehaved(&self, _: &Peer, _: &Misdeed) {}
}

/// What somebody outside knows.
#[derive(Default)]
struct Seen {
    blocks: BTreeMap<u64, Hash>,
    promised: Vec<Hash>,
}

impl Seen {
    /// Nothing comes back where the disk has failed.
    fn look(&mut self, store: &Store) -> Option<Reader> {
        let reader = store.read().ok()?;
        for height in 1..=reader.height() {
            let id = reader.header(height).ok()?.unwrap().id();
            let before = *self.blocks.entry(height).or_insert(id);
            assert_eq!(before, id, "height {height} was another block before");
        }
        Some(reader)
    }
}

fn alone(directory: &Path, genesis: &Genesis, checkpoint_ms: u64) -> ValidatorOptions {
    let mut options = options(1, directory, genesis);
    options.consensus.timing = Timing { block_interval_ms: 2, gather_ms: 0, ..Timing::default() };
    options.store = StoreOptions { cache_bytes: 256 * 1024, checkpoint_ms, ..options.store };
    options
}

/// Runs it until its disk fails, or until all that was promised is committed.
async fn live(disk: &Disk, options: ValidatorOptions, seen: &Arc<Mutex<Seen>>, is_last: bool) {
    let Ok(store) = Store::open_on(disk.clone(), options.genesis.clone(), options.store) else {
        return;
    };
    // Kept open: what is dropped with it, a channel without a sender, would end the node.
    let (_events, arriving) = mpsc::channel::<Event>(1);
    let Ok(mut node) = Validator::start_on(store, options, Arc::new(Silence), arriving) else {
        return;
    };
    let (link, store) = (node.link().clone(), node.store().clone());
    let mut heights = link.watch();
    let watching = async {
        loop {
            let Some(reader) = seen.lock().unwrap().look(&store) else { return };
            let is_done = |id: &Hash| reader.transaction(id).unwrap().is_some();
            if is_last && seen.lock().unwrap().promised.iter().all(is_done) {
                return;
            }
            drop(reader);
            if heights.changed().await.is_err() {
                return;
            }
        }
    };
    let paying = async {
        while let Some(nonce) = link.next_nonce(address(3)).await {
            let payment = pay(3, nonce, 4);
            let id = payment.id();
            if !is_last && link.submit(payment).await.is_ok() {
                seen.lock().unwrap().promised.push(id);
            }
            if is_last {
                return;
            }
        }
    };
    tokio::join!(watching, paying);
    if is_last {
        node.stop().await.unwrap();
    } else {
        node.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_moment_the_power_goes_at_nothing_seen_is_undone() {
    in_time(async {
        let (mut blocks, mut again) = (0, 0);
        for seed in 1..=24 {
            let (seen, replayed) = one_life(seed).await;
            blocks += seen.blocks.len();
            again += replayed;
        }
        assert!(blocks > 500 && again > 50, "{blocks} blocks, {again} of them from the log alone");
    })
    .await;
}

/// What was seen, and how many heights the store's own file lacked after all crashes.
async fn one_life(seed: u64) -> (Seen, u64) {
    let mut coin = Coin(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
    let home = tempfile::tempdir().unwrap();
    let genesis = genesis_at(1, now());
    let checkpoint_ms = [0, 10, 40, 100_000][usize::try_from(seed % 4).unwrap()];
    let options = || alone(home.path(), &genesis, checkpoint_ms);
    let mut disk = Disk::default();
    drop(Store::open_on(disk.clone(), genesis.clone(), options().store).unwrap());
    let (seen, mut again) = (Arc::<Mutex<Seen>>::default(), 0);
    for _ in 0..4 {
        disk.fail_after(coin.below(400), ErrorKind::Other);
        live(&disk, options(), &seen, false).await;
        disk = disk.after_crash(|| coin.below(3) > 0);
        // The log was cut off, too: in a record that nothing depends on.
        let log = home.path().join("consensus.wal");
        let mut log = OpenOptions::new().append(true).open(log).unwrap();
        let noise: Vec<u8> = (0..60).take(usize::try_from(coin.below(60)).unwrap()).collect();
        log.write_all(&noise).unwrap();
        let store = Store::open_on(disk.clone(), genesis.clone(), options().store).unwrap();
        let kept = store.read().unwrap().height();
        let last = seen.lock().unwrap().blocks.keys().max().copied().unwrap_or_default();
        again += last.saturating_sub(kept);
    }
    live(&disk, options(), &seen, true).await;
    let store = Store::open_on(disk.clone(), genesis.clone(), options().store).unwrap();
    let mut seen = std::mem::take(&mut *seen.lock().unwrap());
    let reader = seen.look(&store).unwrap();
    assert!(reader.height() >= *seen.blocks.keys().max().unwrap(), "it fell behind what it showed");
    let account: arknet_chain::Account = read(&reader, &Key::Account(address(3))).unwrap();
    assert!(account.nonce >= seen.promised.len() as u64, "a promise is broken");
    (seen, again)
}
