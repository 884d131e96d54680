//! Runs every decoder on hostile bytes: `cargo run --release -p arknet-fuzz -- --cases 1000000`.

use std::io::{self, Write};

use anyhow::{Context, bail, ensure};

fn main() -> anyhow::Result<()> {
    let (mut cases, mut seed) = (1_000_000, 1);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a number"))?;
        let value = value.parse().with_context(|| format!("{name} {value} is no number"))?;
        match name.as_str() {
            "--cases" => cases = value,
            "--seed" => seed = value,
            _ => bail!("usage: arknet-fuzz [--cases N] [--seed N]"),
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{:18} {:>9} {:>9} {:>9} {:>8}", "decoder", "cases", "accepted", "refused", "s")?;
    for decoder in arknet_fuzz::decoders()? {
        let outcome = arknet_fuzz::run(&decoder, cases, seed)?;
        let arknet_fuzz::Outcome { accepted, refused, time } = outcome;
        let name = decoder.name;
        let seconds = time.as_secs_f64();
        writeln!(out, "{name:18} {cases:>9} {accepted:>9} {refused:>9} {seconds:>8.1}")?;
        ensure!(accepted > 0 && refused > 0, "{name} took all or nothing: this proves little");
    }
    writeln!(out, "No decoder panicked.")?;
    Ok(())
}
