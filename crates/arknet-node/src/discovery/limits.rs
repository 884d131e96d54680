//! Bounds on what a network may make this node hold while it looks for others.

use std::time::Duration;

/// Announcements on the local network that are remembered, by name.
pub(crate) const INSTANCES_MAX: usize = 2048;
/// Addresses taken from one announcement.
pub(crate) const ADDRESSES_PER_INSTANCE_MAX: usize = 4;
/// Records in the cache of the multicast resolver; it is begun anew when there are more.
pub(crate) const CACHE_RECORDS_MAX: i64 = 8192;
/// How often that is looked at.
pub(crate) const CACHE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds between two looks at the interfaces of this machine.
pub(crate) const INTERFACE_CHECK_S: u32 = 1;
/// How often what is in the cache is told again to the peer book, which forgets otherwise.
pub(crate) const REPEAT_INTERVAL: Duration = Duration::from_secs(30);
/// The digest of the offer is announced anew this often at most.
pub(crate) const OFFER_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// How long a peer that lost its connection may take to say that it is still there.
pub(crate) const DOUBT_TIME: Duration = Duration::from_secs(4);
/// Peers whose announcements wait to be verified.
pub(crate) const DOUBTS_MAX: usize = 64;
/// How long the goodbye may take to leave.
pub(crate) const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// Milliseconds before a resolver that failed is begun anew, first and longest.
pub(crate) const RESTART_BACKOFF_MS: (u64, u64) = (1_000, 60_000);
/// Bytes read from one description of a tunnel.
pub(crate) const TUNNEL_BYTES_MAX: usize = 256 * 1024;
/// Descriptions of tunnels that are read.
pub(crate) const TUNNELS_MAX: usize = 64;
/// Addresses of one network in which nodes are looked for; in a larger one, none.
pub(crate) const NETWORK_HOSTS_MAX: u32 = 256;
/// How often the tunnels of this machine are looked at, beside when the network changes.
pub(crate) const TUNNEL_CHECK_INTERVAL: Duration = Duration::from_secs(60);
