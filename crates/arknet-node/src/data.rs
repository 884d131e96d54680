//! The data directory: keys, configuration, models, and who is using it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use arknet_sdk::{home, keyfile};
use arknet_types::PublicKey;
use serde::{Deserialize, Serialize};

use crate::{keys::KeyFile, secrets::SecretStore};

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// Another node runs on it.
    #[error("a node is already running on {} (process {pid}); stop it or use another --data-dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other node's process, as it wrote it.
        pid: String,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// No place to put it.
    #[error("no home directory; give --data-dir or set ARKNET_HOME")]
    NoHome,
}

/// The directory everything of a node lies in.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// How a running node can be reached by the command line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunningNode {
    /// Its process.
    pub pid: u32,
    /// Its peer id.
    pub peer: String,
    /// Its gateway, where it has one.
    pub gateway: Option<SocketAddr>,
    /// Its node API.
    pub admin: SocketAddr,
}

impl RunningNode {
    /// A node in this process.
    pub(crate) fn this(peer: PublicKey, gateway: Option<SocketAddr>, admin: SocketAddr) -> Self {
        Self { pid: std::process::id(), peer: peer.to_string(), gateway, admin }
    }
}

/// Held while a node runs; another node on the same directory is refused.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
    running: PathBuf,
}

impl Drop for DataLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.running);
    }
}

impl DataDir {
    /// The directory given, or `ARKNET_HOME`, or `~/.arknet`. Made if it is not there.
    pub fn open(path: Option<PathBuf>) -> Result<Self, DataError> {
        let root = path.or_else(home::directory).ok_or(DataError::NoHome)?;
        keyfile::create_directory(&root).map_err(at(&root))?;
        Ok(Self { root })
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join(crate::config::FILE_NAME)
    }

    /// The wallet's key file.
    #[must_use]
    pub fn wallet(&self) -> PathBuf {
        self.root.join(arknet_sdk::wallet::FILE_NAME)
    }

    /// The peer's key file.
    #[must_use]
    pub fn peer_key(&self) -> PathBuf {
        self.root.join("peer.key")
    }

    /// The key of an enclave.
    #[must_use]
    pub fn enclave_key(&self) -> PathBuf {
        self.root.join("enclave.key")
    }

    /// What the commands know of the chain, from which they go on.
    #[must_use]
    pub fn light(&self) -> PathBuf {
        self.root.join("light.bin")
    }

    /// The API keys of the gateway.
    #[must_use]
    pub fn keys(&self) -> KeyFile {
        KeyFile::new(self.root.join("keys.json"))
    }

    /// The keys of upstream services.
    #[must_use]
    pub fn secrets(&self) -> SecretStore {
        SecretStore::new(self.root.join("upstreams"))
    }

    /// The approved peers.
    #[must_use]
    pub fn approved_peers(&self) -> PathBuf {
        self.root.join("approved_peers.json")
    }

    /// The token that opens the node API to browsers and other machines.
    #[must_use]
    pub fn admin_token(&self) -> PathBuf {
        self.root.join("admin.token")
    }

    /// What approved peers have used today.
    pub(crate) fn grant_usage(&self) -> PathBuf {
        self.root.join("grant-usage.json")
    }

    /// What wallets have taken of their free quota.
    pub(crate) fn free_quota(&self) -> PathBuf {
        self.root.join("free-quota.json")
    }

    /// What the API keys have used today.
    pub(crate) fn key_usage(&self) -> PathBuf {
        self.root.join("key-usage.json")
    }

    /// Up to when requests were admitted.
    pub(crate) fn horizon(&self) -> PathBuf {
        self.root.join("horizon")
    }

    /// The log of what other peers ask, unless the configuration names another place.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.root.join("audit.log")
    }

    /// What this node has seen of the conduct of others.
    pub(crate) fn reputation(&self) -> PathBuf {
        self.root.join("reputation.json")
    }

    /// What the chain begins with, where this node follows one.
    #[must_use]
    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.json")
    }

    /// The key with which this node votes on blocks.
    #[must_use]
    pub fn consensus_key(&self) -> PathBuf {
        self.root.join("consensus.key")
    }

    /// Where the ledger is kept.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// The directory of models.
    #[must_use]
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// The directory of tunnels.
    #[must_use]
    pub fn vpn(&self) -> PathBuf {
        self.root.join("vpn")
    }

    /// Takes the directory for a node.
    pub fn lock(&self) -> Result<DataLock, DataError> {
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        let file =
            options.create(true).truncate(false).write(true).open(&path).map_err(at(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid =
                    self.running().map_or_else(|| "unknown".into(), |node| node.pid.to_string());
                return Err(DataError::InUse { path: self.root.clone(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(DataError::Io { path, source }),
        }
        Ok(DataLock { _file: file, running: self.running_path() })
    }

    /// Says how the running node can be reached.
    pub fn announce(&self, node: &RunningNode) -> Result<(), DataError> {
        let path = self.running_path();
        let text = serde_json::to_vec(node).expect("the description has a form in JSON");
        write_atomically(&path, &text).map_err(at(&path))
    }

    /// The node that runs on this directory, if one does.
    #[must_use]
    pub fn running(&self) -> Option<RunningNode> {
        let file = File::open(self.root.join("lock")).ok()?;
        // A node that was killed leaves its description behind, but not its lock.
        if file.try_lock_shared().is_ok() {
            return None;
        }
        serde_json::from_slice(&fs::read(self.running_path()).ok()?).ok()
    }

    fn running_path(&self) -> PathBuf {
        self.root.join("node.json")
    }
}

/// Writes a file completely or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    // What lies in the data directory is the owner's alone.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&draft).and_then(|mut file| {
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)
    });
    if let Err(error) = written {
        // A full disk must not stay full of drafts.
        let _ = fs::remove_file(&draft);
        return Err(error);
    }
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DataError {
    move |source| DataError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_at_a_time_and_a_killed_one_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(directory.path().join("node"))).unwrap();
        assert!(data.running().is_none());
        let lock = data.lock().unwrap();
        let admin = SocketAddr::from(([127, 0, 0, 1], 1));
        let node = RunningNode { pid: 7, peer: "12D3".into(), gateway: None, admin };
        data.announce(&node).unwrap();
        assert_eq!(data.running().unwrap().pid, 7);
        let error = data.lock().unwrap_err().to_string();
        assert!(error.contains("process 7"), "{error}");
        drop(lock);
        assert!(data.running().is_none());
        data.announce(&node).unwrap();
        assert!(data.running().is_none(), "a description without a lock is of a dead node");
        data.lock().unwrap();
    }
}
