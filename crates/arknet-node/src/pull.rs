//! Fetches models: from a URL, or from peers that hand theirs over.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arknet_gateway::Pull;
use arknet_sdk::Client;
use arknet_types::{
    Capabilities, InferRequest, Input, ModelDigest, ModelName, Refusal, RefusalCode, Reply,
};
use futures::{StreamExt, stream::BoxStream};
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, mpsc};

use crate::{
    Download, ModelStore, ModelsError,
    engines::{EngineError, Engines},
    models::ModelEntry,
};

/// Reports of progress that wait for a slow reader.
const REPORTS_MAX: usize = 16;
/// Time between two reports of progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// Largest file that is taken from a peer: 1 TiB.
const BYTES_MAX: u64 = 1 << 40;
/// Bytes of disk that stay free.
const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// Times in a row that a transfer may break without a byte of progress.
const FAILURES_MAX: u32 = 3;
const CHUNK_BYTES: usize = 1 << 20;

/// Fetches models for one node.
#[derive(Clone)]
pub(crate) struct Puller {
    engines: Option<Engines>,
    client: Client,
    /// One transfer at a time: two of the same model would write to one file.
    gate: Arc<Mutex<()>>,
}

/// Why a model was not fetched.
#[derive(Debug, thiserror::Error)]
enum PullError {
    #[error("the model that came is not the one that was offered; it was thrown away")]
    Digest,
    #[error("the disk has {free} bytes free, the model needs {needed}")]
    DiskFull { needed: u64, free: u64 },
    #[error("{0}")]
    Download(#[from] crate::DownloadError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("a file of the model cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Models(#[from] ModelsError),
    #[error("this node runs no models; add the role compute")]
    NoEngine,
    #[error("{0}")]
    Refused(Refusal),
    #[error("the model has over 1 TiB")]
    TooLarge,
    #[error("nobody hands over a model called {name}; give the URL of a GGUF file instead")]
    Unknown { name: String },
}

impl Puller {
    pub(crate) fn new(engines: Option<Engines>, client: Client) -> Self {
        Self { engines, client, gate: Arc::new(Mutex::new(())) }
    }

    /// Fetches what `model` names. Dropping the stream stops the transfer; what came is kept.
    pub(crate) fn pull(&self, model: String) -> BoxStream<'static, Pull> {
        let (reports, receiver) = mpsc::channel(REPORTS_MAX);
        let puller = self.clone();
        tokio::spawn(async move {
            let gone = reports.clone();
            let last = tokio::select! {
                result = puller.fetch(&model, &reports) => match result {
                    Ok(()) => Pull::Ready,
                    Err(error) => {
                        tracing::info!(%error, "a model was not fetched");
                        Pull::Failed(refusal(error))
                    }
                },
                () = gone.closed() => return,
            };
            let _ = reports.send(last).await;
        });
        futures::stream::unfold(receiver, async |mut receiver| {
            let report = receiver.recv().await?;
            Some((report, receiver))
        })
        .boxed()
    }

    async fn fetch(&self, model: &str, reports: &mpsc::Sender<Pull>) -> Result<(), PullError> {
        let engines = self.engines.as_ref().ok_or(PullError::NoEngine)?;
        let _ = reports.send(Pull::Looking).await;
        let _one = self.gate.lock().await;
        if model.starts_with("http://") || model.starts_with("https://") {
            return from_url(engines, model, reports).await;
        }
        let unknown = || PullError::Unknown { name: model.to_owned() };
        let names = [Some(model), model.strip_suffix(":latest")];
        let names = names.into_iter().flatten().filter_map(|name| ModelName::new(name).ok());
        for name in names {
            if engines.has(&name) {
                return Ok(());
            }
            if let Some(digest) = self.offered(&name) {
                return self.take_from_peers(engines, name, digest, reports).await;
            }
        }
        Err(unknown())
    }

    /// The file that peers hand over under this name.
    fn offered(&self, name: &ModelName) -> Option<ModelDigest> {
        self.client.mesh().offers().with(|offers| {
            let serving = offers.serving(name, Capabilities::FILE, arknet_sdk::now());
            let mine = serving.filter(|(offer, _)| self.client.may_ask(&offer.body.peer));
            mine.filter_map(|(_, offered)| offered.digest).next()
        })
    }

