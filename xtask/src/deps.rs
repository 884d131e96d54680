//! Which crate may use which: ours, and those of others.

use std::{collections::BTreeSet, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::{Problem, Tree, tables, unused};

/// The document that holds both tables.
const HOME: &str = "ARCHITECTURE.md";
/// Packages of which two copies would not understand each other.
const SINGLE: [&str; 3] = ["libp2p", "libp2p-core", "libp2p-swarm"];

pub(crate) fn check(root: &Path, tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let document = tree.text(HOME);
    let (Some(edges), Some(forbidden)) =
        (tables::rows(document, "crate-edges"), tables::rows(document, "forbidden"))
    else {
        return Ok(vec![Problem::new(
            HOME,
            0,
            "the tables `crate-edges` and `forbidden` are gone",
        )]);
    };
    let metadata = metadata(root)?;
    let mut problems = check_edges(&edges, &our_crates(&metadata));
    problems.extend(unused::check(root, &metadata, tree)?);
    for (package, names) in &forbidden {
        problems.extend(check_forbidden(package, names, &graph(root, package)?));
    }
    problems.extend(check_single(tree.text("Cargo.lock")));
    let reasons = tables::first_names(document, "dependencies").unwrap_or_default();
    problems.extend(check_reasons(&reasons, tree.text("Cargo.toml"))?);
    Ok(problems)
}

/// Everything we build on has a reason, and nothing else has one.
fn check_reasons(reasons: &[&str], manifest: &str) -> anyhow::Result<Vec<Problem>> {
    let manifest: toml::Table = manifest.parse().context("reading Cargo.toml")?;
    let dependencies = manifest.get("workspace").and_then(|table| table.get("dependencies"));
    let dependencies = dependencies.and_then(toml::Value::as_table).context("no dependencies")?;
    let others = dependencies.iter().filter(|(_, value)| value.get("path").is_none());
    let others: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
    let without = others.iter().filter(|name| !reasons.contains(name));
    let without = without.map(|name| format!("dependencies: `{name}` has no reason"));
    let gone = reasons.iter().filter(|name| !others.contains(name));
    let gone = gone.map(|name| format!("dependencies: nothing builds on `{name}`"));
    Ok(without.chain(gone).map(|what| Problem::new(HOME, 0, what)).collect())
}

/// One of our crates and those of ours it builds with; what only its tests use is left out.
#[derive(Debug)]
struct Crate {
    name: String,
    uses: Vec<String>,
}

fn our_crates(metadata: &Value) -> Vec<Crate> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    list(&metadata["packages"])
        .iter()
        .map(|package| Crate {
            name: name(package),
            uses: list(&package["dependencies"])
                .iter()
                .filter(|d| d["path"].is_string() && d["kind"] != "dev")
                .map(name)
                .collect(),
        })
        .collect()
}

/// The table and the manifests must say the same: an edge that nobody uses is as wrong as one that
/// nobody allowed.
fn check_edges(table: &[(&str, Vec<&str>)], crates: &[Crate]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut complain = |what: String| problems.push(Problem::new(HOME, 0, what));
    for (name, _) in table {
        if !crates.iter().any(|c| c.name == *name) {
            complain(format!("crate-edges: there is no crate `{name}`"));
        }
    }
    for Crate { name, uses } in crates {
        let Some((_, allowed)) = table.iter().find(|(known, _)| known == name) else {
            complain(format!("crate-edges: `{name}` has no row"));
            continue;
        };
        if allowed[..] == ["anything"] {
            continue;
        }
        for used in uses.iter().filter(|used| !allowed.contains(&used.as_str())) {
            complain(format!("crate-edges: `{name}` may not use `{used}`"));
        }
        let unused = allowed.iter().filter(|a| **a != "nothing" && !uses.iter().any(|u| u == **a));
        for unused in unused {
            complain(format!("crate-edges: `{name}` does not use `{unused}`: shorten its row"));
        }
    }
    problems
}

