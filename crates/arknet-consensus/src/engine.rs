//! The engine that decides, behind what this crate needs of it: an input goes in, acts come out.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use arc_malachitebft_core_consensus as engine;
use arc_malachitebft_core_types as core;
use arknet_chain::{
    Claim, CommitCertificate, Evidence, Hash, SignedProposed, SignedVote, VoteKind,
};
use arknet_types::{Address, Domain, KeyPair, Timestamp};
use core::{
    CertificateError, LinearTimeouts, Round, RoundCertificateType, Threshold, ThresholdParams,
    Timeout, TimeoutKind, ValidatorSet as _, ValuePayload, VoteExtensionPolicy, VoteType,
};
use engine::{ConsensusMsg, Effect, LivenessMsg, Resumable, Resume, SignedConsensusMsg};

use crate::{
    Polka, Record, RoundCertificate, Timing,
    context::{
        BlockId, Chain, EngineProposal, EngineVote, Height, Operator, Seal, Voters,
        engine_proposal, engine_vote, vote_type,
    },
    convert,
};

/// What the engine wants done.
#[derive(Debug)]
pub(crate) enum Act {
    /// Must survive a crash before what follows is said.
    Record(Record),
    /// To be said to all, with the block.
    Propose(SignedProposed),
    /// To be said to all.
    Vote(SignedVote),
    /// To be said to all.
    Polka(Polka),
    /// To be said to all.
    Round(RoundCertificate),
    /// It is our turn to propose.
    GetBlock {
        /// In this round.
        round: u32,
    },
    /// The height is decided.
    Decided {
        /// The proof.
        certificate: CommitCertificate,
        /// What some said twice.
        evidence: Vec<Evidence>,
    },
    /// What was fed is not signed by who it says.
    BadSignature,
    /// Nothing has happened for a while: others may lack votes that are known here.
    Repeat,
}

/// Why a node must end: to go on would be worse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// A quorum committed what this node finds invalid.
    #[error("a quorum committed block {block} of height {height}, which is invalid here: {reason}")]
    Diverged {
        /// The height.
        height: u64,
        /// The block.
        block: Hash,
        /// Why it is invalid.
        reason: String,
    },
    /// The engine failed.
    #[error("the consensus engine failed: {0}")]
    Engine(String),
    /// The records are not those that this node wrote after its last block.
    #[error("the log of this height cannot be followed: {0}")]
    Log(String),
    /// The state is not the one after the last block.
    #[error("the state is of height {found}, the last block of height {expected}")]
    State {
        /// The last block's height.
        expected: u64,
        /// The state's.
        found: u64,
    },
}

/// The engine.
pub(crate) struct Engine {
    state: engine::State<Chain>,
    desk: Desk,
}

/// What the engine's effects need.
struct Desk {
    chain: Chain,
    key: Option<KeyPair>,
    timing: Timing,
    timers: Vec<(Timestamp, Timeout)>,
    /// What was recorded before, in bytes, while it is replayed.
    replayed: BTreeSet<Vec<u8>>,
}

impl Engine {
    pub(crate) fn new(
        chain: Chain,
        (operator, key): (Address, Option<KeyPair>),
        timing: Timing,
        (height, voters): (u64, Voters),
    ) -> Self {
        let params = engine::Params {
            address: Operator(operator),
            threshold_params: ThresholdParams::default(),
            // "Proposal only" would take every block for valid without asking.
            value_payload: ValuePayload::ProposalAndParts,
            enabled: false,
        };
        let state = engine::State::new(chain.clone(), Height(height), voters, params, 1, 1);
        let desk = Desk { chain, key, timing, timers: Vec::new(), replayed: BTreeSet::new() };
        Self { state, desk }
    }

    /// Begins a height. Whoever does not sign only follows.
    pub(crate) fn start(
        &mut self,
        now: Timestamp,
        (height, voters): (u64, Voters),
        signs: bool,
        acts: &mut Vec<Act>,
    ) -> Result<(), Halt> {
        self.state.params.enabled = signs;
        let policy = VoteExtensionPolicy::Disabled;
        let input = engine::Input::StartHeight(Height(height), voters, false, None, policy);
        self.run(now, input, acts)
    }

    /// Begins to feed what was recorded before: what is derived from it is not recorded again.
    pub(crate) fn begin_replay(&mut self, records: &[Record]) {
        self.desk.replayed = records.iter().map(arknet_types::encode).collect();
        let inputs: Vec<_> = records.iter().filter_map(Record::input).collect();
        self.state.index_wal_entries(&inputs);
    }

