//! The command line of the repository's own checks.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, bail};

const USAGE: &str = "usage: cargo run -p xtask -- tidy | test [ARGUMENT OF cargo test]..";

fn main() -> anyhow::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the root")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => {
            let problems = xtask::tidy(root)?;
            let mut out = io::stdout().lock();
            for problem in &problems {
                writeln!(out, "{problem}")?;
            }
            match problems.len() {
                0 => writeln!(out, "tidy: nothing to complain about")?,
                count => writeln!(out, "tidy: {count} problems")?,
            }
            Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        ["test", ..] => xtask::test(root, &arguments[1..]),
        _ => bail!(USAGE),
    }
}
