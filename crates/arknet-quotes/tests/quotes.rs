//! Real quotes, at a time when their collateral counted. Where they are from: `tests/data/README.md`.

use arknet_chain::{
    QuoteFacts, QuoteVerifier, TcbStatus, TeeClaim, TeePlatform,
    limits::{COLLATERAL_BYTES_MAX, QUOTE_BYTES_MAX},
};
use arknet_quotes::{QuoteError, VendorRoots, check, pack_collateral};
use arknet_types::{PublicKey, Timestamp};

/// 2025-07-01.
const SUMMER: Timestamp = Timestamp(1_751_328_000_000);
/// 2026-03-01.
const MARCH: Timestamp = Timestamp(1_772_323_200_000);
/// 2026-10-20.
const AUTUMN: Timestamp = Timestamp(1_792_454_400_000);
/// Cases of the random test for each quote.
const CASES: u64 = 200;
/// Every so manieth byte is changed: each change is a whole check.
const STRIDE: usize = 17;

fn claim(platform: TeePlatform, quote: &[u8], collateral: &[u8]) -> TeeClaim {
    let collateral = pack_collateral(platform, collateral).expect("good collateral");
    TeeClaim { platform, key: PublicKey([7; 32]), quote: quote.to_vec(), collateral }
}

fn sgx() -> TeeClaim {
    let files = (include_bytes!("data/sgx.quote"), include_bytes!("data/sgx.json"));
    claim(TeePlatform::Sgx, files.0, files.1)
}

fn tdx() -> TeeClaim {
    let files = (include_bytes!("data/tdx.quote"), include_bytes!("data/tdx.json"));
    claim(TeePlatform::Tdx, files.0, files.1)
}

fn tdx_1_5() -> TeeClaim {
    let files = (include_bytes!("data/tdx15.quote"), include_bytes!("data/tdx15.json"));
    claim(TeePlatform::Tdx, files.0, files.1)
}

fn outdated() -> TeeClaim {
    let files =
        (include_bytes!("data/tdx-outdated.quote"), include_bytes!("data/tdx-outdated.json"));
    claim(TeePlatform::Tdx, files.0, files.1)
}

fn milan() -> TeeClaim {
    let files = (include_bytes!("data/milan.report"), include_bytes!("data/milan-vcek.der"));
    claim(TeePlatform::SevSnp, files.0, files.1)
}

fn all() -> [(TeeClaim, Timestamp); 4] {
    [(sgx(), SUMMER), (tdx(), SUMMER), (tdx_1_5(), AUTUMN), (milan(), SUMMER)]
}

/// What a claim says with another quote.
fn of_quote(claim: &TeeClaim, now: Timestamp, quote: Vec<u8>) -> Result<QuoteFacts, QuoteError> {
    check(&TeeClaim { quote, ..claim.clone() }, now)
}

/// What a claim says with other collateral.
fn of_collateral(
    claim: &TeeClaim,
    now: Timestamp,
    collateral: Vec<u8>,
) -> Result<QuoteFacts, QuoteError> {
    check(&TeeClaim { collateral, ..claim.clone() }, now)
}

/// With one bit changed, another one in each byte.
fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

#[test]
fn true_quotes_count_while_their_collateral_does() {
    let statuses = [
        TcbStatus::ConfigurationAndSwHardeningNeeded,
        TcbStatus::UpToDate,
        TcbStatus::UpToDate,
        TcbStatus::Unrated,
    ];
    for ((claim, now), status) in all().into_iter().zip(statuses) {
        let facts = check(&claim, now).unwrap();
        assert_eq!(facts.tcb, status);
        assert!(facts.expires_at > now && facts.expires_at < now.plus_ms(31 * 24 * 3_600_000));
        assert_eq!(VendorRoots.verify(&claim, now), Some(facts));
    }
}

#[test]
fn what_a_quote_says_is_what_the_vendor_signed() {
    let facts = check(&sgx(), SUMMER).unwrap();
    assert_eq!(facts.report_data[..13], *b"Hello, world!");
    // MRENCLAVE as it is.
    assert_eq!(facts.measurement.0, sgx().quote[112..144]);
    // The report follows 48 bytes of header, and its data comes last.
    assert_eq!(check(&tdx(), SUMMER).unwrap().report_data, tdx().quote[48 + 520..48 + 584]);
    assert_eq!(check(&milan(), SUMMER).unwrap().report_data, milan().quote[0x50..0x90]);
}

#[test]
fn another_key_in_the_report_data_breaks_the_signature() {
    for (at, (claim, now)) in [48 + 320, 48 + 520, 54 + 520, 0x50].into_iter().zip(all()) {
        let mut quote = claim.quote.clone();
        quote[at..at + 32].copy_from_slice(&claim.key.0);
        assert!(matches!(of_quote(&claim, now, quote), Err(QuoteError::Unproven(_))));
    }
}

#[test]
fn collateral_counts_in_its_time_only() {
    for (claim, now) in all() {
        // What Intel's expires is all that is checked; AMD's certificate goes on for years.
        if claim.platform == TeePlatform::SevSnp {
            continue;
        }
        let ends = check(&claim, now).unwrap().expires_at;
        assert!(check(&claim, Timestamp(ends.0 - 1_000)).is_ok());
        assert!(matches!(check(&claim, ends.plus_ms(1_000)), Err(QuoteError::Unproven(_))));
        let before = Timestamp(ends.0 - 32 * 24 * 3_600_000);
        assert!(matches!(check(&claim, before), Err(QuoteError::Unproven(_))));
    }
    let year_ms = 365 * 24 * 3_600_000;
    assert!(check(&milan(), SUMMER.plus_ms(4 * year_ms)).is_ok());
    assert!(check(&milan(), SUMMER.plus_ms(5 * year_ms)).is_err());
    assert!(check(&milan(), Timestamp(SUMMER.0 - 3 * year_ms)).is_err());
}

