//! Streams of our own protocols, negotiated ahead.
//!
//! `libp2p-stream` keeps one place for arriving streams and drops the rest of a burst, never forgets
//! closed connections, and opens one stream at a time. This is our own behaviour in its place:
//!
//! - each connection has a [`Lane`], shared between its handler and [`Lanes`]; taking a stream that
//!   was negotiated ahead is one lock, without a hop over any task;
//! - arriving streams are counted per peer and over all ([`permits`]); beyond the limit they are
//!   reset and everybody else goes on;
//! - a stream within the limits is handed on at once, before its first byte, so that the task that
//!   waits for the request is woken by the connection itself. What an idle stream costs is bounded
//!   by the same limits, and so is the queue it waits in: it has a place for every permit.

mod behaviour;
mod handler;
mod lane;
mod permits;
mod pool;
mod request_stream;

use libp2p::StreamProtocol;

pub(crate) use behaviour::{Accepted, StreamEnds, StreamsBehaviour};
pub(crate) use handler::Purpose;
pub(crate) use lane::{Lane, LaneError};
pub(crate) use permits::Permits;
pub(crate) use pool::{Lanes, Taken};
pub use request_stream::{FrameError, RequestStream};

/// Requests for inference: one stream for each.
pub(crate) const INFER: StreamProtocol = StreamProtocol::new("/arknet/infer/1");
/// The exchange of all offers known.
pub(crate) const EXCHANGE: StreamProtocol = StreamProtocol::new("/arknet/offers/1");
/// What nodes of the chain say to one another: one stream in each direction.
pub(crate) const CHAIN: StreamProtocol = StreamProtocol::new("/arknet/chain/1");
