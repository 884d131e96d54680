mod serve;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use arknet_node::{Config, DataDir, Status};
use arknet_registry::{Listing, RegistryClient};
use arknet_sdk::{keyfile, seeds};
use arknet_types::{
    Endpoint, EntryBody, ModelName, NetworkId, NodeId, Reach, RegistryEntry, RegistryName,
    RegistryWithdrawal, WithdrawalBody, limits::MODELS_PER_OFFER_MAX,
};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    node_api::NodeApi,
    out::{Out, table},
};

/// Entries that are read at most.
const ENTRIES_MAX: usize = 10_000;
/// How long a withdrawal counts: it is told at once.
const WITHDRAWAL_MS: u64 = 60_000;

#[derive(Subcommand)]
pub(crate) enum RegistryCommand {
    /// List the nodes that have entered a registry; each is a stranger until you approve it
    List {
        #[command(flatten)]
        place: Place,
        /// Only those with this model
        #[arg(long)]
        model: Option<ModelName>,
    },
    /// Enter a registry: its visitors see this node's name, key, address and models
    Register(Register),
    /// Run a registry, until interrupted
    Serve(Serve),
    /// Leave a registry
    Unregister {
        #[command(flatten)]
        place: Place,
    },
}

/// Which registry.
#[derive(Args)]
pub(crate) struct Place {
    /// The registry: https://HOST or https://HOST:PORT [default: grid.registry]
    #[arg(long)]
    url: Option<String>,
    /// The certificate it must have, or one that has signed it, in PEM [default:
    /// grid.registry_ca, else any of a public authority]
    #[arg(long)]
    ca: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Register {
    #[command(flatten)]
    place: Place,
    /// Where this node can be reached: 192.0.2.7:26656 or a multiaddr [default: what the running
    /// node knows]
    #[arg(long)]
    endpoint: Option<Endpoint>,
    /// What this node is called there
    #[arg(long)]
    node_id: Option<NodeId>,
    /// A model to be found by; may be given again [default: those of the running node]
    #[arg(long)]
    model: Option<Vec<ModelName>>,
    /// For how long: up to 24h
    #[arg(long = "for", value_parser = crate::key::parse_time, default_value = "24h")]
    lifetime: Duration,
}

#[derive(Args)]
pub(crate) struct Serve {
    /// Address and port [default: 0.0.0.0:8443]
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// A host name under which it is reached; may be given again [default: the address, or localhost]
    #[arg(long)]
    name: Option<Vec<RegistryName>>,
    /// Its certificate in PEM [default: one that signs itself, made at the first start]
    #[arg(long, requires = "key")]
    cert: Option<PathBuf>,
    /// The key of the certificate in PEM
    #[arg(long, requires = "cert")]
    key: Option<PathBuf>,
    /// A file of SQLite, or postgres:// without a password [default: registry.db in the data
    /// directory]
    #[arg(long)]
    database: Option<String>,
}

pub(crate) fn run(
    data: &DataDir,
    config: Config,
    command: RegistryCommand,
    out: &Out,
) -> anyhow::Result<()> {
    match command {
        RegistryCommand::List { place, model } => {
            let client = place.client(data, &config)?;
            let start = None;
            let now = arknet_sdk::now();
            let listing = client.list(model.as_ref(), start, ENTRIES_MAX, now)?;
            out.result(&listing_json(&listing), &listing_text(&listing))
        }
        RegistryCommand::Register(register) => enter(data, &config, register, out),
        RegistryCommand::Serve(flags) => serve::run(data, config, flags, out),
        RegistryCommand::Unregister { place } => leave(data, &config, &place, out),
    }
}

impl Place {
    fn client(&self, data: &DataDir, config: &Config) -> anyhow::Result<RegistryClient> {
        let grid = &config.grid;
        let url = self.url.as_ref().or(grid.registry.as_ref());
        let url = url.context("which registry? Give --url, or registry in [grid]")?;
        let ca = self.ca.as_ref().or(grid.registry_ca.as_ref());
        Ok(RegistryClient::new(url, ca.map(PathBuf::as_path), network(data, config)?)?)
    }
}

/// The network that everything is signed for.
fn network(data: &DataDir, config: &Config) -> anyhow::Result<NetworkId> {
    match &config.mesh.network {
        Some(network) => Ok(network.clone()),
        None => Ok(seeds::load(Some(data.root()))?.chain_id),
    }
}

fn enter(data: &DataDir, config: &Config, asked: Register, out: &Out) -> anyhow::Result<()> {
    let client = asked.place.client(data, config)?;
    let key = keyfile::load_or_create(&data.peer_key())?;
    let status: Option<Status> = match data.running() {
        Some(_) => Some(NodeApi::of(data)?.get("/status")?),
        None => None,
    };
    let endpoint = match asked.endpoint.or_else(|| config.grid.registry_endpoint.clone()) {
        Some(endpoint) => endpoint,
        None => own_endpoint(status.as_ref().map_or(&[], |status| &status.addresses)).context(
            "no address of this node is known that others could use; give one with --endpoint",
        )?,
    };
    let mut models = match asked.model {
        Some(models) => models,
        None => {
            let names = status.iter().flat_map(|status| &status.models);
            names.map(|model| ModelName::new(&*model.name)).collect::<Result<_, _>>()?
        }
    };
    models.sort();
    models.dedup();
    if models.len() > MODELS_PER_OFFER_MAX {
        bail!(
            "{} models where {MODELS_PER_OFFER_MAX} are allowed: choose with --model",
            models.len()
        );
    }
    let node_id = asked.node_id.or_else(|| status.as_ref().map(|status| status.node_id.clone()));
    let node_id = node_id.or_else(|| config.grid.node_id.clone());
    let node_id = node_id.unwrap_or_else(|| NodeId::of("", &key.public()));
    let now = arknet_sdk::now();
    let lifetime_ms = u64::try_from(asked.lifetime.as_millis()).unwrap_or(u64::MAX);
    let entry = RegistryEntry::sign(
        EntryBody {
            network: client.network().clone(),
            registry: client.name().clone(),
            public_key: key.public(),
            node_id,
            endpoint,
            models,
            sequence: now.0,
            issued_at: now,
            expires_at: now.plus_ms(lifetime_ms),
        },
        &key,
    );
    client.register(&entry)?;
    let body = &entry.body;
    let models: Vec<_> = body.models.iter().map(ToString::to_string).collect();
    let rows = [
        vec!["entered".into(), client.name().to_string()],
        vec!["as".into(), body.node_id.to_string()],
        vec!["key".into(), body.public_key.to_string()],
        vec!["endpoint".into(), body.endpoint.to_string()],
        vec!["models".into(), models.join(", ")],
        vec!["until".into(), format!("in {} min", lifetime_ms / 60_000)],
    ];
    out.result(&entry, &table(&rows))
}

fn leave(data: &DataDir, config: &Config, place: &Place, out: &Out) -> anyhow::Result<()> {
    let client = place.client(data, config)?;
    let key = keyfile::load(&data.peer_key())?;
    let now = arknet_sdk::now();
    let body = WithdrawalBody {
        network: client.network().clone(),
        registry: client.name().clone(),
        public_key: key.public(),
        sequence: now.0,
        issued_at: now,
        expires_at: now.plus_ms(WITHDRAWAL_MS),
    };
    client.withdraw(&RegistryWithdrawal::sign(body, &key))?;
    let report = json!({ "registry": client.name(), "withdrawn": true });
    out.result(&report, &format!("{} does not list this node any more", client.name()))
}

/// Of the addresses of a node (each ends in its peer id), the one that most can use.
fn own_endpoint(addresses: &[String]) -> Option<Endpoint> {
    let endpoint = |address: &String| Endpoint::new(address.rsplit_once("/p2p/")?.0).ok();
    let usable = addresses.iter().filter_map(endpoint);
    let usable = usable.filter(|endpoint| endpoint.reach() > Reach::Machine);
    usable.max_by_key(Endpoint::reach)
}

fn listing_json(listing: &Listing) -> serde_json::Value {
    json!({
        "entries": listing.entries,
        "refused": listing.refused,
        "complete": listing.is_complete,
    })
}

fn listing_text(listing: &Listing) -> String {
    let heads = ["NODE", "KEY", "ENDPOINT", "MODELS"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(listing.entries.iter().map(|entry| {
        let body = &entry.body;
        let models: Vec<_> = body.models.iter().map(ToString::to_string).collect();
        vec![
            body.node_id.to_string(),
            body.public_key.to_string(),
            body.endpoint.to_string(),
            if models.is_empty() { "-".into() } else { models.join(", ") },
        ]
    }));
    let mut text = match listing.entries.len() {
        0 => "nobody is listed".into(),
        _ => table(&rows),
    };
    if listing.refused > 0 {
        let refused = listing.refused;
        text += &format!("\n{refused} left out: not what their nodes have signed for here and now");
    }
    if !listing.is_complete {
        text += "\nthere are more";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_most_can_use_is_the_endpoint() {
        let key = "12D3KooWQCkBm1BYtkHpocxCwMgR8yjitEeHGx8spzcDLGt2gkBm";
        let endpoint = |addresses: &[&str]| {
            let of = |address: &&str| format!("{address}/p2p/{key}");
            let addresses: Vec<_> = addresses.iter().map(of).collect();
            own_endpoint(&addresses).map(|endpoint| endpoint.to_string())
        };
        assert_eq!(endpoint(&[]), None);
        assert_eq!(endpoint(&["/ip4/127.0.0.1/tcp/1"]), None);
        let private = "/ip4/192.168.1.2/udp/1/quic-v1";
        assert_eq!(endpoint(&["/ip4/127.0.0.1/tcp/1", private]).as_deref(), Some(private));
        let public = "/ip4/192.0.2.7/tcp/1";
        assert_eq!(endpoint(&[private, public, private]).as_deref(), Some(public));
        let relayed = format!("{public}/p2p/{key}/p2p-circuit");
        assert_eq!(endpoint(&[private, &relayed]), Some(relayed));
    }
}
