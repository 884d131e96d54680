use std::io;

use arknet_types::{Address, PublicKey, decode_list};
use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Hash,
    hash::Purpose,
    limits::{ABSENT_BLOCKS, VALIDATORS_MAX},
};

/// One who votes on blocks.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validator {
    /// The account that answers for it.
    pub operator: Address,
    /// The key its votes are signed with.
    pub key: PublicKey,
    /// What its vote weighs.
    pub power: u64,
}

/// Those who vote at one height: the heaviest first, equals by their operators. Never empty.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct ValidatorSet(Vec<Validator>);

impl ValidatorSet {
    /// The set of these, or none where it would be empty, too large, of no weight or of one
    /// operator or key twice.
    #[must_use]
    pub fn new(mut validators: Vec<Validator>) -> Option<Self> {
        validators.sort_by_key(|v| (std::cmp::Reverse(v.power), v.operator));
        let set = Self(validators);
        set.is_sound().then_some(set)
    }

    fn is_sound(&self) -> bool {
        let in_order = self.0.windows(2).all(|pair| {
            let [a, b] = pair else { return true };
            (std::cmp::Reverse(a.power), a.operator) < (std::cmp::Reverse(b.power), b.operator)
        });
        let unique = |mut names: Vec<[u8; 32]>| {
            names.sort_unstable();
            names.windows(2).all(|pair| pair[0] != pair[1])
        };
        let operators = self.0.iter().map(|v| {
            let mut name = [0; 32];
            name[..20].copy_from_slice(&v.operator.0);
            name
        });
        let total = self.0.iter().try_fold(0_u64, |sum, v| sum.checked_add(v.power));
        (1..=VALIDATORS_MAX).contains(&self.0.len())
            && in_order
            && self.0.iter().all(|v| v.power > 0)
            && unique(operators.collect())
            && unique(self.0.iter().map(|v| v.key.0).collect())
            // A third of the whole is computed with three times the whole.
            && total.is_some_and(|total| total < u64::MAX / 3)
    }

    /// The validators, the heaviest first.
    #[must_use]
    pub fn members(&self) -> &[Validator] {
        &self.0
    }

    /// The one that `operator` answers for.
    #[must_use]
    pub fn find(&self, operator: &Address) -> Option<&Validator> {
        self.0.iter().find(|v| v.operator == *operator)
    }

    /// What all weigh together.
    #[must_use]
    pub fn total_power(&self) -> u64 {
        self.0.iter().fold(0, |sum, v| sum.saturating_add(v.power))
    }

    /// Whether `power` is more than two thirds of the whole.
    #[must_use]
    pub fn is_quorum(&self, power: u64) -> bool {
        u128::from(power).saturating_mul(3) > u128::from(self.total_power()).saturating_mul(2)
    }

    /// The hash by which headers name the set.
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(Purpose::VALIDATORS, self)
    }

    /// Who proposes at a height and round: by chance as heavy as the validator, but the same for
    /// all. Those who missed the last blocks are left out, by what the blocks themselves say, so
    /// that a dead validator does not cost every round it would have had.
    ///
    /// # Panics
    /// Never: a set has a validator.
    #[must_use]
    pub fn proposer(&self, height: u64, round: u32, presence: &Presence) -> &Validator {
        let is_there = |v: &&Validator| !presence.is_absent(&v.operator);
        let mut there: Vec<&Validator> = self.0.iter().filter(is_there).collect();
        if there.is_empty() {
            there = self.0.iter().collect();
        }
        let total = there.iter().fold(0_u64, |sum, v| sum.saturating_add(v.power)).max(1);
        let draw = Hash::of(Purpose::VALIDATORS, &(height, round));
        let draw = draw.0.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut left = draw.checked_rem(total).unwrap_or_default();
        for validator in &there {
            match left.checked_sub(validator.power) {
                Some(rest) => left = rest,
                None => return validator,
            }
        }
        there.first().expect("a set has a validator")
    }
}

