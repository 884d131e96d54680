//! WireGuard tunnels between machines that trust each other, so that nodes which share no network
//! find each other as if they did.
//!
//! Configurations are those of `wg-quick`, and so are invitations: whoever gets one needs no arknet
//! to use it. A tunnel is made by the kernel where it can, else in user space by `boringtun`. What
//! a tunnel protects is who can reach a node; whom the node serves is decided by its approvals.

mod configuration;
mod device;
mod key;
pub mod limits;
mod network;
mod status;
mod tunnel;

pub use configuration::{Configuration, ConfigurationError, PeerSection};
pub use device::{DeviceError, UserSpace, down, kernel_up};
pub use key::{KeyError, PrivateKey, PublicKey, SharedKey};
pub use network::{Network, NetworkError};
pub use status::{PeerState, TunnelState, state};
pub use tunnel::{Invitation, Tunnel, TunnelError};
