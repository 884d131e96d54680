//! The audit log: what other peers asked of this node, in lines that hold each other.
//!
//! Each line is an object in JSON. Its last member is `hash`: SHA-256 over all bytes of the line
//! before the comma that precedes it, in lower-case hex. The member `previous` before it is the hash
//! of the line before, so a line cannot be changed, taken out, put in or moved without a trace. What
//! no chain shows is that its end was cut off: for that, the [`Head`] is kept somewhere else.
//!
//! [`Chain`] makes lines, [`Verifier`] checks them, [`RefusalMeter`] keeps a flood of refusals from
//! becoming a flood of lines.

mod chain;
mod event;
mod meter;
mod verify;

pub use chain::{Chain, HASH_BYTES, Head, HeadError};
pub use event::{Event, HeadSeen, rfc3339};
pub use meter::{Noted, RefusalMeter};
pub use verify::{Finding, Place, Problem, Report, Verifier};

#[cfg(test)]
mod tests;
