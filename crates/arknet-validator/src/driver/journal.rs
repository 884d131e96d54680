//! What lies in the log: records of consensus, proofs of blocks that the store may not have on disk
//! yet, and transactions that somebody was told are safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use arknet_chain::{
    Block, CommitCertificate, Hash, Mempool, SignedTransaction, VerifiedTransaction,
};
use arknet_consensus::{Decided, Record};
use arknet_types::{decode, encode};

use crate::{
    WalError,
    limits::WAL_BYTES_MAX,
    wal::{self, Wal},
};

const RECORD: u8 = 0;
const TRANSACTION: u8 = 1;
/// The certificate of a block that is in a record before it.
const CERTIFICATE: u8 = 2;
/// A certificate and its block.
const DECIDED: u8 = 3;

/// What was in the log.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Blocks that were committed after the last one that the store has on disk, in order.
    pub(super) decided: Vec<Decided>,
    /// Records of the height that was being decided.
    pub(super) records: Vec<Record>,
    /// Transactions, some of which may be in blocks.
    pub(super) transactions: Vec<SignedTransaction>,
}

#[derive(Debug)]
pub(super) struct Journal {
    /// None only while it is written anew.
    wal: Option<Wal>,
    /// Blocks of the height that is being decided, which the log has.
    blocks: BTreeSet<Hash>,
    /// Transactions that somebody was told are safe, and are not in a block as far as is known.
    promised: BTreeSet<Hash>,
}

impl Journal {
    /// Opens it, and returns what still counts for a store that has `height` on disk.
    pub(super) fn open(directory: &Path, height: u64) -> Result<(Self, Found), WalError> {
        let mut reading = Reading { height, ..Reading::default() };
        let wal = Wal::open(directory, |bytes| reading.entry(bytes))?;
        if reading.is_foreign {
            return Err(WalError::Foreign(directory.join(wal::FILE_NAME)));
        }
        let found = reading.found;
        let blocks = found.records.iter().filter_map(|record| match record {
            Record::Block(block) => Some(block.header.id()),
            _ => None,
        });
        let blocks = blocks.collect();
        Ok((Self { wal: Some(wal), blocks, promised: BTreeSet::new() }, found))
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("it is there but while it is written anew")
    }

    /// Adds what consensus must not forget.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), WalError> {
        let mut bytes = vec![RECORD];
        bytes.extend(encode(record));
        self.wal().append(&bytes)?;
        if let Record::Block(block) = record {
            self.blocks.insert(block.header.id());
        }
        Ok(())
    }

    /// Adds a transaction that somebody will be told is safe.
    pub(super) fn promise(&mut self, transaction: &VerifiedTransaction) -> Result<(), WalError> {
        // Twice would do no harm, but take room.
        if !self.promised.insert(transaction.id()) {
            return Ok(());
        }
        self.wal().append(&entry(transaction.signed()))
    }

    /// Adds that a block is committed: once that is safe no crash undoes it, for the block and its
    /// proof can be read from here.
    pub(super) fn decide(
        &mut self,
        block: &Arc<Block>,
        certificate: &CommitCertificate,
    ) -> Result<(), WalError> {
        let is_there = self.blocks.contains(&certificate.block);
        let mut bytes = vec![if is_there { CERTIFICATE } else { DECIDED }];
        if !is_there {
            bytes.extend(encode(block.as_ref()));
        }
        bytes.extend(encode(certificate));
        self.blocks.clear();
        self.wal().append(&bytes)
    }

    /// When this returns all that was added is safe.
    pub(super) fn sync(&mut self) -> Result<(), WalError> {
        let wal = self.wal();
        if wal.is_dirty() { wal.sync() } else { Ok(()) }
    }

    /// Whether it has grown so long that it is time to write it anew.
    pub(super) fn is_long(&self) -> bool {
        self.wal.as_ref().is_some_and(|wal| wal.bytes() >= WAL_BYTES_MAX)
    }

    /// When the store has everything on disk and nothing is being decided: nothing is left but the
    /// promised transactions that still wait.
    pub(super) fn begin_anew(&mut self, waiting: &Mempool) -> Result<(), WalError> {
        self.promised.retain(|id| waiting.find(id).is_some());
        let kept = self.promised.iter().filter_map(|id| waiting.find(id));
        let kept = kept.map(|transaction| entry(transaction.signed()));
        let wal = self.wal.take().expect("it is there but while it is written anew");
        self.wal = Some(wal.replace(kept)?);
        Ok(())
    }
}

/// The log while it is read.
#[derive(Debug, Default)]
struct Reading {
    /// The last block that counts.
    height: u64,
    blocks: BTreeMap<Hash, Arc<Block>>,
    found: Found,
    is_foreign: bool,
}

impl Reading {
    fn entry(&mut self, bytes: &[u8]) {
        match read(bytes) {
            Some(Entry::Record(record)) if record.height() > self.height => {
                if let Record::Block(block) = &record {
                    self.blocks.insert(block.header.id(), Arc::clone(block));
                }
                self.found.records.push(record);
            }
            Some(Entry::Certificate(certificate)) if certificate.height > self.height => {
                match self.blocks.remove(&certificate.block) {
                    Some(block) => self.decided(Decided { block, certificate }),
                    None => self.is_foreign = true,
                }
            }
            Some(Entry::Decided(decided)) if decided.certificate.height > self.height => {
                self.decided(decided);
            }
            Some(Entry::Record(_) | Entry::Certificate(_) | Entry::Decided(_)) => {}
            Some(Entry::Transaction(transaction)) => self.found.transactions.push(transaction),
            None => self.is_foreign = true,
        }
    }

