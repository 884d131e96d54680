use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    chain::{AFTER_HASH, BEFORE_HASH, HASH_BYTES, Head},
    event::{HeadSeen, Outline},
};

/// Problems that are told one by one; what is beyond is counted.
const PROBLEMS_MAX: usize = 100;
/// Requests without an end that are told one by one.
const UNCLOSED_MAX: usize = 4096;

/// Where a line stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Place {
    /// Which of the files, counted from 0.
    pub file: usize,
    /// Which line of it, counted from 1.
    pub line: u64,
}

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Problem {
    /// The line's hash is not that of its content.
    Changed,
    /// This is not a line of such a log, or a part of one.
    NotALine,
    /// The last thing of a file is a line without its end.
    Unfinished,
    /// What tells of the end of the log is missing: whether lines were cut off cannot be told.
    NoHead,
    /// Another line belongs here: lines were taken out, put in or moved.
    OutOfOrder {
        /// The number of the line that belongs here.
        expected: u64,
        /// The number of the line that stands here.
        found: u64,
    },
    /// It does not follow from the line before.
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// The log begins later than it should.
    BeginningMissing {
        /// The number of the first line that is there.
        first: u64,
    },
    /// The log ends before a line that is known to have been there.
    EndMissing {
        /// The number of that line.
        known: u64,
    },
    /// A line that is known by its hash has another one.
    Replaced {
        /// Its number.
        sequence: u64,
    },
    /// When the node started here, the file with the head was gone: the end of what is before may
    /// have been cut off.
    HeadMissing {
        /// The number of the line that says so.
        sequence: u64,
    },
    /// When the node started here, the log had lost its end.
    HeadDiffered {
        /// The number of the line that says so.
        sequence: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("the line was changed"),
            Self::NotALine => f.write_str("this is no whole line of an audit log"),
            Self::Unfinished => f.write_str("the line has no end"),
            Self::NoHead => f.write_str(
                "the file that tells of the log's end is missing: whether lines were cut off cannot be told",
            ),
            Self::OutOfOrder { expected, found } => {
                write!(f, "line {expected} belongs here and line {found} stands here")
            }
            Self::Unlinked { sequence } => {
                write!(f, "line {sequence} does not follow from the line before it")
            }
            Self::BeginningMissing { first } => {
                write!(f, "the log begins with line {first}; what came before is missing")
            }
            Self::EndMissing { known } => {
                write!(f, "the end is missing: there was a line {known}")
            }
            Self::Replaced { sequence } => {
                write!(f, "line {sequence} is not the one that was there")
            }
            Self::HeadMissing { sequence } => write!(
                f,
                "line {sequence} says that the log's head was missing: lines before it may have been cut off"
            ),
            Self::HeadDiffered { sequence } => {
                write!(f, "line {sequence} says that the log had lost its end before it")
            }
        }
    }
}

/// A problem and where it was found; the end of the log has no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Where.
    pub place: Option<Place>,
    /// What.
    #[serde(flatten)]
    pub problem: Problem,
}

/// What a check has found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Lines read.
    pub lines: u64,
    /// The number of the first line.
    pub first: Option<u64>,
    /// The last line: its number and hash.
    #[serde(serialize_with = "head_text")]
    pub head: Option<Head>,
    /// The first problems.
    pub findings: Vec<Finding>,
    /// Problems beyond those.
    pub findings_more: u64,
    /// Requests that were begun and not ended by a life of the node that is over.
    pub interrupted: Vec<String>,
    /// Requests begun and not ended since the last start: they run, or the node was killed.
    pub open: Vec<String>,
}

impl Report {
    /// Adds what the log alone does not show.
    pub fn add(&mut self, problem: Problem) {
        self.findings.push(Finding { place: None, problem });
    }

    /// Whether nothing was done to the log, as far as can be told.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.findings.is_empty()
    }
}

fn head_text<S: serde::Serializer>(head: &Option<Head>, to: S) -> Result<S::Ok, S::Error> {
    match head {
        Some(head) => to.collect_str(head),
        None => to.serialize_none(),
    }
}

/// Checks a log line by line, in the order of its lines.
#[derive(Debug)]
pub struct Verifier {
    /// The number the first line must have; any when none.
    first: Option<u64>,
    known: Vec<Head>,
    /// The number and link of the line that comes next.
    next: Option<(u64, [u8; HASH_BYTES])>,
    open: BTreeMap<String, ()>,
    report: Report,
}

