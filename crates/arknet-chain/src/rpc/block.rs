use arknet_types::{Address, Atoms, NetworkId};
use serde::{Deserialize, Serialize};

use super::{HexBytes, TransactionFields, text::snake};
use crate::{
    Failure, Hash, Header, LightBlock, Outcome, OutcomeError, OutcomeProof, Purpose,
    SignedTransaction, outcomes_root,
};

/// A block.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockAnswer {
    /// The chain.
    pub network: NetworkId,
    /// Its height.
    pub height: u64,
    /// Its name.
    pub id: Hash,
    /// The block before it.
    pub parent: Hash,
    /// When it was proposed.
    pub time_ms: u64,
    /// Who proposed it.
    pub proposer: Address,
    /// Price of one gas in it.
    pub base_fee: Atoms,
    /// Gas of all its transactions.
    pub gas_used: u64,
    /// The set that voted on it.
    pub validators: Hash,
    /// The set that votes on the next.
    pub next_validators: Hash,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The root over what became of its transactions.
    pub outcomes: Hash,
    /// The round in which it was committed.
    pub round: u32,
    /// Validators whose precommit is in its certificate.
    pub signatures: u32,
    /// Proofs against validators in it.
    pub evidence: u32,
    /// Its transactions, in order.
    pub transactions: Vec<BlockTransaction>,
    /// The Borsh of the header.
    pub header: HexBytes,
    /// The Borsh of the certificate that commits it.
    pub certificate: HexBytes,
    /// The Borsh of the whole block, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<HexBytes>,
}

impl BlockAnswer {
    /// It, with the words for what became of its transactions written anew, where the chain's header
    /// says the same of the block, of which transactions are in it, and of what became of them. Who
    /// sent them and what they do is only in their bytes.
    #[must_use]
    pub fn proved(mut self, header: &Header) -> Option<Self> {
        let outcomes: Vec<Outcome> =
            self.transactions.iter().map(BlockTransaction::outcome).collect::<Option<_>>()?;
        let ids: Vec<Hash> = self.transactions.iter().map(|one| one.id).collect();
        let is_same = self.header.0 == arknet_types::encode(header)
            && self.network == header.network
            && self.height == header.height
            && self.id == header.id()
            && self.parent == header.parent
            && self.time_ms == header.time.0
            && self.proposer == header.proposer
            && self.base_fee == header.base_fee
            && self.gas_used == header.gas_used
            && self.validators == header.validators
            && self.next_validators == header.next_validators
            && self.state_root == header.state_root
            && self.outcomes == header.outcomes
            && outcomes_root(&outcomes) == header.outcomes
            && Hash::of(Purpose::BODY, &ids) == header.transactions;
        for (transaction, outcome) in self.transactions.iter_mut().zip(&outcomes) {
            transaction.outcome = OutcomeAnswer::from(outcome);
        }
        is_same.then_some(self)
    }
}

/// A transaction of a block.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockTransaction {
    /// Its name.
    pub id: Hash,
    /// Who acted and paid.
    pub from: Address,
    /// What it does: `transfer`, `stake_deposit`, `channel_open` and so on.
    pub kind: String,
    /// What became of it.
    pub outcome: OutcomeAnswer,
}