    fn decided(&mut self, decided: Decided) {
        self.height = decided.certificate.height;
        self.found.decided.push(decided);
        let height = self.height;
        self.found.records.retain(|record| record.height() > height);
        self.blocks.retain(|_, block| block.header.height > height);
    }
}

enum Entry {
    Record(Record),
    Transaction(SignedTransaction),
    Certificate(CommitCertificate),
    Decided(Decided),
}

fn read(bytes: &[u8]) -> Option<Entry> {
    match bytes.split_first()? {
        (&RECORD, bytes) => Record::parse(bytes).ok().map(Entry::Record),
        (&TRANSACTION, bytes) => SignedTransaction::parse(bytes).ok().map(Entry::Transaction),
        (&CERTIFICATE, bytes) => decode(bytes).ok().map(Entry::Certificate),
        (&DECIDED, bytes) => decode(bytes).ok().map(Entry::Decided),
        _ => None,
    }
}

fn entry(transaction: &SignedTransaction) -> Vec<u8> {
    let mut bytes = vec![TRANSACTION];
    bytes.extend(encode(transaction));
    bytes
}

#[cfg(test)]
mod tests {
    use arknet_chain::Header;
    use arknet_types::{Address, Atoms, NetworkId, Timestamp};

    use super::*;

    fn block(height: u64, proposer: u8) -> Arc<Block> {
        let header = Header {
            network: NetworkId::new("arknet-test-1").unwrap(),
            height,
            parent: Hash::ZERO,
            time: Timestamp(height),
            proposer: Address([proposer; 20]),
            base_fee: Atoms(0),
            gas_used: 0,
            validators: Hash::ZERO,
            next_validators: Hash::ZERO,
            state_root: Hash::ZERO,
            outcomes: Hash::ZERO,
            commit: Hash::ZERO,
            evidence: Hash::ZERO,
            transactions: Hash::ZERO,
        };
        Arc::new(Block { header, commit: None, evidence: vec![], transactions: vec![] })
    }

    fn proof(block: &Block) -> CommitCertificate {
        let (height, block) = (block.header.height, block.header.id());
        CommitCertificate { height, round: 0, block, signatures: vec![] }
    }

    fn open(home: &Path, height: u64) -> (Journal, Vec<u64>, Vec<u64>) {
        let (journal, found) = Journal::open(home, height).unwrap();
        let heights = |blocks: &[Decided]| blocks.iter().map(|b| b.block.header.height).collect();
        (journal, heights(&found.decided), found.records.iter().map(Record::height).collect())
    }

    /// Blocks that were voted for here are in the log once, others come with their proof; what was
    /// said of a height goes with it.
    #[test]
    fn blocks_that_the_store_lacks_come_back_in_order() {
        let home = tempfile::tempdir().unwrap();
        let (mut journal, ..) = open(home.path(), 0);
        for height in 1..=5 {
            let (other, decided) = (block(height, 1), block(height, 2));
            journal.record(&Record::Block(other)).unwrap();
            if height % 2 == 0 {
                journal.record(&Record::Block(Arc::clone(&decided))).unwrap();
            }
            if height < 5 {
                journal.decide(&decided, &proof(&decided)).unwrap();
            }
            journal.sync().unwrap();
        }
        assert_eq!(open(home.path(), 0).1, [1, 2, 3, 4]);
        assert_eq!(open(home.path(), 0).2, [5]);
        assert_eq!(open(home.path(), 2).1, [3, 4]);
        let (mut journal, decided, records) = open(home.path(), 4);
        assert_eq!((decided, records), (vec![], vec![5]));
        // What was recorded before a crash is not written again with the proof.
        let (before, last) = (journal.wal().bytes(), block(5, 1));
        journal.decide(&last, &proof(&last)).unwrap();
        journal.sync().unwrap();
        assert!(journal.wal().bytes() - before < encode(last.as_ref()).len() as u64);
        assert_eq!(open(home.path(), 3).1, [4, 5]);
        let (_, found) = Journal::open(home.path(), 4).unwrap();
        assert_eq!(found.decided[0].block, last);
        journal.begin_anew(&Mempool::new()).unwrap();
        assert_eq!(open(home.path(), 0).1, Vec::<u64>::new());
    }

    #[test]
    fn a_proof_without_its_block_is_not_passed_over() {
        let home = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(home.path(), |_| {}).unwrap();
        wal.append(&[&[CERTIFICATE][..], &encode(&proof(&block(1, 1)))].concat()).unwrap();
        wal.sync().unwrap();
        assert!(matches!(Journal::open(home.path(), 0), Err(WalError::Foreign(_))));
        assert!(Journal::open(home.path(), 1).is_ok());
    }

    #[test]
    fn a_log_of_a_newer_version_is_not_followed() {
        let home = tempfile::tempdir().unwrap();
        let mut wal = Wal::open(home.path(), |_| {}).unwrap();
        wal.append(&[9, 1, 2, 3]).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let error = Journal::open(home.path(), 0).unwrap_err();
        assert!(matches!(error, WalError::Foreign(_)), "{error}");
    }
}
