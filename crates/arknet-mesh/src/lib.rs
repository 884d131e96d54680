//! The libp2p mesh of arknet: connections, offers by gossip, request streams.
//!
//! [`start`] runs a swarm in one task and gives a [`Mesh`], a handle that is cheap to clone, and an
//! [`Inbound`], the streams on which others bring requests.
//!
//! - [`Mesh::open`] gives a stream to a peer: one that was negotiated ahead where there is one, so a
//!   request costs one round trip. Each stream carries one request.
//! - [`Mesh::publish_offer`] tells everybody what this node serves; [`Mesh::offers`] is what others
//!   said. Offers travel by gossip, checked before they are passed on, and by an exchange with
//!   whoever is dialled, so that a newcomer need not wait for heartbeats.
//! - [`Mesh::chain`] carries what nodes of the chain say to one another: a stream in each direction
//!   between those that follow it, and gossip for transactions and free jobs.
//! - Connections to seeds and to peers with offers are kept and dialled again when lost.
//!
//! Nothing here knows what a request means. Everything that a peer can make this node hold is
//! bounded by [`MeshLimits`].

mod addresses;
mod behaviour;
mod chain;
mod dialer;
mod events;
mod exchange;
mod flood;
mod gossip;
mod limits;
mod mesh;
mod offers;
mod options;
mod relays;
mod status;
mod streams;
mod swarm_loop;
mod transport;
mod yamux_upgrade;

pub use libp2p::{Multiaddr, PeerId};

pub use chain::{Chain, ChainEvent, Hold, Judgement};
pub use gossip::Topic;
pub use limits::{MeshLimits, RelayLimits};
pub use mesh::{Inbound, Kept, Mesh, MeshError, OpenError, ProbeError, StreamStats, start};
pub use offers::{OfferFor, Offers};
pub use options::{ChainOptions, MeshOptions, RelayReserve};
pub use status::PeerStatus;
pub use streams::{FrameError, RequestStream};
