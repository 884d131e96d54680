//! Bounds of the peer book, of the search for peers, and of what is known of free jobs.

/// Peers that one source may have in the peer book, approved ones beyond them. No source can take
/// the room of another, so a flood by multicast leaves tunnels and connections alone.
pub const PEERS_PER_SOURCE_MAX: usize = 1024;
/// Addresses that one source may tell of one peer.
pub const ADDRESSES_PER_SIGHTING_MAX: usize = 8;
/// Addresses at which a peer proved its key that are remembered.
pub const ADDRESSES_PROVED_MAX: usize = 4;
/// Addresses of one peer that are dialled, over all sources.
pub const ADDRESSES_WANTED_MAX: usize = 16;
/// Unapproved peers that are dialled at once to prove their keys.
pub const PROOFS_AT_ONCE_MAX: usize = 8;
/// Dials to one unapproved peer at the addresses it has, before it must bring others.
pub const PROOF_TRIES_MAX: u32 = 5;
/// Milliseconds until an unapproved peer is dialled again, first and longest.
pub const PROOF_BACKOFF_MS: (u64, u64) = (5_000, 300_000);
/// Addresses in which nodes are searched for.
pub const PROBES_MAX: usize = 256;
/// Addresses that are tried at once.
pub const PROBES_AT_ONCE_MAX: usize = 16;
/// Milliseconds until an address without a node is tried again, first and longest.
pub const PROBE_BACKOFF_MS: (u64, u64) = (5_000, 300_000);
/// Milliseconds until an address with a node is tried again, to see that it is still there.
pub const PROBE_REFRESH_MS: u64 = 300_000;
/// Wallets whose free jobs of a day are counted.
pub const FREE_WALLETS_MAX: usize = 65_536;
/// As many of them others may fill: a wallet that asks here finds room whatever is told.
pub const FREE_WALLETS_HEARD_MAX: usize = FREE_WALLETS_MAX / 2;
/// Free jobs that one peer may tell of in a minute.
pub const FREE_USES_PER_PEER_AND_MINUTE_MAX: u32 = 3_000;
/// Free jobs that all peers may tell of in a minute: two signatures each.
pub const FREE_USES_PER_MINUTE_MAX: u32 = 12_000;
