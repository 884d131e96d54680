//! The command line as it is typed.

use std::{net::SocketAddr, path::PathBuf};

use arknet_node::{Overrides, Role};
use arknet_types::{ModelDigest, ModelName};
use clap::{Args, Parser, Subcommand};

/// Use AI models on machines of your own and of others: privately, checkably.
#[derive(Parser)]
#[command(name = "arknet", version, propagate_version = true)]
pub(crate) struct Arguments {
    /// Directory of keys, models and configuration [default: ~/.arknet]
    #[arg(long, global = true, env = "ARKNET_HOME", hide_env_values = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file [default: arknet.toml in the data directory]
    #[arg(long, global = true, env = "ARKNET_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to log to standard error: error, warn, info, debug, or by module (arknet_mesh=debug)
    #[arg(long, global = true, env = "ARKNET_LOG", hide_env_values = true)]
    pub(crate) log: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Ask a model a question and stream its answer
    Ask(Ask),
    /// Check, show and export the log of what other peers asked
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Measure servers as their users see them
    Bench(crate::bench::BenchArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Ask the ledger: its blocks, transactions, validators and parameters
    Chain {
        #[command(subcommand)]
        command: crate::ledger::ChainCommand,
    },
    /// Open, fill, settle and close payment channels
    Channel {
        #[command(subcommand)]
        command: crate::ledger::ChannelCommand,
    },
    /// Check or show the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the address of this node's page, with the token to change things there
    Console(Console),
    /// Lock money for one job, pay for it or take it back
    Escrow {
        #[command(subcommand)]
        command: crate::ledger::EscrowCommand,
    },
    /// Write what a new chain begins with
    Genesis {
        #[command(subcommand)]
        command: crate::ledger::GenesisCommand,
    },
    /// Propose changes to those who have stake, and vote on them
    Governance {
        #[command(subcommand)]
        command: crate::ledger::GovernanceCommand,
    },
    /// Make keys and a commented configuration file
    Init,
    /// Create, list and revoke API keys of the gateway
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Add, list, remove and verify models on this machine, and register them on the ledger
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
    /// List, approve and revoke peers of the running node
    Peers {
        #[command(subcommand)]
        command: Option<PeersCommand>,
    },
    /// Run the public directory of nodes, enter it, leave it, or read it
    Registry {
        #[command(subcommand)]
        command: crate::registry::RegistryCommand,
    },
    /// Run a node: serve models, and the API for your apps, until interrupted
    Start(Start),
    /// Show what the running node is doing
    Status,
    /// Make and register keys of enclaves
    Tee {
        #[command(subcommand)]
        command: crate::ledger::TeeCommand,
    },
    /// Keep the keys of services whose models this node serves
    Upstream {
        #[command(subcommand)]
        command: UpstreamCommand,
    },
    /// Make the key that a validator votes with
    Validator {
        #[command(subcommand)]
        command: crate::ledger::ValidatorCommand,
    },
    /// Make a WireGuard tunnel to machines elsewhere, let them in, or join theirs
    Vpn(crate::vpn::Vpn),
    /// Make a wallet, show what it has, send and stake
    Wallet {
        #[command(subcommand)]
        command: WalletCommand,
    },
}

#[derive(Args)]
pub(crate) struct Ask {
    /// What to ask; - reads it from standard input
    pub(crate) prompt: String,
    /// Which model; the first one there is when not given
    #[arg(long, short)]
    pub(crate) model: Option<ModelName>,
    /// Tokens to generate at most
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_tokens: u32,
    /// How varied: 0 always takes the likeliest token
    #[arg(long)]
    pub(crate) temperature: Option<f32>,
    /// What the model should know before the question
    #[arg(long)]
    pub(crate) system: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Print what was asked: JSON lines with --json, else a table with commas (CSV)
    Export {
        /// Copies of the log, oldest first [default: the log of this node]
        files: Vec<PathBuf>,
        /// From when on: 12h or 30d back, or a date (2026-11-30)
        #[arg(long, value_parser = crate::audit::parse_since)]
        since: Option<String>,
        /// What one peer asked: its peer id, or what it is called here
        #[arg(long)]
        peer: Option<String>,
        /// What was asked of one model
        #[arg(long)]
        model: Option<String>,
    },
    /// Show the last lines
    Tail {
        /// How many
        #[arg(long, short = 'n', default_value_t = 20)]
        lines: usize,
    },
    /// Find any line that was changed, taken out, put in or moved, and a missing end
    Verify {
        /// Copies of the log, oldest first [default: the log of this node]
        files: Vec<PathBuf>,
        /// The number of the first line there should be; older files were put away [default: 0 for
        /// the log of this node, any for copies]
        #[arg(long)]
        from: Option<u64>,
        /// A line that was noted before, as arknet status shows it; may be given again
        #[arg(long, value_name = "NUMBER:HASH")]
        head: Vec<arknet_node::audit::Head>,
    },
}

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration file and say what is wrong with it
    Check,
    /// Print every effective value and where it comes from
    Show,
}

