use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context, ensure};

/// Something to put right, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file, from the root.
    pub path: String,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { path: path.into(), line, what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// A file of text under version control.
#[derive(Clone, Debug)]
pub struct File {
    /// From the root, with slashes.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl File {
    pub(crate) fn has_extension(&self, extensions: &[&str]) -> bool {
        Path::new(&self.path)
            .extension()
            .is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    }
}

/// The files under version control, and those about to be.
#[derive(Debug)]
pub struct Tree {
    /// The text files. Binary files are left out.
    pub files: Vec<File>,
    /// The paths of all files and folders.
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads what git knows, and what it would take with the next `git add`.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let listing = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(root)
            .output()
            .context("running git")?;
        ensure!(listing.status.success(), "git ls-files failed");
        let listing = String::from_utf8(listing.stdout).context("a path is not UTF-8")?;
        let mut tree = Self { files: Vec::new(), paths: Vec::new() };
        for path in listing.split_terminator('\0') {
            // Files deleted but still in the index, and links, are not there to be read.
            let Ok(bytes) = fs::read(root.join(path)) else {
                continue;
            };
            tree.add_path(path);
            if let Ok(text) = String::from_utf8(bytes) {
                tree.files.push(File { path: path.into(), text });
            }
        }
        Ok(tree)
    }

    /// The text of one file, empty when there is none: the checks then miss what it should hold.
    #[must_use]
    pub fn text(&self, path: &str) -> &str {
        self.files.iter().find(|f| f.path == path).map_or("", |f| &f.text)
    }

    fn add_path(&mut self, path: &str) {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for known in folders.chain([path]) {
            if !self.paths.iter().any(|p| p == known) {
                self.paths.push(known.into());
            }
        }
    }
}
