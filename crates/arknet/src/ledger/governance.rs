//! Proposals and votes.

use anyhow::{Context, bail};
use arknet_sdk::chain::{
    Action, Key,
    ledger::{
        Choice, Effect, Meta, Param, Proposal, ProposalBody, Version,
        limits::{PROPOSAL_TEXT_BYTES_MAX, PROPOSAL_TITLE_BYTES_MAX, VERSION_BYTES_MAX},
        rpc::ProposalAnswer,
    },
};
use arknet_types::{Address, Atoms, ModelDigest, Timestamp};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Desk, Home, Order, RpcFlags, SendFlags, amount, amount::show, begin, text_or_file, when, word,
};
use crate::out::{Out, table};

#[derive(Subcommand)]
pub(crate) enum GovernanceCommand {
    /// List proposals, the latest first
    List {
        /// How many at most
        #[arg(long, short = 'n', default_value_t = 20)]
        limit: u64,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Propose something to those who have stake
    Propose(Box<Propose>),
    /// Show a proposal and how it stands
    Show {
        /// Its number
        #[arg(long)]
        proposal: u64,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Vote on a proposal with what was staked before the vote began; the last vote counts
    Vote {
        /// Its number
        #[arg(long)]
        proposal: u64,
        /// yes, no, abstain or veto
        #[arg(long, value_parser = parse_choice)]
        choice: Choice,
        #[command(flatten)]
        send: SendFlags,
    },
}

#[derive(Args)]
pub(crate) struct Propose {
    /// In a few words
    #[arg(long)]
    title: String,
    /// And in more; @FILE reads a file
    #[arg(long)]
    body: String,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    send: SendFlags,
}

/// What the proposal does when it passes; without any of these it only says something.
#[derive(Args, Default)]
pub(crate) struct Kind {
    /// Set a parameter: NAME=VALUE, as arknet chain params shows them; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_param)]
    param: Vec<(Param, u64)>,
    /// Let so many validators vote
    #[arg(long, value_name = "COUNT")]
    validators_max: Option<u64>,
    /// Pay somebody from the treasury
    #[arg(long, value_name = "ADDRESS", requires = "spend_amount")]
    spend_to: Option<Address>,
    /// How much: atoms, or with a unit (1.5ark)
    #[arg(long, value_name = "AMOUNT", value_parser = amount::parse_some, requires = "spend_to")]
    spend_amount: Option<Atoms>,
    /// Accept a registered model before its time
    #[arg(long, value_name = "DIGEST")]
    accept_model: Option<ModelDigest>,
    /// Throw a registered model out; its deposit is burned
    #[arg(long, value_name = "DIGEST")]
    reject_model: Option<ModelDigest>,
    /// Say which version of the software is to run
    #[arg(long, value_name = "VERSION", requires = "software_after")]
    software: Option<String>,
    /// After what time: 30d
    #[arg(long, value_name = "TIME", value_parser = crate::key::parse_time, requires = "software")]
    software_after: Option<std::time::Duration>,
}

fn parse_choice(text: &str) -> anyhow::Result<Choice> {
    word(text, "yes, no, abstain, veto")
}

fn parse_param(text: &str) -> anyhow::Result<(Param, u64)> {
    let (name, value) = text.split_once('=').context("write NAME=VALUE")?;
    let param = Param::ALL.iter().find(|param| param.name() == name);
    let param = *param.with_context(|| format!("there is no parameter {name}"))?;
    let value: u64 = value.parse().context("a parameter is a whole number")?;
    let range = param.range();
    if !range.contains(&value) {
        bail!("{name} lies between {} and {}", range.start(), range.end());
    }
    Ok((param, value))
}

impl Kind {
    fn effect(self, now: Timestamp) -> anyhow::Result<Effect> {
        let mut effects = Vec::new();
        let mut params = self.param;
        params.extend(self.validators_max.map(|count| (Param::ValidatorsMax, count)));
        if !params.is_empty() {
            effects.push(Effect::Params(params));
        }
        let spend = self.spend_to.zip(self.spend_amount);
        effects.extend(spend.map(|(to, amount)| Effect::Spend { to, amount }));
        let judged = [(self.accept_model, true), (self.reject_model, false)];
        let judged = judged.into_iter().filter_map(|(digest, accept)| Some((digest?, accept)));
        effects.extend(judged.map(|(digest, accept)| Effect::Model { digest, accept }));
        if let Some((name, after)) = self.software.zip(self.software_after) {
            if name.is_empty() || name.len() > VERSION_BYTES_MAX {
                bail!("a version's name has 1 to {VERSION_BYTES_MAX} bytes");
            }
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            effects.push(Effect::Version(Version { name, from: now.plus_ms(after_ms) }));
        }
        match effects.len() {
            0 => Ok(Effect::Text),
            1 => Ok(effects.remove(0)),
            _ => bail!("a proposal does one thing; make one proposal for each"),
        }
    }
}

pub(crate) fn run(home: Home<'_>, command: GovernanceCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        GovernanceCommand::List { limit, rpc } => list(&mut Desk::open(home, rpc, out)?, limit),
        GovernanceCommand::Propose(propose) => propose_it(home, *propose, out),
        GovernanceCommand::Show { proposal, rpc } => {
            let mut desk = Desk::open(home, rpc, out)?;
            let meta = desk.runtime.block_on(desk.chain.meta())?;
            let found = proposal_at(&mut desk, proposal, meta.time)?;
            let found = found.with_context(|| format!("there is no proposal {proposal}"))?;
            out.result(&found, &show_text(&found))
        }
        GovernanceCommand::Vote { proposal, choice, send } => {
            let (mut desk, wallet, send) = begin(home, send, false, out)?;
            let order = Order {
                action: Action::Vote { proposal, choice },
                question: None,
                done: format!("voted {} on proposal {proposal}", name(&choice)),
                more: json!({ "proposal": proposal, "choice": choice }),
            };
            desk.act(&wallet, &send, order)
        }
    }
}

fn propose_it(home: Home<'_>, propose: Propose, out: &Out) -> anyhow::Result<()> {
    let Propose { title, body, kind, send } = propose;
    if title.is_empty() || title.len() > PROPOSAL_TITLE_BYTES_MAX {
        bail!("a title has 1 to {PROPOSAL_TITLE_BYTES_MAX} bytes");
    }
    let text = text_or_file(&body, PROPOSAL_TEXT_BYTES_MAX)?;
    let effect = kind.effect(arknet_sdk::now())?;
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let deposit = desk.runtime.block_on(desk.chain.params())?.atoms(Param::ProposalDeposit);
    let question = format!(
        "Propose \"{title}\" with a deposit of {}, which is burned if too few vote or many veto.",
        show(deposit)
    );
    let action = Action::Propose(Box::new(ProposalBody { title, text, effect }));
    let done = "proposed".to_owned();
    desk.act(&wallet, &send, Order { action, question: Some(question), done, more: Value::Null })
}

fn proposal_at(
    desk: &mut Desk<'_>,
    id: u64,
    now: Timestamp,
) -> anyhow::Result<Option<ProposalAnswer>> {
    let proposal = desk.value::<Proposal>(&Key::Proposal(id))?;
    let body = desk.value::<ProposalBody>(&Key::ProposalBody(id))?;
    let both = proposal.zip(body);
    Ok(both.map(|(proposal, body)| ProposalAnswer::new(id, &proposal, &body, now)))
}

fn list(desk: &mut Desk<'_>, limit: u64) -> anyhow::Result<()> {
    let meta: Meta = desk.runtime.block_on(desk.chain.meta())?;
    let mut found = Vec::new();
    for id in (1..=meta.proposals).rev().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
        let proposal = proposal_at(desk, id, meta.time)?;
        found.extend(proposal.map(|one| ProposalAnswer { text: None, ..one }));
    }
    let mut rows =
        vec![["NUMBER", "STAGE", "KIND", "YES", "NO", "TITLE"].map(String::from).to_vec()];
    rows.extend(found.iter().map(|one| {
        vec![
            one.id.to_string(),
            name(&one.stage),
            one.effect.kind.clone(),
            show(one.yes),
            show(one.no),
            one.title.clone(),
        ]
    }));
    let text = if found.is_empty() { "no proposals yet".into() } else { table(&rows) };
    desk.out.result(&found, &text)
}