#[derive(Args)]
pub(crate) struct Console {
    /// Open it in the browser
    #[arg(long)]
    pub(crate) open: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a key and print it: the only time it can be seen
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// The models it is for, separated by commas [default: all]
        #[arg(long, value_delimiter = ',')]
        models: Option<Vec<ModelName>>,
        /// Requests in a minute
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        requests_per_minute: Option<u32>,
        /// Tokens, of questions and answers, in a day of UTC
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        tokens_per_day: Option<u64>,
        /// After what time it ends: 12h, 30d, 8w [default: never]
        #[arg(long, value_parser = crate::key::parse_time)]
        expires: Option<std::time::Duration>,
    },
    /// List the keys
    List,
    /// End a key
    Revoke {
        /// What it is called
        name: String,
    },
}

#[derive(Args)]
pub(crate) struct Add {
    /// A path or a URL
    pub(crate) source: String,
    /// What to call it; the name inside the file when not given
    #[arg(long)]
    pub(crate) name: Option<ModelName>,
    /// Its projector (mmproj), with which it takes pictures: a path or a URL
    #[arg(long, value_name = "SOURCE")]
    pub(crate) projector: Option<String>,
    /// The SHA-256 it must have
    #[arg(long)]
    pub(crate) sha256: Option<ModelDigest>,
    /// The SHA-256 its projector must have
    #[arg(long, requires = "projector", value_name = "SHA256")]
    pub(crate) projector_sha256: Option<ModelDigest>,
    /// Accept downloads whose SHA-256 was not given
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Subcommand)]
pub(crate) enum ModelCommand {
    /// Add a GGUF file, or fetch one from an http(s) URL
    Add(Add),
    /// Take a model back that this wallet has registered on the ledger
    Deregister(Box<crate::ledger::Deregister>),
    /// List the models on this machine
    List,
    /// Have the running node fetch a model from the peers that hand it over
    Pull {
        /// Its name
        name: String,
        /// From this peer alone: its key, or its node_id if it is approved
        #[arg(long)]
        from: Option<String>,
    },
    /// Say on the ledger what a model's file is, with a deposit
    Register(Box<crate::ledger::Register>),
    /// Remove a model
    Remove {
        /// Its name
        name: ModelName,
    },
    /// Hash a model's file again and compare
    Verify {
        /// Its name; all models when not given
        name: Option<ModelName>,
    },
}

#[derive(Subcommand)]
pub(crate) enum PeersCommand {
    /// Let a peer use models of this node; the running node asks it in turn
    Approve {
        /// What it calls itself (node_id), or its key: peer id, base64 or hex
        peer: String,
        /// What you call it
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        permissions: PermissionFlags,
        /// Do not ask whether the fingerprint is right
        #[arg(long, short)]
        yes: bool,
    },
    /// List the peers that were seen
    Discovered,
    /// Say what the reputation of a peer is made of
    Explain {
        /// Its key, or its node_id if it is approved
        peer: String,
    },
    /// Change what an approved peer may do; what is not given stays
    Limit {
        /// Its node_id, its name here, or its key
        peer: String,
        #[command(flatten)]
        permissions: PermissionFlags,
    },
    /// List the peers the running node knows, with what they serve
    List,
    /// List the peers that were seen or have asked, and are not approved
    Pending,
    /// End what a peer may do, and what it does here now
    Revoke {
        /// Its node_id, its name here, or its key
        peer: String,
    },
    /// Show the approved peers and what they do
    Status,
}