    pub(crate) fn end_replay(&mut self) {
        self.desk.replayed.clear();
        self.state.reset_entries_index();
    }

    pub(crate) fn run(
        &mut self,
        now: Timestamp,
        input: engine::Input<Chain>,
        acts: &mut Vec<Act>,
    ) -> Result<(), Halt> {
        let Self { state, desk } = self;
        let result: Result<(), engine::Error<Chain>> = engine::process!(
            input: input,
            state: state,
            metrics: &(),
            with: effect => desk.perform(now, effect, acts)
        );
        result.map_err(|error| Halt::Engine(error.to_string()))
    }

    /// Makes a block that this node built its proposal.
    pub(crate) fn propose(
        &mut self,
        now: Timestamp,
        (round, block): (u32, Hash),
        acts: &mut Vec<Act>,
    ) -> Result<(), Halt> {
        let height = self.state.height();
        let value = engine::LocallyProposedValue::new(height, Round::new(round), BlockId(block));
        self.run(now, engine::Input::Propose(value), acts)
    }

    /// Feeds the timers whose time has come, until something is decided.
    pub(crate) fn on_time(&mut self, now: Timestamp, acts: &mut Vec<Act>) -> Result<(), Halt> {
        let due = |timers: &[(Timestamp, Timeout)]| {
            let due = timers.iter().enumerate().filter(|(_, (at, _))| *at <= now);
            due.min_by_key(|(_, (at, _))| *at).map(|(index, _)| index)
        };
        // Each timer that comes due plans a later one at most.
        while let Some(index) = due(&self.desk.timers) {
            let (_, timeout) = self.desk.timers.remove(index);
            self.run(now, engine::Input::TimeoutElapsed(timeout), acts)?;
            if timeout.kind == TimeoutKind::Rebroadcast {
                acts.push(Act::Repeat);
            }
        }
        Ok(())
    }

    pub(crate) fn next_wakeup(&self) -> Option<Timestamp> {
        self.desk.timers.iter().map(|(at, _)| *at).min()
    }

    /// Forgets timers: nothing is decided any more until the next height begins.
    pub(crate) fn rest(&mut self) {
        self.desk.timers.clear();
    }

    pub(crate) fn round(&self) -> u32 {
        self.state.round().as_u32().unwrap_or_default()
    }

    /// Whether a proposal of ours is still wanted in `round`.
    pub(crate) fn awaits_block(&self, round: u32) -> bool {
        self.state.round() == Round::new(round) && self.state.driver.step_is_propose()
    }

    /// Whether the engine would drop what is of this round.
    pub(crate) fn is_too_far(&self, round: u32) -> bool {
        round > self.round().saturating_add(crate::limits::ROUNDS_AHEAD_MAX)
    }

    /// Whether so many blocks were proposed in the round that this one would be dropped.
    pub(crate) fn is_too_many(&self, round: u32, block: Hash) -> bool {
        self.state.exceeds_per_round_cap(self.state.height(), Round::new(round), &block)
    }

    /// The proposal of a block in a round, if its block is here too.
    pub(crate) fn proposal(&self, round: u32, block: Hash) -> Option<SignedProposed> {
        let (height, round) = (self.state.height(), Round::new(round));
        let full = self.state.full_proposal_at_round_and_value(&height, round, &BlockId(block))?;
        Some(self.desk.chain.signed_proposed(&full.proposal))
    }

    /// The votes of others in this round.
    pub(crate) fn votes_of_others(&self) -> Vec<SignedVote> {
        let round = self.state.driver.votes().per_round(self.state.round());
        let votes = round.into_iter().flat_map(|round| round.received_votes());
        let own = *self.state.address();
        let others = votes.map(|vote| self.desk.chain.signed_vote(vote));
        others.filter(|signed| signed.vote.validator != own.0).collect()
    }

    /// Whether a vote and one that contradicts it are known. The engine would take and record it
    /// each time it comes.
    pub(crate) fn is_proved_twice(&self, signed: &SignedVote) -> bool {
        self.state.driver.votes().has_equivocation_evidence(&engine_vote(signed))
    }

    /// Whether a quorum voted for the block in a round.
    pub(crate) fn has_quorum(&self, kind: VoteKind, round: u32, block: Hash) -> bool {
        let round = Round::new(round);
        let votes = self.state.driver.votes();
        votes.is_threshold_met(&round, vote_type(kind), Threshold::Value(block))
            || (kind == VoteKind::Prevote && self.state.polka_certificate(round, &block).is_some())
    }

