//! Beginning with a snapshot where the blocks in between are too many, or nobody has them any more.
//!
//! It decides and keeps parts; what is to be said to whom is returned. Nothing of what peers say is
//! believed: the header must follow from what is known, by certificates; a part must be the one that
//! the manifest names; and all together must come to the root in the header.

mod prove;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    thread,
};

use arknet_chain::{Hash, LightClient, Manifest};
use arknet_consensus::{Message, Misdeed, Peer, SnapshotPart};
use arknet_types::Timestamp;
use tokio::sync::oneshot;

use self::prove::{Proving, Step};
use super::DriverError;
use crate::{
    Import, ImportError, Reader, Store, StoreError,
    limits::{
        SNAPSHOT_ANSWER_MS_MAX, SNAPSHOT_ASK_MS, SNAPSHOT_ASKED_PER_PEER_MAX, SNAPSHOT_BEHIND_MIN,
        SNAPSHOT_GATHER_MS, SNAPSHOT_OFFERS_MAX,
    },
};

/// What is to be said.
#[derive(Debug)]
pub(super) enum Said {
    To(Peer, Message),
    Misbehaved(Peer, Misdeed),
}

/// A snapshot that was built beside the ledger, or why it was not.
pub(super) type Built = (Import, Result<(), ImportError>);

pub(super) struct Join {
    directory: PathBuf,
    store: Store,
    phase: Phase,
    ask_at: Timestamp,
    /// A peer has no blocks any more that follow ours.
    is_pruned: bool,
    /// Who gave what was not the chain's.
    refused: BTreeSet<Peer>,
}

enum Phase {
    Idle,
    Asking { until: Timestamp, offers: Vec<Offer> },
    Proving(Box<Proving>),
    Fetching(Box<Fetching>),
    Building { peers: BTreeSet<Peer>, done: oneshot::Receiver<Built> },
}

/// A snapshot, and who can give it.
#[derive(Debug)]
struct Offer {
    manifest: Manifest,
    peers: BTreeSet<Peer>,
}

impl Offer {
    fn is_same(&self, other: &Manifest) -> bool {
        let names = |manifest: &Manifest| manifest.block.header.id();
        names(&self.manifest) == names(other) && self.manifest.parts == other.parts
    }
}

struct Fetching {
    import: Import,
    block: Hash,
    peers: BTreeSet<Peer>,
    /// Who was asked for which part, and until when it may answer.
    asked: BTreeMap<u32, (Peer, Timestamp)>,
}

impl Join {
    pub(super) fn new(directory: PathBuf, store: Store) -> Self {
        let (ask_at, refused) = (Timestamp(0), BTreeSet::new());
        Self { directory, store, phase: Phase::Idle, ask_at, is_pruned: false, refused }
    }

