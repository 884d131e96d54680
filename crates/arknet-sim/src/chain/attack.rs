//! What liars do. They run the real state machine, and change what it says.

use std::{collections::VecDeque, sync::Arc};

use arknet_chain::{
    Block, Hash, Ingredients, NoQuotes, Parent, Proposed, SignedProposed, SignedVote, Vote,
    build_block,
};
use arknet_consensus::{Decided, Message, Proposal};
use arknet_types::{Address, NetworkId, Timestamp};

use super::world::World;

/// What liars remember of what was said, to say it again.
#[derive(Debug, Default)]
pub(crate) struct Attacker {
    heard: VecDeque<Arc<Vec<u8>>>,
    pub(crate) lies: u64,
}

const HEARD_MAX: usize = 64;

impl World {
    /// A liar was about to say `message` to all.
    pub(crate) fn lie(&mut self, node: usize, message: Message) {
        let bytes = Arc::new(arknet_types::encode(&message));
        self.attacker.heard.push_back(bytes);
        if self.attacker.heard.len() > HEARD_MAX {
            self.attacker.heard.pop_front();
        }
        if self.rng.chance(100) {
            let index = self.rng.index(self.attacker.heard.len());
            let old = Arc::clone(&self.attacker.heard[index]);
            self.send_some(node, 500, &old);
        }
        match message {
            Message::Vote(vote) if self.rng.chance(400) => self.lie_in_vote(node, &vote),
            Message::Proposal(proposal) if self.rng.chance(600) => {
                self.lie_in_proposal(node, &proposal);
            }
            message => self.send_all(node, None, &message),
        }
    }

    fn send_some(&mut self, from: usize, permille: u64, bytes: &Arc<Vec<u8>>) {
        for to in 0..self.nodes.len() {
            if to != from && self.is_linked(from, to) && self.rng.chance(permille) {
                self.send(from, to, bytes);
            }
        }
    }

    fn lie_in_vote(&mut self, node: usize, signed: &SignedVote) {
        self.attacker.lies += 1;
        let key = self.nodes[node].key.clone().expect("liars vote");
        let own = Arc::new(arknet_types::encode(&Message::Vote(signed.clone())));
        let other = match self.rng.index(4) {
            // Two votes.
            0 => {
                let block = match signed.vote.block {
                    Some(_) => None,
                    None => Some(Hash([9; 32])),
                };
                SignedVote::sign(Vote { block, ..signed.vote.clone() }, &key)
            }
            // None.
            1 => return,
            // One of another chain.
            2 => {
                let network = NetworkId::new("arknet-other-1").expect("a name");
                SignedVote::sign(Vote { network, ..signed.vote.clone() }, &key)
            }
            // One with the signature of that.
            _ => {
                let network = NetworkId::new("arknet-other-1").expect("a name");
                let other = SignedVote::sign(Vote { network, ..signed.vote.clone() }, &key);
                SignedVote { vote: signed.vote.clone(), signature: other.signature }
            }
        };
        let other = Arc::new(arknet_types::encode(&Message::Vote(other)));
        self.send_some(node, 600, &own);
        self.send_some(node, 600, &other);
    }

    fn lie_in_proposal(&mut self, node: usize, proposal: &Proposal) {
        self.attacker.lies += 1;
        let own = Arc::new(arknet_types::encode(&Message::Proposal(proposal.clone())));
        let block = &proposal.block;
        let later = |ms: u64| block.header.time.plus_ms(ms);
        let mut changed = Block::clone(block);
        let other = match self.rng.index(8) {
            // Withheld from some.
            0 | 1 => return self.send_some(node, 500, &own),
            // Two valid blocks.
            2 => self.another_block(node, block, later(1)),
            // From the future.
            3 => self.another_block(node, block, later(20_000)),
            // Another result than executing it has: of the state, or of a transaction.
            4 => {
                let header = &mut changed.header;
                let even = header.height.is_multiple_of(2);
                let root = if even { &mut header.state_root } else { &mut header.outcomes };
                *root = Hash([7; 32]);
                Some(changed)
            }
            5 => {
                changed.header.proposer = Address([7; 20]);
                Some(changed)
            }
            // A transaction that nobody signed, or a body that the header does not name.
            6 => {
                if let Some(one) = changed.transactions.first_mut() {
                    one.body.tip.0 += 1;
                }
                let same = Proposal { block: Arc::new(changed), ..proposal.clone() };
                let same = Arc::new(arknet_types::encode(&Message::Proposal(same)));
                return self.send_some(node, 900, &same);
            }
            _ => {
                changed.header.parent = Hash([3; 32]);
                Some(changed)
            }
        };
        let Some(other) = other else { return };
        let key = self.nodes[node].key.clone().expect("liars vote");
        let proposed = Proposed { block: other.header.id(), ..proposal.proposed.proposed.clone() };
        let proposed = SignedProposed::sign(proposed, &key);
        let other = Message::Proposal(Proposal { proposed, block: Arc::new(other) });
        let other = Arc::new(arknet_types::encode(&other));
        if self.rng.chance(500) {
            self.send_some(node, 500, &own);
        }
        self.send_some(node, 700, &other);
    }

    /// What a liar gives to those who fetch blocks.
    pub(crate) fn lie_in_blocks(&mut self, blocks: &mut Vec<Decided>) {
        if blocks.is_empty() || self.rng.chance(400) {
            return;
        }
        self.attacker.lies += 1;
        let index = self.rng.index(blocks.len());
        let kind = self.rng.index(4);
        let Decided { block, certificate } = &mut blocks[index];
        match kind {
            // Another body under the header, or another header.
            0 => {
                let mut changed = Block::clone(block);
                changed.transactions.clear();
                changed.commit = None;
                *block = Arc::new(changed);
            }
            1 => {
                let mut changed = Block::clone(block);
                changed.header.state_root = Hash([8; 32]);
                certificate.block = changed.header.id();
                *block = Arc::new(changed);
            }
            2 => certificate.signatures.truncate(1),
            _ => blocks.truncate(0),
        }
    }

    /// Another block in the place of `block`, as valid as that but for its time.
    fn another_block(&self, node: usize, block: &Block, time: Timestamp) -> Option<Block> {
        let disk = &self.nodes[node].disk;
        if disk.blocks.len() as u64 + 1 != block.header.height {
            return None;
        }
        let parent = Parent { view: &disk.state, id: block.header.parent };
        let ingredients = Ingredients {
            time,
            proposer: block.header.proposer,
            commit: block.commit.clone(),
            evidence: vec![],
            transactions: vec![],
        };
        let built = build_block(&parent, ingredients, &NoQuotes).ok();
        built.map(|(verified, _)| verified.into_block())
    }
}
