use arknet_types::{Address, Atoms, DecodeError, NetworkId, Timestamp, decode_list};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    BlockError, CommitCertificate, Evidence, Executed, Hash, Parent, QuoteVerifier,
    SignedTransaction, StateView, VerifiedTransaction, execute_block,
    hash::Purpose,
    limits::{
        BLOCK_BYTES_MAX, BLOCK_TIME_AHEAD_MS_MAX, EVIDENCE_PER_BLOCK_MAX,
        TRANSACTIONS_PER_BLOCK_MAX,
    },
    signing::Claim,
};

/// What validators agree on: the block's place, what is in it, and the state after it.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The chain.
    pub network: NetworkId,
    /// The number of blocks before it, itself included.
    pub height: u64,
    /// The block before it; the genesis document's hash for the first.
    pub parent: Hash,
    /// When it was proposed, later than its parent.
    pub time: Timestamp,
    /// Who proposed it.
    pub proposer: Address,
    /// Price of one gas.
    pub base_fee: Atoms,
    /// Gas of all its transactions.
    pub gas_used: u64,
    /// The set that votes on it.
    pub validators: Hash,
    /// The set that votes on the next.
    pub next_validators: Hash,
    /// The root of the state after it.
    pub state_root: Hash,
    /// What became of its transactions, as [`outcomes_root`](crate::outcomes_root) names it.
    pub outcomes: Hash,
    /// The certificate of its parent, as it is in the block.
    pub commit: Hash,
    /// The evidence in it.
    pub evidence: Hash,
    /// The transactions in it.
    pub transactions: Hash,
}

impl Header {
    /// The block's name, which votes are about.
    #[must_use]
    pub fn id(&self) -> Hash {
        Hash::of(Purpose::HEADER, self)
    }

    /// Whether a validator whose clock says `now` may vote for it: nothing from the future.
    #[must_use]
    pub const fn is_timely(&self, now: Timestamp) -> bool {
        self.time.since_ms(now) <= BLOCK_TIME_AHEAD_MS_MAX
    }
}

/// A header and everything that it names.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// What is agreed on.
    pub header: Header,
    /// Proof that the parent is committed; none in the first block.
    pub commit: Option<CommitCertificate>,
    /// Proofs against validators.
    #[borsh(deserialize_with = "decode_list::<_, _, EVIDENCE_PER_BLOCK_MAX>")]
    pub evidence: Vec<Evidence>,
    /// The transactions, in the order in which they count.
    #[borsh(deserialize_with = "decode_list::<_, _, TRANSACTIONS_PER_BLOCK_MAX>")]
    pub transactions: Vec<SignedTransaction>,
}

impl Block {
    /// Reads one that a stranger sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: BLOCK_BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }

    /// Has the header name what is in the block, for who puts one together by hand.
    pub fn name_body(&mut self) {
        let id = |one: &SignedTransaction| {
            Hash::of_bytes(Purpose::TRANSACTION_ID, &arknet_types::encode(one))
        };
        let ids: Vec<Hash> = self.transactions.iter().map(id).collect();
        self.header.commit = Hash::of(Purpose::BODY, &self.commit);
        self.header.evidence = Hash::of(Purpose::BODY, &self.evidence);
        self.header.transactions = Hash::of(Purpose::BODY, &ids);
    }

    /// Checks that the block holds what its header names, and every transaction's signature.
    /// `which_hold` answers a list of claims; [`which_hold`](crate::which_hold) does, and whoever
    /// has several processors gives each a part of the list.
    pub fn verify(
        self,
        which_hold: impl FnOnce(&[Claim]) -> Vec<bool>,
    ) -> Result<VerifiedBlock, BlockError> {
        self.verify_knowing(|_| false, which_hold)
    }

    /// The same for who has checked some transactions before: a name stands for all bytes of a
    /// transaction, its signature included, so what `is_known` says of a name holds for it.
    pub fn verify_knowing(
        self,
        is_known: impl Fn(&Hash) -> bool,
        which_hold: impl FnOnce(&[Claim]) -> Vec<bool>,
    ) -> Result<VerifiedBlock, BlockError> {
        let (block, open) = self.open(is_known)?;
        let answers = which_hold(&open.claims);
        open.judge(&answers).map(|()| block)
    }