/// What a peer may do.
#[derive(Args)]
pub(crate) struct PermissionFlags {
    /// A model it may use; may be given again
    #[arg(long = "model", conflicts_with = "all_models")]
    pub(crate) models: Option<Vec<ModelName>>,
    /// It may use all models
    #[arg(long)]
    pub(crate) all_models: bool,
    /// It may ask these models (the default)
    #[arg(long, conflicts_with = "no_inference")]
    pub(crate) inference: bool,
    /// It may not ask models
    #[arg(long)]
    pub(crate) no_inference: bool,
    /// It may fetch the files of these models
    #[arg(long, conflicts_with = "no_pull")]
    pub(crate) can_pull: bool,
    /// It may not fetch files (the default)
    #[arg(long)]
    pub(crate) no_pull: bool,
    /// Requests at once [default: 1]
    #[arg(long)]
    pub(crate) max_concurrent: Option<u32>,
    /// Requests in a minute, or none for no bound [default: none]
    #[arg(long, value_parser = crate::peers::parse_bound)]
    pub(crate) requests_per_minute: Option<crate::peers::Bound>,
    /// Requests in a day of UTC, or none
    #[arg(long, value_parser = crate::peers::parse_bound)]
    pub(crate) requests_per_day: Option<crate::peers::Bound>,
    /// Tokens, of questions and answers, in a minute, or none
    #[arg(long, value_parser = crate::peers::parse_bound)]
    pub(crate) tokens_per_minute: Option<crate::peers::Bound>,
    /// Tokens, of questions and answers, in a day of UTC, or none
    #[arg(long, value_parser = crate::peers::parse_bound)]
    pub(crate) tokens_per_day: Option<crate::peers::Bound>,
}

#[derive(Args)]
pub(crate) struct Start {
    /// What the node does: compute, gateway, validator [default: compute,gateway]
    #[arg(long, value_delimiter = ',')]
    role: Option<Vec<Role>>,
    /// A model to serve; may be given again [default: all that were added, else arknet/tiny]
    #[arg(long)]
    model: Option<Vec<ModelName>>,
    /// A multiaddr of a peer to connect to first; may be given again [default: seeds.json]
    #[arg(long)]
    seed: Option<Vec<String>>,
    /// A multiaddr to listen on for peers; may be given again [default: port 26656, TCP and QUIC]
    #[arg(long)]
    listen: Option<Vec<String>>,
    /// Address and port of the API for apps [default: 127.0.0.1:4000]
    #[arg(long)]
    gateway: Option<SocketAddr>,
    /// Address and port of the node API [default: 127.0.0.1:8910]
    #[arg(long)]
    admin: Option<SocketAddr>,
}

impl Start {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            roles: self.role.clone().map(|roles| roles.into_iter().collect()),
            listen: self.listen.clone(),
            seeds: self.seed.clone(),
            gateway: self.gateway,
            admin: self.admin,
            models: self.model.clone(),
        }
    }
}

#[derive(Subcommand)]
pub(crate) enum UpstreamCommand {
    /// List the upstreams of the configuration
    List,
    /// Forget the key of an upstream
    RemoveKey {
        /// What the configuration calls it
        name: String,
    },
    /// Keep the key of an upstream, read from standard input
    SetKey {
        /// What the configuration calls it
        name: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum WalletCommand {
    /// Print the address of the wallet
    Address,
    /// Make a wallet; one that is there is never overwritten
    Create,
    #[command(flatten)]
    Account(crate::ledger::Account),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
