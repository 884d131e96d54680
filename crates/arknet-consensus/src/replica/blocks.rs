//! Blocks of the height that is being decided: building, validating, keeping and missing them.

use std::sync::Arc;

use arknet_chain::{
    Block, BlockError, Claim, Executed, Hash, Header, Ingredients, Parent, Proposed, StateView,
    VerifiedBlock, VoteKind, build_block,
};
use arknet_types::{Domain, Timestamp};

use super::{Now, Parts, Replica, Stage, misbehaved};
use crate::{
    BlockVerdict, Halt, Message, Misdeed, Output, Peer, Proposal, Record,
    engine::Act,
    limits::{BODIES_MAX, MISSING_MS_MAX, MISSING_MS_MIN, RECORDED_BLOCKS_MAX},
};

/// A block that was proposed, as far as it is known.
#[derive(Debug)]
pub(super) struct Body {
    round: u32,
    found: Found,
}

#[derive(Debug)]
enum Found {
    /// Valid.
    Good(Box<Parts>),
    /// Valid, but not voted for unless a quorum has: it came too early by this node's clock, or so
    /// many are recorded that no more are unasked.
    Held(Box<Parts>),
    Bad(Box<Header>),
}

impl Body {
    pub(super) fn header(&self) -> &Header {
        match &self.found {
            Found::Good(parts) | Found::Held(parts) => &parts.1.header,
            Found::Bad(header) => header,
        }
    }

    /// The block, if it is valid.
    pub(super) fn block(&self) -> Option<Arc<Block>> {
        match &self.found {
            Found::Good(parts) | Found::Held(parts) => Some(Arc::clone(&parts.0)),
            Found::Bad(_) => None,
        }
    }

    pub(super) fn into_parts(self) -> Option<Parts> {
        match self.found {
            Found::Good(parts) | Found::Held(parts) => Some(*parts),
            Found::Bad(_) => None,
        }
    }

    const fn is_good(&self) -> bool {
        matches!(self.found, Found::Good(_))
    }
}

/// A proposal that a quorum voted for and this node lacks.
#[derive(Debug)]
pub(super) struct Missing {
    round: u32,
    block: Hash,
    pub(super) ask_at: Timestamp,
    /// How long the next request waits.
    wait_ms: u64,
}

/// Why a block is not taken.
enum Wrong {
    /// Somebody changed it on its way.
    Changed,
    /// It is invalid.
    Invalid(BlockError),
}

impl Replica {
    /// Checks and executes a block of this height.
    fn execute<V: StateView>(
        &self,
        at: &Now<'_, V>,
        block: &Arc<Block>,
    ) -> Result<(VerifiedBlock, Executed), Wrong> {
        let is_known = |id: &Hash| self.mempool.find(id).is_some();
        let parent = Parent { view: at.view, id: self.tip.id };
        let (quotes, which_hold) = (self.options.quotes.as_ref(), self.options.which_hold);
        let executed = Block::clone(block).execute_knowing(&parent, quotes, is_known, which_hold);
        executed.map_err(|error| match error {
            BlockError::Body { .. } => Wrong::Changed,
            error => Wrong::Invalid(error),
        })
    }

