//! Enclaves.

use std::path::PathBuf;

use anyhow::bail;
use arknet_quotes::limits::COLLATERAL_FILE_BYTES_MAX;
use arknet_sdk::{
    chain::{
        Action,
        ledger::{
            TeeClaim, TeePlatform,
            limits::QUOTE_BYTES_MAX,
            rpc::{HexBytes, HexKey},
        },
    },
    keyfile,
};
use arknet_types::{Address, PublicKey};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{Home, Order, SendFlags, begin, parse_key, read_file};
use crate::out::Out;

#[derive(Subcommand)]
pub(crate) enum TeeCommand {
    /// Make the key of an enclave, and print what its quote must say
    Keygen {
        /// Where it is kept [default: enclave.key in the data directory]
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Register an enclave by its vendor's quote over its key and this wallet
    Register(Register),
}

#[derive(Args)]
pub(crate) struct Register {
    /// The vendor's technology
    #[arg(long)]
    platform: Platform,
    /// The quote, as the enclave gave it
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// What the quote is checked with: for Intel the JSON that tools for DCAP write, for AMD the
    /// certificate of the chip (VCEK)
    #[arg(long, value_name = "FILE")]
    collateral: PathBuf,
    /// The enclave's key [default: of enclave.key in the data directory]
    #[arg(long, value_parser = parse_key)]
    key: Option<PublicKey>,
    #[command(flatten)]
    send: SendFlags,
}

#[derive(Clone, Copy, ValueEnum)]
enum Platform {
    /// Intel TDX
    Tdx,
    /// Intel SGX
    Sgx,
    /// AMD SEV-SNP
    SevSnp,
}

pub(crate) fn run(home: Home<'_>, command: TeeCommand, out: &Out) -> anyhow::Result<()> {
    match command {
        TeeCommand::Keygen { file } => {
            let path = file.unwrap_or_else(|| home.data.enclave_key());
            let owner = crate::wallet::load(home.data)?.address();
            let key = keyfile::generate()?;
            keyfile::create(&path, &key)?;
            let report_data = report_data(&key.public(), &owner);
            let public = String::from(HexKey(key.public()));
            let report_data = String::from(HexBytes(report_data.to_vec()));
            let report = json!({ "path": path, "key": public, "report_data": report_data });
            let path = path.display();
            let text =
                format!("file         {path}\nkey          {public}\nreport data  {report_data}");
            out.result(&report, &text)
        }
        TeeCommand::Register(register) => {
            let Register { platform, quote, collateral, key, send } = register;
            let platform = match platform {
                Platform::Tdx => TeePlatform::Tdx,
                Platform::Sgx => TeePlatform::Sgx,
                Platform::SevSnp => TeePlatform::SevSnp,
            };
            let key = match key {
                Some(key) => key,
                None => keyfile::load(&home.data.enclave_key())?.public(),
            };
            let quote = read_file(&quote, QUOTE_BYTES_MAX)?;
            let collateral = read_file(&collateral, COLLATERAL_FILE_BYTES_MAX)?;
            let collateral = arknet_quotes::pack_collateral(platform, &collateral)?;
            let claim = TeeClaim { platform, key, quote, collateral };
            // The ledger would find the same, and take the fee.
            let facts = arknet_quotes::check(&claim, arknet_sdk::now())?;
            let (mut desk, wallet, send) = begin(home, send, false, out)?;
            let expected = report_data(&key, &wallet.address());
            if facts.report_data != expected {
                bail!(
                    "the quote says {}, and must say {}: this key and this wallet",
                    String::from(HexBytes(facts.report_data.to_vec())),
                    String::from(HexBytes(expected.to_vec())),
                );
            }
            let public = String::from(HexKey(key));
            let order = Order {
                action: Action::RegisterTee(Box::new(claim)),
                question: None,
                done: format!("the enclave with key {public} is registered"),
                more: json!({ "key": public }),
            };
            desk.act(&wallet, &send, order)
        }
    }
}

/// What a quote must say: the key, the account, and nothing.
fn report_data(key: &PublicKey, owner: &Address) -> [u8; 64] {
    let mut data = [0; 64];
    data[..32].copy_from_slice(&key.0);
    data[32..52].copy_from_slice(&owner.0);
    data
}
