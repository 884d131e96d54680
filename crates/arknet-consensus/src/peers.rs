use std::collections::{BTreeMap, VecDeque};

use arknet_types::Timestamp;

use crate::{
    Message, Peer, Proposal,
    limits::{
        ANSWER_MS_MIN, EARLY_CERTIFICATES_PER_PEER_MAX, EARLY_MESSAGES_PER_PEER_MAX,
        EARLY_PROPOSALS_MAX, EARLY_PROPOSALS_PER_PEER_MAX, PEERS_MAX,
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
    /// How often in a row it did not give what it said it has.
    failures: u32,
    /// The height from which it wants blocks.
    wants: Option<u64>,
    /// When it may next be given blocks, a proposal or a status.
    next_blocks: Timestamp,
    next_proposal: Timestamp,
    next_status: Timestamp,
    early: VecDeque<Message>,
    early_proposals: usize,
    /// Proposals that were looked at for the next height, kept or not.
    early_looked_at: usize,
    early_certificates: usize,
    /// It can be spoken to, and it will be said when it cannot any more.
    is_joined: bool,
}

impl Peers {
    /// Whether this peer is listened to. One that speaks and cannot be spoken to makes place for
    /// others.
    pub(crate) fn hear(&mut self, peer: Peer) -> bool {
        if self.known.len() >= PEERS_MAX && !self.known.contains_key(&peer) {
            let unjoined = self.known.iter().find(|(_, known)| !known.is_joined);
            let Some(unjoined) = unjoined.map(|(peer, _)| *peer) else { return false };
            self.gone(&unjoined);
        }
        self.known.entry(peer).or_default();
        true
    }

    /// A peer can be spoken to. Whether it is listened to.
    pub(crate) fn joined(&mut self, peer: Peer) -> bool {
        let is_heard = self.hear(peer);
        if let Some(known) = self.known.get_mut(&peer) {
            known.is_joined = true;
        }
        is_heard
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
            known.failures = known.failures.saturating_add(1);
        }
    }

    /// A peer gave a block that was asked for.
    pub(crate) fn trust(&mut self, peer: &Peer) {
        if let Some(known) = self.known.get_mut(peer) {
            known.failures = 0;
        }
    }

    /// The greatest height that anybody says to have.
    pub(crate) fn highest(&self) -> u64 {
        self.known.values().map(|known| known.height).max().unwrap_or_default()
    }

    /// Whom to ask for blocks above `height`: who failed least in a row, and of these who has not
    /// been asked for the longest time.
    pub(crate) fn ask_for_blocks(&mut self, now: Timestamp, height: u64) -> Option<Peer> {
        let ahead = self.known.iter_mut().filter(|(_, known)| known.height > height);
        let (peer, known) = ahead.min_by_key(|(_, known)| (known.failures, known.asked))?;
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

    /// Keeps what is for the next height, a proposal only where it `holds`, which is looked at no more
    /// often than one may be kept. What is too much is dropped: it will be said again.
    pub(crate) fn keep_early(
        &mut self,
        peer: &Peer,
        message: Message,
        holds: impl FnOnce(&Proposal) -> bool,
    ) {
        let Some(known) = self.known.get_mut(peer) else { return };
        if known.early.len() >= EARLY_MESSAGES_PER_PEER_MAX {
            return;
        }
        if let Message::Proposal(proposal) = &message {
            if known.early_looked_at >= EARLY_PROPOSALS_PER_PEER_MAX
                || self.early_proposals >= EARLY_PROPOSALS_MAX
            {
                return;
            }
            known.early_looked_at += 1;
            if !holds(proposal) {
                return;
            }
            known.early_proposals += 1;
            self.early_proposals += 1;
        }
        if matches!(message, Message::Polka(_) | Message::Round(_)) {
            if known.early_certificates >= EARLY_CERTIFICATES_PER_PEER_MAX {
                return;
            }
            known.early_certificates += 1;
        }
        known.early.push_back(message);
    }

    /// All that was kept, proposals first: votes are worth more with them.
    pub(crate) fn take_early(&mut self) -> Vec<(Peer, Message)> {
        self.early_proposals = 0;
        let mut all = Vec::new();
        for (peer, known) in &mut self.known {
            (known.early_proposals, known.early_certificates) = (0, 0);
            known.early_looked_at = 0;
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

#[cfg(test)]
mod tests {
    use arknet_types::PublicKey;

    use super::*;

    fn peer(n: u16) -> Peer {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        PublicKey(key)
    }

    #[test]
    fn who_did_not_give_what_it_said_it_has_is_asked_last() {
        let mut peers = Peers::default();
        for n in 0..3 {
            peers.joined(peer(n));
            peers.note(&peer(n), 9);
        }
        let ask = |peers: &mut Peers, ms| peers.ask_for_blocks(Timestamp(ms), 1).unwrap();
        assert_eq!(ask(&mut peers, 1), peer(0));
        peers.doubt(&peer(0));
        assert_eq!(ask(&mut peers, 2), peer(1));
        // It says so again.
        peers.note(&peer(0), u64::MAX);
        assert_eq!([ask(&mut peers, 3), ask(&mut peers, 4)], [peer(2), peer(1)]);
        for n in 1..3 {
            peers.doubt(&peer(n));
            peers.note(&peer(n), 9);
        }
        peers.trust(&peer(2));
        assert_eq!(ask(&mut peers, 5), peer(2));
    }

    #[test]
    fn whoever_only_speaks_makes_place_for_those_that_can_be_spoken_to() {
        let mut peers = Peers::default();
        let most = u16::try_from(PEERS_MAX).unwrap();
        assert!((0..most).all(|n| peers.hear(peer(n))));
        assert!((0..most).all(|n| peers.joined(peer(most + n))));
        assert_eq!(peers.known.len(), PEERS_MAX);
        assert!(!peers.hear(peer(3)) && !peers.joined(peer(3)), "all that are there can be");
        peers.gone(&peer(most));
        assert!(peers.hear(peer(3)));
    }
}
