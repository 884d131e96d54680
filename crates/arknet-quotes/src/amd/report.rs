//! An attestation report, as the SEV-SNP firmware ABI lays it out: 1,184 bytes, all at fixed places.

use x509_cert::der::asn1::ObjectIdentifier;

use crate::QuoteError;

const REPORT_BYTES: usize = 1_184;
const SIGNED_BYTES: usize = 672;
/// A part of a signature has 72 bytes, of which the curve needs 48; the highest comes last.
const PART_BYTES: usize = 72;
const CURVE_BYTES: usize = 48;

/// Of these the places below are the same.
const VERSIONS: std::ops::RangeInclusive<u32> = 2..=5;
const ECDSA_P384_SHA384: u32 = 1;
/// In the word about keys: by which the report is signed. Zero is the chip's own.
const SIGNING_KEY: u32 = 0b1_1100;
/// The inner levels that a guest may split itself into.
const VMPL_MAX: u32 = 3;
/// In the guest's policy.
const MAY_MIGRATE: u64 = 1 << 18;
const MAY_DEBUG: u64 = 1 << 19;

/// How the versions of a chip's parts stand in their word, and under which names in its certificate.
#[derive(Clone, Copy)]
pub(super) enum Versions {
    /// Milan and Genoa.
    Milan,
    /// Turin.
    Turin,
}

const BOOT_LOADER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
const TEE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
const SNP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
const MICROCODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
const FMC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");

impl Versions {
    /// The versions by which the key was derived that signed the report.
    pub(super) fn of(self, report: &Report<'_>) -> Vec<(ObjectIdentifier, u8)> {
        let word: [u8; 8] = report.at(0x180);
        match self {
            Self::Milan => {
                vec![(BOOT_LOADER, word[0]), (TEE, word[1]), (SNP, word[6]), (MICROCODE, word[7])]
            }
            Self::Turin => vec![
                (FMC, word[0]),
                (BOOT_LOADER, word[1]),
                (TEE, word[2]),
                (SNP, word[3]),
                (MICROCODE, word[7]),
            ],
        }
    }
}

/// A report of the form that is read here; nothing of it is proved by that.
pub(super) struct Report<'a>(&'a [u8; REPORT_BYTES]);

impl<'a> Report<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, QuoteError> {
        let report = Self(bytes.try_into().map_err(|_| QuoteError::Form)?);
        let word = |at| u32::from_le_bytes(report.at(at));
        let is_known = VERSIONS.contains(&word(0x00))
            && word(0x30) <= VMPL_MAX
            && word(0x34) == ECDSA_P384_SHA384
            && word(0x48) & SIGNING_KEY == 0;
        if is_known { Ok(report) } else { Err(QuoteError::Form) }
    }

    pub(super) fn signed(&self) -> &'a [u8] {
        &self.0[..SIGNED_BYTES]
    }

    /// Both parts, the highest byte first. Behind them and in the room they do not need is nothing.
    pub(super) fn signature(&self) -> Result<([u8; CURVE_BYTES], [u8; CURVE_BYTES]), QuoteError> {
        let (parts, rest) = self.0[SIGNED_BYTES..].split_at(2 * PART_BYTES);
        let (r, s) = parts.split_at(PART_BYTES);
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if !is_zero(rest) || !is_zero(&r[CURVE_BYTES..]) || !is_zero(&s[CURVE_BYTES..]) {
            return Err(QuoteError::Form);
        }
        let (mut first, mut second): ([u8; CURVE_BYTES], [u8; CURVE_BYTES]) =
            (self.at(SIGNED_BYTES), self.at(SIGNED_BYTES + PART_BYTES));
        first.reverse();
        second.reverse();
        Ok((first, second))
    }

    pub(super) fn data(&self) -> [u8; 64] {
        self.at(0x50)
    }

    /// What was loaded, and what the host set beside it.
    pub(super) fn measured(&self) -> [u8; 80] {
        self.at(0x90)
    }

    /// Whether its owner can debug the guest or have it moved by another one.
    pub(super) fn is_open(&self) -> bool {
        u64::from_le_bytes(self.at(0x08)) & (MAY_DEBUG | MAY_MIGRATE) != 0
    }

    /// A shorter name of a chip is filled up with zeros. A host may have it left out of reports,
    /// which then are about no chip.
    pub(super) fn is_of_chip(&self, id: &[u8]) -> bool {
        let chip: [u8; 64] = self.at(0x1a0);
        let Some((name, rest)) = chip.split_at_checked(id.len()) else { return false };
        name == id && name.iter().any(|byte| *byte != 0) && rest.iter().all(|byte| *byte == 0)
    }

    fn at<const N: usize>(&self, at: usize) -> [u8; N] {
        let (bytes, _) = self.0[at..].split_first_chunk().expect("a place within the report");
        *bytes
    }
}
