//! The models on this machine: files named by their hash, and an index of what they are called.
//!
//! A file is hashed once, while it is copied in. The index is written atomically; a crash leaves
//! either the old one or the new one, and at worst a draft that is removed a day later.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arknet_engine::{
    embedded_model,
    gguf::{GgufError, GgufInfo, ProjectorInfo},
};
use arknet_types::{ModelDigest, ModelName, NameError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::write_atomically;

/// Bytes read at once while hashing.
const CHUNK_BYTES: usize = 1 << 20;
/// A draft older than this belongs to nobody.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Models one machine may hold.
const MODELS_MAX: usize = 4096;

/// A model on this machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// What it is called.
    pub name: ModelName,
    /// SHA-256 of the file.
    pub digest: ModelDigest,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// The architecture its metadata names.
    pub architecture: String,
    /// With what it takes pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<ProjectorEntry>,
}

/// The projector of a model: a file beside it that turns pictures into what the model reads.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectorEntry {
    /// SHA-256 of the file.
    pub digest: ModelDigest,
    /// Size of the file in bytes.
    pub bytes: u64,
}

impl ModelEntry {
    fn new(name: ModelName, digest: ModelDigest, bytes: u64, architecture: String) -> Self {
        Self { name, digest, bytes, architecture, projector: None }
    }

    /// Its files.
    pub(crate) fn digests(&self) -> impl Iterator<Item = ModelDigest> {
        std::iter::once(self.digest).chain(self.projector.map(|projector| projector.digest))
    }
}

/// Why something about a model did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// The content is not what it should be.
    #[error(
        "{name} is damaged: its SHA-256 is {found}, it was {expected}; remove it and add it again"
    )]
    Damaged {
        /// The model.
        name: ModelName,
        /// What the index says.
        expected: ModelDigest,
        /// What the file has.
        found: ModelDigest,
    },
    /// Another SHA-256 than asked for.
    #[error("the file's SHA-256 is {found}, expected was {expected}; it was not added")]
    Digest {
        /// What was asked for.
        expected: ModelDigest,
        /// What the file has.
        found: ModelDigest,
    },
    /// Not a model file this program understands.
    #[error("{}: {source}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// The index is not readable.
    #[error("{}: {source}; restore it, or remove it and add the models again", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Not a name.
    #[error("{0}; give one with --name")]
    Name(#[from] NameError),
    /// The name is taken by another file.
    #[error(
        "{name} is already the name of another model ({digest}); remove that first or use --name"
    )]
    NameTaken {
        /// The name.
        name: ModelName,
        /// What it names.
        digest: ModelDigest,
    },
    /// More models than the index holds.
    #[error("there are {MODELS_MAX} models already; remove one first")]
    TooMany,
    /// A projector of another model.
    #[error(
        "{}: this projector does not fit the model; take the one that was made for it",
        path.display()
    )]
    ProjectorOfAnother {
        /// The file.
        path: PathBuf,
    },
    /// No such model.
    #[error("no model is called {name}; see: arknet model list")]
    Unknown {
        /// The name.
        name: ModelName,
    },
}

/// The models of one data directory.
#[derive(Clone, Debug)]
pub struct ModelStore {
    root: PathBuf,
}

impl ModelStore {
    /// The store in `root`, which is made if it is not there.
    pub fn open(root: PathBuf) -> Result<Self, ModelsError> {
        let blobs = root.join("blobs");
        fs::create_dir_all(&blobs).map_err(at(&blobs))?;
        remove_old_drafts(&blobs);
        Ok(Self { root })
    }

