//! Runs all tests and says at the end, in a few lines, how it went.

use std::{
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::Context;

/// Runs `cargo test` on the whole workspace, to the end even when something fails.
pub fn test(root: &Path, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut child = Command::new("cargo")
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .args(arguments)
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo test")?;
    let mut tally = Tally::default();
    let output = BufReader::new(child.stdout.take().context("cargo has an output")?);
    let mut out = io::stdout().lock();
    for line in output.split(b'\n') {
        let line = line.context("reading what cargo test says")?;
        let line = String::from_utf8_lossy(&line);
        tally.hear(&line);
        writeln!(out, "{line}")?;
    }
    let passed = child.wait().context("waiting for cargo test")?.success();
    write!(out, "\n{}", tally.closing(passed, began.elapsed().as_secs()))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    fn hear(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let passed = counts.split(". ").nth(1).and_then(|rest| rest.split_once(" passed"));
            self.passed += passed.and_then(|(n, _)| n.parse().ok()).unwrap_or(0);
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|r| r.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
    }

    fn closing(&self, passed: bool, seconds: u64) -> String {
        if passed {
            return format!("All {} tests passed in {seconds} s.\n", self.passed);
        }
        if self.failed.is_empty() {
            return format!(
                "The tests did not build or did not end, after {seconds} s; see above.\n"
            );
        }
        let mut text = format!(
            "{} tests failed, {} passed, in {seconds} s:\n",
            self.failed.len(),
            self.passed
        );
        for name in &self.failed {
            text += &format!("  {name}\n");
        }
        text + "Run one again with: cargo test --workspace NAME\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.hear(line);
        }
        tally
    }

    #[test]
    fn results_are_added_up() {
        let good = tally(&[
            "test a ... ok",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ]);
        assert_eq!(good.closing(true, 5), "All 7 tests passed in 5 s.\n");
    }

    #[test]
    fn failures_are_named_at_the_end() {
        let bad =
            tally(&["test m::b ... FAILED", "test result: FAILED. 3 passed; 1 failed; 0 ignored"]);
        let text = bad.closing(false, 5);
        assert!(text.starts_with("1 tests failed, 3 passed, in 5 s:\n  m::b\n"), "{text}");
        assert!(tally(&[]).closing(false, 5).contains("did not build"));
    }
}
