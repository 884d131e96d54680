use arknet_chain::{Changes, Channel, CommitCertificate, Executed, Hash, Header, Key, Outcome};
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    Store, StoreError,
    error::fault,
    open::{begin_quick, begin_write},
    schema::{
        BLOCKS, CERTIFICATES, CHANNELS, HEADERS, HEIGHTS, META, META_HEIGHT, OUTCOMES, PAGES, SETS,
        Side, TRANSACTIONS, VALUES, channel_key,
    },
};
use crate::limits::PRUNED_PER_COMMIT_MAX;

/// A block that is decided, with what it comes to.
#[derive(Clone, Copy, Debug)]
pub struct StoreCommit<'a> {
    /// Its header.
    pub header: &'a Header,
    /// The Borsh of the whole block.
    pub block: &'a [u8],
    /// The proof that it is decided.
    pub certificate: &'a CommitCertificate,
    /// What executing it came to.
    pub executed: &'a Executed,
}

impl Store {
    /// Writes a height: block, certificate, state, tree and indexes, all of it or nothing. It is on
    /// disk when this returns, and all before it.
    pub fn commit(&self, commit: &StoreCommit<'_>) -> Result<(), StoreError> {
        let transaction = begin_write(&self.database())?;
        self.write(&transaction, commit)?;
        transaction.commit().map_err(fault)
    }

    /// Writes a height that is safe elsewhere until a [`checkpoint`](Self::checkpoint): readers see
    /// it from now on, but a crash takes it with all that was written since the last one. What
    /// several heights change is so written to the disk once.
    pub fn commit_soon(&self, commit: &StoreCommit<'_>) -> Result<(), StoreError> {
        let transaction = begin_quick(&self.database())?;
        self.write(&transaction, commit)?;
        transaction.commit().map_err(fault)
    }

    /// When this returns, all heights that were there when it was called are on disk.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        begin_write(&self.database())?.commit().map_err(fault)
    }

    fn write(
        &self,
        transaction: &WriteTransaction,
        commit: &StoreCommit<'_>,
    ) -> Result<(), StoreError> {
        let StoreCommit { header, block, certificate, executed } = commit;
        let (height, id) = (header.height, header.id());
        assert_eq!((certificate.height, certificate.block), (height, id), "a proof of this block");
        self.check_next(transaction, header)?;
        {
            let mut table = transaction.open_table(META).map_err(fault)?;
            let bytes = arknet_types::encode(&height);
            table.insert(META_HEIGHT, bytes.as_slice()).map_err(fault)?;
        }
        index_channels(transaction, executed)?;
        write_changes(transaction, &executed.changes)?;
        put(transaction, HEADERS, height, &arknet_types::encode(*header))?;
        put(transaction, CERTIFICATES, height, &arknet_types::encode(*certificate))?;
        put(transaction, BLOCKS, height, block)?;
        put(transaction, OUTCOMES, height, &arknet_types::encode(&executed.outcomes))?;
        if executed.validators_changed {
            let set = arknet_types::encode(&executed.next_validators);
            put(transaction, SETS, height.saturating_add(1), &set)?;
        }
        transaction.open_table(HEIGHTS).map_err(fault)?.insert(&id.0, height).map_err(fault)?;
        index_transactions(transaction, height, &executed.outcomes)?;
        if let Some(keep) = self.options.keep_blocks {
            prune(transaction, height.saturating_sub(keep.get()))?;
        }
        Ok(())
    }

    /// Whether it builds on the last one.
    fn check_next(
        &self,
        transaction: &WriteTransaction,
        header: &Header,
    ) -> Result<(), StoreError> {
        let meta = transaction.open_table(META).map_err(fault)?;
        let height = meta.get(META_HEIGHT).map_err(fault)?;
        let height = height.and_then(|bytes| arknet_types::decode::<u64>(bytes.value()).ok());
        let height = height.ok_or_else(|| StoreError::Damaged("no height".to_owned()))?;
        let headers = transaction.open_table(HEADERS).map_err(fault)?;
        let last = headers.get(height).map_err(fault)?;
        let last = last.map(|bytes| arknet_types::decode::<Header>(bytes.value()));
        let last = last.transpose().map_err(|_| StoreError::Damaged("a header".to_owned()))?;
        let parent = last.map_or_else(|| self.genesis_id(), |last| last.id());
        if header.height != height.saturating_add(1) || header.parent != parent {
            return Err(StoreError::NotNext { height });
        }
        Ok(())
    }
}

fn put(
    transaction: &WriteTransaction,
    table: redb::TableDefinition<'_, u64, &'static [u8]>,
    height: u64,
    bytes: &[u8],
) -> Result<(), StoreError> {
    transaction.open_table(table).map_err(fault)?.insert(height, bytes).map_err(fault)?;
    Ok(())
}