    /// All models that were added.
    pub fn list(&self) -> Result<Vec<ModelEntry>, ModelsError> {
        let path = self.index_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            Err(source) => return Err(ModelsError::Io { path, source }),
        };
        serde_json::from_slice(&text).map_err(|source| ModelsError::Index { path, source })
    }

    /// The model of this name.
    pub fn get(&self, name: &ModelName) -> Result<ModelEntry, ModelsError> {
        let entry = self.list()?.into_iter().find(|entry| entry.name == *name);
        entry.ok_or_else(|| ModelsError::Unknown { name: name.clone() })
    }

    /// The file of a model.
    #[must_use]
    pub fn path(&self, digest: &ModelDigest) -> PathBuf {
        self.root.join("blobs").join(format!("{}.gguf", digest.to_string().replace(':', "-")))
    }

    /// The hashes of a model's file, by which a part of it is checked.
    pub(crate) fn tree_path(&self, digest: &ModelDigest) -> PathBuf {
        self.path(digest).with_extension("tree")
    }

    /// When a model's file came here, in seconds since the epoch.
    pub(crate) fn added_unix_s(&self, digest: &ModelDigest) -> Option<u64> {
        let modified = fs::metadata(self.path(digest)).ok()?.modified().ok()?;
        Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
    }

    /// Where downloads that are not complete lie.
    #[must_use]
    pub fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    /// Adds a file: checks that it is a model, copies and hashes it in one pass. `progress` hears
    /// of bytes done. Adding the same file again changes nothing.
    pub fn add(
        &self,
        source: &Path,
        name: Option<ModelName>,
        expected: Option<ModelDigest>,
        mut progress: impl FnMut(u64),
    ) -> Result<ModelEntry, ModelsError> {
        let info = GgufInfo::read(source)
            .map_err(|error| ModelsError::Gguf { path: source.to_owned(), source: error })?;
        let name = match name {
            Some(name) => name,
            None => default_name(source, &info)?,
        };
        self.copy_in(source, &mut progress, |draft, digest, bytes| {
            self.take(draft, ModelEntry::new(name, digest, bytes, info.architecture), expected)
        })
    }

    /// Adds the projector of a model, in place of the one it had: checks that it is one, copies and
    /// hashes it in one pass.
    pub fn add_projector(
        &self,
        source: &Path,
        name: &ModelName,
        mut progress: impl FnMut(u64),
    ) -> Result<ModelEntry, ModelsError> {
        check_projector(source, &self.path(&self.get(name)?.digest))?;
        self.copy_in(source, &mut progress, |draft, digest, bytes| {
            self.take_projector(draft, name, ProjectorEntry { digest, bytes })
        })
    }

    fn take_projector(
        &self,
        draft: &Path,
        name: &ModelName,
        projector: ProjectorEntry,
    ) -> Result<ModelEntry, ModelsError> {
        let _one = self.lock()?;
        let mut entries = self.list()?;
        let entry = entries.iter_mut().find(|entry| entry.name == *name);
        let entry = entry.ok_or_else(|| ModelsError::Unknown { name: name.clone() })?;
        let before = entry.projector.replace(projector);
        let entry = entry.clone();
        self.place(draft, &projector.digest, &entries)?;
        self.forget_unused(before.map(|before| before.digest).into_iter(), &entries)?;
        Ok(entry)
    }

    /// Copies a file into the store's directory, where `take` is to find it a place.
    fn copy_in(
        &self,
        source: &Path,
        progress: &mut impl FnMut(u64),
        take: impl FnOnce(&Path, ModelDigest, u64) -> Result<ModelEntry, ModelsError>,
    ) -> Result<ModelEntry, ModelsError> {
        // Processes in containers may share a directory and their number.
        let mut number = [0; 8];
        let drawn = getrandom::fill(&mut number).map_err(io::Error::other);
        drawn.map_err(at(&self.root))?;
        let draft =
            self.root.join("blobs").join(format!("draft-{:016x}", u64::from_ne_bytes(number)));
        let result = copy_and_hash(source, &draft, progress)
            .map_err(at(source))
            .and_then(|(digest, bytes)| take(&draft, digest, bytes));
        let _ = fs::remove_file(&draft);
        result
    }

    /// Removes those of these files that no model has.
    fn forget_unused(
        &self,
        digests: impl Iterator<Item = ModelDigest>,
        entries: &[ModelEntry],
    ) -> Result<(), ModelsError> {
        for digest in digests {
            if entries.iter().flat_map(ModelEntry::digests).any(|used| used == digest) {
                continue;
            }
            let _ = fs::remove_file(self.tree_path(&digest));
            let path = self.path(&digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ModelsError::Io { path, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes a file that lies in this store's own directory and has this digest.
    pub(crate) fn adopt(
        &self,
        file: &Path,
        name: ModelName,
        digest: ModelDigest,
    ) -> Result<ModelEntry, ModelsError> {
        let info = GgufInfo::read(file)
            .map_err(|error| ModelsError::Gguf { path: file.to_owned(), source: error })?;
        let bytes = fs::metadata(file).map_err(at(file))?.len();
        let entry = ModelEntry::new(name, digest, bytes, info.architecture);
        self.take(file, entry, Some(digest))
    }

    /// The same for the projector of a model.
    pub(crate) fn adopt_projector(
        &self,
        file: &Path,
        name: &ModelName,
        digest: ModelDigest,
    ) -> Result<ModelEntry, ModelsError> {
        check_projector(file, &self.path(&self.get(name)?.digest))?;
        let bytes = fs::metadata(file).map_err(at(file))?.len();
        self.take_projector(file, name, ProjectorEntry { digest, bytes })
    }

    /// Forgets a model; its file goes when no other name uses it.
    pub fn remove(&self, name: &ModelName) -> Result<ModelEntry, ModelsError> {
        let _one = self.lock()?;
        let removed = self.get(name)?;
        let mut entries = self.list()?;
        entries.retain(|entry| entry.name != *name);
        self.write_index(&entries)?;
        self.forget_unused(removed.digests(), &entries)?;
        Ok(removed)
    }

    /// Hashes a model's files again and compares.
    pub fn verify(
        &self,
        name: &ModelName,
        mut progress: impl FnMut(u64),
    ) -> Result<ModelEntry, ModelsError> {
        let entry = self.get(name)?;
        let mut before = 0;
        for expected in entry.digests() {
            let path = self.path(&expected);
            let file = File::open(&path).map_err(at(&path))?;
            let mut progress = |bytes| progress(before + bytes);
            let (found, bytes) = hash(file, io::sink(), &mut progress).map_err(at(&path))?;
            if found != expected {
                let name = entry.name.clone();
                return Err(ModelsError::Damaged { name, expected, found });
            }
            before += bytes;
        }
        Ok(entry)
    }

    /// What a file is called that nobody gives a name: as it says itself, or as the file is called.
    pub(crate) fn default_name(source: &Path) -> Result<ModelName, ModelsError> {
        let info = GgufInfo::read(source)
            .map_err(|error| ModelsError::Gguf { path: source.to_owned(), source: error })?;
        Ok(default_name(source, &info)?)
    }

    /// SHA-256 of a file that is not in the store.
    pub fn digest(path: &Path) -> Result<ModelDigest, ModelsError> {
        let file = File::open(path).map_err(at(path))?;
        Ok(hash(file, io::sink(), &mut |_| {}).map_err(at(path))?.0)
    }

    /// The model inside the program as a file, for an engine that reads files.
    pub fn embedded(&self) -> Result<ModelEntry, ModelsError> {
        let model = embedded_model();
        let path = self.path(&model.sha256);
        let bytes = model.bytes.len() as u64;
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) != bytes {
            write_atomically(&path, model.bytes).map_err(at(&path))?;
        }
        let name = ModelName::new(model.name)?;
        Ok(ModelEntry::new(name, model.sha256, bytes, "qwen3".into()))
    }

    fn take(
        &self,
        draft: &Path,
        mut entry: ModelEntry,
        expected: Option<ModelDigest>,
    ) -> Result<ModelEntry, ModelsError> {
        if let Some(expected) = expected
            && expected != entry.digest
        {
            return Err(ModelsError::Digest { expected, found: entry.digest });
        }
        let _one = self.lock()?;
        let mut entries = self.list()?;
        if let Some(present) = entries.iter().find(|present| present.name == entry.name) {
            if present.digest != entry.digest {
                let ModelEntry { name, digest, .. } = present.clone();
                return Err(ModelsError::NameTaken { name, digest });
            }
            entry = present.clone();
        } else if entries.len() >= MODELS_MAX {
            return Err(ModelsError::TooMany);
        } else {
            entries.push(entry.clone());
        }
        self.place(draft, &entry.digest, &entries)?;
        Ok(entry)
    }

    /// Puts a file where it belongs, and then writes an index that may name it: one never names a file
    /// that is not there. Where the index cannot be written, the file is where it was before.
    fn place(
        &self,
        draft: &Path,
        digest: &ModelDigest,
        entries: &[ModelEntry],
    ) -> Result<(), ModelsError> {
        let path = self.path(digest);
        let was_there = path.exists();
        fs::rename(draft, &path).map_err(at(&path))?;
        self.write_index(entries).inspect_err(|_| {
            if !was_there {
                let _ = fs::rename(&path, draft);
            }
        })
    }

    /// Keeps everybody else, here or in another process, from changing the index until it is dropped.
    fn lock(&self) -> Result<File, ModelsError> {
        let path = self.root.join("index.lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(at(&path))?;
        file.lock().map_err(at(&path))?;
        Ok(file)
    }

    fn write_index(&self, entries: &[ModelEntry]) -> Result<(), ModelsError> {
        let path = self.index_path();
        let text = serde_json::to_vec_pretty(entries).expect("entries have a form in JSON");
        write_atomically(&path, &text).map_err(at(&path))
    }

    fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }
}

/// Whether a file is the projector of this model.
pub fn check_projector(source: &Path, model: &Path) -> Result<(), ModelsError> {
    let failed = |path: &Path, source| ModelsError::Gguf { path: path.to_owned(), source };
    let projector = ProjectorInfo::read(source).map_err(|error| failed(source, error))?;
    let model = GgufInfo::read(model).map_err(|error| failed(model, error))?;
    match projector.fits(&model) {
        true => Ok(()),
        false => Err(ModelsError::ProjectorOfAnother { path: source.to_owned() }),
    }
}

/// Removes what a killed process left half copied. What is younger may still be worked on.
fn remove_old_drafts(blobs: &Path) {
    for entry in fs::read_dir(blobs).into_iter().flatten().flatten() {
        let is_draft = entry.file_name().to_string_lossy().starts_with("draft-");
        let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|at| at.elapsed());
        if is_draft && matches!(age, Ok(Ok(age)) if age > DRAFT_AGE_MAX) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The name inside the file, or that of the file.
fn default_name(path: &Path, info: &GgufInfo) -> Result<ModelName, NameError> {
    let inside = info.name.as_deref().map(|name| name.trim().replace(' ', "-"));
    if let Some(Ok(name)) = inside.map(ModelName::new) {
        return Ok(name);
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().replace(' ', "-"));
    ModelName::new(stem.unwrap_or_default())
}

/// The last part of a URL's path, without the extension.
#[must_use]
pub fn url_name(url: &str) -> Option<ModelName> {
    let path = url.split(['?', '#']).next()?;
    let file = path.rsplit('/').next()?;
    ModelName::new(file.strip_suffix(".gguf").unwrap_or(file)).ok()
}

/// Now, in seconds since the epoch.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn copy_and_hash(
    source: &Path,
    draft: &Path,
    progress: &mut impl FnMut(u64),
) -> io::Result<(ModelDigest, u64)> {
    let mut out = File::create(draft)?;
    let result = hash(File::open(source)?, &mut out, progress)?;
    out.sync_all()?;
    Ok(result)
}

/// SHA-256 of all that `from` has, passed on to `to`.
pub(crate) fn hash(
    mut from: impl Read,
    mut to: impl Write,
    progress: &mut impl FnMut(u64),
) -> io::Result<(ModelDigest, u64)> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => return Ok((ModelDigest(hasher.finalize().into()), total)),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&chunk[..read]);
        to.write_all(&chunk[..read])?;
        total += read as u64;
        progress(total);
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ModelsError {
    move |source| ModelsError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, ModelStore, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let store = ModelStore::open(directory.path().join("models")).unwrap();
        let source = directory.path().join("my model.gguf");
        fs::write(&source, embedded_model().bytes).unwrap();
        (directory, store, source)
    }

    fn name(text: &str) -> ModelName {
        ModelName::new(text).unwrap()
    }

    #[test]
    fn a_model_is_added_once_under_any_number_of_names() {
        let (_directory, store, source) = store();
        let mut seen = 0;
        let added = store.add(&source, Some(name("a/b")), None, |bytes| seen = bytes).unwrap();
        assert_eq!((added.digest, added.bytes), (embedded_model().sha256, seen));
        store.add(&source, Some(name("a/b")), Some(added.digest), |_| {}).unwrap();
        store.add(&source, Some(name("c")), None, |_| {}).unwrap();
        assert_eq!(store.list().unwrap().len(), 2);
        assert_eq!(store.verify(&name("c"), |_| {}).unwrap().digest, added.digest);
        store.remove(&name("c")).unwrap();
        assert!(store.path(&added.digest).exists(), "still used by the other name");
        store.remove(&name("a/b")).unwrap();
        assert!(!store.path(&added.digest).exists());
        assert!(matches!(store.remove(&name("c")), Err(ModelsError::Unknown { .. })));
    }

    #[test]
    fn who_changes_the_models_at_the_same_time_loses_nothing() {
        let (_directory, store, source) = store();
        let digest = embedded_model().sha256;
        std::thread::scope(|scope| {
            for nth in 0..16 {
                let (store, source) = (&store, &source);
                scope.spawn(move || {
                    store.add(source, Some(name(&format!("stays-{nth}"))), None, |_| {}).unwrap();
                    let goes = name(&format!("goes-{nth}"));
                    store.add(source, Some(goes.clone()), Some(digest), |_| {}).unwrap();
                    store.remove(&goes).unwrap();
                });
            }
        });
        let left = store.list().unwrap();
        assert!(
            left.len() == 16 && left.iter().all(|entry| entry.name.as_str().starts_with("stays")),
            "{left:?}"
        );
        assert!(left.iter().all(|entry| store.verify(&entry.name, |_| {}).is_ok()));
    }

    #[test]
    fn an_index_without_projectors_is_read() {
        let digest = ModelDigest([1; 32]);
        let before =
            format!(r#"{{"name":"a","digest":"{digest}","bytes":1,"architecture":"qwen3"}}"#);
        let entry: ModelEntry = serde_json::from_str(&before).unwrap();
        assert_eq!(entry, ModelEntry::new(name("a"), digest, 1, "qwen3".into()));
        assert_eq!(serde_json::to_string(&entry).unwrap(), before);
    }

    #[test]
    fn a_url_names_its_model() {
        let name = |url| url_name(url).map(|name| name.to_string());
        assert_eq!(
            name("https://h/a/Qwen3-0.6B-Q8_0.gguf?download=true").unwrap(),
            "Qwen3-0.6B-Q8_0"
        );
        assert_eq!(name("http://h/a/"), None);
    }

    #[test]
    fn what_is_not_the_expected_model_is_not_added() {
        let (directory, store, source) = store();
        let wrong = Some(ModelDigest([1; 32]));
        let error = store.add(&source, Some(name("a")), wrong, |_| {}).unwrap_err();
        assert!(matches!(error, ModelsError::Digest { .. }));
        let garbage = directory.path().join("garbage.gguf");
        fs::write(&garbage, b"GGUF and nothing else").unwrap();
        let error = store.add(&garbage, None, None, |_| {}).unwrap_err();
        assert!(matches!(error, ModelsError::Gguf { .. }), "{error}");
        assert!(store.list().unwrap().is_empty());
        let blobs = fs::read_dir(directory.path().join("models/blobs")).unwrap();
        assert_eq!(blobs.count(), 0, "no draft stays");
    }

    #[test]
    fn damage_is_found_and_a_broken_index_is_said() {
        let (_directory, store, source) = store();
        let added = store.add(&source, Some(name("a")), None, |_| {}).unwrap();
        let path = store.path(&added.digest);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(store.verify(&name("a"), |_| {}), Err(ModelsError::Damaged { .. })));
        fs::write(store.index_path(), "[{").unwrap();
        let error = store.list().unwrap_err().to_string();
        assert!(error.contains("index.json") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn the_embedded_model_is_put_on_disk_once() {
        let (_directory, store, _) = store();
        let entry = store.embedded().unwrap();
        let path = store.path(&entry.digest);
        assert_eq!(fs::read(&path).unwrap(), embedded_model().bytes);
        fs::write(&path, b"cut").unwrap();
        store.embedded().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), entry.bytes);
    }
}
