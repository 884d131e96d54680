//! Size, names and characters of source files.

use std::path::Path;

use crate::{File, Problem, Tree, text::holds_word};

const FILE_LINES_MAX: usize = 800;
const FN_LINES_MAX: usize = 70;
const LONG_FNS: &str = "xtask/long_fns.txt";
const SOURCES: [&str; 7] = ["rs", "py", "ts", "js", "mjs", "sh", "toml"];
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 9] =
    ["common", "helper", "helpers", "manager", "managers", "misc", "util", "utils", "stuff"];

/// Crates whose results depend on their arguments alone. That they build on nothing that does I/O is
/// checked elsewhere; the standard library is left.
const PURE: [&str; 4] = [
    "crates/arknet-types/src/",
    "crates/arknet-protocol/src/",
    "crates/arknet-chain/src/",
    "crates/arknet-consensus/src/",
];
/// What they may not name. Maps with random order are among it: order must not depend on chance.
const IMPURE: [&str; 9] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
];

/// The checks that need one file alone.
pub(crate) fn check(file: &File) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !file.has_extension(&SOURCES) {
        return problems;
    }
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX && !file.text.starts_with("//! tidy: table") {
        let what = format!("{lines} lines where {FILE_LINES_MAX} are allowed: split the file");
        problems.push(Problem::new(&file.path, 0, what));
    }
    for part in Path::new(&file.path).with_extension("").iter().filter_map(|part| part.to_str()) {
        if EMPTY_NAMES.contains(&part) {
            let what = format!("the name `{part}` says nothing: name it after what it does");
            problems.push(Problem::new(&file.path, 0, what));
        }
    }
    for (at, line) in (1..).zip(file.text.lines()) {
        if file.has_extension(&["rs"])
            && let Some(found) = line.chars().find(|c| !c.is_ascii())
        {
            let what = format!("{found:?} in a source file: write it as an escape");
            problems.push(Problem::new(&file.path, at, what));
        }
        if PURE.iter().any(|folder| file.path.starts_with(folder))
            && let Some(found) = IMPURE.iter().find(|name| holds_word(line, name))
        {
            let what = format!("`{found}` in a crate that is given all it needs to know");
            problems.push(Problem::new(&file.path, at, what));
        }
        if is_unnumbered_todo(line) {
            let what = format!("a {} names its issue: {0}(#12)", REMINDER);
            problems.push(Problem::new(&file.path, at, what));
        }
    }
    problems
}

/// Written apart so that this file passes its own check.
const REMINDER: &str = concat!("TO", "DO");

fn is_unnumbered_todo(line: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(REMINDER).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + REMINDER.len()..]);
        let alone = !before.ends_with(is_word) && !after.starts_with(is_word);
        let number = after.strip_prefix("(#").and_then(|rest| rest.split_once(')'));
        let numbered = number.is_some_and(|(n, _)| n.parse::<u32>().is_ok());
        alone && !numbered
    })
}

/// Holds every function against the limit. Those longer than it stand in a list with their length;
/// they may shrink but not grow, and leave the list once they are short enough.
pub(crate) fn check_long_functions(tree: &Tree) -> Vec<Problem> {
    let mut listed: Vec<(&str, usize)> = Vec::new();
    let mut problems = Vec::new();
    for (at, line) in (1..).zip(tree.text(LONG_FNS).lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.rsplit_once(' ').and_then(|(name, n)| Some((name, n.parse().ok()?))) {
            Some(entry) => listed.push(entry),
            None => problems.push(Problem::new(LONG_FNS, at, "not `PATH FUNCTION LINES`")),
        }
    }
    let mut seen = Vec::new();
    for file in tree.files.iter().filter(|file| file.has_extension(&["rs"])) {
        for function in functions(&file.text) {
            if function.lines <= FN_LINES_MAX {
                continue;
            }
            let name = format!("{} {}", file.path, function.name);
            let allowed =
                listed.iter().find(|(known, _)| *known == name).map_or(FN_LINES_MAX, |(_, n)| *n);
            if function.lines > allowed {
                let what = format!(
                    "`{}` has {} lines where {allowed} are allowed",
                    function.name, function.lines
                );
                problems.push(Problem::new(&file.path, function.at, what));
            }
            seen.push(name);
        }
    }
    for (name, _) in listed {
        if !seen.iter().any(|found| found == name) {
            let what = format!("`{name}` is not long any more: take it off the list");
            problems.push(Problem::new(LONG_FNS, 0, what));
        }
    }
    problems
}

#[derive(Debug, Eq, PartialEq)]
struct Function<'a> {
    name: &'a str,
    at: usize,
    lines: usize,
}

