//! Every bound of the shell of the ledger, in one place.

/// Bytes of memory for pages of the store, where nothing else is said.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Old blocks that one commit takes out of the store: turning pruning on must not halt the chain.
pub const PRUNED_PER_COMMIT_MAX: u64 = 4;
/// Values that an import writes in one transaction.
pub const IMPORT_BATCH_MAX: usize = 50_000;
/// Leaves of the tree that an import sorts in memory at once.
pub const IMPORT_LEAVES_MAX: u64 = 2_000_000;
