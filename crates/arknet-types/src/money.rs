use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

/// An amount of money: 1 ARK is 10^9 atoms. Arithmetic is checked; there is no way to overflow.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
)]
pub struct Atoms(pub u64);

impl Atoms {
    /// Atoms in one ARK.
    pub const PER_ARK: u64 = 1_000_000_000;
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, or `None` where it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` where it would be negative.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The price of `tokens` at `self` atoms per million tokens, rounded up, or `None` on overflow.
    #[must_use]
    pub fn per_million(self, tokens: u64) -> Option<Self> {
        let total = u128::from(self.0) * u128::from(tokens);
        u64::try_from(total.div_ceil(1_000_000)).ok().map(Self)
    }
}

impl fmt::Display for Atoms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} atoms", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Atoms;

    #[test]
    fn a_price_is_rounded_up_and_never_wraps() {
        assert_eq!(Atoms(1).per_million(1), Some(Atoms(1)));
        assert_eq!(Atoms(2_000_000).per_million(3), Some(Atoms(6)));
        assert_eq!(Atoms(0).per_million(u64::MAX), Some(Atoms::ZERO));
        assert_eq!(Atoms(u64::MAX).per_million(u64::MAX), None);
    }
}
