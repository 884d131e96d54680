//! Meshes over real sockets on loopback.

mod limits;
mod offers;
mod relay;
mod requests;
mod restart;
mod support;
