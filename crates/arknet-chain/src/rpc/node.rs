use std::collections::BTreeMap;

use arknet_types::{Address, Atoms, NetworkId};
use serde::{Deserialize, Serialize};

use crate::{Hash, Param, Params};

/// A node, its chain and how far it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StatusAnswer {
    /// Version of the node's software.
    pub version: String,
    /// The chain.
    pub network: NetworkId,
    /// The name of its genesis.
    pub genesis: Hash,
    /// The last block's height; zero before the first.
    pub height: u64,
    /// The last block's name; the genesis' before the first.
    pub block: Hash,
    /// The last block's time.
    pub time_ms: u64,
    /// The root of the state after it; none before the first.
    pub state_root: Option<Hash>,
    /// The lowest height whose block this node still has; none where it has no block.
    pub blocks_from: Option<u64>,
    /// Whether others are ahead and this node is catching up.
    pub catching_up: bool,
    /// The highest height that a connected peer says it has.
    pub peers_height: u64,
    /// Peers that follow the chain and are connected.
    pub peers: u32,
    /// The account that this node votes for; none where it only follows.
    pub operator: Option<Address>,
    /// Whether it votes on the next block.
    pub votes: bool,
    /// Validators that vote on the next block.
    pub validators: u32,
    /// Transactions that wait.
    pub waiting: u32,
    /// Price of one gas in the next block.
    pub base_fee: Atoms,
    /// Atoms ever made.
    pub minted: Atoms,
    /// Atoms ever burned.
    pub burned: Atoms,
    /// Money that votes decide on.
    pub treasury: Atoms,
    /// All stake that counts.
    pub bonded: Atoms,
    /// Whether the bootstrap period lasts.
    pub bootstrap: bool,
    /// Proposals ever made; the number of the last one.
    pub proposals: u64,
}

/// The parameters, which votes change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ParamsAnswer {
    /// The height after which they stand.
    pub height: u64,
    /// Each by its name.
    pub params: BTreeMap<String, u64>,
}

impl ParamsAnswer {
    /// Those of a state.
    #[must_use]
    pub fn new(height: u64, params: &Params) -> Self {
        let named = Param::ALL.iter().map(|param| (param.name().to_owned(), params.of(*param)));
        Self { height, params: named.collect() }
    }
}
