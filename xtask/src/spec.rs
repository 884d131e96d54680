//! Whether `spec/wire.md` lists what the code has.

use crate::{Problem, Tree, text::holds_word};

const REFUSAL: &str = "crates/arknet-types/src/refusal.rs";
const LIMITS: &str = "crates/arknet-types/src/limits.rs";
const WIRE: &str = "spec/wire.md";

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = check_refusals(tree.text(REFUSAL), tree.text(WIRE));
    let others = tree.files.iter().filter(|f| f.has_extension(&["rs"]) && f.path != LIMITS);
    let others: Vec<&str> = others.map(|file| file.text.as_str()).collect();
    problems.extend(check_limits(tree.text(LIMITS), tree.text(WIRE), &others));
    problems
}

/// Every refusal code stands in the document as a row that begins with its number and name.
fn check_refusals(source: &str, wire: &str) -> Vec<Problem> {
    let codes = variants(source, "pub enum RefusalCode {");
    if codes.is_empty() {
        return vec![Problem::new(REFUSAL, 0, "no refusal codes found: has the file moved?")];
    }
    let rows: Vec<Vec<&str>> = wire.lines().map(cells).collect();
    let missing = codes.into_iter().filter(|(name, number)| {
        !rows.iter().any(|row| row.starts_with(&[number, &format!("`{}`", snake(name))]))
    });
    missing
        .map(|(name, number)| {
            let what = format!("no row `| {number} | \\`{}\\` |` for a refusal code", snake(name));
            Problem::new(WIRE, 0, what)
        })
        .collect()
}

/// Every limit is used by some code, and stands in the document.
fn check_limits(source: &str, wire: &str, others: &[&str]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, line) in (1..).zip(source.lines()) {
        let Some((name, _)) = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(':'))
        else {
            continue;
        };
        if !others.iter().any(|text| holds_word(text, name)) {
            problems.push(Problem::new(LIMITS, at, format!("`{name}` limits nothing")));
        }
        if !holds_word(wire, name) {
            problems.push(Problem::new(WIRE, 0, format!("the limit `{name}` is missing")));
        }
    }
    if !source.contains("pub const ") {
        problems.push(Problem::new(LIMITS, 0, "no limits found: has the file moved?"));
    }
    problems
}

/// The variants `Name = number,` of an enum.
fn variants<'a>(source: &'a str, header: &str) -> Vec<(&'a str, &'a str)> {
    let body = source.lines().skip_while(|line| *line != header).skip(1);
    body.take_while(|line| *line != "}")
        .filter_map(|line| line.trim().strip_suffix(',')?.split_once(" = "))
        .collect()
}

fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_codes_are_documented_with_their_numbers() {
        let source =
            "pub enum RefusalCode {\n    /// Words, 3 = x.\n    Busy = 1,\n    TooLarge = 2,\n}\n";
        let good = "| 1 | `busy` | x |\n| 2 | `too_large` | y |\n";
        assert_eq!(check_refusals(source, good), []);
        assert_eq!(check_refusals(source, "| 1 | `busy` |\n").len(), 1);
        assert_eq!(check_refusals(source, &good.replace('2', "3")).len(), 1);
        assert_eq!(check_refusals("", good).len(), 1, "a moved file is noticed");
    }

    #[test]
    fn limits_are_used_and_documented() {
        let source = "/// Doc.\npub const A_MAX: u8 = 1;\n";
        assert_eq!(check_limits(source, "`A_MAX`", &["if n > A_MAX {}"]), []);
        assert_eq!(check_limits(source, "`A_MAX`", &["if n > A_MAXIMUM {}"]).len(), 1);
        assert_eq!(check_limits(source, "", &["A_MAX"]).len(), 1);
        assert_eq!(check_limits("", "", &[]).len(), 1);
    }
}
