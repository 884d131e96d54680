use std::sync::Arc;

use arknet_chain::{
    Block, CommitCertificate, Hash, Header, LightBlock, Meta, Outcome, OutcomeProof, StateView,
    ValidatorSet,
};
use arknet_types::Address;
use borsh::BorshDeserialize;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableTable};

use super::{
    StoreError,
    error::{fault, give_up},
    schema::{
        BLOCKS, CERTIFICATES, CHANNELS, HEADERS, HEIGHTS, META, META_HEIGHT, OUTCOMES, PAGES, SETS,
        Side, TRANSACTIONS, VALUES, channel_key,
    },
};

/// A key of the state and its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

type Bytes = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The ledger at one height.
pub struct Reader {
    transaction: ReadTransaction,
    values: Bytes,
    pages: Bytes,
    height: u64,
    genesis: Hash,
    /// Open as long as somebody reads, though another may have taken its place.
    _database: Arc<Database>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({})", self.height)
    }
}

/// Where a transaction is, and what became of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The height of its block.
    pub height: u64,
    /// Its place in it and what became of it, by the header.
    pub proof: OutcomeProof,
}

impl Reader {
    pub(super) fn new(
        transaction: ReadTransaction,
        database: Arc<Database>,
        genesis: Hash,
    ) -> Result<Self, StoreError> {
        let values = transaction.open_table(VALUES).map_err(fault)?;
        let pages = transaction.open_table(PAGES).map_err(fault)?;
        let meta = transaction.open_table(META).map_err(fault)?;
        let height = meta.get(META_HEIGHT).map_err(fault)?;
        let height = height.and_then(|bytes| arknet_types::decode(bytes.value()).ok());
        let height = height.ok_or_else(|| StoreError::Damaged("no height".to_owned()))?;
        Ok(Self { transaction, values, pages, height, genesis, _database: database })
    }

    /// The last height; zero before the first block.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The name of the last block; the genesis' before the first.
    pub fn tip(&self) -> Result<Hash, StoreError> {
        Ok(self.header(self.height)?.map_or(self.genesis, |header| header.id()))
    }

    /// The numbers of the whole ledger.
    ///
    /// # Panics
    /// Never: they are written with the genesis.
    #[must_use]
    pub fn meta(&self) -> Meta {
        arknet_chain::read(self, &arknet_chain::Key::Meta).expect("a state has its genesis")
    }

    /// A header; none where it is to come, or kept no more.
    pub fn header(&self, height: u64) -> Result<Option<Header>, StoreError> {
        self.at(HEADERS, height)
    }

    /// The certificate that commits a height.
    pub fn certificate(&self, height: u64) -> Result<Option<CommitCertificate>, StoreError> {
        self.at(CERTIFICATES, height)
    }

    /// A block.
    pub fn block(&self, height: u64) -> Result<Option<Block>, StoreError> {
        self.at(BLOCKS, height)
    }

    /// The Borsh of a block.
    pub fn block_bytes(&self, height: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.transaction.open_table(BLOCKS).map_err(fault)?;
        Ok(table.get(height).map_err(fault)?.map(|bytes| bytes.value().to_vec()))
    }

    /// What became of the transactions of a block.
    pub fn outcomes(&self, height: u64) -> Result<Option<Vec<Outcome>>, StoreError> {
        self.at(OUTCOMES, height)
    }

    /// How many transactions a block has; zero where there is none.
    pub fn transactions_in(&self, height: u64) -> Result<u32, StoreError> {
        let table = self.transaction.open_table(OUTCOMES).map_err(fault)?;
        let bytes = table.get(height).map_err(fault)?;
        // A list begins with its length.
        let length = bytes.and_then(|bytes| bytes.value().first_chunk().copied());
        Ok(length.map_or(0, u32::from_le_bytes))
    }

    /// The lowest height whose block is kept.
    pub fn first_block(&self) -> Result<Option<u64>, StoreError> {
        let table = self.transaction.open_table(BLOCKS).map_err(fault)?;
        Ok(table.first().map_err(fault)?.map(|(height, _)| height.value()))
    }

    /// The height of a block by its name.
    pub fn height_of(&self, block: &Hash) -> Result<Option<u64>, StoreError> {
        let table = self.transaction.open_table(HEIGHTS).map_err(fault)?;
        Ok(table.get(&block.0).map_err(fault)?.map(|height| height.value()))
    }

    /// The height of a transaction's block, by its name.
    pub fn height_of_transaction(&self, id: &Hash) -> Result<Option<u64>, StoreError> {
        let table = self.transaction.open_table(TRANSACTIONS).map_err(fault)?;
        Ok(table.get(&id.0).map_err(fault)?.map(|place| place.value().0))
    }

    /// Where a transaction is, by its name.
    pub fn transaction(&self, id: &Hash) -> Result<Option<Found>, StoreError> {
        let table = self.transaction.open_table(TRANSACTIONS).map_err(fault)?;
        let Some(place) = table.get(&id.0).map_err(fault)? else { return Ok(None) };
        let (height, index) = place.value();
        let outcomes = self.outcomes(height)?.unwrap_or_default();
        let proof = OutcomeProof::new(&outcomes, index).filter(|proof| proof.outcome.id == *id);
        let proof = proof.ok_or_else(|| StoreError::Damaged("an outcome".to_owned()))?;
        Ok(Some(Found { height, proof }))
    }

