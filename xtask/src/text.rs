//! What may stand in no file: paths of one machine, and hosts that mirrors replace.

use crate::{File, Problem};

/// Folders that exist on one machine only. Written apart so that this file passes its own check.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

/// Registries are reached through the tools' own settings, which people point at mirrors.
const REGISTRY_HOSTS: [&str; 9] = [
    concat!("crates", ".io"),
    concat!("debian", ".org"),
    concat!("ubuntu", ".com"),
    concat!("npmjs", ".com"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("pypi", ".python"),
    concat!("python", "hosted.org"),
    concat!("proxy.golang", ".org"),
];

/// How cargo writes the source of a package into its lock file.
const CARGO_SOURCE: &str =
    concat!("source = \"registry+https://github.com/rust-lang/", "crates", ".io-index\"");

pub(crate) fn check(file: &File) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, line) in (1..).zip(file.text.lines()) {
        for path in MACHINE_PATHS {
            if holds_absolute(line, path) {
                let what = format!("{path} is a path of one machine");
                problems.push(Problem::new(&file.path, at, what));
            }
        }
        let is_cargo_source = file.path.ends_with("Cargo.lock") && line == CARGO_SOURCE;
        for host in REGISTRY_HOSTS {
            if line.contains(host) && !is_cargo_source {
                let what = format!("{host} is a registry: leave it to the tool's settings");
                problems.push(Problem::new(&file.path, at, what));
            }
        }
    }
    problems
}

/// Whether an absolute path begins with `path` in `line`; `my/work/x` and `https://a/work/` do not.
fn holds_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}/*".contains(c))
    })
}

/// Whether `word` stands in `text` as a whole word.
pub(crate) fn holds_word(text: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&File { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        assert_eq!(count("a.md", concat!("see /wo", "rk/x")), 1);
        assert_eq!(count("a.sh", concat!("cd \"/ro", "ot/x\"")), 1);
        assert_eq!(count("a.sh", concat!("cd frame/wo", "rk/x")), 0);
        assert_eq!(count("a.md", concat!("https://example.com/ho", "me/")), 0);
    }

    #[test]
    fn registries_are_found_except_as_cargo_names_its_own() {
        assert_eq!(count("a.md", concat!("get it from crates", ".io")), 1);
        assert_eq!(count("package-lock.json", concat!("https://registry.npmjs", ".org/x")), 1);
        assert_eq!(count("Cargo.lock", CARGO_SOURCE), 0);
        assert_eq!(count("deny.toml", CARGO_SOURCE), 1);
    }
}
