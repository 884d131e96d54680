//! SEV-SNP: a report signed by the key of a chip, whose certificate leads to a root of AMD.
//!
//! Chains of certificates are checked by `rustls-webpki`, which needs to be told of one thing only:
//! how AMD writes the name of its signatures.

mod report;

use std::time::Duration;

use arknet_chain::{Hash, Purpose, QuoteFacts, TcbStatus};
use arknet_types::Timestamp;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm, UnixTime,
};
use webpki::{
    EndEntityCert, KeyUsage, anchor_from_trusted_cert,
    ring::{ECDSA_P384_SHA384, RSA_PSS_2048_8192_SHA384_LEGACY_KEY},
};
use x509_cert::der::{
    Decode, Encode,
    asn1::{ObjectIdentifier, UintRef},
};

use self::report::{Report, Versions};
use crate::{
    QuoteError,
    limits::{CERTIFICATE_BYTES_MAX, SEV_SNP_AGE_MS_MAX},
};

/// A family of chips: the root of its certificates, and the one authority below that issues those
/// of chips. Both are pinned.
struct Family {
    root: &'static [u8],
    authority: &'static [u8],
    /// How the versions stand in a report.
    versions: Versions,
}

static FAMILIES: [Family; 3] = [
    Family {
        root: include_bytes!("../roots/milan-ark.der"),
        authority: include_bytes!("../roots/milan-ask.der"),
        versions: Versions::Milan,
    },
    Family {
        root: include_bytes!("../roots/genoa-ark.der"),
        authority: include_bytes!("../roots/genoa-ask.der"),
        versions: Versions::Milan,
    },
    Family {
        root: include_bytes!("../roots/turin-ark.der"),
        authority: include_bytes!("../roots/turin-ask.der"),
        versions: Versions::Turin,
    },
];

const CHIP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");

pub(crate) fn check(
    quote: &[u8],
    collateral: &[u8],
    now: Timestamp,
) -> Result<QuoteFacts, QuoteError> {
    let report = Report::parse(quote)?;
    if collateral.len() > CERTIFICATE_BYTES_MAX {
        return Err(QuoteError::Size);
    }
    let der = CertificateDer::from(collateral);
    let leaf = EndEntityCert::try_from(&der).map_err(|_| QuoteError::Collateral)?;
    let family = family(&leaf, now)?;
    leaf.verify_signature(ECDSA_P384_SHA384, report.signed(), &asn1(&report.signature()?)?)
        .map_err(|error| QuoteError::Unproven(error.to_string()))?;
    let chip = x509_cert::Certificate::from_der(collateral).map_err(|_| QuoteError::Collateral)?;
    if !is_about(&chip, &report, family.versions) {
        return Err(QuoteError::Chip);
    }
    if report.is_open() {
        return Err(QuoteError::Open);
    }
    let ends = chip.tbs_certificate().validity().not_after.to_unix_duration();
    let ends = u64::try_from(ends.as_millis()).unwrap_or(u64::MAX);
    Ok(QuoteFacts {
        report_data: report.data(),
        measurement: Hash::of_bytes(Purpose::MEASUREMENT, &report.measured()),
        tcb: TcbStatus::Unrated,
        expires_at: Timestamp(ends.min(now.0.saturating_add(SEV_SNP_AGE_MS_MAX))),
    })
}

/// The certificate of a chip, as AMD's service gives it.
pub(crate) fn pack(file: &[u8]) -> Result<Vec<u8>, QuoteError> {
    let der = match pem::parse(file) {
        Ok(block) => block.into_contents(),
        Err(_) => file.to_vec(),
    };
    match x509_cert::Certificate::from_der(&der) {
        Ok(_) => Ok(der),
        Err(_) => Err(QuoteError::Collateral),
    }
}

