//! The values of the state.

use arknet_types::{Address, Atoms, ModelDigest, PublicKey, Timestamp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    Failure, Hash,
    limits::{SHARES_MAX, SLASH_PPM_MAX},
    params::PPM,
};

/// The numbers of the whole ledger.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// The last block's height; zero in the genesis.
    pub height: u64,
    /// The last block's time.
    pub time: Timestamp,
    /// The genesis' time.
    pub began: Timestamp,
    /// Price of one gas in the next block.
    pub base_fee: Atoms,
    /// Atoms ever made.
    pub minted: Atoms,
    /// Atoms ever burned.
    pub burned: Atoms,
    /// Money that votes decide on.
    pub treasury: Atoms,
    /// All stake that is bonded, of every role.
    pub bonded: Atoms,
    /// Nodes that have registered as validator.
    pub validator_nodes: u32,
    /// Whether the bootstrap period lasts.
    pub bootstrap: bool,
    /// Proposals ever made, by which they are named.
    pub proposals: u64,
    /// The day, counted from the genesis, in which new money was last made.
    pub emission_day: u64,
    /// New money of that day.
    pub emitted_today: Atoms,
    /// Things that ever fell due, by which they are told apart.
    pub due_count: u64,
}

/// An account.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Its money.
    pub balance: Atoms,
    /// Its transactions up to now, and the nonce of the next.
    pub nonce: u64,
    /// Withdrawals of stake up to now, by which they are named.
    pub unbondings: u64,
    /// Nodes it has stake with.
    pub stakes: u32,
}

/// What a node is staked for.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Debug,
    Deserialize,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[borsh(use_discriminant = true)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Role {
    /// Votes on blocks.
    Validator = 0,
    /// Runs models.
    Compute = 1,
    /// Checks the work of others.
    Verifier = 2,
    /// Takes batches from a coordinator.
    Worker = 3,
}

/// Money that several own in shares, so that a loss or a gain meets all alike in one step.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Pool {
    /// The money.
    pub tokens: Atoms,
    /// All shares.
    pub shares: u128,
}

impl Pool {
    /// Puts `amount` in and returns the shares it buys.
    pub(crate) fn join(&mut self, amount: Atoms) -> Result<u128, Failure> {
        let shares = match (self.tokens.0, self.shares) {
            (_, 0) => u128::from(amount.0),
            // Whatever is put in would belong to those who lost all.
            (0, _) => return Err(Failure::NodeGone),
            (tokens, shares) => u128::from(amount.0)
                .checked_mul(shares)
                .and_then(|product| product.checked_div(u128::from(tokens)))
                .ok_or(Failure::Overflow)?,
        };
        self.tokens = self.tokens.checked_add(amount).ok_or(Failure::Overflow)?;
        self.shares = self.shares.checked_add(shares).ok_or(Failure::Overflow)?;
        if self.shares > SHARES_MAX {
            return Err(Failure::NodeGone);
        }
        Ok(shares)
    }

    /// What `shares` are worth, rounded down.
    #[must_use]
    pub fn worth(&self, shares: u128) -> Atoms {
        let worth = u128::from(self.tokens.0)
            .checked_mul(shares)
            .and_then(|product| product.checked_div(self.shares));
        Atoms(worth.and_then(|worth| u64::try_from(worth).ok()).unwrap_or_default())
    }

    /// The fewest shares that are worth `amount`.
    pub(crate) fn price(&self, amount: Atoms) -> Result<u128, Failure> {
        let product = u128::from(amount.0).checked_mul(self.shares).ok_or(Failure::Overflow)?;
        if self.tokens == Atoms::ZERO {
            return Err(Failure::Stake);
        }
        Ok(product.div_ceil(u128::from(self.tokens.0)))
    }

    /// Takes `shares` out, for `amount`.
    pub(crate) fn leave(&mut self, shares: u128, amount: Atoms) -> Result<(), Failure> {
        self.tokens = self.tokens.checked_sub(amount).ok_or(Failure::Stake)?;
        self.shares = self.shares.checked_sub(shares).ok_or(Failure::Stake)?;
        Ok(())
    }