impl Verifier {
    /// A check of a log that begins with line `first`, and of which these lines are `known`.
    #[must_use]
    pub fn new(first: Option<u64>, known: Vec<Head>) -> Self {
        Self { first, known, next: None, open: BTreeMap::new(), report: Report::default() }
    }

    /// Takes the next line, without the byte that ends it.
    pub fn line(&mut self, place: Place, line: &[u8]) {
        self.report.lines += 1;
        let Some((body, hash)) = split(line) else {
            return self.found(Some(place), Problem::NotALine);
        };
        if <[u8; HASH_BYTES]>::from(Sha256::digest(body)) != hash {
            // Its number cannot be trusted. What follows is held against what it should have been.
            self.found(Some(place), Problem::Changed);
            self.next = self.next.map(|(sequence, _)| (sequence + 1, hash));
            return;
        }
        let text = [body, b"}"].concat();
        let Ok(outline) = serde_json::from_slice::<Outline>(&text) else {
            return self.found(Some(place), Problem::NotALine);
        };
        self.take(place, hash, outline);
    }

    /// A part of a line without its end, as the last thing of a file.
    pub fn torn(&mut self, place: Place) {
        self.found(Some(place), Problem::Unfinished);
    }

    fn take(&mut self, place: Place, hash: [u8; HASH_BYTES], outline: Outline) {
        let Outline { sequence, previous, event, job, head } = outline;
        match self.next {
            None => {
                self.report.first = Some(sequence);
                let first = self.first.unwrap_or(sequence);
                if sequence != first {
                    self.found(Some(place), Problem::BeginningMissing { first: sequence });
                } else if sequence == 0 && (event != "begin" || previous != "0".repeat(64)) {
                    self.found(Some(place), Problem::Unlinked { sequence });
                }
            }
            Some((expected, _)) if expected != sequence => {
                self.found(Some(place), Problem::OutOfOrder { expected, found: sequence });
            }
            Some((_, link)) if previous != hex::encode(link) => {
                self.found(Some(place), Problem::Unlinked { sequence });
            }
            Some(_) => {}
        }
        if self.known.iter().any(|head| head.sequence == sequence && head.hash != hash) {
            self.found(Some(place), Problem::Replaced { sequence });
        }
        match head {
            Some(HeadSeen::Missing) => {
                self.found(Some(place), Problem::HeadMissing { sequence });
            }
            Some(HeadSeen::Differs) => {
                self.found(Some(place), Problem::HeadDiffered { sequence });
            }
            Some(HeadSeen::Agrees) | None => {}
        }
        self.next = Some((sequence.saturating_add(1), hash));
        self.report.head = Some(Head { sequence, hash });
        match (event.as_str(), job) {
            ("open", Some(job)) if self.open.len() < UNCLOSED_MAX => {
                self.open.insert(job, ());
            }
            ("close", Some(job)) => {
                self.open.remove(&job);
            }
            // Whatever ran before a start was interrupted.
            ("start", _) => {
                let room = UNCLOSED_MAX.saturating_sub(self.report.interrupted.len());
                let interrupted = std::mem::take(&mut self.open);
                self.report.interrupted.extend(interrupted.into_keys().take(room));
            }
            _ => {}
        }
    }

    /// What was found, after the last line.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let last = self.report.head.map(|head| head.sequence);
        let newest = self.known.iter().map(|head| head.sequence).max();
        if let Some(known) = newest.filter(|known| last.is_none_or(|last| *known > last)) {
            self.found(None, Problem::EndMissing { known });
        }
        self.report.open = self.open.into_keys().collect();
        self.report
    }

    fn found(&mut self, place: Option<Place>, problem: Problem) {
        if self.report.findings.len() < PROBLEMS_MAX {
            self.report.findings.push(Finding { place, problem });
        } else {
            self.report.findings_more += 1;
        }
    }
}

/// A line taken apart into what is hashed and the hash.
fn split(line: &[u8]) -> Option<(&[u8], [u8; HASH_BYTES])> {
    let line = line.strip_suffix(AFTER_HASH.as_bytes())?;
    let (body, digits) = line.split_at_checked(line.len().checked_sub(2 * HASH_BYTES)?)?;
    let body = body.strip_suffix(BEFORE_HASH.as_bytes())?;
    // One way to write a hash: otherwise a digit could be changed to its capital.
    if digits.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    Some((body, hash))
}
