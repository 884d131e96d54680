use std::time::Duration;

use arknet_types::limits::{OFFER_BYTES_MAX, STREAMS_PER_PEER_MAX};

/// Everything a mesh holds at once, bounded. The defaults fit a node on two cores.
#[derive(Clone, Debug)]
pub struct MeshLimits {
    /// Connections that stand, in both directions together.
    pub connections_max: u32,
    /// Of these, connections others opened. The rest stays for connections we need ourselves.
    pub connections_incoming_max: u32,
    /// Connections to one peer: one over TCP, one over QUIC, one over a relay, one being replaced.
    pub connections_per_peer_max: u32,
    /// Connections being set up, in each direction.
    pub connections_pending_max: u32,
    /// Request streams one peer may hold open here, idle ones included.
    pub streams_per_peer_max: usize,
    /// Request streams all peers together may hold open here.
    pub streams_total_max: usize,
    /// Streams negotiated ahead to one peer, at least, while it is in use.
    pub warm_streams_min: usize,
    /// Streams negotiated ahead to one peer, at most.
    pub warm_streams_max: usize,
    /// Peers with offers to which connections are kept ahead of need.
    pub warm_peers_max: usize,
    /// How long one call of `open` may take, dial included.
    pub open_timeout: Duration,
    /// A node that follows the chain looks for others while it is connected to fewer peers.
    pub chain_peers_wanted: usize,
    /// What a relay carries for others.
    pub relay: RelayLimits,
}

impl Default for MeshLimits {
    fn default() -> Self {
        Self {
            connections_max: 768,
            connections_incoming_max: 640,
            connections_per_peer_max: 4,
            connections_pending_max: 128,
            streams_per_peer_max: STREAMS_PER_PEER_MAX,
            streams_total_max: 16 * STREAMS_PER_PEER_MAX,
            warm_streams_min: 2,
            warm_streams_max: 128,
            warm_peers_max: 32,
            open_timeout: Duration::from_secs(10),
            chain_peers_wanted: 16,
            relay: RelayLimits::default(),
        }
    }
}

/// What a relay carries for others. A circuit lives as long as answers stream through it, so the
/// library's 128 KiB and two minutes would cut every real conversation.
#[derive(Clone, Debug)]
pub struct RelayLimits {
    /// Peers that can be reached through this relay.
    pub reservations_max: usize,
    /// Reservations of one peer.
    pub reservations_per_peer_max: usize,
    /// Circuits that stand at once.
    pub circuits_max: usize,
    /// Circuits of one peer.
    pub circuits_per_peer_max: usize,
    /// How long one circuit may stand.
    pub circuit_duration_max: Duration,
    /// Bytes one circuit may carry.
    pub circuit_bytes_max: u64,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            reservations_max: 256,
            reservations_per_peer_max: 4,
            circuits_max: 512,
            circuits_per_peer_max: 32,
            circuit_duration_max: Duration::from_secs(6 * 3600),
            circuit_bytes_max: 1 << 30,
        }
    }
}

