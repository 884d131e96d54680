//! Reads the log: to check it, to show its end, to hand it on.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use arknet_protocol::audit::{Event, Head, HeadSeen, Place, Problem, Report, Verifier};
use serde::{Deserialize, Serialize};

use super::{AuditError, at, disk::Found};

/// Bytes of one line; what is longer is none.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The files of a log: the present one, those before it, and the one that tells of its end.
#[derive(Clone, Debug)]
pub struct AuditFiles {
    path: PathBuf,
}

/// A line as it is shown.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Logged {
    /// Its number.
    pub sequence: u64,
    /// When it was written.
    pub timestamp: String,
    /// What it says.
    #[serde(flatten)]
    pub event: Event,
}

/// One line of a file.
enum Read<'a> {
    Whole(&'a [u8]),
    Torn,
}

impl AuditFiles {
    /// The log whose present file is this one.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file that tells of the last line.
    #[must_use]
    pub fn head_path(&self) -> PathBuf {
        self.beside("head")
    }

    pub(super) fn next_path(&self) -> PathBuf {
        self.beside("next")
    }

    pub(super) fn part_path(&self, first: u64) -> PathBuf {
        self.beside(&format!("{first:012}"))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(ending);
        self.path.with_file_name(name)
    }

    /// The files with lines, in their order.
    pub fn parts(&self) -> Result<Vec<PathBuf>, AuditError> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".";
        let mut parts = Vec::new();
        for entry in fs::read_dir(directory).map_err(at(directory))? {
            let entry = entry.map_err(at(directory))?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some(Ok(first)) = file.strip_prefix(&name).map(str::parse::<u64>) {
                parts.push((first, entry.path()));
            }
        }
        parts.sort();
        let mut parts: Vec<_> = parts.into_iter().map(|(_, path)| path).collect();
        if self.path.exists() {
            parts.push(self.path.clone());
        }
        if parts.is_empty() {
            return Err(AuditError::Missing { path: self.path.clone() });
        }
        Ok(parts)
    }

    /// The last line that the node has noted; none where there is no such file.
    pub fn head(&self) -> Result<Option<Head>, AuditError> {
        let path = self.head_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(AuditError::Io { path, source }),
        };
        // Made, and nothing noted yet.
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| AuditError::Head { path })
    }

    /// Checks the whole log against its head and what else is known of it. `first` is the number it
    /// must begin with.
    pub fn verify(&self, first: u64, mut known: Vec<Head>) -> Result<Report, AuditError> {
        // First the head, then the log: what is written in between is no contradiction.
        let head = self.head();
        known.extend(head.as_ref().ok().copied().flatten());
        let mut report = verify(&self.parts()?, Some(first), known)?;
        // A line that is being written at this moment is not one that was cut.
        if matches!(head, Ok(Some(_))) && report.findings.len() == 1 {
            report.findings.retain(|finding| finding.problem != Problem::Unfinished);
        }
        if !matches!(head, Ok(Some(_))) {
            report.add(Problem::NoHead);
        }
        Ok(report)
    }

    /// The last lines of the log, oldest first.
    pub fn tail(&self, lines: usize) -> Result<Vec<String>, AuditError> {
        let mut tail = VecDeque::new();
        for part in self.parts()?.iter().rev() {
            let mut of_part = VecDeque::new();
            each_line(part, |line| {
                if let Read::Whole(line) = line {
                    of_part.push_back(String::from_utf8_lossy(line).into_owned());
                    if of_part.len() > lines - tail.len() {
                        of_part.pop_front();
                    }
                }
            })?;
            of_part.append(&mut tail);
            tail = of_part;
            if tail.len() >= lines {
                break;
            }
        }
        Ok(tail.into())
    }

    /// What a node finds that opens the log.
    pub(super) fn survey(&self) -> Result<Found, AuditError> {
        let head = self.head();
        let noted = head.as_ref().ok().copied().flatten();
        let bytes = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let parts = match self.parts() {
            Err(AuditError::Missing { .. }) => vec![],
            parts => parts?,
        };
        // The newest file with a line in it tells all that counts.
        let newest = parts
            .iter()
            .rev()
            .find(|part| fs::metadata(part).is_ok_and(|metadata| metadata.len() > 0));
        let known = noted.into_iter().collect();
        let report = match newest {
            Some(part) => verify(std::slice::from_ref(part), None, known)?,
            None => Report::default(),
        };
        let last = [report.head, noted].into_iter().flatten().max_by_key(|head| head.sequence);
        let differs = noted.is_some_and(|noted| {
            let is_there = report.head.is_some_and(|head| head.sequence >= noted.sequence)
                && !report.findings.iter().any(|f| matches!(f.problem, Problem::Replaced { .. }));
            !is_there
        });
        let head = match (noted, &head) {
            (Some(_), _) if differs => HeadSeen::Differs,
            (Some(_), _) => HeadSeen::Agrees,
            (None, Ok(_)) if last.is_none() => HeadSeen::Agrees,
            (None, _) => HeadSeen::Missing,
        };
        if !report.is_sound() {
            let problem = report.findings[0].problem;
            tracing::error!(path = %self.path.display(), %problem, "the audit log is damaged; see: arknet audit verify");
        }
        let next = last.map_or(0, |last| last.sequence + 1);
        let first = if bytes == 0 { next } else { report.first.unwrap_or(next) };
        let unclosed = report.open.len() as u64;
        Ok(Found { last, head, first, bytes, unclosed, torn_bytes: 0 })
    }
}

/// Checks these files as one log that begins with line `first`, or with any.
pub fn verify(
    parts: &[PathBuf],
    first: Option<u64>,
    known: Vec<Head>,
) -> Result<Report, AuditError> {
    let mut verifier = Verifier::new(first, known);
    for (file, part) in parts.iter().enumerate() {
        let mut place = Place { file, line: 0 };
        each_line(part, |line| {
            place.line += 1;
            match line {
                Read::Whole(line) => verifier.line(place, line),
                Read::Torn => verifier.torn(place),
            }
        })?;
    }
    Ok(verifier.finish())
}

/// Hands over what the lines of these files say, in order; what is no line is left out.
pub fn each_event(
    parts: &[PathBuf],
    mut take: impl FnMut(Logged) -> io::Result<()>,
) -> Result<(), AuditError> {
    for part in parts {
        let mut result = Ok(());
        each_line(part, |line| {
            let Read::Whole(line) = line else { return };
            if result.is_ok()
                && let Ok(logged) = serde_json::from_slice(line)
            {
                result = take(logged);
            }
        })?;
        result.map_err(at(part))?;
    }
    Ok(())
}

fn each_line(path: &Path, mut take: impl FnMut(Read<'_>)) -> Result<(), AuditError> {
    let mut reader = BufReader::with_capacity(1 << 18, File::open(path).map_err(at(path))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = io::Read::take(&mut reader, LINE_BYTES_MAX as u64);
        if limited.read_until(b'\n', &mut line).map_err(at(path))? == 0 {
            return Ok(());
        }
        match line.strip_suffix(b"\n") {
            Some(line) => take(Read::Whole(line)),
            None => take(Read::Torn),
        }
    }
}
