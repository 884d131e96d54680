use arknet_types::{Address, PublicKey, Timestamp};
use borsh::BorshDeserialize;

use crate::records::{Account, Meta, Node, Role};

/// Where something stands in the state. Keys are ordered: numbers are written with their highest
/// byte first, so what belongs together, or comes first, lies together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// The numbers of the whole ledger: [`Meta`].
    Meta,
    /// The chain's name: a [`NetworkId`](arknet_types::NetworkId).
    Network,
    /// The parameters: [`Params`](crate::Params).
    Params,
    /// The set that votes on the next block: [`ValidatorSet`](crate::ValidatorSet).
    Validators,
    /// The set that voted on the last one.
    LastValidators,
    /// Who has been there: [`Presence`](crate::Presence).
    Presence,
    /// An [`Account`].
    Account(Address),
    /// A [`Node`].
    Node(Role, Address),
    /// The operator of the validator with this key: an [`Address`].
    ConsensusKey(PublicKey),
    /// What an account has staked with a node: a [`Stake`](crate::Stake).
    Stake(Address, Role, Address),
    /// Stake on its way out: an [`Unbonding`](crate::Unbonding).
    Unbonding(Address, u64),
    /// Something to do at a time: a [`Due`](crate::records::Due).
    Due(Timestamp, u64),
}

const META: u8 = 0;
const PARAMS: u8 = 1;
const VALIDATORS: u8 = 2;
const LAST_VALIDATORS: u8 = 3;
const PRESENCE: u8 = 4;
const ACCOUNT: u8 = 5;
const NODE: u8 = 6;
const CONSENSUS_KEY: u8 = 7;
const STAKE: u8 = 8;
const UNBONDING: u8 = 9;
const DUE: u8 = 10;
const NETWORK: u8 = 11;

impl Key {
    /// The key as the state knows it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        match self {
            Self::Meta => out.push(META),
            Self::Network => out.push(NETWORK),
            Self::Params => out.push(PARAMS),
            Self::Validators => out.push(VALIDATORS),
            Self::LastValidators => out.push(LAST_VALIDATORS),
            Self::Presence => out.push(PRESENCE),
            Self::Account(address) => join(&mut out, ACCOUNT, &[&address.0]),
            Self::Node(role, operator) => join(&mut out, NODE, &[&[*role as u8], &operator.0]),
            Self::ConsensusKey(key) => join(&mut out, CONSENSUS_KEY, &[&key.0]),
            Self::Stake(owner, role, operator) => {
                join(&mut out, STAKE, &[&owner.0, &[*role as u8], &operator.0]);
            }
            Self::Unbonding(owner, id) => {
                join(&mut out, UNBONDING, &[&owner.0, &id.to_be_bytes()]);
            }
            Self::Due(at, number) => {
                join(&mut out, DUE, &[&at.0.to_be_bytes(), &number.to_be_bytes()]);
            }
        }
        out
    }

    /// All nodes of a role, as a range of keys.
    pub(crate) fn nodes(role: Role) -> (Vec<u8>, Vec<u8>) {
        // No role has the number after the last one, and no key lies there.
        let after = (role as u8).saturating_add(1);
        (vec![NODE, role as u8], vec![NODE, after])
    }

    /// Everything due up to `now`, as a range of keys.
    pub(crate) fn due_until(now: Timestamp) -> (Vec<u8>, Vec<u8>) {
        let mut below = vec![DUE];
        below.extend(now.plus_ms(1).0.to_be_bytes());
        (vec![DUE], below)
    }
}

fn join(out: &mut Vec<u8>, tag: u8, parts: &[&[u8]]) {
    out.push(tag);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// The money that a value of the state holds, by its key.
pub(crate) fn money_in(key: &[u8], value: &[u8]) -> u128 {
    fn read<T: BorshDeserialize>(value: &[u8]) -> T {
        arknet_types::decode(value).expect("the state holds what was written")
    }
    match key.first() {
        Some(&META) => u128::from(read::<Meta>(value).treasury.0),
        Some(&ACCOUNT) => u128::from(read::<Account>(value).balance.0),
        Some(&NODE) => read::<Node>(value).money(),
        _ => 0,
    }
}