    /// Takes a part of the money away and returns it; something always stays, for shares of nothing
    /// could not be told apart from none.
    pub(crate) fn lose(&mut self, ppm: u64) -> Atoms {
        let loss = share(self.tokens, ppm.min(SLASH_PPM_MAX));
        self.tokens = self.tokens.checked_sub(loss).expect("a part is not more than the whole");
        loss
    }
}

/// So many millionths of `amount`, rounded down.
pub(crate) fn share(amount: Atoms, ppm: u64) -> Atoms {
    let product = u128::from(amount.0).saturating_mul(u128::from(ppm.min(PPM)));
    Atoms(product.checked_div(u128::from(PPM)).and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
}

/// Fractions of an atom that the index of rewards counts.
const INDEX: u128 = 1_000_000_000_000_000_000;

/// A node that has stake.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// A validator's consensus key, any other's peer key.
    pub key: PublicKey,
    /// Stake that counts.
    pub bonded: Pool,
    /// Stake on its way out, which still answers for the node.
    pub unbonding: Pool,
    /// Rewards that nobody has fetched yet.
    pub rewards: Atoms,
    /// What one share has earned since the beginning.
    pub reward_index: u128,
    /// What the bootstrap period adds to its weight.
    pub weight: u64,
    /// Out until then.
    pub jailed_until: Option<Timestamp>,
    /// Out for ever: two-faced.
    pub banned: bool,
    /// Out by its operator's wish.
    pub retired: bool,
}

impl Node {
    pub(crate) fn new(key: PublicKey, weight: u64) -> Self {
        Self {
            key,
            bonded: Pool::default(),
            unbonding: Pool::default(),
            rewards: Atoms::ZERO,
            reward_index: 0,
            weight,
            jailed_until: None,
            banned: false,
            retired: false,
        }
    }

    pub(crate) fn money(&self) -> u128 {
        let parts = [self.bonded.tokens, self.unbonding.tokens, self.rewards];
        parts.iter().fold(0, |sum: u128, part| sum.saturating_add(u128::from(part.0)))
    }

    /// Whether it is in by its own doing.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        !self.banned && !self.retired && self.jailed_until.is_none()
    }

    /// Shares `reward` among those who have stake; false when there is nobody.
    pub(crate) fn reward(&mut self, reward: Atoms) -> bool {
        let per_share =
            u128::from(reward.0).checked_mul(INDEX).and_then(|r| r.checked_div(self.bonded.shares));
        let index = per_share.and_then(|per_share| self.reward_index.checked_add(per_share));
        let rewards = self.rewards.checked_add(reward);
        let (Some(index), Some(rewards)) = (index, rewards) else { return false };
        (self.reward_index, self.rewards) = (index, rewards);
        true
    }
}

/// What an account has staked with a node.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stake {
    /// Its part of [`Node::bonded`].
    pub shares: u128,
    /// [`Node::reward_index`] when rewards were last fetched.
    pub reward_index: u128,
}

impl Stake {
    /// What it has earned at its node and not fetched yet.
    #[must_use]
    pub fn earned(&self, node: &Node) -> Atoms {
        { *self }.fetch(&mut node.clone()).unwrap_or_default()
    }

    /// Takes from the node what this has earned.
    pub(crate) fn fetch(&mut self, node: &mut Node) -> Result<Atoms, Failure> {
        let since = node.reward_index.checked_sub(self.reward_index).ok_or(Failure::Overflow)?;
        let earned = self.shares.checked_mul(since).ok_or(Failure::Overflow)?;
        let earned = earned.checked_div(INDEX).and_then(|atoms| u64::try_from(atoms).ok());
        let earned = Atoms(earned.ok_or(Failure::Overflow)?);
        node.rewards = node.rewards.checked_sub(earned).ok_or(Failure::Overflow)?;
        self.reward_index = node.reward_index;
        Ok(earned)
    }
}