    /// The block of a certificate that holds: it must be valid, or this node is not sane. None where
    /// it is not the block that it says. What comes back is the block that was checked, not one
    /// that merely has its name.
    pub(super) fn execute_decided<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        block: &Arc<Block>,
    ) -> Result<Option<Parts>, Halt> {
        let id = block.header.id();
        if let Some(parts) = self.bodies.remove(&id).and_then(Body::into_parts) {
            return Ok(Some(parts));
        }
        match self.execute(at, block) {
            Ok((verified, executed)) => Ok(Some((Arc::clone(block), verified, executed))),
            Err(Wrong::Changed) => Ok(None),
            Err(Wrong::Invalid(error)) => {
                let (height, reason) = (self.height(), error.to_string());
                Err(Halt::Diverged { height, block: id, reason })
            }
        }
    }

    /// Keeps a block, in the place of one that is needed less where there are too many.
    fn keep(&mut self, id: Hash, body: Body) {
        self.bodies.insert(id, body);
        if self.bodies.len() <= BODIES_MAX {
            return;
        }
        let keep = [Some(id), self.engine.valid_block(), self.own.map(|(_, block)| block)];
        let others = self.bodies.iter().filter(|(id, _)| !keep.contains(&Some(**id)));
        let oldest = others.min_by_key(|(_, body)| body.round).map(|(id, _)| *id);
        oldest.and_then(|id| self.bodies.remove(&id));
    }

    /// Takes a block from the log, which was valid before.
    pub(super) fn admit_recorded<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        block: &Arc<Block>,
    ) -> Result<(), Halt> {
        let Ok((verified, executed)) = self.execute(at, block) else {
            return Err(Halt::Log("a block in it is not valid".to_owned()));
        };
        let (id, found) =
            (block.header.id(), Found::Good(Box::new((Arc::clone(block), verified, executed))));
        self.recorded.insert(id);
        self.keep(id, Body { round: 0, found });
        Ok(())
    }

    /// Remembers from the log which block was built here.
    pub(super) fn recall(&mut self, verdict: &BlockVerdict) {
        if let Some(body) = self.bodies.get_mut(&verdict.block) {
            body.round = body.round.max(verdict.round);
            let is_ours = verdict.proposer == self.operator;
            if is_ours && body.header().proposer == self.operator {
                self.own = Some((verdict.round, verdict.block));
            }
        }
    }

    /// After a crash: the proposal that may not have left.
    pub(super) fn say_again(&mut self, out: &mut Vec<Output>) {
        let Some((round, id)) = self.own else { return };
        let proposed = self.engine.proposal(round, id);
        let block = self.bodies.get(&id).and_then(Body::block);
        if let (Some(proposed), Some(block)) = (proposed, block) {
            out.push(Output::Broadcast(Message::Proposal(Proposal { proposed, block })));
        }
    }

    /// A proposal for this height.
    pub(super) fn on_proposal<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        proposal: Proposal,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let Proposal { proposed: signed, block } = &proposal;
        let proposed = &signed.proposed;
        let (round, id) = (proposed.round, proposed.block);
        if self.engine.is_too_far(round)
            || self.engine.is_too_many(round, id)
            || self.engine.proposal(round, id).is_some()
        {
            return Ok(());
        }
        if self.voters.proposer(proposed.height, round) != &proposed.validator {
            misbehaved(from, Misdeed::Proposer, out);
            return Ok(());
        }
        let key = self.voters.set().find(&proposed.validator).map(|v| v.key);
        let key = key.expect("a proposer is of the set");
        let claim = Claim::new(key, Domain::CONSENSUS_PROPOSAL, proposed, signed.signature);
        if !claim.holds() {
            misbehaved(from, Misdeed::Signature, out);
            return Ok(());
        }
        let is_fresh = proposed.valid_round.is_none();
        let header = &block.header;
        // A block that was proposed before has its first proposer's name.
        let is_named = header.proposer == proposed.validator || !is_fresh;
        if header.height != proposed.height || header.id() != id || !is_named {
            misbehaved(from, Misdeed::Block, out);
            return Ok(());
        }
        let Some(is_valid) = self.judge(at, from, proposed, block, out) else {
            return Ok(());
        };
        let verdict = BlockVerdict {
            height: proposed.height,
            round,
            block: id,
            valid_round: proposed.valid_round,
            proposer: proposed.validator,
            is_valid,
        };
        let mut acts = Vec::new();
        self.engine.run(at.time, verdict.input(), &mut acts)?;
        self.engine.feed_proposal(at.time, signed, &mut acts)?;
        // The verdict is recorded each time; the proposal only when it is new.
        let is_new = acts.iter().any(|act| matches!(act, Act::Record(Record::Proposal(_))));
        // The block that was checked, not one that merely has its name.
        let block = self.bodies.get(&id).and_then(Body::block);
        self.perform(at, acts, out)?;
        if let Some(block) = block.filter(|_| is_new) {
            let message = Message::Proposal(Proposal { proposed: signed.clone(), block });
            out.push(Output::Forward { from, message });
        }
        if self.stage == Stage::Deciding {
            self.on_quorum(at, round, id, out)?;
        }
        Ok(())
    }

    /// Whether a block may be voted for; none where it is not the block that it says.
    fn judge<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        proposed: &Proposed,
        block: &Arc<Block>,
        out: &mut Vec<Output>,
    ) -> Option<bool> {
        let (id, round) = (proposed.block, proposed.round);
        let is_free = match proposed.valid_round {
            None => block.header.is_timely(at.time) && self.may_record(&id),
            Some(valid) => {
                self.may_record(&id) || self.engine.has_quorum(VoteKind::Prevote, valid, id)
            }
        };
        if let Some(body) = self.bodies.remove(&id) {
            let round = body.round.max(round);
            let found = match body.found {
                Found::Held(parts) if is_free => {
                    self.record_block(&parts.0, out);
                    Found::Good(parts)
                }
                found => found,
            };
            let body = Body { round, found };
            let is_good = body.is_good();
            self.bodies.insert(id, body);
            return Some(is_good);
        }
        let found = match self.execute(at, block) {
            Ok((verified, executed)) => {
                let parts = Box::new((Arc::clone(block), verified, executed));
                if is_free {
                    self.record_block(block, out);
                    Found::Good(parts)
                } else {
                    Found::Held(parts)
                }
            }
            Err(Wrong::Changed) => {
                misbehaved(from, Misdeed::Block, out);
                return None;
            }
            Err(Wrong::Invalid(error)) => {
                misbehaved(from, Misdeed::Invalid(error), out);
                Found::Bad(Box::new(block.header.clone()))
            }
        };
        let body = Body { round, found };
        let is_good = body.is_good();
        self.keep(id, body);
        Some(is_good)
    }

    /// Whether a block is in the log, or may go there before a quorum has voted for it.
    fn may_record(&self, id: &Hash) -> bool {
        self.recorded.contains(id) || self.recorded.len() < RECORDED_BLOCKS_MAX
    }

    /// Puts a block into the log, once: it may have made room for others and come again.
    fn record_block(&mut self, block: &Arc<Block>, out: &mut Vec<Output>) {
        if self.signs && self.recorded.insert(block.header.id()) {
            out.push(Output::Record(Record::Block(Arc::clone(block))));
        }
    }

    /// Looks whether a quorum voted for something that this node cannot vote for yet.
    pub(super) fn on_quorum<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        round: u32,
        block: Hash,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let kinds = [VoteKind::Prevote, VoteKind::Precommit];
        if !kinds.iter().any(|kind| self.engine.has_quorum(*kind, round, block)) {
            return Ok(());
        }
        if matches!(self.bodies.get(&block), Some(Body { found: Found::Held(_), .. })) {
            // So many honest ones voted for it that only this node's clock, or its log, is otherwise.
            self.take_held(at, round, block, out)?;
        }
        if self.stage == Stage::Deciding && self.engine.proposal(round, block).is_none() {
            let is_same =
                self.missing.as_ref().is_some_and(|m| (m.round, m.block) == (round, block));
            if !is_same {
                let (ask_at, wait_ms) = (at.time.plus_ms(MISSING_MS_MIN), 2 * MISSING_MS_MIN);
                self.missing = Some(Missing { round, block, ask_at, wait_ms });
            }
        }
        Ok(())
    }

    fn take_held<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        round: u32,
        id: Hash,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let Some(Body { found: Found::Held(parts), round: first }) = self.bodies.remove(&id) else {
            return Ok(());
        };
        self.record_block(&parts.0, out);
        let proposer = parts.1.header.proposer;
        self.bodies.insert(id, Body { round: first, found: Found::Good(parts) });
        let verdict = BlockVerdict {
            height: self.height(),
            round,
            block: id,
            valid_round: None,
            proposer,
            is_valid: true,
        };
        let mut acts = Vec::new();
        self.engine.run(at.time, verdict.input(), &mut acts)?;
        self.perform(at, acts, out)
    }

    pub(super) fn ask_for_missing(&mut self, now: Timestamp, out: &mut Vec<Output>) {
        let height = self.height();
        let Some(missing) = &mut self.missing else { return };
        let (round, block) = (missing.round, missing.block);
        if self.engine.proposal(round, block).is_some() {
            self.missing = None;
        } else if now >= missing.ask_at {
            missing.ask_at = now.plus_ms(missing.wait_ms);
            missing.wait_ms = (2 * missing.wait_ms).min(MISSING_MS_MAX);
            let message = Message::WantProposal { height, round, block };
            let peers = self.peers.next_ones(1).into_iter();
            out.extend(peers.map(|peer| Output::Send(peer, message.clone())));
        }
    }

    /// Somebody lacks a proposal.
    pub(super) fn on_want_proposal(
        &mut self,
        now: Timestamp,
        from: Peer,
        (height, round, block): (u64, u32, Hash),
        out: &mut Vec<Output>,
    ) {
        if height != self.height() || self.stage != Stage::Deciding {
            return;
        }
        let Some(proposed) = self.engine.proposal(round, block) else { return };
        let Some(block) = self.bodies.get(&block).and_then(Body::block) else { return };
        if self.peers.may_have_proposal(&from, now) {
            out.push(Output::Send(from, Message::Proposal(Proposal { proposed, block })));
        }
    }

    /// When this node proposes, if it is its turn in `round`.
    pub(super) fn propose_at(&self, round: u32) -> Timestamp {
        if round > 0 {
            return self.began;
        }
        let timing = self.timing();
        let gathered = if self.is_complete() { 0 } else { timing.gather_ms };
        let has_work = !(self.is_idle || (self.mempool.is_empty() && self.evidence.is_empty()));
        let wait = if has_work { gathered } else { gathered.max(timing.block_interval_ms) };
        self.began.plus_ms(wait)
    }

    /// Whether all have signed the last block of whom it can be expected.
    fn is_complete(&self) -> bool {
        let (Some(last), Some(certificate)) = (&self.last_voters, &self.tip.certificate) else {
            return true;
        };
        let presence = self.voters.presence();
        let has_signed = |operator| {
            certificate.signatures.binary_search_by_key(operator, |one| one.validator).is_ok()
        };
        last.members().iter().all(|v| presence.is_absent(&v.operator) || has_signed(&v.operator))
    }

    /// Proposes a block if it is time to.
    pub(super) fn try_propose<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let Some(round) = self.wanted else { return Ok(()) };
        if self.stage != Stage::Deciding || !self.engine.awaits_block(round) {
            self.wanted = None;
            return Ok(());
        }
        if at.time < self.propose_at(round) {
            return Ok(());
        }
        // One that was built for an earlier round is as good as ever, and others may have it.
        let block = match self.own {
            Some((_, block)) if self.bodies.contains_key(&block) => {
                self.own = Some((round, block));
                block
            }
            _ => match self.build(at, round, out) {
                Some(block) => block,
                None => return Ok(()),
            },
        };
        self.wanted = None;
        let mut acts = Vec::new();
        self.engine.propose(at.time, (round, block), &mut acts)?;
        self.perform(at, acts, out)
    }

    /// Builds a block; none where nothing of what waits can be in it and there is time.
    fn build<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        round: u32,
        out: &mut Vec<Output>,
    ) -> Option<Hash> {
        let ingredients = Ingredients {
            time: at.time.max(self.meta.time.plus_ms(1)),
            proposer: self.operator,
            commit: self.tip.certificate.clone(),
            evidence: self.evidence.values().cloned().collect(),
            transactions: self.mempool.best(self.meta.base_fee),
        };
        let parent = Parent { view: at.view, id: self.tip.id };
        let built = build_block(&parent, ingredients, self.options.quotes.as_ref());
        let (verified, executed) = built.expect("who signs is a validator and has the certificate");
        if verified.body.transactions.is_empty() && verified.body.evidence.is_empty() {
            self.is_idle = true;
            if at.time < self.propose_at(round) {
                return None;
            }
        }
        let id = verified.header.id();
        let block = Arc::new(verified.clone().into_block());
        self.record_block(&block, out);
        let found = Found::Good(Box::new((block, verified, executed)));
        self.own = Some((round, id));
        self.keep(id, Body { round, found });
        Some(id)
    }
}
