use arknet_types::{
    Address, Atoms, DecodeError, Domain, KeyPair, ModelDigest, NetworkId, PublicKey, Signature,
    decode_list,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    ChannelOp, Choice, EscrowOp, Hash, ModelFacts, ProposalBody, SignedReceipt, StakeOp, TeeClaim,
    hash::Purpose,
    limits::{RECEIPTS_PER_TRANSACTION_MAX, TRANSACTION_BYTES_MAX},
    signing::Claim,
};

/// What a transaction does.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Money to another account.
    Transfer {
        /// The receiver.
        to: Address,
        /// How much.
        amount: Atoms,
    },
    /// Money that nobody has any more.
    Burn {
        /// How much.
        amount: Atoms,
    },
    /// Something about stake.
    Stake(StakeOp),
    /// Something about money for one job.
    Escrow(Box<EscrowOp>),
    /// Something about a channel.
    Channel(Box<ChannelOp>),
    /// Says what a model file is.
    RegisterModel(Box<ModelFacts>),
    /// Takes that back.
    DeregisterModel(ModelDigest),
    /// Says that an enclave runs, by its vendor's signature.
    RegisterTee(Box<TeeClaim>),
    /// Proposes something to those who have stake.
    Propose(Box<ProposalBody>),
    /// Votes on a proposal; the last vote counts.
    Vote {
        /// Which proposal.
        proposal: u64,
        /// How.
        choice: Choice,
    },
    /// Fetches new money for jobs.
    Reward(
        #[borsh(deserialize_with = "decode_list::<_, _, RECEIPTS_PER_TRANSACTION_MAX>")]
        Vec<SignedReceipt>,
    ),
}

impl Action {
    /// The gas it takes, whatever comes of it.
    #[must_use]
    pub fn gas(&self) -> u64 {
        match self {
            Self::Transfer { .. } | Self::Burn { .. } => 21_000,
            Self::Stake(_) => 100_000,
            Self::Escrow(_) => 50_000,
            Self::Channel(_) => 60_000,
            Self::RegisterModel(_) | Self::RegisterTee(_) => 200_000,
            Self::DeregisterModel(_) => 50_000,
            Self::Propose(_) => 500_000,
            Self::Vote { .. } => 30_000,
            Self::Reward(receipts) => {
                let count = u64::try_from(receipts.len()).unwrap_or(u64::MAX);
                count.max(1).saturating_mul(80_000)
            }
        }
    }
}

/// All of a transaction but its signature.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct TransactionBody {
    /// The chain it is for.
    pub network: NetworkId,
    /// The key of the account that acts and pays.
    pub signer: PublicKey,
    /// How many transactions of the account came before.
    pub nonce: u64,
    /// Gas it may take.
    pub gas_limit: u64,
    /// Highest price of one gas, tip included.
    pub fee_max: Atoms,
    /// What the proposer gets for one gas, within `fee_max`.
    pub tip: Atoms,
    /// What to do.
    pub action: Action,
}

/// A transaction with the signature of the account that pays.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct SignedTransaction {
    /// What is asked for.
    pub body: TransactionBody,
    /// The signer's, over the body's hash in [`Domain::TRANSACTION`].
    pub signature: Signature,
}

impl SignedTransaction {
    /// Signs `body`.
    ///
    /// # Panics
    /// When `key` is not the key that `body` names.
    #[must_use]
    pub fn sign(body: TransactionBody, key: &KeyPair) -> Self {
        assert_eq!(body.signer, key.public(), "the signer named is the one that signs");
        let signature = key.sign(Domain::TRANSACTION, &Hash::of(Purpose::TRANSACTION, &body));
        Self { body, signature }
    }

    /// Reads one that a stranger sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: TRANSACTION_BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }

    /// Its name: the hash of all its bytes.
    #[must_use]
    pub fn id(&self) -> Hash {
        Hash::of(Purpose::TRANSACTION_ID, self)
    }

    /// What its signature says.
    #[must_use]
    pub fn claim(&self) -> Claim {
        let hash = Hash::of(Purpose::TRANSACTION, &self.body);
        Claim::new(self.body.signer, Domain::TRANSACTION, &hash, self.signature)
    }

    /// Checks the signature.
    #[must_use]
    pub fn verify(self) -> Option<VerifiedTransaction> {
        self.claim().holds().then(|| VerifiedTransaction::new(self))
    }
}

/// A transaction whose signature has been checked: there is no other way to make one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedTransaction {
    transaction: SignedTransaction,
    id: Hash,
    signer: Address,
    bytes: usize,
}

impl VerifiedTransaction {
    pub(crate) fn new(transaction: SignedTransaction) -> Self {
        Self::encoded(transaction).0
    }

    /// It, and its bytes.
    pub(crate) fn encoded(transaction: SignedTransaction) -> (Self, Vec<u8>) {
        let bytes = arknet_types::encode(&transaction);
        let this = Self {
            id: Hash::of_bytes(Purpose::TRANSACTION_ID, &bytes),
            signer: transaction.body.signer.address(),
            bytes: bytes.len(),
            transaction,
        };
        (this, bytes)
    }

