//! Proposals, votes weighted by stake, and what a passed proposal does.

use std::io;

use arknet_types::{Address, Atoms, ModelDigest, Timestamp, decode_list, decode_text};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    Failure, Hash, Key, Node, Param, Params, Role, Stake, StateView,
    ledger::Ledger,
    limits::{
        PARAMS_PER_PROPOSAL_MAX, PROPOSAL_TEXT_BYTES_MAX, PROPOSAL_TITLE_BYTES_MAX,
        STAKE_CHANGES_MAX, VERSION_BYTES_MAX,
    },
    models,
    params::PPM,
    records::Due,
    stake,
};

/// What is proposed.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ProposalBody {
    /// In a few words.
    #[borsh(deserialize_with = "decode_text::<_, PROPOSAL_TITLE_BYTES_MAX>")]
    pub title: String,
    /// And in more.
    #[borsh(deserialize_with = "decode_text::<_, PROPOSAL_TEXT_BYTES_MAX>")]
    pub text: String,
    /// What it does when it passes.
    pub effect: Effect,
}

/// What a passed proposal does.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing: it says something.
    Text,
    /// Changes parameters, all or none.
    Params(
        #[borsh(deserialize_with = "decode_list::<_, _, PARAMS_PER_PROPOSAL_MAX>")]
        Vec<(Param, u64)>,
    ),
    /// Pays from the treasury.
    Spend {
        /// Whom.
        to: Address,
        /// How much.
        amount: Atoms,
    },
    /// Accepts a model before its time, or throws it out.
    Model {
        /// Which.
        digest: ModelDigest,
        /// Accepted, or thrown out.
        accept: bool,
    },
    /// Says which version of the software is to run from some time on.
    Version(Version),
    /// Takes a part of a node's stake for what it did.
    Verdict {
        /// The role.
        role: Role,
        /// The node's operator.
        node: Address,
        /// Which part.
        ppm: u64,
        /// The digest of the evidence, which anyone can check.
        evidence: Hash,
    },
}

/// A version of the software that is to run.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Its name.
    #[borsh(deserialize_with = "decode_text::<_, VERSION_BYTES_MAX>")]
    pub name: String,
    /// From when on.
    pub from: Timestamp,
}

/// How somebody votes.
#[derive(
    BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// For it.
    Yes,
    /// Against it.
    No,
    /// Neither, but counted as there.
    Abstain,
    /// Against it, and against that it was proposed.
    Veto,
}

/// A proposal and how it stands.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Proposal {
    /// Who made it.
    pub proposer: Address,
    /// What is at stake for that; nothing once it is decided.
    pub deposit: Atoms,
    /// When voting begins. Stake counts that was there before.
    pub voting_from: Timestamp,
    /// When voting ends.
    pub voting_until: Timestamp,
    /// All stake when voting began; none before.
    pub bonded: Option<Atoms>,
    /// Votes for it.
    pub yes: Atoms,
    /// Votes against it.
    pub no: Atoms,
    /// Votes that say neither.
    pub abstain: Atoms,
    /// Votes against it and that it was proposed.
    pub veto: Atoms,
    /// How it ended; none while it is open.
    pub decision: Option<Decision>,
}

/// How a proposal ended.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Decision {
    /// It passed and is done.
    Passed,
    /// It passed, but could not be done.
    Failed,
    /// It did not pass.
    Rejected,
    /// It was vetoed; its deposit is burned.
    Vetoed,
    /// Too few voted; its deposit is burned.
    NoQuorum,
}

/// A vote that was cast.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ballot {
    /// How.
    pub choice: Choice,
    /// With how much stake.
    pub weight: Atoms,
}

/// What an account had staked, and when that changed: so that only stake counts that was there
/// before a vote began.
#[derive(BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct StakeHistory {
    /// Times of changes and what was staked after each, in order.
    changes: Vec<(Timestamp, Atoms)>,
    /// Whether earlier ones have been forgotten.
    is_cut: bool,
}

impl BorshDeserialize for StakeHistory {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let changes = decode_list::<_, _, STAKE_CHANGES_MAX>(reader)?;
        Ok(Self { changes, is_cut: bool::deserialize_reader(reader)? })
    }
}

impl StakeHistory {
    /// Notes that from `now` on the account has `change` of it.
    pub(crate) fn note(&mut self, now: Timestamp, change: impl FnOnce(Atoms) -> Atoms) {
        let last = self.changes.last().copied();
        let amount = change(last.map_or(Atoms::ZERO, |(_, amount)| amount));
        match self.changes.last_mut().filter(|(time, _)| *time == now) {
            Some(last) => last.1 = amount,
            None => self.changes.push((now, amount)),
        }
        if self.changes.len() > STAKE_CHANGES_MAX {
            self.changes.remove(0);
            self.is_cut = true;
        }
    }

