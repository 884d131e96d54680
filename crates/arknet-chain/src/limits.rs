//! Every limit of the ledger that no vote can move, in one place. What a vote can move is a
//! parameter.

/// Forks on the longest way through the state tree.
pub const PROOF_SIBLINGS_MAX: usize = 256;
/// Forks on the longest way through the tree over a block's outcomes.
pub const OUTCOME_SIBLINGS_MAX: usize = 15;
/// Bytes of an encoded transaction.
pub const TRANSACTION_BYTES_MAX: usize = 32 * 1024;
/// Bytes of an encoded block.
pub const BLOCK_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Transactions in one block.
pub const TRANSACTIONS_PER_BLOCK_MAX: usize = 20_000;
/// Proofs of two-faced validators in one block.
pub const EVIDENCE_PER_BLOCK_MAX: usize = 16;
/// Validators at any height.
pub const VALIDATORS_MAX: usize = 200;
/// Nodes that have registered as validator, in the set or not.
pub const VALIDATOR_NODES_MAX: u32 = 1_000;
/// Nodes that one account has stake with.
pub const STAKES_PER_ACCOUNT_MAX: u32 = 64;
/// Things that fall due, done in one block; the next goes on.
pub const DUE_PER_BLOCK_MAX: usize = 256;
/// How far a block's time may lie ahead of a validator's clock when it votes.
pub const BLOCK_TIME_AHEAD_MS_MAX: u64 = 5_000;
/// Time that one block may count as a validator's absence: a halt of the chain is nobody's.
pub const ABSENCE_PER_BLOCK_MS_MAX: u64 = 10_000;
/// Time after a session's end in which what it signed before may still be settled.
pub const VOUCHER_GRACE_MS: u64 = 3_600_000;
/// Bytes of a proposal's title.
pub const PROPOSAL_TITLE_BYTES_MAX: usize = 128;
/// Bytes of a proposal's text.
pub const PROPOSAL_TEXT_BYTES_MAX: usize = 16 * 1024;
/// Parameters that one proposal changes.
pub const PARAMS_PER_PROPOSAL_MAX: usize = 16;
/// Bytes of a version's name.
pub const VERSION_BYTES_MAX: usize = 32;
/// Changes of an account's stake that are remembered for votes.
pub const STAKE_CHANGES_MAX: usize = 32;
/// Places where a model can be had.
pub const MIRRORS_MAX: usize = 8;
/// Bytes of such a place.
pub const MIRROR_BYTES_MAX: usize = 256;
/// Bytes of a licence's name.
pub const LICENCE_BYTES_MAX: usize = 64;
/// Bytes of an enclave's quote.
pub const QUOTE_BYTES_MAX: usize = 12 * 1024;
/// Bytes of what a quote is checked with.
pub const COLLATERAL_BYTES_MAX: usize = 18 * 1024;
/// Receipts in one transaction.
pub const RECEIPTS_PER_TRANSACTION_MAX: usize = 16;
/// Age at which a receipt brings nothing any more.
pub const RECEIPT_AGE_MS_MAX: u64 = 24 * 3_600_000;
/// Free jobs of one wallet in an hour.
pub const FREE_JOBS_PER_HOUR_MAX: u32 = 10;
/// Free jobs of one wallet in a day.
pub const FREE_JOBS_PER_DAY_MAX: u32 = 100;
/// Transactions that wait for a block.
pub const MEMPOOL_TRANSACTIONS_MAX: usize = 20_000;
/// Bytes of transactions that wait.
pub const MEMPOOL_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Transactions of one account that wait.
pub const MEMPOOL_PER_ACCOUNT_MAX: usize = 64;
/// Transactions that wait and came from one peer.
pub const MEMPOOL_PER_PEER_MAX: usize = 2_000;
/// Time for which a transaction waits for its turn.
pub const MEMPOOL_AGE_MS_MAX: u64 = 3 * 3_600_000;
/// Time by which what waits ages at most between two looks at the clock, whatever that says.
pub const MEMPOOL_TICK_MS_MAX: u64 = 60_000;
/// What a transaction must offer to take the place of a waiting one, of what that offers.
pub const REPLACEMENT_PERCENT_MIN: u64 = 110;
/// Age of what a light client knows at which it takes nothing new: those who signed it answer for
/// it with their stake for longer.
pub const LIGHT_TRUST_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Bytes of a header with its certificate and two sets of validators.
pub const LIGHT_BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a part of a snapshot.
pub const SNAPSHOT_PART_BYTES_MAX: usize = 1024 * 1024;
/// Parts of a snapshot.
pub const SNAPSHOT_PARTS_MAX: usize = 65_536;
/// Shares of a pool: money times shares fits a number. A pool that lost nearly all takes none in.
pub const SHARES_MAX: u128 = 100_000_000_000_000_000_000;
/// Part of a pool, in millionths, that one slash takes at most.
pub const SLASH_PPM_MAX: u64 = 990_000;
/// Blocks missed in a row after which a validator is not asked to propose.
pub const ABSENT_BLOCKS: u32 = 3;
/// Atoms that can ever be made: 10^9 ARK.
pub const MINTED_ATOMS_MAX: u64 = 1_000_000_000 * arknet_types::Atoms::PER_ARK;
/// Weight that the genesis may give to one validator for the bootstrap period.
pub const GENESIS_WEIGHT_MAX: u64 = 1_000_000;
/// Bytes of a genesis document.
pub const GENESIS_BYTES_MAX: usize = 1024 * 1024;
/// Signatures that are checked as one sum: more save little, and one bad one among them has all
/// checked alone.
pub const SIGNATURES_PER_SUM_MAX: usize = 1_024;
