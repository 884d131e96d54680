//! The section `[ledger]`.

use std::{fmt, net::SocketAddr, num::NonZeroU64, path::PathBuf, str::FromStr};

use arknet_chain::Hash;
use arknet_types::Address;
use serde::{Deserialize, Serialize};

/// The section `[ledger]`. A node that has a genesis follows the chain that begins with it, and votes
/// where its role is `validator`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LedgerSection {
    /// What the chain begins with; `genesis.json` in the data directory, where it is, when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// Address and port of the chain RPC.
    pub rpc: SocketAddr,
    /// Host names that may be used for the RPC beside those of this machine.
    pub allowed_hosts: Vec<String>,
    /// Requests of one address to the RPC in a second (1 to 1000000). All addresses together have
    /// five times as many.
    pub rpc_requests_per_second: u32,
    /// The account this node votes for; that of its own wallet when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<Address>,
    /// Memory for pages of the ledger, in megabytes (1 to 65536).
    pub cache_mb: u64,
    /// Blocks that are kept, the last ones; all when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_blocks: Option<NonZeroU64>,
    /// Time after which blocks that are safe in the log are written to the ledger's file too, in
    /// milliseconds (0 to 600000). More time, less to write, and more to do again after a crash.
    pub checkpoint_ms: u64,
    /// Heights between two snapshots of the state, from which others begin (0 makes none, up to
    /// 1000000000). All nodes should have the same: then a new one fetches from all of them at once.
    pub snapshot_interval: u64,
    /// A block that is known to be the chain's, `HEIGHT:NAME`: for a node that was away for so long
    /// that what it knows proves nothing any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted: Option<TrustedBlock>,
    /// Time between two blocks when there is nothing to put in, in milliseconds (0 to 60000). All
    /// validators should have the same.
    pub block_interval_ms: u64,
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            genesis: None,
            rpc: SocketAddr::from(([127, 0, 0, 1], 26657)),
            allowed_hosts: vec![],
            rpc_requests_per_second: 2_000,
            operator: None,
            cache_mb: 64,
            keep_blocks: None,
            checkpoint_ms: 5_000,
            snapshot_interval: 10_000,
            trusted: None,
            block_interval_ms: 1_000,
        }
    }
}

impl LedgerSection {
    /// Numbers and their bounds.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 5] {
        let requests = self.rpc_requests_per_second.into();
        [
            ("ledger.rpc_requests_per_second", requests, 1, 1_000_000),
            ("ledger.cache_mb", self.cache_mb, 1, 65_536),
            ("ledger.checkpoint_ms", self.checkpoint_ms, 0, 600_000),
            ("ledger.snapshot_interval", self.snapshot_interval, 0, 1_000_000_000),
            ("ledger.block_interval_ms", self.block_interval_ms, 0, 60_000),
        ]
    }
}

/// The height and name of a block, written `HEIGHT:NAME`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TrustedBlock {
    /// Its height.
    pub height: u64,
    /// Its name.
    pub name: Hash,
}

/// Not the height and name of a block.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is not HEIGHT:NAME, a number above 0 and 64 hex digits, as arknet chain block shows them at \
     somebody you trust"
)]
pub struct NotABlock(String);

impl FromStr for TrustedBlock {
    type Err = NotABlock;

    fn from_str(text: &str) -> Result<Self, NotABlock> {
        let parse = || {
            let (height, name) = text.split_once(':')?;
            let (height, name) = (height.parse().ok()?, name.parse().ok()?);
            (height > 0).then_some(Self { height, name })
        };
        parse().ok_or_else(|| NotABlock(text.to_owned()))
    }
}

impl TryFrom<String> for TrustedBlock {
    type Error = NotABlock;

    fn try_from(text: String) -> Result<Self, NotABlock> {
        text.parse()
    }
}

impl From<TrustedBlock> for String {
    fn from(block: TrustedBlock) -> Self {
        block.to_string()
    }
}

impl fmt::Display for TrustedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.height, self.name)
    }
}
