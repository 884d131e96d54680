//! Checks the quotes of enclaves to the roots of their vendors, as `spec/chain.md` has it.
//!
//! What is said of a claim depends on the claim and the block's time alone: the roots are in the
//! program, revocations and versions travel in the claim, and nothing here reads a clock, a file or
//! the network. All who check a block must come to the same result, so the versions of the libraries
//! that decide are part of the rules: another one is a new version of the chain's software.

mod amd;
mod error;
mod intel;
pub mod limits;

use arknet_chain::{
    QuoteFacts, QuoteVerifier, TeeClaim, TeePlatform,
    limits::{COLLATERAL_BYTES_MAX, QUOTE_BYTES_MAX},
};
use arknet_types::Timestamp;

pub use self::error::QuoteError;

/// Takes quotes that lead to Intel's root or to one of AMD's.
#[derive(Clone, Copy, Debug, Default)]
pub struct VendorRoots;

impl QuoteVerifier for VendorRoots {
    fn verify(&self, claim: &TeeClaim, now: Timestamp) -> Option<QuoteFacts> {
        check(claim, now).ok()
    }
}

/// What the quote of a claim says, or why it does not count at `now`.
pub fn check(claim: &TeeClaim, now: Timestamp) -> Result<QuoteFacts, QuoteError> {
    let TeeClaim { platform, quote, collateral, .. } = claim;
    if quote.len() > QUOTE_BYTES_MAX || collateral.len() > COLLATERAL_BYTES_MAX {
        return Err(QuoteError::Size);
    }
    match platform {
        TeePlatform::Tdx | TeePlatform::Sgx => intel::check(*platform, quote, collateral, now),
        TeePlatform::SevSnp => amd::check(quote, collateral, now),
    }
}

/// Brings what people have to check a quote with into the form of a claim: for Intel the JSON that
/// tools for DCAP write (`QuoteCollateralV3`), for AMD the certificate of the chip, as DER or PEM.
pub fn pack_collateral(platform: TeePlatform, file: &[u8]) -> Result<Vec<u8>, QuoteError> {
    let packed = match platform {
        TeePlatform::Tdx | TeePlatform::Sgx => intel::pack(file)?,
        TeePlatform::SevSnp => amd::pack(file)?,
    };
    if packed.len() > COLLATERAL_BYTES_MAX { Err(QuoteError::Size) } else { Ok(packed) }
}
