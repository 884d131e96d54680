//! What an account has, and what it does with it.

use anyhow::Context;
use arknet_sdk::{
    chain::{
        Action, Key,
        ledger::{
            Node, Role, Stake, StakeOp, Unbonding,
            limits::STAKES_PER_ACCOUNT_MAX,
            rpc::{AccountAnswer, StakeAnswer, UnbondingAnswer},
        },
    },
    keyfile,
};
use arknet_types::{Address, Atoms, PublicKey};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    Desk, Home, Order, RpcFlags, SendFlags, amount, amount::show, begin, parse_key, parse_role,
    role_name, when, whose,
};
use crate::out::{Out, table};

#[derive(Subcommand)]
pub(crate) enum Account {
    /// Show what an account has
    Balance {
        /// Whose [default: this wallet's]
        address: Option<Address>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Fetch what a stake has earned
    ClaimRewards {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Fetch stake whose time is over
    CompleteUnbond {
        /// What it was staked for: validator, compute, verifier, worker
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// The withdrawal's number, as wallet balance shows it
        #[arg(long)]
        unbond_id: u64,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Move stake to another node
    Redelegate {
        /// What it is staked for: validator, compute, verifier, worker
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// The operator of the node it goes to
        #[arg(long)]
        to_node: Address,
        /// The operator of the node it leaves [default: this wallet]
        #[arg(long)]
        from_node: Option<Address>,
        /// How much: atoms, or with a unit (1.5ark)
        #[arg(long, value_parser = amount::parse_some)]
        amount: Atoms,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Take this wallet's node out; to stake for it again brings it back
    Retire {
        /// validator, compute, verifier, worker
        #[arg(long, value_parser = parse_role)]
        role: Role,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Send money
    Send {
        /// To whom
        #[arg(long)]
        to: Address,
        /// How much: atoms, or with a unit (1.5ark)
        #[arg(long, value_parser = amount::parse_some)]
        amount: Atoms,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Put money behind a node; behind this wallet's own for the first time, this registers it
    Stake {
        #[command(flatten)]
        at: At,
        /// How much: atoms, or with a unit (1.5ark); zero registers a node where none is needed
        #[arg(long, value_parser = amount::parse)]
        amount: Atoms,
        /// The key of a node that is registered [default: the consensus key of the data directory
        /// for a validator, its peer key for any other]
        #[arg(long, value_parser = parse_key)]
        key: Option<PublicKey>,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Bring this wallet's node back after its time in jail
    Unjail {
        /// validator, compute, verifier, worker
        #[arg(long, value_parser = parse_role)]
        role: Role,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Take money back from a node; it is free after the role's time, then complete-unbond fetches it
    Unstake {
        #[command(flatten)]
        at: At,
        /// How much: atoms, or with a unit (1.5ark)
        #[arg(long, value_parser = amount::parse_some)]
        amount: Atoms,
        #[command(flatten)]
        send: SendFlags,
    },
}

/// Stake for what, and behind whom.
#[derive(clap::Args)]
pub(crate) struct At {
    /// What for: validator, compute, verifier, worker
    #[arg(long, value_parser = parse_role)]
    role: Role,
    /// The operator of the node [default: this wallet]
    #[arg(long)]
    node: Option<Address>,
}

pub(crate) fn run(home: Home<'_>, command: Account, out: &Out) -> anyhow::Result<()> {
    let stake = |action, question, done: String| Order {
        action: Action::Stake(action),
        question,
        done,
        more: Value::Null,
    };
    match command {
        Account::Balance { address, rpc } => balance(home, address, rpc, out),
        Account::ClaimRewards { at, send } => {
            let (mut desk, wallet, send) = begin(home, send, false, out)?;
            let (role, node) = (at.role, at.node.unwrap_or_else(|| wallet.address()));
            let done = format!("the rewards behind {node} are fetched");
            desk.act(&wallet, &send, stake(StakeOp::ClaimRewards { role, node }, None, done))
        }
        Account::CompleteUnbond { role, unbond_id: id, send } => {
            let (mut desk, wallet, send) = begin(home, send, false, out)?;
            let done = format!("withdrawal {id} is back in the account");
            desk.act(&wallet, &send, stake(StakeOp::CompleteUnbond { role, id }, None, done))
        }
        Account::Redelegate { role, to_node: to, from_node, amount, send } => {
            let (mut desk, wallet, send) = begin(home, send, true, out)?;
            let from = from_node.unwrap_or_else(|| wallet.address());
            let what = format!("{} from {from} to {to}", show(amount));
            let op = StakeOp::Redelegate { role, from, to, amount };
            let question = format!("Move {what}; it counts nowhere until it arrives.");
            desk.act(&wallet, &send, stake(op, Some(question), format!("{what} is on its way")))
        }
        Account::Retire { role, send } => {
            let (mut desk, wallet, send) = begin(home, send, true, out)?;
            let name = role_name(role);
            let question = format!("Take the {name} of this wallet out.");
            let done = format!("the {name} is out");
            desk.act(&wallet, &send, stake(StakeOp::Retire { role }, Some(question), done))
        }
        Account::Send { to, amount, send } => pay(home, to, amount, send, out),
        Account::Stake { at, amount, key, send } => {
            let (mut desk, wallet, send) = begin(home, send, true, out)?;
            let (role, node) = (at.role, at.node.unwrap_or_else(|| wallet.address()));
            let key = match key {
                None if node == wallet.address() => new_key(&mut desk, role, node)?,
                key => key,
            };
            let what = format!("{} for {} behind {node}", show(amount), role_name(role));
            let op = StakeOp::Deposit { role, node, amount, key };
            let question =
                format!("Stake {what}; it comes back only some time after it is withdrawn.");
            desk.act(&wallet, &send, stake(op, Some(question), format!("staked {what}")))
        }
        Account::Unjail { role, send } => {
            let (mut desk, wallet, send) = begin(home, send, false, out)?;
            let done = format!("the {} is back", role_name(role));
            desk.act(&wallet, &send, stake(StakeOp::Unjail { role }, None, done))
        }
        Account::Unstake { at, amount, send } => {
            let (mut desk, wallet, send) = begin(home, send, true, out)?;
            let (role, node) = (at.role, at.node.unwrap_or_else(|| wallet.address()));
            let what = format!("{} for {} behind {node}", show(amount), role_name(role));
            let question = format!("Withdraw {what}; on its way back it earns nothing.");
            let op = StakeOp::Withdraw { role, node, amount };
            let done = format!("{what} is on its way back; see arknet wallet balance");
            desk.act(&wallet, &send, stake(op, Some(question), done))
        }
    }
}

fn pay(
    home: Home<'_>,
    to: Address,
    amount: Atoms,
    send: SendFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let what = format!("{} to {to}", show(amount));
    let order = Order {
        action: Action::Transfer { to, amount },
        question: Some(format!("Send {what}.")),
        done: format!("sent {what}"),
        more: json!({ "to": to, "amount": amount }),
    };
    desk.act(&wallet, &send, order)
}

/// The key that registers this wallet's node; none where it is registered.
fn new_key(desk: &mut Desk<'_>, role: Role, own: Address) -> anyhow::Result<Option<PublicKey>> {
    if desk.value::<Node>(&Key::Node(role, own))?.is_some() {
        return Ok(None);
    }
    let key = match role {
        Role::Validator => keyfile::load(&desk.home.data.consensus_key())
            .context("a validator needs a consensus key; make one with: arknet validator key")?,
        _ => keyfile::load_or_create(&desk.home.data.peer_key())?,
    };
    Ok(Some(key.public()))
}

/// Withdrawals that are shown at most.
const UNBONDINGS_MAX: usize = 256;

fn balance(
    home: Home<'_>,
    address: Option<Address>,
    rpc: RpcFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let address = whose(home, address)?;
    let mut desk = Desk::open(home, rpc, out)?;
    let said = desk.ask(async |rpc| rpc.account(&address).await)?;
    let account = desk.runtime.block_on(desk.chain.account(address))?;
    let mut stakes = Vec::new();
    for one in said.stakes.iter().take(STAKES_PER_ACCOUNT_MAX as usize) {
        let place = (one.role, one.node);
        let stake = desk.value::<Stake>(&Key::Stake(address, place.0, place.1))?;
        let node = desk.value::<Node>(&Key::Node(place.0, place.1))?;
        stakes.extend(stake.zip(node).map(|(stake, node)| StakeAnswer::new(place, &stake, &node)));
    }
    let answered = stakes.len();
    let mut unbondings = Vec::new();
    for one in said.unbondings.iter().take(UNBONDINGS_MAX) {
        let unbonding = desk.value::<Unbonding>(&Key::Unbonding(address, one.id))?;
        let Some(unbonding) = unbonding else { continue };
        let node = desk.value::<Node>(&Key::Node(unbonding.role, unbonding.node))?;
        unbondings.extend(node.map(|node| UnbondingAnswer::new(one.id, &unbonding, &node)));
    }
    let height = account.height;
    let account = account.value.unwrap_or_default();
    if usize::try_from(account.stakes).is_ok_and(|stakes| stakes > answered) {
        out.note(&format!("The RPC shows {answered} stakes of {}.", account.stakes));
    }
    let answer = AccountAnswer {
        height,
        address,
        balance: account.balance,
        nonce: account.nonce,
        next_nonce: said.next_nonce.max(account.nonce),
        stakes,
        unbondings,
    };
    let mut report = serde_json::to_value(&answer)?;
    report["verified"] = desk.chain.light().is_some().into();
    out.result(&report, &balance_text(&answer))
}

fn balance_text(answer: &AccountAnswer) -> String {
    let mut text = format!("{}\n{}", answer.address, show(answer.balance));
    if !answer.stakes.is_empty() {
        let mut rows = vec![["STAKED FOR", "NODE", "AMOUNT", "REWARDS"].map(String::from).to_vec()];
        rows.extend(answer.stakes.iter().map(|one| {
            vec![role_name(one.role), one.node.to_string(), show(one.amount), show(one.rewards)]
        }));
        text = format!("{text}\n\n{}", table(&rows));
    }
    if !answer.unbondings.is_empty() {
        let heads = ["NUMBER", "LEAVES", "NODE", "AMOUNT", "FREE"];
        let mut rows = vec![heads.map(String::from).to_vec()];
        rows.extend(answer.unbondings.iter().map(|one| {
            let free = match one.to {
                Some(to) => format!("{}, then behind {to}", when(one.free_at_ms)),
                None => when(one.free_at_ms),
            };
            let (role, node) = (role_name(one.role), one.node.to_string());
            vec![one.id.to_string(), role, node, show(one.amount), free]
        }));
        text = format!("{text}\n\n{}", table(&rows));
    }
    text
}
