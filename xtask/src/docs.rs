//! Whether the documents speak of what is there.

use crate::{File, Problem};

/// Folders whose files documents name.
const FOLDERS: [&str; 8] =
    ["crates/", "docs/", "fuzz/", "scripts/", "spec/", "tests/", "tools/", "xtask/"];

/// Every path a document names must exist: those in the text that begin in one of our folders, and
/// the targets of its links.
pub(crate) fn check(file: &File, paths: &[String]) -> Vec<Problem> {
    if !file.has_extension(&["md"]) {
        return Vec::new();
    }
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let exists = |path: &str| paths.iter().any(|known| known == path.trim_end_matches('/'));
    let mut problems = Vec::new();
    for (at, line) in (1..).zip(file.text.lines()) {
        for path in named_paths(line).filter(|path| !exists(path)) {
            let what = format!("`{path}` does not exist");
            problems.push(Problem::new(&file.path, at, what));
        }
        for target in link_targets(line) {
            if !resolve(folder, target).is_some_and(|path| path.is_empty() || exists(&path)) {
                let what = format!("the link to `{target}` leads nowhere");
                problems.push(Problem::new(&file.path, at, what));
            }
        }
    }
    problems
}

fn named_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && !"._-/*<>{}:".contains(c))
        .map(|word| word.trim_end_matches(['.', ':', '>']).trim_start_matches('<'))
        .map(|word| word.split_once(':').map_or(word, |(path, _)| path))
        // A pattern or a placeholder names no one file.
        .filter(|word| !word.contains(['*', '<', '{']))
        .filter(|word| FOLDERS.iter().any(|f| word.len() > f.len() && word.starts_with(f)))
}

fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](")
        .filter_map(|(at, _)| line[at + 2..].split_once(')'))
        .map(|(target, _)| target.split_once('#').map_or(target, |(path, _)| path))
        .filter(|target| {
            !target.is_empty() && !target.contains("://") && !target.contains("mailto:")
        })
}

/// The path from the root of a link in a file of `folder`; none when it leads out of the tree.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// People who update read what changed: there is always a place to write it.
pub(crate) fn check_changelog(text: &str) -> Vec<Problem> {
    if text.lines().any(|line| line.trim_end() == "## Unreleased") {
        return Vec::new();
    }
    vec![Problem::new("CHANGELOG.md", 0, "there is no section `## Unreleased`")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let file = File { path: "docs/a.md".into(), text: text.into() };
        let paths = ["README.md", "crates/x", "crates/x/src/lib.rs", "docs/b.md"];
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        check(&file, &paths).into_iter().map(|p| p.what).collect()
    }

    #[test]
    fn paths_in_the_text_exist() {
        assert_eq!(problems("see `crates/x/src/lib.rs`, crates/x/ and crates/x."), [""; 0]);
        assert_eq!(problems("see crates/x/src/lib.rs:12 and `crates/*/src`"), [""; 0]);
        assert_eq!(problems("`crates/x/src/main.rs`"), ["`crates/x/src/main.rs` does not exist"]);
        assert_eq!(problems("(docs/c.md)").len(), 1);
        assert_eq!(problems("the docs/ folder; other/docs/c.md"), [""; 0]);
    }

    #[test]
    fn links_lead_somewhere() {
        assert_eq!(problems("[b](b.md#there) [r](../README.md) [x](https://example.com)"), [""; 0]);
        assert_eq!(problems("[c](c.md)"), ["the link to `c.md` leads nowhere"]);
        assert_eq!(problems("[c](../../c.md)").len(), 1);
    }

    #[test]
    fn a_changelog_has_a_place_for_what_comes() {
        assert_eq!(check_changelog("# Changelog\n\n## Unreleased\n"), []);
        assert_eq!(check_changelog("# Changelog\n").len(), 1);
    }
}
