//! New money, for work that was paid for and that both sides signed for.

use arknet_types::{
    Address, Atoms, Domain, NetworkId, Signature, Timestamp, limits::CLOCK_SKEW_MS_MAX,
};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Authority, Failure, FreeQuota, Hash, Key, Node, Param, Role, StateView,
    ledger::Ledger,
    limits::{MINTED_ATOMS_MAX, RECEIPT_AGE_MS_MAX},
    records::{Due, Settled, share},
    stake,
};

/// What the ledger needs to know of a job.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct WorkReceipt {
    /// The chain.
    pub network: NetworkId,
    /// The operator of the compute node that did it.
    pub node: Address,
    /// Who asked for it.
    pub payer: Address,
    /// Who checked it, if anyone did.
    pub verifier: Option<Address>,
    /// What was paid for it, by a channel or an escrow; zero for a free one.
    pub price: Atoms,
    /// When it was done.
    pub finished_at: Timestamp,
    /// The digest of the whole receipt, which is not on the ledger.
    pub digest: Hash,
}

/// A receipt that both sides signed in [`Domain::WORK_RECEIPT`].
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct SignedReceipt {
    /// What was done.
    pub receipt: WorkReceipt,
    /// The signature of the node's peer key.
    pub node_signature: Signature,
    /// By what right the requester signed.
    pub requester: Authority,
    /// The requester's signature.
    pub requester_signature: Signature,
}

/// Makes what the node, its stake, the verifier and the treasury get for a receipt.
pub(crate) fn reward<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    network: &NetworkId,
    signed: &SignedReceipt,
) -> Result<(), Failure> {
    let receipt = &signed.receipt;
    let node_key = Key::Node(Role::Compute, receipt.node);
    let node: Node = ledger.read(&node_key).ok_or(Failure::UnknownNode)?;
    if !node.is_free() || !stake::is_backed(ledger, Role::Compute, receipt.node, &node) {
        return Err(Failure::NodeGone);
    }
    check_signatures(ledger.now(), network, signed, &node)?;
    let asked = if receipt.price == Atoms::ZERO {
        use_free_job(ledger, receipt)?;
        ledger.params().atoms(Param::EmissionFreeJob)
    } else {
        use_settled(ledger, receipt)?;
        share(receipt.price, ledger.param(Param::EmissionPaidPpm))
    };
    let amount = within_budget(ledger, asked)?;
    ledger.mint(amount)?;
    split(ledger, receipt, &node_key, node, amount)
}

fn check_signatures(
    now: Timestamp,
    network: &NetworkId,
    signed: &SignedReceipt,
    node: &Node,
) -> Result<(), Failure> {
    let SignedReceipt { receipt, node_signature, requester, requester_signature } = signed;
    let (wallet, key) = match requester {
        Authority::Wallet(key) => (*key, *key),
        Authority::Session(delegation) => {
            let counted = delegation.check_times(receipt.finished_at);
            counted.and_then(|()| delegation.check_signature()).map_err(|_| Failure::Receipt)?;
            if delegation.body.network != *network {
                return Err(Failure::Receipt);
            }
            (delegation.body.wallet, delegation.body.session)
        }
    };
    let is_recent = now.since_ms(receipt.finished_at) <= RECEIPT_AGE_MS_MAX
        && receipt.finished_at.since_ms(now) <= CLOCK_SKEW_MS_MAX;
    let is_good = receipt.network == *network
        && is_recent
        && receipt.payer != receipt.node
        && wallet.address() == receipt.payer
        && node.key.verifies(Domain::WORK_RECEIPT, receipt, node_signature)
        && key.verifies(Domain::WORK_RECEIPT, receipt, requester_signature);
    if is_good { Ok(()) } else { Err(Failure::Receipt) }
}

/// A paid job counts against what its payer has paid its node on the ledger.
fn use_settled<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    receipt: &WorkReceipt,
) -> Result<(), Failure> {
    let key = Key::Settled(receipt.payer, receipt.node);
    let mut settled: Settled = ledger.read(&key).ok_or(Failure::NotSettled)?;
    let rewarded = settled.rewarded.checked_add(receipt.price).ok_or(Failure::Overflow)?;
    if rewarded > settled.paid {
        return Err(Failure::NotSettled);
    }
    settled.rewarded = rewarded;
    ledger.write(&key, &settled);
    Ok(())
}

