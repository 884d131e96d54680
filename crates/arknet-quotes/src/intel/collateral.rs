//! What a quote of Intel is checked with, as it travels in a claim: certificates as DER, each once.

use std::io;

use arknet_chain::limits::COLLATERAL_BYTES_MAX;
use arknet_types::{decode, decode_list, decode_text, encode};
use borsh::{BorshDeserialize, BorshSerialize};
use dcap_qvl::QuoteCollateralV3;
use pem::{EncodeConfig, LineEnding, Pem};

use crate::{
    QuoteError,
    limits::{CERTIFICATE_BYTES_MAX, COLLATERAL_FILE_BYTES_MAX, MACHINE_CERTIFICATES_MAX},
};

const CERTIFICATE: &str = "CERTIFICATE";

#[derive(BorshDeserialize, BorshSerialize)]
pub(super) struct Collateral {
    /// What the root has revoked.
    #[borsh(deserialize_with = "bytes")]
    root_ca_crl: Vec<u8>,
    /// What the authority over machines has revoked.
    #[borsh(deserialize_with = "bytes")]
    pck_crl: Vec<u8>,
    /// Which versions of a machine have which status, and who signed that.
    tcb_info: Signed,
    /// The same of the enclave that makes quotes.
    qe_identity: Signed,
    /// The machine's own certificate and its issuer's, where the quote does not have them.
    #[borsh(deserialize_with = "machine")]
    machine: Vec<Certificate>,
}

/// A document as the vendor wrote it.
#[derive(BorshDeserialize, BorshSerialize)]
struct Signed {
    #[borsh(deserialize_with = "decode_text::<_, COLLATERAL_BYTES_MAX>")]
    text: String,
    signature: [u8; 64],
    /// The signer's certificate, which the root has issued.
    signer: Certificate,
}

#[derive(BorshDeserialize, BorshSerialize)]
struct Certificate(
    #[borsh(deserialize_with = "decode_list::<_, u8, CERTIFICATE_BYTES_MAX>")] Vec<u8>,
);

fn bytes<R: io::Read>(reader: &mut R) -> io::Result<Vec<u8>> {
    decode_list::<_, u8, COLLATERAL_BYTES_MAX>(reader)
}

fn machine<R: io::Read>(reader: &mut R) -> io::Result<Vec<Certificate>> {
    decode_list::<_, Certificate, MACHINE_CERTIFICATES_MAX>(reader)
}

impl Collateral {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, QuoteError> {
        decode(bytes).map_err(|_| QuoteError::Collateral)
    }

    /// In the form of the library. It takes chains without the root, which it has, and does not
    /// look at the issuers of revocations apart from the machine's chain.
    pub(super) fn unpack(self) -> QuoteCollateralV3 {
        let machine = &self.machine;
        QuoteCollateralV3 {
            pck_crl_issuer_chain: String::new(),
            root_ca_crl: self.root_ca_crl,
            pck_crl: self.pck_crl,
            tcb_info_issuer_chain: to_pem(std::slice::from_ref(&self.tcb_info.signer)),
            tcb_info: self.tcb_info.text,
            tcb_info_signature: self.tcb_info.signature.to_vec(),
            qe_identity_issuer_chain: to_pem(std::slice::from_ref(&self.qe_identity.signer)),
            qe_identity: self.qe_identity.text,
            qe_identity_signature: self.qe_identity.signature.to_vec(),
            pck_certificate_chain: (!machine.is_empty()).then(|| to_pem(machine)),
        }
    }
}

/// From the JSON that tools for DCAP write.
pub(crate) fn pack(json: &[u8]) -> Result<Vec<u8>, QuoteError> {
    if json.len() > COLLATERAL_FILE_BYTES_MAX {
        return Err(QuoteError::Size);
    }
    let json: QuoteCollateralV3 =
        serde_json::from_slice(json).map_err(|_| QuoteError::Collateral)?;
    let signed = |text, signature: Vec<u8>, chain: &str| {
        let mut chain = from_pem(chain)?;
        if chain.is_empty() {
            return Err(QuoteError::Collateral);
        }
        let signature = signature.try_into().map_err(|_| QuoteError::Collateral)?;
        Ok(Signed { text, signature, signer: chain.swap_remove(0) })
    };
    let mut machine = match &json.pck_certificate_chain {
        Some(chain) => from_pem(chain)?,
        None => Vec::new(),
    };
    // The root comes last, and is known.
    machine.truncate(MACHINE_CERTIFICATES_MAX);
    let collateral = Collateral {
        root_ca_crl: json.root_ca_crl,
        pck_crl: json.pck_crl,
        tcb_info: signed(json.tcb_info, json.tcb_info_signature, &json.tcb_info_issuer_chain)?,
        qe_identity: signed(
            json.qe_identity,
            json.qe_identity_signature,
            &json.qe_identity_issuer_chain,
        )?,
        machine,
    };
    Ok(encode(&collateral))
}

fn to_pem(certificates: &[Certificate]) -> String {
    let blocks: Vec<_> =
        certificates.iter().map(|one| Pem::new(CERTIFICATE, one.0.as_slice())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}

fn from_pem(chain: &str) -> Result<Vec<Certificate>, QuoteError> {
    let blocks = pem::parse_many(chain).map_err(|_| QuoteError::Collateral)?;
    Ok(blocks.into_iter().map(|one| Certificate(one.into_contents())).collect())
}
