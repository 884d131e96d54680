use std::collections::BTreeMap;

use arknet_types::{Address, Atoms, ModelDigest, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Decision, Effect, Hash, Proposal, ProposalBody, Role, Version};

/// A proposal and how it stands.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProposalAnswer {
    /// Its number.
    pub id: u64,
    /// In a few words.
    pub title: String,
    /// And in more; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What it does when it passes.
    pub effect: EffectSummary,
    /// Who made it.
    pub proposer: Address,
    /// What is at stake for that; nothing once it is decided.
    pub deposit: Atoms,
    /// Where it is on its way.
    pub stage: ProposalStage,
    /// When voting begins. Stake counts that was there before.
    pub voting_from_ms: u64,
    /// When voting ends.
    pub voting_until_ms: u64,
    /// All stake when voting began.
    pub bonded: Option<Atoms>,
    /// Votes for it.
    pub yes: Atoms,
    /// Votes against it.
    pub no: Atoms,
    /// Votes that say neither.
    pub abstain: Atoms,
    /// Votes against it and that it was proposed.
    pub veto: Atoms,
}

impl ProposalAnswer {
    /// From the records, at a time of the chain.
    #[must_use]
    pub fn new(id: u64, proposal: &Proposal, body: &ProposalBody, now: Timestamp) -> Self {
        Self {
            id,
            title: body.title.clone(),
            text: Some(body.text.clone()),
            effect: EffectSummary::new(&body.effect),
            proposer: proposal.proposer,
            deposit: proposal.deposit,
            stage: ProposalStage::of(proposal, now),
            voting_from_ms: proposal.voting_from.0,
            voting_until_ms: proposal.voting_until.0,
            bonded: proposal.bonded,
            yes: proposal.yes,
            no: proposal.no,
            abstain: proposal.abstain,
            veto: proposal.veto,
        }
    }
}

/// Where a proposal is on its way.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ProposalStage {
    /// Voting has not begun.
    Discussion,
    /// Votes are taken.
    Voting,
    /// Votes are taken no more; the next block counts them.
    Counting,
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

impl ProposalStage {
    fn of(proposal: &Proposal, now: Timestamp) -> Self {
        match proposal.decision {
            Some(Decision::Passed) => Self::Passed,
            Some(Decision::Failed) => Self::Failed,
            Some(Decision::Rejected) => Self::Rejected,
            Some(Decision::Vetoed) => Self::Vetoed,
            Some(Decision::NoQuorum) => Self::NoQuorum,
            None if proposal.bonded.is_none() => Self::Discussion,
            None if now < proposal.voting_until => Self::Voting,
            None => Self::Counting,
        }
    }
}

/// What a passed proposal does; only the fields of its kind are there.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct EffectSummary {
    /// `text`, `params`, `spend`, `model`, `version` or `verdict`.
    pub kind: String,
    /// New values of parameters, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<BTreeMap<String, u64>>,
    /// Who is paid from the treasury.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
    /// How much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Atoms>,
    /// A model that is accepted or thrown out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelDigest>,
    /// Which of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<bool>,
    /// The version of the software that is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// From when on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// The role of a node that loses stake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Its operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Address>,
    /// Which part of it, in millionths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ppm: Option<u64>,
    /// The digest of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Hash>,
}

impl EffectSummary {
    /// Of an effect.
    #[must_use]
    pub fn new(effect: &Effect) -> Self {
        let kind = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match effect {
            Effect::Text => kind("text"),
            Effect::Params(list) => {
                let named = list.iter().map(|(param, value)| (param.name().to_owned(), *value));
                Self { params: Some(named.collect()), ..kind("params") }
            }
            Effect::Spend { to, amount } => {
                Self { to: Some(*to), amount: Some(*amount), ..kind("spend") }
            }
            Effect::Model { digest, accept } => {
                Self { model: Some(*digest), accept: Some(*accept), ..kind("model") }
            }
            Effect::Version(Version { name, from }) => {
                Self { version: Some(name.clone()), from_ms: Some(from.0), ..kind("version") }
            }
            Effect::Verdict { role, node, ppm, evidence } => Self {
                role: Some(*role),
                node: Some(*node),
                ppm: Some(*ppm),
                evidence: Some(*evidence),
                ..kind("verdict")
            },
        }
    }
}

/// Some proposals.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProposalPage {
    /// The height after which this stands.
    pub height: u64,
    /// The latest first, without their text.
    pub proposals: Vec<ProposalAnswer>,
    /// What to ask for `after`, where there are more.
    pub next: Option<u64>,
}
