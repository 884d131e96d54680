//! Money for one job.

use std::time::Duration;

use anyhow::{Context, bail};
use arknet_sdk::chain::{
    Action, Key,
    ledger::{Escrow, EscrowOp, Hash, Meta, Voucher, VoucherBody, rpc::HexBytes},
};
use arknet_types::{Address, Atoms, encode};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Desk, Home, Order, RpcFlags, SendFlags, amount, amount::show, begin, unpack, when, whose,
};
use crate::out::Out;

#[derive(Subcommand)]
pub(crate) enum EscrowCommand {
    /// Fetch the pay for a job by its payer's voucher
    Claim {
        /// Who locked the money
        #[arg(long)]
        payer: Address,
        /// The job: 64 hex digits
        #[arg(long)]
        job: Hash,
        /// What the payer signed with escrow pay; @FILE reads a file
        #[arg(long, value_name = "HEX")]
        voucher: String,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Lock money for one job
    Lock(Box<Lock>),
    /// Sign a voucher: the job costs this much
    Pay {
        /// The job: 64 hex digits
        #[arg(long)]
        job: Hash,
        /// What it costs
        #[arg(long, value_parser = amount::parse_some)]
        amount: Atoms,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Take all of it back when its time is over
    Refund {
        /// The job: 64 hex digits
        #[arg(long)]
        job: Hash,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Pay for a job, and take the rest back
    Release {
        /// The job: 64 hex digits
        #[arg(long)]
        job: Hash,
        /// What it cost
        #[arg(long, value_parser = amount::parse)]
        amount: Atoms,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Show what is locked for a job
    Show {
        /// The job: 64 hex digits
        #[arg(long)]
        job: Hash,
        /// Who locked it [default: this wallet]
        #[arg(long)]
        payer: Option<Address>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
}

#[derive(Args)]
pub(crate) struct Lock {
    /// Who is to do the job
    #[arg(long)]
    payee: Address,
    /// How much: atoms, or with a unit (1.5ark)
    #[arg(long, value_parser = amount::parse_some)]
    amount: Atoms,
    /// Time after which the money can be taken back
    #[arg(long, value_name = "TIME", value_parser = crate::key::parse_time, default_value = "24h")]
    timeout: Duration,
    /// The job: 64 hex digits that you have not used [default: any]
    #[arg(long)]
    job: Option<Hash>,
    #[command(flatten)]
    send: SendFlags,
}

pub(crate) fn run(home: Home<'_>, command: EscrowCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        EscrowCommand::Claim { payer, job, voucher, send } => {
            claim(home, (payer, job), &voucher, send, out)
        }
        EscrowCommand::Lock(lock) => lock_some(home, *lock, out),
        EscrowCommand::Pay { job, amount, rpc } => pay(home, job, amount, rpc, out),
        EscrowCommand::Refund { job, send } => refund(home, job, send, out),
        EscrowCommand::Release { job, amount, send } => release(home, job, amount, send, out),
        EscrowCommand::Show { job, payer, rpc } => show_one(home, job, payer, rpc, out),
    }
}

fn op(op: EscrowOp) -> Action {
    Action::Escrow(Box::new(op))
}

fn find(desk: &mut Desk<'_>, payer: Address, job: Hash) -> anyhow::Result<Escrow> {
    let found = desk.value::<Escrow>(&Key::Escrow(payer, job))?;
    found.with_context(|| format!("{payer} has locked nothing for job {job}"))
}

fn covers(escrow: &Escrow, amount: Atoms) -> anyhow::Result<()> {
    if amount > escrow.amount {
        bail!("{} is more than the {} that are locked", show(amount), show(escrow.amount));
    }
    Ok(())
}

fn lock_some(home: Home<'_>, lock: Lock, out: &Out) -> anyhow::Result<()> {
    let Lock { payee, amount, timeout, job, send } = lock;
    let job = job.map_or_else(any_job, Ok)?;
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let meta: Meta = desk.runtime.block_on(desk.chain.meta())?;
    let timeout = meta.time.plus_ms(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
    let what = format!("{} for {payee}", show(amount));
    let until = when(timeout.0);
    let order = Order {
        action: op(EscrowOp::Lock { payee, amount, job, timeout }),
        question: Some(format!("Lock {what}; it can be taken back {until}.")),
        done: format!("locked {what}\njob {job}"),
        more: json!({ "job": job, "timeout_ms": timeout.0 }),
    };
    desk.act(&wallet, &send, order)
}

/// A name that no job had.
fn any_job() -> anyhow::Result<Hash> {
    let mut name = [0; 32];
    getrandom::fill(&mut name).context("this machine gives no random numbers; give --job")?;
    Ok(Hash(name))
}

fn pay(home: Home<'_>, job: Hash, amount: Atoms, rpc: RpcFlags, out: &Out) -> anyhow::Result<()> {
    let mut desk = Desk::open(home, rpc, out)?;
    let wallet = desk.wallet()?;
    covers(&find(&mut desk, wallet.address(), job)?, amount)?;
    let network = desk.chain.network().clone();
    let channel = Escrow::id(&wallet.address(), &job);
    let body = VoucherBody { network, channel, total: amount, model: None };
    let voucher = String::from(HexBytes(encode(&Voucher::by_wallet(body, wallet.key()))));
    out.result(&json!({ "job": job, "amount": amount, "voucher": voucher }), &voucher)
}

fn release(
    home: Home<'_>,
    job: Hash,
    amount: Atoms,
    send: SendFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let escrow = find(&mut desk, wallet.address(), job)?;
    covers(&escrow, amount)?;
    let (cost, payee) = (show(amount), escrow.payee);
    let order = Order {
        action: op(EscrowOp::Release { job, amount }),
        question: Some(format!("Pay {cost} of {} to {payee}.", show(escrow.amount))),
        done: format!("paid {cost} to {payee}"),
        more: json!({ "job": job, "amount": amount }),
    };
    desk.act(&wallet, &send, order)
}

fn claim(
    home: Home<'_>,
    (payer, job): (Address, Hash),
    voucher: &str,
    send: SendFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let voucher: Voucher = unpack(voucher, "voucher")?;
    // What is locked is divided for good: a second voucher would come too late.
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let escrow = find(&mut desk, payer, job)?;
    if escrow.payee != wallet.address() {
        bail!("the money is for {}, who alone can claim it", escrow.payee);
    }
    if voucher.body.channel != Escrow::id(&payer, &job) {
        bail!("the voucher is about something else");
    }
    let amount = voucher.body.total;
    covers(&escrow, amount)?;
    let (cost, locked) = (show(amount), show(escrow.amount));
    let order = Order {
        action: op(EscrowOp::Claim { payer, job, voucher }),
        question: Some(format!("Claim {cost} of {locked}; the rest returns to {payer}.")),
        done: format!("claimed {cost}"),
        more: json!({ "job": job, "amount": amount }),
    };
    desk.act(&wallet, &send, order)
}

fn refund(home: Home<'_>, job: Hash, send: SendFlags, out: &Out) -> anyhow::Result<()> {
    let (mut desk, wallet, send) = begin(home, send, false, out)?;
    let escrow = find(&mut desk, wallet.address(), job)?;
    let meta: Meta = desk.runtime.block_on(desk.chain.meta())?;
    if meta.time < escrow.timeout {
        bail!("it can be taken back {}", when(escrow.timeout.0));
    }
    let order = Order {
        action: op(EscrowOp::Refund { job }),
        question: None,
        done: format!("took {} back", show(escrow.amount)),
        more: json!({ "job": job, "amount": escrow.amount }),
    };
    desk.act(&wallet, &send, order)
}

fn show_one(
    home: Home<'_>,
    job: Hash,
    payer: Option<Address>,
    rpc: RpcFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let payer = whose(home, payer)?;
    let mut desk = Desk::open(home, rpc, out)?;
    let Escrow { payee, amount, timeout } = find(&mut desk, payer, job)?;
    let report = json!({
        "job": job,
        "payer": payer,
        "payee": payee,
        "amount": amount,
        "timeout_ms": timeout.0,
    });
    let until = when(timeout.0);
    out.result(&report, &format!("{} for {payee}, the payer's again {until}", show(amount)))
}
