//! What must survive a crash while a height is decided: records of consensus, and transactions that
//! somebody here was told are safe. One file, to which is only added until a block makes it
//! superfluous.
//!
//! The file begins with 16 bytes that name its form, 32 of chance, and 16 of a hash of these. A record
//! is its length (`u32`), how far the file was synced before it was written (`u64`), 16 bytes of
//! BLAKE3 over its bytes, 16 over its place and all that, and the bytes. The 32 are the key of these
//! hashes, so that nothing in a record looks like another one. After each sync follows a record of no
//! bytes, which says so.
//!
//! What a crash left half written, and all behind it, is cut off when the file is opened: it was never
//! synced, so nothing depends on it. A sync writes in any order, so whole records may lie behind a
//! broken one even then; but where one of them says that the file was synced beyond the broken place,
//! the disk has lost what others were told, and the log is not opened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::limits::WAL_RECORD_BYTES_MAX;

pub(crate) const FILE_NAME: &str = "consensus.wal";
const DRAFT_NAME: &str = "consensus.wal.new";
/// What a file of this form begins with.
const MAGIC: &[u8; 16] = b"arknet-wal/3\n\0\0\0";
const BEGIN_BYTES: u64 = 64;
const HEAD_BYTES: usize = 44;
/// Bytes that are searched for heads at a time.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// What had been safe is there no more.
    #[error(
        "{} is damaged at byte {place}, in what had been safe on disk: votes of this node and \
         transactions that it promised are lost. Check the disk. Then move the file away, start \
         without the role validator, and take that up again once this node has seen a height above \
         the one it stopped at: before, it may contradict what it said, which costs stake",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        place: u64,
    },
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
    key: [u8; 32],
    bytes: u64,
    /// How far everything is safe.
    synced: u64,
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
        let mut reader = BufReader::new(&file);
        let Some(key) = begin(&mut reader).map_err(&error)? else {
            return Err(WalError::Foreign(path));
        };
        let bytes = replay(&mut reader, &key, &mut read).map_err(&error)?;
        if bytes < length {
            if was_safe(&mut file, &key, (bytes, length)).map_err(&error)? {
                return Err(WalError::Damaged { path, place: bytes });
            }
            tracing::warn!(cut = length - bytes, "the log ends in a record that was not finished");
            file.set_len(bytes).map_err(&error)?;
        }
        // What was read may never have been synced, and from now on things depend on it.
        file.sync_all().map_err(&error)?;
        file.seek(SeekFrom::Start(bytes)).map_err(&error)?;
        let directory = directory.to_owned();
        let (buffer, is_dirty) = (Vec::new(), false);
        Ok(Self { directory, file, key, bytes, synced: bytes, buffer, is_dirty })
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
        let file = options.open(&draft).map_err(&error)?;
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|chance| error(io::Error::other(chance)))?;
        let buffer = [&MAGIC[..], &key, &short(blake3::hash(&key))].concat();
        let directory = directory.to_owned();
        let (bytes, synced, is_dirty) = (BEGIN_BYTES, 0, true);
        let mut wal = Self { directory, file, key, bytes, synced, buffer, is_dirty };
        for record in records {
            wal.append(record.as_ref())?;
        }
        wal.sync()?;
        fs::rename(&draft, wal.directory.join(FILE_NAME)).map_err(&error)?;
        File::open(&wal.directory).and_then(|directory| directory.sync_all()).map_err(&error)?;
        Ok(wal)
    }

    /// Bytes of the file, what is still to be written included.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a record, which is not safe before [`sync`](Self::sync).
    pub(crate) fn append(&mut self, record: &[u8]) -> Result<(), WalError> {
        assert!(!record.is_empty(), "a record of no bytes says that all before it is safe");
        if record.len() > WAL_RECORD_BYTES_MAX {
            return Err(WalError::TooLarge { found: record.len() });
        }
        self.put(record);
        self.is_dirty = true;
        Ok(())
    }

    fn put(&mut self, record: &[u8]) {
        let length = u32::try_from(record.len()).expect("a record has few bytes");
        let content = short(blake3::keyed_hash(&self.key, record));
        let head = Head { length, synced: self.synced, content };
        self.buffer.extend(head.bytes(&self.key, self.bytes));
        self.buffer.extend(record);
        self.bytes += (HEAD_BYTES + record.len()) as u64;
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
        self.synced = self.bytes;
        self.is_dirty = false;
        // Not synced itself: it is there soon, and until then the end is as after a crash.
        self.put(&[]);
        self.file.write_all(&self.buffer).map_err(&error)?;
        self.buffer.clear();
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

/// What stands before the bytes of a record.
struct Head {
    length: u32,
    /// How far the file was synced before.
    synced: u64,
    /// A hash of the bytes.
    content: [u8; 16],
}

impl Head {
    fn bytes(&self, key: &[u8; 32], place: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.synced.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.content);
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(&place.to_le_bytes()).update(&bytes[..28]);
        bytes[28..].copy_from_slice(&short(hasher.finalize()));
        bytes
    }

    /// Reads one that stands at `place`; none where the bytes are no head that was written there.
    fn parse(found: &[u8; HEAD_BYTES], key: &[u8; 32], place: u64) -> Option<Self> {
        let length = u32::from_le_bytes(*found.first_chunk()?);
        let synced = u64::from_le_bytes(*found[4..].first_chunk()?);
        let content = *found[12..].first_chunk()?;
        let head = Self { length, synced, content };
        // Most of what is no head is told by this alone.
        let is_possible = synced <= place && length as usize <= WAL_RECORD_BYTES_MAX;
        (is_possible && head.bytes(key, place) == *found).then_some(head)
    }
}

