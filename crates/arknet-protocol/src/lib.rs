//! Every decision a node takes, as state machines without I/O.
//!
//! Nothing here knows a clock, a socket or a source of entropy: time comes in as an argument, what
//! is to be done goes out as a value. So each of these can be simulated by the thousand seeds.
//!
//! - [`OfferTable`]: who serves what, as far as this node knows.
//! - [`Router`]: which offer a request goes to, and which one next when that fails.
//! - [`PeerBook`]: who was seen where, and whom to dial for that.
//! - [`Probes`]: which addresses to try in search of a node, and when.
//! - [`reputation`]: what the conduct of peers says of them.
//! - [`Grants`]: what approved peers may do.
//! - [`Admission`]: the one gate every remote request passes.
//! - [`Knocks`]: who was turned away there without being approved.
//! - [`AnswerCheck`]: whether what a peer sends is an answer to what was asked.
//! - [`SlotQueue`]: who runs now, who waits, who is told to come again.
//! - [`audit`]: what is written down of that, so that no change of it stays unseen.
//! - [`Horizon`]: what survives a restart, so that a replay does not.
//! - [`RegistryRounds`]: when to speak to a registry.
//! - [`KeyMeter`]: how much an API key may still do.
//! - [`Fetch`]: which part of a file comes from whom; [`Pace`]: how fast files go out.
//! - [`Backoff`]: when to try a failed connection again.

pub mod admission;
mod answer;
pub mod audit;
mod backoff;
mod fetch;
mod free_jobs;
pub mod grants;
mod horizon;
mod keys;
pub mod knocks;
pub mod limits;
mod meter;
pub mod offers;
mod pace;
pub mod peerbook;
mod probes;
mod registry;
pub mod reputation;
pub mod routing;
pub mod slots;

pub use admission::{
    Admission, Admitted, CheckedRequest, Offered, PeerUse, Policy, Price, Who, usage_bound,
};
pub use answer::AnswerCheck;
pub use backoff::Backoff;
pub use fetch::{Fetch, Lane, STRETCHES_MAX};
pub use grants::{Grant, GrantError, Grants, Permissions, SharedModels};
pub use horizon::Horizon;
pub use keys::{KeyLimits, KeyMeter, KeyRefusal};
pub use knocks::{Knock, Knocks};
pub use meter::DayUse;
pub use offers::{Inserted, OfferTable};
pub use pace::Pace;
pub use peerbook::{Known, Noticed, OfferDigest, PeerBook, Sighting, Source, Wanted};
pub use probes::Probes;
pub use registry::{ENTRY_LIFETIME_MS, RegistryRounds, RegistryWork};
pub use routing::{Choice, Router};
pub use slots::{Asker, Placement, Preempt, SlotQueue, Ticket};
