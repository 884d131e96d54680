use std::{fmt, num::ParseIntError};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// An amount of money: 1 ARK is 10^9 atoms. Arithmetic is checked; there is no way to overflow. In
/// JSON it is a text of digits, for numbers there are not exact beyond 2^53.
#[derive(
    BorshDeserialize,
    BorshSerialize,
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(try_from = "String", into = "String")]
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

impl TryFrom<String> for Atoms {
    type Error = ParseIntError;

    fn try_from(text: String) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

impl From<Atoms> for String {
    fn from(atoms: Atoms) -> Self {
        atoms.0.to_string()
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
    fn in_json_an_amount_is_a_text_of_digits() {
        let text = serde_json::to_string(&Atoms(u64::MAX)).unwrap();
        assert_eq!(text, "\"18446744073709551615\"");
        assert_eq!(serde_json::from_str::<Atoms>(&text).unwrap(), Atoms(u64::MAX));
        for bad in ["1", "\"\"", "\"-1\"", "\"1.5\"", "\"18446744073709551616\""] {
            assert!(serde_json::from_str::<Atoms>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_price_is_rounded_up_and_never_wraps() {
        assert_eq!(Atoms(1).per_million(1), Some(Atoms(1)));
        assert_eq!(Atoms(2_000_000).per_million(3), Some(Atoms(6)));
        assert_eq!(Atoms(0).per_million(u64::MAX), Some(Atoms::ZERO));
        assert_eq!(Atoms(u64::MAX).per_million(u64::MAX), None);
    }
}
