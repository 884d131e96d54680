//! Stake: who has put how much behind which node, what it earns, and what it loses.

use arknet_types::{Address, Atoms, PublicKey, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Failure, Key, Param, StateView, governance,
    ledger::Ledger,
    limits::{STAKES_PER_ACCOUNT_MAX, VALIDATOR_NODES_MAX},
    records::{Due, Node, Role, Stake, Unbonding},
};

/// What an account does about stake.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum StakeOp {
    /// Puts money behind a node; behind one's own for the first time, this registers it.
    Deposit {
        /// The role.
        role: Role,
        /// The node's operator.
        node: Address,
        /// How much.
        amount: Atoms,
        /// The node's key, when it registers: a validator's consensus key, any other's peer key.
        key: Option<PublicKey>,
    },
    /// Takes money back. It is free when its time is over, and answers for the node until then.
    Withdraw {
        /// The role.
        role: Role,
        /// The node's operator.
        node: Address,
        /// How much.
        amount: Atoms,
    },
    /// Fetches what is free.
    CompleteUnbond {
        /// The role.
        role: Role,
        /// Which withdrawal of the account.
        id: u64,
    },
    /// Moves money behind another node, where it arrives by itself.
    Redelegate {
        /// The role.
        role: Role,
        /// The operator it leaves.
        from: Address,
        /// The operator it goes to.
        to: Address,
        /// How much.
        amount: Atoms,
    },
    /// Fetches what the stake has earned.
    ClaimRewards {
        /// The role.
        role: Role,
        /// The node's operator.
        node: Address,
    },
    /// Takes one's own node out; with no stake in it any more, for good.
    Retire {
        /// The role.
        role: Role,
    },
    /// Brings one's own node back after its time in jail.
    Unjail {
        /// The role.
        role: Role,
    },
}

pub(crate) fn apply<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    signer: &Address,
    op: &StakeOp,
) -> Result<Option<u64>, Failure> {
    match *op {
        StakeOp::Deposit { role, node, amount, key } => {
            ledger.debit(signer, amount)?;
            if *signer == node {
                register(ledger, role, node, key)?;
            } else if key.is_some() {
                return Err(Failure::NodeKey);
            }
            join(ledger, signer, role, node, amount)?;
        }
        StakeOp::Withdraw { role, node, amount } => {
            let period =
                if role == Role::Worker { Param::UnbondingWorkerMs } else { Param::UnbondingMs };
            let free_at = ledger.now().plus_ms(ledger.param(period));
            return leave(ledger, signer, (role, node), amount, free_at, None).map(Some);
        }
        StakeOp::CompleteUnbond { role, id } => complete(ledger, signer, role, id)?,
        StakeOp::Redelegate { role, from, to, amount } => {
            if from == to {
                return Err(Failure::Same);
            }
            let target: Node = ledger.read(&Key::Node(role, to)).ok_or(Failure::UnknownNode)?;
            if target.banned || target.retired {
                return Err(Failure::NodeGone);
            }
            let at = ledger.now().plus_ms(ledger.param(Param::RedelegationMs));
            let id = leave(ledger, signer, (role, from), amount, at, Some(to))?;
            ledger.schedule(at, &Due::Arrival { owner: *signer, id });
            return Ok(Some(id));
        }
        StakeOp::ClaimRewards { role, node } => {
            let (key, mut record) = load(ledger, role, node)?;
            let stake_key = Key::Stake(*signer, role, node);
            let mut stake: Stake = ledger.read(&stake_key).ok_or(Failure::Stake)?;
            let earned = stake.fetch(&mut record)?;
            ledger.credit(signer, earned)?;
            ledger.write(&key, &record);
            ledger.write(&stake_key, &stake);
        }
        StakeOp::Retire { role } => {
            let (key, mut record) = load(ledger, role, *signer)?;
            record.retired = true;
            ledger.write(&key, &record);
            clear(ledger, role, *signer);
        }
        StakeOp::Unjail { role } => {
            let (key, mut record) = load(ledger, role, *signer)?;
            let until = record.jailed_until.ok_or(Failure::NotJailed)?;
            if ledger.now() < until || record.banned {
                return Err(Failure::TooEarly);
            }
            record.jailed_until = None;
            ledger.write(&key, &record);
        }
    }
    Ok(None)
}

/// The least an operator puts behind its own node.
fn own_min<V: StateView>(ledger: &Ledger<'_, V>, role: Role) -> Atoms {
    if ledger.meta().bootstrap {
        return Atoms::ZERO;
    }
    let param = match role {
        Role::Validator => Param::StakeMinValidator,
        Role::Compute => Param::StakeMinCompute,
        Role::Verifier => Param::StakeMinVerifier,
        Role::Worker => Param::StakeMinWorker,
    };
    ledger.params().atoms(param)
}

