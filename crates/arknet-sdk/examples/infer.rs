//! Asks a model on another machine.
//!
//! `cargo run -p arknet-sdk --example infer -- [MODEL] [PROMPT]`. Needs a seed in
//! `~/.arknet/seeds.json` (or in the directory that `ARKNET_HOME` names).

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::time::Duration;

use arknet_sdk::{Client, ConnectOptions, InferRequest, session::SessionKey, wallet::Wallet};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "Qwen/Qwen3-0.6B-Q8_0".into());
    let prompt = arguments.next().unwrap_or_else(|| "Hi, how are you?".into());

    let wallet = Wallet::create();
    let session = SessionKey::create(&wallet, 100_000_000, Duration::from_secs(3600))?;
    let client =
        Client::connect(ConnectOptions { session: Some(session), ..Default::default() }).await?;

    let response =
        client.infer(InferRequest { model, prompt, max_tokens: 64, ..Default::default() }).await?;
    println!("{}", response.text);
    eprintln!("[answered by {}]", response.peer);
    Ok(())
}
