//! What a chain begins with, and the keys of those who vote on it.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write, path::PathBuf};

use anyhow::{Context, bail};
use arknet_sdk::{
    chain::{
        Genesis,
        ledger::{GenesisValidator, Params, rpc::HexKey},
    },
    keyfile,
};
use arknet_types::{Address, Atoms, NetworkId, Timestamp};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Home, amount, parse_key};
use crate::out::Out;

#[derive(Subcommand)]
pub(crate) enum GenesisCommand {
    /// Write the document that a new chain begins with
    New(Box<New>),
}

#[derive(Subcommand)]
pub(crate) enum ValidatorCommand {
    /// Print what a genesis or a stake needs of this validator; makes its consensus key where there
    /// is none
    Key,
}

#[derive(Args)]
pub(crate) struct New {
    /// The chain's name: small letters, digits and -
    #[arg(long)]
    network: NetworkId,
    /// Who votes on the first block: ADDRESS:KEY, as arknet validator key prints it, and perhaps
    /// :WEIGHT; may be given again [default: this wallet and its consensus key]
    #[arg(long, value_name = "ADDRESS:KEY[:WEIGHT]", value_parser = parse_validator)]
    validator: Vec<GenesisValidator>,
    /// A parameter that is not to have its default; may be given again
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_param)]
    param: Vec<(String, u64)>,
    /// When it begins, in milliseconds since 1970 [default: now]
    #[arg(long, value_name = "MS")]
    time_ms: Option<u64>,
    /// Money that is there from the beginning, for tests: who begins rich is not to be trusted
    #[arg(long, value_name = "ADDRESS=AMOUNT", value_parser = parse_share)]
    danger_allocation: Vec<(Address, Atoms)>,
    /// Stake of a validator from the beginning, for tests
    #[arg(long, value_name = "ADDRESS=AMOUNT", value_parser = parse_share)]
    danger_stake: Vec<(Address, Atoms)>,
    /// Where it is written [default: genesis.json in the data directory]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What a validator weighs while nobody can have stake.
const WEIGHT: u64 = 100;

fn parse_validator(text: &str) -> anyhow::Result<GenesisValidator> {
    let parts: Vec<&str> = text.split(':').collect();
    let (operator, key, weight) = match parts[..] {
        [operator, key] => (operator, key, WEIGHT),
        [operator, key, weight] => {
            (operator, key, weight.parse().context("a weight is a whole number")?)
        }
        _ => bail!("write ADDRESS:KEY or ADDRESS:KEY:WEIGHT"),
    };
    let (operator, key) = (operator.parse()?, parse_key(key)?);
    Ok(GenesisValidator { operator, key, weight, stake: Atoms::ZERO })
}

fn parse_param(text: &str) -> anyhow::Result<(String, u64)> {
    let (name, value) = text.split_once('=').context("write NAME=VALUE")?;
    Ok((name.to_owned(), value.parse().context("a parameter is a whole number")?))
}

fn parse_share(text: &str) -> anyhow::Result<(Address, Atoms)> {
    let (address, value) = text.split_once('=').context("write ADDRESS=AMOUNT")?;
    Ok((address.parse()?, amount::parse_some(value)?))
}

pub(crate) fn run(home: Home<'_>, command: GenesisCommand, out: &Out) -> anyhow::Result<()> {
    let GenesisCommand::New(new) = command;
    let New { network, mut validator, param, time_ms, danger_allocation, danger_stake, file } =
        *new;
    if validator.is_empty() {
        validator.push(own(home)?);
    }
    for (operator, stake) in danger_stake {
        let known = validator.iter_mut().find(|one| one.operator == operator);
        known.with_context(|| format!("{operator} is none of the validators"))?.stake = stake;
    }
    let genesis = Genesis {
        network,
        time: time_ms.map_or_else(arknet_sdk::now, Timestamp),
        params: Params::from_named(&param.into_iter().collect::<BTreeMap<_, _>>())?,
        validators: validator,
        allocations: danger_allocation.into_iter().collect(),
    };
    let text = genesis.to_json();
    // What is written is what everybody will be able to read.
    let genesis = Genesis::parse(&text)?;
    let path = file.unwrap_or_else(|| home.data.genesis());
    let mut options = OpenOptions::new();
    let at = || format!("{}: a genesis is never overwritten", path.display());
    let mut written = options.write(true).create_new(true).open(&path).with_context(at)?;
    written.write_all(text.as_bytes())?;
    written.write_all(b"\n")?;
    written.sync_all()?;
    let id = genesis.id();
    let report = json!({
        "path": path,
        "network": genesis.network,
        "id": id,
        "validators": genesis.validators.len(),
    });
    let text = format!(
        "{}\nchain {}, validators: {}\nname {id}: whoever joins must see the same",
        path.display(),
        genesis.network,
        genesis.validators.len()
    );
    out.result(&report, &text)
}

/// The validator of this data directory.
fn own(home: Home<'_>) -> anyhow::Result<GenesisValidator> {
    let operator = crate::wallet::load(home.data)?.address();
    let key = keyfile::load_or_create(&home.data.consensus_key())?.public();
    Ok(GenesisValidator { operator, key, weight: WEIGHT, stake: Atoms::ZERO })
}

pub(crate) fn run_validator(
    home: Home<'_>,
    command: ValidatorCommand,
    out: &Out,
) -> anyhow::Result<()> {
    let ValidatorCommand::Key = command;
    let GenesisValidator { operator, key, .. } = own(home)?;
    let key = String::from(HexKey(key));
    let path = home.data.consensus_key();
    out.note("The key must never be lost, nor be in two places that run.");
    let report = json!({ "operator": operator, "key": key, "path": path });
    out.result(&report, &format!("{operator}:{key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validator_is_written_as_it_is_printed() {
        let key = "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12";
        let operator = "0xfef6dfa48b073924c436539010d7812fbe50096a";
        let plain = parse_validator(&format!("{operator}:{key}")).unwrap();
        assert_eq!((plain.operator.to_string(), plain.weight), (operator.to_owned(), WEIGHT));
        assert_eq!(parse_validator(&format!("{operator}:{key}:7")).unwrap().weight, 7);
        for bad in [operator, &format!("{operator}:12"), &format!("{operator}:{key}:x"), "::"] {
            assert!(parse_validator(bad).is_err(), "{bad}");
        }
        let (_, amount) = parse_share(&format!("{operator}=1.5ark")).unwrap();
        assert_eq!(amount, Atoms(1_500_000_000));
    }
}