/// Streams one connection carries: the request streams of a peer, and room for the protocols that
/// keep the mesh together.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 1024 + 256;
/// Bytes a peer may send on one stream before we read them. 256 KiB moves 2.5 MB/s at 100 ms round
/// trip, hundreds of times what tokens need, and is the least that Yamux allows.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// Bytes a peer may send on one QUIC connection before we read them: 256 streams may stand still
/// with full windows before they hold up the others.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 256 * STREAM_WINDOW_BYTES;
/// Streams being negotiated at once on one connection, in each direction.
pub(crate) const STREAMS_NEGOTIATING_MAX: usize = 256;
/// Of these, request streams we open ourselves.
pub(crate) const OPENING_MAX: usize = 64;
/// Calls of `open` that wait for a stream of one connection.
pub(crate) const WAITING_MAX: usize = 1024;
/// Calls of `open` that wait for a connection, over all peers.
pub(crate) const DIAL_WAITERS_MAX: usize = 4096;
/// Peers looked for at the same time.
pub(crate) const SOUGHT_MAX: usize = 8;
/// Commands on their way to the swarm's task.
pub(crate) const COMMANDS_MAX: usize = 256;
/// Offer exchanges we answer at once, over all peers.
pub(crate) const EXCHANGES_ANSWERED_MAX: usize = 64;
/// Offer exchanges we answer at once for one peer.
pub(crate) const EXCHANGES_ANSWERED_PER_PEER_MAX: usize = 4;
/// How often a node that follows the chain looks for others when it is connected to few.
pub(crate) const SEEK_INTERVAL: Duration = Duration::from_secs(10);
/// Streams of the chain that others hold open here.
pub(crate) const CHAIN_STREAMS_MAX: usize = 512;
/// Streams of the chain that one peer holds open here: one for short messages and one for long ones,
/// and those that replace them.
pub(crate) const CHAIN_STREAMS_PER_PEER_MAX: usize = 4;
/// What peers said of the chain and nobody has read yet.
pub(crate) const CHAIN_EVENTS_MAX: usize = 256;
/// Bytes of them.
pub(crate) const CHAIN_WAITING_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Bytes of a message that its stream may always have here. More is taken from what all share.
pub(crate) const CHAIN_SHORT_BYTES: usize = 64 * 1024;
/// Messages of one stream that nobody has dealt with yet.
pub(crate) const CHAIN_PLACES_PER_STREAM_MAX: usize = 16;
/// A stream on which nothing is said for so long makes place for others: who follows the chain says
/// how far it is every few seconds.
pub(crate) const CHAIN_SILENCE: Duration = Duration::from_secs(120);
/// How long nothing is read of a peer that did what no honest one does.
pub(crate) const CHAIN_BARRED: Duration = Duration::from_secs(60);
/// Such peers that are remembered.
pub(crate) const CHAIN_BARRED_MAX: usize = 4096;
/// A stream for long messages on which nothing is said for so long is closed: before it is taken for
/// a silent one.
pub(crate) const CHAIN_IDLE: Duration = Duration::from_secs(60);
/// Messages of the chain of up to [`CHAIN_SHORT_BYTES`] on their way to one peer.
pub(crate) const CHAIN_SHORT_MAX: usize = 1024;
/// Bytes of them.
pub(crate) const CHAIN_SHORT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longer ones.
pub(crate) const CHAIN_LONG_MAX: usize = 64;
/// Bytes of them.
pub(crate) const CHAIN_LONG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Gossiped messages of the chain that are not judged yet.
pub(crate) const CHAIN_UNJUDGED_MAX: usize = 4096;
/// How long negotiating a stream of the chain may take, or moving [`CHAIN_SHORT_BYTES`] on it.
pub(crate) const CHAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Offer exchanges we ask for at once.
pub(crate) const EXCHANGES_ASKED_MAX: usize = 8;
/// How long one offer exchange may take.
pub(crate) const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest gossip message about offers: one, and the envelope around it (source, sequence number,
/// topic, signature and key, together about 250 bytes).
pub(crate) const GOSSIP_BYTES_MAX: usize = OFFER_BYTES_MAX + ENVELOPE_BYTES;
/// What gossip puts around a message, at most.
pub(crate) const ENVELOPE_BYTES: usize = 1024;
/// A connection nobody uses closes after this time.
pub(crate) const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// QUIC probes the other side this often; a dead process is noticed after the idle time.
pub(crate) const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// QUIC gives a silent connection up after this time.
pub(crate) const QUIC_IDLE_MS_MAX: u32 = 6_000;
/// How often each connection is pinged, for its round trip time and to notice dead machines.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A connection that does not answer a ping in this time is closed.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Dials to addresses whose peer is not known.
pub(crate) const PROBES_MAX: usize = 32;
/// How long one of them may take: a round trip or two, also through a tunnel that has to be set up
/// first. Most of them lead nowhere.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// Peers to which connections are kept because somebody chose them.
pub(crate) const KEPT_MAX: usize = 1024;
/// How long a dial to one kind of address goes on before the next kind is tried beside it.
pub(crate) const DIAL_STAGE: Duration = Duration::from_millis(300);
/// Addresses of one peer that are dialled.
pub(crate) const ADDRESSES_DIALLED_MAX: usize = 16;
/// Relays on which a node that cannot be reached otherwise reserves.
pub(crate) const RELAYS_MAX: usize = 2;
/// The offer is published again at most this often when new peers subscribe.
pub(crate) const REPUBLISH_INTERVAL: Duration = Duration::from_secs(1);
/// How long a closing mesh waits for its last messages to leave.
pub(crate) const FLUSH_TIME: Duration = Duration::from_millis(150);
/// How long a closing mesh waits for its connections to close.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
