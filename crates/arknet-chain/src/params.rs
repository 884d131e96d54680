use std::{collections::BTreeMap, io};

use arknet_types::Atoms;
use borsh::{BorshDeserialize, BorshSerialize};

use crate::limits::VALIDATORS_MAX;

macro_rules! params {
    ($($(#[$doc:meta])* $name:ident $text:literal = $default:expr, $range:expr;)*) => {
        /// A number that a vote may change. Its order is its number in the encoding.
        #[derive(
            BorshDeserialize, BorshSerialize, Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd,
        )]
        pub enum Param { $($(#[$doc])* $name,)* }

        impl Param {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in a genesis document and in a proposal.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What it is where the genesis says nothing.
            #[must_use]
            pub const fn default(self) -> u64 {
                match self { $(Self::$name => $default,)* }
            }

            /// What it may become.
            #[must_use]
            pub const fn range(self) -> std::ops::RangeInclusive<u64> {
                match self { $(Self::$name => $range,)* }
            }
        }
    };
}

const ARK: u64 = Atoms::PER_ARK;
const MONEY: u64 = crate::limits::MINTED_ATOMS_MAX;
const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
/// A whole, in parts of a million.
pub(crate) const PPM: u64 = 1_000_000;

params! {
    /// Lowest price of one gas, in atoms.
    BaseFeeMin "base_fee_min" = 1, 0..=ARK;
    /// Gas of a block.
    BlockGasMax "block_gas_max" = 100_000_000, 1_000_000..=1_000_000_000;
    /// Gas of a block at which the base fee stays as it is.
    BlockGasTarget "block_gas_target" = 50_000_000, 500_000..=1_000_000_000;
    /// Validators in the set.
    ValidatorsMax "validators_max" = 100, 1..=VALIDATORS_MAX as u64;
    /// Own stake of a validator.
    StakeMinValidator "stake_min_validator" = 100_000 * ARK, 0..=MONEY;
    /// Own stake of a compute node.
    StakeMinCompute "stake_min_compute" = 50_000 * ARK, 0..=MONEY;
    /// Own stake of a verifier.
    StakeMinVerifier "stake_min_verifier" = 10_000 * ARK, 0..=MONEY;
    /// Own stake of a worker.
    StakeMinWorker "stake_min_worker" = 1_000 * ARK, 0..=MONEY;
    /// Stake with another's node.
    StakeMinDelegation "stake_min_delegation" = ARK, 1..=MONEY;
    /// Time from the withdrawal of stake until it is free.
    UnbondingMs "unbonding_ms" = 14 * DAY, HOUR..=365 * DAY;
    /// The same for workers.
    UnbondingWorkerMs "unbonding_worker_ms" = 7 * DAY, HOUR..=365 * DAY;
    /// Time for which moved stake still answers for the node it left.
    RedelegationMs "redelegation_ms" = DAY, HOUR..=365 * DAY;
    /// Part of the stake that a two-faced validator loses.
    SlashEquivocationPpm "slash_equivocation_ppm" = 50_000, 0..=PPM;
    /// Part of the stake that an absent validator loses.
    SlashAbsencePpm "slash_absence_ppm" = 100, 0..=PPM;
    /// Time of absence, less time of presence, after which a validator is jailed.
    AbsenceMs "absence_ms" = HOUR / 2, 1_000..=30 * DAY;
    /// Time for which an absent validator stays out at least.
    JailMs "jail_ms" = HOUR, 1_000..=365 * DAY;
    /// Length of the bootstrap period.
    BootstrapMs "bootstrap_ms" = 182 * DAY, 0..=3_650 * DAY;
    /// Validators at which the bootstrap period ends before its time.
    BootstrapValidators "bootstrap_validators" = 100, 1..=VALIDATORS_MAX as u64;
    /// Part of every payment from a channel or an escrow that is burned.
    PaymentBurnPpm "payment_burn_ppm" = 30_000, 0..=PPM / 2;
    /// Shortest time in which a payee may answer when the payer closes alone.
    ChallengeMsMin "challenge_ms_min" = HOUR, 1_000..=DAY;
    /// Longest such time.
    ChallengeMsMax "challenge_ms_max" = 7 * DAY, DAY..=90 * DAY;
    /// Longest time until an escrow's timeout.
    EscrowMsMax "escrow_ms_max" = 30 * DAY, HOUR..=365 * DAY;
    /// What is at stake for a proposal.
    ProposalDeposit "proposal_deposit" = 10_000 * ARK, 0..=MONEY;
    /// Time from a proposal to the vote on it.
    DiscussionMs "discussion_ms" = 3 * DAY, 1_000..=90 * DAY;
    /// Time for the vote.
    VotingMs "voting_ms" = 7 * DAY, 1_000..=90 * DAY;
    /// Part of all stake that must vote.
    QuorumPpm "quorum_ppm" = 334_000, 0..=PPM;
    /// Part of the votes for and against that must be for it.
    ThresholdPpm "threshold_ppm" = 500_000, PPM / 2..=PPM;
    /// Part of the votes that vetoes.
    VetoPpm "veto_ppm" = 334_000, 0..=PPM;
    /// What is at stake for a model.
    ModelDeposit "model_deposit" = 10_000 * ARK, 0..=MONEY;
    /// Time in which a vote may throw a model out before it is accepted.
    ModelReviewMs "model_review_ms" = 14 * DAY, 1_000..=365 * DAY;
    /// New money for what was paid for a job.
    EmissionPaidPpm "emission_paid_ppm" = 20_000, 0..=PPM / 2;
    /// New money for a free job of the bootstrap period.
    EmissionFreeJob "emission_free_job" = ARK / 100, 0..=100 * ARK;
    /// New money of a day, before it halves.
    EmissionDailyMax "emission_daily_max" = 200_000 * ARK, 0..=MONEY / 100;
    /// Time after which new money halves, and halves again.
    EmissionHalvingMs "emission_halving_ms" = 4 * 365 * DAY, DAY..=100 * 365 * DAY;
    /// Part of new money that the verifier gets. What the parts leave is the node's.
    SplitVerifierPpm "split_verifier_ppm" = 70_000, 0..=PPM / 5;
    /// Part that the treasury gets.
    SplitTreasuryPpm "split_treasury_ppm" = 50_000, 0..=PPM / 5;
    /// Part that those get who have stake with the node.
    SplitStakersPpm "split_stakers_ppm" = 50_000, 0..=PPM / 5;
    /// Part that is burned.
    SplitBurnedPpm "split_burned_ppm" = 30_000, 0..=PPM / 5;
}

/// The value of every parameter.
#[derive(BorshSerialize, Clone, Debug, Eq, PartialEq)]
pub struct Params(Vec<u64>);

/// Why a parameter cannot be set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamError {
    /// The value is out of its range.
    #[error("{name} must lie between {min} and {max}, not at {found}")]
    Range {
        /// The parameter.
        name: &'static str,
        /// The lowest value.
        min: u64,
        /// The highest value.
        max: u64,
        /// What was asked for.
        found: u64,
    },
    /// More money would be made of a payment than it costs: paying oneself would pay.
    #[error("more money would be made of a payment than is burned of it")]
    SelfDealing,
    /// There is no such parameter.
    #[error("there is no parameter {0}")]
    Unknown(String),
}

impl Default for Params {
    fn default() -> Self {
        Self(Param::ALL.iter().map(|param| param.default()).collect())
    }
}

impl Params {
    /// The value of one.
    ///
    /// # Panics
    /// Never: each value was there when this was made.
    #[must_use]
    pub fn of(&self, param: Param) -> u64 {
        *self.0.get(param as usize).expect("each parameter has a value")
    }

    /// The value of one that is money.
    #[must_use]
    pub fn atoms(&self, param: Param) -> Atoms {
        Atoms(self.of(param))
    }

    /// Sets one, within its range.
    ///
    /// # Panics
    /// Never: each value was there when this was made.
    pub fn set(&mut self, param: Param, value: u64) -> Result<(), ParamError> {
        let range = param.range();
        if !range.contains(&value) {
            let (min, max) = range.into_inner();
            return Err(ParamError::Range { name: param.name(), min, max, found: value });
        }
        *self.0.get_mut(param as usize).expect("each parameter has a value") = value;
        Ok(())
    }

    /// Holds those that must fit each other together: what a payment brings to those who are all
    /// sides of it at once must be less than what is burned of it.
    pub fn check(&self) -> Result<(), ParamError> {
        let lost = self.of(Param::SplitTreasuryPpm).saturating_add(self.of(Param::SplitBurnedPpm));
        let kept = u128::from(PPM.saturating_sub(lost));
        let made = u128::from(self.of(Param::EmissionPaidPpm)).saturating_mul(kept);
        let burned = u128::from(self.of(Param::PaymentBurnPpm)).saturating_mul(u128::from(PPM));
        if made > 0 && made >= burned { Err(ParamError::SelfDealing) } else { Ok(()) }
    }

    /// The defaults, but for those that `named` gives.
    pub fn from_named(named: &BTreeMap<String, u64>) -> Result<Self, ParamError> {
        let mut params = Self::default();
        for (name, value) in named {
            let param = Param::ALL.iter().find(|param| param.name() == name);
            let param = param.ok_or_else(|| ParamError::Unknown(name.clone()))?;
            params.set(*param, *value)?;
        }
        params.check()?;
        Ok(params)
    }
}

impl BorshDeserialize for Params {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        // The list is as long as the parameters are many: no length is believed.
        let count = u32::deserialize_reader(reader)?;
        if usize::try_from(count) != Ok(Param::ALL.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "another set of parameters"));
        }
        Param::ALL
            .iter()
            .map(|_| u64::deserialize_reader(reader))
            .collect::<io::Result<_>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_lies_in_its_range_and_every_name_is_its_own() {
        for (at, param) in Param::ALL.iter().enumerate() {
            assert!(param.range().contains(&param.default()), "{}", param.name());
            assert_eq!(*param as usize, at);
            let same = Param::ALL.iter().filter(|other| other.name() == param.name()).count();
            assert_eq!(same, 1, "{}", param.name());
        }
    }

    #[test]
    fn paying_oneself_is_never_made_to_pay() {
        let with = |paid, burned| {
            let mut params = Params::default();
            params.set(Param::EmissionPaidPpm, paid).unwrap();
            params.set(Param::PaymentBurnPpm, burned).unwrap();
            params.check()
        };
        assert_eq!(Params::default().check(), Ok(()));
        assert_eq!(with(0, 0), Ok(()));
        assert_eq!(with(100_000, 92_001), Ok(()));
        assert_eq!(with(100_000, 92_000), Err(ParamError::SelfDealing));
        assert_eq!(with(1, 0), Err(ParamError::SelfDealing));
    }

    #[test]
    fn a_value_out_of_range_and_an_unknown_name_are_refused() {
        let mut params = Params::default();
        assert!(params.set(Param::ValidatorsMax, 0).is_err());
        assert!(params.set(Param::ValidatorsMax, 7).is_ok());
        assert_eq!(params.of(Param::ValidatorsMax), 7);
        assert!(Params::from_named(&[("nothing".to_owned(), 1)].into()).is_err());
        let named = Params::from_named(&[("validators_max".to_owned(), 7)].into()).unwrap();
        assert_eq!(named, params);
        let bytes = arknet_types::encode(&params);
        assert_eq!(arknet_types::decode::<Params>(&bytes).unwrap(), params);
        assert!(arknet_types::decode::<Params>(&bytes[..bytes.len() - 8]).is_err());
    }
}