impl BlockTransaction {
    /// What its numbers say became of it; none where they do not agree.
    fn outcome(&self) -> Option<Outcome> {
        let OutcomeAnswer { gas, fee, number, failure_number, .. } = self.outcome;
        let result = match failure_number {
            None => Ok(number),
            Some(failure) => Err(arknet_types::decode(&[failure]).ok()?),
        };
        let outcome = Outcome { id: self.id, gas, fee, result };
        self.outcome.is_of(&outcome).then_some(outcome)
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct OutcomeAnswer {
    /// Whether its action was done. Fee and nonce are used either way.
    pub done: bool,
    /// Gas it took.
    pub gas: u64,
    /// What it paid for it.
    pub fee: Atoms,
    /// The number of what it made: a proposal, a withdrawal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Why it was not done, for programs: `balance`, `node_gone` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The same as the number that never changes its meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_number: Option<u8>,
    /// The same in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_words: Option<String>,
}

impl OutcomeAnswer {
    /// Whether the numbers are those of this outcome. The words may be those of another version.
    fn is_of(&self, outcome: &Outcome) -> bool {
        let right = Self::from(outcome);
        (self.done, self.gas, self.fee) == (right.done, right.gas, right.fee)
            && (self.number, self.failure_number) == (right.number, right.failure_number)
    }
}

impl From<&Outcome> for OutcomeAnswer {
    fn from(outcome: &Outcome) -> Self {
        let failure: Option<Failure> = outcome.result.err();
        Self {
            done: failure.is_none(),
            gas: outcome.gas,
            fee: outcome.fee,
            number: outcome.result.ok().flatten(),
            failure: failure.map(|failure| snake(&format!("{failure:?}"))),
            failure_number: failure.map(|failure| failure as u8),
            failure_words: failure.map(|failure| failure.to_string()),
        }
    }
}

/// A header with all that shows it is the chain's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LightAnswer {
    /// Its height.
    pub height: u64,
    /// Its name.
    pub id: Hash,
    /// Its time.
    pub time_ms: u64,
    /// The Borsh of a `LightBlock`: the header, its certificate, the set that voted on it and the
    /// set that votes on the next.
    pub bytes: HexBytes,
}

impl From<&LightBlock> for LightAnswer {
    fn from(block: &LightBlock) -> Self {
        Self {
            height: block.header.height,
            id: block.header.id(),
            time_ms: block.header.time.0,
            bytes: HexBytes(arknet_types::encode(block)),
        }
    }
}

/// A block that was committed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct BlockEvent {
    /// Its height.
    pub height: u64,
    /// Its name.
    pub id: Hash,
    /// When it was proposed.
    pub time_ms: u64,
    /// Who proposed it.
    pub proposer: Address,
    /// Its transactions.
    pub transactions: u32,
    /// Their gas.
    pub gas_used: u64,
    /// The root of the state after it.
    pub state_root: Hash,
    /// Whether another set votes on the next.
    pub validators_changed: bool,
}

impl BlockEvent {
    /// Of a block with so many transactions.
    #[must_use]
    pub fn new(header: &Header, transactions: u32) -> Self {
        Self {
            height: header.height,
            id: header.id(),
            time_ms: header.time.0,
            proposer: header.proposer,
            transactions,
            gas_used: header.gas_used,
            state_root: header.state_root,
            validators_changed: header.validators != header.next_validators,
        }
    }
}

/// A transaction that is to wait for a block.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitRequest {
    /// The Borsh of the signed transaction.
    pub transaction: HexBytes,
}

/// It waits, or is in a block already.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SubmitAnswer {
    /// Its name.
    pub id: Hash,
    /// Where it is.
    pub state: TransactionState,
    /// The height of the block that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// It waits for a block.
    Waiting,
    /// It is in one, for ever.
    Committed,
}

/// A transaction and what became of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TransactionAnswer {
    /// Its name.
    pub id: Hash,
    /// Where it is.
    pub state: TransactionState,
    /// While it waits, those of its account that come before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// The height of the block that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u64>,
    /// Its place in that block, from zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeAnswer>,
    /// The Borsh of an `OutcomeProof`: index and outcome, and the hashes by which the header of that
    /// block shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<HexBytes>,
    /// The transaction; none where its block is not kept any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionFields>,
}

impl TransactionAnswer {
    /// It, with all that is for people written anew, where the chain's header of its block proves
    /// what is said here of the transaction `id`.
    pub fn proved(self, id: &Hash, header: &Header) -> Result<Self, OutcomeError> {
        let proof = self.proof.as_ref().ok_or(OutcomeError::Absent)?;
        let proof: OutcomeProof =
            arknet_types::decode(&proof.0).map_err(|_| OutcomeError::Absent)?;
        let outcome = proof.verify(header, id)?;
        let is_same = (self.id, self.state) == (*id, TransactionState::Committed)
            && self.ahead.is_none()
            && (self.height, self.index) == (Some(header.height), Some(proof.index))
            && self.outcome.is_some_and(|said| said.is_of(&outcome));
        if !is_same {
            return Err(OutcomeError::Differs);
        }
        let transaction = self.transaction.map(|fields| fields_of(&fields.bytes.0, id));
        let transaction = transaction.transpose()?;
        Ok(Self { outcome: Some(OutcomeAnswer::from(&outcome)), transaction, ..self })
    }
}

/// The fields of the transaction `id`, of which these are said to be the bytes.
fn fields_of(bytes: &[u8], id: &Hash) -> Result<TransactionFields, OutcomeError> {
    if Hash::of_bytes(Purpose::TRANSACTION_ID, bytes) != *id {
        return Err(OutcomeError::Differs);
    }
    let transaction = SignedTransaction::parse(bytes).map_err(|_| OutcomeError::Differs)?;
    Ok(TransactionFields::new(&transaction))
}
