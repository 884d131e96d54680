//! The protocols of the mesh.

use arknet_types::NodeId;
use libp2p::{
    PeerId, StreamProtocol, autonat,
    connection_limits::{self, ConnectionLimits},
    dcutr, gossipsub, identify,
    identity::Keypair,
    kad, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};

use crate::{
    gossip,
    limits::{MeshLimits, PING_INTERVAL, PING_TIMEOUT, RelayLimits},
    options::MeshOptions,
    streams::StreamsBehaviour,
};

/// The version of identify, which names the network of protocols we belong to.
const IDENTIFY: &str = "/arknet/id/1";
/// The Kademlia protocol.
pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/arknet/kad/1");

/// The protocols of the mesh. The limits come first, so that a connection beyond them is refused
/// before any other behaviour hears of it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) streams: StreamsBehaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    pub(crate) gossip: gossipsub::Behaviour,
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: dcutr::Behaviour,
    autonat: autonat::Behaviour,
}

impl Behaviour {
    pub(crate) fn new(
        options: &MeshOptions,
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
        streams: StreamsBehaviour,
    ) -> Result<Self, String> {
        let peer = keypair.public().to_peer_id();
        let identify = identify::Config::new(IDENTIFY.to_owned(), keypair.public())
            .with_agent_version(agent(options.node_id.as_ref()))
            .with_push_listen_addr_updates(true);
        let ping = ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT);
        let relay = || relay::Behaviour::new(peer, relay_config(&options.limits.relay));
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(&options.limits)),
            streams,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            gossip: gossip::behaviour(keypair, options.chain)?,
            kad: kademlia(peer, !options.listen.is_empty()),
            relay_client,
            relay_server: options.relay_server.then(relay).into(),
            dcutr: dcutr::Behaviour::new(peer),
            autonat: autonat::Behaviour::new(peer, autonat::Config::default()),
        })
    }
}

/// How a node is named in identify: `arknet/0.1.0 (ark-kitchen-x7f3qa)`.
fn agent(node_id: Option<&NodeId>) -> String {
    let program = concat!("arknet/", env!("CARGO_PKG_VERSION"));
    node_id.map_or_else(|| program.to_owned(), |node_id| format!("{program} ({node_id})"))
}

/// What a peer calls itself, from its name in identify.
pub(crate) fn node_id_of(agent: &str) -> Option<NodeId> {
    let (program, rest) = agent.split_once(" (")?;
    let name = rest.strip_suffix(')').filter(|_| program.starts_with("arknet/"))?;
    NodeId::new(name).ok()
}

fn connection_limits(limits: &MeshLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(limits.connections_max))
        .with_max_established_incoming(Some(limits.connections_incoming_max))
        .with_max_established_per_peer(Some(limits.connections_per_peer_max))
        .with_max_pending_incoming(Some(limits.connections_pending_max))
        .with_max_pending_outgoing(Some(limits.connections_pending_max))
}

fn kademlia(peer: PeerId, listens: bool) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(KAD);
    // The table of peers is what we use; what others ask us to store comes to us first, and we
    // store none of it.
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    let store = kad::store::MemoryStore::new(peer);
    let mut kad = kad::Behaviour::with_config(peer, store, config);
    kad.set_mode(Some(if listens { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}

fn relay_config(limits: &RelayLimits) -> relay::Config {
    relay::Config {
        max_reservations: limits.reservations_max,
        max_reservations_per_peer: limits.reservations_per_peer_max,
        max_circuits: limits.circuits_max,
        max_circuits_per_peer: limits.circuits_per_peer_max,
        max_circuit_duration: limits.circuit_duration_max,
        max_circuit_bytes: limits.circuit_bytes_max,
        ..relay::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_what_it_calls_itself() {
        let node_id = NodeId::new("ark-kitchen.1").unwrap();
        assert_eq!(node_id_of(&agent(Some(&node_id))), Some(node_id));
        assert_eq!(node_id_of(&agent(None)), None);
        for other in ["", "arknet/1 (a b)", "arknet/1 ()", "arknet/1 (a", "rust (a)", " (a)"] {
            assert_eq!(node_id_of(other), None, "{other:?}");
        }
    }
}