    /// What its signature claims, where these are its bytes: the body comes first, then the signature.
    pub(crate) fn claim(&self, bytes: &[u8]) -> Claim {
        let SignedTransaction { body, signature } = &self.transaction;
        let (signed, _) = bytes.split_at(bytes.len().saturating_sub(signature.0.len()));
        let hash = Hash::of_bytes(Purpose::TRANSACTION, signed);
        Claim::new(body.signer, Domain::TRANSACTION, &hash, *signature)
    }

    /// Checks the signatures of many at once: those that `which_hold` finds good, and those whose
    /// names are known to have been checked before.
    #[must_use]
    pub fn verify_all(
        transactions: Vec<SignedTransaction>,
        is_known: impl Fn(&Hash) -> bool,
        which_hold: impl FnOnce(&[Claim]) -> Vec<bool>,
    ) -> Vec<Option<Self>> {
        let mut claims = Vec::new();
        let all: Vec<(Self, bool)> = transactions
            .into_iter()
            .map(|transaction| {
                let (transaction, bytes) = Self::encoded(transaction);
                let is_known = is_known(&transaction.id);
                if !is_known {
                    claims.push(transaction.claim(&bytes));
                }
                (transaction, is_known)
            })
            .collect();
        let answers = which_hold(&claims);
        assert_eq!(answers.len(), claims.len(), "an answer for each claim");
        let mut answers = answers.into_iter();
        let mut holds = |is_known: bool| is_known || answers.next() == Some(true);
        all.into_iter().map(|(one, is_known)| holds(is_known).then_some(one)).collect()
    }

    /// Its name: the hash of all its bytes.
    #[must_use]
    pub const fn id(&self) -> Hash {
        self.id
    }

    /// The account that acts and pays.
    #[must_use]
    pub const fn signer(&self) -> Address {
        self.signer
    }

    /// What was signed.
    #[must_use]
    pub const fn body(&self) -> &TransactionBody {
        &self.transaction.body
    }

    /// Bytes of its encoding.
    #[must_use]
    pub const fn encoded_bytes(&self) -> usize {
        self.bytes
    }

    /// The transaction as it travels.
    #[must_use]
    pub const fn signed(&self) -> &SignedTransaction {
        &self.transaction
    }
}

/// Why a transaction cannot be in the next block; none of its money moves and its nonce stays.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Inapplicable {
    /// The balance does not pay for the gas.
    #[error("the fee is up to {fee} atoms, the account has {balance}")]
    Balance {
        /// What the account has.
        balance: u64,
        /// What it would have to pay.
        fee: u64,
    },
    /// It offers less than the base fee.
    #[error("one gas costs {base_fee} atoms now, the transaction pays {fee_max} at most")]
    BaseFee {
        /// The price now.
        base_fee: u64,
        /// What it would pay.
        fee_max: u64,
    },
    /// The block has no room for it.
    #[error("the block is full")]
    Full,
    /// Its gas limit is below what its action takes.
    #[error("the action takes {needed} gas, the limit is {limit}")]
    GasLimit {
        /// What it takes.
        needed: u64,
        /// What it allows.
        limit: u64,
    },
    /// It is for another chain.
    #[error("signed for another network")]
    Network,
    /// Another nonce is next.
    #[error("nonce {expected} is next, not {found}")]
    Nonce {
        /// The account's next one.
        expected: u64,
        /// The transaction's.
        found: u64,
    },
    /// Its fee is more than a number can hold.
    #[error("the fee is larger than all money")]
    Overflow,
    /// It is larger than a transaction may be.
    #[error("a transaction has {TRANSACTION_BYTES_MAX} bytes at most")]
    TooLarge,
}

/// What a transaction pays for its gas.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Charge {
    pub(crate) gas: u64,
    pub(crate) burned: Atoms,
    pub(crate) tip: Atoms,
    pub(crate) total: Atoms,
}

impl VerifiedTransaction {
    /// Everything that can be said without its account.
    pub(crate) fn charge(
        &self,
        network: &NetworkId,
        base_fee: Atoms,
    ) -> Result<Charge, Inapplicable> {
        let body = self.body();
        if body.network != *network {
            return Err(Inapplicable::Network);
        }
        if self.bytes > TRANSACTION_BYTES_MAX {
            return Err(Inapplicable::TooLarge);
        }
        let gas = body.action.gas();
        if body.gas_limit < gas {
            return Err(Inapplicable::GasLimit { needed: gas, limit: body.gas_limit });
        }
        if body.fee_max < base_fee {
            let (base_fee, fee_max) = (base_fee.0, body.fee_max.0);
            return Err(Inapplicable::BaseFee { base_fee, fee_max });
        }
        let price = base_fee.0.saturating_add(body.tip.0).min(body.fee_max.0);
        let times_gas = |price: u64| price.checked_mul(gas).ok_or(Inapplicable::Overflow);
        let burned = times_gas(base_fee.0)?;
        let total = times_gas(price)?;
        let tip = Atoms(total.saturating_sub(burned));
        Ok(Charge { gas, burned: Atoms(burned), tip, total: Atoms(total) })
    }
}
