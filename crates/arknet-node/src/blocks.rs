//! The hashes that let a part of a file be checked without the rest: BLAKE3's own tree, down to
//! groups of 64 KiB, in a file beside the model.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader},
    path::Path,
};

use arknet_types::limits::FILE_GROUP_BYTES;
use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRanges, blake3,
    io::{
        outboard::PreOrderOutboard,
        sync::{CreateOutboard, ReadAt, WriteAt},
    },
};

/// What the files begin with.
const MAGIC: &[u8; 8] = b"arktree1";
/// Bytes before the hashes: the magic, the file's size, the root.
const HEAD_BYTES: usize = 48;
/// Bytes of one of BLAKE3's chunks.
const CHUNK_BYTES: u64 = 1024;
const READ_BYTES: usize = 1 << 20;

/// A tree in a file.
pub(crate) type FileTree = PreOrderOutboard<Hashes>;

/// A file of hashes, behind its head.
#[derive(Debug)]
pub(crate) struct Hashes(File);

impl ReadAt for Hashes {
    fn read_at(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(at + HEAD_BYTES as u64, bytes)
    }
}

impl WriteAt for Hashes {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        WriteAt::write_at(&mut self.0, at + HEAD_BYTES as u64, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The form of the tree of a file of this size.
pub(crate) fn shape(total_bytes: u64) -> BaoTree {
    let group = BlockSize::from_bytes(FILE_GROUP_BYTES).expect("a power of two");
    BaoTree::new(total_bytes, group)
}

/// The chunks of these bytes of a file.
pub(crate) fn chunks(offset: u64, end: u64) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(offset / CHUNK_BYTES)..ChunkNum(end.div_ceil(CHUNK_BYTES)))
}

/// A tree of which nothing but the root is known yet.
pub(crate) fn create(path: &Path, total_bytes: u64, root: [u8; 32]) -> io::Result<FileTree> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).open(path)?;
    let head = [&MAGIC[..], &total_bytes.to_le_bytes(), &root].concat();
    io::Write::write_all(&mut file, &head)?;
    Ok(FileTree { root: root.into(), tree: shape(total_bytes), data: Hashes(file) })
}

/// The tree in this file; none where there is no such file, or it is no tree.
pub(crate) fn open(path: &Path) -> io::Result<Option<FileTree>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = [0; HEAD_BYTES];
    if file.read_exact_at(0, &mut head).is_err() || head[..8] != MAGIC[..] {
        return Ok(None);
    }
    let (mut size, mut root) = ([0; 8], [0; 32]);
    size.copy_from_slice(&head[8..16]);
    root.copy_from_slice(&head[16..]);
    let tree = shape(u64::from_le_bytes(size));
    Ok(Some(FileTree { root: root.into(), tree, data: Hashes(file) }))
}

/// Hashes a file and writes its tree.
pub(crate) fn build(data: &Path, path: &Path) -> io::Result<FileTree> {
    let file = File::open(data)?;
    let total_bytes = file.metadata()?.len();
    let draft = path.with_extension("draft");
    let mut tree = create(&draft, total_bytes, [0; 32])?;
    tree.init_from(BufReader::with_capacity(READ_BYTES, file))?;
    WriteAt::write_all_at(&mut tree.data.0, 16, tree.root.as_bytes())?;
    tree.data.0.sync_all()?;
    fs::rename(&draft, path)?;
    Ok(tree)
}

/// The root of a file, hashed again.
pub(crate) fn root(data: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(data)?)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use bao_tree::io::sync::{Outboard, decode_ranges, encode_ranges};

    use super::*;

    #[test]
    fn a_part_of_a_file_is_checked_against_the_root_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (data, hashes) = (directory.path().join("data"), directory.path().join("tree"));
        let content: Vec<u8> = (0..500_000_u32).flat_map(|n| n.to_le_bytes()).collect();
        fs::write(&data, &content).unwrap();
        let tree = build(&data, &hashes).unwrap();
        assert_eq!(tree.root(), blake3::hash(&content));
        assert_eq!(root(&data).unwrap(), tree.root());
        let tree = open(&hashes).unwrap().unwrap();
        let size = content.len() as u64;
        let ranges = chunks(FILE_GROUP_BYTES, size);
        let mut encoded = Vec::new();
        encode_ranges(File::open(&data).unwrap(), &tree, &ranges, &mut encoded).unwrap();
        let decode = |encoded: &[u8]| {
            let copy = create(&directory.path().join("copy"), size, *tree.root.as_bytes()).unwrap();
            let mut bytes = vec![0; content.len()];
            decode_ranges(encoded, &ranges, &mut bytes[..], copy).map(|()| bytes)
        };
        let from = usize::try_from(FILE_GROUP_BYTES).unwrap();
        assert!(decode(&encoded).unwrap()[from..] == content[from..]);
        for at in [0, 100, encoded.len() / 2, encoded.len() - 1] {
            let mut bad = encoded.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at}");
        }
        fs::write(&hashes, "nothing").unwrap();
        assert!(open(&hashes).unwrap().is_none());
    }
}