    /// What was staked before `from`; at most that, where it was forgotten.
    fn before(&self, from: Timestamp) -> Atoms {
        let known = self.changes.iter().rev().find(|(time, _)| *time < from);
        let least = self.changes.iter().map(|(_, amount)| *amount).min();
        match known {
            Some((_, amount)) => *amount,
            None if self.is_cut => least.unwrap_or_default(),
            None => Atoms::ZERO,
        }
    }
}

/// Notes that an account's stake has changed.
pub(crate) fn note_stake<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    owner: &Address,
    change: impl FnOnce(Atoms) -> Atoms,
) {
    let key = Key::StakeHistory(*owner);
    let mut history: StakeHistory = ledger.read(&key).unwrap_or_default();
    history.note(ledger.now(), change);
    ledger.write(&key, &history);
}

pub(crate) fn propose<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    proposer: &Address,
    body: &ProposalBody,
) -> Result<u64, Failure> {
    if let Effect::Params(list) = &body.effect {
        // What could not be done need not be voted on.
        changed(ledger.params(), list)?;
    }
    let deposit = ledger.params().atoms(Param::ProposalDeposit);
    ledger.debit(proposer, deposit)?;
    let id = ledger.meta().proposals.checked_add(1).ok_or(Failure::Overflow)?;
    ledger.meta_mut().proposals = id;
    let voting_from = ledger.now().plus_ms(ledger.param(Param::DiscussionMs));
    let voting_until = voting_from.plus_ms(ledger.param(Param::VotingMs));
    let proposal = Proposal {
        proposer: *proposer,
        deposit,
        voting_from,
        voting_until,
        bonded: None,
        yes: Atoms::ZERO,
        no: Atoms::ZERO,
        abstain: Atoms::ZERO,
        veto: Atoms::ZERO,
        decision: None,
    };
    ledger.write(&Key::Proposal(id), &proposal);
    ledger.write(&Key::ProposalBody(id), body);
    ledger.schedule(voting_from, &Due::VotingBegins { proposal: id });
    ledger.schedule(voting_until, &Due::VotingEnds { proposal: id });
    Ok(id)
}

pub(crate) fn vote<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    voter: &Address,
    id: u64,
    choice: Choice,
) -> Result<(), Failure> {
    let key = Key::Proposal(id);
    let mut proposal: Proposal = ledger.read(&key).ok_or(Failure::UnknownProposal)?;
    if proposal.bonded.is_none() {
        return Err(Failure::TooEarly);
    }
    if proposal.decision.is_some() || ledger.now() >= proposal.voting_until {
        return Err(Failure::Over);
    }
    let history: StakeHistory = ledger.read(&Key::StakeHistory(*voter)).unwrap_or_default();
    // A loss since then counts, a gain does not.
    let weight = history.before(proposal.voting_from).min(staked(ledger, voter));
    if weight == Atoms::ZERO {
        return Err(Failure::NoWeight);
    }
    let place = Key::Ballot(id, *voter);
    if let Some(earlier) = ledger.read::<Ballot>(&place) {
        let sum = proposal.side(earlier.choice);
        *sum = sum.checked_sub(earlier.weight).ok_or(Failure::Overflow)?;
    }
    let sum = proposal.side(choice);
    *sum = sum.checked_add(weight).ok_or(Failure::Overflow)?;
    ledger.write(&place, &Ballot { choice, weight });
    ledger.write(&key, &proposal);
    Ok(())
}

/// What an account's stake is worth now, over all nodes.
fn staked<V: StateView>(ledger: &Ledger<'_, V>, owner: &Address) -> Atoms {
    let mut sum = Atoms::ZERO;
    for (key, stake) in ledger.all::<Stake>(Key::stakes(owner)) {
        let Some(node) = Key::node_of_stake(&key).and_then(|key| ledger.read::<Node>(&key)) else {
            continue;
        };
        sum = sum.checked_add(node.bonded.worth(stake.shares)).expect("all money fits");
    }
    sum
}

impl Proposal {
    fn side(&mut self, choice: Choice) -> &mut Atoms {
        match choice {
            Choice::Yes => &mut self.yes,
            Choice::No => &mut self.no,
            Choice::Abstain => &mut self.abstain,
            Choice::Veto => &mut self.veto,
        }
    }

