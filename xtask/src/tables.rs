//! Tables in documents that the checks read, so that a rule has one home.

/// The rows between `<!-- NAME:begin -->` and `<!-- NAME:end -->`, heading and ruler left out: the
/// name in the first cell, and the names in the second. Names stand in backticks; a second cell
/// without any is its words.
pub(crate) fn rows<'a>(document: &'a str, name: &str) -> Option<Vec<(&'a str, Vec<&'a str>)>> {
    cells(document, name)?
        .map(|(first, second)| {
            let mut values = names(second);
            if values.is_empty() {
                values.push(second.trim());
            }
            Some((*names(first).first()?, values))
        })
        .collect()
}

/// All names in the first cells of the same kind of table.
pub(crate) fn first_names<'a>(document: &'a str, name: &str) -> Option<Vec<&'a str>> {
    Some(cells(document, name)?.flat_map(|(first, _)| names(first)).collect())
}

fn cells<'a>(
    document: &'a str,
    name: &str,
) -> Option<impl Iterator<Item = (&'a str, &'a str)> + use<'a>> {
    let (_, rest) = document.split_once(&format!("<!-- {name}:begin -->"))?;
    let (table, _) = rest.split_once(&format!("<!-- {name}:end -->"))?;
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    Some(rows.filter_map(|row| {
        let mut cells = row.trim().trim_matches('|').split('|');
        Some((cells.next()?, cells.next()?))
    }))
}

fn names(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_between_its_markers() {
        let document = "| `x` | `no` |\n<!-- t:begin -->\n| a | b |\n|---|---|\n| `p` | `q`, `r` | w |\n\
                        | `s` | nothing |\n<!-- t:end -->\n| `y` | `no` |\n";
        assert_eq!(rows(document, "t"), Some(vec![("p", vec!["q", "r"]), ("s", vec!["nothing"])]));
        assert_eq!(rows(document, "u"), None);
        assert_eq!(first_names(document, "t"), Some(vec!["p", "s"]));
    }
}
