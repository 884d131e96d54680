//! The `arknet` command.
//!
//! Exit codes: 0 done, 1 failed, 2 not a valid command line, 3 the request was refused.

mod ask;
mod audit;
mod bench;
mod cli;
mod config;
mod console;
mod init;
mod key;
mod ledger;
mod model;
mod node_api;
mod out;
mod peers;
mod registry;
mod start;
mod status;
mod telemetry;
mod upstream;
mod vpn;
mod wallet;

use std::{ffi::OsStr, process::ExitCode};

use arknet_node::{Config, DataDir, Overrides};
use clap::{CommandFactory, Parser};
use cli::{Arguments, Command};
use out::Out;

/// Executing a block makes and drops thousands of small values: the system's allocator takes half as
/// long again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The process of one model: started by a node, never by a person.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == arknet_node::ENGINE_ARGUMENT) {
        let filter = std::env::var_os("ARKNET_LOG");
        let log = telemetry::start(filter.as_deref().and_then(OsStr::to_str), None);
        return log.map_or(ExitCode::FAILURE, |_log| arknet_node::run_engine());
    }
    let arguments = Arguments::parse();
    let out = Out::new(arguments.json);
    let result = otlp_url(&arguments)
        .and_then(|url| telemetry::start(arguments.log.as_deref(), url.as_deref()))
        .and_then(|_telemetry| run(arguments, &out));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if out::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out.error(&error);
            ExitCode::from(if out::is_refusal(&error) { 3 } else { 1 })
        }
    }
}

/// Where a node sends its traces; a command that ends by itself sends none.
fn otlp_url(arguments: &Arguments) -> anyhow::Result<Option<String>> {
    if !matches!(arguments.command, Command::Start(_)) {
        return Ok(None);
    }
    let data = DataDir::open(arguments.data_dir.clone())?;
    let path = arguments.config.clone().unwrap_or_else(|| data.config());
    Ok(Config::load(&path, &Overrides::default())?.telemetry.otlp_url)
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
    let home = ledger::Home { data: &data, config: &config_path };
    match arguments.command {
        Command::Ask(ask) => ask::run(&data, &load(&Overrides::default())?, ask, out),
        Command::Audit { command } => {
            audit::run(&data, &load(&Overrides::default())?, command, out)
        }
        Command::Bench(args) => bench::run(args, out),
        Command::Chain { command } => ledger::run_chain(home, command, out),
        Command::Channel { command } => ledger::run_channel(home, command, out),
        Command::Completions { .. } => unreachable!("handled above"),
        Command::Config { command } => config::run(&config_path, command, out),
        Command::Console(flags) => console::run(&data, &flags, out),
        Command::Escrow { command } => ledger::run_escrow(home, command, out),
        Command::Genesis { command } => ledger::run_genesis(home, command, out),
        Command::Governance { command } => ledger::run_governance(home, command, out),
        Command::Init => init::run(&data, &config_path, out),
        Command::Key { command } => key::run(&data, command, out),
        Command::Model { command } => model::run(home, command, out),
        Command::Peers { command } => peers::run(&data, command, out),
        Command::Registry { command } => {
            registry::run(&data, load(&Overrides::default())?, command, out)
        }
        Command::Start(flags) => start::run(&data, load(&flags.overrides())?, out),
        Command::Status => status::status(&data, out),
        Command::Tee { command } => ledger::run_tee(home, command, out),
        Command::Upstream { command } => {
            upstream::run(&data, &load(&Overrides::default())?, command, out)
        }
        Command::Validator { command } => ledger::run_validator(home, command, out),
        Command::Vpn(vpn) => vpn::run(&data, vpn, out),
        Command::Wallet { command } => wallet::run(home, command, out),
    }
}
