//! A file as far as it has come: its bytes, which of them were checked, and the hashes that came with
//! them. All of it survives the process.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arknet_types::ModelDigest;
use bao_tree::io::{
    BaoContentItem, DecodeError,
    sync::{DecodeResponseIter, OutboardMut},
};
use tokio::sync::mpsc;

use crate::{
    ModelStore,
    blocks::{self, FileTree},
};

/// Bytes that are marked as here together, and for which nothing is asked twice.
pub(super) const STRETCH_BYTES: u64 = 8 << 20;
const MAGIC: &[u8; 8] = b"arkpart1";
/// Bytes before the marks: the magic, the file's size, the root.
const HEAD_BYTES: usize = 48;
const HERE: u8 = b'1';

/// What peers say they have under one digest: so many bytes with this root.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Claim {
    pub(super) total_bytes: u64,
    pub(super) root: [u8; 32],
}

/// A file that is coming.
pub(super) struct Part {
    data: File,
    marks: File,
    tree: Mutex<FileTree>,
    paths: Paths,
    pub(super) total_bytes: u64,
    pub(super) root: [u8; 32],
    /// Of each stretch, whether it was here when the file was opened.
    here: Vec<bool>,
    /// Bytes of whole stretches that were checked.
    done_bytes: AtomicU64,
}

/// Where the pieces of it lie.
struct Paths {
    data: PathBuf,
    marks: PathBuf,
    tree: PathBuf,
}

/// Why what a peer sent is of no use.
#[derive(Debug)]
pub(super) enum Bad {
    /// It is not what the root stands for.
    Wrong,
    /// It ended too early.
    Short,
    /// It could not be written.
    Io(io::Error),
}

impl Paths {
    fn new(store: &ModelStore, digest: ModelDigest) -> Self {
        let directory = store.partial();
        let at = |ending: &str| {
            directory.join(format!("{}.{ending}", digest.to_string().replace(':', "-")))
        };
        Self { data: at("part"), marks: at("marks"), tree: at("tree") }
    }
}

impl Part {
    /// What was claimed for a transfer of this file that was begun and not ended.
    pub(super) fn begun(store: &ModelStore, digest: ModelDigest) -> Option<Claim> {
        let mut head = [0; HEAD_BYTES];
        let mut marks = File::open(Paths::new(store, digest).marks).ok()?;
        marks.read_exact(&mut head).ok()?;
        let (mut size, mut root) = ([0; 8], [0; 32]);
        size.copy_from_slice(&head[8..16]);
        root.copy_from_slice(&head[16..]);
        let claim = Claim { total_bytes: u64::from_le_bytes(size), root };
        head.starts_with(MAGIC).then_some(claim)
    }

