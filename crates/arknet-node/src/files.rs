//! Hands files of models to other peers, piece by piece.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    sync::Arc,
};

use arknet_provider::{Generation, ModelDetails, ModelInfo, Models, Provider};
use arknet_types::{
    Capabilities, FinishReason, InferRequest, Input, ModelDigest, ModelName, Refusal, RefusalCode,
    Reply, Usage, limits::FILE_PIECE_BYTES_MAX,
};
use tokio::sync::{mpsc, watch};

use crate::ModelStore;

/// Pieces read ahead of the one who takes them.
const PIECES_AHEAD: usize = 8;
/// What this provider is called where a name is needed; nobody can ask for it.
const NAME: &str = "arknet/files";

/// The files of a store, for whoever may have them.
pub(crate) struct ModelFiles {
    store: ModelStore,
    models: Models,
}

impl ModelFiles {
    pub(crate) fn new(store: ModelStore) -> Self {
        let nothing: Arc<[ModelInfo]> = Arc::new([]);
        Self { store, models: watch::channel(nothing).1 }
    }

    /// How the queue before it sees it.
    pub(crate) fn info(&self, slots: u16) -> ModelInfo {
        ModelInfo {
            name: ModelName::new(NAME).expect("a valid name"),
            digest: None,
            capabilities: Capabilities::FILE,
            context_tokens: 0,
            slots,
            details: ModelDetails::default(),
        }
    }

    fn open(&self, digest: ModelDigest, offset: u64) -> Result<(File, u64), Refusal> {
        let unknown = || Refusal::new(RefusalCode::UnknownModel, "this file is not here");
        // Only what the index names: a file may lie there that is not meant to be had.
        let entries = self.store.list().map_err(|_| unknown())?;
        if !entries.iter().any(|entry| entry.digest == digest) {
            return Err(unknown());
        }
        let mut file = File::open(self.store.path(&digest)).map_err(|_| unknown())?;
        let total = file.metadata().map_err(|_| unknown())?.len();
        if offset > total {
            let words = format!("the file has {total} bytes");
            return Err(Refusal::new(RefusalCode::InvalidRequest, words));
        }
        file.seek(SeekFrom::Start(offset)).map_err(|_| unknown())?;
        Ok((file, total))
    }
}

impl Provider for ModelFiles {
    fn models(&self) -> Models {
        self.models.clone()
    }

    fn generate(&self, request: InferRequest) -> Result<Generation, Refusal> {
        let Input::File { digest, offset } = request.input else {
            return Err(Refusal::new(RefusalCode::Unsupported, "only files are had here"));
        };
        let (file, total_bytes) = self.open(digest, offset)?;
        let (replies, receiver) = mpsc::channel(PIECES_AHEAD);
        tokio::task::spawn_blocking(move || send(file, total_bytes, &replies));
        Ok(Generation::from_channel(receiver))
    }
}

/// Reads until the end, an error, or until nobody wants more.
fn send(mut file: File, total_bytes: u64, replies: &mpsc::Sender<Reply>) {
    loop {
        let mut bytes = Vec::with_capacity(FILE_PIECE_BYTES_MAX);
        let read = file.by_ref().take(FILE_PIECE_BYTES_MAX as u64).read_to_end(&mut bytes);
        let reply = match read {
            // A requester that had all of it already is told how much that is.
            Ok(0) => {
                let finish = FinishReason::Stop;
                let empty = Reply::File { total_bytes, bytes };
                if replies.blocking_send(empty).is_ok() {
                    let _ = replies.blocking_send(Reply::Done { finish, usage: Usage::default() });
                }
                return;
            }
            Ok(_) => Reply::File { total_bytes, bytes },
            Err(error) => {
                tracing::warn!(%error, "a model's file cannot be read");
                let words = "the file cannot be read";
                Reply::Refused(Refusal::new(RefusalCode::ProviderFailed, words))
            }
        };
        let is_over = matches!(reply, Reply::Refused(_));
        if replies.blocking_send(reply).is_err() || is_over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(digest: ModelDigest, offset: u64) -> InferRequest {
        InferRequest::new(ModelName::new("m").unwrap(), Input::File { digest, offset })
    }

    #[tokio::test]
    async fn a_file_comes_whole_from_any_byte_on() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let source = directory.path().join("tiny.gguf");
        let content = arknet_engine::embedded_model().bytes;
        std::fs::write(&source, content).unwrap();
        let name = ModelName::new("m").unwrap();
        let added = store.add(&source, Some(name.clone()), None, |_| {}).unwrap();
        let files = ModelFiles::new(store.clone());
        for offset in [0, 1, content.len() - 1, content.len()] {
            let mut generation = files.generate(ask(added.digest, offset as u64)).unwrap();
            let mut got = Vec::new();
            loop {
                match generation.next().await.unwrap() {
                    Reply::File { total_bytes, bytes } => {
                        assert_eq!(total_bytes, content.len() as u64);
                        got.extend(bytes);
                    }
                    Reply::Done { .. } => break,
                    other => panic!("{other:?}"),
                }
            }
            assert!(got == content[offset..], "from {offset}");
        }
        let code = |digest, offset| files.generate(ask(digest, offset)).unwrap_err().code;
        let beyond = content.len() as u64 + 1;
        assert_eq!(code(added.digest, beyond), RefusalCode::InvalidRequest);
        assert_eq!(code(ModelDigest([1; 32]), 0), RefusalCode::UnknownModel);
        store.remove(&name).unwrap();
        assert_eq!(code(added.digest, 0), RefusalCode::UnknownModel);
    }
}
