//! The `arknet` command.
//!
//! Exit codes: 0 done, 1 failed, 2 not a valid command line, 3 the request was refused.

mod ask;
mod cli;
mod config;
mod init;
mod model;
mod out;
mod start;
mod status;
mod wallet;

use std::process::ExitCode;

use arknet_node::{Config, DataDir, Overrides};
use clap::{CommandFactory, Parser};
use cli::{Arguments, Command};
use out::Out;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = Out::new(arguments.json);
    start_log(arguments.log.as_deref());
    match run(arguments, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(if error.is::<arknet_sdk::Refusal>() { 3 } else { 1 })
        }
    }
}

fn run(arguments: Arguments, out: &Out) -> anyhow::Result<()> {
    if let Command::Completions { shell } = arguments.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "arknet", &mut text);
        return out.raw(&text);
    }
    let data = DataDir::open(arguments.data_dir)?;
    let config_path = arguments.config.unwrap_or_else(|| data.config());
    let load = |overrides: &Overrides| Config::load(&config_path, overrides);
    match arguments.command {
        Command::Ask(ask) => ask::run(&data, &load(&Overrides::default())?, ask, out),
        Command::Completions { .. } => unreachable!("handled above"),
        Command::Config { command } => config::run(&config_path, command, out),
        Command::Init => init::run(&data, &config_path, out),
        Command::Model { command } => model::run(&data, command, out),
        Command::Peers => status::peers(&data, out),
        Command::Start(flags) => start::run(&data, load(&flags.overrides())?, out),
        Command::Status => status::status(&data, out),
        Command::Wallet { command } => wallet::run(&data, command, out),
    }
}

/// What is logged when nothing is said. A first node knows no peers, which its routing table takes
/// for a failure.
const LOG_DEFAULT: &str = "warn,libp2p_kad=error";

fn start_log(filter: Option<&str>) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter.unwrap_or(LOG_DEFAULT))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(LOG_DEFAULT));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
