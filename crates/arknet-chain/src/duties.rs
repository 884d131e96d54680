//! What happens in every block without anybody asking for it.

use arknet_types::{Address, Atoms, Timestamp};

use crate::{
    CommitCertificate, Key, Node, Param, Presence, StateView, Validator, ValidatorSet, governance,
    ledger::Ledger,
    limits::{ABSENCE_PER_BLOCK_MS_MAX, DUE_PER_BLOCK_MAX},
    models,
    records::{Due, Role},
    stake,
    validators::Attendance,
};

/// Counts who signed the parent, and jails those who have been away too long.
pub(crate) fn take_attendance<V: StateView>(
    ledger: &mut Ledger<'_, V>,
    commit: &CommitCertificate,
    voters: &ValidatorSet,
    elapsed_ms: u64,
) {
    let elapsed_ms = elapsed_ms.min(ABSENCE_PER_BLOCK_MS_MAX);
    let known: Presence = ledger.read(&Key::Presence).unwrap_or_default();
    let limit = ledger.param(Param::AbsenceMs);
    let mut list = Vec::with_capacity(voters.members().len());
    let mut operators: Vec<Address> = voters.members().iter().map(|v| v.operator).collect();
    operators.sort_unstable();
    for operator in operators {
        let newcomer = Attendance { operator, missed_in_a_row: 0, absent_ms: 0 };
        let mut one = known.of(&operator).copied().unwrap_or(newcomer);
        if commit.signatures.iter().any(|signature| signature.validator == operator) {
            one.missed_in_a_row = 0;
            one.absent_ms = one.absent_ms.saturating_sub(elapsed_ms);
        } else {
            one.missed_in_a_row = one.missed_in_a_row.saturating_add(1);
            one.absent_ms = one.absent_ms.saturating_add(elapsed_ms);
        }
        if one.absent_ms > limit {
            one.absent_ms = 0;
            jail(ledger, operator);
        }
        list.push(one);
    }
    ledger.write(&Key::Presence, &Presence(list));
}

fn jail<V: StateView>(ledger: &mut Ledger<'_, V>, operator: Address) {
    let key = Key::Node(Role::Validator, operator);
    let free = |node: &Node| node.jailed_until.is_none();
    if !ledger.read::<Node>(&key).is_some_and(|node| free(&node)) {
        return;
    }
    let ppm = ledger.param(Param::SlashAbsencePpm);
    let mut node = stake::slash(ledger, Role::Validator, operator, ppm).expect("the node is there");
    node.jailed_until = Some(ledger.now().plus_ms(ledger.param(Param::JailMs)));
    ledger.write(&key, &node);
}

/// A two-faced validator loses part of all that answers for it and never comes back.
pub(crate) fn ban<V: StateView>(ledger: &mut Ledger<'_, V>, operator: Address) {
    let ppm = ledger.param(Param::SlashEquivocationPpm);
    let mut node = stake::slash(ledger, Role::Validator, operator, ppm).expect("the node is there");
    node.banned = true;
    ledger.write(&Key::Node(Role::Validator, operator), &node);
}

/// The bootstrap period ends with its time or with enough validators, and never comes back.
pub(crate) fn end_bootstrap<V: StateView>(ledger: &mut Ledger<'_, V>, validators: usize) {
    let meta = *ledger.meta();
    let enough = u64::try_from(validators).unwrap_or(u64::MAX);
    let is_over = meta.time.since_ms(meta.began) >= ledger.param(Param::BootstrapMs)
        || enough >= ledger.param(Param::BootstrapValidators);
    if meta.bootstrap && is_over {
        let least = Atoms(ledger.param(Param::BaseFeeMin));
        let meta = ledger.meta_mut();
        meta.bootstrap = false;
        meta.base_fee = meta.base_fee.max(least);
        ledger.is_set_stale = true;
    }
}

/// Does what has fallen due, the earliest first; what is too much is left for the next block.
pub(crate) fn do_what_is_due<V: StateView>(ledger: &mut Ledger<'_, V>) {
    let (mut from, below) = Key::due_until(ledger.now());
    for _ in 0..DUE_PER_BLOCK_MAX {
        let Some((key, value)) = ledger.first(&from, &below) else { return };
        let due: Due = arknet_types::decode(&value).expect("the state holds what was written");
        ledger.remove(&due_key(&key));
        ledger.keep();
        match due {
            Due::Arrival { owner, id } => stake::arrive(ledger, &owner, id),
            Due::JobEnd { digest } => ledger.remove(&Key::Job(digest)),
            Due::ModelReview { digest, registered_at } => {
                models::review(ledger, &digest, registered_at);
            }
            Due::VotingBegins { proposal } => governance::begin_voting(ledger, proposal),
            Due::VotingEnds { proposal } => governance::end_voting(ledger, proposal),
            Due::SessionEnd { session } => ledger.remove(&Key::Session(session)),
        }
        ledger.keep();
        from = key;
    }
}

fn due_key(bytes: &[u8]) -> Key {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
        u64::from_be_bytes(*bytes.expect("a key of something due has two numbers"))
    };
    Key::Due(Timestamp(number(1)), number(9))
}

/// Shares the tips of a block among those who have stake with its proposer.
pub(crate) fn pay_tips<V: StateView>(ledger: &mut Ledger<'_, V>, proposer: Address, tips: Atoms) {
    if tips == Atoms::ZERO {
        return;
    }
    let key = Key::Node(Role::Validator, proposer);
    let node = ledger.read::<Node>(&key).and_then(|mut node| node.reward(tips).then_some(node));
    match node {
        Some(node) => ledger.write(&key, &node),
        None => ledger.credit(&proposer, tips).expect("all money fits"),
    }
}

/// Who votes on the next block: the heaviest of those who may. Where nobody may, nothing changes,
/// for a chain without validators could never get any.
pub(crate) fn next_set<V: StateView>(
    ledger: &Ledger<'_, V>,
    current: &ValidatorSet,
) -> ValidatorSet {
    if !ledger.is_set_stale {
        return current.clone();
    }
    let bootstrap = ledger.meta().bootstrap;
    let nodes = ledger.all::<Node>(Key::nodes(Role::Validator));
    let mut able: Vec<Validator> = nodes
        .into_iter()
        .filter_map(|(key, node)| {
            let operator = Address(*key.last_chunk().expect("a node's key ends with its operator"));
            let staked = node.bonded.tokens.0.checked_div(Atoms::PER_ARK).unwrap_or_default();
            let power = staked.saturating_add(if bootstrap { node.weight } else { 0 });
            let may = power > 0
                && node.is_free()
                && stake::is_backed(ledger, Role::Validator, operator, &node);
            may.then_some(Validator { operator, key: node.key, power })
        })
        .collect();
    able.sort_by_key(|v| (std::cmp::Reverse(v.power), v.operator));
    able.truncate(usize::try_from(ledger.param(Param::ValidatorsMax)).unwrap_or(usize::MAX));
    ValidatorSet::new(able).unwrap_or_else(|| current.clone())
}
