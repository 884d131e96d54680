use std::sync::Arc;

use arc_malachitebft_core_consensus as engine;
use arc_malachitebft_core_types as core;
use arknet_chain::{Block, Hash, SignedProposed, SignedVote};
use arknet_types::{Address, DecodeError};
use borsh::{BorshDeserialize, BorshSerialize};
use core::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};

use crate::{
    Polka,
    context::{BlockId, Chain, Height, Operator, engine_proposal, engine_vote, number},
    convert,
    limits::MESSAGE_BYTES_MAX,
    message::{read_shared, write_shared},
};

/// What must survive a crash while a height is decided, so that who starts again says nothing else
/// than before.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Record {
    /// A block that may be voted for.
    Block(#[borsh(serialize_with = "write_shared", deserialize_with = "read_shared")] Arc<Block>),
    /// Whether a block is valid.
    Verdict(BlockVerdict),
    /// A vote, ours or another's.
    Vote(SignedVote),
    /// A proposal, ours or another's.
    Proposal(SignedProposed),
    /// The prevotes of a quorum.
    Polka(Polka),
    /// Time was up.
    Timeout {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
        /// For what.
        step: Step,
    },
}

/// What this node found of a block.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockVerdict {
    /// The height.
    pub height: u64,
    /// The round in which it was proposed.
    pub round: u32,
    /// The block.
    pub block: Hash,
    /// The earlier round in which it had the prevotes of a quorum.
    pub valid_round: Option<u32>,
    /// Who proposed it.
    pub proposer: Address,
    /// Whether it may be voted for.
    pub is_valid: bool,
}

/// What a validator waits for in a round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The proposal.
    Propose,
    /// Prevotes.
    Prevote,
    /// Precommits.
    Precommit,
}

impl Record {
    /// Reads one that this node wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: MESSAGE_BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }

    /// The height that it is about.
    #[must_use]
    pub fn height(&self) -> u64 {
        match self {
            Self::Block(block) => block.header.height,
            Self::Verdict(verdict) => verdict.height,
            Self::Vote(signed) => signed.vote.height,
            Self::Proposal(signed) => signed.proposed.height,
            Self::Polka(polka) => polka.height,
            Self::Timeout { height, .. } => *height,
        }
    }

    /// What the engine wants to remember; none of what it need not.
    pub(crate) fn of_input(
        chain: &Chain,
        height: Height,
        input: &engine::Input<Chain>,
    ) -> Option<Self> {
        Some(match input {
            engine::Input::Vote(vote) => Self::Vote(chain.signed_vote(vote)),
            engine::Input::Proposal(proposal) => Self::Proposal(chain.signed_proposed(proposal)),
            engine::Input::PolkaCertificate(polka) => Self::Polka(convert::polka(polka)),
            engine::Input::ProposedValue(value, _) => Self::Verdict(BlockVerdict {
                height: value.height.0,
                round: number(value.round),
                block: value.value.0,
                valid_round: value.valid_round.as_u32(),
                proposer: value.proposer.0,
                is_valid: value.validity.is_valid(),
            }),
            engine::Input::TimeoutElapsed(timeout) => {
                let step = match timeout.kind {
                    TimeoutKind::Propose => Step::Propose,
                    TimeoutKind::Prevote => Step::Prevote,
                    TimeoutKind::Precommit => Step::Precommit,
                    TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
                };
                Self::Timeout { height: height.0, round: number(timeout.round), step }
            }
            _ => return None,
        })
    }

    /// The same as the engine takes it; none for a block, which it does not know.
    pub(crate) fn input(&self) -> Option<engine::Input<Chain>> {
        Some(match self {
            Self::Block(_) => return None,
            Self::Vote(vote) => engine::Input::Vote(engine_vote(vote)),
            Self::Proposal(proposal) => engine::Input::Proposal(engine_proposal(proposal)),
            Self::Polka(polka) => engine::Input::PolkaCertificate(convert::engine_polka(polka)),
            Self::Verdict(verdict) => verdict.input(),
            Self::Timeout { round, step, .. } => {
                let round = Round::new(*round);
                engine::Input::TimeoutElapsed(match step {
                    Step::Propose => Timeout::propose(round),
                    Step::Prevote => Timeout::prevote(round),
                    Step::Precommit => Timeout::precommit(round),
                })
            }
        })
    }
}

impl BlockVerdict {
    pub(crate) fn input(&self) -> engine::Input<Chain> {
        let value = engine::ProposedValue {
            height: Height(self.height),
            round: Round::new(self.round),
            valid_round: Round::from(self.valid_round),
            proposer: Operator(self.proposer),
            value: BlockId(self.block),
            validity: Validity::from_bool(self.is_valid),
        };
        engine::Input::ProposedValue(value, ValueOrigin::Consensus)
    }
}
