//! The ledger from outside: ask a node's chain RPC and believe nothing that is not proved.
//!
//! ```no_run
//! use arknet_sdk::{Atoms, wallet::Wallet};
//! use arknet_sdk::chain::{Action, Chain, ChainOptions, Fees, Genesis, PATIENCE};
//!
//! # async fn example(document: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let wallet = Wallet::load()?;
//! let genesis = Some(Genesis::parse(document)?);
//! let mut chain = Chain::open(ChainOptions { genesis, ..Default::default() }).await?;
//! let to = "0xfef6dfa48b073924c436539010d7812fbe50096a".parse()?;
//! let pay = Action::Transfer { to, amount: Atoms(1_500_000_000) };
//! let prepared = chain.prepare(&wallet, pay, Fees::default()).await?;
//! let id = chain.submit(&prepared.transaction).await?;
//! let settled = chain.wait(id, PATIENCE).await?;
//! println!("in block {}, for {}", settled.height, settled.outcome.fee);
//! # Ok(())
//! # }
//! ```
//!
//! [`Chain`] reads balances, channels and everything else through [`LightChain`], which follows the
//! validators from the genesis by what they sign. [`ChainRpc`] alone is what the RPC says.

mod error;
mod light;
pub mod limits;
mod rpc;
mod send;
mod trusted;

use std::time::Duration;

/// Everything else of the ledger: its rules, its records and the shapes of the RPC.
pub use arknet_chain as ledger;
pub use arknet_chain::{Action, Genesis, Key};
pub use error::ChainError;
pub use light::{At, LightChain};
pub use rpc::ChainRpc;
pub use send::{Chain, ChainOptions, Fees, Prepared, Settled};

/// How long a transaction is usually waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);
