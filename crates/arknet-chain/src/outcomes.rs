//! What became of a block's transactions, under one root that its header names.
//!
//! A row of hashes of the outcomes, over it a row with one for each two, and so on to a single one;
//! the last of an odd row goes up as it is. The root is the hash of that one and of how many
//! outcomes there are, so that no list passes for another.

use arknet_types::decode_list;
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{Hash, Header, Outcome, hash::Purpose, limits::OUTCOME_SIBLINGS_MAX};

/// What a header says of the outcomes of its block.
#[must_use]
pub fn outcomes_root(outcomes: &[Outcome]) -> Hash {
    let mut row: Vec<Hash> = outcomes.iter().map(leaf).collect();
    while row.len() > 1 {
        row = row_above(&row);
    }
    root(count_of(outcomes), row.first().unwrap_or(&Hash::ZERO))
}

/// What became of a transaction, and what shows that the header of its block says so.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct OutcomeProof {
    /// What became of it.
    pub outcome: Outcome,
    /// Its place in the block, from zero.
    pub index: u32,
    /// Transactions in the block.
    pub count: u32,
    /// The hashes beside the way, from the outcome up.
    #[borsh(deserialize_with = "decode_list::<_, _, OUTCOME_SIBLINGS_MAX>")]
    pub siblings: Vec<Hash>,
}

/// Why nothing is proved of what became of a transaction: an honest node says none of this.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OutcomeError {
    /// There is no proof, or none that can be read.
    #[error("there is no proof")]
    Absent,
    /// What is said beside the proof is something else.
    #[error("what is said is not what the proof shows")]
    Differs,
    /// There are more or fewer hashes than the place asks for.
    #[error("the proof has another length than its place asks for")]
    Length,
    /// It is about another transaction.
    #[error("the proof is about another transaction")]
    OtherTransaction,
    /// There is no such place in the block.
    #[error("the proof is about a place that the block does not have")]
    Place,
    /// The header of the block says something else.
    #[error("the proof does not lead to what the block's header says")]
    Root,
}

impl OutcomeProof {
    /// The proof of what became of the transaction at a place; none where there is no such place.
    #[must_use]
    pub fn new(outcomes: &[Outcome], index: u32) -> Option<Self> {
        let mut at = usize::try_from(index).ok()?;
        let outcome = *outcomes.get(at)?;
        let (mut row, mut siblings) = (outcomes.iter().map(leaf).collect::<Vec<_>>(), Vec::new());
        while row.len() > 1 {
            siblings.extend(row.get(at ^ 1));
            row = row_above(&row);
            at /= 2;
        }
        Some(Self { outcome, index, count: count_of(outcomes), siblings })
    }

    /// What became of the transaction `id` in the block of `header`.
    pub fn verify(&self, header: &Header, id: &Hash) -> Result<Outcome, OutcomeError> {
        if self.outcome.id != *id {
            return Err(OutcomeError::OtherTransaction);
        }
        if self.root()? == header.outcomes { Ok(self.outcome) } else { Err(OutcomeError::Root) }
    }

    /// The root that it leads to.
    fn root(&self) -> Result<Hash, OutcomeError> {
        let (mut at, mut width) = (self.index, self.count);
        if at >= width {
            return Err(OutcomeError::Place);
        }
        let (mut hash, mut siblings) = (leaf(&self.outcome), self.siblings.iter());
        while width > 1 {
            if at ^ 1 < width {
                let beside = siblings.next().ok_or(OutcomeError::Length)?;
                hash = if at % 2 == 0 { fork(&hash, beside) } else { fork(beside, &hash) };
            }
            (at, width) = (at / 2, width.div_ceil(2));
        }
        match siblings.next() {
            None => Ok(root(self.count, &hash)),
            Some(_) => Err(OutcomeError::Length),
        }
    }
}

fn count_of(outcomes: &[Outcome]) -> u32 {
    u32::try_from(outcomes.len()).expect("a block has fewer transactions")
}

fn row_above(row: &[Hash]) -> Vec<Hash> {
    let above = row.chunks(2).map(|two| match two {
        [left, right] => fork(left, right),
        _ => two[0],
    });
    above.collect()
}

fn leaf(outcome: &Outcome) -> Hash {
    Hash::of(Purpose::OUTCOME_LEAF, outcome)
}

fn fork(left: &Hash, right: &Hash) -> Hash {
    let mut both = [0; 64];
    both[..32].copy_from_slice(&left.0);
    both[32..].copy_from_slice(&right.0);
    Hash::of_bytes(Purpose::OUTCOME_FORK, &both)
}

fn root(count: u32, top: &Hash) -> Hash {
    Hash::of(Purpose::OUTCOMES, &(count, top))
}
