//! The file of approved peers on disk, which people edit while this program writes it too.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use arknet_protocol::Grants;

use super::{
    document,
    limits::{FILE_BYTES_MAX, ROUNDS_MAX},
};

/// How a file looked when it was read: enough to tell that it is another one now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp([i128; 5]);

/// What was found where the file should be.
pub(super) struct Found {
    pub(super) stamp: Option<Stamp>,
    /// None where there is no file.
    pub(super) text: Option<Vec<u8>>,
}

/// Why a change did not get into the file.
#[derive(Debug)]
pub(super) enum WriteError<E> {
    /// The change itself cannot be made.
    Change(E),
    /// What stands there cannot be read: with words, and line and column.
    Broken(String),
    /// The system says no.
    Io(io::Error),
    /// Others kept writing at the same time.
    Contended,
}

impl<E> From<io::Error> for WriteError<E> {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(unix)]
fn stamp_of(metadata: &Metadata) -> Stamp {
    use std::os::unix::fs::MetadataExt;
    let nanos = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp([
        metadata.dev().into(),
        metadata.ino().into(),
        metadata.len().into(),
        nanos(metadata.mtime(), metadata.mtime_nsec()),
        nanos(metadata.ctime(), metadata.ctime_nsec()),
    ])
}

#[cfg(not(unix))]
fn stamp_of(metadata: &Metadata) -> Stamp {
    let since = |at: io::Result<std::time::SystemTime>| {
        let since = at.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_nanos().try_into().unwrap_or(0))
    };
    Stamp([metadata.len().into(), since(metadata.modified()), since(metadata.created()), 0, 0])
}

/// How the file looks now.
pub(super) fn stamp(path: &Path) -> io::Result<Option<Stamp>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(stamp_of(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the file. The stamp is of what was read, or older: a change during the reading is noticed
/// later.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Found { stamp: None, text: None });
        }
        Err(error) => return Err(error),
    };
    let stamp = stamp_of(&file.metadata()?);
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Found { stamp: Some(stamp), text: Some(text) })
}

/// Reads what was found; a file that is not there approves nobody.
pub(super) fn parse(text: Option<&[u8]>) -> Result<Grants, String> {
    text.map_or_else(|| Ok(Grants::new()), |text| document::read(text).map_err(|e| e.to_string()))
}

/// Makes a change to what stands in the file, and writes it whole or not at all. What somebody else
/// wrote in between is taken in: the change is then made to that. Returns what the last call of
/// `change` returned, and what stands in the file now.
pub(super) fn rewrite<T, E>(
    path: &Path,
    mut change: impl FnMut(&mut Grants) -> Result<T, E>,
) -> Result<(T, Grants), WriteError<E>> {
    let mut base = read(path)?.text;
    let mut expected = base.clone();
    for _ in 0..ROUNDS_MAX {
        let mut grants = parse(base.as_deref()).map_err(WriteError::Broken)?;
        let result = change(&mut grants).map_err(WriteError::Change)?;
        let text = document::write(&grants);
        let displaced = put(path, &text)?;
        if displaced == expected {
            return Ok((result, grants));
        }
        // Somebody has written since: what is gone from the file now is their text.
        if let Err(words) = parse(displaced.as_deref()) {
            let aside = path.with_extension("edited.json");
            fs::write(&aside, displaced.unwrap_or_default())?;
            tracing::error!(
                file = %aside.display(), error = words,
                "an edit of the approved peers that cannot be read came at the same moment as \
                 another change; it was put aside"
            );
            return Ok((result, grants));
        }
        tracing::info!("the approved peers were edited at the same moment; both changes count");
        (base, expected) = (displaced, Some(text));
    }
    Err(WriteError::Contended)
}

/// Puts a text where the file is. Returns what stood there until that moment.
fn put(path: &Path, text: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let draft = draft(path);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let placed = options.open(&draft).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()?;
        exchange(&draft, path)
    });
    let displaced = placed.inspect_err(|_| {
        // A full disk must not stay full of drafts.
        let _ = fs::remove_file(&draft);
    })?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(displaced)
}

fn draft(path: &Path) -> PathBuf {
    path.with_extension("draft")
}

/// Lets the draft take the place of the file, and returns what was in its place.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn exchange(draft: &Path, path: &Path) -> io::Result<Option<Vec<u8>>> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, draft, CWD, path, RenameFlags::EXCHANGE) {
        // What was displaced may still be written to by an editor that has it open: it is read
        // after the exchange.
        Ok(()) => {
            let displaced = fs::read(draft)?;
            fs::remove_file(draft)?;
            Ok(Some(displaced))
        }
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => replace(draft, path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn exchange(draft: &Path, path: &Path) -> io::Result<Option<Vec<u8>>> {
    replace(draft, path)
}

/// The same where the system cannot exchange two files: what is written in the instant between the
/// reading and the renaming is lost.
fn replace(draft: &Path, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let displaced = read(path)?.text;
    fs::rename(draft, path)?;
    Ok(displaced)
}