/// A free job counts once, against its wallet's quota, and while the bootstrap period lasts.
fn use_free_job<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    receipt: &WorkReceipt,
) -> Result<(), Failure> {
    if !ledger.meta().bootstrap {
        return Err(Failure::Over);
    }
    let job = Key::Job(receipt.digest);
    if ledger.read::<Address>(&job).is_some() {
        return Err(Failure::Exists);
    }
    ledger.write(&job, &receipt.node);
    // Older than that a receipt does not count anyway.
    let forget = receipt.finished_at.plus_ms(RECEIPT_AGE_MS_MAX).plus_ms(1);
    ledger.schedule(forget.max(ledger.now().plus_ms(1)), &Due::JobEnd { digest: receipt.digest });
    let key = Key::Quota(receipt.payer);
    let mut quota: FreeQuota = ledger.read(&key).unwrap_or_default();
    quota.take(ledger.now()).map_err(|_| Failure::Quota)?;
    ledger.write(&key, &quota);
    Ok(())
}

const DAY_MS: u64 = 24 * 3_600_000;

/// So much of it as the day's budget, which halves with time, and the cap on all money leave.
fn within_budget<V: StateView>(ledger: &mut Ledger<'_, V>, asked: Atoms) -> Result<Atoms, Failure> {
    let age = ledger.now().since_ms(ledger.meta().began);
    let halvings = age.checked_div(ledger.param(Param::EmissionHalvingMs)).unwrap_or_default();
    let halvings = u32::try_from(halvings).unwrap_or(u32::MAX);
    let daily = ledger.param(Param::EmissionDailyMax).checked_shr(halvings).unwrap_or_default();
    let day = age.checked_div(DAY_MS).unwrap_or_default();
    let meta = ledger.meta_mut();
    if meta.emission_day != day {
        (meta.emission_day, meta.emitted_today) = (day, Atoms::ZERO);
    }
    let left = daily.saturating_sub(meta.emitted_today.0);
    let below_cap = MINTED_ATOMS_MAX.saturating_sub(meta.minted.0);
    let amount = Atoms(asked.0.min(left).min(below_cap));
    if amount == Atoms::ZERO {
        return Err(Failure::Budget);
    }
    meta.emitted_today = meta.emitted_today.checked_add(amount).ok_or(Failure::Overflow)?;
    Ok(amount)
}

/// Divides new money. What is rounded away, and what nobody is there to get, goes to the node that
/// worked and to the treasury.
fn split<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    receipt: &WorkReceipt,
    node_key: &Key,
    mut node: Node,
    amount: Atoms,
) -> Result<(), Failure> {
    let part = |param| share(amount, ledger.param(param));
    let verifier = part(Param::SplitVerifierPpm);
    let treasury = part(Param::SplitTreasuryPpm);
    let stakers = part(Param::SplitStakersPpm);
    let burned = part(Param::SplitBurnedPpm);
    let parts = [verifier, treasury, stakers, burned];
    let rest = parts.iter().try_fold(amount, |rest, part| rest.checked_sub(*part));
    ledger.burn(burned);
    let mut common = treasury;
    let known = receipt.verifier.filter(|v| {
        ledger.read::<Node>(&Key::Node(Role::Verifier, *v)).is_some_and(|n| n.is_free())
    });
    match known {
        Some(verifier_address) => ledger.credit(&verifier_address, verifier)?,
        None => common = common.checked_add(verifier).ok_or(Failure::Overflow)?,
    }
    if node.reward(stakers) {
        ledger.write(node_key, &node);
    } else {
        common = common.checked_add(stakers).ok_or(Failure::Overflow)?;
    }
    let meta = ledger.meta_mut();
    meta.treasury = meta.treasury.checked_add(common).ok_or(Failure::Overflow)?;
    ledger.credit(&receipt.node, rest.ok_or(Failure::Overflow)?)
}
