use arknet_types::{Address, Atoms};
use serde::{Deserialize, Serialize};

use super::{HexBytes, HexKey};
use crate::{Hash, Node, Presence, Role, Stake, Unbonding, Validator, ValidatorSet};

/// An account. One that nobody has used yet has nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AccountAnswer {
    /// The height after which this stands.
    pub height: u64,
    /// The account.
    pub address: Address,
    /// Its money.
    pub balance: Atoms,
    /// Its transactions in blocks, and the nonce of the next.
    pub nonce: u64,
    /// The nonce for another transaction, after those that wait.
    pub next_nonce: u64,
    /// What it has with nodes.
    pub stakes: Vec<StakeAnswer>,
    /// What is on its way back or to another node.
    pub unbondings: Vec<UnbondingAnswer>,
}

/// What an account has with a node.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StakeAnswer {
    /// What the node is staked for.
    pub role: Role,
    /// The node's operator.
    pub node: Address,
    /// What it is worth.
    pub amount: Atoms,
    /// What it has earned and not fetched.
    pub rewards: Atoms,
}

impl StakeAnswer {
    /// From the records.
    #[must_use]
    pub fn new((role, operator): (Role, Address), stake: &Stake, node: &Node) -> Self {
        let amount = node.bonded.worth(stake.shares);
        Self { role, node: operator, amount, rewards: stake.earned(node) }
    }
}

/// Stake on its way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnbondingAnswer {
    /// Its number, by which the account fetches it.
    pub id: u64,
    /// What it was staked for.
    pub role: Role,
    /// The node it leaves, and answers for until it is free.
    pub node: Address,
    /// What it is worth.
    pub amount: Atoms,
    /// When it began.
    pub began_ms: u64,
    /// When it is free.
    pub free_at_ms: u64,
    /// The node it goes to by itself; none where it is fetched.
    pub to: Option<Address>,
}

impl UnbondingAnswer {
    /// From the records.
    #[must_use]
    pub fn new(id: u64, unbonding: &Unbonding, node: &Node) -> Self {
        Self {
            id,
            role: unbonding.role,
            node: unbonding.node,
            amount: node.unbonding.worth(unbonding.shares),
            began_ms: unbonding.began.0,
            free_at_ms: unbonding.free_at.0,
            to: unbonding.to,
        }
    }
}

/// A node that has stake.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct NodeAnswer {
    /// The height after which this stands.
    pub height: u64,
    /// What it is staked for.
    pub role: Role,
    /// Its operator.
    pub operator: Address,
    /// A validator's consensus key, any other's peer key.
    pub key: HexKey,
    /// Stake that counts.
    pub bonded: Atoms,
    /// Stake on its way out, which still answers for it.
    pub unbonding: Atoms,
    /// Rewards that nobody has fetched yet.
    pub rewards: Atoms,
    /// What the bootstrap period adds to its weight.
    pub weight: u64,
    /// Out until then, for absence.
    pub jailed_until_ms: Option<u64>,
    /// Out for ever: two-faced.
    pub banned: bool,
    /// Out by its operator's wish.
    pub retired: bool,
}

impl NodeAnswer {
    /// From the record.
    #[must_use]
    pub fn new(height: u64, (role, operator): (Role, Address), node: &Node) -> Self {
        Self {
            height,
            role,
            operator,
            key: HexKey(node.key),
            bonded: node.bonded.tokens,
            unbonding: node.unbonding.tokens,
            rewards: node.rewards,
            weight: node.weight,
            jailed_until_ms: node.jailed_until.map(|until| until.0),
            banned: node.banned,
            retired: node.retired,
        }
    }
}

/// Those who vote at a height.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValidatorsAnswer {
    /// The height.
    pub height: u64,
    /// The hash by which headers name the set.
    pub set: Hash,
    /// What all weigh together.
    pub total_power: u64,
    /// The heaviest first.
    pub validators: Vec<ValidatorAnswer>,
}

/// One who votes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ValidatorAnswer {
    /// The account that answers for it.
    pub operator: Address,
    /// The key its votes are signed with.
    pub key: HexKey,
    /// What its vote weighs.
    pub power: u64,
    /// Blocks it missed up to the last one without one in between that it signed; of the next
    /// height's set only.
    pub missed_in_a_row: Option<u32>,
}

impl ValidatorsAnswer {
    /// From a set, and who has been there of it where that is known.
    #[must_use]
    pub fn new(height: u64, set: &ValidatorSet, presence: Option<&Presence>) -> Self {
        let missed = |operator: &Address| {
            let presence = presence?;
            Some(presence.of(operator).map_or(0, |one| one.missed_in_a_row))
        };
        let answer = |v: &Validator| ValidatorAnswer {
            operator: v.operator,
            key: HexKey(v.key),
            power: v.power,
            missed_in_a_row: missed(&v.operator),
        };
        Self {
            height,
            set: set.hash(),
            total_power: set.total_power(),
            validators: set.members().iter().map(answer).collect(),
        }
    }
}

/// A value of the state, or that there is none, with proof.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProofAnswer {
    /// The height whose header has the root that the proof leads to.
    pub height: u64,
    /// The state key.
    pub key: HexBytes,
    /// The value; none where there is none.
    pub value: Option<HexBytes>,
    /// The Borsh of the proof.
    pub proof: HexBytes,
}
