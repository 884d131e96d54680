//! Runs seeds of the simulators: `arknet-sim --seeds N`, or `arknet-sim --seed 0x..` for one of the
//! grid, `arknet-sim --chain-seed 0x..` for one of the chain.

use std::{
    env,
    io::{Write, stderr, stdout},
    process::ExitCode,
};

use arknet_sim::{
    ChainReport, Report, Sim, Violation, run_chain_seed, run_chain_seeds, run_seed, run_seeds,
};

const USAGE: &str = "usage: arknet-sim [--seeds N] [--seed 0x..] [--chain-seed 0x..]\n";

enum Order {
    One(u64),
    OneChain(u64),
    Many(u64),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(order) = parse(&arguments) else {
        let _ = stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    let result = match order {
        Order::One(seed) => {
            Sim::new(seed, None).telling().run().and_then(|_| Ok(grid(&[run_seed(seed)?])))
        }
        Order::OneChain(seed) => run_chain_seed(seed).map(|report| chain(&[report])),
        Order::Many(count) => many(count),
    };
    let (code, text) = match result {
        Ok(text) => (ExitCode::SUCCESS, text),
        Err(violation) => (ExitCode::FAILURE, format!("{violation}\n")),
    };
    let written = stdout().write_all(text.as_bytes());
    if written.is_ok() { code } else { ExitCode::FAILURE }
}

fn many(count: u64) -> Result<String, Violation> {
    let text = grid(&run_seeds(0, count, 2)?);
    Ok(text + &chain(&run_chain_seeds(0, count, 2)?))
}

fn grid(reports: &[Report]) -> String {
    let events: u64 = reports.iter().map(|r| r.events).sum();
    let mut text = format!("{} seeds, each twice, {events} events\n", reports.len());
    if let [report] = reports {
        text += &format!("{report:#x?}\n");
    }
    text
}

fn chain(reports: &[ChainReport]) -> String {
    let sum = |what: fn(&ChainReport) -> u64| reports.iter().map(what).sum::<u64>();
    let mut text = format!(
        "{} seeds of the chain, {} events, {} blocks, {} transactions promised and kept, {} lies, \
         {} held against liars, {} banned, {} fetches\n",
        reports.len(),
        sum(|r| r.events),
        sum(|r| r.blocks),
        sum(|r| r.promised),
        sum(|r| r.lies),
        sum(|r| r.misdeeds),
        sum(|r| r.banned),
        sum(|r| r.fetches),
    );
    if let [report] = reports {
        text += &format!("{report:#x?}\n");
    }
    text
}

fn parse(arguments: &[String]) -> Option<Order> {
    match arguments {
        [] => Some(Order::Many(1_000)),
        [flag, value] if flag == "--seeds" => Some(Order::Many(number(value)?)),
        [flag, value] if flag == "--chain-seed" => Some(Order::OneChain(number(value)?)),
        [flag, value] if flag == "--seed" => Some(Order::One(number(value)?)),
        _ => None,
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
