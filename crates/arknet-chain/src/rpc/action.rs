use arknet_types::{Address, Atoms, ModelDigest};
use serde::{Deserialize, Serialize};

use super::HexBytes;
use crate::{
    Action, ChannelOp, Choice, EscrowOp, Hash, Role, SignedTransaction, StakeOp,
    VerifiedTransaction,
};

/// A signed transaction: its bytes, and what they say for people.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TransactionFields {
    /// Who acts and pays.
    pub from: Address,
    /// The account's transactions before this one.
    pub nonce: u64,
    /// Gas it may take.
    pub gas_limit: u64,
    /// Highest price of one gas, tip included.
    pub fee_max: Atoms,
    /// What the proposer gets for one gas.
    pub tip: Atoms,
    /// What it does.
    pub action: ActionSummary,
    /// The Borsh of the signed transaction.
    pub bytes: HexBytes,
}

impl TransactionFields {
    /// Of a transaction.
    #[must_use]
    pub fn new(transaction: &SignedTransaction) -> Self {
        let body = &transaction.body;
        Self {
            from: body.signer.address(),
            nonce: body.nonce,
            gas_limit: body.gas_limit,
            fee_max: body.fee_max,
            tip: body.tip,
            action: ActionSummary::new(&body.action),
            bytes: HexBytes(arknet_types::encode(transaction)),
        }
    }
}

impl From<&VerifiedTransaction> for TransactionFields {
    fn from(transaction: &VerifiedTransaction) -> Self {
        Self::new(transaction.signed())
    }
}

/// What a transaction does, for people; the bytes beside it say all of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ActionSummary {
    /// `transfer`, `stake_deposit`, `channel_open` and so on.
    pub kind: String,
    /// Who gets something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
    /// How much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Atoms>,
    /// The role of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// A node's operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Address>,
    /// A channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Hash>,
    /// A job that money is locked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Hash>,
    /// A model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelDigest>,
    /// The number of a proposal or of a withdrawal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// How somebody votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<Choice>,
    /// A proposal's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl ActionSummary {
    /// Of an action.
    #[must_use]
    pub fn new(action: &Action) -> Self {
        let kind = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match action {
            Action::Transfer { to, amount } => {
                Self { to: Some(*to), amount: Some(*amount), ..kind("transfer") }
            }
            Action::Burn { amount } => Self { amount: Some(*amount), ..kind("burn") },
            Action::Stake(op) => Self::stake(op),
            Action::Escrow(op) => Self::escrow(op),
            Action::Channel(op) => Self::channel(op),
            Action::RegisterModel(facts) => {
                Self { model: Some(facts.digest), ..kind("model_register") }
            }
            Action::DeregisterModel(digest) => {
                Self { model: Some(*digest), ..kind("model_deregister") }
            }
            Action::RegisterTee(_) => kind("tee_register"),
            Action::Propose(body) => Self { title: Some(body.title.clone()), ..kind("propose") },
            Action::Vote { proposal, choice } => {
                Self { number: Some(*proposal), choice: Some(*choice), ..kind("vote") }
            }
            Action::Reward(_) => kind("reward"),
        }
    }

    fn stake(op: &StakeOp) -> Self {
        let about = |kind: &str, role: Role, node: Option<Address>| Self {
            kind: kind.to_owned(),
            role: Some(role),
            node,
            ..Self::default()
        };
        match *op {
            StakeOp::Deposit { role, node, amount, .. } => {
                Self { amount: Some(amount), ..about("stake_deposit", role, Some(node)) }
            }
            StakeOp::Withdraw { role, node, amount } => {
                Self { amount: Some(amount), ..about("stake_withdraw", role, Some(node)) }
            }
            StakeOp::CompleteUnbond { role, id } => {
                Self { number: Some(id), ..about("stake_complete_unbond", role, None) }
            }
            StakeOp::Redelegate { role, from, to, amount } => Self {
                to: Some(to),
                amount: Some(amount),
                ..about("stake_redelegate", role, Some(from))
            },
            StakeOp::ClaimRewards { role, node } => about("stake_claim_rewards", role, Some(node)),
            StakeOp::Retire { role } => about("stake_retire", role, None),
            StakeOp::Unjail { role } => about("stake_unjail", role, None),
        }
    }

    fn escrow(op: &EscrowOp) -> Self {
        let about = |kind: &str, job: Hash| Self {
            kind: kind.to_owned(),
            job: Some(job),
            ..Self::default()
        };
        match op {
            EscrowOp::Lock { payee, amount, job, .. } => {
                Self { to: Some(*payee), amount: Some(*amount), ..about("escrow_lock", *job) }
            }
            EscrowOp::Release { job, amount } => {
                Self { amount: Some(*amount), ..about("escrow_release", *job) }
            }
            EscrowOp::Claim { job, .. } => about("escrow_claim", *job),
            EscrowOp::Refund { job } => about("escrow_refund", *job),
        }
    }

    fn channel(op: &ChannelOp) -> Self {
        let about = |kind: &str, channel: Option<Hash>| Self {
            kind: kind.to_owned(),
            channel,
            ..Self::default()
        };
        match op {
            ChannelOp::Open { payee, deposit, .. } => {
                Self { to: Some(*payee), amount: Some(*deposit), ..about("channel_open", None) }
            }
            ChannelOp::TopUp { channel, amount } => {
                Self { amount: Some(*amount), ..about("channel_top_up", Some(*channel)) }
            }
            ChannelOp::Settle { voucher, close } => {
                let kind = if *close { "channel_settle_and_close" } else { "channel_settle" };
                let (channel, total) = (voucher.body.channel, voucher.body.total);
                Self { amount: Some(total), ..about(kind, Some(channel)) }
            }
            ChannelOp::CloseTogether { agreement, .. } => {
                let (channel, total) = (agreement.channel, agreement.total);
                Self { amount: Some(total), ..about("channel_close_together", Some(channel)) }
            }
            ChannelOp::StartClose { channel } => about("channel_start_close", Some(*channel)),
            ChannelOp::Finish { channel } => about("channel_finish", Some(*channel)),
        }
    }
}
