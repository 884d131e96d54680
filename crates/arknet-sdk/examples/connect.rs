//! Makes a wallet and a session and joins the mesh; prints what is offered there.
//!
//! Needs a seed in `~/.arknet/seeds.json` (or in the directory that `ARKNET_HOME` names).

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::time::Duration;

use arknet_sdk::{Client, ConnectOptions, session::SessionKey, wallet::Wallet};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wallet = Wallet::create();
    wallet.save()?;
    println!("wallet {}", wallet.address());

    let session = SessionKey::create(
        &wallet,
        100_000_000,               // spending limit in atoms (0.1 ARK)
        Duration::from_secs(3600), // 1 hour expiry
    )?;

    let client =
        Client::connect(ConnectOptions { session: Some(session), ..Default::default() }).await?;

    for (model, peers) in client.models() {
        println!("{model} at {} peers", peers.len());
    }
    Ok(())
}
