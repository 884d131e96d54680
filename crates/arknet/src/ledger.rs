//! Commands of the ledger: what they share.

mod amount;
mod chain;
mod channel;
mod escrow;
mod genesis;
mod governance;
mod models;
mod tee;
mod wallet;

use std::{
    io::{IsTerminal, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use arknet_node::{Config, DataDir, Overrides};
use arknet_sdk::{
    chain::{
        Action, At, Chain, ChainError, ChainOptions, ChainRpc, Fees, Genesis, Key, LightChain,
        Settled,
        ledger::{
            Channel, ChannelOp, Hash, Role, TransactionBody,
            limits::{GENESIS_BYTES_MAX, TRANSACTION_BYTES_MAX},
            rpc::{HexBytes, HexKey},
        },
    },
    wallet::Wallet,
};
use arknet_types::{Address, Atoms, PublicKey};
use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use self::{
    amount::show,
    chain::{ChainCommand, run as run_chain},
    channel::{ChannelCommand, run as run_channel},
    escrow::{EscrowCommand, run as run_escrow},
    genesis::{GenesisCommand, ValidatorCommand, run as run_genesis, run_validator},
    governance::{GovernanceCommand, run as run_governance},
    models::{Deregister, Register, deregister, register},
    tee::{TeeCommand, run as run_tee},
    wallet::{Account, run as run_wallet},
};
use crate::out::Out;

/// Age of the newest block at which a person is told of it.
const OLD_MS: u64 = 60_000;

/// Where keys lie, and the settings that say where the ledger is.
#[derive(Clone, Copy)]
pub(crate) struct Home<'a> {
    pub(crate) data: &'a DataDir,
    pub(crate) config: &'a Path,
}

/// Which ledger, and by what it is checked.
#[derive(Args)]
pub(crate) struct RpcFlags {
    /// The chain RPC of a node [default: ledger.rpc of the configuration, on this machine]
    #[arg(long, env = "ARKNET_RPC", hide_env_values = true, value_name = "URL")]
    rpc: Option<String>,
    /// What the chain began with [default: ledger.genesis of the configuration, else genesis.json
    /// in the data directory]
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Believe the RPC instead of checking its proofs: for a node of your own only
    #[arg(long)]
    danger_trust_rpc: bool,
}

/// How an order is sent.
#[derive(Args)]
pub(crate) struct SendFlags {
    #[command(flatten)]
    rpc: RpcFlags,
    /// What the proposer of the block gets for one gas, to be sooner than others
    #[arg(long, value_name = "AMOUNT", default_value = "0", value_parser = amount::parse)]
    tip: Atoms,
    /// Highest price of one gas, tip included [default: about twice the present one]
    #[arg(long, value_name = "AMOUNT", value_parser = amount::parse)]
    fee_max: Option<Atoms>,
    /// Do not wait for the block
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the block
    #[arg(long, value_name = "TIME", value_parser = crate::key::parse_time, default_value = "60s")]
    patience: Duration,
    /// Do not ask before what cannot be taken back
    #[arg(long, short)]
    yes: bool,
}

/// What an account does, and the words for it.
struct Order {
    action: Action,
    /// What cannot be taken back; none where it can.
    question: Option<String>,
    /// What was done, in words.
    done: String,
    /// More for a program.
    more: Value,
}

/// What was sent is in a block, but could not be done. The fee is paid.
#[derive(Debug, thiserror::Error)]
#[error("not done: {words} (transaction {id} in block {height}, the fee was {})", show(*.fee))]
pub(crate) struct Undone {
    pub(crate) code: String,
    words: String,
    pub(crate) id: Hash,
    pub(crate) height: u64,
    pub(crate) fee: Atoms,
}

/// The ledger, asked from here.
pub(crate) struct Desk<'a> {
    runtime: tokio::runtime::Runtime,
    chain: Chain,
    home: Home<'a>,
    out: &'a Out,
}

