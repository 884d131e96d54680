//! Whether every package we build with may be used. The list of licences is the one in `deny.toml`,
//! so that this and cargo-deny cannot differ.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;

use crate::{Problem, Tree, deps::cargo};

const HOME: &str = "deny.toml";

pub(crate) fn check(root: &Path, tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let settings: toml::Table = tree.text(HOME).parse().context("reading deny.toml")?;
    let allowed = settings.get("licenses").and_then(|table| table.get("allow"));
    let allowed = allowed.and_then(toml::Value::as_array).context("deny.toml allows nothing")?;
    let allowed: Vec<&str> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let arguments = ["tree", "--workspace", "--locked", "--prefix=none", "--edges=all"];
    let graph = cargo(root, &[&arguments[..], &["--format={p}|{l}"]].concat())?;
    let lines: BTreeSet<&str> = graph.lines().collect();
    Ok(lines.into_iter().filter_map(|line| check_package(line, &allowed)).collect())
}

/// `line` is a package and its licence as `NAME VERSION ..|LICENCE`.
fn check_package(line: &str, allowed: &[&str]) -> Option<Problem> {
    // Cargo marks what it has listed before with a star at the end of the line.
    let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
    let name = package.split(' ').next().unwrap_or(package);
    match licence {
        "" => Some(Problem::new(HOME, 0, format!("`{name}` names no licence"))),
        licence if !is_allowed(licence, allowed) => {
            Some(Problem::new(HOME, 0, format!("`{name}` is under {licence}")))
        }
        _ => None,
    }
}

/// Whether a licence expression can be met with the licences allowed. `A/B` is an old way to write
/// `A OR B`; AND binds tighter than OR.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, allowed };
    parser.any() && parser.words.is_empty()
}

struct Parser<'a> {
    words: &'a [&'a str],
    allowed: &'a [&'a str],
}

impl Parser<'_> {
    fn any(&mut self) -> bool {
        let mut met = self.all();
        while self.take("OR") {
            met |= self.all();
        }
        met
    }

    fn all(&mut self) -> bool {
        let mut met = self.one();
        while self.take("AND") {
            met &= self.one();
        }
        met
    }

    fn one(&mut self) -> bool {
        if self.take("(") {
            let met = self.any();
            return self.take(")") && met;
        }
        let Some((licence, rest)) = self.words.split_first() else {
            return false;
        };
        self.words = rest;
        if !self.take("WITH") {
            return self.allowed.contains(licence);
        }
        let Some((exception, rest)) = self.words.split_first() else {
            return false;
        };
        self.words = rest;
        self.allowed.contains(&format!("{licence} WITH {exception}").as_str())
    }

    fn take(&mut self, word: &str) -> bool {
        match self.words.split_first() {
            Some((first, rest)) if *first == word => {
                self.words = rest;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met_or_not() {
        let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(GPL-3.0 OR MIT) AND ISC",
            "GPL-3.0 AND ISC OR MIT",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in
            ["", "GPL-3.0", "GPL-3.0 AND MIT", "Apache-2.0", "MIT AND (GPL-3.0 OR X)", "MIT MIT"]
        {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        assert!(check_package("a v1.0.0|", &["MIT"]).is_some());
        assert!(check_package("a v1.0.0|GPL-3.0", &["MIT"]).is_some());
        assert!(check_package("a v1.0.0|MIT (*)", &["MIT"]).is_none());
    }
}
