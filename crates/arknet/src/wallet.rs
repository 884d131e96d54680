use arknet_node::DataDir;
use arknet_sdk::{keyfile, wallet::Wallet};
use serde_json::json;

use crate::{cli::WalletCommand, ledger, out::Out};

/// The wallet of a data directory.
pub(crate) fn load(data: &DataDir) -> anyhow::Result<Wallet> {
    let path = data.wallet();
    Wallet::load_from(&path).map_err(|error| {
        let missing = !path.exists();
        let error = anyhow::Error::from(error);
        if missing {
            error.context("no wallet yet; make one with: arknet wallet create")
        } else {
            error
        }
    })
}

pub(crate) fn run(home: ledger::Home<'_>, command: WalletCommand, out: &Out) -> anyhow::Result<()> {
    let path = home.data.wallet();
    let wallet = match command {
        WalletCommand::Account(command) => return ledger::run_wallet(home, command, out),
        WalletCommand::Address => load(home.data)?,
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
