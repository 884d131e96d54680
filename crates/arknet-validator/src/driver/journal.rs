//! What lies in the log: records of consensus, and transactions that somebody was told are safe.

use std::{collections::BTreeSet, path::Path};

use arknet_chain::{Hash, Mempool, SignedTransaction, VerifiedTransaction};
use arknet_consensus::Record;
use arknet_types::encode;

use crate::{
    WalError,
    limits::WAL_BYTES_MAX,
    wal::{self, Wal},
};

const RECORD: u8 = 0;
const TRANSACTION: u8 = 1;

/// What was in the log.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Records of the height that was being decided.
    pub(super) records: Vec<Record>,
    /// Transactions, some of which may be in blocks.
    pub(super) transactions: Vec<SignedTransaction>,
}

#[derive(Debug)]
pub(super) struct Journal {
    /// None only while it is written anew.
    wal: Option<Wal>,
    /// Transactions that somebody was told are safe, and are not in a block as far as is known.
    promised: BTreeSet<Hash>,
}

impl Journal {
    /// Opens it, and returns what still counts after a block of `height`.
    pub(super) fn open(directory: &Path, height: u64) -> Result<(Self, Found), WalError> {
        let (mut found, mut is_foreign) = (Found::default(), false);
        let wal = Wal::open(directory, |bytes| match read(bytes) {
            Some(Entry::Record(record)) if record.height() > height => found.records.push(record),
            Some(Entry::Record(_)) => {}
            Some(Entry::Transaction(transaction)) => found.transactions.push(transaction),
            None => is_foreign = true,
        })?;
        if is_foreign {
            return Err(WalError::Foreign(directory.join(wal::FILE_NAME)));
        }
        Ok((Self { wal: Some(wal), promised: BTreeSet::new() }, found))
    }

    fn wal(&mut self) -> &mut Wal {
        self.wal.as_mut().expect("it is there but while it is written anew")
    }

    /// Adds what consensus must not forget.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), WalError> {
        let mut bytes = vec![RECORD];
        bytes.extend(encode(record));
        self.wal().append(&bytes)
    }

    /// Adds a transaction that somebody will be told is safe.
    pub(super) fn promise(&mut self, transaction: &VerifiedTransaction) -> Result<(), WalError> {
        // Twice would do no harm, but take room.
        if !self.promised.insert(transaction.id()) {
            return Ok(());
        }
        self.wal().append(&entry(transaction.signed()))
    }

    /// When this returns all that was added is safe.
    pub(super) fn sync(&mut self) -> Result<(), WalError> {
        let wal = self.wal();
        if wal.is_dirty() { wal.sync() } else { Ok(()) }
    }

    /// After a block, when no record counts any more: a long log is written anew with the promised
    /// transactions that still wait.
    pub(super) fn committed(&mut self, waiting: &Mempool) -> Result<(), WalError> {
        if self.wal().bytes() < WAL_BYTES_MAX {
            return Ok(());
        }
        self.promised.retain(|id| waiting.find(id).is_some());
        let kept = self.promised.iter().filter_map(|id| waiting.find(id));
        let kept = kept.map(|transaction| entry(transaction.signed()));
        let wal = self.wal.take().expect("it is there but while it is written anew");
        self.wal = Some(wal.replace(kept)?);
        Ok(())
    }
}

enum Entry {
    Record(Record),
    Transaction(SignedTransaction),
}

fn read(bytes: &[u8]) -> Option<Entry> {
    match bytes.split_first()? {
        (&RECORD, bytes) => Record::parse(bytes).ok().map(Entry::Record),
        (&TRANSACTION, bytes) => SignedTransaction::parse(bytes).ok().map(Entry::Transaction),
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
    use super::*;

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
