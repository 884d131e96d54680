use std::{io, sync::Arc};

use arknet_chain::{
    Block, CommitCertificate, CommitSignature, Evidence, Hash, LightBlock, Manifest,
    SignedProposed, SignedTransaction, SignedVote, VoteKind,
    limits::{TRANSACTION_BYTES_MAX, VALIDATORS_MAX},
};
use arknet_types::{Address, DecodeError, NetworkId, Signature, decode_list};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::limits::{
    DECIDED_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX, TRANSACTIONS_BYTES_MAX,
    TRANSACTIONS_PER_MESSAGE_MAX,
};

/// What nodes of the chain say to one another.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// A proposal with all of its block.
    Proposal(Proposal),
    /// A vote.
    Vote(SignedVote),
    /// The prevotes of a quorum for one block.
    Polka(Polka),
    /// Why to enter a round.
    Round(RoundCertificate),
    /// Transactions that wait for a block.
    Transactions(
        #[borsh(deserialize_with = "decode_list::<_, _, TRANSACTIONS_PER_MESSAGE_MAX>")]
        Vec<SignedTransaction>,
    ),
    /// Proof against a validator.
    Evidence(Evidence),
    /// How far the sender is.
    Status(Status),
    /// Asks for the committed blocks from a height on.
    Want {
        /// The first.
        from: u64,
    },
    /// Committed blocks, one after the other.
    Decided(
        #[borsh(deserialize_with = "decode_list::<_, _, DECIDED_PER_MESSAGE_MAX>")] Vec<Decided>,
    ),
    /// Asks for a proposal that a quorum voted for, while its height is not decided.
    WantProposal {
        /// The height.
        height: u64,
        /// The round.
        round: u32,
        /// The block.
        block: Hash,
    },
    /// Asks which snapshot of the state the other can give.
    WantSnapshot,
    /// The snapshot that the sender can give, if it has one.
    Snapshot(Option<Box<Manifest>>),
    /// Asks for a part of a snapshot.
    WantPart {
        /// The block whose state it is.
        block: Hash,
        /// Which part.
        index: u32,
    },
    /// A part of a snapshot.
    Part(SnapshotPart),
    /// Asks for a header with all that shows it is the chain's.
    WantLight {
        /// Its height.
        height: u64,
    },
    /// A header with all that shows it is the chain's; none where it is kept no more.
    Light(Option<Box<LightBlock>>),
}

impl Message {
    /// Reads one that a stranger sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge { max: MESSAGE_BYTES_MAX, found: bytes.len() });
        }
        arknet_types::decode(bytes)
    }

    /// Whether it is for who keeps the state, and not for the [`Replica`](crate::Replica).
    #[must_use]
    pub const fn is_about_snapshots(&self) -> bool {
        matches!(
            self,
            Self::WantSnapshot
                | Self::Snapshot(_)
                | Self::WantPart { .. }
                | Self::Part(_)
                | Self::WantLight { .. }
                | Self::Light(_)
        )
    }

    /// Transactions in as many messages as they need.
    pub(crate) fn of_transactions(transactions: Vec<SignedTransaction>) -> Vec<Self> {
        // As if each had the most bytes it may have: it need not be encoded to be counted.
        const COUNT: usize = TRANSACTIONS_PER_MESSAGE_MAX;
        let mut messages = Vec::new();
        let (mut part, mut bytes) = (Vec::new(), 0_usize);
        for transaction in transactions {
            let size = arknet_types::encode(&transaction).len().min(TRANSACTION_BYTES_MAX);
            if part.len() == COUNT || bytes.saturating_add(size) > TRANSACTIONS_BYTES_MAX {
                messages.push(Self::Transactions(std::mem::take(&mut part)));
                bytes = 0;
            }
            bytes = bytes.saturating_add(size);
            part.push(transaction);
        }
        if !part.is_empty() {
            messages.push(Self::Transactions(part));
        }
        messages
    }
}

/// A proposal and its block.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// What the proposer signed.
    pub proposed: SignedProposed,
    /// The block that it names.
    #[borsh(serialize_with = "write_shared", deserialize_with = "read_shared")]
    pub block: Arc<Block>,
}

/// A part of a snapshot.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct SnapshotPart {
    /// The block whose state it is.
    pub block: Hash,
    /// Which part.
    pub index: u32,
    /// Its bytes; none where the sender does not have it any more.
    pub bytes: Vec<u8>,
}

/// The prevotes of a quorum for one block.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Polka {
    /// The height.
    pub height: u64,
    /// The round.
    pub round: u32,
    /// The block.
    pub block: Hash,
    /// Who prevoted, in order.
    #[borsh(deserialize_with = "decode_list::<_, _, VALIDATORS_MAX>")]
    pub signatures: Vec<CommitSignature>,
}

/// Votes that justify entering a round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct RoundCertificate {
    /// The height.
    pub height: u64,
    /// The round of the votes.
    pub round: u32,
    /// What the votes are.
    pub kind: RoundCertificateKind,
    /// The votes.
    #[borsh(deserialize_with = "decode_list::<_, _, VALIDATORS_MAX>")]
    pub votes: Vec<RoundVote>,
}

/// Which votes justify entering a round.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoundCertificateKind {
    /// Votes of more than a third, of the round to be entered.
    Skip,
    /// Precommits of more than two thirds, of the round before.
    Precommits,
}

/// A vote in a [`RoundCertificate`].
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoundVote {
    /// The step.
    pub kind: VoteKind,
    /// The block.
    pub block: Option<Hash>,
    /// The voter.
    pub validator: Address,
    /// The vote's signature.
    pub signature: Signature,
}

/// How far a node is.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// Its chain.
    pub network: NetworkId,
    /// The height of its last committed block.
    pub height: u64,
}

/// A committed block and the proof of it.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Decided {
    /// The block.
    #[borsh(serialize_with = "write_shared", deserialize_with = "read_shared")]
    pub block: Arc<Block>,
    /// The precommits of a quorum.
    pub certificate: CommitCertificate,
}

pub(crate) fn write_shared<W: io::Write>(block: &Arc<Block>, writer: &mut W) -> io::Result<()> {
    block.as_ref().serialize(writer)
}

pub(crate) fn read_shared<R: io::Read>(reader: &mut R) -> io::Result<Arc<Block>> {
    Block::deserialize_reader(reader).map(Arc::new)
}
