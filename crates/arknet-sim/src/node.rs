//! The nodes: the state machines of production, each under a driver as thin as it can be.

mod attacker;
mod client;
mod client_request;
mod deeds;
mod server;
mod server_grants;
mod server_offers;
mod server_work;
mod wire;

pub(crate) use attacker::{Attacker, AttackerTimer, Target};
pub(crate) use client::{Client, ClientTimer};
pub(crate) use server::{Served, Server, ServerTimer};
pub(crate) use server_grants::everything;
