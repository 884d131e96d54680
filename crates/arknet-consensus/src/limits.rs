//! Every limit on what other nodes can make this one hold, send or do, in one place. What the ledger
//! itself bounds is in `arknet_chain::limits`.

use arknet_chain::limits::BLOCK_BYTES_MAX;

/// Bytes of an encoded message, and of a record.
pub const MESSAGE_BYTES_MAX: usize = BLOCK_BYTES_MAX + 256 * 1024;
/// Transactions in one message.
pub const TRANSACTIONS_PER_MESSAGE_MAX: usize = 1_000;
/// Bytes of transactions in one message.
pub const TRANSACTIONS_BYTES_MAX: usize = 1024 * 1024;
/// Committed blocks in one message.
pub const DECIDED_PER_MESSAGE_MAX: usize = 64;
/// Peers that are remembered; others are not listened to.
pub const PEERS_MAX: usize = 512;
/// Messages of one peer that wait for the height they are for.
pub const EARLY_MESSAGES_PER_PEER_MAX: usize = 512;
/// Certificates among them: each may name every validator, and checking it takes milliseconds.
pub const EARLY_CERTIFICATES_PER_PEER_MAX: usize = 2;
/// Proposals among them, each signed by a validator; more of a peer are not even looked at.
pub const EARLY_PROPOSALS_PER_PEER_MAX: usize = 1;
/// Proposals of all peers that wait for their height.
pub const EARLY_PROPOSALS_MAX: usize = 8;
/// Rounds ahead of ours of which votes and proposals are taken.
pub const ROUNDS_AHEAD_MAX: u32 = arc_malachitebft_core_consensus::MAX_FUTURE_ROUND_LOOKAHEAD;
/// Blocks that are kept while a height is decided.
pub const BODIES_MAX: usize = 16;
/// Blocks of one height that are recorded unasked. Beyond them one is voted for, and recorded, once a
/// quorum has voted for it.
pub const RECORDED_BLOCKS_MAX: usize = 32;
/// Least time between two answers of one kind to a peer.
pub const ANSWER_MS_MIN: u64 = 50;
/// Time that a peer has to send blocks that it was asked for.
pub const FETCH_MS_MAX: u64 = 5_000;
/// Time before the first request for a missing block; it doubles with each further one.
pub const MISSING_MS_MIN: u64 = 200;
/// Most time between two of them: the block may be on its way, on a slow line.
pub const MISSING_MS_MAX: u64 = 5_000;
/// Time after which transactions that still wait are told again.
pub const TELL_AGAIN_MS: u64 = 5_000;
/// Transactions that are told again at one time.
pub const TELL_AGAIN_MAX: usize = TRANSACTIONS_PER_MESSAGE_MAX;
/// Peers that are told again, at one time, what others said.
pub const REPEAT_PEERS_MAX: usize = 8;
