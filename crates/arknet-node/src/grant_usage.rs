//! What approved peers have used today, kept on disk so that a restart gives nobody a second day.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use arknet_protocol::DayUse;
use arknet_types::PublicKey;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    data::{DataError, write_atomically},
    gate::Gate,
};

/// What is used between two of these may be forgotten when the machine loses its power.
const STORE_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    day: u64,
    requests: u64,
    tokens: u64,
}

type File = BTreeMap<String, Stored>;

/// Tells the gate what was used before.
pub(crate) fn load(path: &Path, gate: &Gate) -> Result<(), DataError> {
    let at = |source| DataError::Io { path: path.to_owned(), source };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(at(source)),
    };
    let file: File = serde_json::from_slice(&text).map_err(|error| at(io::Error::other(error)))?;
    for (peer, Stored { day, requests, tokens }) in file {
        if let Ok(peer) = peer.parse::<PublicKey>() {
            gate.resume(peer, DayUse { day, requests, tokens });
        }
    }
    Ok(())
}

/// Stores what was used, now and then and at the end.
pub(crate) async fn keep(path: PathBuf, gate: Gate, stop: CancellationToken) {
    let mut interval = tokio::time::interval(STORE_INTERVAL);
    let mut stored = File::new();
    loop {
        let is_over = stop.run_until_cancelled(interval.tick()).await.is_none();
        let used: File = gate
            .day_uses()
            .into_iter()
            .filter(|(_, used)| used.requests > 0)
            .map(|(peer, used)| {
                let DayUse { day, requests, tokens } = used;
                (peer.to_string(), Stored { day, requests, tokens })
            })
            .collect();
        if used != stored {
            let text = serde_json::to_vec(&used).expect("numbers have a form in JSON");
            let path = path.clone();
            match tokio::task::spawn_blocking(move || write_atomically(&path, &text)).await {
                Ok(Ok(())) => stored = used,
                Ok(Err(error)) => tracing::warn!(%error, "what peers used cannot be stored"),
                Err(_) => return,
            }
        }
        if is_over {
            return;
        }
    }
}