#[test]
fn no_bit_of_collateral_can_be_changed() {
    for (claim, now) in all() {
        for at in (0..claim.collateral.len()).step_by(STRIDE) {
            let bad = flipped(&claim.collateral, at);
            assert!(of_collateral(&claim, now, bad).is_err(), "{:?} {at}", claim.platform);
        }
    }
}

#[test]
fn no_bit_of_a_quote_can_be_changed_that_means_something() {
    // Behind the signatures of Intel's come certificates as text, which are signed, and line ends,
    // a copy of the root and zeros, which say nothing.
    let ends = [48 + 384 + 4 + 576, 48 + 584, 54 + 648, 1_184];
    for ((claim, now), end) in all().into_iter().zip(ends) {
        let good = check(&claim, now);
        for at in (0..claim.quote.len()).step_by(STRIDE) {
            let said = of_quote(&claim, now, flipped(&claim.quote, at));
            assert!(said.is_err() || (at >= end && said == good), "{:?} {at}", claim.platform);
        }
    }
}

#[test]
fn a_machine_without_its_fixes_does_not_count() {
    let error = check(&outdated(), MARCH).unwrap_err();
    assert!(error.to_string().contains("No matching TCB level"), "{error}");
}

#[test]
fn a_quote_is_of_the_platform_that_the_claim_names() {
    let swapped = TeeClaim { platform: TeePlatform::Tdx, ..sgx() };
    assert_eq!(check(&swapped, SUMMER), Err(QuoteError::Form));
    let swapped = TeeClaim { platform: TeePlatform::Sgx, ..tdx() };
    assert_eq!(check(&swapped, SUMMER), Err(QuoteError::Form));
    let swapped = TeeClaim { platform: TeePlatform::SevSnp, ..tdx() };
    assert_eq!(check(&swapped, SUMMER), Err(QuoteError::Form));
    let swapped = TeeClaim { platform: TeePlatform::Sgx, ..milan() };
    assert_eq!(check(&swapped, SUMMER), Err(QuoteError::Collateral));
}

#[test]
fn collateral_is_of_the_machine_of_the_quote() {
    let swapped = TeeClaim { collateral: tdx().collateral, ..sgx() };
    assert!(matches!(check(&swapped, SUMMER), Err(QuoteError::Unproven(_))));
    let turin = include_bytes!("data/turin-vcek.der");
    assert!(matches!(
        of_collateral(&milan(), SUMMER, turin.to_vec()),
        Err(QuoteError::Unproven(_))
    ));
    let authority = include_bytes!("../roots/milan-ask.der");
    assert!(of_collateral(&milan(), SUMMER, authority.to_vec()).is_err());
}

#[test]
fn what_is_too_large_is_not_read() {
    for (claim, now) in all() {
        let large = vec![0; QUOTE_BYTES_MAX + 1];
        assert_eq!(of_quote(&claim, now, large), Err(QuoteError::Size));
        let large = vec![0; COLLATERAL_BYTES_MAX + 1];
        assert_eq!(of_collateral(&claim, now, large), Err(QuoteError::Size));
    }
}

#[test]
fn collateral_is_packed_from_what_people_have() {
    let intel = pack_collateral(TeePlatform::Tdx, include_bytes!("data/tdx15.json")).unwrap();
    assert_eq!(intel, tdx_1_5().collateral);
    assert!(intel.len() < 14 * 1024, "{}", intel.len());
    for junk in [&b""[..], b"{}", b"no collateral", &[0xff; 64]] {
        for platform in [TeePlatform::Tdx, TeePlatform::Sgx, TeePlatform::SevSnp] {
            assert_eq!(pack_collateral(platform, junk), Err(QuoteError::Collateral));
        }
    }
    let der = include_bytes!("data/milan-vcek.der");
    let text = pem_of(der);
    assert_eq!(pack_collateral(TeePlatform::SevSnp, text.as_bytes()).unwrap(), der);
}

fn pem_of(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE", der))
}

#[test]
fn chance_breaks_nothing_and_proves_nothing() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % end.max(1)
    };
    for (claim, now) in all() {
        let good = check(&claim, now);
        for _ in 0..CASES {
            let mut bad = claim.clone();
            let in_quote = below(2) == 0;
            let bytes = if in_quote { &mut bad.quote } else { &mut bad.collateral };
            for _ in 0..=below(3) {
                let at = below(bytes.len());
                match below(6) {
                    0 => bytes.truncate(at),
                    1 => bytes.insert(at, u8::try_from(below(256)).unwrap()),
                    2 => drop(bytes.drain(at..bytes.len().min(at + 1 + below(64)))),
                    3 => bytes.extend_from_within(at..),
                    _ if bytes.is_empty() => {}
                    4 => bytes[at] = [0, 1, 0x30, 0x7f, 0x80, 0x84, 0xff][below(7)],
                    _ => bytes[at] ^= 1 << below(8),
                }
            }
            let (is_changed, said) = (bad != claim, check(&bad, now));
            assert!(said == good || said.is_err(), "{bad:?}");
            assert!(in_quote || !is_changed || said.is_err(), "{bad:?}");
        }
    }
}
