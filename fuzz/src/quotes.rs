//! Quotes of enclaves, and what they are checked with.

use arknet_chain::{TeeClaim, TeePlatform};
use arknet_quotes::{check, pack_collateral};
use arknet_types::{PublicKey, Timestamp};

use crate::{Decoder, decoders::costly};

/// A real quote, its collateral as people have it, and a time at which both counted.
struct Sample {
    platform: TeePlatform,
    quote: &'static [u8],
    collateral: &'static [u8],
}

/// 2025-07-01.
const NOW: Timestamp = Timestamp(1_751_328_000_000);

const SGX: Sample = Sample {
    platform: TeePlatform::Sgx,
    quote: include_bytes!("../../crates/arknet-quotes/tests/data/sgx.quote"),
    collateral: include_bytes!("../../crates/arknet-quotes/tests/data/sgx.json"),
};
const TDX: Sample = Sample {
    platform: TeePlatform::Tdx,
    quote: include_bytes!("../../crates/arknet-quotes/tests/data/tdx.quote"),
    collateral: include_bytes!("../../crates/arknet-quotes/tests/data/tdx.json"),
};
const SEV_SNP: Sample = Sample {
    platform: TeePlatform::SevSnp,
    quote: include_bytes!("../../crates/arknet-quotes/tests/data/milan.report"),
    collateral: include_bytes!("../../crates/arknet-quotes/tests/data/milan-vcek.der"),
};

pub(crate) fn decoders() -> Vec<Decoder> {
    let quote = |sample: &Sample| vec![sample.quote.to_vec()];
    let packed = |sample: &Sample| vec![sample.packed()];
    vec![
        costly("Quote (SGX)", quote(&SGX), 100, |bytes| SGX.with_quote(bytes)),
        costly("Quote (TDX)", quote(&TDX), 100, |bytes| TDX.with_quote(bytes)),
        costly("Quote (SEV-SNP)", quote(&SEV_SNP), 100, |bytes| SEV_SNP.with_quote(bytes)),
        costly("Collateral (SGX)", packed(&SGX), 100, |bytes| SGX.with_collateral(bytes)),
        costly("Collateral (TDX)", packed(&TDX), 100, |bytes| TDX.with_collateral(bytes)),
        costly("Collateral (SEV-SNP)", packed(&SEV_SNP), 100, |b| SEV_SNP.with_collateral(b)),
    ]
}

impl Sample {
    fn packed(&self) -> Vec<u8> {
        pack_collateral(self.platform, self.collateral).expect("good collateral")
    }

    fn with_quote(&self, quote: &[u8]) -> bool {
        self.counts(quote.to_vec(), self.packed())
    }

    fn with_collateral(&self, collateral: &[u8]) -> bool {
        self.counts(self.quote.to_vec(), collateral.to_vec())
    }

    fn counts(&self, quote: Vec<u8>, collateral: Vec<u8>) -> bool {
        let claim =
            TeeClaim { platform: self.platform, key: PublicKey([7; 32]), quote, collateral };
        check(&claim, NOW).is_ok()
    }
}
