use arknet_types::{Address, ModelDigest, PublicKey, Timestamp};
use borsh::BorshDeserialize;

use crate::{
    Channel, Escrow, Hash, Model, Proposal,
    records::{Account, Meta, Node, Role},
};

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
    /// A [`Channel`] by its name.
    Channel(Hash),
    /// An [`Escrow`], by who pays and for which job.
    Escrow(Address, Hash),
    /// What a session has spent: a [`Spending`](crate::Spending), by its delegation's digest.
    Session([u8; 32]),
    /// A [`Proposal`] by its number.
    Proposal(u64),
    /// What it proposes: a [`ProposalBody`](crate::ProposalBody).
    ProposalBody(u64),
    /// A [`Ballot`](crate::Ballot), by the proposal and who voted.
    Ballot(u64, Address),
    /// What an account had staked when: a [`StakeHistory`](crate::StakeHistory).
    StakeHistory(Address),
    /// A [`Model`] by its digest.
    Model(ModelDigest),
    /// A [`Tee`](crate::Tee), by who runs it and its key.
    Tee(Address, PublicKey),
    /// What one account has paid another: a [`Settled`](crate::Settled).
    Settled(Address, Address),
    /// A free job that was rewarded, by its receipt's digest: the node's operator.
    Job(Hash),
    /// The free jobs of a wallet: a [`FreeQuota`](crate::FreeQuota).
    Quota(Address),
    /// The software that is to run: a [`Version`](crate::Version).
    Version,
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
const CHANNEL: u8 = 12;
const ESCROW: u8 = 13;
const SESSION: u8 = 14;
const PROPOSAL: u8 = 15;
const PROPOSAL_BODY: u8 = 16;
const BALLOT: u8 = 17;
const STAKE_HISTORY: u8 = 18;
const MODEL: u8 = 19;
const TEE: u8 = 20;
const SETTLED: u8 = 21;
const JOB: u8 = 22;
const QUOTA: u8 = 23;
const VERSION: u8 = 24;

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
            Self::Channel(id) => join(&mut out, CHANNEL, &[&id.0]),
            Self::Escrow(payer, job) => join(&mut out, ESCROW, &[&payer.0, &job.0]),
            Self::Session(digest) => join(&mut out, SESSION, &[digest]),
            Self::Proposal(id) => join(&mut out, PROPOSAL, &[&id.to_be_bytes()]),
            Self::ProposalBody(id) => join(&mut out, PROPOSAL_BODY, &[&id.to_be_bytes()]),
            Self::Ballot(id, voter) => join(&mut out, BALLOT, &[&id.to_be_bytes(), &voter.0]),
            Self::StakeHistory(owner) => join(&mut out, STAKE_HISTORY, &[&owner.0]),
            Self::Model(digest) => join(&mut out, MODEL, &[&digest.0]),
            Self::Tee(owner, key) => join(&mut out, TEE, &[&owner.0, &key.0]),
            Self::Settled(payer, payee) => join(&mut out, SETTLED, &[&payer.0, &payee.0]),
            Self::Job(digest) => join(&mut out, JOB, &[&digest.0]),
            Self::Quota(payer) => join(&mut out, QUOTA, &[&payer.0]),
            Self::Version => out.push(VERSION),
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

    /// All stakes of an account, as a range of keys.
    #[must_use]
    pub fn stakes(owner: &Address) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![STAKE];
        from.extend(owner.0);
        let mut below = from.clone();
        // No role has this number, and no key of the account lies behind it.
        below.push(u8::MAX);
        (from, below)
    }

    /// The node that a stake's key is about.
    pub(crate) fn node_of_stake(key: &[u8]) -> Option<Self> {
        Self::stake_of(key).map(|(role, operator)| Self::Node(role, operator))
    }

    /// All withdrawals of an account that are on their way, as a range of keys.
    #[must_use]
    pub fn unbondings(owner: &Address) -> (Vec<u8>, Vec<u8>) {
        let mut from = vec![UNBONDING];
        from.extend(owner.0);
        let mut below = from.clone();
        // Withdrawals are counted from one; nobody comes to the last number there is.
        below.extend([u8::MAX; 9]);
        (from, below)
    }

    /// All proposals, the first one first, as a range of keys.
    #[must_use]
    pub fn proposals() -> (Vec<u8>, Vec<u8>) {
        (vec![PROPOSAL], vec![PROPOSAL_BODY])
    }

    /// All models, by digest, as a range of keys.
    #[must_use]
    pub fn models() -> (Vec<u8>, Vec<u8>) {
        (vec![MODEL], vec![TEE])
    }

    /// The channel that a state key is about, if it is about one.
    #[must_use]
    pub fn channel_of(key: &[u8]) -> Option<Hash> {
        Some(Hash(key.strip_prefix(&[CHANNEL])?.try_into().ok()?))
    }

    /// The role and the node that the state key of a stake is about.
    #[must_use]
    pub fn stake_of(key: &[u8]) -> Option<(Role, Address)> {
        let (role, operator) = key.strip_prefix(&[STAKE])?.get(20..)?.split_first()?;
        let role = arknet_types::decode(&[*role]).ok()?;
        Some((role, Address(operator.try_into().ok()?)))
    }

    /// The number at the end of the state key of a withdrawal.
    #[must_use]
    pub fn unbonding_of(key: &[u8]) -> Option<u64> {
        let number = key.strip_prefix(&[UNBONDING])?.get(20..)?;
        Some(u64::from_be_bytes(number.try_into().ok()?))
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
        Some(&CHANNEL) => u128::from(read::<Channel>(value).rest().0),
        Some(&ESCROW) => u128::from(read::<Escrow>(value).amount.0),
        Some(&PROPOSAL) => u128::from(read::<Proposal>(value).deposit.0),
        Some(&MODEL) => u128::from(read::<Model>(value).deposit.0),
        _ => 0,
    }
}
