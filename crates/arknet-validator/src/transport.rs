//! How nodes of the chain reach one another. Who carries their messages implements [`Transport`] and
//! tells what happens as [`Event`]s.

use arknet_consensus::{Message, Misdeed, Peer, Verdict};

/// Carries what a node says. No method waits: what does not fit into a queue to a peer is lost, as
/// on any network; consensus says again what matters.
pub trait Transport: Send + Sync + 'static {
    /// To all peers that follow the chain.
    fn broadcast(&self, message: Message);
    /// To one of them.
    fn send(&self, peer: &Peer, message: Message);
    /// What a peer said that came without a tag, to those who may not have heard it.
    fn forward(&self, from: &Peer, message: Message);
    /// Whether what came with a tag is to be passed on.
    fn judge(&self, tag: u64, verdict: Verdict);
    /// A peer did what no honest one does.
    fn misbehaved(&self, peer: &Peer, misdeed: &Misdeed);
}

/// What happens on the way to other nodes.
#[derive(Clone, Debug)]
pub enum Event {
    /// A peer that follows the chain can be spoken to.
    Joined(Peer),
    /// It cannot any more.
    Gone(Peer),
    /// A peer said something.
    Message {
        /// Who.
        from: Peer,
        /// What.
        message: Box<Message>,
        /// By which the transport wants to know whether to pass it on; each is judged once.
        tag: Option<u64>,
    },
}
