//! What peers say.

use arknet_chain::{Claim, CommitSignature, SignedVote, StateView, VoteKind};
use arknet_types::{Domain, Timestamp};

use super::{Now, Replica, Stage, misbehaved};
use crate::{
    Halt, Message, Misdeed, Output, Peer, Polka, Proposal, RoundCertificate, Source, Status,
    context::{Voters, engine_vote},
    convert,
};

use arc_malachitebft_core_consensus::Input as EngineInput;

impl Replica {
    pub(super) fn on_message<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let height = match &message {
            Message::Proposal(proposal) => {
                if proposal.proposed.proposed.network != self.network {
                    misbehaved(from, Misdeed::Network, out);
                    return Ok(());
                }
                proposal.proposed.proposed.height
            }
            Message::Vote(signed) => {
                if signed.vote.network != self.network {
                    misbehaved(from, Misdeed::Network, out);
                    return Ok(());
                }
                signed.vote.height
            }
            Message::Polka(polka) => polka.height,
            Message::Round(round) => round.height,
            _ => return self.on_other(at, from, message, out),
        };
        if height <= self.tip.height {
            self.on_past(at.time, from, message, out);
            return Ok(());
        }
        // Who speaks of a height has the block before it.
        self.peers.note(&from, height.saturating_sub(1));
        let is_now = height == self.height() && self.stage == Stage::Deciding;
        if !is_now {
            if height <= self.height().saturating_add(1) {
                let voters = &self.voters;
                let holds = |proposal: &Proposal| is_of_validator(proposal, voters);
                self.peers.keep_early(&from, message, holds);
            }
            return Ok(());
        }
        match message {
            Message::Proposal(proposal) => self.on_proposal(at, from, proposal, out),
            Message::Vote(vote) => self.on_vote(at, from, vote, out),
            Message::Polka(polka) => self.on_polka(at, from, polka, out),
            Message::Round(round) => self.on_round(at, from, round, out),
            _ => Ok(()),
        }
    }

    /// What is not about one height.
    fn on_other<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        message: Message,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        match message {
            Message::Transactions(transactions) => {
                let source = Source::Peer(from);
                let all = transactions.into_iter().map(|one| (source, one)).collect();
                self.on_transactions(at, all, out);
            }
            Message::Evidence(evidence) => match self.remember_evidence(at, &evidence) {
                Some(true) => {
                    out.push(Output::Forward { from, message: Message::Evidence(evidence) });
                }
                Some(false) => {}
                None => misbehaved(from, Misdeed::Evidence, out),
            },
            Message::Status(Status { network, height }) => {
                if network == self.network {
                    self.peers.note(&from, height);
                } else {
                    misbehaved(from, Misdeed::Network, out);
                }
            }
            Message::Want { from: height } => self.peers.want(&from, height),
            Message::Decided(decided) => self.on_decided(from, decided),
            Message::WantProposal { height, round, block } => {
                if height <= self.tip.height {
                    self.tell_status(at.time, from, out);
                } else {
                    self.on_want_proposal(at.time, from, (height, round, block), out);
                }
            }
            Message::Proposal(_) | Message::Vote(_) | Message::Polka(_) | Message::Round(_) => {}
            // Whoever keeps the state gives and takes snapshots of it.
            Message::WantSnapshot
            | Message::Snapshot(_)
            | Message::WantPart { .. }
            | Message::Part(_)
            | Message::WantLight { .. }
            | Message::Light(_) => {}
        }
        Ok(())
    }

    fn tell_status(&mut self, now: Timestamp, peer: Peer, out: &mut Vec<Output>) {
        if self.peers.may_have_status(&peer, now) {
            out.push(Output::Send(peer, self.status()));
        }
    }

    /// Something about a height that is decided: a precommit that is still missing in the tip's
    /// certificate, or a sign that its sender is behind.
    fn on_past(&mut self, now: Timestamp, from: Peer, message: Message, out: &mut Vec<Output>) {
        match message {
            Message::Vote(signed) if self.is_late_precommit(&signed) => {
                let voters = match self.stage {
                    Stage::Committing => Some(self.voters.set()),
                    Stage::Arrived | Stage::Deciding => self.last_voters.as_ref(),
                };
                let key = voters.and_then(|set| set.find(&signed.vote.validator)).map(|v| v.key);
                let (Some(key), Some(certificate)) = (key, &mut self.tip.certificate) else {
                    return;
                };
                let claim = Claim::new(key, Domain::CONSENSUS_VOTE, &signed.vote, signed.signature);
                if !claim.holds() {
                    misbehaved(from, Misdeed::Signature, out);
                    return;
                }
                let (validator, signature) = (signed.vote.validator, signed.signature);
                let place =
                    certificate.signatures.binary_search_by_key(&validator, |one| one.validator);
                if let Err(place) = place {
                    certificate.signatures.insert(place, CommitSignature { validator, signature });
                    out.push(Output::Forward { from, message: Message::Vote(signed) });
                }
            }
            Message::Vote(signed) if signed.vote.height == self.tip.height => {}
            _ => self.tell_status(now, from, out),
        }
    }

    fn is_late_precommit(&self, signed: &SignedVote) -> bool {
        let vote = &signed.vote;
        vote.kind == VoteKind::Precommit
            && self.tip.certificate.as_ref().is_some_and(|certificate| {
                (vote.height, vote.round, vote.block)
                    == (certificate.height, certificate.round, Some(certificate.block))
            })
    }

    fn on_vote<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        signed: SignedVote,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let (round, block) = (signed.vote.round, signed.vote.block);
        if self.engine.is_proved_twice(&signed) {
            return Ok(());
        }
        let input = EngineInput::Vote(engine_vote(&signed));
        self.feed(at, from, (input, Message::Vote(signed)), out)?;
        match block {
            Some(block) if self.stage == Stage::Deciding => self.on_quorum(at, round, block, out),
            _ => Ok(()),
        }
    }

    fn on_polka<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        polka: Polka,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let (round, block) = (polka.round, polka.block);
        let input = EngineInput::PolkaCertificate(convert::engine_polka(&polka));
        self.feed(at, from, (input, Message::Polka(polka)), out)?;
        if self.stage == Stage::Deciding {
            self.on_quorum(at, round, block, out)?;
        }
        Ok(())
    }

    fn on_round<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        round: RoundCertificate,
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let named: Vec<_> = round.votes.iter().filter_map(|vote| vote.block).collect();
        let number = round.round;
        let input = EngineInput::RoundCertificate(convert::engine_round(&round));
        self.feed(at, from, (input, Message::Round(round)), out)?;
        let blocks: std::collections::BTreeSet<_> = named.into_iter().collect();
        for block in blocks {
            if self.stage == Stage::Deciding {
                self.on_quorum(at, number, block, out)?;
            }
        }
        Ok(())
    }

    /// Feeds the engine, and passes on what was news to it.
    fn feed<V: StateView>(
        &mut self,
        at: &Now<'_, V>,
        from: Peer,
        (input, message): (EngineInput<crate::context::Chain>, Message),
        out: &mut Vec<Output>,
    ) -> Result<(), Halt> {
        let mut acts = Vec::new();
        self.engine.run(at.time, input, &mut acts)?;
        let fed = self.perform_all(at, acts, out)?;
        if fed.is_unsigned {
            misbehaved(from, Misdeed::Signature, out);
        } else if fed.is_new {
            out.push(Output::Forward { from, message });
        }
        Ok(())
    }
}

/// Whether a validator, as far as they are known before the height begins, signed a proposal of this
/// block. Whose turn it is depends on blocks that are not there yet. What a new validator proposes is
/// asked for when a quorum has voted for it.
fn is_of_validator(proposal: &Proposal, voters: &Voters) -> bool {
    let Proposal { proposed: signed, block } = proposal;
    let proposed = &signed.proposed;
    voters.set().find(&proposed.validator).is_some_and(|validator| {
        (block.header.height, block.header.id()) == (proposed.height, proposed.block)
            && Claim::new(validator.key, Domain::CONSENSUS_PROPOSAL, proposed, signed.signature)
                .holds()
    })
}