    /// Goes on where an earlier transfer of the same file ended.
    pub(super) fn open(
        store: &ModelStore,
        digest: ModelDigest,
        Claim { total_bytes, root }: Claim,
    ) -> io::Result<Self> {
        fs::create_dir_all(store.partial())?;
        let paths = Paths::new(store, digest);
        let stretches = usize::try_from(total_bytes.div_ceil(STRETCH_BYTES)).unwrap_or(usize::MAX);
        let head = [&MAGIC[..], &total_bytes.to_le_bytes(), &root].concat();
        let read_write = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options
        };
        let marks = read_write().open(&paths.marks)?;
        let data = read_write().open(&paths.data)?;
        let mut found = Vec::new();
        (&marks).take((HEAD_BYTES + stretches + 1) as u64).read_to_end(&mut found)?;
        let tree = blocks::open(&paths.tree)?.filter(|tree| {
            found.len() == head.len() + stretches
                && found.starts_with(&head)
                && *tree.root.as_bytes() == root
                && data.metadata().is_ok_and(|metadata| metadata.len() == total_bytes)
        });
        let (here, tree) = match tree {
            Some(tree) => (found[head.len()..].iter().map(|mark| *mark == HERE).collect(), tree),
            None => {
                marks.set_len(0)?;
                data.set_len(0)?;
                data.set_len(total_bytes)?;
                marks.write_all_at(&[head, vec![b'0'; stretches]].concat(), 0)?;
                (vec![false; stretches], blocks::create(&paths.tree, total_bytes, root)?)
            }
        };
        let part = Self {
            data,
            marks,
            tree: Mutex::new(tree),
            paths,
            total_bytes,
            root,
            here,
            done_bytes: AtomicU64::new(0),
        };
        let here = (0..).zip(&part.here).filter(|(_, here)| **here);
        let done = here.map(|(at, _)| part.end(at) - u64::from(at) * STRETCH_BYTES).sum();
        part.done_bytes.store(done, Ordering::Relaxed);
        Ok(part)
    }

    pub(super) fn stretches(&self) -> u32 {
        u32::try_from(self.here.len()).unwrap_or(u32::MAX)
    }

    /// Whether a stretch was here when the file was opened.
    pub(super) fn was_here(&self, stretch: u32) -> bool {
        self.here[stretch as usize]
    }

    pub(super) fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn path(&self) -> &Path {
        &self.paths.data
    }

    /// Where a stretch ends.
    fn end(&self, stretch: u32) -> u64 {
        ((u64::from(stretch) + 1) * STRETCH_BYTES).min(self.total_bytes)
    }

    /// Checks and writes what comes, a group at a time. `brought` hears of each whole stretch and
    /// says whether to go on.
    pub(super) fn take(
        &self,
        run: std::ops::Range<u32>,
        pieces: mpsc::Receiver<Vec<u8>>,
        mut brought: impl FnMut(u32) -> bool,
    ) -> Result<(), Bad> {
        let (offset, end) = (u64::from(run.start) * STRETCH_BYTES, self.end(run.end - 1));
        let (shape, ranges) = (blocks::shape(self.total_bytes), blocks::chunks(offset, end));
        let decoder =
            DecodeResponseIter::new(self.root.into(), shape, Incoming::new(pieces), &ranges);
        let mut stretch = run.start;
        for item in decoder {
            match item.map_err(Bad::from)? {
                BaoContentItem::Parent(parent) => {
                    let mut tree = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
                    tree.save(parent.node, &parent.pair).map_err(Bad::Io)?;
                }
                BaoContentItem::Leaf(leaf) => {
                    self.data.write_all_at(&leaf.data, leaf.offset).map_err(Bad::Io)?;
                    if leaf.offset + leaf.data.len() as u64 == self.end(stretch) {
                        let mark = HEAD_BYTES as u64 + u64::from(stretch);
                        self.marks.write_all_at(&[HERE], mark).map_err(Bad::Io)?;
                        let bytes = self.end(stretch) - u64::from(stretch) * STRETCH_BYTES;
                        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
                        if !brought(stretch) {
                            return Ok(());
                        }
                        stretch += 1;
                    }
                }
            }
        }
        if stretch == run.end { Ok(()) } else { Err(Bad::Short) }
    }

    /// Puts the hashes beside the model, where whoever asks for a part of it finds them.
    pub(super) fn keep_tree(&self, store: &ModelStore, digest: ModelDigest) -> io::Result<()> {
        fs::rename(&self.paths.tree, store.tree_path(&digest))
    }

    /// Makes sure that the bytes are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.data.sync_all()
    }

    /// Throws all of it away.
    pub(super) fn discard(&self) {
        for path in [&self.paths.data, &self.paths.marks, &self.paths.tree] {
            let _ = fs::remove_file(path);
        }
    }
}

impl From<DecodeError> for Bad {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::ParentHashMismatch(_) | DecodeError::LeafHashMismatch(_) => Self::Wrong,
            DecodeError::Io(error) => Self::Io(error),
            _ => Self::Short,
        }
    }
}

