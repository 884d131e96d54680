//! Real processes of the real program, on loopback, and the clients people use.

mod ask;
mod clients;
mod commands;
mod failure;
mod network;
mod sdk;
