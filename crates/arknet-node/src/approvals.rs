//! Whom the owner of this node has approved: the file, what people change in it, and what follows.
//!
//! The file is the truth. It is edited by hand, and by the node API; either way all that is said
//! there counts at once: at the gate, in what peers are told, and for whom the gateway asks.

mod document;
mod file;
mod limits;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arknet_protocol::{Grant, GrantError, Grants};
use arknet_types::{NodeId, PublicKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use document::PeerEntry;
pub(crate) use document::{name, read_key, read_permissions};
use file::{Stamp, WriteError};

use crate::gate::Gate;

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why a change of the approved peers did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApprovalError {
    /// The grant cannot stand beside the others.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// The file cannot be read; what was approved before still counts.
    #[error("{}: {words}; mend the file first, until then nothing is changed", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        words: String,
    },
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
    /// Others kept writing to the file.
    #[error("{} is being written by others all the time; try again", path.display())]
    Contended {
        /// The file.
        path: PathBuf,
    },
    /// Nobody is approved under this name or key.
    #[error("this peer is not approved")]
    Unknown,
}

/// The approved peers of a node. Cheap to clone.
#[derive(Clone)]
pub struct Approvals {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    gate: Gate,
    grants: watch::Sender<Arc<Grants>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How the file looked when it was last read.
    stamp: Option<Stamp>,
    /// The file was not there when it was last looked for: some editors take it away for a moment.
    is_missing: bool,
    /// What is wrong with the file now.
    problem: Option<String>,
}

/// Whom a person means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Whom {
    /// The peer with this key.
    Key(PublicKey),
    /// The peer approved under this label.
    Named(NodeId),
}

impl Approvals {
    /// Reads the file at `path`. One that cannot be read approves nobody, and that is said.
    pub(crate) fn open(path: PathBuf, gate: Gate) -> Self {
        let shared = Shared {
            path,
            gate,
            grants: watch::Sender::new(Arc::new(Grants::new())),
            state: Mutex::default(),
        };
        let approvals = Self { shared: Arc::new(shared) };
        let mut state = approvals.lock();
        // Nobody takes the file away while the node starts: it is there or it is not.
        state.is_missing = true;
        approvals.look(&mut state, true);
        drop(state);
        approvals
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What is wrong with the file, if something is.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Who is approved now.
    #[must_use]
    pub fn grants(&self) -> Arc<Grants> {
        self.shared.grants.borrow().clone()
    }

    /// Follows who is approved.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<Grants>> {
        self.shared.grants.subscribe()
    }

    /// The gate that holds them to it.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Follows the file until told to stop.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || this.look(&mut this.lock(), false));
            if looked.await.is_err() {
                return;
            }
        }
    }

    /// Looks whether the file has changed, and takes over what it says.
    fn look(&self, state: &mut State, is_first: bool) {
        let path = &self.shared.path;
        let looks_new = file::stamp(path).map(|stamp| stamp != state.stamp);
        if !is_first && matches!(looks_new, Ok(false)) {
            // What could not be read may have become readable without looking any different.
            if state.problem.is_none() {
                return;
            }
        }
        let found = match file::read(path) {
            Ok(found) => found,
            Err(error) => return self.complain(state, error.to_string()),
        };
        if found.text.is_none() && !std::mem::replace(&mut state.is_missing, true) {
            return;
        }
        state.is_missing = found.text.is_none();
        match file::parse(found.text.as_deref()) {
            Ok(grants) => {
                state.stamp = found.stamp;
                self.take(state, grants);
            }
            Err(words) => {
                state.stamp = found.stamp;
                self.complain(state, words);
            }
        }
    }

    /// Keeps what was approved before, and says what is wrong: once.
    fn complain(&self, state: &mut State, words: String) {
        if state.problem.as_ref() != Some(&words) {
            tracing::error!(
                file = %self.shared.path.display(), error = words,
                "the approved peers cannot be read; what was approved before still counts"
            );
            state.problem = Some(words);
        }
    }

    /// From now on this counts. Returns how much work was cut.
    fn take(&self, state: &mut State, grants: Grants) -> usize {
        if state.problem.take().is_some() {
            tracing::info!("the approved peers can be read again");
        }
        let before = self.grants();
        if *before == grants {
            return 0;
        }
        for grant in grants.iter() {
            match before.get(&grant.key) {
                None => tracing::info!(peer = %grant.key, node_id = %grant.node_id, "approved"),
                Some(old) if old != grant => {
                    tracing::info!(peer = %grant.key, node_id = %grant.node_id, "permissions changed");
                }
                Some(_) => {}
            }
        }
        for grant in before.iter().filter(|grant| grants.get(&grant.key).is_none()) {
            tracing::info!(peer = %grant.key, node_id = %grant.node_id, "revoked");
        }
        let cut = self.shared.gate.set_grants(grants.clone());
        self.shared.grants.send_replace(Arc::new(grants));
        cut
    }

    /// Approves a peer, or changes what it may do. What it had before of name and date stays where
    /// nothing else is said.
    pub async fn approve(&self, grant: Grant) -> Result<Grant, ApprovalError> {
        self.change(move |grants| {
            let mut grant = grant.clone();
            if let Some(old) = grants.get(&grant.key) {
                grant.approved_at = old.approved_at;
                if grant.name.is_empty() {
                    grant.name.clone_from(&old.name);
                }
            }
            grants.insert(grant.clone())?;
            Ok(grant)
        })
        .await
        .map(|(grant, _)| grant)
    }

    /// Takes a peer's grant away, and cuts what runs by it. Returns the grant and how much that was.
    pub async fn revoke(&self, whom: Whom) -> Result<(Grant, usize), ApprovalError> {
        let revoke = move |grants: &mut Grants| {
            let key = match &whom {
                Whom::Key(key) => Some(*key),
                Whom::Named(node_id) => grants.named(node_id).map(|grant| grant.key),
            };
            key.and_then(|key| grants.remove(&key)).ok_or(ApprovalError::Unknown)
        };
        match self.change(revoke.clone()).await {
            // A disk that cannot be written to must not keep anybody in.
            Err(error @ (ApprovalError::Io { .. } | ApprovalError::Broken { .. })) => {
                let mut grants = Grants::clone(&self.grants());
                revoke(&mut grants)?;
                self.take(&mut State::default(), grants);
                tracing::error!(%error, "revoked until this node restarts, but not in the file");
                Err(error)
            }
            result => result,
        }
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnMut(&mut Grants) -> Result<T, ApprovalError> + Send + 'static,
    ) -> Result<(T, usize), ApprovalError> {
        let this = self.clone();
        let changed = tokio::task::spawn_blocking(move || this.change_now(change)).await;
        changed.unwrap_or_else(|error| {
            Err(ApprovalError::Io {
                path: self.shared.path.clone(),
                source: io::Error::other(error),
            })
        })
    }

    fn change_now<T>(
        &self,
        change: impl FnMut(&mut Grants) -> Result<T, ApprovalError>,
    ) -> Result<(T, usize), ApprovalError> {
        let mut state = self.lock();
        let path = self.shared.path.clone();
        let (result, grants) = file::rewrite(&path, change).map_err(|error| match error {
            WriteError::Change(error) => error,
            WriteError::Broken(words) => ApprovalError::Broken { path: path.clone(), words },
            WriteError::Io(source) => ApprovalError::Io { path: path.clone(), source },
            WriteError::Contended => ApprovalError::Contended { path: path.clone() },
        })?;
        state.is_missing = false;
        // An edit that comes after this look is found by the next one.
        state.stamp = None;
        let cut = self.take(&mut state, grants);
        Ok((result, cut))
    }
}