/// `graph` holds every package that `package` is built from.
fn check_forbidden(package: &str, names: &[&str], graph: &BTreeSet<String>) -> Vec<Problem> {
    let reached = names.iter().filter(|name| graph.contains(**name));
    reached
        .map(|name| {
            let what =
                format!("forbidden: `{package}` is built with `{name}` (cargo tree -i {name})");
            Problem::new(HOME, 0, what)
        })
        .collect()
}

fn check_single(lock: &str) -> Vec<Problem> {
    let count = |name: &str| lock.lines().filter(|l| *l == format!("name = \"{name}\"")).count();
    let several = SINGLE.iter().filter(|name| count(name) > 1);
    several
        .map(|name| Problem::new("Cargo.lock", 0, format!("{} copies of `{name}`", count(name))))
        .collect()
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let text = cargo(root, &["metadata", "--format-version=1", "--locked", "--no-deps"])?;
    serde_json::from_str(&text).context("reading cargo metadata")
}

/// What a crate is built from, features chosen for it alone as when somebody else depends on it.
/// `workspace` is everything.
fn graph(root: &Path, package: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut arguments = vec!["tree", "--locked", "--prefix=none", "--edges=normal"];
    match package {
        "workspace" => arguments.extend(["--workspace", "--edges=normal,build"]),
        package => arguments.extend(["--package", package]),
    }
    let text = cargo(root, &arguments)?;
    Ok(text.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect())
}

pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(root)
        .output()
        .with_context(|| format!("running cargo {}", arguments[0]))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {} failed: {complaint}", arguments[0]);
    String::from_utf8(output.stdout).context("cargo did not write UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str, uses: &[&str]) -> Crate {
        Crate { name: name.into(), uses: uses.iter().map(|used| (*used).into()).collect() }
    }

    #[test]
    fn table_and_manifests_say_the_same() {
        let table = [("a", vec!["nothing"]), ("b", vec!["a"]), ("t", vec!["anything"])];
        let good = || vec![ours("a", &[]), ours("b", &["a"]), ours("t", &["a", "b"])];
        assert_eq!(check_edges(&table, &good()), []);
        let mut upward = good();
        upward[0].uses.push("b".into());
        assert_eq!(check_edges(&table, &upward).len(), 1);
        let mut unused = good();
        unused[1].uses.clear();
        assert_eq!(check_edges(&table, &unused).len(), 1);
        let mut unknown = good();
        unknown.push(ours("c", &[]));
        assert_eq!(check_edges(&table, &unknown).len(), 1);
        assert_eq!(check_edges(&table, &good()[1..]).len(), 1, "a row without its crate");
    }

    #[test]
    fn a_crate_used_in_tests_alone_is_no_edge() {
        let metadata = serde_json::json!({ "packages": [{ "name": "a", "dependencies": [
            { "name": "b", "kind": null, "path": "x" },
            { "name": "c", "kind": "dev", "path": "x" },
            { "name": "serde", "kind": null },
        ] }] });
        assert_eq!(our_crates(&metadata)[0].uses, ["b"]);
    }

    #[test]
    fn forbidden_packages_are_found_by_their_whole_name() {
        let graph = BTreeSet::from(["tokio-util".to_owned(), "mio".to_owned()]);
        assert_eq!(check_forbidden("a", &["tokio", "rand"], &graph), []);
        assert_eq!(check_forbidden("a", &["tokio", "mio"], &graph).len(), 1);
    }

    #[test]
    fn what_we_build_on_has_a_reason() {
        let manifest = "[workspace.dependencies]\na = \"1\"\nours = { path = \"x\" }\n";
        assert_eq!(check_reasons(&["a"], manifest).unwrap(), []);
        assert_eq!(check_reasons(&[], manifest).unwrap().len(), 1);
        assert_eq!(check_reasons(&["a", "b"], manifest).unwrap().len(), 1);
    }

    #[test]
    fn two_copies_are_found() {
        let one = "name = \"libp2p\"\nname = \"libp2p-core\"\n";
        assert_eq!(check_single(one), []);
        assert_eq!(check_single(&one.repeat(2)).len(), 2);
    }
}
