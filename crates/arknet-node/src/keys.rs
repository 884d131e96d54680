//! The API keys of the gateway: who may use it, for what, and how much.
//!
//! `keys.json` holds what was created, each key as its BLAKE3 hash alone. The command line writes it,
//! a running node notices. `key-usage.json` holds the day's tokens and is the node's.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arknet_gateway::{KeyError, Keys, Pass, Right};
use arknet_protocol::{KeyLimits, KeyMeter, KeyRefusal};
use arknet_types::{ModelName, Timestamp};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::data::write_atomically;

/// What every key begins with.
pub const KEY_PREFIX: &str = "sk-ark-";
/// Keys one node may have.
pub const KEYS_MAX: usize = 10_000;
/// Bytes of entropy in a key.
const ENTROPY_BYTES: usize = 32;
/// Bytes of a key's name.
const NAME_BYTES_MAX: usize = 128;
/// Characters a key is written in.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Characters of a key after its prefix: 62^43 is more than 2^256.
const KEY_CHARACTERS: usize = 43;
/// How often the day's tokens are stored.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// A key as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// What it is called.
    pub name: String,
    /// BLAKE3 of the key, in hex.
    pub hash: String,
    /// The key's first characters, by which a person knows it again.
    pub prefix: String,
    /// When it was made, in seconds since the epoch.
    pub created_unix_s: u64,
    /// The models it is for; all when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelName>>,
    /// Requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens in a day of UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// When it ends, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_s: Option<u64>,
}

impl KeyRecord {
    const fn limits(&self) -> KeyLimits {
        KeyLimits {
            expires_at: match self.expires_unix_s {
                Some(seconds) => Some(Timestamp(seconds.saturating_mul(1000))),
                None => None,
            },
            requests_per_minute: self.requests_per_minute,
            tokens_per_day: self.tokens_per_day,
        }
    }
}

/// What a new key is to be.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// What it is called.
    pub name: String,
    /// The models it is for; all when not given.
    pub models: Option<Vec<ModelName>>,
    /// Requests in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens in a day of UTC.
    pub tokens_per_day: Option<u64>,
    /// When it ends, in seconds since the epoch.
    pub expires_unix_s: Option<u64>,
}

/// Why something about a key did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file is not readable.
    #[error("{}: {source}; mend it, or remove it and create the keys again", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// The name is none.
    #[error("a key's name has 1 to 128 bytes and no control characters")]
    Name,
    /// The name is taken.
    #[error("there is a key called {name} already; revoke it first or use another name")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// More keys than fit.
    #[error("there are {KEYS_MAX} keys already; revoke one first")]
    TooMany,
    /// No such key.
    #[error("no key is called {name}; see: arknet key list")]
    Unknown {
        /// The name.
        name: String,
    },
}

/// The file of keys.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// All keys.
    pub fn list(&self) -> Result<Vec<KeyRecord>, KeysError> {
        match fs::read(&self.path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|source| KeysError::Content { path: self.path.clone(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
            Err(source) => Err(self.io(source)),
        }
    }

    /// Makes a key and returns it: the only time it can be seen.
    pub fn create(&self, new: NewKey) -> Result<(String, KeyRecord), KeysError> {
        let is_name = (1..=NAME_BYTES_MAX).contains(&new.name.len())
            && !new.name.chars().any(char::is_control);
        if !is_name {
            return Err(KeysError::Name);
        }
        let _lock = self.lock()?;
        let mut records = self.list()?;
        if records.iter().any(|record| record.name == new.name) {
            return Err(KeysError::NameTaken { name: new.name });
        }
        if records.len() >= KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let key = random_key().map_err(|source| self.io(source))?;
        let record = KeyRecord {
            name: new.name,
            hash: hash(&key),
            prefix: key.chars().take(KEY_PREFIX.len() + 4).collect(),
            created_unix_s: arknet_sdk::now().0 / 1000,
            models: new.models,
            requests_per_minute: new.requests_per_minute,
            tokens_per_day: new.tokens_per_day,
            expires_unix_s: new.expires_unix_s,
        };
        records.push(record.clone());
        self.write(&records)?;
        Ok((key, record))
    }

    /// Ends a key. A running node refuses it from its next request on.
    pub fn revoke(&self, name: &str) -> Result<KeyRecord, KeysError> {
        let _lock = self.lock()?;
        let mut records = self.list()?;
        let Some(at) = records.iter().position(|record| record.name == name) else {
            return Err(KeysError::Unknown { name: name.to_owned() });
        };
        let record = records.remove(at);
        self.write(&records)?;
        Ok(record)
    }

    fn write(&self, records: &[KeyRecord]) -> Result<(), KeysError> {
        let text = serde_json::to_vec_pretty(records).expect("records have a form in JSON");
        write_atomically(&self.path, &text).map_err(|source| self.io(source))
    }

    /// Two commands at once must not lose each other's key.
    fn lock(&self) -> Result<File, KeysError> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.with_extension("lock"))
            .map_err(|source| self.io(source))?;
        file.lock().map_err(|source| self.io(source))?;
        Ok(file)
    }

    fn io(&self, source: io::Error) -> KeysError {
        KeysError::Io { path: self.path.clone(), source }
    }
}