    /// The block that a later round would propose again.
    pub(crate) fn valid_block(&self) -> Option<Hash> {
        self.state.driver.valid_value().map(|valid| valid.value.0)
    }

    /// What some said twice at this height.
    pub(crate) fn take_evidence(&mut self) -> Vec<Evidence> {
        let found = engine::MisbehaviorEvidence {
            proposals: self.state.driver.take_proposal_evidence(),
            votes: self.state.driver.take_vote_evidence(),
        };
        convert::evidence(&self.desk.chain, &found)
    }

    pub(crate) fn feed_proposal(
        &mut self,
        now: Timestamp,
        signed: &SignedProposed,
        acts: &mut Vec<Act>,
    ) -> Result<(), Halt> {
        self.run(now, engine::Input::Proposal(engine_proposal(signed)), acts)
    }
}

impl Desk {
    /// Does what one effect asks for.
    fn perform(
        &mut self,
        now: Timestamp,
        effect: Effect<Chain>,
        acts: &mut Vec<Act>,
    ) -> Result<Resume<Chain>, Infallible> {
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                self.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                self.timers.retain(|(_, other)| *other != timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                self.timers.retain(|(_, other)| *other != timeout);
                self.timers.push((now.plus_ms(self.timing.of(timeout)), timeout));
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(SignedConsensusMsg::Vote(vote), r)
            | Effect::PublishLivenessMsg(LivenessMsg::Vote(vote), r)
            | Effect::RepublishVote(vote, r) => {
                acts.push(Act::Vote(self.chain.signed_vote(&vote)));
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(SignedConsensusMsg::Proposal(proposal), r) => {
                acts.push(Act::Propose(self.chain.signed_proposed(&proposal)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::PolkaCertificate(polka), r) => {
                acts.push(Act::Polka(convert::polka(&polka)));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(LivenessMsg::SkipRoundCertificate(round), r)
            | Effect::RepublishRoundCertificate(round, r) => {
                acts.push(Act::Round(convert::round(&round)));
                r.resume_with(())
            }
            Effect::GetValue(_, round, _, r) => {
                acts.push(Act::GetBlock { round: crate::context::number(round) });
                r.resume_with(())
            }
            Effect::WalAppend(height, input, r) => {
                let record = Record::of_input(&self.chain, height, &input);
                let is_new = |record: &Record| {
                    self.replayed.is_empty()
                        || !self.replayed.contains(&arknet_types::encode(record))
                };
                acts.extend(record.filter(is_new).map(Act::Record));
                r.resume_with(())
            }
            Effect::Finalize(certificate, _, evidence, r) => {
                let certificate = convert::commit(&certificate);
                let evidence = convert::evidence(&self.chain, &evidence);
                acts.push(Act::Decided { certificate, evidence });
                r.resume_with(())
            }
            other => self.sign_or_verify(other, acts),
        })
    }

    fn sign_or_verify(&self, effect: Effect<Chain>, acts: &mut Vec<Act>) -> Resume<Chain> {
        let key = || self.key.as_ref().expect("only who has a key takes part");
        match effect {
            Effect::SignVote(vote, r) => {
                let signature = key().sign(Domain::CONSENSUS_VOTE, &self.chain.vote(&vote));
                r.resume_with(core::SignedVote::new(vote, Seal(signature)))
            }
            Effect::SignProposal(proposal, r) => {
                let proposed = self.chain.proposed(&proposal);
                let signature = key().sign(Domain::CONSENSUS_PROPOSAL, &proposed);
                r.resume_with(core::SignedProposal::new(proposal, Seal(signature)))
            }
            Effect::VerifySignature(signed, key, r) => {
                let claim = match &signed.message {
                    ConsensusMsg::Vote(vote) => self.vote_claim(key, vote, signed.signature),
                    ConsensusMsg::Proposal(proposal) => {
                        self.proposal_claim(key, proposal, signed.signature)
                    }
                };
                let holds = claim.holds();
                if !holds {
                    acts.push(Act::BadSignature);
                }
                r.resume_with(holds)
            }
            Effect::VerifyCommitCertificate(certificate, voters, _, r) => {
                let certificate = convert::commit(&certificate);
                let result = certificate.verify(&self.chain.network, voters.set());
                r.resume_with(result.map_err(|_| CertificateError::VerificationError(None)))
            }
            Effect::VerifyPolkaCertificate(polka, voters, thresholds, r) => {
                let votes = polka.votes(&self.chain).collect::<Vec<_>>();
                r.resume_with(self.verify_votes(&votes, &voters, thresholds.quorum, acts))
            }
            Effect::VerifyRoundCertificate(round, voters, thresholds, r) => {
                let votes = round.votes(&self.chain).collect::<Vec<_>>();
                let (threshold, fits) = match round.cert_type {
                    RoundCertificateType::Skip => (thresholds.honest, true),
                    RoundCertificateType::Precommit => {
                        let mut kinds = round.round_signatures.iter().map(|one| one.vote_type);
                        (thresholds.quorum, kinds.all(|kind| kind == VoteType::Precommit))
                    }
                };
                let result = self.verify_votes(&votes, &voters, threshold, acts);
                r.resume_with(if fits {
                    result
                } else {
                    Err(CertificateError::VerificationError(None))
                })
            }
            rest => unused(rest),
        }
    }

    fn vote_claim(&self, key: arknet_types::PublicKey, vote: &EngineVote, seal: Seal) -> Claim {
        Claim::new(key, Domain::CONSENSUS_VOTE, &self.chain.vote(vote), seal.0)
    }

    fn proposal_claim(
        &self,
        key: arknet_types::PublicKey,
        proposal: &EngineProposal,
        seal: Seal,
    ) -> Claim {
        Claim::new(key, Domain::CONSENSUS_PROPOSAL, &self.chain.proposed(proposal), seal.0)
    }

    /// Checks that the votes are of different validators who weigh enough, and signed.
    fn verify_votes(
        &self,
        votes: &[core::SignedVote<Chain>],
        voters: &Voters,
        threshold: core::ThresholdParam,
        acts: &mut Vec<Act>,
    ) -> Result<(), CertificateError<Chain>> {
        use core::{Validator as _, Vote as _};
        let mut seen = BTreeSet::new();
        let (mut power, mut claims) = (0_u64, Vec::with_capacity(votes.len()));
        for vote in votes {
            let operator = *vote.validator_address();
            let unknown = || CertificateError::UnknownValidator(operator);
            let member = voters.get_by_address(&operator).ok_or_else(unknown)?;
            if !seen.insert(operator) {
                return Err(CertificateError::DuplicateVote(operator));
            }
            power = power.saturating_add(member.voting_power());
            claims.push(self.vote_claim(*member.public_key(), &vote.message, vote.signature));
        }
        let total = voters.total_voting_power();
        if !threshold.is_met(power, total) {
            let expected = threshold.min_expected(total);
            return Err(CertificateError::NotEnoughVotingPower { signed: power, total, expected });
        }
        if arknet_chain::which_hold(&claims).contains(&false) {
            acts.push(Act::BadSignature);
            return Err(CertificateError::VerificationError(None));
        }
        Ok(())
    }
}

/// Effects of what this crate never feeds, or need not hear of.
fn unused(effect: Effect<Chain>) -> Resume<Chain> {
    match effect {
        Effect::StartRound(.., r)
        | Effect::Decide(.., r)
        // A proposal always travels with its block.
        | Effect::RestreamProposal(.., r)
        | Effect::CertVerifiedSyncValue(.., r)
        | Effect::CertRejectedSyncValue(.., r) => r.resume_with(()),
        Effect::VerifyExtendedCommitCertificate(.., r) => {
            r.resume_with(Err(CertificateError::VerificationError(None)))
        }
        Effect::ExtendVote(.., r) => r.resume_with(None),
        Effect::VerifyVoteExtension(.., r) => {
            r.resume_with(Err(engine::VoteExtensionError::InvalidVoteExtension))
        }
        _ => Resume::Continue,
    }
}

impl Timing {
    fn of(&self, timeout: Timeout) -> u64 {
        let ms = Duration::from_millis;
        let timeouts = LinearTimeouts {
            propose: ms(self.propose_ms),
            propose_delta: ms(self.delta_ms),
            prevote: ms(self.prevote_ms),
            prevote_delta: ms(self.delta_ms),
            precommit: ms(self.precommit_ms),
            precommit_delta: ms(self.delta_ms),
            rebroadcast: ms(self.rebroadcast_ms),
            max_timeout: ms(self.timeout_ms_max),
        };
        let waits = timeout == Timeout::propose(Round::ZERO);
        let extra = if waits { self.block_interval_ms } else { 0 };
        let time = timeouts.duration_for(timeout).as_millis();
        u64::try_from(time).unwrap_or(u64::MAX).saturating_add(extra)
    }
}
