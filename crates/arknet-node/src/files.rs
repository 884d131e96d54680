//! Hands files of models to other peers, in parts that can be checked as they come.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arknet_protocol::Pace;
use arknet_provider::{Generation, ModelDetails, ModelInfo, Models, Provider};
use arknet_types::{
    Capabilities, FinishReason, InferRequest, Input, ModelDigest, ModelName, Refusal, RefusalCode,
    Reply, Usage, limits::FILE_PIECE_BYTES_MAX,
};
use bao_tree::io::sync::{Outboard, encode_ranges};
use tokio::sync::{mpsc, watch};

use crate::{
    ModelStore,
    blocks::{self, FileTree},
    models::ModelEntry,
};

/// Pieces read ahead of the one who takes them.
const PIECES_AHEAD: usize = 8;
/// What this provider is called where a name is needed; nobody can ask for it.
const NAME: &str = "arknet/files";

/// The files of a store, for whoever may have them.
#[derive(Clone)]
pub(crate) struct ModelFiles {
    shared: Arc<Shared>,
}

struct Shared {
    store: ModelStore,
    models: Models,
    /// How fast, over all who take something; as fast as can be when none.
    pace: Option<Mutex<Pace>>,
    /// Held by whoever makes the tree of a file, so that it is made once.
    making: Mutex<BTreeMap<ModelDigest, Arc<tokio::sync::Mutex<()>>>>,
}