pub(super) fn write_changes(
    transaction: &WriteTransaction,
    changes: &Changes,
) -> Result<(), StoreError> {
    for (definition, changes) in [(VALUES, &changes.values), (PAGES, &changes.pages)] {
        let mut table = transaction.open_table(definition).map_err(fault)?;
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice()).map_err(fault)?,
                None => table.remove(key.as_slice()).map_err(fault)?,
            };
        }
    }
    Ok(())
}

/// Keeps the list of open channels by their sides. Before the state is written: what goes is still
/// there to be read.
fn index_channels(transaction: &WriteTransaction, executed: &Executed) -> Result<(), StoreError> {
    let values = transaction.open_table(VALUES).map_err(fault)?;
    let mut index = transaction.open_table(CHANNELS).map_err(fault)?;
    for (key, value) in &executed.changes.values {
        let Some(id) = Key::channel_of(key) else { continue };
        let old = values.get(key.as_slice()).map_err(fault)?;
        let bytes = match (value, &old) {
            (Some(value), None) => value.as_slice(),
            (None, Some(old)) => old.value(),
            // Neither side of a channel ever changes.
            _ => continue,
        };
        let channel: Channel =
            arknet_types::decode(bytes).map_err(|_| StoreError::Damaged("a channel".to_owned()))?;
        note_channel(&mut index, &id, &channel, value.is_some())?;
    }
    Ok(())
}

pub(super) fn note_channel(
    index: &mut Table<'_, &'static [u8; 53], ()>,
    id: &Hash,
    channel: &Channel,
    is_open: bool,
) -> Result<(), StoreError> {
    for (side, account) in [(Side::Payer, channel.payer), (Side::Payee, channel.payee)] {
        let key = channel_key(side, &account.0, &id.0);
        if is_open {
            index.insert(&key, ()).map_err(fault)?;
        } else {
            index.remove(&key).map_err(fault)?;
        }
    }
    Ok(())
}

fn index_transactions(
    transaction: &WriteTransaction,
    height: u64,
    outcomes: &[Outcome],
) -> Result<(), StoreError> {
    let mut table = transaction.open_table(TRANSACTIONS).map_err(fault)?;
    // In the order of the index, in which neighbours share pages.
    let mut places: Vec<(Hash, u32)> = outcomes.iter().map(|o| o.id).zip(0..).collect();
    places.sort_unstable();
    for (id, index) in places {
        table.insert(&id.0, (height, index)).map_err(fault)?;
    }
    Ok(())
}

/// Takes out blocks up to a height, the oldest first, a few at a time.
fn prune(transaction: &WriteTransaction, up_to: u64) -> Result<(), StoreError> {
    let mut headers = transaction.open_table(HEADERS).map_err(fault)?;
    for _ in 0..PRUNED_PER_COMMIT_MAX {
        let first = headers.first().map_err(fault)?.map(|(height, _)| height.value());
        let Some(height) = first.filter(|height| *height <= up_to) else { return Ok(()) };
        let header = headers.remove(height).map_err(fault)?;
        let header = header.and_then(|bytes| arknet_types::decode::<Header>(bytes.value()).ok());
        let header = header.ok_or_else(|| StoreError::Damaged("a header".to_owned()))?;
        let mut heights = transaction.open_table(HEIGHTS).map_err(fault)?;
        heights.remove(&header.id().0).map_err(fault)?;
        for table in [CERTIFICATES, BLOCKS] {
            transaction.open_table(table).map_err(fault)?.remove(height).map_err(fault)?;
        }
        let mut outcomes = transaction.open_table(OUTCOMES).map_err(fault)?;
        let mut index = transaction.open_table(TRANSACTIONS).map_err(fault)?;
        if let Some(gone) = outcomes.remove(height).map_err(fault)? {
            let gone: Vec<Outcome> = arknet_types::decode(gone.value())
                .map_err(|_| StoreError::Damaged("outcomes".to_owned()))?;
            for outcome in gone {
                index.remove(&outcome.id.0).map_err(fault)?;
            }
        }
        prune_sets(transaction, height.saturating_add(1))?;
    }
    Ok(())
}

/// Takes out the sets that voted on nothing from `kept` on.
fn prune_sets(transaction: &WriteTransaction, kept: u64) -> Result<(), StoreError> {
    let mut sets = transaction.open_table(SETS).map_err(fault)?;
    let newest = sets.range(..=kept).map_err(fault)?.next_back().transpose().map_err(fault)?;
    let newest = newest.map(|(height, _)| height.value());
    sets.retain_in(..newest.unwrap_or_default(), |_, _| false).map_err(fault)?;
    Ok(())
}
