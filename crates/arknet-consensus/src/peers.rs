use std::collections::{BTreeMap, VecDeque};

use arknet_types::Timestamp;

use crate::{
    Message, Peer,
    limits::{
        ANSWER_MS_MIN, EARLY_MESSAGES_PER_PEER_MAX, EARLY_PROPOSALS_MAX,
        EARLY_PROPOSALS_PER_PEER_MAX, PEERS_MAX,
    },
};

/// What is known of the peers, and what they said too early.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    known: BTreeMap<Peer, Known>,
    early_proposals: usize,
    /// Whose turn it was last to be asked or told something.
    last_turn: Option<Peer>,
}

#[derive(Debug, Default)]
struct Known {
    /// The height of its last block, as far as it told.
    height: u64,
    /// When it was last asked for blocks.
    asked: Timestamp,
    /// The height from which it wants blocks.
    wants: Option<u64>,
    /// When it may next be given blocks, a proposal or a status.
    next_blocks: Timestamp,
    next_proposal: Timestamp,
    next_status: Timestamp,
    early: VecDeque<Message>,
    early_proposals: usize,
}

impl Peers {
    /// Whether this peer is listened to.
    pub(crate) fn hear(&mut self, peer: Peer) -> bool {
        if self.known.len() >= PEERS_MAX && !self.known.contains_key(&peer) {
            return false;
        }
        self.known.entry(peer).or_default();
        true
    }

    pub(crate) fn gone(&mut self, peer: &Peer) {
        if let Some(known) = self.known.remove(peer) {
            self.early_proposals -= known.early_proposals;
        }
    }

    /// Remembers that a peer has at least this height.
    pub(crate) fn note(&mut self, peer: &Peer, height: u64) {
        if let Some(known) = self.known.get_mut(peer) {
            known.height = known.height.max(height);
        }
    }

    /// A peer did not give what it said it has.
    pub(crate) fn doubt(&mut self, peer: &Peer) {
        if let Some(known) = self.known.get_mut(peer) {
            known.height = 0;
        }
    }

    /// The greatest height that anybody says to have.
    pub(crate) fn highest(&self) -> u64 {
        self.known.values().map(|known| known.height).max().unwrap_or_default()
    }

    /// Whom to ask for blocks above `height`: who has not been asked for the longest time.
    pub(crate) fn ask_for_blocks(&mut self, now: Timestamp, height: u64) -> Option<Peer> {
        let ahead = self.known.iter_mut().filter(|(_, known)| known.height > height);
        let (peer, known) = ahead.min_by_key(|(_, known)| known.asked)?;
        known.asked = now;
        Some(*peer)
    }

    /// Some peers, others each time.
    pub(crate) fn next_ones(&mut self, count: usize) -> Vec<Peer> {
        let after = self.last_turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let behind = self.known.range((after, std::ops::Bound::Unbounded));
        let all = behind.chain(&self.known).map(|(peer, _)| *peer);
        let next: Vec<Peer> = all.take(count.min(self.known.len())).collect();
        self.last_turn = next.last().copied();
        next
    }

    pub(crate) fn may_have_status(&mut self, peer: &Peer, now: Timestamp) -> bool {
        self.known.get_mut(peer).is_some_and(|known| is_due(&mut known.next_status, now))
    }

    pub(crate) fn may_have_proposal(&mut self, peer: &Peer, now: Timestamp) -> bool {
        self.known.get_mut(peer).is_some_and(|known| is_due(&mut known.next_proposal, now))
    }

    /// A peer wants blocks; it gets them when it is its turn.
    pub(crate) fn want(&mut self, peer: &Peer, from: u64) {
        if let Some(known) = self.known.get_mut(peer) {
            known.wants = Some(from);
        }
    }

    /// Who gets blocks now.
    pub(crate) fn whose_turn(&mut self, now: Timestamp) -> Vec<(Peer, u64)> {
        let mut all = Vec::new();
        for (peer, known) in &mut self.known {
            if known.wants.is_some()
                && is_due(&mut known.next_blocks, now)
                && let Some(from) = known.wants.take()
            {
                all.push((*peer, from));
            }
        }
        all
    }

    /// When somebody's turn to get blocks comes.
    pub(crate) fn next_serving(&self) -> Option<Timestamp> {
        let waiting = self.known.values().filter(|known| known.wants.is_some());
        waiting.map(|known| known.next_blocks).min()
    }

    /// Keeps what is for the next height. What is too much is dropped: it will be said again.
    pub(crate) fn keep_early(&mut self, peer: &Peer, message: Message) {
        let Some(known) = self.known.get_mut(peer) else { return };
        if known.early.len() >= EARLY_MESSAGES_PER_PEER_MAX {
            return;
        }
        if matches!(message, Message::Proposal(_)) {
            if known.early_proposals >= EARLY_PROPOSALS_PER_PEER_MAX
                || self.early_proposals >= EARLY_PROPOSALS_MAX
            {
                return;
            }
            known.early_proposals += 1;
            self.early_proposals += 1;
        }
        known.early.push_back(message);
    }

    /// All that was kept, proposals first: votes are worth more with them.
    pub(crate) fn take_early(&mut self) -> Vec<(Peer, Message)> {
        self.early_proposals = 0;
        let mut all = Vec::new();
        for (peer, known) in &mut self.known {
            known.early_proposals = 0;
            all.extend(known.early.drain(..).map(|message| (*peer, message)));
        }
        all.sort_by_key(|(_, message)| !matches!(message, Message::Proposal(_)));
        all
    }
}

/// Whether the time has come, which puts the next one off.
fn is_due(next: &mut Timestamp, now: Timestamp) -> bool {
    let due = now >= *next;
    if due {
        *next = now.plus_ms(ANSWER_MS_MIN);
    }
    due
}
