//! Dependencies that nothing names any more: they cost build time and trust for nothing.

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

use crate::{Problem, Tree, text::holds_word};

/// Each dependency in the manifests must be named in the sources beside it, and each in the workspace
/// by some manifest. `metadata` is that of the workspace alone.
pub(crate) fn check(root: &Path, metadata: &Value, tree: &Tree) -> anyhow::Result<Vec<Problem>> {
    let packages = metadata["packages"].as_array().context("no packages in cargo metadata")?;
    let mut problems = Vec::new();
    let mut used = Vec::new();
    for package in packages {
        let manifest = package["manifest_path"].as_str().context("a package without manifest")?;
        let manifest = Path::new(manifest).strip_prefix(root).context("a package elsewhere")?;
        let manifest = manifest.to_str().context("a path is not UTF-8")?;
        let folder = manifest.trim_end_matches("Cargo.toml");
        let sources = tree.files.iter().filter(|f| f.path.starts_with(folder));
        let sources: Vec<&str> =
            sources.filter(|f| f.has_extension(&["rs"])).map(|f| f.text.as_str()).collect();
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        // Sources know a dependency by the name that the manifest gave it.
        let names =
            dependencies.filter_map(|one| one["rename"].as_str().or_else(|| one["name"].as_str()));
        for name in names {
            used.push(name);
            if !is_named(name, &sources) {
                problems.push(Problem::new(manifest, 0, format!("`{name}` is not used")));
            }
        }
    }
    let declared: toml::Table = tree.text("Cargo.toml").parse().context("reading Cargo.toml")?;
    let declared = declared.get("workspace").and_then(|table| table.get("dependencies"));
    for (name, _) in declared.and_then(toml::Value::as_table).into_iter().flatten() {
        if !used.contains(&name.as_str()) {
            problems.push(Problem::new("Cargo.toml", 0, format!("no crate uses `{name}`")));
        }
    }
    Ok(problems)
}

fn is_named(name: &str, sources: &[&str]) -> bool {
    let name = name.replace('-', "_");
    sources.iter().any(|text| holds_word(text, &name))
}

#[cfg(test)]
mod tests {
    use crate::File;

    use super::*;

    fn problems(source: &str, declared: &str) -> usize {
        problems_of(serde_json::json!({ "name": "two-words" }), source, declared)
    }

    fn problems_of(dependency: Value, source: &str, declared: &str) -> usize {
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let manifest = format!("[workspace.dependencies]\n{declared} = \"1\"\n");
        let files = vec![file("a/src/lib.rs", source), file("Cargo.toml", &manifest)];
        let metadata = serde_json::json!({ "packages": [{
            "manifest_path": "/x/a/Cargo.toml",
            "dependencies": [dependency],
        }] });
        check(Path::new("/x"), &metadata, &Tree { files, paths: vec![] }).unwrap().len()
    }

    #[test]
    fn what_no_source_names_is_found() {
        assert_eq!(problems("use two_words::A;", "two-words"), 0);
        assert_eq!(problems("use two_words_more::A;", "two-words"), 1);
        assert_eq!(problems("use two_words::A;", "another"), 1);
    }

    #[test]
    fn a_renamed_dependency_is_known_by_its_new_name() {
        let dependency = serde_json::json!({ "name": "two-words", "rename": "one" });
        assert_eq!(problems_of(dependency.clone(), "use one::A;", "one"), 0);
        assert_eq!(problems_of(dependency, "use two_words::A;", "one"), 1);
    }
}
