//! What approved peers have used today, kept on disk so that a restart gives nobody a second day.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use arknet_protocol::DayUse;
use arknet_types::PublicKey;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{data::DataError, gate::Gate, kept};

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
    for (peer, Stored { day, requests, tokens }) in kept::load::<File>(path)? {
        if let Ok(peer) = peer.parse::<PublicKey>() {
            gate.resume(peer, DayUse { day, requests, tokens });
        }
    }
    Ok(())
}

/// Stores what was used, now and then and at the end.
pub(crate) async fn keep(path: PathBuf, gate: Gate, stop: CancellationToken) {
    let used = || -> File {
        let uses = gate.day_uses().into_iter().filter(|(_, used)| used.requests > 0);
        let stored = uses.map(|(peer, used)| {
            let DayUse { day, requests, tokens } = used;
            (peer.to_string(), Stored { day, requests, tokens })
        });
        stored.collect()
    };
    kept::keep(path, used, stop).await;
}