/// How the ledger writes a choice or a stage in JSON.
fn name(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn show_text(one: &ProposalAnswer) -> String {
    let effect = serde_json::to_string(&one.effect).unwrap_or_default();
    let rows = [
        ("proposal", format!("{} {}", one.id, one.title)),
        ("stage", name(&one.stage)),
        ("by", format!("{}, with {}", one.proposer, show(one.deposit))),
        ("does", effect),
        ("voting", format!("{} until {}", when(one.voting_from_ms), when(one.voting_until_ms))),
        ("yes", show(one.yes)),
        ("no", show(one.no)),
        ("abstain", show(one.abstain)),
        ("veto", show(one.veto)),
    ];
    let rows: Vec<Vec<String>> =
        rows.into_iter().map(|(head, value)| vec![head.to_owned(), value]).collect();
    format!("{}\n\n{}", table(&rows), one.text.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_does_one_thing_at_most() {
        let effect = |kind: Kind| kind.effect(Timestamp(1_000)).ok();
        assert_eq!(effect(Kind::default()), Some(Effect::Text));
        let params = vec![parse_param("validators_max=7").unwrap()];
        let both = Kind { param: params, validators_max: Some(8), ..Kind::default() };
        let list = vec![(Param::ValidatorsMax, 7), (Param::ValidatorsMax, 8)];
        assert_eq!(effect(both), Some(Effect::Params(list)));
        let digest = ModelDigest([1; 32]);
        let accepted = Kind { accept_model: Some(digest), ..Kind::default() };
        assert_eq!(effect(accepted), Some(Effect::Model { digest, accept: true }));
        let software = || Kind {
            software: Some("0.2.0".into()),
            software_after: Some(std::time::Duration::from_secs(9)),
            ..Kind::default()
        };
        let version = Version { name: "0.2.0".into(), from: Timestamp(10_000) };
        assert_eq!(effect(software()), Some(Effect::Version(version)));
        assert_eq!(effect(Kind { reject_model: Some(digest), ..software() }), None);
    }

    #[test]
    fn parameters_and_choices_are_held_to_what_there_is() {
        assert_eq!(parse_param("base_fee_min=5").unwrap(), (Param::BaseFeeMin, 5));
        for bad in ["base_fee_min", "base_fee_min=x", "nothing=1", "validators_max=0"] {
            assert!(parse_param(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_choice("veto").unwrap(), Choice::Veto);
        assert!(parse_choice("maybe").is_err());
    }
}
