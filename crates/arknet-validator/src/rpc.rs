//! The chain RPC: JSON over HTTP for programs on this machine. Its shapes are in
//! `arknet_chain::rpc`.

mod answer;
mod desk;
mod events;
mod guard;
mod rates;
mod reads;
mod routes;
mod server;

pub use server::{RpcOptions, RpcServer};
