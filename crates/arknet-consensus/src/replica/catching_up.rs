//! Fetching blocks that others have committed.

use arknet_chain::StateView;
use arknet_types::Timestamp;

use super::{Now, Replica, Stage, misbehaved};
use crate::{Commit, Decided, Halt, Message, Misdeed, Output, Peer, limits::FETCH_MS_MAX};

/// Blocks that a peer was asked for.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) peer: Peer,
    pub(super) until: Timestamp,
}

impl Replica {
    /// When to ask for the next block if consensus does not bring it.
    pub(super) fn catch_up_at(&self) -> Option<Timestamp> {
        let highest = self.peers.highest();
        if self.fetch.is_some() || highest <= self.tip.height {
            return None;
        }
        // One block may well be on its way.
        let patience = if highest == self.height() { self.timing().catch_up_ms } else { 0 };
        Some(self.behind_since.map_or(Timestamp(0), |since| since.plus_ms(patience)))
    }

    pub(super) fn catch_up(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        if let Some(fetch) = &self.fetch
            && now >= fetch.until
        {
            self.peers.doubt(&fetch.peer);
            self.fetch = None;
        }
        if self.peers.highest() > self.tip.height {
            self.behind_since.get_or_insert(now);
        }
        if !self.fetched.is_empty() || self.catch_up_at().is_none_or(|at| now < at) {
            return;
        }
        let peer = self.peers.ask_for_blocks(now, self.tip.height);
        if let Some(peer) = peer {
            self.fetch = Some(Fetch { peer, until: now.plus_ms(FETCH_MS_MAX) });
            out.push(Output::Send(peer, Message::Want { from: self.height() }));
        }
    }

    /// A peer sends committed blocks. They are looked at one by one.
    pub(super) fn on_decided(&mut self, from: Peer, decided: Vec<Decided>) {
        // What comes after its time, or unasked, is not looked at.
        if self.fetch.as_ref().is_none_or(|fetch| fetch.peer != from) {
            return;
        }
        self.fetch = None;
        if decided.is_empty() {
            self.peers.doubt(&from);
        }
        self.fetched = decided.into();
        self.fetched_from = Some(from);
    }

    /// Commits the next of the blocks that were fetched.
    pub(super) fn commit_fetched<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        while self.stage != Stage::Committing
            && let Some(decided) = self.fetched.pop_front()
        {
            if decided.block.header.height <= self.tip.height {
                continue;
            }
            if let Err(misdeed) = self.commit_decided(at, &decided, out)? {
                self.fetched.clear();
                if let Some(peer) = self.fetched_from.take() {
                    self.peers.doubt(&peer);
                    misbehaved(peer, misdeed, out);
                }
            } else if let Some(peer) = &self.fetched_from {
                self.peers.trust(peer);
            }
        }
        Ok(())
    }

    /// Commits a block by its certificate, whatever consensus is about here: a certificate is final.
    fn commit_decided<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        decided: &Decided,
        out: &mut Vec<Output>,
    ) -> Result<Result<(), Misdeed>, Halt> {
        let Decided { block, certificate } = decided;
        let header = &block.header;
        if header.network != self.network {
            return Ok(Err(Misdeed::Network));
        }
        if header.height != self.height()
            || certificate.height != header.height
            || certificate.block != header.id()
            || certificate.verify(&self.network, self.voters.set()).is_err()
        {
            return Ok(Err(Misdeed::Certificate));
        }
        let Some((block, verified, executed)) = self.execute_decided(at, block)? else {
            return Ok(Err(Misdeed::Block));
        };
        let evidence = self.engine.take_evidence();
        self.accuse(at, evidence, out);
        let certificate = certificate.clone();
        self.commit(Commit { block, certificate, executed }, verified, out);
        Ok(Ok(()))
    }
}
