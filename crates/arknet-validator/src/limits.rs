//! Every bound of the shell of the ledger, in one place.

use std::time::Duration;

use arknet_chain::limits::{BLOCK_BYTES_MAX, TRANSACTION_BYTES_MAX};
use arknet_consensus::limits::{MESSAGE_BYTES_MAX, PEERS_MAX};

/// Bytes of memory for pages of the store, where nothing else is said.
pub const CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Time after which heights that are safe in the log alone go to the store's file, where nothing else
/// is said.
pub const CHECKPOINT_MS: u64 = 5_000;
/// Heights after which they go there in any case.
pub const CHECKPOINT_HEIGHTS_MAX: u64 = 1_000;
/// Old blocks that one commit takes out of the store: turning pruning on must not halt the chain.
pub const PRUNED_PER_COMMIT_MAX: u64 = 4;
/// Heights between two snapshots, where nothing else is said.
pub const SNAPSHOT_INTERVAL: u64 = 10_000;
/// Snapshots that are kept for others, the last ones.
pub const SNAPSHOTS_MAX: usize = 2;
/// Older ones that stay while others fetch them.
pub const SNAPSHOTS_LEASED_MAX: usize = 2;
/// Time for which an older one stays after a part of it was asked for.
pub const SNAPSHOT_LEASE_MS: u64 = 120_000;
/// Time for which it stays in all.
pub const SNAPSHOT_LEASES_MS_MAX: u64 = 6 * 3_600_000;
/// Heights by which others must be ahead for a snapshot to be looked for; fewer blocks are fetched.
pub const SNAPSHOT_BEHIND_MIN: u64 = 5_000;
/// Time between two questions for snapshots.
pub const SNAPSHOT_ASK_MS: u64 = 5_000;
/// Time in which peers' offers are gathered.
pub const SNAPSHOT_GATHER_MS: u64 = 500;
/// Different snapshots among the offers.
pub const SNAPSHOT_OFFERS_MAX: usize = 4;
/// Time in which a peer gives what it was asked for.
pub const SNAPSHOT_ANSWER_MS_MAX: u64 = 10_000;
/// Parts that one peer is asked for at a time.
pub const SNAPSHOT_ASKED_PER_PEER_MAX: usize = 2;
/// Values that an import writes in one transaction.
pub const IMPORT_BATCH_MAX: usize = 50_000;
/// Leaves of the tree that an import sorts in memory at once.
pub const IMPORT_LEAVES_MAX: u64 = 2_000_000;
/// Questions to the driver that wait for it.
pub const ASKED_MAX: usize = 4_096;
/// Connections to the RPC at the same time.
pub const CONNECTIONS_MAX: usize = 512;
/// Of these, streams of events.
pub const STREAMS_MAX: usize = 128;
/// Requests of the RPC that read the store at once.
pub const READERS_MAX: usize = 8;
/// How long the head of a request may take to arrive.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of the head of a request.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long a request may take, from its head to the head of its answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection lives: whoever reads slowly or keeps it open comes again.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// How long running requests may go on at a stop.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of the body of a request: a transaction in hex, and the JSON around it.
pub const BODY_BYTES_MAX: usize = 2 * TRANSACTION_BYTES_MAX + 1024;
/// Bytes of a state key that is asked for.
pub const KEY_BYTES_MAX: usize = 128;
/// Entries of one page of a list.
pub const PAGE_MAX: usize = 100;
/// Withdrawals of an account that are shown: the first ones to be free.
pub const UNBONDINGS_SHOWN_MAX: usize = 256;
/// Blocks back from the last one from which a stream of events goes on; who missed more begins anew.
pub const EVENTS_BACK_MAX: u64 = 10_000;
/// Time between two signs of life on a stream without blocks.
pub const STREAM_IDLE_TIME: Duration = Duration::from_secs(15);
/// Addresses whose requests are counted.
pub const COUNTED_MAX: usize = 4_096;
/// Requests of one address in a second, where nothing else is said.
pub const REQUESTS_PER_S: u32 = 2_000;
/// Requests of all addresses in a second, where nothing else is said.
pub const REQUESTS_PER_S_IN_ALL: u32 = 10_000;
/// Bytes of a record of the log.
pub const WAL_RECORD_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 1;
/// Bytes of the log above which the store is brought to disk and the log written anew, after a block.
pub const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Things that happened, or that somebody asks, taken in one go.
pub const STEP_MAX: usize = 1_024;
/// Transactions that are checked together, and do not wait for more.
pub const GATHERED_MAX: usize = 256;
/// Time between two times that transactions are taken, where many come.
pub const GATHER_MS: u64 = 20;
/// Time in which transactions are counted to know whether many come.
pub const GATHER_WINDOW_MS: u64 = 100;
/// Transactions in that time that are many.
pub const GATHER_FROM_PER_WINDOW: usize = 100;
/// Requests of one peer for old blocks and snapshots that wait to be read; it asks again.
pub const SERVED_PER_PEER_MAX: usize = 4;
/// Peers of which it is known what they want, and what they were given.
pub const SERVED_PEERS_MAX: usize = PEERS_MAX;
/// Bytes that one peer is given in a second, of old blocks and snapshots.
pub const SERVED_BYTES_PER_S: u64 = 16 * 1024 * 1024;
/// Bytes that all are given in a second.
pub const SERVED_BYTES_PER_S_IN_ALL: u64 = 64 * 1024 * 1024;
/// Bytes that one peer is given before their time: the snapshot of a million accounts.
pub const SERVED_AHEAD_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes that all are given before their time.
pub const SERVED_AHEAD_BYTES_IN_ALL: u64 = 256 * 1024 * 1024;
/// Bytes that an answer counts for, where it has fewer: finding it takes time too.
pub const SERVED_ANSWER_BYTES_MIN: u64 = 64 * 1024;
/// Bytes of blocks in one answer to such a request; one block may have more.
pub const SERVED_BYTES_MAX: usize = BLOCK_BYTES_MAX / 2;
/// Signatures that are worth a thread of their own.
pub const SIGNATURES_PER_THREAD_MIN: usize = 64;
/// Keys whose points are remembered: about 250 bytes each.
pub const KEYS_KNOWN_MAX: usize = 16_384;
