//! Streams an answer and says who gave it and how fast it began.
//!
//! `cargo run -p arknet-sdk --example stream -- [MODEL] [PROMPT]`
//!
//! A node that serves approved peers only must know this program's key: `--peer` prints it.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    io::Write,
    time::{Duration, Instant},
};

use arknet_sdk::{
    Client, ConnectOptions, InferRequest, keyfile, session::SessionKey, wallet::Wallet,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    let home = arknet_sdk::home::directory().ok_or("no home directory")?;
    let peer_key = keyfile::load_or_create(&home.join("program.key"))?;
    if arguments.next_if(|argument| argument == "--peer").is_some() {
        println!("{}", peer_key.public());
        return Ok(());
    }
    let model = arguments.next().unwrap_or_else(|| "arknet/tiny".into());
    let prompt = arguments.next().unwrap_or_else(|| "What is arknet?".into());

    let wallet = Wallet::load_or_create()?;
    let session = SessionKey::create(&wallet, 100_000_000, Duration::from_secs(3600))?;
    let client = Client::connect(ConnectOptions {
        session: Some(session),
        peer_key: Some(peer_key),
        ..Default::default()
    })
    .await?;
    client.wait_for_model(&model.parse()?, Duration::from_secs(5)).await;

    let asked = Instant::now();
    let request = InferRequest { model, prompt, max_tokens: 100, ..Default::default() };
    let mut answer = client.infer_stream(request).await?;
    let mut first = None;
    while let Some(piece) = answer.next().await {
        let piece = piece?;
        first.get_or_insert_with(|| asked.elapsed());
        print!("{piece}");
        std::io::stdout().flush()?;
    }
    println!();
    let first_ms = first.unwrap_or_default().as_secs_f64() * 1000.0;
    eprintln!("[answered by {}, first token after {first_ms:.1} ms]", answer.peer());
    Ok(())
}