fn load<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    role: Role,
    node: Address,
) -> Result<(Key, Node), Failure> {
    ledger.is_set_stale |= role == Role::Validator;
    let key = Key::Node(role, node);
    let record = ledger.read(&key).ok_or(Failure::UnknownNode)?;
    Ok((key, record))
}

/// Makes an operator's own node, or brings it back when it had retired.
fn register<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    role: Role,
    operator: Address,
    key: Option<PublicKey>,
) -> Result<(), Failure> {
    let place = Key::Node(role, operator);
    if let Some(mut known) = ledger.read::<Node>(&place) {
        if key.is_some_and(|key| key != known.key) {
            return Err(Failure::NodeKey);
        }
        known.retired = false;
        ledger.write(&place, &known);
        return Ok(());
    }
    let key = key.ok_or(Failure::NodeKey)?;
    if role == Role::Validator {
        let taken = Key::ConsensusKey(key);
        if ledger.read::<Address>(&taken).is_some() {
            return Err(Failure::NodeKey);
        }
        let count = ledger.meta().validator_nodes;
        if count >= VALIDATOR_NODES_MAX {
            return Err(Failure::TooMany);
        }
        ledger.meta_mut().validator_nodes = count.saturating_add(1);
        ledger.write(&taken, &operator);
    }
    // Who comes while nobody can have stake has the least weight there is.
    let weight = u64::from(ledger.meta().bootstrap);
    ledger.write(&place, &Node::new(key, weight));
    Ok(())
}

/// Puts money that was taken from somewhere behind a node.
fn join<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    owner: &Address,
    role: Role,
    operator: Address,
    amount: Atoms,
) -> Result<(), Failure> {
    let (key, mut node) = load(ledger, role, operator)?;
    if node.banned || node.retired {
        return Err(Failure::NodeGone);
    }
    let stake_key = Key::Stake(*owner, role, operator);
    let known: Option<Stake> = ledger.read(&stake_key);
    let mut stake = known.unwrap_or(Stake { shares: 0, reward_index: node.reward_index });
    let earned = stake.fetch(&mut node)?;
    let shares = node.bonded.join(amount)?;
    stake.shares = stake.shares.checked_add(shares).ok_or(Failure::Overflow)?;
    check_rest(ledger, owner, role, operator, node.bonded.worth(stake.shares))?;
    let bonded = ledger.meta().bonded.checked_add(amount).ok_or(Failure::Overflow)?;
    ledger.meta_mut().bonded = bonded;
    ledger.write(&key, &node);
    if amount > Atoms::ZERO {
        let more = |staked: Atoms| staked.checked_add(amount).unwrap_or(staked);
        governance::note_stake(ledger, owner, more);
    }
    if stake.shares > 0 {
        ledger.write(&stake_key, &stake);
    }
    let mut account = ledger.account(owner);
    if known.is_none() && stake.shares > 0 {
        if account.stakes >= STAKES_PER_ACCOUNT_MAX {
            return Err(Failure::TooMany);
        }
        account.stakes = account.stakes.saturating_add(1);
    }
    account.balance = account.balance.checked_add(earned).ok_or(Failure::Overflow)?;
    ledger.set_account(owner, &account);
    Ok(())
}

/// What stays behind a node after a change must be enough, or nothing.
fn check_rest<V: StateView>(
    ledger: &Ledger<'_, V>,
    owner: &Address,
    role: Role,
    operator: Address,
    rest: Atoms,
) -> Result<(), Failure> {
    let least = if *owner == operator {
        own_min(ledger, role)
    } else {
        ledger.params().atoms(Param::StakeMinDelegation)
    };
    if rest < least { Err(Failure::StakeMin) } else { Ok(()) }
}

/// Takes money out of what counts. It answers for the node until `free_at`.
fn leave<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    owner: &Address,
    (role, operator): (Role, Address),
    amount: Atoms,
    free_at: Timestamp,
    to: Option<Address>,
) -> Result<u64, Failure> {
    if amount == Atoms::ZERO {
        return Err(Failure::Zero);
    }
    let (key, mut node) = load(ledger, role, operator)?;
    let stake_key = Key::Stake(*owner, role, operator);
    let mut stake: Stake = ledger.read(&stake_key).ok_or(Failure::Stake)?;
    let earned = stake.fetch(&mut node)?;
    let gone = node.bonded.price(amount)?;
    stake.shares = stake.shares.checked_sub(gone).ok_or(Failure::Stake)?;
    node.bonded.leave(gone, amount)?;
    let rest = node.bonded.worth(stake.shares);
    let mut account = ledger.account(owner);
    if rest == Atoms::ZERO {
        // What is left is less than an atom: it falls to the others.
        node.bonded.leave(stake.shares, Atoms::ZERO)?;
        ledger.remove(&stake_key);
        account.stakes = account.stakes.saturating_sub(1);
    } else {
        check_rest(ledger, owner, role, operator, rest)?;
        ledger.write(&stake_key, &stake);
    }
    let shares = node.unbonding.join(amount)?;
    let bonded = ledger.meta().bonded.checked_sub(amount).ok_or(Failure::Overflow)?;
    ledger.meta_mut().bonded = bonded;
    ledger.write(&key, &node);
    governance::note_stake(ledger, owner, |staked| staked.checked_sub(amount).unwrap_or_default());
    let id = account.unbondings.checked_add(1).ok_or(Failure::Overflow)?;
    account.unbondings = id;
    account.balance = account.balance.checked_add(earned).ok_or(Failure::Overflow)?;
    ledger.set_account(owner, &account);
    let began = ledger.now();
    let record = Unbonding { role, node: operator, shares, began, free_at, to };
    ledger.write(&Key::Unbonding(*owner, id), &record);
    Ok(id)
}

