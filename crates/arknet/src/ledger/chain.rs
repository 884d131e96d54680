//! What the chain is and does.

use anyhow::{Context, bail};
use arknet_sdk::chain::{
    ChainError, LightChain,
    ledger::{
        Hash, Validator, ValidatorSet,
        rpc::{
            BlockAnswer, ParamsAnswer, StatusAnswer, TransactionAnswer, TransactionState,
            ValidatorsAnswer,
        },
    },
};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Desk, Home, RpcFlags, amount::show, when};
use crate::out::{Out, table};

#[derive(Subcommand)]
pub(crate) enum ChainCommand {
    /// Show a block
    Block {
        /// Its height, its name, or latest
        #[arg(default_value = "latest")]
        block: String,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Show the parameters, which votes change
    Params {
        /// Only this one
        name: Option<String>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Show the node that is asked, its chain and how far it is
    Status {
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Begin with a block that somebody you trust says is good, after a long time away
    Trust {
        /// Its height and name, as arknet chain block shows them there
        #[arg(value_name = "HEIGHT:NAME", value_parser = parse_trusted)]
        block: (u64, Hash),
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Show a transaction and what became of it
    Tx {
        /// Its name: 64 hex digits
        id: Hash,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// List those who vote on blocks
    Validators {
        /// At which height [default: the next]
        #[arg(long)]
        height: Option<u64>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
}

fn parse_trusted(text: &str) -> anyhow::Result<(u64, Hash)> {
    let (height, id) = text.split_once(':').context("write HEIGHT:NAME")?;
    Ok((height.parse().context("a height is a number")?, id.parse()?))
}

pub(crate) fn run(home: Home<'_>, command: ChainCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        ChainCommand::Block { block, rpc } => show_block(&mut Desk::open(home, rpc, out)?, &block),
        ChainCommand::Params { name, rpc } => params(&mut Desk::open(home, rpc, out)?, name),
        ChainCommand::Status { rpc } => status(&mut Desk::open(home, rpc, out)?),
        ChainCommand::Trust { block: (height, id), rpc } => {
            let mut desk = Desk::open(home, rpc, out)?;
            let taken = desk.check(async |light| light.trust(height, id).await)?;
            taken.context("with --danger-trust-rpc there is nothing to begin with")?;
            let text = format!("block {height} is what everything is checked by from now on");
            out.result(&json!({ "height": height, "id": id }), &text)
        }
        ChainCommand::Tx { id, rpc } => transaction(&mut Desk::open(home, rpc, out)?, id),
        ChainCommand::Validators { height, rpc } => {
            validators(&mut Desk::open(home, rpc, out)?, height)
        }
    }
}

fn rows(rows: Vec<(&str, String)>) -> String {
    table(&rows.into_iter().map(|(head, value)| vec![head.to_owned(), value]).collect::<Vec<_>>())
}

fn status(desk: &mut Desk<'_>) -> anyhow::Result<()> {
    let status: StatusAnswer = desk.ask(async |rpc| rpc.status().await)?;
    // A chain without a block has nothing that could be proved.
    let proved = if status.height == 0 {
        None
    } else {
        desk.check(async |light| {
            light.follow().await?;
            Ok(light.newest().map(|header| (header.height, header.id(), header.time.0)))
        })?
    };
    let proved = proved.flatten();
    if let Some(light) = desk.chain.light()
        && light.genesis() != status.genesis
    {
        bail!("the RPC tells of a chain with another genesis: {}", status.genesis);
    }
    let mut report = serde_json::to_value(&status)?;
    report["verified"] = proved.map_or(
        Value::Null,
        |(height, id, time_ms)| json!({ "height": height, "id": id, "time_ms": time_ms }),
    );
    let operator = match status.operator {
        Some(operator) if status.votes => format!("votes for {operator}"),
        Some(operator) => format!("of {operator}, who does not vote now"),
        None => "follows".into(),
    };
    let checked = match proved {
        Some((height, id, _)) => format!("block {height} {id}"),
        None => "nothing".into(),
    };
    let text = rows(vec![
        ("chain", status.network.to_string()),
        ("height", format!("{}, {}", status.height, when(status.time_ms))),
        ("block", status.block.to_string()),
        ("checked", checked),
        ("node", format!("arknet {}, {operator}", status.version)),
        ("catching up", if status.catching_up { "yes".into() } else { "no".into() }),
        ("peers", format!("{}, at height {} at most", status.peers, status.peers_height)),
        ("validators", status.validators.to_string()),
        ("waiting", status.waiting.to_string()),
        ("base fee", status.base_fee.to_string()),
        ("made", show(status.minted)),
        ("burned", show(status.burned)),
        ("treasury", show(status.treasury)),
        ("staked", show(status.bonded)),
        ("bootstrap", if status.bootstrap { "lasts".into() } else { "over".into() }),
    ]);
    desk.out.result(&report, &text)
}

/// What is proved of something in a block; none where that lies too far back, or the RPC is believed.
fn proved<T>(
    desk: &mut Desk<'_>,
    check: impl AsyncFnOnce(&mut LightChain) -> Result<T, ChainError>,
) -> anyhow::Result<Option<T>> {
    let found = desk.check(async |light| match check(light).await {
        Err(ChainError::TooFarBack { .. }) => Ok(None),
        other => other.map(Some),
    })?;
    Ok(found.flatten())
}

fn show_block(desk: &mut Desk<'_>, which: &str) -> anyhow::Result<()> {
    if which != "latest" && which.parse::<u64>().is_err() && which.parse::<Hash>().is_err() {
        bail!("a block is its height, its name of 64 hex digits, or latest");
    }
    let said: BlockAnswer = desk.ask(async |rpc| rpc.block(which).await)?;
    let is_other = which.parse::<u64>().is_ok_and(|height| height != said.height)
        || which.parse::<Hash>().is_ok_and(|id| id != said.id);
    if is_other {
        bail!("the RPC shows another block than {which}");
    }
    let found = proved(desk, async |light| light.check_block(said.clone(), said.height).await)?;
    let checked = found.is_some();
    let block = found.unwrap_or(said);
    let mut report = serde_json::to_value(&block)?;
    report["verified"] = checked.into();
    let mut text = rows(vec![
        ("block", format!("{}:{}", block.height, block.id)),
        ("parent", block.parent.to_string()),
        ("time", when(block.time_ms)),
        ("proposer", block.proposer.to_string()),
        ("signed by", format!("{}, in round {}", block.signatures, block.round)),
        ("state", block.state_root.to_string()),
        ("gas", format!("{} at {}", block.gas_used, block.base_fee)),
        ("evidence", block.evidence.to_string()),
        ("checked", if checked { "yes".into() } else { "no".into() }),
    ]);
    if !block.transactions.is_empty() {
        let mut list = vec![["TRANSACTION", "FROM", "KIND", "DONE"].map(String::from).to_vec()];
        list.extend(block.transactions.iter().map(|one| {
            let outcome = one.outcome.failure.clone().unwrap_or_else(|| "yes".into());
            vec![one.id.to_string(), one.from.to_string(), one.kind.clone(), outcome]
        }));
        text = format!("{text}\n\n{}", table(&list));
    }
    desk.out.result(&report, &text)
}

fn transaction(desk: &mut Desk<'_>, id: Hash) -> anyhow::Result<()> {
    let said: TransactionAnswer = desk.ask(async |rpc| rpc.transaction(&id).await)?;
    let found = match said.state {
        TransactionState::Committed => {
            proved(desk, async |light| light.check_transaction(&id, said.clone()).await)?
        }
        TransactionState::Waiting => None,
    };
    let checked = found.is_some();
    let found = found.unwrap_or(said);
    let mut report = serde_json::to_value(&found)?;
    report["verified"] = checked.into();
    let mut list = vec![("transaction", id.to_string())];
    match found.height {
        Some(height) => list.push(("block", height.to_string())),
        None => list.push(("waits", format!("behind {}", found.ahead.unwrap_or_default()))),
    }
    if let Some(fields) = &found.transaction {
        list.push(("from", format!("{}, nonce {}", fields.from, fields.nonce)));
        list.push(("does", serde_json::to_string(&fields.action)?));
    }
    if let Some(outcome) = &found.outcome {
        let words = outcome.failure_words.as_ref();
        list.push(("done", words.map_or_else(|| "yes".into(), |words| format!("no: {words}"))));
        list.push(("fee", show(outcome.fee)));
        let proved = if checked { "yes" } else { "no, it is the word of the RPC" };
        list.push(("proved", proved.into()));
    }
    desk.out.result(&report, &rows(list))
}

fn params(desk: &mut Desk<'_>, name: Option<String>) -> anyhow::Result<()> {
    let params = desk.runtime.block_on(desk.chain.params())?;
    let height = desk.chain.light().map_or(0, |light| light.height());
    let mut answer = ParamsAnswer::new(height, &params);
    if let Some(name) = name {
        answer.params.retain(|known, _| *known == name);
        if answer.params.is_empty() {
            bail!("there is no parameter {name}");
        }
    }
    let list = answer.params.iter().map(|(name, value)| vec![name.clone(), value.to_string()]);
    let text = table(&list.collect::<Vec<_>>());
    desk.out.result(&answer, &text)
}

fn validators(desk: &mut Desk<'_>, height: Option<u64>) -> anyhow::Result<()> {
    let answer: ValidatorsAnswer = desk.ask(async |rpc| rpc.validators(height).await)?;
    let member = |one: &arknet_sdk::chain::ledger::rpc::ValidatorAnswer| Validator {
        operator: one.operator,
        key: one.key.0,
        power: one.power,
    };
    let set = ValidatorSet::new(answer.validators.iter().map(member).collect());
    let set = set.context("the RPC's answer is no set of validators")?;
    let checked = match answer.height {
        // The genesis names those who vote first.
        0 | 1 => false,
        height => {
            let named = desk.check(async |light| match light.header(height - 1).await {
                Err(ChainError::TooFarBack { .. }) => Ok(None),
                other => other.map(|header| Some(header.next_validators)),
            })?;
            let named = named.flatten();
            if named.is_some_and(|named| named != set.hash()) {
                return Err(ChainError::StaleValidators.into());
            }
            named.is_some()
        }
    };
    let mut report = serde_json::to_value(&answer)?;
    report["verified"] = checked.into();
    let mut list = vec![["OPERATOR", "POWER", "MISSED IN A ROW", "KEY"].map(String::from).to_vec()];
    list.extend(answer.validators.iter().map(|one| {
        let missed = one.missed_in_a_row.map_or_else(|| "-".into(), |missed| missed.to_string());
        vec![one.operator.to_string(), one.power.to_string(), missed, String::from(one.key)]
    }));
    let checked = if checked { "checked" } else { "not checked" };
    let text = format!("at height {}, {checked}\n{}", answer.height, table(&list));
    desk.out.result(&report, &text)
}