    /// When to call [`on_time`](Self::on_time) if nothing happens before.
    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Idle => self.is_pruned.then_some(self.ask_at),
            Phase::Asking { until, .. } => Some(*until),
            Phase::Proving(proving) => Some(proving.until),
            Phase::Fetching(fetching) => fetching.asked.values().map(|(_, until)| *until).min(),
            Phase::Building { .. } => None,
        }
    }

    /// Waits for what is being built.
    pub(super) async fn built(&mut self) -> Option<Built> {
        match &mut self.phase {
            Phase::Building { done, .. } => done.await.ok(),
            _ => std::future::pending().await,
        }
    }

    /// A peer has no blocks any more that follow ours.
    pub(super) const fn note_pruned(&mut self) {
        self.is_pruned = true;
    }

    /// Looks for a snapshot where one is needed, and gives up on who does not answer.
    pub(super) fn on_time(
        &mut self,
        now: Timestamp,
        (view, highest): (&Reader, u64),
        peers: &BTreeSet<Peer>,
    ) -> Result<Vec<Said>, DriverError> {
        let mut said = Vec::new();
        match &mut self.phase {
            Phase::Idle => {
                let is_far = highest >= view.height().saturating_add(SNAPSHOT_BEHIND_MIN);
                if now >= self.ask_at && (is_far || self.is_pruned) {
                    self.is_pruned = false;
                    self.ask_at = now.plus_ms(SNAPSHOT_ASK_MS);
                    let asked = peers.iter().filter(|peer| !self.refused.contains(peer));
                    said.extend(asked.map(|peer| Said::To(*peer, Message::WantSnapshot)));
                    let until = now.plus_ms(SNAPSHOT_GATHER_MS);
                    self.phase = Phase::Asking { until, offers: Vec::new() };
                }
            }
            Phase::Asking { until, offers } if now >= *until => {
                let best = (0..offers.len()).max_by_key(|index| {
                    let Offer { manifest, peers } = &offers[*index];
                    (peers.len(), manifest.block.header.height)
                });
                let best = best.map(|best| offers.swap_remove(best));
                self.phase = Phase::Idle;
                if let Some(offer) = best {
                    let known = known(&self.store, view)?;
                    let trusted = self.store.options().trusted;
                    let proving = Proving::begin(offer, known, trusted, now);
                    self.go_on_proving(Box::new(proving), now, &mut said)?;
                }
            }
            Phase::Proving(proving) if now >= proving.until => self.phase = Phase::Idle,
            Phase::Fetching(fetching) => {
                let late: Vec<u32> = fetching
                    .asked
                    .iter()
                    .filter(|(_, (_, at))| now >= *at)
                    .map(|(index, _)| *index)
                    .collect();
                for index in late {
                    if let Some((peer, _)) = fetching.asked.remove(&index) {
                        fetching.peers.remove(&peer);
                    }
                }
                self.go_on_fetching(now, &mut said)?;
            }
            _ => {}
        }
        Ok(said)
    }

    /// A peer says something about snapshots.
    pub(super) fn on_message(
        &mut self,
        now: Timestamp,
        view: &Reader,
        (from, message): (Peer, Message),
    ) -> Result<Vec<Said>, DriverError> {
        let mut said = Vec::new();
        if self.refused.contains(&from) {
            return Ok(said);
        }
        match message {
            Message::Snapshot(Some(manifest)) => self.on_offer(view, from, *manifest),
            Message::Light(light) => {
                let Phase::Proving(proving) = &mut self.phase else { return Ok(said) };
                if proving.from != from || !proving.take(light.map(|light| *light), now) {
                    return Ok(said);
                }
                if let Phase::Proving(proving) = std::mem::replace(&mut self.phase, Phase::Idle) {
                    self.go_on_proving(proving, now, &mut said)?;
                }
            }
            Message::Part(part) => self.on_part(now, from, &part, &mut said)?,
            _ => {}
        }
        Ok(said)
    }

    /// A peer cannot be asked any more.
    pub(super) fn gone(&mut self, peer: &Peer) {
        if let Phase::Fetching(fetching) = &mut self.phase {
            fetching.peers.remove(peer);
            for (asked, until) in fetching.asked.values_mut() {
                if asked == peer {
                    *until = Timestamp(0);
                }
            }
        }
    }

    fn on_offer(&mut self, view: &Reader, from: Peer, manifest: Manifest) {
        if manifest.block.header.height <= view.height() {
            return;
        }
        match &mut self.phase {
            Phase::Asking { offers, .. } => {
                match offers.iter().position(|offer| offer.is_same(&manifest)) {
                    Some(same) => drop(offers[same].peers.insert(from)),
                    None if offers.len() < SNAPSHOT_OFFERS_MAX => {
                        offers.push(Offer { manifest, peers: BTreeSet::from([from]) });
                    }
                    None => {}
                }
            }
            Phase::Proving(proving) if proving.offer.is_same(&manifest) => {
                proving.offer.peers.insert(from);
            }
            Phase::Fetching(fetching) => {
                let ours = fetching.import.manifest();
                if ours.parts == manifest.parts && fetching.block == manifest.block.header.id() {
                    fetching.peers.insert(from);
                }
            }
            _ => {}
        }
    }

    fn go_on_proving(
        &mut self,
        mut proving: Box<Proving>,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) -> Result<(), DriverError> {
        match proving.step(now) {
            Step::Ask(height) => {
                proving.until = now.plus_ms(SNAPSHOT_ANSWER_MS_MAX);
                said.push(Said::To(proving.from, Message::WantLight { height }));
                self.phase = Phase::Proving(proving);
            }
            Step::Proved(client) => {
                let Offer { manifest, peers } = proving.offer;
                self.begin_fetching(manifest, peers, &client, now, said)?;
            }
            Step::Unproved => {
                tracing::error!(
                    "a snapshot cannot be proved by what this node knows: that is too old, or too \
                     many validators are others now. Ask somebody you trust for arknet chain block, \
                     write trusted = \"HEIGHT:NAME\" under [ledger] into arknet.toml, start again"
                );
            }
            Step::Forged => {
                tracing::warn!(peer = %proving.from, "a snapshot that is not the chain's");
                self.refuse(BTreeSet::from([proving.from]), said);
                self.ask_at = now;
                self.is_pruned = true;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, peers: BTreeSet<Peer>, said: &mut Vec<Said>) {
        for peer in peers {
            said.push(Said::Misbehaved(peer, Misdeed::Snapshot));
            self.refused.insert(peer);
        }
    }

    fn begin_fetching(
        &mut self,
        manifest: Manifest,
        peers: BTreeSet<Peer>,
        client: &LightClient,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) -> Result<(), DriverError> {
        let block = manifest.block.header.id();
        tracing::info!(
            height = manifest.block.header.height,
            parts = manifest.parts.len(),
            peers = peers.len(),
            "fetches a snapshot"
        );
        match Import::begin_over(&self.directory, manifest, client) {
            Ok(import) => {
                let asked = BTreeMap::new();
                let fetching = Fetching { import, block, peers, asked };
                self.phase = Phase::Fetching(Box::new(fetching));
                self.go_on_fetching(now, said)
            }
            Err(ImportError::Store(error)) => Err(error.into()),
            Err(_) => {
                self.refuse(peers, said);
                Ok(())
            }
        }
    }

    fn on_part(
        &mut self,
        now: Timestamp,
        from: Peer,
        part: &SnapshotPart,
        said: &mut Vec<Said>,
    ) -> Result<(), DriverError> {
        let Phase::Fetching(fetching) = &mut self.phase else { return Ok(()) };
        let is_asked = fetching.asked.get(&part.index).is_some_and(|(peer, _)| *peer == from);
        if !is_asked || part.block != fetching.block {
            return Ok(());
        }
        fetching.asked.remove(&part.index);
        let index = usize::try_from(part.index).unwrap_or(usize::MAX);
        if part.bytes.is_empty() {
            fetching.peers.remove(&from);
        } else {
            match fetching.import.add(index, &part.bytes) {
                Ok(()) => {}
                Err(ImportError::Store(error)) => return Err(error.into()),
                Err(_) => {
                    fetching.peers.remove(&from);
                    self.refuse(BTreeSet::from([from]), said);
                }
            }
        }
        self.go_on_fetching(now, said)
    }

    /// Asks who has least to do for what is missing; builds when nothing is.
    fn go_on_fetching(&mut self, now: Timestamp, said: &mut Vec<Said>) -> Result<(), DriverError> {
        let Phase::Fetching(fetching) = &mut self.phase else { return Ok(()) };
        let missing = fetching.import.missing().filter_map(|index| u32::try_from(index).ok());
        let missing: Vec<u32> =
            missing.filter(|index| !fetching.asked.contains_key(index)).collect();
        if missing.is_empty() && fetching.asked.is_empty() {
            return self.build();
        }
        for index in missing {
            let load = |peer: &Peer| fetching.asked.values().filter(|(at, _)| at == peer).count();
            let peer = fetching.peers.iter().map(|peer| (load(peer), *peer)).min();
            let Some((load, peer)) = peer else {
                // Parts that are there stay: another peer may have the same snapshot.
                self.phase = Phase::Idle;
                self.is_pruned = true;
                return Ok(());
            };
            if load >= SNAPSHOT_ASKED_PER_PEER_MAX {
                break;
            }
            fetching.asked.insert(index, (peer, now.plus_ms(SNAPSHOT_ANSWER_MS_MAX)));
            said.push(Said::To(peer, Message::WantPart { block: fetching.block, index }));
        }
        Ok(())
    }

    fn build(&mut self) -> Result<(), DriverError> {
        let Phase::Fetching(fetching) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Ok(());
        };
        let Fetching { import, peers, .. } = *fetching;
        let (tell, done) = oneshot::channel();
        let (genesis, options) = (self.store.genesis().clone(), *self.store.options());
        let body = move || {
            let result = import.finish_beside(&genesis, options);
            // Nobody waits at a stop.
            let _ = tell.send((import, result));
        };
        let thread = thread::Builder::new().name("ledger-build".into());
        thread.spawn(body).map_err(no_thread)?;
        self.phase = Phase::Building { peers, done };
        Ok(())
    }

    /// What was built; none where it is no use.
    pub(super) fn take(
        &mut self,
        (import, result): Built,
        height: u64,
        said: &mut Vec<Said>,
    ) -> Result<Option<Import>, DriverError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        let Phase::Building { peers, .. } = phase else { return Ok(None) };
        match result {
            Ok(()) if import.manifest().block.header.height > height => return Ok(Some(import)),
            // Blocks were quicker.
            Ok(()) => {}
            Err(ImportError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "a snapshot that is not the chain's");
                self.refuse(peers, said);
                (self.is_pruned, self.ask_at) = (true, Timestamp(0));
            }
        }
        import.forget().map_err(of_import)?;
        Ok(None)
    }
}

/// What this node can prove headers by: its own last block, or the genesis.
fn known(store: &Store, view: &Reader) -> Result<LightClient, StoreError> {
    let height = view.height();
    let own = match (view.header(height)?, view.validators(height.saturating_add(1))?) {
        (Some(header), Some(next)) => LightClient::from_trusted(&header, next),
        _ => None,
    };
    own.map_or_else(|| Ok(LightClient::from_genesis(store.genesis())?), Ok)
}

pub(super) fn of_import(error: ImportError) -> DriverError {
    match error {
        ImportError::Store(error) => error.into(),
        other => StoreError::Damaged(other.to_string()).into(),
    }
}

fn no_thread(error: io::Error) -> DriverError {
    StoreError::Io(error).into()
}