    /// Checks and executes it, both at the same time where `check` can: a block with a wrong
    /// signature is invalid as a whole, and what executing it came to is forgotten.
    pub fn execute_knowing<V: StateView>(
        self,
        parent: &Parent<'_, V>,
        quotes: &dyn QuoteVerifier,
        is_known: impl Fn(&Hash) -> bool,
        check: impl FnOnce(&[Claim], &mut dyn FnMut()) -> Vec<bool>,
    ) -> Result<(VerifiedBlock, Executed), BlockError> {
        let (block, open) = self.open(is_known)?;
        let mut executed = None;
        let answers = check(&open.claims, &mut || {
            executed = Some(execute_block(parent, &block, quotes));
        });
        open.judge(&answers)?;
        let executed = executed.expect("who checks does the rest as well")?;
        Ok((block, executed))
    }

    /// The block as if all its signatures were good, and what is to be checked before that is true:
    /// it must not leave this file until then.
    fn open(self, is_known: impl Fn(&Hash) -> bool) -> Result<(VerifiedBlock, Open), BlockError> {
        let mut open = Open::default();
        let mut transactions = Vec::with_capacity(self.transactions.len());
        for (index, transaction) in self.transactions.into_iter().enumerate() {
            let (transaction, bytes) = VerifiedTransaction::encoded(transaction);
            if !is_known(&transaction.id()) {
                open.indexes.push(index);
                open.claims.push(transaction.claim(&bytes));
            }
            transactions.push(transaction);
        }
        let body = Body { commit: self.commit, evidence: self.evidence, transactions };
        let header = self.header;
        // Before a signature is blamed: who changed it changed the name that the header has.
        let named = [
            ("certificate", header.commit == body.commit_hash()),
            ("evidence", header.evidence == body.evidence_hash()),
            ("transactions", header.transactions == body.transactions_hash()),
        ];
        if let Some((field, _)) = named.iter().find(|(_, same)| !same) {
            return Err(BlockError::Body { field });
        }
        Ok((VerifiedBlock { header, body }, open))
    }
}

/// The signatures of a block that nobody has checked.
#[derive(Default)]
struct Open {
    indexes: Vec<usize>,
    claims: Vec<Claim>,
}

impl Open {
    fn judge(&self, answers: &[bool]) -> Result<(), BlockError> {
        assert_eq!(answers.len(), self.claims.len(), "an answer for each claim");
        let bad = self.indexes.iter().zip(answers).find(|(_, holds)| !**holds);
        bad.map_or(Ok(()), |(index, _)| Err(BlockError::Signature { index: *index }))
    }
}

/// A block whose transactions' signatures have been checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedBlock {
    /// What is agreed on.
    pub header: Header,
    /// Everything that it names.
    pub body: Body,
}

impl VerifiedBlock {
    /// The block as it travels.
    #[must_use]
    pub fn into_block(self) -> Block {
        let Body { commit, evidence, transactions } = self.body;
        let transactions = transactions.into_iter().map(|one| one.signed().clone()).collect();
        Block { header: self.header, commit, evidence, transactions }
    }
}

/// What is inside a block.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Body {
    /// Proof that the parent is committed; none in the first block.
    pub commit: Option<CommitCertificate>,
    /// Proofs against validators.
    pub evidence: Vec<Evidence>,
    /// The transactions, in the order in which they count.
    pub transactions: Vec<VerifiedTransaction>,
}

impl Body {
    pub(crate) fn commit_hash(&self) -> Hash {
        Hash::of(Purpose::BODY, &self.commit)
    }

    pub(crate) fn evidence_hash(&self) -> Hash {
        Hash::of(Purpose::BODY, &self.evidence)
    }

    pub(crate) fn transactions_hash(&self) -> Hash {
        let ids: Vec<Hash> = self.transactions.iter().map(VerifiedTransaction::id).collect();
        Hash::of(Purpose::BODY, &ids)
    }
}