fn complete<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    owner: &Address,
    role: Role,
    id: u64,
) -> Result<(), Failure> {
    let key = Key::Unbonding(*owner, id);
    let record: Option<Unbonding> = ledger.read(&key);
    let record = record.filter(|record| record.role == role).ok_or(Failure::UnknownUnbonding)?;
    if ledger.now() < record.free_at || record.to.is_some() {
        return Err(Failure::TooEarly);
    }
    let amount = take(ledger, &key, &record)?;
    ledger.credit(owner, amount)
}

/// Takes what is free out of its pool.
fn take<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    key: &Key,
    record: &Unbonding,
) -> Result<Atoms, Failure> {
    let (node_key, mut node) = load(ledger, record.role, record.node)?;
    let amount = node.unbonding.worth(record.shares);
    node.unbonding.leave(record.shares, amount)?;
    ledger.write(&node_key, &node);
    ledger.remove(key);
    clear(ledger, record.role, record.node);
    Ok(amount)
}

/// Removes a node that nobody has anything with any more.
fn clear<V: StateView>(ledger: &mut Ledger<'_, V>, role: Role, operator: Address) {
    let key = Key::Node(role, operator);
    let Some(node) = ledger.read::<Node>(&key) else { return };
    // A banned one stays, so that it does not come back under its name.
    if !node.retired || node.banned || node.bonded.shares > 0 || node.unbonding.shares > 0 {
        return;
    }
    let dust = [node.rewards, node.bonded.tokens, node.unbonding.tokens];
    for dust in dust {
        let treasury = ledger.meta().treasury.checked_add(dust);
        ledger.meta_mut().treasury = treasury.expect("all money fits");
    }
    let bonded = ledger.meta().bonded.checked_sub(node.bonded.tokens);
    ledger.meta_mut().bonded = bonded.expect("what is bonded is counted");
    ledger.remove(&key);
    if role == Role::Validator {
        ledger.remove(&Key::ConsensusKey(node.key));
        let count = ledger.meta().validator_nodes;
        ledger.meta_mut().validator_nodes = count.saturating_sub(1);
    }
}

/// Moved stake arrives. Where its target takes none any more it is withdrawn instead, counted from
/// when it left.
pub(crate) fn arrive<V: StateView>(ledger: &mut Ledger<'_, V>, owner: &Address, id: u64) {
    let key = Key::Unbonding(*owner, id);
    let Some(record) = ledger.read::<Unbonding>(&key) else { return };
    let Some(to) = record.to else { return };
    let moved =
        take(ledger, &key, &record).and_then(|amount| join(ledger, owner, record.role, to, amount));
    if moved.is_ok() {
        ledger.keep();
        return;
    }
    ledger.undo();
    let period =
        if record.role == Role::Worker { Param::UnbondingWorkerMs } else { Param::UnbondingMs };
    let free_at = record.began.plus_ms(ledger.param(period));
    ledger.write(&key, &Unbonding { to: None, free_at, ..record });
}

/// Takes a part of everything that answers for a node, and burns it.
pub(crate) fn slash<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    role: Role,
    operator: Address,
    ppm: u64,
) -> Result<Node, Failure> {
    let (key, mut node) = load(ledger, role, operator)?;
    let bonded = node.bonded.lose(ppm);
    let unbonding = node.unbonding.lose(ppm);
    ledger.burn(bonded);
    ledger.burn(unbonding);
    let counted = ledger.meta().bonded.checked_sub(bonded);
    ledger.meta_mut().bonded = counted.expect("what is bonded is counted");
    ledger.write(&key, &node);
    Ok(node)
}

/// What an operator has behind its own node.
pub(crate) fn own_stake<V: StateView>(
    ledger: &Ledger<'_, V>,
    role: Role,
    operator: Address,
    node: &Node,
) -> Atoms {
    let stake: Option<Stake> = ledger.read(&Key::Stake(operator, role, operator));
    node.bonded.worth(stake.unwrap_or_default().shares)
}

/// Whether the operator has enough behind its own node.
pub(crate) fn is_backed<V: StateView>(
    ledger: &Ledger<'_, V>,
    role: Role,
    operator: Address,
    node: &Node,
) -> bool {
    own_stake(ledger, role, operator, node) >= own_min(ledger, role)
}
