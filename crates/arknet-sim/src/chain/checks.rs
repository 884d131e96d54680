use std::collections::{BTreeMap, BTreeSet};

use arknet_chain::{
    Evidence, Hash, Key, Node, Role, StateView, VoteKind, outcomes_root, read, state_root,
};
use arknet_consensus::{Commit, Message};
use arknet_types::Address;

/// What must hold whatever happens.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The block of each height, and the state after it.
    chain: BTreeMap<u64, (Hash, Hash)>,
    /// What honest validators said, by whom, for which height, round and step.
    said: BTreeMap<(Address, u64, u32, u8), Option<Hash>>,
    /// Transactions of which somebody was told that they wait.
    pub(crate) promised: BTreeSet<Hash>,
    pub(crate) included: BTreeSet<Hash>,
    // What shows that a run got anywhere.
    pub(crate) highest_round: u32,
    pub(crate) fetches: u64,
    pub(crate) asked_for_proposals: u64,
    pub(crate) misdeeds: u64,
    pub(crate) banned: BTreeSet<Address>,
}

impl Checks {
    /// An honest node commits a block.
    pub(crate) fn committed(
        &mut self,
        node: usize,
        (commit, state): (&Commit, &impl StateView),
        honest: &[Address],
    ) -> Result<(), String> {
        let header = &commit.block.header;
        let found = (header.id(), header.state_root);
        let first = *self.chain.entry(header.height).or_insert(found);
        if first != found {
            return Err(format!("node {node} commits another block at height {}", header.height));
        }
        if commit.certificate.block != found.0 {
            return Err(format!("node {node} commits with a certificate of another block"));
        }
        if state_root(state) != header.state_root {
            return Err(format!("node {node} has another state at height {}", header.height));
        }
        if outcomes_root(&commit.executed.outcomes) != header.outcomes {
            return Err(format!("node {node} has other outcomes at height {}", header.height));
        }
        for operator in honest {
            let record: Option<Node> = read(state, &Key::Node(Role::Validator, *operator));
            if record.is_some_and(|record| record.banned) {
                return Err(format!("{operator} is honest and was punished"));
            }
        }
        let evidence = commit.block.evidence.iter().map(Evidence::validator);
        self.banned.extend(evidence);
        self.included.extend(commit.executed.outcomes.iter().map(|outcome| outcome.id));
        Ok(())
    }

    /// An honest node says something of its own, or again.
    pub(crate) fn says(&mut self, operator: Address, message: &Message) -> Result<(), String> {
        let (validator, height, round, step, block) = match message {
            Message::Vote(signed) => {
                let vote = &signed.vote;
                let step = u8::from(vote.kind == VoteKind::Precommit);
                (vote.validator, vote.height, vote.round, step, vote.block)
            }
            Message::Proposal(proposal) => {
                let proposed = &proposal.proposed.proposed;
                (proposed.validator, proposed.height, proposed.round, 2, Some(proposed.block))
            }
            _ => return Ok(()),
        };
        if validator != operator {
            return Ok(());
        }
        self.highest_round = self.highest_round.max(round);
        let before = *self.said.entry((validator, height, round, step)).or_insert(block);
        if before == block {
            return Ok(());
        }
        Err(format!("{operator} says two things at height {height}, round {round}, step {step}"))
    }

    /// Transactions that were promised and are in no block.
    pub(crate) fn open_promises(&self) -> usize {
        self.promised.difference(&self.included).count()
    }
}
