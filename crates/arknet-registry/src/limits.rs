//! What a client of the registry may send, hold, repeat or wait for, and what the registry keeps.

use std::time::Duration;

/// Connections at the same time.
pub const CONNECTIONS_MAX: usize = 1024;
/// How long the TLS handshake of a connection may take.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the head of a request may take to arrive.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a request may take, from its head to its answer.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection lives: whoever reads slowly or keeps it open comes again.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(120);
/// How long running requests may go on at a stop.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Bytes of the head of a request.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Addresses, and keys, whose requests are counted.
pub const COUNTED_MAX: usize = 65_536;
/// Hops read from `X-Forwarded-For`.
pub const HOPS_MAX: usize = 16;
/// Bytes of a certificate or key file.
pub const PEM_BYTES_MAX: u64 = 1024 * 1024;
/// Keys that a registry remembers unless it is configured otherwise.
pub const KEYS_MAX: u64 = 1_000_000;
/// Requests that work on the database at once.
pub const DATABASE_WORKERS_MAX: usize = 8;
/// How long one piece of work on the database may take.
pub const DATABASE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time between two rounds that forget what has expired.
pub const SWEEP_PERIOD: Duration = Duration::from_secs(30);
/// How long a client waits for an answer, and with the next one when it reads several pages.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of an answer that is no page.
pub const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Pages that a client reads in one go.
pub const PAGES_MAX: usize = 1024;
