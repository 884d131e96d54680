//! Models on the ledger.

use anyhow::{Context, bail};
use arknet_node::ModelStore;
use arknet_sdk::chain::{
    Action,
    ledger::{
        ModelFacts, Param,
        limits::{LICENCE_BYTES_MAX, MIRROR_BYTES_MAX, MIRRORS_MAX},
    },
};
use arknet_types::{ModelDigest, ModelName};
use clap::Args;
use serde_json::json;

use super::{Home, Order, SendFlags, amount::show, begin};
use crate::out::Out;

#[derive(Args)]
pub(crate) struct Register {
    /// Its name
    name: ModelName,
    /// Its licence, as SPDX names it: Apache-2.0
    #[arg(long)]
    licence: String,
    /// Where it can be had; may be given again
    #[arg(long, value_name = "URL")]
    mirror: Vec<String>,
    /// The SHA-256 of its file [default: of the model of that name on this machine]
    #[arg(long, requires = "size")]
    digest: Option<ModelDigest>,
    /// Bytes of its file
    #[arg(long, requires = "digest")]
    size: Option<u64>,
    #[command(flatten)]
    send: SendFlags,
}

#[derive(Args)]
pub(crate) struct Deregister {
    /// The SHA-256 of its file
    digest: ModelDigest,
    #[command(flatten)]
    send: SendFlags,
}

pub(crate) fn register(home: Home<'_>, register: Register, out: &Out) -> anyhow::Result<()> {
    let Register { name, licence, mirror: mirrors, digest, size, send } = register;
    if licence.is_empty() || licence.len() > LICENCE_BYTES_MAX {
        bail!("a licence's name has 1 to {LICENCE_BYTES_MAX} bytes");
    }
    if mirrors.len() > MIRRORS_MAX || mirrors.iter().any(|url| url.len() > MIRROR_BYTES_MAX) {
        bail!("up to {MIRRORS_MAX} mirrors of {MIRROR_BYTES_MAX} bytes each");
    }
    let (digest, size_bytes) = match digest.zip(size) {
        Some(given) => given,
        None => {
            let entry = ModelStore::open(home.data.models())?.get(&name);
            let entry = entry.context("give --digest and --size of a model that is not here")?;
            (entry.digest, entry.bytes)
        }
    };
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let deposit = desk.runtime.block_on(desk.chain.params())?.atoms(Param::ModelDeposit);
    let facts = ModelFacts { digest, name: name.clone(), size_bytes, mirrors, licence };
    let order = Order {
        action: Action::RegisterModel(Box::new(facts)),
        question: Some(format!(
            "Register {name} as {digest} with a deposit of {}, which is burned if a vote throws it \
             out.",
            show(deposit)
        )),
        done: format!("registered {name} as {digest}"),
        more: json!({ "model": digest }),
    };
    desk.act(&wallet, &send, order)
}

pub(crate) fn deregister(home: Home<'_>, order: Deregister, out: &Out) -> anyhow::Result<()> {
    let Deregister { digest, send } = order;
    let (mut desk, wallet, send) = begin(home, send, true, out)?;
    let order = Order {
        action: Action::DeregisterModel(digest),
        question: Some(format!("Take {digest} back.")),
        done: format!("{digest} is not registered any more"),
        more: json!({ "model": digest }),
    };
    desk.act(&wallet, &send, order)
}