impl<'a> Desk<'a> {
    pub(crate) fn open(home: Home<'a>, flags: RpcFlags, out: &'a Out) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config = Config::load(home.config, &Overrides::default())?.ledger;
        let genesis = flags.genesis.or(config.genesis).unwrap_or_else(|| home.data.genesis());
        let options = ChainOptions {
            url: Some(flags.rpc.unwrap_or_else(|| local(config.rpc))),
            genesis: if flags.danger_trust_rpc { None } else { Some(read_genesis(&genesis)?) },
            file: Some(home.data.light()),
            danger_trust_rpc: flags.danger_trust_rpc,
        };
        let chain = runtime.block_on(Chain::open(options))?;
        Ok(Self { runtime, chain, home, out })
    }

    /// A value of the state; none where there is none.
    fn value<T: borsh::BorshDeserialize>(&mut self, key: &Key) -> anyhow::Result<Option<T>> {
        let At { value, time, .. } = self.runtime.block_on(self.chain.value(key))?;
        let age_ms = arknet_sdk::now().since_ms(time);
        if self.chain.light().is_some() && age_ms > OLD_MS {
            let minutes = age_ms / 60_000;
            self.out.note(&format!("The newest block there is {minutes} minutes old."));
        }
        Ok(value)
    }

    /// Asks the RPC for what is not proved.
    fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&ChainRpc) -> Result<T, ChainError>,
    ) -> anyhow::Result<T> {
        Ok(self.runtime.block_on(ask(self.chain.rpc()))?)
    }

    /// Asks what checks the RPC; none where that is believed.
    fn check<T>(
        &mut self,
        check: impl AsyncFnOnce(&mut LightChain) -> Result<T, ChainError>,
    ) -> anyhow::Result<Option<T>> {
        let Some(light) = self.chain.light() else { return Ok(None) };
        Ok(Some(self.runtime.block_on(check(light))?))
    }

    fn wallet(&self) -> anyhow::Result<Wallet> {
        crate::wallet::load(self.home.data)
    }

    /// Does what is ordered, and says what became of it.
    fn act(&mut self, wallet: &Wallet, flags: &Sending, order: Order) -> anyhow::Result<()> {
        let Order { action, question, mut done, more } = order;
        let prepared = self.chain.prepare(wallet, action, flags.fees);
        let prepared = self.runtime.block_on(prepared)?;
        if let Some(question) = question.filter(|_| !flags.yes) {
            let fee = match (show(prepared.fee), show(prepared.fee_max)) {
                (least, most) if least == most => least,
                (least, most) => format!("{least} to {most}"),
            };
            let has = show(prepared.balance);
            let question = format!("{question} The fee is {fee}; the account has {has}. Go on?");
            if !self.out.confirm(&question, ALONE)? {
                bail!("nothing was sent");
            }
        }
        let id = prepared.id;
        let submitted = self.runtime.block_on(self.chain.submit(&prepared.transaction));
        submitted.map_err(|error| match error {
            // Who sends the money once more would pay twice.
            error @ (ChainError::Unreachable { .. } | ChainError::Malformed { .. }) => {
                let words = format!("it may have been sent all the same: arknet chain tx {id}");
                anyhow::Error::from(error).context(words)
            }
            refused => refused.into(),
        })?;
        let mut report = json!({ "transaction": id, "state": "waiting" });
        merge(&mut report, more);
        if let Some(channel) = opened(&prepared.transaction.body) {
            done = format!("{done}\nchannel {channel}");
            report["channel"] = json!(channel);
        }
        if flags.no_wait {
            return self.out.result(&report, &format!("sent; arknet chain tx {id}"));
        }
        let settled = self.runtime.block_on(self.chain.wait(id, flags.patience));
        let Settled { height, outcome, .. } =
            settled.with_context(|| format!("transaction {id} was sent"))?;
        if !outcome.done {
            let (code, words) = (outcome.failure, outcome.failure_words);
            let (code, words) = (code.unwrap_or_default(), words.unwrap_or_default());
            return Err(Undone { code, words, id, height, fee: outcome.fee }.into());
        }
        let outcome_fields = json!({
            "state": "committed",
            "height": height,
            "fee": outcome.fee,
            "number": outcome.number,
        });
        merge(&mut report, outcome_fields);
        let number = outcome.number.map_or_else(String::new, |number| format!(", number {number}"));
        let fee = show(outcome.fee);
        let text = format!("{done}{number}\nblock {height}, fee {fee}, transaction {id}");
        self.out.result(&report, &text)
    }
}

const ALONE: &str = "nobody is here to answer; give --yes to do it without asking";

/// How an order is sent, without what the desk was opened with.
struct Sending {
    fees: Fees,
    no_wait: bool,
    patience: Duration,
    yes: bool,
}

/// Opens what an order needs. Where nobody can be asked, it is said before anything is done.
fn begin<'a>(
    home: Home<'a>,
    flags: SendFlags,
    asks: bool,
    out: &'a Out,
) -> anyhow::Result<(Desk<'a>, Wallet, Sending)> {
    if asks && !flags.yes && !std::io::stdin().is_terminal() {
        bail!("{ALONE}");
    }
    let wallet = crate::wallet::load(home.data)?;
    let SendFlags { rpc, tip, fee_max: max, no_wait, patience, yes } = flags;
    let desk = Desk::open(home, rpc, out)?;
    Ok((desk, wallet, Sending { fees: Fees { tip, max }, no_wait, patience, yes }))
}

/// The channel that a transaction opens, which is named after it.
fn opened(body: &TransactionBody) -> Option<Hash> {
    let Action::Channel(op) = &body.action else { return None };
    let is_open = matches!(**op, ChannelOp::Open { .. });
    is_open.then(|| Channel::id(&body.signer.address(), body.nonce))
}

/// The URL of what listens there, for who is on the same machine.
fn local(mut listens: SocketAddr) -> String {
    if listens.ip().is_unspecified() {
        let loopback: IpAddr = match listens.is_ipv4() {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        };
        listens.set_ip(loopback);
    }
    format!("http://{listens}")
}

