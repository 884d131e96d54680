//! A node that begins when nobody has the old blocks any more.

use std::{fs, num::NonZeroU64};

use arknet_chain::{Account, Hash, Key, read, state_root};
use arknet_consensus::Message;
use arknet_types::{Address, Atoms};
use arknet_validator::StoreOptions;

use crate::{
    chain::address,
    driver::{in_time, pay},
    network::{Network, peer},
};

/// Heights between two snapshots: a snapshot must be there for longer than it takes to fetch it.
const INTERVAL: u64 = 100;

fn other(n: u32) -> Address {
    let mut other = [9; 20];
    other[..4].copy_from_slice(&n.to_le_bytes());
    Address(other)
}

/// Two validators who forget old blocks and make snapshots, and a state of so many accounts.
fn network(accounts: u32) -> Network {
    let mut net = Network::new(2);
    net.genesis.allocations.extend((0..accounts).map(|n| (other(n), Atoms(1))));
    net.store = StoreOptions {
        keep_blocks: NonZeroU64::new(4),
        snapshot_interval: NonZeroU64::new(INTERVAL),
        ..StoreOptions::default()
    };
    net
}

/// Runs the two until nobody has the first block and a snapshot is there.
async fn age(net: &mut Network) {
    for n in 1..=2 {
        net.start(n);
    }
    for n in 1..=2 {
        let home = net.home(n);
        let mut height = 0;
        let is_there = |home: &std::path::Path| {
            let snapshots = fs::read_dir(home.join("snapshots")).unwrap();
            snapshots.flatten().any(|one| one.file_name() != "new")
        };
        while height < INTERVAL + 4 || !is_there(&home) {
            height = net.now_at(n);
            net.height(n, height + 1).await;
        }
        let first = net.node(n).store().read().unwrap().first_block().unwrap();
        assert!(first.unwrap() > 1, "nobody can begin with the genesis any more");
    }
}

async fn joins(accounts: u32) {
    let mut net = network(accounts);
    age(&mut net).await;
    net.start(3);
    net.until(3, |progress| progress.height > INTERVAL).await;
    let height = net.now_at(3) + 3;
    net.height(3, height).await;
    net.height(1, height).await;
    // It is the same ledger, in which the new one takes part.
    net.node(3).link().submit(pay(11, 0, 4)).await.unwrap();
    let mut seen = net.node(1).link().watch();
    let paid = |net: &Network| {
        let reader = net.node(1).store().read().unwrap();
        read::<Account>(&reader, &Key::Account(address(11))).unwrap().nonce == 1
    };
    while !paid(&net) {
        seen.changed().await.unwrap();
    }
    let reader = net.node(3).store().read().unwrap();
    let header = reader.header(reader.height()).unwrap().unwrap();
    assert_eq!(state_root(&reader), header.state_root);
    let account: Account = read(&reader, &Key::Account(other(accounts - 1))).unwrap();
    assert_eq!(account.balance, Atoms(1));
    assert!(reader.header(1).unwrap().is_none(), "it never had the first block");
    assert!(!net.home(3).join("snapshot-parts").exists());
    drop(reader);
    // After a restart it is still there.
    let before = net.now_at(3);
    net.stop(3).await;
    net.start(3);
    net.height(3, before + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_begins_with_a_snapshot_and_follows() {
    in_time(joins(50_000)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_false_parts_is_not_asked_again() {
    in_time(async {
        let mut net = network(20_000);
        age(&mut net).await;
        // The first has none at first, so that the other is asked. That one changes a byte of every
        // part that it gives.
        has_none(&net, 1);
        net.hub.distort(2, |message| {
            if let Message::Part(part) = message {
                part.bytes[100] ^= 1;
            }
        });
        net.start(3);
        the_second_is_caught_and_the_first_asked(&mut net).await;
    })
    .await;
}

fn has_none(net: &Network, n: u8) {
    net.hub.distort(n, |message| {
        if let Message::Snapshot(manifest) = message {
            *manifest = None;
        }
    });
}

async fn the_second_is_caught_and_the_first_asked(net: &mut Network) {
    let misdeeds = loop {
        let misdeeds = net.hub.take_misdeeds();
        if !misdeeds.is_empty() {
            break misdeeds;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(misdeeds, [(peer(2), "a snapshot that is not the chain's".to_owned())]);
    net.hub.distort(1, |_| {});
    net.until(3, |progress| progress.height > INTERVAL).await;
    assert_eq!(net.hub.take_misdeeds(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_under_a_forged_header_is_refused() {
    in_time(async {
        let mut net = network(20_000);
        age(&mut net).await;
        has_none(&net, 1);
        net.hub.distort(2, |message| {
            if let Message::Snapshot(Some(manifest)) = message {
                manifest.block.header.state_root = Hash::ZERO;
                manifest.block.header.height += 1_000;
            }
        });
        net.start(3);
        the_second_is_caught_and_the_first_asked(&mut net).await;
    })
    .await;
}