/// What tells one state of a file from another.
type Stamp = Option<(SystemTime, u64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

struct Ring {
    stamp: Stamp,
    records: BTreeMap<String, Arc<KeyRecord>>,
    meters: BTreeMap<String, KeyMeter>,
    is_unstored: bool,
}

/// The keys of a running node.
pub(crate) struct KeyRing {
    file: KeyFile,
    usage: PathBuf,
    /// Whether every request needs a key.
    is_needed: bool,
    ring: Arc<Mutex<Ring>>,
}

impl KeyRing {
    pub(crate) fn open(file: KeyFile, usage: PathBuf, is_needed: bool) -> Result<Self, KeysError> {
        let ring = Ring {
            stamp: stamp(&file.path),
            records: by_hash(file.list()?),
            meters: read_usage(&usage),
            is_unstored: false,
        };
        Ok(Self { file, usage, is_needed, ring: Arc::new(Mutex::new(ring)) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.ring).records.is_empty()
    }

    /// Stores the day's tokens now and then, and at the end.
    pub(crate) async fn keep_usage(self: Arc<Self>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(STORE_INTERVAL);
        loop {
            let is_over = tokio::select! {
                () = stop.cancelled() => true,
                _ = interval.tick() => false,
            };
            if let Some(text) = self.unstored() {
                let path = self.usage.clone();
                let stored =
                    tokio::task::spawn_blocking(move || write_atomically(&path, &text)).await;
                if let Ok(Err(error)) = stored {
                    tracing::warn!(%error, "the tokens that API keys used cannot be stored");
                    lock(&self.ring).is_unstored = true;
                }
            }
            if is_over {
                return;
            }
        }
    }

    fn unstored(&self) -> Option<Vec<u8>> {
        let mut ring = lock(&self.ring);
        if !std::mem::take(&mut ring.is_unstored) {
            return None;
        }
        let usage: BTreeMap<_, _> =
            ring.meters.iter().map(|(hash, meter)| (hash.clone(), meter.today())).collect();
        Some(serde_json::to_vec(&usage).expect("numbers have a form in JSON"))
    }

    fn reload(&self, ring: &mut Ring) {
        let now = stamp(&self.file.path);
        if now == ring.stamp {
            return;
        }
        ring.stamp = now;
        match self.file.list() {
            Ok(records) => {
                ring.records = by_hash(records);
                let Ring { records, meters, .. } = ring;
                meters.retain(|hash, _| records.contains_key(hash));
            }
            // The old keys stay: a damaged file must neither lock everybody out nor let anybody in.
            Err(error) => tracing::error!(%error, "the API keys stay as they were"),
        }
    }
}

impl Keys for KeyRing {
    fn admit(&self, key: Option<&str>) -> Result<Pass, KeyError> {
        let mut ring = lock(&self.ring);
        self.reload(&mut ring);
        let key = match key {
            Some(key) if self.is_needed || key.starts_with(KEY_PREFIX) => key,
            // Clients that insist on a key send anything to a door that needs none.
            _ if !self.is_needed => return Ok(Arc::new(Anything)),
            _ => return Err(KeyError::Missing),
        };
        let hash = hash(key);
        let Some(record) = ring.records.get(&hash).cloned() else {
            return Err(KeyError::Unknown);
        };
        let now = arknet_sdk::now();
        ring.meters.entry(hash.clone()).or_default().admit(&record.limits(), now).map_err(
            |refusal| match refusal {
                KeyRefusal::Expired => KeyError::Expired,
                KeyRefusal::Requests { retry_after_ms } => KeyError::Requests { retry_after_ms },
                KeyRefusal::Tokens { retry_after_ms } => KeyError::Tokens { retry_after_ms },
            },
        )?;
        Ok(Arc::new(KeyRight { hash, record, ring: Arc::clone(&self.ring) }))
    }
}

/// The right of who needs no key.
struct Anything;

impl Right for Anything {
    fn allows(&self, _: &ModelName) -> bool {
        true
    }

    fn spend(&self, _: u64) {}
}

struct KeyRight {
    hash: String,
    record: Arc<KeyRecord>,
    ring: Arc<Mutex<Ring>>,
}

impl Right for KeyRight {
    fn allows(&self, model: &ModelName) -> bool {
        self.record.models.as_ref().is_none_or(|models| models.contains(model))
    }

    fn spend(&self, tokens: u64) {
        let mut ring = lock(&self.ring);
        let now = arknet_sdk::now();
        if let Some(meter) = ring.meters.get_mut(&self.hash) {
            meter.spend(tokens, now);
            ring.is_unstored = true;
        }
    }
}

fn by_hash(records: Vec<KeyRecord>) -> BTreeMap<String, Arc<KeyRecord>> {
    records.into_iter().map(|record| (record.hash.clone(), Arc::new(record))).collect()
}

/// What was used today. A file that is damaged costs the count, not the service.
fn read_usage(path: &Path) -> BTreeMap<String, KeyMeter> {
    let text = fs::read(path).unwrap_or_default();
    let usage: BTreeMap<String, (u64, u64)> = serde_json::from_slice(&text).unwrap_or_default();
    usage.into_iter().map(|(hash, (day, tokens))| (hash, KeyMeter::resume(day, tokens))).collect()
}

/// The key has the entropy of its hash, so a plain hash hides it.
fn hash(key: &str) -> String {
    blake3::hash(key.as_bytes()).to_hex().to_string()
}

fn random_key() -> io::Result<String> {
    let mut bytes = [0; ENTROPY_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let mut key = String::from(KEY_PREFIX);
    for _ in 0..KEY_CHARACTERS {
        // Divides the whole number by 62, most significant byte first, and takes what is left.
        let mut rest = 0_u32;
        for byte in &mut bytes {
            let value = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("the rest is below 62");
            rest = value % 62;
        }
        key.push(char::from(ALPHABET[rest as usize]));
    }
    Ok(key)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> NewKey {
        NewKey { name: name.into(), ..NewKey::default() }
    }

    fn file() -> (tempfile::TempDir, KeyFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = KeyFile::new(directory.path().join("keys.json"));
        (directory, file)
    }

    fn ring(directory: &tempfile::TempDir, file: &KeyFile, is_needed: bool) -> KeyRing {
        KeyRing::open(file.clone(), directory.path().join("key-usage.json"), is_needed).unwrap()
    }

    fn code(ring: &KeyRing, key: Option<&str>) -> Option<KeyError> {
        ring.admit(key).err()
    }

    #[test]
    fn a_key_is_long_seen_once_and_stored_as_its_hash() {
        let (_directory, file) = file();
        let (key, record) = file.create(named("laptop")).unwrap();
        assert!(key.starts_with(KEY_PREFIX) && key.len() == KEY_PREFIX.len() + KEY_CHARACTERS);
        assert!(key[KEY_PREFIX.len()..].bytes().all(|b| b.is_ascii_alphanumeric()));
        let text = fs::read_to_string(&file.path).unwrap();
        assert!(!text.contains(&key) && text.contains(&record.hash));
        assert!(matches!(file.create(named("laptop")), Err(KeysError::NameTaken { .. })));
        assert!(matches!(file.create(named("")), Err(KeysError::Name)));
        let (other, _) = file.create(named("phone")).unwrap();
        assert_ne!(key, other);
        assert_eq!(file.list().unwrap().len(), 2);
        assert_eq!(file.revoke("laptop").unwrap(), record);
        assert!(matches!(file.revoke("laptop"), Err(KeysError::Unknown { .. })));
    }

    #[test]
    fn a_running_node_notices_new_and_revoked_keys() {
        let (directory, file) = file();
        let ring = ring(&directory, &file, true);
        assert!(ring.is_empty());
        assert_eq!(code(&ring, None), Some(KeyError::Missing));
        let (key, _) = file.create(named("a")).unwrap();
        assert_eq!(code(&ring, Some(&key)), None);
        assert_eq!(code(&ring, Some("sk-ark-wrong")), Some(KeyError::Unknown));
        file.revoke("a").unwrap();
        assert_eq!(code(&ring, Some(&key)), Some(KeyError::Unknown));
        fs::write(&file.path, "[{").unwrap();
        assert_eq!(code(&ring, Some(&key)), Some(KeyError::Unknown));
    }

    #[test]
    fn without_need_any_key_does_but_ours_are_judged() {
        let (directory, file) = file();
        let ring = ring(&directory, &file, false);
        assert_eq!(code(&ring, None), None);
        assert_eq!(code(&ring, Some("unused")), None);
        assert_eq!(code(&ring, Some("sk-ark-wrong")), Some(KeyError::Unknown));
    }

    #[test]
    fn bounds_hold_across_restarts() {
        let (directory, file) = file();
        let model = ModelName::new("a/b").unwrap();
        let (key, _) = file
            .create(NewKey {
                models: Some(vec![model.clone()]),
                requests_per_minute: Some(1000),
                tokens_per_day: Some(10),
                ..named("small")
            })
            .unwrap();
        let first = ring(&directory, &file, true);
        let right = first.admit(Some(&key)).ok().unwrap();
        assert!(right.allows(&model) && !right.allows(&ModelName::new("c").unwrap()));
        right.spend(11);
        assert!(matches!(code(&first, Some(&key)), Some(KeyError::Tokens { .. })));
        write_atomically(&first.usage, &first.unstored().unwrap()).unwrap();
        assert!(first.unstored().is_none(), "stored once");
        let second = ring(&directory, &file, true);
        assert!(matches!(code(&second, Some(&key)), Some(KeyError::Tokens { .. })));
        let (key, _) = file.create(NewKey { expires_unix_s: Some(1), ..named("old") }).unwrap();
        assert_eq!(code(&second, Some(&key)), Some(KeyError::Expired));
    }
}
