use arknet_node::DataDir;
use arknet_sdk::{keyfile, wallet::Wallet};
use serde_json::json;

use crate::{cli::WalletCommand, out::Out};

pub(crate) fn run(data: &DataDir, command: WalletCommand, out: &Out) -> anyhow::Result<()> {
    let path = data.wallet();
    let wallet = match command {
        WalletCommand::Address => Wallet::load_from(&path).map_err(|error| {
            let missing = !path.exists();
            let error = anyhow::Error::from(error);
            if missing {
                error.context("no wallet yet; make one with: arknet wallet create")
            } else {
                error
            }
        })?,
        WalletCommand::Create => {
            let wallet = Wallet::create();
            keyfile::create(&path, wallet.key())?;
            out.note(&format!(
                "Wallet saved at {}. Keep a copy: nobody can restore it.",
                path.display()
            ));
            wallet
        }
    };
    let address = wallet.address().to_string();
    out.result(&json!({ "address": address, "path": path }), &address)
}
