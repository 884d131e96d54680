//! The files of the log as the writer sees them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use arknet_protocol::audit::{Head, HeadSeen};

use super::{AuditError, at, reader::AuditFiles};

/// What the writer needs of a disk.
pub(super) trait Disk: Send {
    /// Puts bytes at the end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything is on the disk.
    fn sync(&mut self) -> io::Result<()>;
    /// Takes away what lies beyond so many bytes.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
    /// Notes the last line apart from the log.
    fn note(&mut self, head: Head) -> io::Result<()>;
    /// Goes on in a new file; the present one begins with line `first`.
    fn rotate(&mut self, first: u64) -> io::Result<()>;
}

/// What was found when the log was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The line after which the log goes on; none in a new log.
    pub(super) last: Option<Head>,
    /// What the head said.
    pub(super) head: HeadSeen,
    /// The number of the first line of the present file.
    pub(super) first: u64,
    /// Bytes of the present file.
    pub(super) bytes: u64,
    /// Requests opened and not closed.
    pub(super) unclosed: u64,
    /// Bytes of an unfinished line that were taken away.
    pub(super) torn_bytes: u64,
}

/// The log in files.
pub(super) struct FileDisk {
    files: AuditFiles,
    log: File,
    head: File,
}

impl FileDisk {
    pub(super) fn open(path: &Path) -> Result<(Self, Found), AuditError> {
        let files = AuditFiles::new(path.to_owned());
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(at(directory))?;
        }
        let next = files.next_path();
        // A crash in the middle of a change of files left the new one under its first name.
        if !path.exists() && next.exists() {
            fs::rename(&next, path).map_err(at(path))?;
        }
        let torn_bytes = cut_torn_line(path).map_err(at(path))?;
        let mut found = files.survey()?;
        found.torn_bytes = torn_bytes;
        let log = append_to(path).map_err(at(path))?;
        let head_path = files.head_path();
        let head = private().create(true).truncate(false).write(true).open(&head_path);
        let head = head.map_err(at(&head_path))?;
        Ok((Self { files, log, head }, found))
    }
}

impl Disk for FileDisk {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.log.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.log.sync_data()
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.log.set_len(bytes)
    }

    fn note(&mut self, head: Head) -> io::Result<()> {
        // In its place and always of one length: less than the disk writes at once, so that it is
        // either the old one or the new one.
        let text = format!("{:020}:{}\n", head.sequence, hex::encode(head.hash));
        let done = rustix::io::pwrite(&self.head, text.as_bytes(), 0)?;
        if done == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn rotate(&mut self, first: u64) -> io::Result<()> {
        let (path, next) = (self.files.path().to_owned(), self.files.next_path());
        let full = self.files.part_path(first);
        let log = append_to(&next)?;
        fs::rename(&path, &full)?;
        if let Err(error) = fs::rename(&next, &path) {
            fs::rename(&full, &path)?;
            return Err(error);
        }
        self.log = log;
        self.head.sync_data()?;
        sync_directory(&path)
    }
}

/// Removes a line that a killed process did not finish.
fn cut_torn_line(path: &Path) -> io::Result<u64> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(whole as u64)?;
        file.sync_data()?;
    }
    Ok((bytes.len() - whole) as u64)
}

/// Who reads the log is for its owner to say.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn append_to(path: &Path) -> io::Result<File> {
    let file = private().create(true).append(true).open(path)?;
    sync_directory(path)?;
    Ok(file)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.map_or_else(|| PathBuf::from("."), Path::to_owned))?.sync_all()
}