fn short(hash: blake3::Hash) -> [u8; 16] {
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// Reads what a log begins with, and returns its key; none where it is no log.
fn begin(file: &mut impl Read) -> io::Result<Option<[u8; 32]>> {
    let (mut magic, mut key, mut check) = ([0; MAGIC.len()], [0; 32], [0; 16]);
    let is_whole = fill(file, &mut magic)? && fill(file, &mut key)? && fill(file, &mut check)?;
    Ok((is_whole && magic == *MAGIC && check == short(blake3::hash(&key))).then_some(key))
}

/// Reads as far as everything is whole, and returns how far that is.
fn replay(file: &mut impl Read, key: &[u8; 32], read: &mut impl FnMut(&[u8])) -> io::Result<u64> {
    let mut place = BEGIN_BYTES;
    let mut record = Vec::new();
    loop {
        let mut head = [0; HEAD_BYTES];
        if !fill(file, &mut head)? {
            return Ok(place);
        }
        let Some(head) = Head::parse(&head, key, place) else { return Ok(place) };
        record.resize(head.length as usize, 0);
        if !fill(file, &mut record)? || short(blake3::keyed_hash(key, &record)) != head.content {
            return Ok(place);
        }
        if !record.is_empty() {
            read(&record);
        }
        place += (HEAD_BYTES + record.len()) as u64;
    }
}

/// Whether something between a broken place and the end says that the file was synced beyond it.
fn was_safe(file: &mut File, key: &[u8; 32], (broken, length): (u64, u64)) -> io::Result<bool> {
    let mut window = Vec::new();
    let mut from = broken;
    while length.saturating_sub(from) >= HEAD_BYTES as u64 {
        file.seek(SeekFrom::Start(from))?;
        window.clear();
        file.take(WINDOW_BYTES as u64).read_to_end(&mut window)?;
        let heads = window.windows(HEAD_BYTES).zip(from..);
        let mut heads = heads.filter_map(|(found, place)| {
            Head::parse(found.first_chunk().expect("it is so long"), key, place)
        });
        if heads.any(|head| head.synced > broken) {
            return Ok(true);
        }
        from += (WINDOW_BYTES - (HEAD_BYTES - 1)) as u64;
    }
    Ok(false)
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
        wal.append(b"!").unwrap();
        assert!(wal.is_dirty());
        wal.sync().unwrap();
        let (mut wal, found) = open(home.path());
        assert_eq!(found, [b"one".to_vec(), b"!".to_vec()]);
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

    /// A log of batches that were synced one after the other, and the place where each ended.
    fn synced(directory: &Path, batches: &[Vec<Vec<u8>>]) -> (Wal, Vec<usize>) {
        let (mut wal, _) = open(directory);
        let mut ends = Vec::new();
        for batch in batches {
            batch.iter().for_each(|record| wal.append(record).unwrap());
            ends.push(usize::try_from(wal.bytes()).unwrap());
            wal.sync().unwrap();
        }
        (wal, ends)
    }

    #[test]
    fn damage_in_what_was_safe_is_told_from_an_end_that_was_not_finished() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        let batches = [vec![b"one".to_vec(), b"two".to_vec()], vec![b"three".to_vec()]];
        let (_, ends) = synced(home.path(), &batches);
        let sound = fs::read(&path).unwrap();
        let begin = usize::try_from(BEGIN_BYTES).unwrap() + HEAD_BYTES;
        for at in 0..ends[1] {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            let error = Wal::open(home.path(), |_| {}).unwrap_err();
            match error {
                WalError::Foreign(_) => assert!(at < begin, "{at}"),
                WalError::Damaged { place, .. } => assert!(place <= at as u64, "{at}"),
                other => panic!("{at}: {other}"),
            }
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing is changed in it");
        }
        // The last mark is not synced: it may well be broken.
        let mut bytes = sound;
        bytes[ends[1]] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(open(home.path()).1, batches.concat());
    }

    #[test]
    fn a_record_that_holds_the_head_of_another_is_nothing_but_a_record() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        let (wal, ends) = synced(home.path(), &[vec![b"one".to_vec()]]);
        // As somebody would make it who knows all but the key.
        let place = wal.bytes() + HEAD_BYTES as u64;
        let head = Head { length: 0, synced: place, content: [0; 16] };
        drop(wal);
        let (mut wal, _) = open(home.path());
        wal.append(&head.bytes(&[0; 32], place)).unwrap();
        wal.sync().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - HEAD_BYTES);
        bytes[ends[0] + HEAD_BYTES] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(open(home.path()).1, [b"one".to_vec()]);
    }

    proptest! {
        /// Whatever a crash makes of the bytes behind the last sync, and wherever it cuts the file:
        /// what was synced is there, nothing that was not written appears, and the log goes on.
        #[test]
        fn a_crash_takes_nothing_that_was_synced(
            safe in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            later in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            length in 0_usize..500,
            noise in prop::collection::vec((0_usize..500, any::<u8>()), 0..6),
        ) {
            let home = tempfile::tempdir().unwrap();
            let path = home.path().join(FILE_NAME);
            let (_, ends) = synced(home.path(), &[safe.clone(), later.clone()]);
            let mut bytes = fs::read(&path).unwrap();
            // The mark is written after the sync that the crash came before.
            bytes.truncate(ends[1]);
            bytes.resize(ends[0] + length, 0);
            for (at, byte) in noise {
                if let Some(found) = bytes.get_mut(ends[0] + at) {
                    *found = byte;
                }
            }
            fs::write(&path, &bytes).unwrap();
            let (mut wal, found) = open(home.path());
            prop_assert!(found.len() >= safe.len());
            let written: Vec<_> = safe.iter().chain(&later).cloned().collect();
            prop_assert_eq!(&found[..], &written[..found.len()]);
            wal.append(b"next").unwrap();
            wal.sync().unwrap();
            let (_, after) = open(home.path());
            prop_assert_eq!(after.len(), found.len() + 1);
            prop_assert_eq!(after.last().unwrap(), b"next");
        }
    }
}
