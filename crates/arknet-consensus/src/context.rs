//! What the consensus engine asks of the types it works with, answered with the ledger's own. No
//! type of the engine leaves this crate.

use std::{fmt, sync::Arc};

use arc_malachitebft_core_types as core;
use arknet_chain::{
    CommitSignature, Hash, Presence, Proposed, SignedProposed, SignedVote, ValidatorSet, Vote,
    VoteKind,
};
use arknet_types::{Address, NetworkId, PublicKey, Signature};
use core::{NilOrVal, Round, VoteType};

/// The engine's context: our chain.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) network: NetworkId,
}

#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Height(pub(crate) u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Height for Height {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's name: its operator.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Operator(pub(crate) Address);

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::Address for Operator {}

/// What is decided: a block, by its name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct BlockId(pub(crate) Hash);

impl core::Value for BlockId {
    type Id = Hash;

    fn id(&self) -> Hash {
        self.0
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Member {
    operator: Operator,
    key: PublicKey,
    power: u64,
}

impl core::Validator<Chain> for Member {
    fn address(&self) -> &Operator {
        &self.operator
    }

    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// Those who vote at a height, and who of them has been there: it says who proposes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Voters(Arc<VotersInner>);

#[derive(Debug, Eq, PartialEq)]
struct VotersInner {
    set: ValidatorSet,
    presence: Presence,
    members: Vec<Member>,
}

impl Voters {
    pub(crate) fn new(set: ValidatorSet, presence: Presence) -> Self {
        let member = |v: &arknet_chain::Validator| Member {
            operator: Operator(v.operator),
            key: v.key,
            power: v.power,
        };
        let members = set.members().iter().map(member).collect();
        Self(Arc::new(VotersInner { set, presence, members }))
    }

    pub(crate) fn set(&self) -> &ValidatorSet {
        &self.0.set
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.0.presence
    }

    pub(crate) fn proposer(&self, height: u64, round: u32) -> &Address {
        &self.0.set.proposer(height, round, &self.0.presence).operator
    }

    fn find(&self, operator: &Operator) -> Option<&Member> {
        self.0.members.iter().find(|member| member.operator == *operator)
    }
}

impl core::ValidatorSet<Chain> for Voters {
    fn count(&self) -> usize {
        self.0.members.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.0.set.total_power()
    }

    fn get_by_address(&self, address: &Operator) -> Option<&Member> {
        self.find(address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Member> {
        self.0.members.get(index)
    }
}

/// A signature in an order, which the engine wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Seal(pub(crate) Signature);

impl Ord for Seal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.0.cmp(&other.0.0)
    }
}

impl PartialOrd for Seal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Ed25519 as the ledger has it. The engine never asks for bytes: ours are made in `message.rs`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ed25519;

impl core::SigningScheme for Ed25519 {
    type DecodingError = &'static str;
    type Signature = Seal;
    type PublicKey = PublicKey;
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Seal, &'static str> {
        bytes.try_into().map(|bytes| Seal(Signature(bytes))).map_err(|_| "64 bytes are a signature")
    }

    fn encode_signature(signature: &Seal) -> Vec<u8> {
        signature.0.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, &'static str> {
        bytes.try_into().map(PublicKey).map_err(|_| "32 bytes are a key")
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EngineVote {
    kind: VoteType,
    height: Height,
    round: Round,
    block: NilOrVal<Hash>,
    validator: Operator,
}

impl core::Vote<Chain> for EngineVote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Hash> {
        &self.block
    }

    fn take_value(self) -> NilOrVal<Hash> {
        self.block
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Operator {
        &self.validator
    }

    fn extension(&self) -> Option<&core::SignedExtension<Chain>> {
        None
    }

    fn take_extension(&mut self) -> Option<core::SignedExtension<Chain>> {
        None
    }

    fn extend(self, _: core::SignedExtension<Chain>) -> Self {
        self
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct EngineProposal {
    height: Height,
    round: Round,
    block: BlockId,
    valid_round: Round,
    validator: Operator,
}

impl core::Proposal<Chain> for EngineProposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.block
    }

    fn take_value(self) -> BlockId {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.valid_round
    }

    fn validator_address(&self) -> &Operator {
        &self.validator
    }
}

/// Blocks travel whole, with their proposal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NoPart {}

impl core::ProposalPart<Chain> for NoPart {
    fn is_first(&self) -> bool {
        match *self {}
    }

    fn is_last(&self) -> bool {
        match *self {}
    }
}

impl core::Context for Chain {
    type Address = Operator;
    type Height = Height;
    type ProposalPart = NoPart;
    type Proposal = EngineProposal;
    type Validator = Member;
    type ValidatorSet = Voters;
    type Timeouts = core::LinearTimeouts;
    type Value = BlockId;
    type Vote = EngineVote;
    type Extension = ();
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(&self, voters: &'a Voters, height: Height, round: Round) -> &'a Member {
        let operator = voters.proposer(height.0, number(round));
        voters.find(&Operator(*operator)).expect("a proposer is of the set")
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        block: BlockId,
        valid_round: Round,
        validator: Operator,
    ) -> EngineProposal {
        EngineProposal { height, round, block, valid_round, validator }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        block: NilOrVal<Hash>,
        validator: Operator,
    ) -> EngineVote {
        EngineVote { kind: VoteType::Prevote, height, round, block, validator }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        block: NilOrVal<Hash>,
        validator: Operator,
    ) -> EngineVote {
        EngineVote { kind: VoteType::Precommit, height, round, block, validator }
    }
}

/// The number of a round that has begun.
pub(crate) fn number(round: Round) -> u32 {
    round.as_u32().expect("votes and proposals are of a round")
}

impl Chain {
    pub(crate) fn vote(&self, vote: &EngineVote) -> Vote {
        Vote {
            network: self.network.clone(),
            kind: kind(vote.kind),
            height: vote.height.0,
            round: number(vote.round),
            block: hash(vote.block),
            validator: vote.validator.0,
        }
    }

    pub(crate) fn proposed(&self, proposal: &EngineProposal) -> Proposed {
        Proposed {
            network: self.network.clone(),
            height: proposal.height.0,
            round: number(proposal.round),
            block: proposal.block.0,
            valid_round: proposal.valid_round.as_u32(),
            validator: proposal.validator.0,
        }
    }

    pub(crate) fn signed_vote(&self, vote: &core::SignedVote<Self>) -> SignedVote {
        SignedVote { vote: self.vote(&vote.message), signature: vote.signature.0 }
    }

    pub(crate) fn signed_proposed(&self, proposal: &core::SignedProposal<Self>) -> SignedProposed {
        let proposed = self.proposed(&proposal.message);
        SignedProposed { proposed, signature: proposal.signature.0 }
    }
}

pub(crate) const fn kind(kind: VoteType) -> VoteKind {
    match kind {
        VoteType::Prevote => VoteKind::Prevote,
        VoteType::Precommit => VoteKind::Precommit,
    }
}

pub(crate) const fn vote_type(kind: VoteKind) -> VoteType {
    match kind {
        VoteKind::Prevote => VoteType::Prevote,
        VoteKind::Precommit => VoteType::Precommit,
    }
}

pub(crate) fn hash(block: NilOrVal<Hash>) -> Option<Hash> {
    match block {
        NilOrVal::Nil => None,
        NilOrVal::Val(hash) => Some(hash),
    }
}

pub(crate) fn nil_or(block: Option<Hash>) -> NilOrVal<Hash> {
    block.map_or(NilOrVal::Nil, NilOrVal::Val)
}

/// A vote of ours as the engine takes it.
pub(crate) fn engine_vote(signed: &SignedVote) -> core::SignedVote<Chain> {
    let SignedVote { vote, signature } = signed;
    let message = EngineVote {
        kind: vote_type(vote.kind),
        height: Height(vote.height),
        round: Round::new(vote.round),
        block: nil_or(vote.block),
        validator: Operator(vote.validator),
    };
    core::SignedVote::new(message, Seal(*signature))
}

/// A proposal of ours as the engine takes it.
pub(crate) fn engine_proposal(signed: &SignedProposed) -> core::SignedProposal<Chain> {
    let SignedProposed { proposed, signature } = signed;
    let message = EngineProposal {
        height: Height(proposed.height),
        round: Round::new(proposed.round),
        block: BlockId(proposed.block),
        valid_round: Round::from(proposed.valid_round),
        validator: Operator(proposed.validator),
    };
    core::SignedProposal::new(message, Seal(*signature))
}

/// Signatures of the engine's certificates, in the ledger's order.
pub(crate) fn in_order(signatures: impl Iterator<Item = (Operator, Seal)>) -> Vec<CommitSignature> {
    let mut all: Vec<CommitSignature> = signatures
        .map(|(validator, seal)| CommitSignature { validator: validator.0, signature: seal.0 })
        .collect();
    all.sort_by_key(|one| one.validator);
    all.dedup_by_key(|one| one.validator);
    all
}