    /// The set that votes at a height up to the next one; none where it is known no more.
    pub fn validators(&self, height: u64) -> Result<Option<ValidatorSet>, StoreError> {
        if height == 0 || height > self.height.saturating_add(1) {
            return Ok(None);
        }
        let table = self.transaction.open_table(SETS).map_err(fault)?;
        let found = table.range(..=height).map_err(fault)?.next_back();
        let found = found.transpose().map_err(fault)?;
        found.map(|(_, bytes)| decoded(bytes.value())).transpose()
    }

    /// A header with all that shows it is the chain's.
    pub fn light_block(&self, height: u64) -> Result<Option<LightBlock>, StoreError> {
        let parts = (
            self.header(height)?,
            self.certificate(height)?,
            self.validators(height)?,
            self.validators(height.saturating_add(1))?,
        );
        let (Some(header), Some(certificate), Some(validators), Some(next_validators)) = parts
        else {
            return Ok(None);
        };
        Ok(Some(LightBlock { header, certificate, validators, next_validators }))
    }

    /// The names of an account's open channels behind `after`, in order.
    pub fn channels(
        &self,
        account: &Address,
        is_payer: bool,
        after: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<Hash>, StoreError> {
        let side = if is_payer { Side::Payer } else { Side::Payee };
        let from = channel_key(side, &account.0, &after.unwrap_or_default().0);
        let last = channel_key(side, &account.0, &[u8::MAX; 32]);
        let table = self.transaction.open_table(CHANNELS).map_err(fault)?;
        let mut found = Vec::new();
        for entry in table.range::<&[u8; 53]>(&from..=&last).map_err(fault)? {
            let (key, _) = entry.map_err(fault)?;
            let id = Hash(*key.value().last_chunk().expect("a name has 32 bytes"));
            if after == Some(id) {
                continue;
            }
            if found.len() == limit {
                break;
            }
            found.push(id);
        }
        Ok(found)
    }

    /// Values in a range of state keys, `limit` at most.
    #[must_use]
    pub fn range(&self, from: &[u8], below: &[u8], limit: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        self.for_each(from, below, |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            found.len() < limit
        });
        found
    }

    /// Values in a range of state keys, the last one first, `limit` at most.
    #[must_use]
    pub fn range_back(&self, from: &[u8], below: &[u8], limit: usize) -> Vec<Entry> {
        if from >= below {
            return Vec::new();
        }
        let read = || {
            let range = self.values.range(from..below).map_err(fault)?;
            let owned = range.rev().take(limit).map(|entry| {
                let (key, value) = entry.map_err(fault)?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            });
            owned.collect::<Result<Vec<_>, StoreError>>()
        };
        read().unwrap_or_else(|error| give_up(&error))
    }

    /// Shows values in a range of state keys, in order, as long as `wants_more`.
    fn for_each(
        &self,
        from: &[u8],
        below: &[u8],
        mut wants_more: impl FnMut(&[u8], &[u8]) -> bool,
    ) {
        let mut run = || {
            if from >= below {
                return Ok(());
            }
            for entry in self.values.range(from..below).map_err(fault)? {
                let (key, value) = entry.map_err(fault)?;
                if !wants_more(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        };
        run().unwrap_or_else(|error: StoreError| give_up(&error));
    }

    /// All of the state, in order.
    pub(super) fn state(
        &self,
    ) -> Result<impl Iterator<Item = Result<Entry, StoreError>> + '_, StoreError> {
        let range = self.values.iter().map_err(fault)?;
        Ok(range.map(|entry| {
            let (key, value) = entry.map_err(fault)?;
            Ok((key.value().to_vec(), value.value().to_vec()))
        }))
    }

    fn at<T: BorshDeserialize>(
        &self,
        table: redb::TableDefinition<'_, u64, &'static [u8]>,
        height: u64,
    ) -> Result<Option<T>, StoreError> {
        let table = self.transaction.open_table(table).map_err(fault)?;
        let bytes = table.get(height).map_err(fault)?;
        bytes.map(|bytes| decoded(bytes.value())).transpose()
    }
}

fn decoded<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, StoreError> {
    arknet_types::decode(bytes).map_err(|error| StoreError::Damaged(error.to_string()))
}

impl StateView for Reader {
    fn value(&self, key: &[u8]) -> Option<Vec<u8>> {
        get(&self.values, key)
    }

    fn first(&self, from: &[u8], below: &[u8]) -> Option<Entry> {
        self.range(from, below, 1).pop()
    }

    fn page(&self, path: &[u8]) -> Option<Vec<u8>> {
        get(&self.pages, path)
    }
}

fn get(table: &Bytes, key: &[u8]) -> Option<Vec<u8>> {
    match table.get(key) {
        Ok(value) => value.map(|value| value.value().to_vec()),
        Err(error) => give_up(&fault(error)),
    }
}