/// The functions of a formatted file: each ends at the closing brace that stands as far in as its
/// `fn` does.
fn functions(text: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let indent = line.len() - line.trim_start().len();
        let closing = format!("{}}}", &line[..indent]);
        let Some(opening) = (at..lines.len()).find(|i| lines[*i].ends_with(['{', '}', ';'])) else {
            continue;
        };
        if lines[opening].ends_with('{')
            && let Some(end) = (opening..lines.len()).find(|i| lines[*i] == closing)
        {
            found.push(Function { name, at: at + 1, lines: end - at + 1 });
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix("fn ") {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
            return Some(&after[..end]).filter(|name| !name.is_empty());
        }
        let (word, after) = rest.split_once(' ')?;
        let qualifies = ["pub", "const", "async", "unsafe", "extern", "\"C\""].contains(&word)
            || word.starts_with("pub(");
        if !qualifies {
            return None;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&File { path: path.into(), text: text.into() }).into_iter().map(|p| p.what).collect()
    }

    #[test]
    fn long_files_are_found_unless_they_are_tables() {
        let long = "x\n".repeat(FILE_LINES_MAX + 1);
        assert_eq!(problems("a.rs", &long).len(), 1);
        assert_eq!(problems("a.rs", &long[2..]), [""; 0]);
        assert_eq!(problems("a.rs", &format!("//! tidy: table\n{long}")), [""; 0]);
        assert_eq!(problems("a.txt", &long), [""; 0], "only source files have a limit");
    }

    #[test]
    fn empty_names_are_found_in_files_and_folders() {
        assert_eq!(problems("src/utils.rs", "").len(), 1);
        assert_eq!(problems("src/misc/a.rs", "").len(), 1);
        assert_eq!(problems("src/commonplace.rs", ""), [""; 0]);
    }

    #[test]
    fn sources_are_ascii() {
        assert_eq!(problems("a.rs", "let a = \"\u{e9}\";").len(), 1);
        assert_eq!(problems("a.py", "a = \"\u{e9}\""), [""; 0]);
    }

    #[test]
    fn pure_crates_name_no_clock() {
        let clock = "let now = Instant::now();";
        assert_eq!(problems("crates/arknet-protocol/src/a.rs", clock).len(), 1);
        assert_eq!(problems("crates/arknet-mesh/src/a.rs", clock), [""; 0]);
        assert_eq!(problems("crates/arknet-types/src/a.rs", "// at this Instantly"), [""; 0]);
    }

    #[test]
    fn a_reminder_names_its_issue() {
        assert_eq!(problems("a.rs", &format!("// {REMINDER}: later")).len(), 1);
        assert_eq!(problems("a.rs", &format!("// {REMINDER}(#x)")).len(), 1);
        assert_eq!(problems("a.rs", &format!("// {REMINDER}(#12): later")), [""; 0]);
        assert_eq!(problems("a.rs", &format!("let MAS{REMINDER}N = 1;")), [""; 0]);
    }

    #[test]
    fn functions_are_measured_from_name_to_brace() {
        let text = "impl A {\n    pub(crate) async fn a(\n        x: u8,\n    ) -> u8 {\n        if x \
                    {\n        }\n        x\n    }\n}\n\ntrait B {\n    fn b(&self);\n    fn c() {}\n}\n\
                    fn d() {\n}\n";
        let found: Vec<_> = functions(text).into_iter().map(|f| (f.name, f.at, f.lines)).collect();
        assert_eq!(found, [("a", 2, 7), ("d", 15, 2)]);
    }

    #[test]
    fn a_function_type_is_no_function() {
        assert_eq!(functions("let f: fn(u8) = |_| {\n};\n// fn x() {\n"), []);
    }

    #[test]
    fn long_functions_may_shrink_but_not_grow() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    x;\n".repeat(lines - 2));
        let tree = |lines, list: &str| Tree {
            files: vec![
                File { path: "a.rs".into(), text: function(lines) },
                File { path: LONG_FNS.into(), text: list.into() },
            ],
            paths: vec![],
        };
        let count = |lines, list| check_long_functions(&tree(lines, list)).len();
        assert_eq!(count(70, ""), 0);
        assert_eq!(count(71, ""), 1);
        assert_eq!(count(71, "a.rs f 80\n"), 0);
        assert_eq!(count(81, "a.rs f 80\n"), 1);
        assert_eq!(count(70, "a.rs f 80\n"), 1, "a short one leaves the list");
        assert_eq!(count(70, "nonsense\n"), 1);
    }
}
