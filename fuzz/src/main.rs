//! Runs every decoder on hostile bytes: `cargo run --release -p arknet-fuzz -- --cases 1000000`.

use std::io::{self, Write};

use anyhow::{Context, bail, ensure};

fn main() -> anyhow::Result<()> {
    let (mut cases, mut seed, mut only) = (1_000_000, 1, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{name} needs a value"))?;
        if name == "--only" {
            only = Some(value);
            continue;
        }
        let value = value.parse().with_context(|| format!("{name} {value} is no number"))?;
        match name.as_str() {
            "--cases" => cases = value,
            "--seed" => seed = value,
            _ => bail!("usage: arknet-fuzz [--cases N] [--seed N] [--only DECODER]"),
        }
    }
    let mut out = io::stdout().lock();
    let titles = ("decoder", "cases", "accepted", "refused", "s", "slowest ms");
    let (a, b, c, d, e, f) = titles;
    writeln!(out, "{a:18} {b:>9} {c:>9} {d:>9} {e:>8} {f:>10}")?;
    let all = arknet_fuzz::decoders()?;
    for decoder in all.iter().filter(|one| only.as_ref().is_none_or(|only| one.name == only)) {
        // One that is asked for alone gets all the cases.
        let cases = if only.is_some() { cases } else { decoder.share(cases) };
        let outcome = arknet_fuzz::run(decoder, cases, seed)?;
        let arknet_fuzz::Outcome { accepted, refused, time, slowest } = outcome;
        let name = decoder.name;
        let (seconds, slowest) = (time.as_secs_f64(), slowest.as_secs_f64() * 1000.0);
        writeln!(
            out,
            "{name:18} {cases:>9} {accepted:>9} {refused:>9} {seconds:>8.1} {slowest:>10.1}"
        )?;
        ensure!(accepted > 0 && refused > 0, "{name} took all or nothing: this proves little");
    }
    writeln!(out, "No decoder panicked.")?;
    Ok(())
}
