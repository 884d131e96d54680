//! The door over real connections, with a scripted dispatch behind it.

mod client;
mod door;
mod endpoints;
mod errors;
mod hostile;
mod script;
mod streams;
