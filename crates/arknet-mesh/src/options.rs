use arknet_types::{KeyPair, NetworkId, NodeId};
use libp2p::Multiaddr;

use crate::limits::MeshLimits;

/// When to reserve a place on a relay, so that others can reach this node through it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RelayReserve {
    /// When the node serves and nobody can reach it otherwise: it does not listen, or others found
    /// it behind a NAT.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// How messages of the chain are carried. What they say is nothing to the mesh.
#[derive(Clone, Copy, Debug)]
pub struct ChainOptions {
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Bytes of one message of transactions, which are spread by gossip.
    pub transactions_bytes_max: usize,
    /// Bytes of what shows that a free job was served, which is spread by gossip too.
    pub free_use_bytes_max: usize,
}

/// What a mesh is started with.
#[derive(Clone, Debug)]
pub struct MeshOptions {
    /// The peer key.
    pub key: KeyPair,
    /// The network whose offers count.
    pub network: NetworkId,
    /// What this node calls itself towards those it is connected to.
    pub node_id: Option<NodeId>,
    /// Where to listen; nowhere for a pure client.
    pub listen: Vec<Multiaddr>,
    /// Addresses at which the operator says this node can be reached.
    pub external: Vec<Multiaddr>,
    /// The peers to connect to first. Each address ends in `/p2p/` and the peer id.
    pub seeds: Vec<Multiaddr>,
    /// Whether to relay for others.
    pub relay_server: bool,
    /// When to be relayed by others.
    pub relay_reserve: RelayReserve,
    /// Whether to accept request streams.
    pub serve: bool,
    /// Whether to carry messages of the chain; none where this node does not follow it.
    pub chain: Option<ChainOptions>,
    /// What the mesh holds at most.
    pub limits: MeshLimits,
}

impl MeshOptions {
    /// A pure client without seeds, with the default limits.
    #[must_use]
    pub fn new(key: KeyPair, network: NetworkId) -> Self {
        Self {
            key,
            network,
            node_id: None,
            listen: vec![],
            external: vec![],
            seeds: vec![],
            relay_server: false,
            relay_reserve: RelayReserve::Auto,
            serve: false,
            chain: None,
            limits: MeshLimits::default(),
        }
    }
}
