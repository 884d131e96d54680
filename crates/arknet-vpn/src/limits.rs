//! What a configuration or an invitation may hold.

use std::time::Duration;

/// Bytes of a configuration.
pub const CONFIGURATION_BYTES_MAX: usize = 256 * 1024;
/// Bytes of one line of it: the longest list that is written.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Peers in one configuration.
pub const PEERS_MAX: usize = 1024;
/// Networks in one list of a configuration.
pub const NETWORKS_MAX: usize = 256;
/// Bytes of a peer's name, and of the name of a host.
pub const NAME_BYTES_MAX: usize = 253;
/// Bytes of the name of an interface, as Linux has it.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Bytes of what an interface tells about itself.
pub const STATE_BYTES_MAX: u64 = 1024 * 1024;
/// How long an interface may take to answer.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
