use std::{collections::BTreeMap, sync::Arc};

use arknet_chain::{Hash, MemoryState, SignedTransaction};
use arknet_consensus::{Commit, Decided, Record, Tip};

use crate::rng::Rng;

/// What a node has on its disk. What was not yet written when it crashes is lost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) state: MemoryState,
    pub(crate) blocks: Vec<Decided>,
    /// Records of the height that is being decided.
    pub(crate) records: Vec<Record>,
    /// Records on their way to the disk.
    unsynced: Vec<Record>,
    /// Transactions of which somebody was told that they wait.
    pub(crate) journal: BTreeMap<Hash, SignedTransaction>,
}

impl Disk {
    pub(crate) fn tip(&self, genesis: Hash) -> Tip {
        match self.blocks.last() {
            None => Tip { height: 0, id: genesis, certificate: None },
            Some(Decided { block, certificate }) => Tip {
                height: block.header.height,
                id: certificate.block,
                certificate: Some(certificate.clone()),
            },
        }
    }

    pub(crate) fn record(&mut self, record: Record) {
        self.unsynced.push(record);
    }

    pub(crate) fn sync(&mut self) {
        self.records.append(&mut self.unsynced);
    }

    /// Loses what was on its way, all of it or the end of it.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let kept = rng.index(self.unsynced.len() + 1);
        self.unsynced.truncate(kept);
        self.sync();
        // Everything is read from bytes after a crash.
        for record in &mut self.records {
            let bytes = arknet_types::encode(record);
            *record = Record::parse(&bytes).expect("a record is read as it was written");
        }
    }

    pub(crate) fn commit(&mut self, commit: &Commit) {
        self.state.apply(commit.executed.changes.clone());
        self.blocks.push(Decided {
            block: Arc::clone(&commit.block),
            certificate: commit.certificate.clone(),
        });
        self.records.clear();
        self.unsynced.clear();
        for outcome in &commit.executed.outcomes {
            self.journal.remove(&outcome.id);
        }
    }

    /// Committed blocks from a height on, as many as a message takes.
    pub(crate) fn serve(&self, from: u64) -> Vec<Decided> {
        let from = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let most = arknet_consensus::limits::DECIDED_PER_MESSAGE_MAX;
        self.blocks.iter().skip(from).take(most).cloned().collect()
    }
}
