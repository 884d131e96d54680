//! Checks of the repository that the compiler does not make. `cargo run -p xtask -- tidy` runs them all in
//! seconds; a test of this crate runs them too.
//!
//! Each check is a plain function from text to [`Problem`]s, so that its own tests need no tree.

mod deps;
mod docs;
mod licences;
mod source;
mod spec;
mod tables;
mod test_run;
mod text;
mod tidy;
mod tree;
mod unused;

pub use test_run::test;
pub use tidy::tidy;
pub use tree::{File, Problem, Tree};
