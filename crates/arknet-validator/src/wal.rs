//! What must survive a crash while a height is decided: records of consensus, and transactions that
//! somebody here was told are safe. One file, to which is only added until a block makes it
//! superfluous.
//!
//! A record is its length (`u32`), 16 bytes of BLAKE3 over its place in the file and its bytes, and
//! the bytes. What a crash left half written, and all behind it, is cut off when the file is opened:
//! it was never synced, so nothing depends on it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::limits::WAL_RECORD_BYTES_MAX;

pub(crate) const FILE_NAME: &str = "consensus.wal";
const DRAFT_NAME: &str = "consensus.wal.new";
/// What a file of this form begins with.
const MAGIC: &[u8; 16] = b"arknet-wal/1\n\0\0\0";
const HEAD_BYTES: usize = 20;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// There is no room.
    #[error("the disk that holds {} is full; make room and start again", .0.display())]
    DiskFull(PathBuf),
    /// It begins with something else, or holds what this version does not know: a node that forgot
    /// what it said would say something else.
    #[error("{} is not a log of this version", .0.display())]
    Foreign(PathBuf),
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// More bytes than a record may have.
    #[error("a record of {found} bytes does not fit into the log")]
    TooLarge {
        /// What it has.
        found: usize,
    },
}

/// The log.
#[derive(Debug)]
pub(crate) struct Wal {
    directory: PathBuf,
    file: File,
    bytes: u64,
    /// What is to be written.
    buffer: Vec<u8>,
    is_dirty: bool,
}

impl Wal {
    /// Opens the log in `directory`, or makes one, and shows each record to `read`, in order.
    pub(crate) fn open(directory: &Path, mut read: impl FnMut(&[u8])) -> Result<Self, WalError> {
        let path = directory.join(FILE_NAME);
        if !path.exists() {
            return Self::make(directory, std::iter::empty::<&[u8]>());
        }
        let error = fault(&path);
        let mut file = OpenOptions::new().read(true).write(true).open(&path).map_err(&error)?;
        let length = file.metadata().map_err(&error)?.len();
        let whole = replay(&mut BufReader::new(&file), &mut read).map_err(&error)?;
        let Some(bytes) = whole else { return Err(WalError::Foreign(path)) };
        if bytes < length {
            tracing::warn!(cut = length - bytes, "the log ends in a record that was not finished");
            file.set_len(bytes).map_err(&error)?;
            file.sync_all().map_err(&error)?;
        }
        file.seek(SeekFrom::Start(bytes)).map_err(&error)?;
        let directory = directory.to_owned();
        Ok(Self { directory, file, bytes, buffer: Vec::new(), is_dirty: false })
    }

    /// A new log with these records in the place of any there was, complete or not at all.
    fn make<T: AsRef<[u8]>>(
        directory: &Path,
        records: impl IntoIterator<Item = T>,
    ) -> Result<Self, WalError> {
        let draft = directory.join(DRAFT_NAME);
        let error = fault(&draft);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = options.open(&draft).map_err(&error)?;
        file.write_all(MAGIC).map_err(&error)?;
        let mut wal = Self {
            directory: directory.to_owned(),
            file,
            bytes: MAGIC.len() as u64,
            buffer: Vec::new(),
            is_dirty: true,
        };
        for record in records {
            wal.append(record.as_ref())?;
        }
        wal.sync()?;
        fs::rename(&draft, directory.join(FILE_NAME)).map_err(&error)?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(&error)?;
        Ok(wal)
    }

    /// Bytes of the file, what is still to be written included.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a record, which is not safe before [`sync`](Self::sync).
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<(), WalError> {
        let length = u32::try_from(record.len()).ok();
        let length = length.filter(|_| record.len() <= WAL_RECORD_BYTES_MAX);
        let length = length.ok_or(WalError::TooLarge { found: record.len() })?;
        self.buffer.extend(length.to_le_bytes());
        self.buffer.extend(check(self.bytes, record));
        self.buffer.extend(record);
        self.bytes += (HEAD_BYTES + record.len()) as u64;
        self.is_dirty = true;
        Ok(())
    }

    /// Whether something is not safe yet.
    pub(crate) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// When this returns, everything added is safe. After an error nothing may go on: what the
    /// system did with the bytes is unknown.
    pub(crate) fn sync(&mut self) -> Result<(), WalError> {
        let error = fault(&self.directory.join(FILE_NAME));
        self.file.write_all(&self.buffer).map_err(&error)?;
        self.buffer.clear();
        self.file.sync_data().map_err(&error)?;
        self.is_dirty = false;
        Ok(())
    }

