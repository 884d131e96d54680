//! What somebody needs who wants to know what the ledger says and trusts no one who tells it: the
//! headers, by certificates of sets that follow from one another, and proofs against them.

use arknet_types::{DecodeError, NetworkId, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    CertificateError, CommitCertificate, Genesis, GenesisError, Hash, Header, Key, Proof,
    ProofError, ValidatorSet,
    limits::{LIGHT_BLOCK_BYTES_MAX, LIGHT_TRUST_MS_MAX},
};

/// A header with everything that shows it is the chain's.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct LightBlock {
    /// The header.
    pub header: Header,
    /// The proof that it is committed.
    pub certificate: CommitCertificate,
    /// The set that voted on it.
    pub validators: ValidatorSet,
    /// The set that votes on the next.
    pub next_validators: ValidatorSet,
}

impl LightBlock {
    /// Reads one that a stranger sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > LIGHT_BLOCK_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: LIGHT_BLOCK_BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }
}

/// Why a header is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LightError {
    /// The certificate is about another block.
    #[error("the certificate is about another block")]
    Block,
    /// The certificate proves nothing.
    #[error("the certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// It lies in the future.
    #[error("the header is from the future; check the clock")]
    Future,
    /// What is known is so old that those who signed it may have taken their stake and gone.
    #[error("what is known is too old to build on; begin from a header that can be trusted")]
    Old,
    /// Nothing newer than what is known.
    #[error("the header is not newer than what is known")]
    NotNewer,
    /// It is of another chain.
    #[error("the header is of another network")]
    Network,
    /// The sets are not those of the header, or too few are known from before.
    #[error("the validators are not those that follow from what is known")]
    Validators,
    /// A proof that proves nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A proved value that cannot be read: written by a newer version.
    #[error("the value is proved but cannot be read")]
    Unreadable,
    /// Nothing but the genesis is known, which no proof is about.
    #[error("no header is known yet")]
    NoHeader,
}

/// Follows the chain from something that is trusted.
#[derive(Clone, Debug)]
pub struct LightClient {
    network: NetworkId,
    height: u64,
    time: Timestamp,
    id: Hash,
    state_root: Option<Hash>,
    /// The set that votes on the height after.
    next: ValidatorSet,
}

impl LightClient {
    /// Begins with the genesis.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        Ok(Self {
            network: genesis.network.clone(),
            height: 0,
            time: genesis.time,
            id: genesis.id(),
            state_root: None,
            next: genesis.validator_set()?,
        })
    }

    /// Begins with a header that somebody trusted says is good.
    #[must_use]
    pub fn from_trusted(header: &Header, next_validators: ValidatorSet) -> Option<Self> {
        (next_validators.hash() == header.next_validators).then(|| Self {
            network: header.network.clone(),
            height: header.height,
            time: header.time,
            id: header.id(),
            state_root: Some(header.state_root),
            next: next_validators,
        })
    }

    /// The height of what is known.
    #[must_use]
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The name of the block that is known.
    #[must_use]
    pub const fn id(&self) -> Hash {
        self.id
    }

    /// The time of the block that is known.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Takes a newer header. The next height is taken from the set that is known for it; a later one
    /// where more than a third of that set has signed it as well, for then one honest validator did.
    pub fn advance(&mut self, block: LightBlock, now: Timestamp) -> Result<(), LightError> {
        let LightBlock { header, certificate, validators, next_validators } = block;
        if header.network != self.network {
            return Err(LightError::Network);
        }
        if header.height <= self.height || header.time <= self.time {
            return Err(LightError::NotNewer);
        }
        if !header.is_timely(now) {
            return Err(LightError::Future);
        }
        if now.since_ms(self.time) > LIGHT_TRUST_MS_MAX {
            return Err(LightError::Old);
        }
        if certificate.height != header.height || certificate.block != header.id() {
            return Err(LightError::Block);
        }
        let is_next = header.height.checked_sub(1) == Some(self.height);
        if validators.hash() != header.validators
            || next_validators.hash() != header.next_validators
            || (is_next && validators != self.next)
        {
            return Err(LightError::Validators);
        }
        certificate.verify(&self.network, &validators)?;
        if validators != self.next && !self.has_a_third(&certificate, &validators) {
            return Err(LightError::Validators);
        }
        self.height = header.height;
        self.time = header.time;
        self.id = header.id();
        self.state_root = Some(header.state_root);
        self.next = next_validators;
        Ok(())
    }

    /// Whether those who signed weigh more than a third of the set that is known.
    fn has_a_third(&self, certificate: &CommitCertificate, validators: &ValidatorSet) -> bool {
        let known = |operator| {
            let (old, new) = (self.next.find(operator)?, validators.find(operator)?);
            (old.key == new.key).then_some(old.power)
        };
        let signed = certificate.signatures.iter().filter_map(|one| known(&one.validator));
        let power = signed.fold(0_u128, |sum, power| sum.saturating_add(u128::from(power)));
        power.saturating_mul(3) > u128::from(self.next.total_power())
    }

    /// The value of `key` after the block that is known, from what a stranger sent: the bytes of the
    /// value, or none, and the proof for it.
    pub fn value<T: BorshDeserialize>(
        &self,
        key: &Key,
        value: Option<&[u8]>,
        proof: &Proof,
    ) -> Result<Option<T>, LightError> {
        let root = self.state_root.ok_or(LightError::NoHeader)?;
        proof.verify(&root, &key.bytes(), value)?;
        let value = value.map(arknet_types::decode).transpose();
        value.map_err(|_| LightError::Unreadable)
    }
}
