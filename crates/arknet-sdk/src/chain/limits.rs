//! Every bound of how the ledger is asked, in one place.

use std::time::Duration;

/// Bytes of an answer that is no block.
pub const ANSWER_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Bytes of an answer with a block's transactions.
pub const BLOCK_ANSWER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long one answer may take, from the connection to its last byte.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);
/// Headers that are asked for to come from one that is known to a newer one.
pub const HEADERS_PER_WAY_MAX: u32 = 1_024;
/// Blocks back from the newest header that is known, in which a transaction is looked for.
pub const BLOCKS_BACK_MAX: u64 = 256;
/// How often a proof is asked for when the RPC is behind what is known.
pub const PROOF_TRIES_MAX: u32 = 5;
/// How often a transaction is sent whose answer did not come.
pub const SUBMIT_TRIES_MAX: u32 = 3;
/// Time between two looks at something that is on its way.
pub const LOOK_TIME: Duration = Duration::from_millis(200);
/// Bytes of the file with what a light client knows.
pub const TRUSTED_FILE_BYTES_MAX: u64 = 64 * 1024;
