//! Payment channels.

use std::time::Duration;

use anyhow::{Context, bail};
use arknet_sdk::chain::{
    Action, Key,
    ledger::{
        Channel, ChannelOp, CloseAgreement, Hash, Meta, Voucher, VoucherBody,
        rpc::{ChannelAnswer, ChannelPage, HexBytes},
    },
};
use arknet_types::{Address, Atoms, Domain, ModelName, PublicKey, Signature, encode};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Desk, Home, Order, RpcFlags, SendFlags, amount, amount::show, begin, parse_key, unpack, when,
    whose,
};
use crate::out::{Out, table};

#[derive(Subcommand)]
pub(crate) enum ChannelCommand {
    /// Sign that a channel is closed with this payment, for the other side to send
    Agree {
        /// The channel: 64 hex digits
        #[arg(long)]
        channel: Hash,
        /// What the payee has in the end, all in all
        #[arg(long, value_parser = amount::parse)]
        total: Atoms,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Close a channel: at once with the other side's agreement, else after the time it may answer
    Close {
        /// The channel: 64 hex digits
        #[arg(long)]
        channel: Hash,
        /// What the other side signed with channel agree; @FILE reads a file
        #[arg(long, value_name = "HEX")]
        agreement: Option<String>,
        #[command(flatten)]
        send: SendFlags,
    },
    /// List the open channels of an account
    List {
        /// Whose [default: this wallet's]
        address: Option<Address>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Lock money for somebody who is paid from it by and by
    Open(Box<Open>),
    /// Sign a voucher: all in all this much has been paid
    Pay {
        /// The channel: 64 hex digits
        #[arg(long)]
        channel: Hash,
        /// Everything up to now
        #[arg(long, value_parser = amount::parse_some)]
        total: Atoms,
        /// The model that was paid for
        #[arg(long)]
        model: Option<ModelName>,
        #[command(flatten)]
        rpc: RpcFlags,
    },
    /// Fetch what a voucher is worth, as the one who is paid
    Settle {
        /// The highest voucher; @FILE reads a file
        #[arg(long, value_name = "HEX")]
        voucher: String,
        /// That was all: the rest returns to the payer
        #[arg(long)]
        close: bool,
        #[command(flatten)]
        send: SendFlags,
    },
    /// Lock more in a channel
    TopUp {
        /// The channel: 64 hex digits
        #[arg(long)]
        channel: Hash,
        /// How much more: atoms, or with a unit (1.5ark)
        #[arg(long, value_parser = amount::parse_some)]
        amount: Atoms,
        #[command(flatten)]
        send: SendFlags,
    },
}

#[derive(Args)]
pub(crate) struct Open {
    /// Who is to be paid
    #[arg(long)]
    payee: Address,
    /// How much: atoms, or with a unit (1.5ark)
    #[arg(long, value_parser = amount::parse_some)]
    deposit: Atoms,
    /// The peer that works for the payee, for sessions that may pay one peer only
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    peer: Option<PublicKey>,
    /// Time in which the payee may answer when you close alone
    #[arg(long, value_name = "TIME", value_parser = crate::key::parse_time, default_value = "24h")]
    challenge: Duration,
    #[command(flatten)]
    send: SendFlags,
}

/// Channels that are listed at most.
const CHANNELS_MAX: usize = 10_000;

/// What one side signed, as it is handed to the other.
type Agreed = (CloseAgreement, PublicKey, Signature);

pub(crate) fn run(home: Home<'_>, command: ChannelCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        ChannelCommand::Agree { channel, total, rpc } => agree(home, channel, total, rpc, out),
        ChannelCommand::Close { channel, agreement, send } => {
            close(home, channel, agreement.as_deref(), send, out)
        }
        ChannelCommand::List { address, rpc } => list(home, address, rpc, out),
        ChannelCommand::Open(open) => open_one(home, *open, out),
        ChannelCommand::Pay { channel, total, model, rpc } => {
            let mut desk = Desk::open(home, rpc, out)?;
            let wallet = desk.wallet()?;
            let known = find(&mut desk, channel)?;
            if known.payer != wallet.address() {
                bail!("the channel is {}'s, who alone can pay from it", known.payer);
            }
            if total > known.deposit || total <= known.settled {
                let (settled, deposit) = (show(known.settled), show(known.deposit));
                bail!(
                    "{} is not between the {settled} that are settled and the {deposit} that are \
                       locked",
                    show(total)
                );
            }
            let network = desk.chain.network().clone();
            let body = VoucherBody { network, channel, total, model };
            let voucher = String::from(HexBytes(encode(&Voucher::by_wallet(body, wallet.key()))));
            let report = json!({ "channel": channel, "total": total, "voucher": voucher });
            out.result(&report, &voucher)
        }
        ChannelCommand::Settle { voucher, close, send } => settle(home, &voucher, close, send, out),
        ChannelCommand::TopUp { channel, amount, send } => {
            let (mut desk, wallet, send) = begin(home, send, true, out)?;
            let what = format!("{} in channel {channel}", show(amount));
            let order = Order {
                action: op(ChannelOp::TopUp { channel, amount }),
                question: Some(format!("Lock another {what}.")),
                done: format!("locked {what}"),
                more: json!({ "channel": channel }),
            };
            desk.act(&wallet, &send, order)
        }
    }
}

fn op(op: ChannelOp) -> Action {
    Action::Channel(Box::new(op))
}

fn find(desk: &mut Desk<'_>, id: Hash) -> anyhow::Result<Channel> {
    let found = desk.value::<Channel>(&Key::Channel(id))?;
    found.with_context(|| format!("there is no open channel {id}"))
}

fn open_one(home: Home<'_>, open: Open, out: &Out) -> anyhow::Result<()> {
    let Open { payee, deposit, peer: payee_peer, challenge, send } = open;
    let challenge_ms = u64::try_from(challenge.as_millis()).unwrap_or(u64::MAX);
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let what = format!("{} for {payee}", show(deposit));
    let order = Order {
        action: op(ChannelOp::Open { payee, payee_peer, deposit, challenge_ms }),
        question: Some(format!("Lock {what}.")),
        done: format!("locked {what}"),
        more: Value::Null,
    };
    desk.act(&wallet, &send, order)
}

fn agree(
    home: Home<'_>,
    channel: Hash,
    total: Atoms,
    rpc: RpcFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let mut desk = Desk::open(home, rpc, out)?;
    let wallet = desk.wallet()?;
    let known = find(&mut desk, channel)?;
    if ![known.payer, known.payee].contains(&wallet.address()) {
        bail!("the channel is between {} and {}", known.payer, known.payee);
    }
    if total > known.deposit || total < known.settled {
        bail!("{} are settled and {} locked", show(known.settled), show(known.deposit));
    }
    let network = desk.chain.network().clone();
    let agreement = CloseAgreement { network, channel, total };
    let signature = wallet.key().sign(Domain::CHANNEL_CLOSE, &agreement);
    let agreed: Agreed = (agreement, wallet.public(), signature);
    let text = String::from(HexBytes(encode(&agreed)));
    out.result(&json!({ "channel": channel, "total": total, "agreement": text }), &text)
}

fn close(
    home: Home<'_>,
    channel: Hash,
    agreement: Option<&str>,
    send: SendFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let agreed = agreement.map(|given| unpack::<Agreed>(given, "agreement")).transpose()?;
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let known = find(&mut desk, channel)?;
    let more = json!({ "channel": channel });
    let (action, question, done) = if let Some((agreement, key, signature)) = agreed {
        if agreement.channel != channel {
            bail!("the agreement is about channel {}", agreement.channel);
        }
        let total = show(agreement.total);
        let question = format!("Close channel {channel} with {total} for {}.", known.payee);
        (ChannelOp::CloseTogether { agreement, key, signature }, question, "closed".to_owned())
    } else if let Some(at) = known.closes_at {
        let meta: Meta = desk.runtime.block_on(desk.chain.meta())?;
        if meta.time < at {
            bail!("the channel is closing; call this again {}", when(at.0));
        }
        let question = format!("Close channel {channel} and return the rest to {}.", known.payer);
        (ChannelOp::Finish { channel }, question, "closed".to_owned())
    } else if known.payer == wallet.address() {
        let minutes = known.challenge_ms.div_ceil(60_000);
        let question = format!(
            "Begin to close channel {channel}; for {minutes} min {} may still settle.",
            known.payee
        );
        let done = format!("closing; finish with the same command in {minutes} min");
        (ChannelOp::StartClose { channel }, question, done)
    } else {
        bail!("who is paid closes with: arknet channel settle --voucher HEX --close");
    };
    desk.act(&wallet, &send, Order { action: op(action), question: Some(question), done, more })
}

fn settle(
    home: Home<'_>,
    voucher: &str,
    close: bool,
    send: SendFlags,
    out: &Out,
) -> anyhow::Result<()> {
    let voucher: Voucher = unpack(voucher, "voucher")?;
    let (mut desk, wallet, send) = begin(home, send, close, out)?;
    let (channel, total) = (voucher.body.channel, voucher.body.total);
    let known = find(&mut desk, channel)?;
    if known.payee != wallet.address() {
        bail!("the channel pays {}, who alone can settle it", known.payee);
    }
    let ending = if close { ", and closed" } else { "" };
    let order = Order {
        action: op(ChannelOp::Settle { voucher, close }),
        question: close.then(|| {
            format!("Settle channel {channel} with {} all in all, and close it.", show(total))
        }),
        done: format!("settled up to {}{ending}", show(total)),
        more: json!({ "channel": channel, "total": total }),
    };
    desk.act(&wallet, &send, order)
}

fn list(home: Home<'_>, address: Option<Address>, rpc: RpcFlags, out: &Out) -> anyhow::Result<()> {
    let address = whose(home, address)?;
    let mut desk = Desk::open(home, rpc, out)?;
    let mut found = Vec::new();
    for is_payer in [true, false] {
        let mut after = None;
        loop {
            let page: ChannelPage =
                desk.ask(async |rpc| rpc.channels(&address, is_payer, after).await)?;
            for ChannelAnswer { id, .. } in &page.channels {
                // It may have been closed since.
                let channel = desk.value::<Channel>(&Key::Channel(*id))?;
                found.extend(channel.map(|channel| ChannelAnswer::new(*id, &channel)));
            }
            // A list that does not go on, or never ends, is no list.
            if page.next.is_none() || page.next <= after || found.len() >= CHANNELS_MAX {
                break;
            }
            after = page.next;
        }
    }
    let mut rows =
        vec![["CHANNEL", "PAYER", "PAYEE", "LOCKED", "PAID", "CLOSES"].map(String::from).to_vec()];
    rows.extend(found.iter().map(|one| {
        let closes = one.closes_at_ms.map_or_else(|| "-".into(), when);
        let (payer, payee) = (one.payer.to_string(), one.payee.to_string());
        vec![one.id.to_string(), payer, payee, show(one.deposit), show(one.settled), closes]
    }));
    let text = if found.is_empty() { "no open channels".into() } else { table(&rows) };
    out.result(&found, &text)
}