impl BorshDeserialize for ValidatorSet {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let set = Self(decode_list::<_, _, VALIDATORS_MAX>(reader)?);
        let error = || io::Error::new(io::ErrorKind::InvalidData, "not a set of validators");
        if set.is_sound() { Ok(set) } else { Err(error()) }
    }
}

/// How present the validators of the set have been, by the certificates inside blocks.
#[derive(BorshDeserialize, BorshSerialize, Clone, Debug, Default, Eq, PartialEq)]
pub struct Presence(pub(crate) Vec<Attendance>);

/// One validator's presence.
#[derive(BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, PartialEq)]
pub struct Attendance {
    /// The validator.
    pub operator: Address,
    /// Blocks missed up to now without one in between that it signed.
    pub missed_in_a_row: u32,
    /// Time of absence less time of presence, never below zero.
    pub absent_ms: u64,
}

impl Presence {
    /// Whether it missed so many blocks that it is not asked to propose.
    #[must_use]
    pub fn is_absent(&self, operator: &Address) -> bool {
        self.of(operator).is_some_and(|one| one.missed_in_a_row >= ABSENT_BLOCKS)
    }

    /// What is known of one; nothing of a newcomer.
    #[must_use]
    pub fn of(&self, operator: &Address) -> Option<&Attendance> {
        self.0.iter().find(|one| one.operator == *operator)
    }
}

#[cfg(test)]
mod tests {
    use arknet_types::KeyPair;

    use super::*;

    fn validator(n: u8, power: u64) -> Validator {
        let key = KeyPair::from_seed(&[n; 32]).public();
        Validator { operator: Address([n; 20]), key, power }
    }

    #[test]
    fn a_set_is_in_one_order_and_holds_nobody_twice() {
        let a = ValidatorSet::new(vec![validator(1, 5), validator(2, 7)]).unwrap();
        let b = ValidatorSet::new(vec![validator(2, 7), validator(1, 5)]).unwrap();
        assert_eq!((a.hash(), a.members()[0].power), (b.hash(), 7));
        assert!(ValidatorSet::new(vec![]).is_none());
        assert!(ValidatorSet::new(vec![validator(1, 0)]).is_none());
        assert!(ValidatorSet::new(vec![validator(1, 1), validator(1, 2)]).is_none());
        let twin = Validator { operator: Address([9; 20]), ..validator(1, 2) };
        assert!(ValidatorSet::new(vec![validator(1, 1), twin]).is_none());
        assert!(ValidatorSet::new(vec![validator(1, u64::MAX / 2)]).is_none());
        let disorder = ValidatorSet(vec![validator(1, 5), validator(2, 7)]);
        let bytes = arknet_types::encode(&disorder);
        assert!(arknet_types::decode::<ValidatorSet>(&bytes).is_err());
        assert_eq!(arknet_types::decode::<ValidatorSet>(&arknet_types::encode(&a)).unwrap(), a);
    }

    #[test]
    fn a_quorum_is_more_than_two_thirds() {
        let set = ValidatorSet::new((1..=3).map(|n| validator(n, 1)).collect()).unwrap();
        assert!(!set.is_quorum(2));
        assert!(set.is_quorum(3));
    }

    #[test]
    fn proposing_is_shared_by_weight_and_the_absent_are_left_out() {
        let set = ValidatorSet::new(vec![validator(1, 3), validator(2, 1)]).unwrap();
        let count = |presence: &Presence| {
            let heavy = Address([1; 20]);
            (0..4_000).filter(|h| set.proposer(*h, 0, presence).operator == heavy).count()
        };
        let often = count(&Presence::default());
        assert!((2_850..3_150).contains(&often), "{often}");
        let absent = |missed_in_a_row| {
            Presence(vec![Attendance { operator: Address([1; 20]), missed_in_a_row, absent_ms: 0 }])
        };
        assert_eq!(count(&absent(ABSENT_BLOCKS)), 0);
        assert_eq!(count(&absent(ABSENT_BLOCKS - 1)), often);
        // Where all are absent, somebody must begin.
        let alone = ValidatorSet::new(vec![validator(1, 3)]).unwrap();
        assert_eq!(alone.proposer(1, 0, &absent(9)).operator, Address([1; 20]));
    }
}