/// Stake on its way out.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unbonding {
    /// The role it was staked for.
    pub role: Role,
    /// The node it leaves, for which it answers until it is free.
    pub node: Address,
    /// Its part of [`Node::unbonding`].
    pub shares: u128,
    /// When it began.
    pub began: Timestamp,
    /// When it is free.
    pub free_at: Timestamp,
    /// The node it goes to, where it is moved rather than withdrawn.
    pub to: Option<Address>,
}

/// What a session has spent by settled vouchers.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spending {
    /// All of it.
    pub spent: Atoms,
}

/// What one account has paid another from channels and escrows.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Settled {
    /// All of it.
    pub paid: Atoms,
    /// The part for which there was new money.
    pub rewarded: Atoms,
}

/// Something that happens at a time, by itself.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Moved stake arrives.
    Arrival {
        /// Whose.
        owner: Address,
        /// Which of its withdrawals.
        id: u64,
    },
    /// A free job's receipt does not count any more.
    JobEnd {
        /// The receipt's digest.
        digest: Hash,
    },
    /// A model's time is over in which it may be thrown out.
    ModelReview {
        /// Which.
        digest: ModelDigest,
        /// When it was registered: another may have taken its place.
        registered_at: Timestamp,
    },
    /// A vote begins.
    VotingBegins {
        /// On what.
        proposal: u64,
    },
    /// A vote ends.
    VotingEnds {
        /// On what.
        proposal: u64,
    },
    /// No voucher of a session counts any more.
    SessionEnd {
        /// Its delegation's digest.
        session: [u8; 32],
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::MINTED_ATOMS_MAX;

    #[test]
    fn a_pool_that_lost_nearly_all_takes_none_in_and_gives_out_what_is_left() {
        let mut pool = Pool::default();
        let shares = pool.join(Atoms(MINTED_ATOMS_MAX / 2)).unwrap();
        for _ in 0..20 {
            pool.lose(PPM);
            assert!(pool.tokens > Atoms::ZERO);
        }
        let mut other = pool;
        assert_eq!(other.join(Atoms(MINTED_ATOMS_MAX / 2)), Err(Failure::NodeGone));
        let rest = pool.worth(shares);
        assert_eq!(rest, pool.tokens);
        assert_eq!(pool.leave(shares, rest), Ok(()));
    }

    proptest! {
        /// Nobody gains by coming and going, and nothing but a loss takes from those who stay.
        #[test]
        fn shares_are_worth_what_was_put_in_less_losses(
            steps in prop::collection::vec((0_u8..3, 0_usize..4, 1_u64..1_000_000_000_000_000), 1..60),
        ) {
            let mut pool = Pool::default();
            let mut held = [0_u128; 4];
            for (kind, who, amount) in steps {
                let before: Vec<Atoms> = held.iter().map(|shares| pool.worth(*shares)).collect();
                match kind {
                    0 => {
                        let mut next = pool;
                        if let Ok(shares) = next.join(Atoms(amount)) {
                            pool = next;
                            held[who] += shares;
                            let gained = pool.worth(held[who]).0 - before[who].0;
                            prop_assert!(gained <= amount);
                        }
                    }
                    1 => {
                        let amount = Atoms(amount.min(before[who].0));
                        if amount > Atoms::ZERO {
                            let shares = pool.price(amount).unwrap();
                            prop_assert!(shares <= held[who], "what is worth it pays for it");
                            pool.leave(shares, amount).unwrap();
                            held[who] -= shares;
                        }
                    }
                    _ => {
                        pool.lose(amount % PPM);
                        continue;
                    }
                }
                for (other, shares) in held.iter().enumerate().filter(|(other, _)| *other != who) {
                    prop_assert!(pool.worth(*shares) >= before[other], "others lose nothing");
                }
                prop_assert_eq!(held.iter().sum::<u128>(), pool.shares);
            }
        }
    }
}
