//! The one place that prints.

use std::io::{self, IsTerminal, Write};

use arknet_sdk::chain::ChainError;
use serde::Serialize;

use crate::ledger::Undone;

/// Prints for a person or, with `--json`, for a program.
pub(crate) struct Out {
    json: bool,
}

impl Out {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// The result of a command: `value` for a program, `text` for a person.
    pub(crate) fn result(&self, value: &impl Serialize, text: &str) -> anyhow::Result<()> {
        if self.json {
            let line = serde_json::to_string(value)?;
            self.raw(format!("{line}\n").as_bytes())
        } else {
            self.raw(format!("{text}\n").as_bytes())
        }
    }

    /// Bytes to standard output, at once.
    pub(crate) fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    /// Standard output for a result of many lines.
    pub(crate) fn lines(&self) -> io::BufWriter<io::StdoutLock<'static>> {
        io::BufWriter::new(io::stdout().lock())
    }

    /// A remark beside the result; only where a person is looking.
    pub(crate) fn note(&self, text: &str) {
        if !self.json && io::stderr().is_terminal() {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Asks a person. Where none is there to answer, the command is not carried out, in the words of
    /// `alone`.
    pub(crate) fn confirm(&self, question: &str, alone: &str) -> anyhow::Result<bool> {
        if !io::stdin().is_terminal() {
            anyhow::bail!("{alone}");
        }
        write!(io::stderr(), "{question} [y/N] ")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// Why the command failed.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let refusal = error.downcast_ref::<arknet_sdk::Refusal>();
        let words = words(error);
        let line = if self.json {
            let of_node = error.downcast_ref::<crate::node_api::NodeRefusal>();
            let of_chain = error.downcast_ref::<ChainError>();
            let undone = error.downcast_ref::<Undone>();
            let code = refusal
                .map(|refusal| refusal.code.as_str())
                .or_else(|| of_node.map(|refusal| refusal.code.as_str()))
                .or_else(|| of_chain.map(ChainError::code))
                .or_else(|| undone.map(|undone| undone.code.as_str()))
                .or_else(|| error.is::<arknet_quotes::QuoteError>().then_some("quote"));
            let code = code.unwrap_or("failed");
            let mut report = serde_json::json!({ "code": code, "message": words });
            if let Some((balance, needed)) = of_chain.and_then(ChainError::balance) {
                report["balance"] = serde_json::json!(balance);
                report["needed"] = serde_json::json!(needed);
            }
            if let Some(Undone { id, height, fee, .. }) = undone {
                report["transaction"] = serde_json::json!(id);
                report["height"] = serde_json::json!(height);
                report["fee"] = serde_json::json!(fee);
            }
            serde_json::json!({ "error": report }).to_string()
        } else {
            format!("arknet: {words}")
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
}

/// An error with its causes, each said once: most of our errors name their cause themselves.
fn words(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.as_str() {
            "" => cause,
            before if before.contains(&cause) => said,
            before => format!("{before}: {cause}"),
        }
    })
}

/// Whether somebody else would not do what was asked.
pub(crate) fn is_refusal(error: &anyhow::Error) -> bool {
    let by_chain = error.downcast_ref::<ChainError>();
    error.is::<arknet_sdk::Refusal>()
        || error.is::<Undone>()
        || matches!(by_chain, Some(ChainError::Refused(_) | ChainError::Balance { .. }))
}

/// Whether the reader of our output went away, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Rows as aligned columns.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// A number of bytes for a person.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::{table, words};

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("disk full");
        let outer = anyhow::Error::from(inner).context("a.txt: disk full").context("saving");
        assert_eq!(words(&outer), "saving: a.txt: disk full");
        let plain: anyhow::Result<()> = Err(std::io::Error::other("no")).context("asking");
        assert_eq!(words(&plain.unwrap_err()), "asking: no");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".into(), "bb".into()], vec!["ccc".into(), "d".into()]];
        assert_eq!(table(&rows), "a    bb\nccc  d");
        assert_eq!(table(&[]), "");
    }
}
