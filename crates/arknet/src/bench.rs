//! Measures servers from outside, as their users see them.

mod client;
mod plan;
mod prompt;
mod report;
mod serve;
mod sse;
mod stats;
#[cfg(test)]
mod tests;

use clap::{Args, Subcommand};
use plan::Plan;

use crate::out::Out;

/// What `arknet bench` takes.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Ask a server with OpenAI's API many questions and say how it answered
    ///
    /// Each of the concurrent workers has one connection and asks its next question when the last
    /// one was answered. Prompts differ from each other from their first word on, so that no cache
    /// of prompts helps, except by --shared-prefix-tokens and --turns.
    Serve(Box<plan::Serve>),
}

/// The key, where no file holds it: command lines are seen by every user of a machine.
const KEY_VARIABLE: &str = "ARKNET_API_KEY";

/// Runs `arknet bench`.
pub(crate) fn run(args: BenchArgs, out: &Out) -> anyhow::Result<()> {
    let BenchCommand::Serve(serve) = args.command;
    let plan = Plan::new(*serve, std::env::var_os(KEY_VARIABLE))?;
    // One thread is enough for more than servers answer, and leaves the others to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(serve::run(plan, out))?;
    out.result(&report, &report.text())?;
    report.verdict()
}
