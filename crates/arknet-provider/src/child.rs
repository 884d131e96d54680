//! A model in a process of its own, which is this same program.
//!
//! Native code may abort, leak or be killed for its memory; then one process ends, its requests are
//! refused or sent again, and the node goes on. Ending the process is also how a model's memory
//! comes back for certain.
//!
//! The channel is a pair of pipes: the child's standard input and output. Each request has its own
//! credit, so that a slow reader stops its own generation and nothing else. The node takes a child
//! for half trusted: frames are bounded and checked, and a child that breaks the protocol is ended.

mod calls;
mod process;
pub mod protocol;
mod serve;

pub use calls::Orphan;
pub(crate) use calls::{Taken, process_ended, replies};
pub use process::{Child, ChildOptions, Ended, Exit, OpenError};
pub use serve::{run, serve};
