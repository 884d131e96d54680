//! What validators sign, what their signatures prove together, and what two of them prove against
//! their signer.

use arknet_types::{Address, Domain, KeyPair, NetworkId, PublicKey, Signature, decode_list};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Hash, ValidatorSet,
    limits::VALIDATORS_MAX,
    signing::{Claim, which_hold},
};

/// The two steps of a round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum VoteKind {
    /// "This block is valid."
    Prevote,
    /// "This block may be committed."
    Precommit,
}

/// What a validator says of a block at a height and round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Vote {
    /// The chain.
    pub network: NetworkId,
    /// The step.
    pub kind: VoteKind,
    /// The height.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// The block; none is a vote for no block.
    pub block: Option<Hash>,
    /// The voter's operator.
    pub validator: Address,
}

/// A vote and its signature in [`Domain::CONSENSUS_VOTE`].
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct SignedVote {
    /// What was said.
    pub vote: Vote,
    /// By whose key.
    pub signature: Signature,
}

/// Which block a validator proposes at a height and round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Proposed {
    /// The chain.
    pub network: NetworkId,
    /// The height.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// The block.
    pub block: Hash,
    /// The earlier round in which the block had the prevotes of a quorum.
    pub valid_round: Option<u32>,
    /// The proposer's operator.
    pub validator: Address,
}

/// The same with its signature in [`Domain::CONSENSUS_PROPOSAL`].
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct SignedProposed {
    /// What was proposed.
    pub proposed: Proposed,
    /// By whose key.
    pub signature: Signature,
}

impl SignedVote {
    /// Signs `vote`.
    #[must_use]
    pub fn sign(vote: Vote, key: &KeyPair) -> Self {
        let signature = key.sign(Domain::CONSENSUS_VOTE, &vote);
        Self { vote, signature }
    }
}

impl SignedProposed {
    /// Signs `proposed`.
    #[must_use]
    pub fn sign(proposed: Proposed, key: &KeyPair) -> Self {
        let signature = key.sign(Domain::CONSENSUS_PROPOSAL, &proposed);
        Self { proposed, signature }
    }
}

/// Two statements of one validator that no honest one makes both.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Evidence {
    /// Two votes in one step.
    Votes(Box<(SignedVote, SignedVote)>),
    /// Two proposals in one round.
    Proposals(Box<(SignedProposed, SignedProposed)>),
}

impl Evidence {
    /// The accused.
    #[must_use]
    pub fn validator(&self) -> Address {
        match self {
            Self::Votes(pair) => pair.0.vote.validator,
            Self::Proposals(pair) => pair.0.proposed.validator,
        }
    }

    /// The height at which it was said.
    #[must_use]
    pub fn height(&self) -> u64 {
        match self {
            Self::Votes(pair) => pair.0.vote.height,
            Self::Proposals(pair) => pair.0.proposed.height,
        }
    }

    /// Whether it proves that the holder of `key` said both on this chain before `height`.
    #[must_use]
    pub fn proves(&self, network: &NetworkId, height: u64, key: PublicKey) -> bool {
        match self {
            Self::Votes(pair) => {
                let (a, b) = (&pair.0.vote, &pair.1.vote);
                let twin = Vote { block: b.block, ..a.clone() };
                let claim = |one: &SignedVote| {
                    Claim::new(key, Domain::CONSENSUS_VOTE, &one.vote, one.signature)
                };
                // In one order only, so that there is one form of each proof.
                twin == *b
                    && a.block < b.block
                    && a.network == *network
                    && a.height < height
                    && which_hold(&[claim(&pair.0), claim(&pair.1)]) == [true, true]
            }
            Self::Proposals(pair) => {
                let (a, b) = (&pair.0.proposed, &pair.1.proposed);
                let twin = Proposed { block: b.block, valid_round: b.valid_round, ..a.clone() };
                let claim = |one: &SignedProposed| {
                    Claim::new(key, Domain::CONSENSUS_PROPOSAL, &one.proposed, one.signature)
                };
                twin == *b
                    && a.block < b.block
                    && a.network == *network
                    && a.height < height
                    && which_hold(&[claim(&pair.0), claim(&pair.1)]) == [true, true]
            }
        }
    }
}

/// One validator's part of a certificate.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitSignature {
    /// Who signed.
    pub validator: Address,
    /// The precommit's signature.
    pub signature: Signature,
}

/// The precommits of a quorum for one block: proof that it is committed.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct CommitCertificate {
    /// The block's height.
    pub height: u64,
    /// The round in which it was committed.
    pub round: u32,
    /// The block.
    pub block: Hash,
    /// The signatures, by validator in order.
    #[borsh(deserialize_with = "decode_list::<_, _, VALIDATORS_MAX>")]
    pub signatures: Vec<CommitSignature>,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Its signatures are not in order, or one validator stands in it twice.
    #[error("the signatures of a certificate are not in order")]
    Order,
    /// Those who signed weigh too little.
    #[error("those who signed weigh {found} of {total}: no quorum")]
    Quorum {
        /// What they weigh.
        found: u64,
        /// What all weigh.
        total: u64,
    },
    /// A signature is not that validator's.
    #[error("the signature of {0} in a certificate does not match")]
    Signature(Address),
    /// Somebody signed who is not in the set.
    #[error("{0} is no validator at this height")]
    Stranger(Address),
}

impl CommitCertificate {
    /// The precommit of `validator` that this certificate counts.
    #[must_use]
    pub fn vote(&self, network: &NetworkId, validator: Address) -> Vote {
        Vote {
            network: network.clone(),
            kind: VoteKind::Precommit,
            height: self.height,
            round: self.round,
            block: Some(self.block),
            validator,
        }
    }

    /// Checks that a quorum of `set` has signed.
    pub fn verify(&self, network: &NetworkId, set: &ValidatorSet) -> Result<(), CertificateError> {
        if !self.signatures.is_sorted_by(|a, b| a.validator < b.validator) {
            return Err(CertificateError::Order);
        }
        let mut power = 0_u64;
        let mut claims = Vec::with_capacity(self.signatures.len());
        for CommitSignature { validator, signature } in &self.signatures {
            let known = set.find(validator).ok_or(CertificateError::Stranger(*validator))?;
            power = power.saturating_add(known.power);
            let vote = self.vote(network, *validator);
            claims.push(Claim::new(known.key, Domain::CONSENSUS_VOTE, &vote, *signature));
        }
        if !set.is_quorum(power) {
            return Err(CertificateError::Quorum { found: power, total: set.total_power() });
        }
        let answers = which_hold(&claims);
        match answers.iter().zip(&self.signatures).find(|(holds, _)| !**holds) {
            Some((_, one)) => Err(CertificateError::Signature(one.validator)),
            None => Ok(()),
        }
    }
}