impl ModelFiles {
    pub(crate) fn new(store: ModelStore, bytes_per_second: Option<u64>) -> Self {
        let nothing: Arc<[ModelInfo]> = Arc::new([]);
        let shared = Shared {
            store,
            models: watch::channel(nothing).1,
            pace: bytes_per_second.map(|bytes| Mutex::new(Pace::new(bytes))),
            making: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How the queue before it sees it.
    pub(crate) fn info(&self, slots: u16) -> ModelInfo {
        ModelInfo {
            name: ModelName::new(NAME).expect("a valid name"),
            digest: None,
            projector: None,
            capabilities: Capabilities::FILE,
            context_tokens: 0,
            slots,
            details: ModelDetails::default(),
        }
    }
}

impl Shared {
    fn open(&self, digest: ModelDigest, offset: u64) -> Result<(File, PathBuf), Refusal> {
        let unknown = || Refusal::new(RefusalCode::UnknownModel, "this file is not here");
        // Only what the index names: a file may lie there that is not meant to be had.
        let entries = self.store.list().map_err(|_| unknown())?;
        if !entries.iter().flat_map(ModelEntry::digests).any(|named| named == digest) {
            return Err(unknown());
        }
        let path = self.store.path(&digest);
        let file = File::open(&path).map_err(|_| unknown())?;
        let total = file.metadata().map_err(|_| unknown())?.len();
        if offset >= total {
            let words = format!("the file has {total} bytes");
            return Err(Refusal::new(RefusalCode::InvalidRequest, words));
        }
        Ok((file, path))
    }

    /// The tree of a file: read, or made by the first who needs it. The others wait without a thread.
    async fn tree(&self, digest: ModelDigest, data: PathBuf) -> io::Result<FileTree> {
        let making = Arc::clone(lock(&self.making).entry(digest).or_default());
        let one = making.lock_owned().await;
        let path = self.store.tree_path(&digest);
        let made = tokio::task::spawn_blocking(move || {
            let _one = one;
            let total_bytes = std::fs::metadata(&data)?.len();
            match blocks::open(&path)? {
                Some(tree) if tree.tree().size() == total_bytes => Ok(tree),
                _ => blocks::build(&data, &path),
            }
        });
        made.await.map_err(io::Error::other)?
    }

    /// Sends a part of a file, until it has all gone or nobody wants more.
    fn send(
        &self,
        (offset, length): (u64, u64),
        (file, tree): (File, &FileTree),
        replies: &mpsc::Sender<Reply>,
    ) -> io::Result<()> {
        let total_bytes = tree.tree().size();
        let mut pieces = Pieces {
            shared: self,
            replies,
            total_bytes,
            root: *tree.root().as_bytes(),
            bytes: Vec::with_capacity(FILE_PIECE_BYTES_MAX),
        };
        if length > 0 {
            let end = offset.saturating_add(length).min(total_bytes);
            encode_ranges(file, tree, &blocks::chunks(offset, end), &mut pieces)
                .map_err(io::Error::other)?;
        }
        // One that asks for nothing of it is told what there is.
        if length == 0 || !pieces.bytes.is_empty() {
            pieces.send()?;
        }
        let finish = FinishReason::Stop;
        let done = Reply::Done { finish, usage: Usage::default() };
        replies.blocking_send(done).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Provider for ModelFiles {
    fn models(&self) -> Models {
        self.shared.models.clone()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let Input::File { digest, offset, length } = request.input else {
            return Err(Refusal::new(RefusalCode::Unsupported, "only files are had here"));
        };
        let (file, path) = self.shared.open(digest, offset)?;
        let (replies, receiver) = mpsc::channel(PIECES_AHEAD);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let tree = tokio::select! {
                tree = shared.tree(digest, path) => tree,
                () = replies.closed() => return,
            };
            // One who waits for a tree holds no thread, which others need.
            let send = move || {
                let sent =
                    tree.and_then(|tree| shared.send((offset, length), (file, &tree), &replies));
                if let Err(error) = sent
                    && !replies.is_closed()
                {
                    tracing::warn!(%error, "a model's file cannot be read");
                    let words = "the file cannot be read";
                    let refusal = Refusal::new(RefusalCode::ProviderFailed, words);
                    let _ = replies.blocking_send(Reply::Refused(refusal));
                }
            };
            let _ = tokio::task::spawn_blocking(send).await;
        });
        Ok(Generation::from_channel(receiver))
    }
}

/// Cuts what is written into replies.
struct Pieces<'a> {
    shared: &'a Shared,
    replies: &'a mpsc::Sender<Reply>,
    total_bytes: u64,
    root: [u8; 32],
    bytes: Vec<u8>,
}

impl Pieces<'_> {
    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(FILE_PIECE_BYTES_MAX));
        if let Some(pace) = &self.shared.pace {
            let wait_ms = lock(pace).take(bytes.len() as u64, arknet_sdk::now());
            thread::sleep(Duration::from_millis(wait_ms));
        }
        let reply = Reply::File { total_bytes: self.total_bytes, root: self.root, bytes };
        self.replies.blocking_send(reply).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = FILE_PIECE_BYTES_MAX - self.bytes.len();
        let taken = bytes.len().min(room);
        self.bytes.extend_from_slice(&bytes[..taken]);
        if self.bytes.len() == FILE_PIECE_BYTES_MAX {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A poisoned lock still guards data that every writer leaves whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arknet_types::limits::FILE_GROUP_BYTES;
    use bao_tree::io::{BaoContentItem, sync::DecodeResponseIter};

    use super::*;

    fn ask(digest: ModelDigest, offset: u64, length: u64) -> InferRequest {
        InferRequest::new(ModelName::new("m").unwrap(), Input::File { digest, offset, length })
    }

    async fn got(mut generation: Generation) -> (u64, [u8; 32], Vec<u8>) {
        let (mut total, mut of, mut got) = (0, [0; 32], Vec::new());
        loop {
            match generation.next().await.unwrap() {
                Reply::File { total_bytes, root, bytes } => {
                    assert!(bytes.len() <= FILE_PIECE_BYTES_MAX);
                    (total, of) = (total_bytes, root);
                    got.extend(bytes);
                }
                Reply::Done { .. } => return (total, of, got),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn any_part_of_a_file_comes_with_what_it_is_checked_by() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let source = directory.path().join("tiny.gguf");
        let content = arknet_engine::embedded_model().bytes;
        std::fs::write(&source, content).unwrap();
        let name = ModelName::new("m").unwrap();
        let added = store.add(&source, Some(name.clone()), None, |_| {}).unwrap();
        let files = ModelFiles::new(store.clone(), Some(1 << 30));
        let size = content.len() as u64;
        let last = (size - 1) / FILE_GROUP_BYTES * FILE_GROUP_BYTES;
        for (offset, length) in [(0, 1 << 40), (0, FILE_GROUP_BYTES), (last, FILE_GROUP_BYTES)] {
            let generation = files.generate(ask(added.digest, offset, length)).unwrap();
            let (total, root, encoded) = got(generation).await;
            assert_eq!((total, root), (size, *blake3::hash(content).as_bytes()));
            let end = (offset + length).min(size);
            let ranges = blocks::chunks(offset, end);
            let decoder =
                DecodeResponseIter::new(root.into(), blocks::shape(size), &encoded[..], &ranges);
            let mut part = Vec::new();
            for item in decoder {
                if let BaoContentItem::Leaf(leaf) = item.unwrap() {
                    part.extend(leaf.data);
                }
            }
            let place = |at: u64| usize::try_from(at).unwrap();
            assert!(part == content[place(offset)..place(end)], "from {offset}");
        }
        let (total, _, nothing) = got(files.generate(ask(added.digest, 0, 0)).unwrap()).await;
        assert_eq!((total, nothing.len()), (size, 0), "what there is");
        let code = |digest, offset| files.generate(ask(digest, offset, 0)).unwrap_err().code;
        assert_eq!(code(added.digest, size), RefusalCode::InvalidRequest);
        assert_eq!(code(ModelDigest([1; 32]), 0), RefusalCode::UnknownModel);
        store.remove(&name).unwrap();
        assert_eq!(code(added.digest, 0), RefusalCode::UnknownModel);
        assert!(!store.tree_path(&added.digest).exists(), "its hashes went with it");
    }
}
