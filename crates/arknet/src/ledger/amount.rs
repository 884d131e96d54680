//! Money as people write it.

use anyhow::{Context, bail};
use arknet_types::Atoms;

/// Digits behind the point of an ARK.
const DIGITS: usize = 9;
const FORM: &str = "write an amount in atoms, or with its unit: 10000000000, 1.5ark";

/// `10000000000` and `10000000000atoms` are atoms, `1.5ark` is 1,500,000,000 of them.
pub(crate) fn parse(text: &str) -> anyhow::Result<Atoms> {
    let text = text.trim().to_ascii_lowercase();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let too_large = "the amount is larger than all money";
    match unit.trim_start() {
        "" | "atom" | "atoms" => {
            if number.is_empty() || number.contains('.') {
                bail!("{FORM}");
            }
            Ok(Atoms(number.parse().context(too_large)?))
        }
        "ark" => {
            let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
            if whole.is_empty() || part.is_empty() || part.contains('.') {
                bail!("{FORM}");
            }
            if part.len() > DIGITS {
                bail!("an ARK has {DIGITS} digits behind the point");
            }
            let whole: u64 = whole.parse().context(too_large)?;
            let part: u64 = format!("{part:0<DIGITS$}").parse().context(FORM)?;
            let atoms = whole.checked_mul(Atoms::PER_ARK).and_then(|whole| whole.checked_add(part));
            Ok(Atoms(atoms.context(too_large)?))
        }
        _ => bail!("{FORM}"),
    }
}

/// The same, where nothing is not enough.
pub(crate) fn parse_some(text: &str) -> anyhow::Result<Atoms> {
    match parse(text)? {
        Atoms::ZERO => bail!("the amount is zero"),
        amount => Ok(amount),
    }
}

/// An amount for a person.
pub(crate) fn show(amount: Atoms) -> String {
    let (whole, part) = (amount.0 / Atoms::PER_ARK, amount.0 % Atoms::PER_ARK);
    let digits = format!("{part:0DIGITS$}");
    match digits.trim_end_matches('0') {
        "" => format!("{whole} ARK"),
        part => format!("{whole}.{part} ARK"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_atoms_or_have_a_unit() {
        let atoms = |text| parse(text).ok().map(|amount| amount.0);
        assert_eq!(atoms("50000000000000"), Some(50_000_000_000_000));
        assert_eq!(atoms("1.5ark"), Some(1_500_000_000));
        assert_eq!(atoms("1 ARK"), Some(1_000_000_000));
        assert_eq!(atoms("0.000000001ark"), Some(1));
        assert_eq!(atoms("7atoms"), Some(7));
        assert_eq!(atoms("18446744073.709551615ark"), Some(u64::MAX));
        for bad in [
            "",
            "ark",
            "1.5",
            "1,5ark",
            "-1",
            "1.ark",
            ".5ark",
            "1.0000000001ark",
            "1e9",
            "1.2.3ark",
            "18446744073.709551616ark",
            "18446744073709551616",
            "1 btc",
            "0x10",
            "1arks",
        ] {
            assert_eq!(atoms(bad), None, "{bad}");
        }
        assert!(parse_some("0ark").is_err() && parse_some("1").is_ok());
    }

    #[test]
    fn what_is_shown_can_be_typed_again() {
        for (atoms, text) in [
            (0, "0 ARK"),
            (1, "0.000000001 ARK"),
            (1_500_000_000, "1.5 ARK"),
            (50_000_000_000_000, "50000 ARK"),
        ] {
            assert_eq!(show(Atoms(atoms)), text);
            assert_eq!(parse(text).unwrap(), Atoms(atoms));
        }
    }
}
