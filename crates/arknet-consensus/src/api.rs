//! What a [`Replica`](crate::Replica) is given, and what it wants done.

use std::{fmt, sync::Arc};

use arknet_chain::{
    Block, BlockError, Claim, CommitCertificate, Executed, Hash, QuoteVerifier, Rejected,
    SignedTransaction,
};
use arknet_types::{Address, KeyPair, PublicKey};

use crate::{Message, Record};

/// Another node, by the key with which it connected.
pub type Peer = PublicKey;

/// How a node takes part.
#[derive(Clone)]
pub struct Options {
    /// The operator that this node votes for, and the consensus key; none follows without voting.
    pub key: Option<(Address, KeyPair)>,
    /// How long it waits for what.
    pub timing: Timing,
    /// Checks many signatures and does something else meanwhile:
    /// [`arknet_chain::which_hold_after`], or the same on several processors.
    pub which_hold: fn(&[Claim], &mut dyn FnMut()) -> Vec<bool>,
    /// Checks the quotes of enclaves.
    pub quotes: Arc<dyn QuoteVerifier + Send + Sync>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("key", &self.key).field("timing", &self.timing).finish()
    }
}

/// How long a node waits, in milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// For a proposal, once it may be there.
    pub propose_ms: u64,
    /// For more prevotes when there is no quorum for one thing.
    pub prevote_ms: u64,
    /// For more precommits then.
    pub precommit_ms: u64,
    /// What each further round adds to the three.
    pub delta_ms: u64,
    /// Before what was said is said again.
    pub rebroadcast_ms: u64,
    /// Any of these at most, in later rounds.
    pub timeout_ms_max: u64,
    /// Between two blocks when there is nothing to put in. All validators should have the same.
    pub block_interval_ms: u64,
    /// For the last precommits of a block, so that the next one counts all who were there.
    pub gather_ms: u64,
    /// For a block that others have, before it is fetched from them.
    pub catch_up_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propose_ms: 2_000,
            prevote_ms: 500,
            precommit_ms: 500,
            delta_ms: 500,
            rebroadcast_ms: 1_000,
            timeout_ms_max: 20_000,
            block_interval_ms: 1_000,
            gather_ms: 100,
            catch_up_ms: 500,
        }
    }
}

/// Where a node stands: its last committed block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tip {
    /// Its height; 0 when there is none yet.
    pub height: u64,
    /// Its name; the genesis document's hash when there is none yet.
    pub id: Hash,
    /// The proof of it; none when there is none yet.
    pub certificate: Option<CommitCertificate>,
}

/// Who gave a transaction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// Somebody at this node, who waits for the answer with this number.
    Local(u64),
    /// Another node.
    Peer(Peer),
    /// Another node, in a message that is spread by more than these two, and wants a
    /// [`Verdict`] by its number.
    Spread(Peer, u64),
}

/// What becomes of a message that is spread by more than this node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// Nobody is to blame, and nobody needs it.
    Ignore,
    /// New and true: passed on.
    Accept,
    /// No honest peer sends that.
    Reject,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A peer can be spoken to.
    Joined(Peer),
    /// It cannot any more.
    Gone(Peer),
    /// A peer said something.
    Message {
        /// Who.
        from: Peer,
        /// What.
        message: Message,
    },
    /// Transactions to wait for a block.
    Transactions(Vec<(Source, SignedTransaction)>),
}

/// What a node wants done, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// To be on disk before any later [`Broadcast`](Self::Broadcast) is sent. Records of a height
    /// may go once its block is committed.
    Record(Record),
    /// To be sent to all peers, once everything recorded before it is on disk.
    Broadcast(Message),
    /// To be sent to all peers, at any time.
    Gossip(Message),
    /// To be sent to one peer.
    Send(Peer, Message),
    /// What a peer said is new and true: to be passed on to others who may not have heard it.
    Forward {
        /// Who said it.
        from: Peer,
        /// What.
        message: Message,
    },
    /// A peer wants the committed blocks from a height on: as many as fit into a
    /// [`Message::Decided`].
    Serve {
        /// Who.
        peer: Peer,
        /// The first height.
        from: u64,
    },
    /// The next block of the chain: to be written, with all its changes, in one step, before this
    /// node is called again. If that fails the process must end.
    Commit(Box<Commit>),
    /// What became of a transaction that somebody here submitted. Whoever tells them "yes" must
    /// have it on disk, and submit it again after a crash.
    Answer {
        /// The number it was given with.
        ticket: u64,
        /// Its name, or why it does not wait.
        result: Result<Hash, Refused>,
    },
    /// Whether a message that is spread by more than this node is to be passed on.
    Judge {
        /// Its number.
        tag: u64,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// A peer did what no honest one does.
    Misbehaved {
        /// Who.
        peer: Peer,
        /// What.
        misdeed: Misdeed,
    },
}

impl Output {
    /// The peer that did what no honest one does, where that is what this says.
    pub(crate) const fn liar(&self) -> Option<Peer> {
        match self {
            Self::Misbehaved { peer, .. } => Some(*peer),
            _ => None,
        }
    }
}

/// A committed block.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The block.
    pub block: Arc<Block>,
    /// The proof that it is committed.
    pub certificate: CommitCertificate,
    /// What it changes.
    pub executed: Executed,
}

/// Why a transaction does not wait here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It could not be in a block, or there is no room.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It is not signed by the account that pays.
    #[error("the signature does not match")]
    Signature,
}

/// What no honest peer does.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Misdeed {
    /// A block that does not hold what its header names, or is not what was signed.
    #[error("a block that is not the one it says it is")]
    Block,
    /// A certificate that proves nothing.
    #[error("a certificate that proves nothing")]
    Certificate,
    /// Evidence that proves nothing.
    #[error("evidence that proves nothing")]
    Evidence,
    /// A proposal with an invalid block.
    #[error("an invalid block: {0}")]
    Invalid(#[from] BlockError),
    /// Something of another chain.
    #[error("a message of another network")]
    Network,
    /// A proposal of somebody whose turn it is not.
    #[error("a proposal of somebody whose turn it is not")]
    Proposer,
    /// Something that is not signed by who it says.
    #[error("a signature that does not match")]
    Signature,
    /// A snapshot, or a part of one, that is not the chain's.
    #[error("a snapshot that is not the chain's")]
    Snapshot,
    /// A transaction that can never be in a block.
    #[error("a transaction that can never be in a block: {0}")]
    Transaction(Rejected),
}