/// What comes, as something that can be read.
struct Incoming {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Incoming {
    const fn new(pieces: mpsc::Receiver<Vec<u8>>) -> Self {
        Self { pieces, piece: Vec::new(), at: 0 }
    }
}

impl Read for Incoming {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let taken = bytes.len().min(self.piece.len() - self.at);
        bytes[..taken].copy_from_slice(&self.piece[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use bao_tree::io::sync::encode_ranges;

    use super::*;

    fn stretch_bytes() -> usize {
        usize::try_from(STRETCH_BYTES).unwrap()
    }

    /// A file of a few stretches, its tree, and its digest.
    fn file(directory: &Path) -> (Vec<u8>, FileTree, Claim) {
        let length = 2 * stretch_bytes() + 100_000;
        let content: Vec<u8> =
            (0..length).map(|n| u8::try_from((n / 1000 + n) % 251).unwrap()).collect();
        let path = directory.join("source");
        fs::write(&path, &content).unwrap();
        let tree = blocks::build(&path, &directory.join("source.tree")).unwrap();
        let claim = Claim { total_bytes: length as u64, root: *tree.root.as_bytes() };
        (content, tree, claim)
    }

    /// Sends a run to a part, with one byte changed where that is said.
    fn send(
        part: &Part,
        (content, tree): (&[u8], &FileTree),
        run: std::ops::Range<u32>,
        wrong_at: Option<usize>,
    ) -> (Result<(), Bad>, Vec<u32>) {
        let (from, end) = (u64::from(run.start) * STRETCH_BYTES, part.end(run.end - 1));
        let mut encoded = Vec::new();
        encode_ranges(content, tree, &blocks::chunks(from, end), &mut encoded).unwrap();
        if let Some(at) = wrong_at {
            encoded[at] ^= 1;
        }
        let (pieces, incoming) = mpsc::channel(4);
        let mut brought = Vec::new();
        let result = std::thread::scope(|scope| {
            scope.spawn(move || {
                for piece in encoded.chunks(50_000) {
                    if pieces.blocking_send(piece.to_vec()).is_err() {
                        return;
                    }
                }
            });
            part.take(run, incoming, |stretch| {
                brought.push(stretch);
                true
            })
        });
        (result, brought)
    }

    #[test]
    fn what_was_checked_is_there_after_a_kill_and_nothing_wrong_is() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let (content, tree, claim) = file(directory.path());
        let source = (&content[..], &tree);
        let digest = ModelDigest([7; 32]);
        assert_eq!(Part::begun(&store, digest), None);
        let part = Part::open(&store, digest, claim).unwrap();
        assert_eq!((part.stretches(), part.done_bytes()), (3, 0));
        let wrong_at = stretch_bytes() + 500_000;
        let (result, brought) = send(&part, source, 0..3, Some(wrong_at));
        assert!(matches!(result, Err(Bad::Wrong)), "{result:?}");
        assert_eq!(brought, [0]);
        drop(part);

        assert_eq!(Part::begun(&store, digest), Some(claim));
        let part = Part::open(&store, digest, claim).unwrap();
        assert_eq!(part.done_bytes(), STRETCH_BYTES);
        let here: Vec<bool> = (0..3).map(|stretch| part.was_here(stretch)).collect();
        assert_eq!(here, [true, false, false]);
        let (result, brought) = send(&part, source, 1..3, None);
        assert!(result.is_ok(), "{result:?}");
        assert_eq!((brought, part.done_bytes()), (vec![1, 2], claim.total_bytes));
        assert!(fs::read(part.path()).unwrap() == content);
        part.keep_tree(&store, digest).unwrap();
        let kept = blocks::open(&store.tree_path(&digest)).unwrap().unwrap();
        let mut encoded = Vec::new();
        let all = blocks::chunks(0, claim.total_bytes);
        let checked =
            bao_tree::io::sync::encode_ranges_validated(&content[..], &kept, &all, &mut encoded);
        assert!(checked.is_ok(), "all hashes came");

        let other = Claim { root: [1; 32], ..claim };
        let part = Part::open(&store, digest, other).unwrap();
        assert_eq!(part.done_bytes(), 0, "another file begins anew");
        part.discard();
        assert_eq!(Part::begun(&store, digest), None);
    }
}
