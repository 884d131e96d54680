//! How long a node takes that begins with a snapshot of a large state, in processes of the product.

use std::{
    fs,
    sync::atomic::AtomicU64,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use arknet_chain::Genesis;
use arknet_types::Address;

use crate::{
    nodes,
    validators::{ACCOUNTS, Member, PATIENCE, Rpc, SENDERS, genesis, transfer_to},
};

/// Heights between two snapshots.
const INTERVAL: u64 = 500;
/// Few blocks are kept: a new node cannot begin with the first.
const OLD_NODE: &str = "block_interval_ms = 50\nsnapshot_interval = 500\nkeep_blocks = 2000\n";
const NEW_NODE: &str = "block_interval_ms = 50\nkeep_blocks = 2000\n";

pub(crate) fn run(accounts: usize) -> anyhow::Result<()> {
    let Some(program) = nodes::product() else {
        println!("snapshot: the arknet binary is not beside this one, nothing is measured");
        return Ok(());
    };
    let directory = tempfile::tempdir()?;
    let genesis = genesis(1)?;
    let mut nodes = vec![Member::start(&program, directory.path(), &genesis, &[], OLD_NODE)?];
    let began = Instant::now();
    fill(&genesis, &nodes[0], accounts)?;
    let took = began.elapsed();
    println!("a snapshot of {accounts} accounts, which were made in {:.0} s", took.as_secs_f64());
    let made = snapshot_after(&nodes[0])?;
    let began = Instant::now();
    let new = Member::start(&program, directory.path(), &genesis, &nodes, NEW_NODE)?;
    let (mut old_rpc, mut rpc) = (Rpc::open(nodes[0].rpc)?, Rpc::open(new.rpc)?);
    let mut peak = 0;
    loop {
        let height = |rpc: &mut Rpc| -> anyhow::Result<u64> {
            rpc.get("/status")?.1["height"].as_u64().context("a height")
        };
        let (there, here) = (height(&mut old_rpc)?, height(&mut rpc)?);
        peak = peak.max(nodes::resident_bytes(new.child.id())?);
        if here > made && there.saturating_sub(here) <= 2 {
            break;
        }
        ensure!(began.elapsed() < 3 * PATIENCE, "the new node is at {here} of {there}");
        thread::sleep(Duration::from_millis(20));
    }
    println!(
        "  from the start of a new node until it follows: {:.1} s, resident {:.0} MB at most",
        began.elapsed().as_secs_f64(),
        peak as f64 / 1e6
    );
    nodes.push(new);
    Ok(())
}

/// Pays a little to so many accounts that were not there.
fn fill(genesis: &Genesis, node: &Member, accounts: usize) -> anyhow::Result<()> {
    let refused = AtomicU64::new(0);
    let each = accounts.div_ceil(SENDERS);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let refused = &refused;
                scope.spawn(move || -> anyhow::Result<()> {
                    let mut rpc = Rpc::open(node.rpc)?;
                    for n in 0..each {
                        let (from, nonce) = (sender * ACCOUNTS + n % ACCOUNTS, n / ACCOUNTS);
                        let to = stranger(sender * each + n);
                        let transfer = transfer_to(genesis, from, nonce as u64, to);
                        rpc.submit_patiently(&transfer, refused)?;
                    }
                    Ok(())
                })
            })
            .collect();
        senders.into_iter().try_for_each(|one| one.join().expect("no panic"))
    })
}

fn stranger(n: usize) -> Address {
    let mut stranger = [7; 20];
    stranger[..8].copy_from_slice(&n.to_le_bytes());
    Address(stranger)
}

/// Waits for a snapshot of a block that comes after now. Returns its height.
fn snapshot_after(node: &Member) -> anyhow::Result<u64> {
    let status = Rpc::open(node.rpc)?.get("/status")?.1;
    let height = status["height"].as_u64().context("a height")?;
    let wanted = (height / INTERVAL + 1) * INTERVAL;
    let made = node.home.join("ledger/snapshots").join(wanted.to_string());
    let began = Instant::now();
    while !made.exists() {
        ensure!(began.elapsed() < PATIENCE, "no snapshot is made");
        thread::sleep(Duration::from_millis(100));
    }
    let files: Result<Vec<_>, _> = fs::read_dir(&made)?.map(|file| file?.metadata()).collect();
    let bytes: u64 = files?.iter().map(fs::Metadata::len).sum();
    println!("  the snapshot at height {wanted}: {:.0} MB", bytes as f64 / 1e6);
    Ok(wanted)
}