    fn decide(&self, quorum_ppm: u64, veto_ppm: u64, threshold_ppm: u64) -> Decision {
        let wide = |atoms: Atoms| u128::from(atoms.0);
        let sum =
            |list: [Atoms; 3]| list.iter().fold(0, |sum: u128, a| sum.saturating_add(wide(*a)));
        let decided = sum([self.yes, self.no, self.veto]);
        let voted = decided.saturating_add(wide(self.abstain));
        let times = |amount: u128, ppm: u64| amount.saturating_mul(u128::from(ppm));
        if times(voted, PPM) < times(wide(self.bonded.unwrap_or_default()), quorum_ppm) {
            Decision::NoQuorum
        } else if times(wide(self.veto), PPM) > times(voted, veto_ppm) {
            Decision::Vetoed
        } else if times(wide(self.yes), PPM) > times(decided, threshold_ppm) {
            Decision::Passed
        } else {
            Decision::Rejected
        }
    }
}

pub(crate) fn begin_voting<V: StateView>(ledger: &mut Ledger<'_, V>, id: u64) {
    let key = Key::Proposal(id);
    let mut proposal: Proposal = ledger.read(&key).expect("a proposal stays");
    proposal.bonded = Some(ledger.meta().bonded);
    ledger.write(&key, &proposal);
}

pub(crate) fn end_voting<V: StateView>(ledger: &mut Ledger<'_, V>, id: u64) {
    let key = Key::Proposal(id);
    let mut proposal: Proposal = ledger.read(&key).expect("a proposal stays");
    let mut decision = proposal.decide(
        ledger.param(Param::QuorumPpm),
        ledger.param(Param::VetoPpm),
        ledger.param(Param::ThresholdPpm),
    );
    match decision {
        Decision::Vetoed | Decision::NoQuorum => ledger.burn(proposal.deposit),
        Decision::Passed | Decision::Failed | Decision::Rejected => {
            let returned = ledger.credit(&proposal.proposer, proposal.deposit);
            returned.expect("all money fits");
        }
    }
    proposal.deposit = Atoms::ZERO;
    proposal.decision = Some(decision);
    ledger.write(&key, &proposal);
    ledger.keep();
    if decision != Decision::Passed {
        return;
    }
    let body: ProposalBody = ledger.read(&Key::ProposalBody(id)).expect("a proposal stays");
    if execute(ledger, body.effect).is_err() {
        ledger.undo();
        decision = Decision::Failed;
        ledger.write(&key, &Proposal { decision: Some(decision), ..proposal });
    }
}

/// The parameters with these changes, where all of them may be made.
fn changed(params: &Params, list: &[(Param, u64)]) -> Result<Params, Failure> {
    let mut params = params.clone();
    for (param, value) in list {
        params.set(*param, *value).map_err(|_| Failure::Param)?;
    }
    params.check().map_err(|_| Failure::Param)?;
    Ok(params)
}

fn execute<V: StateView>(ledger: &mut Ledger<'_, V>, effect: Effect) -> Result<(), Failure> {
    match effect {
        Effect::Text => {}
        Effect::Params(list) => {
            let params = changed(ledger.params(), &list)?;
            ledger.set_params(params);
            ledger.is_set_stale = true;
        }
        Effect::Spend { to, amount } => {
            let rest = ledger.meta().treasury.checked_sub(amount).ok_or(Failure::Balance)?;
            ledger.meta_mut().treasury = rest;
            ledger.credit(&to, amount)?;
        }
        Effect::Model { digest, accept } => models::decide(ledger, &digest, accept)?,
        Effect::Version(version) => ledger.write(&Key::Version, &version),
        Effect::Verdict { role, node, ppm, .. } => {
            stake::slash(ledger, role, node, ppm)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stake_that_was_there_before_counts() {
        let mut history = StakeHistory::default();
        assert_eq!(history.before(Timestamp(9)), Atoms::ZERO);
        history.note(Timestamp(5), |_| Atoms(10));
        history.note(Timestamp(8), |old| Atoms(old.0 + 5));
        history.note(Timestamp(8), |old| Atoms(old.0 + 1));
        let before = |at| history.before(Timestamp(at)).0;
        assert_eq!([before(5), before(6), before(8), before(9)], [0, 10, 10, 16]);
    }

    #[test]
    fn what_is_forgotten_counts_for_no_more_than_the_least() {
        let mut history = StakeHistory::default();
        for at in 0..STAKE_CHANGES_MAX as u64 + 5 {
            history.note(Timestamp(at), |_| Atoms(1_000 - at));
        }
        assert_eq!(history.changes.len(), STAKE_CHANGES_MAX);
        let least = 1_000 - (STAKE_CHANGES_MAX as u64 + 4);
        assert_eq!(history.before(Timestamp(2)), Atoms(least));
        let bytes = arknet_types::encode(&history);
        assert_eq!(arknet_types::decode::<StakeHistory>(&bytes).unwrap(), history);
    }
}