fn merge(report: &mut Value, more: Value) {
    if let (Value::Object(report), Value::Object(more)) = (report, more) {
        report.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

fn read_genesis(path: &Path) -> anyhow::Result<Genesis> {
    if !path.exists() {
        bail!(
            "{} is not there, and without what the chain began with nothing can be checked: put its \
             genesis document there, give --genesis FILE, or --danger-trust-rpc for a node of your \
             own",
            path.display()
        );
    }
    let text = read_file(path, GENESIS_BYTES_MAX)?;
    let text = String::from_utf8(text).with_context(|| format!("{}: no text", path.display()))?;
    Genesis::parse(&text).with_context(|| path.display().to_string())
}

/// A file of so many bytes at most.
fn read_file(path: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let at = || path.display().to_string();
    let file = std::fs::File::open(path).with_context(at)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(at)?;
    if bytes.len() > bytes_max {
        bail!("{}: more than {bytes_max} bytes", path.display());
    }
    Ok(bytes)
}

/// A text, or with `@` before it the content of a file.
fn text_or_file(given: &str, bytes_max: usize) -> anyhow::Result<String> {
    let text = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(path) => {
            let bytes = read_file(Path::new(path), bytes_max)?;
            String::from_utf8(bytes).with_context(|| format!("{path}: no text"))?
        }
    };
    if text.len() > bytes_max {
        bail!("a text of {} bytes, where {bytes_max} may be", text.len());
    }
    Ok(text)
}

/// Whose account a command is about: this wallet's where nobody is named.
fn whose(home: Home<'_>, named: Option<Address>) -> anyhow::Result<Address> {
    named.map_or_else(|| Ok(crate::wallet::load(home.data)?.address()), Ok)
}

/// What was handed over as hex, or in a file with it.
fn unpack<T: borsh::BorshDeserialize>(given: &str, what: &str) -> anyhow::Result<T> {
    let text = text_or_file(given, 2 * TRANSACTION_BYTES_MAX)?;
    let bytes = HexBytes::try_from(text.trim().to_owned()).ok();
    let value = bytes.and_then(|HexBytes(bytes)| arknet_types::decode(&bytes).ok());
    value.with_context(|| format!("this is no {what}"))
}

/// A word that stands for one of a few things, as the ledger calls them in JSON.
fn word<T: DeserializeOwned>(text: &str, those: &'static str) -> anyhow::Result<T> {
    serde_json::from_value(text.into()).map_err(|_| anyhow::anyhow!("one of {those}"))
}

fn parse_role(text: &str) -> anyhow::Result<Role> {
    word(text, "validator, compute, verifier, worker")
}

/// A role as it is typed.
fn role_name(role: Role) -> String {
    serde_json::to_value(role)
        .ok()
        .and_then(|name| Some(name.as_str()?.to_owned()))
        .unwrap_or_default()
}

/// A public key: 64 hex digits, or a peer id.
fn parse_key(text: &str) -> anyhow::Result<PublicKey> {
    if let Ok(HexKey(key)) = HexKey::try_from(text.to_owned()) {
        return Ok(key);
    }
    text.parse().context("a key is 64 hex digits, or a peer id")
}

/// A time of the chain for a person.
fn when(ms: u64) -> String {
    let now = arknet_sdk::now().0;
    let span = |ms: u64| match ms / 1_000 {
        s @ 0..=119 => format!("{s} s"),
        s @ 120..=7_199 => format!("{} min", s / 60),
        s @ 7_200..=172_799 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    };
    match ms.checked_sub(now) {
        Some(left) => format!("in {}", span(left)),
        None => format!("{} ago", span(now - ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_from_a_file_where_it_begins_so() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("proposal.md");
        std::fs::write(&path, "because").unwrap();
        let at = format!("@{}", path.display());
        assert_eq!(text_or_file(&at, 7).unwrap(), "because");
        assert_eq!(text_or_file("because", 7).unwrap(), "because");
        assert!(text_or_file(&at, 6).is_err() && text_or_file("because", 6).is_err());
        assert!(text_or_file("@/nowhere/at/all", 6).is_err());
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_this_machine() {
        for (listens, url) in [
            ("127.0.0.1:7", "http://127.0.0.1:7"),
            ("0.0.0.0:7", "http://127.0.0.1:7"),
            ("[::]:7", "http://[::1]:7"),
            ("192.0.2.1:7", "http://192.0.2.1:7"),
        ] {
            assert_eq!(local(listens.parse().unwrap()), url);
        }
    }

    #[test]
    fn roles_and_keys_are_typed_as_they_are_shown() {
        for role in [Role::Validator, Role::Compute, Role::Verifier, Role::Worker] {
            assert_eq!(parse_role(&role_name(role)).unwrap(), role);
        }
        assert!(parse_role("king").is_err() && parse_role("Compute").is_err());
        let key = arknet_types::KeyPair::from_seed(&[7; 32]).public();
        assert_eq!(parse_key(&key.to_string()).unwrap(), key);
        let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(parse_key(&hex).unwrap(), key);
        assert!(parse_key("12").is_err());
    }
}