    /// Leaves nothing but these records.
    pub(crate) fn replace<T: AsRef<[u8]>>(
        self,
        records: impl IntoIterator<Item = T>,
    ) -> Result<Self, WalError> {
        Self::make(&self.directory, records)
    }
}

fn check(place: u64, record: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&place.to_le_bytes()).update(record);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Reads as far as everything is whole, and returns how far that is; none where it is no log.
fn replay(file: &mut impl Read, read: &mut impl FnMut(&[u8])) -> io::Result<Option<u64>> {
    let mut magic = [0; MAGIC.len()];
    if !fill(file, &mut magic)? || magic != *MAGIC {
        return Ok(None);
    }
    let mut place = MAGIC.len() as u64;
    let mut record = Vec::new();
    loop {
        let mut head = [0; HEAD_BYTES];
        if !fill(file, &mut head)? {
            return Ok(Some(place));
        }
        let (length, expected) = head.split_first_chunk().expect("a head is longer");
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > WAL_RECORD_BYTES_MAX {
            return Ok(Some(place));
        }
        record.resize(length, 0);
        if !fill(file, &mut record)? || check(place, &record) != *expected {
            return Ok(Some(place));
        }
        read(&record);
        place += (HEAD_BYTES + length) as u64;
    }
}

/// Whether there were so many bytes.
fn fill(file: &mut impl Read, out: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(out) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn fault(path: &Path) -> impl Fn(io::Error) -> WalError + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            WalError::DiskFull(path.clone())
        }
        _ => WalError::Io { path: path.clone(), source },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn open(directory: &Path) -> (Wal, Vec<Vec<u8>>) {
        let mut found = Vec::new();
        let wal = Wal::open(directory, |record| found.push(record.to_vec())).unwrap();
        (wal, found)
    }

    #[test]
    fn what_was_written_is_there_again_and_goes_when_it_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let (mut wal, found) = open(home.path());
        assert_eq!((found.len(), wal.is_dirty()), (0, false));
        wal.append(b"one").unwrap();
        wal.append(b"").unwrap();
        assert!(wal.is_dirty());
        wal.sync().unwrap();
        let (mut wal, found) = open(home.path());
        assert_eq!(found, [b"one".to_vec(), vec![]]);
        wal.append(b"two").unwrap();
        wal.sync().unwrap();
        let mut wal = wal.replace([b"two"]).unwrap();
        wal.append(b"three").unwrap();
        wal.sync().unwrap();
        let length = fs::metadata(home.path().join(FILE_NAME)).unwrap().len();
        assert_eq!(wal.bytes(), length);
        assert_eq!(open(home.path()).1, [b"two".to_vec(), b"three".to_vec()]);
        let large = vec![0; WAL_RECORD_BYTES_MAX + 1];
        assert!(matches!(wal.append(&large), Err(WalError::TooLarge { .. })));
    }

    #[test]
    fn a_file_that_is_no_log_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), b"arknet-wal/9\n\0\0\0 and more").unwrap();
        assert!(matches!(Wal::open(home.path(), |_| {}), Err(WalError::Foreign(_))));
    }

    proptest! {
        /// Whatever a crash makes of the bytes behind the last sync, and wherever it cuts the file:
        /// what was synced is there, nothing that was not written appears, and the log goes on.
        #[test]
        fn a_crash_takes_nothing_that_was_synced(
            synced in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            later in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            length in 0_usize..500,
            noise in prop::collection::vec((0_usize..500, any::<u8>()), 0..6),
        ) {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join(FILE_NAME);
            let (mut wal, _) = open(home.path());
            for record in &synced {
                wal.append(record).unwrap();
            }
            wal.sync().unwrap();
            let safe = usize::try_from(wal.bytes()).unwrap();
            for record in &later {
                wal.append(record).unwrap();
            }
            wal.sync().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes.resize(safe + length, 0);
            for (at, byte) in noise {
                if let Some(found) = bytes.get_mut(safe + at) {
                    *found = byte;
                }
            }
            fs::write(&path, &bytes).unwrap();
            let (mut wal, found) = open(home.path());
            prop_assert!(found.len() >= synced.len());
            let written: Vec<_> = synced.iter().chain(&later).cloned().collect();
            prop_assert_eq!(&found[..], &written[..found.len()]);
            wal.append(b"next").unwrap();
            wal.sync().unwrap();
            let (_, after) = open(home.path());
            prop_assert_eq!(after.len(), found.len() + 1);
            prop_assert_eq!(after.last().unwrap(), b"next");
        }
    }
}