    async fn take_from_peers(
        &self,
        engines: &Engines,
        name: ModelName,
        digest: ModelDigest,
        reports: &mpsc::Sender<Pull>,
    ) -> Result<(), PullError> {
        let mut part = Part::open(engines.store(), digest)?;
        let mut failures = 0;
        loop {
            let before = part.done;
            match self.transfer(&name, &mut part, reports).await {
                Ok(()) => break,
                Err(PullError::Refused(refusal)) => {
                    failures = if part.done > before { 0 } else { failures + 1 };
                    if failures >= FAILURES_MAX {
                        return Err(PullError::Refused(refusal));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let _ = reports.send(Pull::Verifying).await;
        let path = part.finish()?;
        let store = engines.store().clone();
        let added = tokio::task::spawn_blocking(move || {
            let added = store.add(&path, Some(name), Some(digest), |_| {});
            // Whether it was added or is worthless: it has done its duty.
            let _ = fs::remove_file(&path);
            added
        });
        take_on(engines, &joined(added.await)?)
    }

    /// Takes the file from one peer, as far as that goes.
    async fn transfer(
        &self,
        name: &ModelName,
        part: &mut Part,
        reports: &mpsc::Sender<Pull>,
    ) -> Result<(), PullError> {
        let input = Input::File { digest: part.digest, offset: part.done };
        let request = InferRequest::new(name.clone(), input);
        let mut answer = self.client.request(request).await.map_err(PullError::Refused)?;
        let mut reported = Instant::now();
        let mut is_checked = false;
        while let Some(reply) = answer.next().await {
            match reply {
                Reply::File { total_bytes, bytes } => {
                    if !is_checked {
                        check_room(&part.path, total_bytes, part.done)?;
                        is_checked = true;
                    }
                    part.write(&bytes)?;
                    if reported.elapsed() >= REPORT_INTERVAL || part.done == total_bytes {
                        reported = Instant::now();
                        let _ = reports.try_send(Pull::Progress {
                            digest: Some(part.digest),
                            done_bytes: part.done,
                            total_bytes: Some(total_bytes),
                        });
                    }
                }
                Reply::Done { .. } => return Ok(()),
                Reply::Refused(refusal) => return Err(PullError::Refused(refusal)),
                _ => {}
            }
        }
        let words = "the transfer ended without its end";
        Err(PullError::Refused(Refusal::new(RefusalCode::PeerLost, words)))
    }
}

async fn from_url(
    engines: &Engines,
    url: &str,
    reports: &mpsc::Sender<Pull>,
) -> Result<(), PullError> {
    let store = engines.store().clone();
    let (url, reports) = (url.to_owned(), reports.clone());
    let fetched = tokio::task::spawn_blocking(move || {
        let download = Download::new(&url, &store.partial());
        let mut reported: Option<Instant> = None;
        let path = download.run(|done_bytes, total_bytes| {
            let is_due = reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL);
            if is_due || total_bytes == Some(done_bytes) {
                reported = Some(Instant::now());
                let _ = reports.try_send(Pull::Progress { digest: None, done_bytes, total_bytes });
            }
            if reports.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let _ = reports.blocking_send(Pull::Verifying);
        let added = store.add(path, crate::models::url_name(&url), None, |_| {});
        if !matches!(added, Err(ModelsError::Io { .. })) {
            download.discard();
        }
        Ok::<_, PullError>(added?)
    });
    take_on(engines, &joined(fetched.await)?)
}

fn joined<T, E: Into<PullError>>(
    result: Result<Result<T, E>, tokio::task::JoinError>,
) -> Result<T, PullError> {
    result.map_err(|error| PullError::Io(io::Error::other(error)))?.map_err(Into::into)
}

/// Serves a model that was just added.
fn take_on(engines: &Engines, entry: &ModelEntry) -> Result<(), PullError> {
    if !engines.has(&entry.name) {
        engines.add(entry)?;
    }
    Ok(())
}

/// What an app is told.
fn refusal(error: PullError) -> Refusal {
    let words = error.to_string();
    match error {
        PullError::Refused(refusal) => refusal,
        PullError::Unknown { .. } => Refusal::new(RefusalCode::UnknownModel, words),
        PullError::TooLarge => Refusal::new(RefusalCode::TooLarge, words),
        _ => Refusal::new(RefusalCode::ProviderFailed, words),
    }
}

fn check_room(path: &Path, total_bytes: u64, done: u64) -> Result<(), PullError> {
    if total_bytes > BYTES_MAX {
        return Err(PullError::TooLarge);
    }
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let status = rustix::fs::statvfs(directory).map_err(io::Error::from)?;
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    // Once as it comes, once in the store.
    let needed = (total_bytes - done).saturating_add(total_bytes) + DISK_RESERVE_BYTES;
    if free < needed { Err(PullError::DiskFull { needed, free }) } else { Ok(()) }
}

/// A file as far as it has come, hashed on the way.
struct Part {
    digest: ModelDigest,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    done: u64,
}

impl Part {
    /// Goes on where an earlier transfer ended.
    fn open(store: &ModelStore, digest: ModelDigest) -> io::Result<Self> {
        let directory = store.partial();
        fs::create_dir_all(&directory)?;
        let path = directory.join(format!("{}.part", digest.to_string().replace(':', "-")));
        let mut options = OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(&path)?;
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut done = 0;
        loop {
            let read = file.read(&mut chunk)?;
            if read == 0 {
                break;
            }
            hasher.update(&chunk[..read]);
            done += read as u64;
        }
        Ok(Self { digest, path, file, hasher, done })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    /// The file, if it is the one it was said to be.
    fn finish(self) -> Result<PathBuf, PullError> {
        if self.hasher.finalize().as_slice() != self.digest.0 {
            fs::remove_file(&self.path)?;
            return Err(PullError::Digest);
        }
        self.file.sync_all()?;
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_on_where_it_was_cut_and_a_wrong_one_goes() {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let digest = ModelDigest(Sha256::digest(b"a model").into());
        let mut part = Part::open(&store, digest).unwrap();
        part.write(b"a mo").unwrap();
        drop(part);
        let mut part = Part::open(&store, digest).unwrap();
        assert_eq!(part.done, 4);
        part.write(b"del").unwrap();
        let path = part.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"a model");
        let mut part = Part::open(&store, digest).unwrap();
        part.write(b"!").unwrap();
        assert!(matches!(part.finish(), Err(PullError::Digest)));
        assert!(!path.exists());
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("part");
        assert!(check_room(&path, 1, 0).is_ok());
        assert!(matches!(check_room(&path, BYTES_MAX, 0), Err(PullError::DiskFull { .. })));
        assert!(matches!(check_room(&path, BYTES_MAX + 1, 0), Err(PullError::TooLarge)));
    }
}