/// Whose chip it is: the family to whose root the certificate leads.
fn family(leaf: &EndEntityCert<'_>, now: Timestamp) -> Result<&'static Family, QuoteError> {
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let mut last = None;
    for family in &FAMILIES {
        let (root, authority) =
            (CertificateDer::from(family.root), CertificateDer::from(family.authority));
        let anchor = anchor_from_trusted_cert(&root).expect("AMD's root is a certificate");
        // Chips say nothing of what they are used for, so any use will do.
        let usage = KeyUsage::server_auth();
        let (anchors, authorities) = ([anchor], [authority]);
        let names: [&dyn SignatureVerificationAlgorithm; 2] =
            [&Pss, RSA_PSS_2048_8192_SHA384_LEGACY_KEY];
        let path = leaf.verify_for_usage(&names, &anchors, &authorities, now, usage, None, None);
        match path {
            Ok(_) => return Ok(family),
            Err(webpki::Error::UnknownIssuer) => {}
            Err(error) => last = Some(error),
        }
    }
    let error = last.unwrap_or(webpki::Error::UnknownIssuer);
    Err(QuoteError::Unproven(error.to_string()))
}

/// Whether the certificate names the chip and the versions of the report. Who may ask AMD for
/// certificates of a chip gets them for all versions: the report says which one it was made by.
fn is_about(chip: &x509_cert::Certificate, report: &Report<'_>, versions: Versions) -> bool {
    let extension = |id: ObjectIdentifier| {
        let mut all = chip.tbs_certificate().extensions()?.iter();
        all.find(|one| one.extn_id == id).map(|one| one.extn_value.as_bytes())
    };
    let is_chip = extension(CHIP_ID).is_some_and(|id| report.is_of_chip(id));
    is_chip
        && versions.of(report).iter().all(|(id, version)| {
            extension(*id).is_some_and(|value| value == number(*version).as_slice())
        })
}

/// An ASN.1 INTEGER of one byte of value.
fn number(value: u8) -> Vec<u8> {
    value.to_der().expect("a byte is a number")
}

/// A signature in the form that certificates have.
fn asn1((r, s): &([u8; 48], [u8; 48])) -> Result<Vec<u8>, QuoteError> {
    let pair = [r, s].map(|part| UintRef::new(part));
    let [Ok(r), Ok(s)] = pair else { return Err(QuoteError::Form) };
    vec![r, s].to_der().map_err(|_| QuoteError::Form)
}

/// RSA-PSS with SHA-384. In most certificates AMD writes out the trailer field, which DER leaves out
/// where it has its usual value, so the library does not know that name; what is verified is the same.
#[derive(Debug)]
struct Pss;

const PSS_SHA384: AlgorithmIdentifier = AlgorithmIdentifier::from_slice(&[
    0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x30, 0x39, 0xa0, 0x0f, 0x30,
    0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa1, 0x1c,
    0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, 0x30, 0x0d, 0x06,
    0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xa2, 0x03, 0x02, 0x01,
    0x30, 0xa3, 0x03, 0x02, 0x01, 0x01,
]);

impl SignatureVerificationAlgorithm for Pss {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY.verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        RSA_PSS_2048_8192_SHA384_LEGACY_KEY.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        PSS_SHA384
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURIN: &[u8] = include_bytes!("../tests/data/turin-vcek.der");
    const IN_2026: Timestamp = Timestamp(1_780_000_000_000);

    fn leads(der: &[u8], now: Timestamp) -> Result<usize, QuoteError> {
        let der = CertificateDer::from(der);
        let leaf = EndEntityCert::try_from(&der).unwrap();
        let found = family(&leaf, now)?;
        Ok(FAMILIES.iter().position(|one| std::ptr::eq(one, found)).unwrap())
    }

    #[test]
    fn a_chip_leads_to_the_root_of_its_family() {
        assert_eq!(leads(include_bytes!("../tests/data/milan-vcek.der"), IN_2026), Ok(0));
        assert_eq!(leads(TURIN, IN_2026), Ok(2));
    }

    #[test]
    fn a_certificate_counts_in_its_time_only() {
        let ends = 1_952_370_000_000 + 10_000_000_000;
        assert!(leads(TURIN, Timestamp(ends)).is_err());
        assert!(leads(TURIN, Timestamp(1_700_000_000_000)).is_err());
    }

    #[test]
    fn an_authority_is_no_chip() {
        let der = CertificateDer::from(FAMILIES[0].authority);
        let leaf = EndEntityCert::try_from(&der).unwrap();
        assert!(family(&leaf, IN_2026).is_err());
    }

    #[test]
    fn every_root_has_issued_its_authority_and_no_other() {
        for (n, one) in FAMILIES.iter().enumerate() {
            for (m, other) in FAMILIES.iter().enumerate() {
                let [root, authority] = [one.root, other.authority]
                    .map(|der| x509_cert::Certificate::from_der(der).unwrap());
                let message = authority.tbs_certificate().to_der().unwrap();
                let key = root.tbs_certificate().subject_public_key_info();
                let key = key.subject_public_key.raw_bytes();
                let signature = authority.signature().raw_bytes();
                assert_eq!(Pss.verify_signature(key, &message, signature).is_ok(), n == m);
            }
        }
    }
}
