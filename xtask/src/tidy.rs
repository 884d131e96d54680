use std::path::Path;

use crate::{Problem, Tree, deps, docs, licences, source, spec, text};

/// Runs every check on the tree at `root`.
pub fn tidy(root: &Path) -> anyhow::Result<Vec<Problem>> {
    let tree = Tree::read(root)?;
    let mut problems = Vec::new();
    for file in &tree.files {
        problems.extend(source::check(file));
        problems.extend(text::check(file));
        problems.extend(docs::check(file, &tree.paths));
    }
    problems.extend(source::check_long_functions(&tree));
    problems.extend(docs::check_changelog(tree.text("CHANGELOG.md")));
    problems.extend(spec::check(&tree));
    problems.extend(deps::check(root, &tree)?);
    problems.extend(licences::check(root, &tree)?);
    problems.sort_by(|a, b| (&a.path, a.line, &a.what).cmp(&(&b.path, b.line, &b.what)));
    Ok(problems)
}
