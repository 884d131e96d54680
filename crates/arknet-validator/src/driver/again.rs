//! Blocks that were committed before a crash, and that only the log has.

use arknet_chain::{Block, Key, Parent, ValidatorSet, read};
use arknet_consensus::{Decided, Halt, Options};

use super::DriverError;
use crate::{Store, StoreCommit};

/// Commits them once more. When this returns the store has them on disk.
pub(super) fn commit_again(
    store: &Store,
    options: &Options,
    decided: Vec<Decided>,
) -> Result<(), DriverError> {
    if decided.is_empty() {
        return Ok(());
    }
    tracing::info!(blocks = decided.len(), "commits again what the store did not have on disk");
    for one in decided {
        commit_one(store, options, &one)?;
    }
    Ok(store.checkpoint()?)
}

fn commit_one(store: &Store, options: &Options, decided: &Decided) -> Result<(), DriverError> {
    let Decided { block, certificate } = decided;
    let view = store.read()?;
    let (height, id) = (view.height().saturating_add(1), block.header.id());
    // The log is this node's own, but it may lie beside another's store.
    let voters: ValidatorSet = read(&view, &Key::Validators).expect("a state has its genesis");
    let is_next = block.header.height == height
        && (certificate.height, certificate.block) == (height, id)
        && certificate.verify(&block.header.network, &voters).is_ok();
    if !is_next {
        return Err(broken(height, "a block in it does not follow from the store's last one"));
    }
    let parent = Parent { view: &view, id: view.tip()? };
    let (quotes, which_hold) = (options.quotes.as_ref(), options.which_hold);
    let executed = Block::clone(block).execute_knowing(&parent, quotes, |_| false, which_hold);
    let (_, executed) = executed.map_err(|error| broken(height, &error.to_string()))?;
    let (header, bytes) = (&block.header, arknet_types::encode(block.as_ref()));
    let commit = StoreCommit { header, block: &bytes, certificate, executed: &executed };
    Ok(store.commit_soon(&commit)?)
}

fn broken(height: u64, why: &str) -> DriverError {
    Halt::Log(format!("height {height}: {why}")).into()
}
